"""What each vehicle of a scenario mix sends: ticks of its own simulated car; and when its scenario leaves it without network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dbc.plan import CompiledDbc
from dbc.schema import Schema
from simulator.fleet.errors import FleetError
from simulator.fleet.sources import Physical, RandomWalk, Raw
from simulator.play import Play, TickDisturbances
from simulator.scenario import Scenario
from simulator.scenario_file import seconds
from simulator.ticks import Ticks

__all__ = ["Drives", "Walks", "assign", "holes"]

HOLE_S = 20.0  # mean length of a place without coverage: a tunnel, a car park, the shadow of a hill


@dataclass(frozen=True)
class Walks:
    """Makes a random walk for some of a fleet's vehicles, in this process or another."""

    schema: Schema
    columns: NDArray[np.intp]
    seed: int

    def __call__(self, numbers: Sequence[int]) -> RandomWalk:
        return RandomWalk(self.schema, self.columns, numbers, self.seed)


@dataclass(frozen=True)
class Drives:
    """The same for simulated cars: a vehicle is the car of its number in its scenario. plays: (n,) of the whole fleet, which scenario."""

    scenarios: tuple[Scenario, ...]
    plays: NDArray[np.intp]
    columns: NDArray[np.intp]
    compiled: CompiledDbc
    seed: int

    def __call__(self, numbers: Sequence[int]) -> Driven:
        chosen = np.array(numbers)
        groups = [np.flatnonzero(self.plays[chosen] == place) for place in range(len(self.scenarios))]
        return Driven(
            [
                (group, _ticks(what, self.seed, chosen[group].tolist(), self.compiled), self.compiled.schema)
                for what, group in zip(self.scenarios, groups, strict=True)
                if len(group)
            ],
            self.columns,
            len(chosen),
        )


class Driven:
    """Vehicles of several scenarios side by side: each group by `Physical`, a tick a second, with noise and sensor faults as the bus has
    them. A car whose buses sleep repeats what it sent last."""

    def __init__(
        self, groups: list[tuple[NDArray[np.intp], Callable[[int], NDArray[np.floating]], Schema]], columns: NDArray[np.intp], n: int
    ) -> None:
        """groups: places among the n vehicles, and what gives (k, signals, vehicles of the group)."""
        self._parts = [(places, Physical(values, schema, columns)) for places, values, schema in groups]
        self._shape = (n, len(columns))

    def next(self) -> Raw:
        raw = np.empty(self._shape, np.int64)
        for places, source in self._parts:
            raw[places] = source.next()
        return raw


def _ticks(what: Scenario, seed: int, numbers: list[int], compiled: CompiledDbc) -> Callable[[int], NDArray[np.floating]]:
    play = Play(what, seed, numbers)
    ticks = Ticks(play, compiled.schema, what.start_ns, (seed, numbers[0]), np.float32)
    faults = TickDisturbances(what, seed, numbers, compiled)

    def following(k: int) -> NDArray[np.floating]:
        parts = []
        for _ in range(k):
            values = ticks.next()
            faults.apply(values, play.state["time_s"][None].copy())
            parts.append(values)
        return np.concatenate(parts)

    return following


def assign(shares: Sequence[tuple[str, float]], vehicles: int, seed: int) -> list[str]:
    """A scenario for each vehicle: as many of each as its share says (largest remainder), in an order that the seed draws."""
    total = sum(share for _, share in shares)
    if total <= 0:
        raise FleetError("scenario mix: expected shares above 0")
    exact = np.array([share / total * vehicles for _, share in shares])
    counts = np.floor(exact).astype(int)
    for place in np.argsort(counts - exact, kind="stable")[: vehicles - counts.sum()]:
        counts[place] += 1
    names = [name for (name, _), count in zip(shares, counts.tolist(), strict=True) for _ in range(count)]
    return [names[place] for place in np.random.default_rng([seed, len(names)]).permutation(len(names))]


def holes(what: Scenario, seed: int, number: int, duration_s: float) -> list[tuple[float, float]]:
    """When a vehicle has no network, (begin, end) s since the fleet's first tick, in order: its scenario's outages, and of the rest the
    share that `coverage` leaves out, in holes of an exponential length with exponential times between them (an alternating renewal
    process, begun in its stationary state)."""
    connectivity = what.table.connectivity
    found = [(seconds(begin), seconds(begin) + seconds(length)) for begin, length in connectivity.outages]
    out = 1.0 - connectivity.coverage
    if out >= 1:
        found = [(0.0, duration_s)]
    elif out > 0:
        rng = np.random.default_rng([seed, number, 4])
        covered_s = HOLE_S * (1 - out) / out
        now_s, inside = 0.0, bool(rng.random() < out)
        while now_s < duration_s:
            length_s = float(rng.exponential(HOLE_S if inside else covered_s))
            if inside:
                found.append((now_s, now_s + length_s))
            now_s, inside = now_s + length_s, not inside
    return [(begin, min(end, duration_s)) for begin, end in sorted(found) if begin < duration_s]
