"""Months of many cars, second by second, of some signals alone: to be judged while they are simulated, and kept nowhere.

Each lane is a stretch of one car's calendar (`simulator.cast.Cast.later_s`); all run beside each other, and those that have come to their
end are left out, so that what a tick costs is arithmetic. While a car charges or sleeps it moves in longer steps and has no ticks; how long
it charged is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dbc.compiler import compile_dbc
from dbc.schema import Schema
from dbc.vehicles import DBC_FILES
from simulator.errors import DatasetError, ScenarioError
from simulator.journeys import Phase
from simulator.lanes import narrowed
from simulator.play import Play
from simulator.scenario import Scenario
from simulator.sheet import Context
from simulator.signals import Signals
from simulator.state import Mask
from simulator.ticks import BUS_COLUMNS, NOISE, POOL

__all__ = ["Lane", "Months", "Stretch"]

ROWS, CELLS = 256, 1_200_000  # of a stretch at most: rows, and rows times lanes
EVERY_BUS = (1 << len(BUS_COLUMNS)) - 1
LEFT, FEW = 0.9, 32  # when so many of the lanes are left they go on alone, unless they are few


@dataclass(frozen=True, slots=True)
class Lane:
    """A stretch of a car's life. vehicle: its number in the scenario; from_s, until_s: since the scenario's start."""

    vehicle: int
    from_s: float
    until_s: float


@dataclass(frozen=True)
class Stretch:
    """The next ticks of the lanes that are left; overwritten by the next ones.

    lane: (n,) which lanes. time_s: (t, n) since the scenario's start. tick: (t, n) whether there is a tick: the car is awake and does not
    charge. ready: (t, n) whether the drive may turn the wheels. buses: (t, n) which are awake, a bit for each. follows: (t, n) whether it
    comes a second after the row before. values: (t, k, n) float32, of the chosen signals in their order, physical, in the steps of the
    DBC's integers; anything where there is no tick.
    """

    lane: NDArray[np.intp]
    time_s: NDArray[np.float64]
    tick: Mask
    ready: Mask
    buses: NDArray[np.uint8]
    follows: Mask
    values: NDArray[np.float32]


class _Sensors:
    """The chosen signals of the cars as they are now, with noise, in raw steps. As `simulator.ticks.Ticks`, of a few signals."""

    def __init__(self, play: Play, schema: Schema, columns: NDArray[np.intp], start_ns: int, seed: Sequence[int]) -> None:
        self._columns, self._seed = columns, tuple(seed)
        self._signals = Signals(schema, Context(play.state, play.who, start_ns))
        self._sheet = self._signals.start().astype(np.float32)
        self._signals.only(columns.tolist())
        traits = self._signals.traits
        self._noisy = np.flatnonzero(traits.deviation[columns] > 0)
        self._quiet = np.flatnonzero(traits.quiet[columns][self._noisy])
        scale = schema.scale[columns][:, None]
        self._deviation = (traits.deviation[columns][:, None] / scale).astype(np.float32)[self._noisy]
        self._scale, self._steps = scale.astype(np.float32), (1 / scale).astype(np.float32)
        self._offset = schema.offset[columns][:, None].astype(np.float32)
        self._lowest, self._highest = (bound[columns][:, None].astype(np.float32) for bound in (traits.lowest, traits.highest))
        pool = np.random.default_rng((*seed, NOISE)).standard_normal(POOL, np.float32)
        self._pool = np.lib.stride_tricks.sliding_window_view(pool, play.state.vehicles)

    def now(self, out: NDArray[np.float32], number: int) -> None:
        """(k, n) of this instant, the noise that of this number."""
        self._signals.write(self._sheet)
        np.take(self._sheet, self._columns, axis=0, out=out)
        starts = np.random.default_rng((*self._seed, NOISE, number)).integers(0, len(self._pool), len(self._noisy))
        noise = self._pool[starts]
        noise *= self._deviation
        if len(self._quiet):
            noise[self._quiet] *= out[self._noisy[self._quiet]] > 0
        out -= self._offset
        out *= self._steps
        out[self._noisy] += noise
        np.rint(out, out=out)
        np.maximum(out, self._lowest, out=out)
        np.minimum(out, self._highest, out=out)
        out *= self._scale
        out += self._offset


class Months:
    """Lanes of a scenario whose plan is the calendar.

    charging_s, driving_s: (lanes,) so far. ticks: of all lanes, so far.
    """

    def __init__(self, what: Scenario, seed: int, lanes: Sequence[Lane], signals: Sequence[str], start_ns: int | None = None) -> None:
        """signals: their names. Raises DatasetError for a name that is none, ScenarioError."""
        compiled = compile_dbc(DBC_FILES)
        self.schema = compiled.schema
        row = {name: number for number, name in enumerate(self.schema.names)}
        unknown = [name for name in signals if name not in row]
        if unknown:
            raise DatasetError(f"the simulated car has no signal {unknown[0]!r}")
        self.columns = np.array([row[name] for name in signals], np.intp)
        self.lanes, self.seed = tuple(lanes), seed
        vehicles = [lane.vehicle for lane in lanes]
        self.play = Play(what, seed, vehicles, start_ns, [lane.from_s for lane in lanes])
        self.start_ns = self.play.cars.cast.start_ns
        self.lane = np.arange(len(lanes))
        self.until_s = np.array([lane.until_s for lane in lanes])
        self.charging_s, self.driving_s = np.zeros(len(lanes)), np.zeros(len(lanes))
        self.ticks = 0
        self._number = 0
        self._sensors = self._made()
        if any(what.windows(seed, vehicle) for vehicle in set(vehicles)):
            raise ScenarioError(f"{what.name}: has faults of sensors or the network; months are of faults of the car alone")

    @property
    def left(self) -> float:
        """Share of the lanes' time that is still to come."""
        end, now = self.until_s[self.lane], self.play.state["time_s"]
        begin = np.array([lane.from_s for lane in self.lanes])
        return float(np.maximum(end - now, 0).sum() / np.maximum((self.until_s - begin).sum(), 1e-9))

    def drop(self, lanes: NDArray[np.intp]) -> None:
        """These need not go on: their time ends now."""
        self.until_s[lanes] = -np.inf

    def stretches(self, least: int = 1) -> Iterator[Stretch]:
        """All ticks of all lanes, until fewer than `least` of them are left: a few cars that drive all day would take half of the time."""
        while True:
            alive = self.play.state["time_s"] < self.until_s[self.lane]
            count = int(np.count_nonzero(alive))
            if count < least:
                return
            if count < LEFT * len(alive) and len(alive) > FEW:
                self.play = narrowed(self.play, np.flatnonzero(alive))
                self.lane = self.lane[alive]
                self._sensors = self._made()
            yield self._stretch()

    def _made(self) -> _Sensors:
        return _Sensors(self.play, self.schema, self.columns, self.start_ns, (self.seed, len(self.lane)))

    def _stretch(self) -> Stretch:
        play, n = self.play, len(self.lane)
        rows = max(1, min(ROWS, CELLS // n))
        state, journeys = play.state, play.cars.journeys
        values = np.empty((rows, len(self.columns), n), np.float32)
        time_s = np.empty((rows, n))
        tick, ready, follows = (np.empty((rows, n), np.bool_) for _ in range(3))
        buses = np.empty((rows, n), np.uint8)
        until_s = self.until_s[self.lane]
        charging, driving = np.zeros(n), np.zeros(n)
        for row in range(rows):
            steps = play.advance()
            self._number += 1
            now = state["time_s"]
            live = now <= until_s
            charges = journeys.phase >= Phase.CHARGING_AC
            buses[row] = sum((state[bus] > 0) * (1 << bit) for bit, bus in enumerate(BUS_COLUMNS))
            awake = buses[row] == EVERY_BUS
            charging += steps * (charges & live)
            driving += steps * ((state["key"] > 0) & live)
            time_s[row] = now
            np.logical_and(awake & live, ~charges, out=tick[row])
            np.equal(steps, 1.0, out=follows[row])
            np.greater(state["ready"], 0, out=ready[row])
            self._sensors.now(values[row], self._number)
        self.charging_s[self.lane] += charging
        self.driving_s[self.lane] += driving
        self.ticks += int(np.count_nonzero(tick))
        return Stretch(self.lane, time_s, tick, tick & ready, buses, follows, values)
