"""A scenario: who drives what, where and when, and which faults develop. A library of ready ones lies in `simulator/scenarios`.

What the seed draws (the car, the driver, the road, the weather, when a fault begins) depends on the seed and the vehicle's number alone.
"""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simulator.cast import START_NS, Cast, Fixed
from simulator.courses import NEVER_S, Course
from simulator.dice import Dice
from simulator.errors import ScenarioError
from simulator.fault_kinds import FaultKind, fault_kind
from simulator.scenario_file import WHEELS, FaultTable, Number, ScenarioTable, Times, draw_names, read_scenario, seconds
from simulator.state import Array

__all__ = ["LIBRARY", "SCENARIOS", "Scenario", "Window", "scenario"]

LIBRARY = Path(__file__).resolve().parent / "scenarios"
SCENARIOS = tuple(sorted(path.stem for path in LIBRARY.glob("*.toml")))
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class Window:
    """One fault of a sensor, the network or an attack in one vehicle. Times are seconds since the scenario's start."""

    kind: FaultKind
    from_s: float
    for_s: float
    signal: str | None
    message: str | None
    parameters: Mapping[str, float]
    number: int  # in the file: what its noise is drawn by


@dataclass(frozen=True)
class Scenario:
    """What happens. name: of the library, or of the file."""

    name: str
    table: ScenarioTable

    @property
    def words(self) -> str:
        return self.table.words

    @property
    def vehicles(self) -> int:
        """How many there are; their numbers are 0 and up."""
        count = self.table.vehicles.get("count", 1)
        assert not isinstance(count, list)
        return int(count)

    @property
    def duration_s(self) -> int:
        """Of a drive when nobody says how long."""
        return max(1, round(seconds(self.table.duration)))

    @property
    def start_ns(self) -> int:
        """UTC of the first instant."""
        start = self.table.start
        if start is None:
            return START_NS
        moment = start if start.tzinfo is not None else start.replace(tzinfo=datetime.UTC)
        return round((moment - EPOCH) / datetime.timedelta(microseconds=1)) * 1000

    def cast(self, seed: int, vehicles: Sequence[int] = (0,), start_ns: int | None = None) -> Cast:
        """These vehicles. start_ns: instead of the scenario's own. Raises ScenarioError."""
        table = self.table
        fixed: dict[str, Fixed] = {}
        for values in (table.vehicles, table.drivers, {name: getattr(table.weather, name, None) for name in draw_names("weather")}):
            fixed |= {name: _fixed(value) for name, value in values.items() if value is not None and name != "count"}
        when = self.start_ns if start_ns is None else start_ns
        return Cast(seed, tuple(vehicles), when, table.plan, table.weather.place, table.weather.season, fixed)

    def courses(self, seed: int, vehicles: Sequence[int] = (0,)) -> tuple[Course, ...]:
        """The physical faults, each with its times and place in every vehicle."""
        dice, numbers = Dice(seed, vehicles), np.asarray(vehicles)
        return tuple(
            _course(fault_kind(fault.code), fault, f"fault {number}", dice, numbers)
            for number, fault in enumerate(self.table.faults)
            if fault_kind(fault.code).group == "physical"
        )

    def windows(self, seed: int, vehicle: int = 0) -> tuple[Window, ...]:
        """What goes wrong in this vehicle's sensors and network."""
        dice, numbers, found = Dice(seed, (vehicle,)), np.array([vehicle]), []
        for number, fault in enumerate(self.table.faults):
            kind, name = fault_kind(fault.code), f"fault {number}"
            if kind.group == "physical" or not _has(fault, name, dice, numbers)[0]:
                continue
            assert fault.for_ is not None
            begin, length = (
                float(_drawn(times, f"{name} {what}", dice)[0]) for times, what in ((fault.onset, "onset"), (fault.for_, "for"))
            )
            found.append(Window(kind, begin, length, fault.signal, fault.message, dict(fault.parameters), number))
        return tuple(found)


def scenario(name: str | Path) -> Scenario:
    """The scenario of this name, or of the TOML file at this path. Raises ScenarioError."""
    text = str(name)
    if text in SCENARIOS:
        return Scenario(text, read_scenario(LIBRARY / f"{text}.toml"))
    path = Path(text)
    if path.suffix == ".toml" or "/" in text:
        return Scenario(path.stem, read_scenario(path))
    close = difflib.get_close_matches(text, SCENARIOS, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise ScenarioError(f"no scenario {text!r}; {hint}there are: {', '.join(SCENARIOS)}; a file's name ends in .toml")


def _fixed(value: Number) -> Fixed:
    return (value[0], value[1]) if isinstance(value, list) else value


def _drawn(times: Times, purpose: str, dice: Dice) -> Array:
    """(n,) s."""
    low, high = (times[0], times[1]) if isinstance(times, list) else (times, times)
    return dice.uniform(purpose, seconds(low), seconds(high))


def _has(fault: FaultTable, name: str, dice: Dice, numbers: Array) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    if fault.vehicles is not None:
        return np.isin(numbers, fault.vehicles)
    drawn: np.ndarray[tuple[int], np.dtype[np.bool_]] = dice.uniform(f"{name} share") < fault.share
    return drawn


def _course(kind: FaultKind, fault: FaultTable, name: str, dice: Dice, numbers: Array) -> Course:
    has = _has(fault, name, dice, numbers)
    onset = np.where(has, _drawn(fault.onset, f"{name} onset", dice), NEVER_S)
    development = kind.development_s if fault.development is None else _drawn(fault.development, f"{name} development", dice)
    developed = onset + development
    if fault.failure == "never":
        failed = np.full(len(onset), NEVER_S)
    else:
        failed = developed + (kind.failure_s if fault.failure is None else _drawn(fault.failure, f"{name} failure", dice))
    repaired = np.full(len(onset), NEVER_S)
    if fault.repair is not None:
        since = np.where(np.isfinite(failed), failed, developed)
        repaired = since + _drawn(fault.repair, f"{name} repair", dice)
    if fault.place is None:
        place = np.floor(dice.uniform(f"{name} place", 0, kind.places)).astype(np.intp)
    else:
        place = np.full(len(onset), WHEELS.index(fault.place) if isinstance(fault.place, str) else fault.place, np.intp)
    return Course(kind, onset, developed, failed, repaired, place)
