"""A scenario that runs: the cars with their faults developing, and what the faults of sensors and network do to their frames and ticks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbc.frames import FrameBlock
from dbc.plan import CompiledDbc
from dbc.schema import Schema
from simulator.cars import PHYSICAL_FAULTS, Cars
from simulator.courses import Course
from simulator.individual import Individuals
from simulator.injection import OF_ONE_SIGNAL, Add, Injection, InjectionPlan
from simulator.scenario import Scenario, Window
from simulator.state import Array, State
from simulator.target import Target, message_target, signal_target

__all__ = ["Disturbances", "Play", "TickDisturbances"]


class Play:
    """The cars of a scenario. Before each step their severities are set to those of its end. Stands wherever `Cars` stands."""

    def __init__(
        self, what: Scenario, seed: int, vehicles: Sequence[int] = (0,), start_ns: int | None = None, later_s: Sequence[float] = ()
    ) -> None:
        """later_s: where each begins later in the scenario (`simulator.cast.Cast`); a vehicle may then be there more than once."""
        self.what, self.seed, self.vehicles = what, seed, tuple(vehicles)
        self.courses = what.courses(seed, vehicles)
        self.cars = Cars(replace(what.cast(seed, vehicles, start_ns), later_s=tuple(later_s)), _places(self.courses))
        self._several = {course.kind.code for course in self.courses}

    @property
    def state(self) -> State:
        return self.cars.state

    @property
    def who(self) -> Individuals:
        return self.cars.who

    def step(self, dt_s: float = 1.0) -> None:
        """Move all vehicles by dt_s, as `Cars.step`."""
        self.set_severities(self.state["time_s"] + dt_s)
        self.cars.step(dt_s)

    def advance(self) -> NDArray[np.float64]:
        """Move each vehicle by its own step, as `Cars.advance`."""
        self.set_severities(self.state["time_s"] + 1.0)
        return self.cars.advance()

    def own_step(self) -> int:
        """How far the one vehicle of a play can go in a step, s: 1 while it is used, more while it charges or sleeps."""
        self.cars.journeys.decide()
        return int(self.cars.journeys.own_steps()[0])

    def set_severities(self, time_s: float | Array) -> None:
        """Of this instant, for whoever moves the cars himself."""
        for code in self._several:
            severities = [course.severity(time_s) for course in self.courses if course.kind.code == code]
            np.copyto(self.cars.severity[code], np.max(severities, axis=0))


def _places(courses: Sequence[Course]) -> dict[str, Array]:
    """Of each fault that has one; where a vehicle has the same fault twice, it is at the place of the first."""
    places: dict[str, Array] = {}
    for course in reversed(courses):
        if course.kind.places > 1:
            before = places.get(course.kind.code)
            here = course.place.astype(np.float64)
            places[course.kind.code] = here if before is None else np.where(np.isfinite(course.onset_s), here, before)
    assert all(course.kind.code in PHYSICAL_FAULTS for course in courses)
    return places


class Disturbances:
    """What a vehicle's broken sensors, its network and attackers do to its frames: the same code that forges recorded logs."""

    def __init__(self, what: Scenario, seed: int, vehicle: int, start_ns: int, compiled: CompiledDbc, add: Add | None = None) -> None:
        """add: takes the rows of the truth. Raises SignalUnknown, ScenarioError."""
        self.injections = [
            Injection(_injection_plan(window, seed, vehicle, start_ns, compiled), None, add) for window in what.windows(seed, vehicle)
        ]

    def __bool__(self) -> bool:
        return bool(self.injections)

    def feed(self, block: FrameBlock) -> FrameBlock:
        """The frames as they are then on the bus."""
        for injection in self.injections:
            block = injection.feed(block)
        return block

    def truths(self) -> list[dict[str, Any]]:
        """One for each, as of now."""
        return [injection.truth() for injection in self.injections]


def _injection_plan(window: Window, seed: int, vehicle: int, start_ns: int, compiled: CompiledDbc) -> InjectionPlan:
    target = signal_target(compiled, window.signal) if window.signal is not None else message_target(compiled, window.message or "")
    from_ns = start_ns + round(window.from_s * 1e9)
    own_seed = int(np.random.SeedSequence((seed, vehicle, window.number)).generate_state(1)[0])
    return InjectionPlan(window.kind, (target,), from_ns, from_ns + round(window.for_s * 1e9), own_seed, window.parameters)


class TickDisturbances:
    """The same for ticks of many vehicles. A signal that is not sent is NaN; what only shows in single frames (counters, checksums, a
    babbling unit) does not show here."""

    def __init__(self, what: Scenario, seed: int, vehicles: Sequence[int], compiled: CompiledDbc) -> None:
        self._schema: Schema = compiled.schema
        self._values: list[tuple[int, int, Injection]] = []  # column of the vehicle, signal
        self._silent: list[tuple[int, NDArray[np.intp], Window]] = []
        for column, vehicle in enumerate(vehicles):
            for window in what.windows(seed, vehicle):
                plan = _injection_plan(window, seed, vehicle, 0, compiled)
                target = plan.targets[0]
                if window.kind.code in OF_ONE_SIGNAL or (window.kind.code == "attack_flooding" and target.signal):
                    self._values.append((column, target.signal[0].number, Injection(plan)))
                elif window.kind.code in ("control_unit_silent", "attack_suppression"):
                    self._silent.append((column, _signals_of(self._schema, target), window))

    def apply(self, values: NDArray[Any], time_s: NDArray[np.float64]) -> None:
        """Change (k, signals, n) ticks in place, which follow those of the last call. time_s: (k, n) the model's time at each of them."""
        for column, signal, injection in self._values:
            elapsed = time_s[:, column] - injection.plan.from_ns / 1e9
            values[:, signal, column] = injection.apply(elapsed, values[:, signal, column].astype(np.float64))
        for column, signals, window in self._silent:
            inside = (time_s[:, column] >= window.from_s) & (time_s[:, column] < window.from_s + window.for_s)
            values[np.ix_(np.flatnonzero(inside), signals, np.array([column]))] = np.nan

    def within(self, begin_s: Array, end_s: Array) -> None:
        """Leave out what cannot happen: each vehicle (n,) is only looked at between these times."""

        def may(column: int, from_s: float, for_s: float) -> bool:
            return bool(from_s < end_s[column] and from_s + for_s > begin_s[column])

        self._values = [one for one in self._values if may(one[0], one[2].plan.from_ns / 1e9, one[2].plan.for_s)]
        self._silent = [one for one in self._silent if may(one[0], one[2].from_s, one[2].for_s)]

    def apply_to(self, values: NDArray[Any], column: NDArray[np.intp], time_s: NDArray[np.float64]) -> None:
        """Change (signals, k) ticks of some vehicles at some times (k,) in place; each vehicle's come in order."""
        for mine, signal, injection in self._values:
            at = np.flatnonzero(column == mine)
            if len(at):
                elapsed = time_s[at] - injection.plan.from_ns / 1e9
                values[signal, at] = injection.apply(elapsed, values[signal, at].astype(np.float64))
        for mine, signals, window in self._silent:
            inside = (column == mine) & (time_s >= window.from_s) & (time_s < window.from_s + window.for_s)
            values[np.ix_(signals, np.flatnonzero(inside))] = np.nan


def _signals_of(schema: Schema, target: Target) -> NDArray[np.intp]:
    return np.array(sorted({field.number for field in target.fields}), np.intp)
