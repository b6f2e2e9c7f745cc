"""A scenario as its TOML file lays it out: plain checked values, and errors that name file, key, what was expected and what was found.

words = "one line"                        what happens
plan = "drive"                            drive | calendar | charge_ac | charge_dc | park
start = 2026-01-05T08:00:00Z              of the first instant; without a zone: UTC
duration = "5m"                           of a drive when nobody says how long
[vehicles]     count = 6                  and any draw of the car (simulator.individual.DRAWS): a number or [low, high]
[drivers]      style = 2                  any draw of the driver
[weather]      place = "oslo"             and season = "date" | "any", ambient_c, rain
[connectivity] outages = [["10m", "2m"]]  begin and length; coverage = 0.98
[[faults]]     code = "coolant_leak"      onset, development, failure, repair, share, vehicles, place
[[faults]]     code = "attack_plateau"    signal or message, onset, for, parameters
"""

from __future__ import annotations

import datetime
import difflib
import re
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec

from simulator.cast import PLANS
from simulator.errors import ScenarioError
from simulator.fault_kinds import KINDS
from simulator.individual import DRAWS
from simulator.injection import PARAMETERS
from simulator.weather import PLACES

__all__ = [
    "WHEELS",
    "ConnectivityTable",
    "FaultTable",
    "Number",
    "ScenarioTable",
    "Times",
    "WeatherTable",
    "draw_names",
    "read_scenario",
    "seconds",
]

UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
TIME = re.compile(r"\d{1,9}(\.\d{1,6})?(ms|s|m|h|d|w)")
WHEELS = ("front_left", "front_right", "rear_left", "rear_right")

# Bounds and forms are checked below: in unions, msgspec 0.22's own constraints corrupt memory when their types are freed.
Times = str | list[str]  # a time, or two between which it is drawn
Number = float | list[float]


class WeatherTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where and when; ambient_c and rain fix what would be drawn."""

    place: str = "shanghai"
    season: Literal["date", "any"] = "any"
    ambient_c: Number | None = None
    rain: Number | None = None
    battery_above_ambient_c: Number | None = None


class ConnectivityTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the vehicle has no network: `outages` are (begin, length); besides them it is covered for `coverage` of the time."""

    outages: list[list[str]] = msgspec.field(default_factory=list)
    coverage: float = 1.0


class FaultTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fault. A list of two times is a range that is drawn for each vehicle. Times count from the scenario's start, or the step before.

    share: of the vehicles that have it; vehicles: these and no others. place: a wheel, or the number of a cell.
    """

    code: str
    onset: Times = "0s"
    development: Times | None = None
    failure: Times | None = None
    repair: Times | None = None
    share: float = 1.0
    vehicles: list[int] | None = None
    place: int | str | None = None
    signal: str | None = None
    message: str | None = None
    for_: Times | None = msgspec.field(default=None, name="for")
    parameters: dict[str, float] = msgspec.field(default_factory=dict)


class ScenarioTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    words: str
    plan: str = "drive"
    start: datetime.datetime | None = None
    duration: str = "5m"
    vehicles: dict[str, Number] = msgspec.field(default_factory=dict)
    drivers: dict[str, Number] = msgspec.field(default_factory=dict)
    weather: WeatherTable = msgspec.field(default_factory=WeatherTable)
    connectivity: ConnectivityTable = msgspec.field(default_factory=ConnectivityTable)
    faults: list[FaultTable] = msgspec.field(default_factory=list)


def read_scenario(path: Path) -> ScenarioTable:
    """The file, checked as a whole. Raises ScenarioError: file, key, what was expected, what was found."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{path}: expected TOML, found something else than UTF-8 text at byte {error.start}") from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{path}: is not TOML: {error}") from error
    try:
        table = msgspec.convert(document, ScenarioTable)
    except msgspec.ValidationError as error:
        raise ScenarioError(f"{path}: {_plain(str(error), document)}") from error
    try:
        _check(table)
    except _Wrong as wrong:
        raise ScenarioError(f"{path}: {wrong}") from None
    return table


def seconds(text: str) -> float:
    """`90s`, `1.5h`, `3w` -> seconds."""
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    return float(number) * UNITS[text[len(number) :]]


def draw_names(group: Literal["vehicles", "drivers", "weather"]) -> tuple[str, ...]:
    """Which draws of a vehicle stand in which table."""
    names = list(DRAWS)
    drivers, weather = names.index("style"), names.index("ambient_c")
    return tuple({"vehicles": names[:drivers], "drivers": names[drivers:weather], "weather": names[weather:]}[group])


class _Wrong(Exception):
    """«key: expected ..., found ...»."""


def _check(table: ScenarioTable) -> None:
    if not table.words:
        raise _Wrong("words: expected one line that says what happens, found none")
    _time("duration", table.duration)
    for number, outage in enumerate(table.connectivity.outages):
        if len(outage) != 2:
            raise _Wrong(f"connectivity.outages[{number}]: expected its begin and its length, found {outage}")
        for time in outage:
            _time(f"connectivity.outages[{number}]", time)
    _share("connectivity.coverage", table.connectivity.coverage)
    _one_of("plan", table.plan, tuple(PLANS))
    _one_of("weather.place", table.weather.place, (*PLACES, "any"))
    count = table.vehicles.get("count", 1)
    if isinstance(count, list) or count != int(count) or not 1 <= count <= 1_000_000:
        raise _Wrong(f"vehicles.count: expected a whole number from 1 to 1000000, found {_number(count)}")
    for group, values in (("vehicles", table.vehicles), ("drivers", table.drivers)):
        known = draw_names("vehicles" if group == "vehicles" else "drivers")
        for name, value in values.items():
            if (group, name) == ("vehicles", "count"):
                continue
            if name not in known:
                raise _Wrong(f"{group}.{name}: is no key; {_near(name, known)}")
            _draw(f"{group}.{name}", name, value)
    for name in draw_names("weather"):
        fixed: Number | None = getattr(table.weather, name, None)
        if fixed is not None:
            _draw(f"weather.{name}", name, fixed)
    for number, fault in enumerate(table.faults):
        _check_fault(f"faults[{number}]", fault, int(count))


def _draw(key: str, name: str, value: Number) -> None:
    ends = value if isinstance(value, list) else [value, value]
    low, high, draw = ends[0] if ends else 0.0, ends[-1] if ends else 0.0, DRAWS[name]
    if len(ends) != 2 or not draw.least <= low <= high <= draw.most:
        raise _Wrong(f"{key}: expected a number or [low, high] within {draw.least:g} to {draw.most:g}, found {_number(value)}")


def _check_fault(key: str, fault: FaultTable, count: int) -> None:
    _one_of(f"{key}.code", fault.code, tuple(KINDS))
    kind = KINDS[fault.code]
    physical = kind.group == "physical"
    for name, of_physical in (("development", True), ("failure", True), ("repair", True), ("place", True), ("for", False)):
        value = getattr(fault, "for_" if name == "for" else name)
        if value is not None and of_physical != physical:
            raise _Wrong(f"{key}.{name}: is no key of {fault.code}, a fault of the {kind.group} group")
    for name in ("onset", "development", "failure", "repair", "for_"):
        _times(f"{key}.{name.rstrip('_')}", getattr(fault, name), name == "failure")
    _share(f"{key}.share", fault.share)
    if physical:
        if fault.signal or fault.message or fault.parameters:
            what = "signal" if fault.signal else "message" if fault.message else "parameters"
            raise _Wrong(f"{key}.{what}: is no key of {fault.code}, a fault of the physical group")
        if fault.place is not None:
            _place(f"{key}.place", fault)
    else:
        if (fault.signal is None) == (fault.message is None):
            raise _Wrong(f"{key}.signal: expected a signal or a message, found {'both' if fault.signal else 'neither'}")
        if fault.for_ is None:
            raise _Wrong(f"{key}.for: is missing; expected how long it lasts, like 30s")
        for name in fault.parameters:
            _one_of(f"{key}.parameters", name, tuple(PARAMETERS.get(fault.code, {})))
    for vehicle in fault.vehicles or []:
        if not 0 <= vehicle < count:
            raise _Wrong(f"{key}.vehicles: expected numbers from 0 and below vehicles.count, {count}, found {vehicle}")


def _place(key: str, fault: FaultTable) -> None:
    places = KINDS[fault.code].places
    expected = f"one of {', '.join(WHEELS)}" if places == len(WHEELS) else f"a number from 0 to {places - 1}"
    right = fault.place in WHEELS if isinstance(fault.place, str) else isinstance(fault.place, int) and 0 <= fault.place < places
    if places == 1 or not right or (isinstance(fault.place, str) and places != len(WHEELS)):
        raise _Wrong(f"{key}: expected {'no place' if places == 1 else expected}, found {fault.place!r}")


def _time(key: str, text: str) -> None:
    if not TIME.fullmatch(text):
        raise _Wrong(f"{key}: expected a time like 90s, 30m, 2h, 7d or 3w, found {text!r}")


def _times(key: str, value: Times | None, may_never: bool) -> None:
    if value is None or (may_never and value == "never"):
        return
    for time in value if isinstance(value, list) else [value]:
        _time(key, time)
    if isinstance(value, list) and (len(value) != 2 or seconds(value[0]) > seconds(value[1])):
        raise _Wrong(f"{key}: expected a time, or two of which the earlier is first, found {value}")


def _share(key: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise _Wrong(f"{key}: expected a share from 0 to 1, found {value:g}")


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise _Wrong(f"{key}: expected one of {', '.join(allowed) or 'none'}; found {value!r}")


def _near(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]}?" if close else f"expected one of {', '.join(known)}"


def _number(value: Number) -> str:
    return repr(value)


def _plain(error: str, document: dict[str, Any]) -> str:
    """msgspec's `Expected `int`, got `str` - at `$.vehicles.count`` as «vehicles.count: expected int, found str»."""
    what, _, where = error.partition(" - at ")
    path = where.strip("`").removeprefix("$").removeprefix(".")
    if lacking := re.fullmatch(r"Object missing required field `(\w+)`", what):
        return f"{path}{'.' if path else ''}{lacking[1]}: is missing; expected {'text' if lacking[1] == 'words' else 'a value'}"
    if unknown := re.fullmatch(r"Object contains unknown field `(.+)`", what):
        tables: dict[str, type[msgspec.Struct]] = {"weather": WeatherTable, "connectivity": ConnectivityTable}
        struct = FaultTable if path.startswith("faults") else tables.get(path, ScenarioTable)
        names = tuple(part.encode_name for part in msgspec.structs.fields(struct))
        return f"{path}{'.' if path else ''}{unknown[1]}: is no key; {_near(unknown[1], names)}"
    what = what.replace("`", "").replace("Expected", "expected").replace(", got", ", found").replace("object", "table")
    if ", found" not in what:
        what += f", found {_at(document, path)!r}"
    return f"{path or 'the file'}: {what}"


def _at(document: Any, path: str) -> Any:
    for step in re.findall(r"\w+", path):
        try:
            document = document[int(step)] if step.isdigit() else document[step]
        except (KeyError, IndexError, TypeError):
            return document
    return document
