"""Which parts of many cars' lives are simulated to see how good detectors are: first drives, to learn each car, then weeks that count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from simulator.errors import ScenarioError
from simulator.journeys import DAY_S
from simulator.months import Lane, Months, Stretch
from simulator.scenario import Scenario

__all__ = ["FIRST_DRIVES", "Fault", "Life", "first_drives", "lives", "stretches"]

LEARNING_DAYS = 27  # first drives are of these; what counts begins after them
FIRST_DRIVES = 36  # looked for: on some days nobody drives
FIRST_S = 1500.0  # of a first drive, at most
WEEK_S = 7 * DAY_S
BEGINS_S = 4 * WEEK_S
LEFT = 0.06  # of the lanes, those of cars that drive all day, which would take half of the time: then the rest is left out


@dataclass(frozen=True, slots=True)
class Fault:
    """Of a car, in seconds since the scenario's start."""

    code: str
    onset_s: float
    failed_s: float
    repaired_s: float


@dataclass(frozen=True, slots=True)
class Life:
    """A car: its number in the scenario, its fault (None: healthy), and the weeks of its life that count."""

    vehicle: int
    fault: Fault | None
    lanes: tuple[Lane, ...]


def lives(what: Scenario, seed: int, vehicles: Sequence[int], weeks: int) -> list[Life]:
    """Of these vehicles. A healthy one has so many weeks at most, evenly over the scenario's duration; a faulty one all from its onset to
    its repair, or to a week after the failure.

    Raises ScenarioError where a fault begins before the car has been learnt, or it has two.
    """
    found: dict[int, Fault] = {}
    for course in what.courses(seed, vehicles):
        for place in np.flatnonzero(np.isfinite(course.onset_s)).tolist():
            if vehicles[place] in found or course.onset_s[place] < BEGINS_S:
                raise ScenarioError(f"{what.name}: vehicle {vehicles[place]}: expected one fault, from day {BEGINS_S / DAY_S:g} on")
            times = (float(times[place]) for times in (course.onset_s, course.failed_s, course.repaired_s))
            found[vehicles[place]] = Fault(course.kind.code, *times)
    weeks = min(weeks, int((what.duration_s - BEGINS_S) // WEEK_S))
    begins = np.floor(np.linspace(BEGINS_S, what.duration_s - WEEK_S, weeks) / DAY_S) * DAY_S
    result = []
    for vehicle in vehicles:
        fault = found.get(vehicle)
        lanes = [Lane(vehicle, float(begin), float(begin) + WEEK_S) for begin in begins]
        if fault is not None:
            end = min(fault.repaired_s, fault.failed_s + WEEK_S, float(what.duration_s))
            edges = [*np.arange(fault.onset_s, end, WEEK_S).tolist(), end]
            lanes = [Lane(vehicle, begin, until) for begin, until in pairwise(edges)]
        result.append(Life(vehicle, fault, tuple(lanes)))
    return result


def first_drives(vehicles: Sequence[int]) -> list[Lane]:
    """Lanes for each car's first drives, each to be ended after one of FIRST_S (`stretches`), mornings and afternoons in turn."""
    begins = [np.floor(at) * DAY_S + (at % 1 >= 0.5) * DAY_S / 2 for at in np.linspace(0, LEARNING_DAYS - 2, FIRST_DRIVES)]
    return [Lane(vehicle, float(begin), float(begin) + 1.5 * DAY_S) for vehicle in vehicles for begin in begins]


def stretches(months: Months, first: bool = False) -> Iterator[Stretch]:
    """Of these lanes, until few are LEFT. first: each ends with its first drive, or after FIRST_S of it."""
    drives = np.zeros(len(months.lanes), np.int64)
    before = np.zeros(len(months.lanes), np.bool_)
    for rows in months.stretches(max(1, int(LEFT * len(months.lanes)))):
        yield rows
        if first:
            ready: Any = np.concatenate([before[rows.lane][None], rows.ready])
            drives[rows.lane] += (ready[:-1] & ~ready[1:]).sum(axis=0)
            before[rows.lane] = ready[-1]
            months.drop(np.flatnonzero((months.driving_s > FIRST_S) | (drives > 0)))
