"""The gallery: pictures by which an engineer judges the car. Drives and charging by the second; every fault of the car over its weeks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from dbc.compiler import compile_dbc
from dbc.schema import Schema
from dbc.vehicles import DBC_FILES
from simulator.drive_truth import Truth, truth
from simulator.errors import ScenarioError, SimulatorError
from simulator.fault_kinds import KINDS
from simulator.film import Film, Reel, Track, most_telling
from simulator.journeys import DAY_S, Phase
from simulator.play import Play
from simulator.samples import Samples
from simulator.scenario import Scenario, scenario
from simulator.trip import Trip

__all__ = ["DRIVES", "WEEKS", "draw_gallery", "pictures"]


@dataclass(frozen=True, slots=True)
class _Drive:
    scenario: str
    duration_s: int
    seed: int = 1


DRIVES: Mapping[str, _Drive] = {
    "drive": _Drive("healthy", 1800),
    "drive_winter": _Drive("winter", 1800),
    "drive_summer": _Drive("summer", 1800),
    "charging_ac": _Drive("charging_ac", 8 * 3600),
    "charging_dc": _Drive("charging_dc", 3600, 3),
    "week": _Drive("week", 7 * 86_400),
    "coolant_leak_drive": _Drive("coolant_leak", 600),
    "sensor_faults": _Drive("sensor_faults", 420),
    "attacks": _Drive("attacks", 480),
}
WEEKS = "fault_weeks"  # the scenario of the others: vehicle k has the k-th fault
SIGNALS_SHOWN = 4
SLICE_S = 4 * DAY_S
AFTER = 1.08  # of the time to the failure
SAMPLE_S = 20.0
BINS = 180
CAPACITY = 8192


def pictures() -> tuple[str, ...]:
    """Their names."""
    return (*DRIVES, *(kind.code for kind in KINDS.values() if kind.group == "physical"))


def draw_gallery(folder: Path, names: tuple[str, ...] = (), suffix: str = ".png", progress: Callable[[str], None] | None = None) -> None:
    """Draw these pictures, or all, into the folder, made when missing. Raises ScenarioError for a name that none has, SimulatorError."""
    from simulator.plot import check_plot_path, draw

    for name in names:
        if name not in pictures():
            raise ScenarioError(f"no picture {name!r}; there are: {', '.join(pictures())}")
    wanted = names or pictures()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SimulatorError(f"{folder}: cannot be made: {error.strerror or error}") from error
    check_plot_path(folder / f"picture{suffix}")
    for name, drive in DRIVES.items():
        if name in wanted:
            draw(_driven(drive), folder / f"{name}{suffix}")
            if progress is not None:
                progress(name)
    codes = tuple(name for name in wanted if name not in DRIVES)
    for code, reel in _weeks(codes) if codes else ():
        draw(reel, folder / f"{code}{suffix}")
        if progress is not None:
            progress(code)


def _driven(drive: _Drive) -> Film:
    what = scenario(drive.scenario)
    trip = Trip(what, drive.seed)
    film = Film(trip, truth(what, drive.seed, drive.duration_s, trip.start_ns))
    if any(fault["group"] != "physical" for fault in film.truth.faults):
        for _ in trip.blocks(drive.duration_s, film.look):
            pass  # what broken sensors and attackers do is in the frames
    else:
        trip.pass_over(drive.duration_s, film.look)
    return film


def _weeks(codes: tuple[str, ...], seed: int = 1) -> Iterator[tuple[str, Reel]]:
    """Of each fault the means of its signals, with it and without it, while the car drives."""
    what = scenario(WEEKS)
    schema = compile_dbc(DBC_FILES).schema
    vehicles = {fault.code: (fault.vehicles or [0])[0] for fault in what.table.faults}
    truths = {code: _truth(what, seed, vehicles[code]) for code in codes}
    numbers, later_s, ends_s = [], [], []
    for code in codes:
        for begin in np.arange(0, truths[code].duration_s, SLICE_S):
            numbers.append(vehicles[code])
            later_s.append(float(begin))
            ends_s.append(min(begin + SLICE_S, float(truths[code].duration_s)))
    spared = Scenario(what.name, msgspec.structs.replace(what.table, faults=[]))
    shown = {code: most_telling(truths[code].faults[0], SIGNALS_SHOWN) for code in codes}
    columns = sorted({schema.index(name) for names in shown.values() for name in names})
    seen = [_seen(Play(one, seed, numbers, None, later_s), schema, np.array(ends_s), columns) for one in (what, spared)]
    for code in codes:
        yield code, _reel(truths[code], schema, shown[code], [part.of(np.array(numbers) == vehicles[code], columns) for part in seen])


def _truth(what: Scenario, seed: int, vehicle: int) -> Truth:
    failed_s = what.courses(seed, (vehicle,))
    ends_s = max(float(course.failed_s[0]) for course in failed_s if np.isfinite(course.failed_s[0]))
    return truth(what, seed, round(AFTER * ends_s), None, vehicle)


@dataclass(frozen=True)
class _Seen:
    """What drives showed. lane, time_s (k,); value (columns, k)."""

    lane: NDArray[np.intp]
    time_s: NDArray[np.float64]
    value: NDArray[np.float32]

    def of(self, lanes: NDArray[np.bool_], columns: list[int]) -> tuple[NDArray[np.float64], dict[int, NDArray[np.float32]]]:
        mine = lanes[self.lane]
        return self.time_s[mine], {column: self.value[row, mine] for row, column in enumerate(columns)}


def _seen(play: Play, schema: Schema, ends_s: NDArray[np.float64], columns: list[int]) -> _Seen:
    samples = Samples(play, schema, play.cars.cast.start_ns, (play.seed,), CAPACITY)
    parts: list[_Seen] = []

    def read() -> None:
        filled = samples.filled
        lane, time_s = samples.lane[:filled].copy(), samples.time_s[:filled].copy()
        parts.append(_Seen(lane, time_s, samples.read()[columns]))

    state, journeys = play.state, play.cars.journeys
    while (live := state["time_s"] < ends_s).any():
        play.advance()
        due = np.flatnonzero(live & (journeys.phase == Phase.DRIVING) & (state["time_s"] % SAMPLE_S == 0) & (state["time_s"] <= ends_s))
        if not samples.room(len(due)):
            read()
        samples.add(due)
    read()
    return _Seen(
        np.concatenate([part.lane for part in parts]),
        np.concatenate([part.time_s for part in parts]),
        np.concatenate([part.value for part in parts], axis=1),
    )


def _reel(about: Truth, schema: Schema, shown: list[str], seen: list[tuple[NDArray[np.float64], dict[int, NDArray[np.float32]]]]) -> Reel:
    reel = Reel(about)
    width_s = max(about.duration_s / BINS, DAY_S / 2)
    with_it, without = ((np.floor(time_s / width_s).astype(np.int64), values) for time_s, values in seen)
    bins = np.intersect1d(with_it[0], without[0])
    middle_s = (bins + 0.5) * width_s
    reel.time_s = middle_s.tolist()
    fault = about.faults[0]
    steps = (np.minimum(middle_s, about.duration_s) / fault["severity_step_s"]).astype(np.int64)
    reel.severities[0].value = [fault["severity"][min(step, len(fault["severity"]) - 1)] for step in steps]
    for name in shown:
        number = schema.index(name)
        track = Track(name.rpartition(".")[2], schema.units[number], other_words="without the fault")
        track.value, track.other = _means(*with_it, number, bins), _means(*without, number, bins)
        reel.signals.append((number, track))
    return reel


def _means(index: NDArray[np.int64], values: dict[int, NDArray[np.float32]], number: int, bins: NDArray[np.int64]) -> list[float]:
    return [float(np.nanmean(values[number][index == one])) for one in bins]
