"""A drive, second by second: the model moves, the frames come out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from dbc.compiler import compile_dbc
from dbc.frames import FrameBlock
from dbc.plan import CompiledDbc
from dbc.vehicles import DBC_FILES
from simulator.cars import Cars
from simulator.cast import START_NS
from simulator.errors import ScenarioError
from simulator.frames import FrameMaker
from simulator.play import Disturbances, Play
from simulator.scenario import Scenario, scenario
from simulator.sheet import Context
from simulator.signals import Signals
from simulator.state import Array
from simulator.ticks import BUS_COLUMNS

__all__ = ["START_NS", "CarFrames", "Trip", "drive"]

LONGEST_S = 366 * 86_400


class CarFrames:
    """The frames of one car of a model, second by second.

    cars: a model of one vehicle; `second` moves it. before_step: called before each step with the model's time in seconds, to set
    severities. after_frames: what the network does to a second's frames. noise: gain of the sensors' noise; 0: none.
    """

    def __init__(
        self,
        cars: Cars,
        compiled: CompiledDbc,
        start_ns: int,
        before_step: Callable[[float], None] | None = None,
        after_frames: Callable[[FrameBlock], FrameBlock] | None = None,
        noise: float = 1.0,
    ) -> None:
        if cars.state.vehicles != 1:
            raise ValueError(f"frames are of one vehicle, found {cars.state.vehicles}")
        self.cars, self.start_ns = cars, start_ns
        self.compiled, self.schema = compiled, compiled.schema
        self.names, self.channels = compiled.schema.names, compiled.schema.channels
        self.seconds = 0
        self._before_step, self._after_frames = before_step, after_frames
        self._signals = Signals(compiled.schema, Context(cars.state, cars.who, start_ns))
        self._frames = FrameMaker(compiled, self._signals.traits, (cars.cast.seed, cars.cast.vehicles[0]), noise)
        self._buses = BUS_COLUMNS[: len(compiled.schema.channels)]
        self._ends = [self._signals.start(), self._signals.start()]
        self._signals.write(self._ends[0])

    @property
    def values(self) -> Array:
        """(signals,) at the end of the last second: physical, without noise, in the schema's order; overwritten two seconds later."""
        values: Array = self._ends[self.seconds % 2][:, 0]
        return values

    @property
    def asleep(self) -> bool:
        """Parked, with all buses asleep."""
        state = self.cars.state
        return bool(state["mode"][0] == 0) and not any(state[bus][0] > 0 for bus in self._buses) and self.seconds > 0

    @property
    def nothing(self) -> FrameBlock:
        """What a bus that sleeps says."""
        none = np.zeros(0, np.uint8)
        return FrameBlock(
            self.channels, none.astype(np.int64), none.astype(np.uint32), none, none, np.zeros((0, 8), np.uint8), time.time_ns()
        )

    def skip(self, seconds: int) -> None:
        """Move on by one step without frames; more than a second only while the car does not drive."""
        if self._before_step is not None:
            self._before_step(float(self.cars.state["time_s"][0]) + seconds - 1)
        self.cars.step(float(seconds))
        self.seconds += seconds
        self._signals.write(self._ends[self.seconds % 2])

    def second(self) -> FrameBlock:
        """The frames of the next second."""
        before, after = self._ends[self.seconds % 2], self._ends[(self.seconds + 1) % 2]
        if self._before_step is not None:
            self._before_step(float(self.cars.state["time_s"][0]))
        self.cars.step(1.0)
        self._signals.write(after)
        awake = np.array([self.cars.state[bus][0] > 0 for bus in self._buses])
        block = self._frames.block(
            self.seconds, before[:, 0], after[:, 0], awake, self.start_ns + self.seconds * 10**9, entered_ns=time.time_ns()
        )
        self.seconds += 1
        return block if self._after_frames is None else self._after_frames(block)


class Trip(CarFrames):
    """One car's drive by scenario, with its faults. `second` computes the next second; the same seed gives the same frames."""

    def __init__(
        self, what: Scenario, seed: int, start_ns: int | None = None, compiled: CompiledDbc | None = None, vehicle: int = 0
    ) -> None:
        """start_ns: instead of the scenario's own. vehicle: its number in the scenario. Raises ScenarioError."""
        compiled = compiled or compile_dbc(DBC_FILES)
        self.play = Play(what, seed, (vehicle,), start_ns)
        start_ns = self.play.cars.cast.start_ns
        self.disturbances = Disturbances(what, seed, vehicle, start_ns, compiled)
        after = self.disturbances.feed if self.disturbances else None
        super().__init__(self.play.cars, compiled, start_ns, lambda time_s: self.play.set_severities(time_s + 1.0), after)

    def blocks(self, duration_s: int, look: Callable[[FrameBlock], None] | None = None) -> Iterator[FrameBlock]:
        """The frames of `duration_s` seconds; a sleeping car's nights are passed over. look: called with each second's frames."""
        end = self.seconds + duration_s
        while self.seconds < end:
            if self.asleep:
                self.skip(self._step(end))
                block = self.nothing
            else:
                block = self.second()
            if look is not None:
                look(block)
            yield block

    def pass_over(self, duration_s: int, look: Callable[[FrameBlock], None] | None = None) -> None:
        """Let the car live on for `duration_s` without making frames, many times faster. Before the first frame, or instead of all."""
        end, nothing = self.seconds + duration_s, self.nothing
        while self.seconds < end:
            self.skip(self._step(end))
            if look is not None:
                look(nothing)

    def _step(self, end: int) -> int:
        """How far the car may go in one step, and not beyond `end`."""
        return max(1, min(end - self.seconds, self.play.own_step()))


def drive(
    what: Scenario | str = "healthy",
    seed: int = 1,
    duration_s: int = 300,
    start_ns: int | None = None,
    compiled: CompiledDbc | None = None,
) -> Iterator[FrameBlock]:
    """A drive of `duration_s` simulated seconds, as a block of frames for each; channels can0 (drive bus), can1 (body bus) and can2
    (energy bus, CAN FD).

    start_ns: UTC of the first instant, instead of the scenario's own. compiled: the vehicle's DBC files where the caller has compiled
    them already.
    The same scenario, seed and start give the same frames. Raises ScenarioError.
    """
    if not 0 < duration_s <= LONGEST_S:
        raise ScenarioError(f"duration: expected 1 s to 366 days, found {duration_s} s")
    trip = Trip(scenario(what) if isinstance(what, str) else what, seed, start_ns, compiled)
    return trip.blocks(int(duration_s))
