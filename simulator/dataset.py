"""Data sets: the ticks of many vehicles of a scenario as Parquet, with the truth beside them.

A folder: `manifest.json`; for each vehicle `vehicle-0007.parquet` and `vehicle-0007.truth.json`. The same request and version give the
same bytes, however many processes work on it.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbc.compiler import compile_dbc
from dbc.plan import CompiledDbc
from dbc.vehicles import DBC_FILES
from simulator.dataset_file import WideFile, sha256
from simulator.drive_truth import truth
from simulator.errors import DatasetError
from simulator.play import Play, TickDisturbances
from simulator.scenario import Scenario
from simulator.ticks import BUS_COLUMNS, Ticks

__all__ = ["MANIFEST", "SPLITS", "DatasetRequest", "Member", "make_dataset", "members"]

MANIFEST = "manifest.json"
SPLITS = ("training", "calibration", "test")
PATTERN = (0, 0, 0, 1, 2)  # of five vehicles one after the other: which split
BATCH = 50  # vehicles that are simulated beside each other
BUFFER_BYTES = 192 * 2**20  # of ticks of a batch
LONGEST_GROUP = 3600  # rows
WITHOUT_TICKS = ("Checksum", "AliveCounter")  # of a single frame; a tick has none


@dataclass(frozen=True, slots=True)
class DatasetRequest:
    """What is asked for. vehicles and duration_s: instead of the scenario's. signals: globs over Message.Signal; none: all."""

    what: Scenario
    seed: int
    vehicles: int
    duration_s: int
    folder: Path
    signals: tuple[str, ...] = ()
    version: str = ""
    start_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A vehicle of the data set. `sim drive --seed SEED --vehicle NUMBER` drives the same one."""

    number: int
    split: str
    seed: int

    @property
    def name(self) -> str:
        return f"vehicle-{self.number:04d}"


def members(seed: int, vehicles: int) -> tuple[Member, ...]:
    """Three of five vehicles train, one calibrates, one tests. Each split is a fleet of its own seed (3 x seed, and the two after it), so
    that it shares neither cars nor drivers nor the weather with another, nor with a data set of another seed."""
    return tuple(
        Member(number, SPLITS[PATTERN[number % len(PATTERN)]], 3 * seed + PATTERN[number % len(PATTERN)]) for number in range(vehicles)
    )


def make_dataset(request: DatasetRequest, workers: int = 1, progress: Callable[[int], None] | None = None) -> dict[str, Any]:
    """Write the folder; returns the manifest. progress: called with how many vehicles are done since the last call.

    Raises DatasetError, ScenarioError.
    """
    compiled = compile_dbc(DBC_FILES)
    _columns(compiled, request.signals)
    try:
        request.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"{request.folder}: cannot be written: {error.strerror or error}") from error
    everyone = members(request.seed, request.vehicles)
    batches = list(_batches(everyone))
    entries: list[dict[str, Any]] = []
    for done in _worked(request, batches, min(workers, len(batches))):
        entries += done
        if progress is not None:
            progress(len(done))
    return _manifest(request, entries)


def _batches(everyone: Sequence[Member]) -> Iterator[tuple[Member, ...]]:
    for split in SPLITS:
        of = tuple(member for member in everyone if member.split == split)
        for first in range(0, len(of), BATCH):
            yield of[first : first + BATCH]


def _worked(request: DatasetRequest, batches: Sequence[tuple[Member, ...]], workers: int) -> Iterator[list[dict[str, Any]]]:
    if workers <= 1:
        for batch in batches:
            yield _make(request, batch)
        return
    # Not forked: the program may have threads.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(_make, request, batch) for batch in batches]
        for one in waiting:
            yield one.result()


def _make(request: DatasetRequest, batch: tuple[Member, ...]) -> list[dict[str, Any]]:
    """The files of these vehicles, which are of one seed; what the manifest says about each."""
    compiled = compile_dbc(DBC_FILES)
    schema = compiled.schema
    columns = _columns(compiled, request.signals)
    seed, numbers = batch[0].seed, [member.number for member in batch]
    play = Play(request.what, seed, numbers, request.start_ns)
    start_ns = play.cars.cast.start_ns
    ticks = Ticks(play, schema, start_ns, (seed, numbers[0]), np.float32)
    disturbances = TickDisturbances(request.what, seed, numbers, compiled)
    rows = max(1, min(LONGEST_GROUP, request.duration_s, BUFFER_BYTES // (4 * len(schema) * len(batch))))
    values = np.empty((rows, len(schema), len(batch)), np.float32)
    time_s, awake = np.empty((rows, len(batch))), np.empty((rows, len(batch)), np.bool_)
    names = {schema.names[at]: schema.units[at] for at in columns}
    files = [WideFile(request.folder / f"{member.name}.parquet", names, _about(request, member, start_ns)).__enter__() for member in batch]
    try:
        while (play.state["time_s"] < request.duration_s).any():
            filled = 0
            while filled < rows and (play.state["time_s"] < request.duration_s).any():
                play.advance()
                ticks.seconds += 1  # numbers the noise
                ticks.now(values[filled])
                time_s[filled] = play.state["time_s"]
                awake[filled] = np.any([play.state[bus] > 0 for bus in BUS_COLUMNS], axis=0)
                filled += 1
            disturbances.apply(values[:filled], time_s[:filled])
            for column, file in enumerate(files):
                keep = np.flatnonzero(awake[:filled, column] & (time_s[:filled, column] <= request.duration_s))
                file.write(start_ns / 1e9 + time_s[keep, column], [values[keep, at, column] for at in columns])
    except BaseException as error:
        for file in files:
            file.__exit__(type(error), error, None)
        raise
    for file in files:
        file.__exit__(None, None, None)
    return [_entry(request, member, file, start_ns) for member, file in zip(batch, files, strict=True)]


def _columns(compiled: CompiledDbc, signals: Sequence[str]) -> NDArray[np.intp]:
    """The signals that are wanted. Raises DatasetError for a glob that fits none."""
    names = compiled.schema.names
    plan = compiled.plan
    selectors = set(plan.row_signal[plan.slot_row].tolist())
    usable = [
        number
        for number, name in enumerate(names)
        if not name.endswith(tuple(f".{last}" for last in WITHOUT_TICKS)) and number not in selectors
    ]
    for glob in signals:
        if not any(fnmatchcase(names[number], glob) for number in usable):
            raise DatasetError(f"no signal fits {glob!r}; signals are named Message.Signal, and * and ? may be used")
    chosen = [number for number in usable if not signals or any(fnmatchcase(names[number], glob) for glob in signals)]
    return np.array(chosen, np.intp)


def _about(request: DatasetRequest, member: Member, start_ns: int) -> dict[str, str]:
    """Of a file, in its metadata."""
    whose = {key: str(value) for key, value in asdict(member).items()}
    return whose | {"scenario": request.what.name, "start_ns": str(start_ns), "version": request.version}


def _entry(request: DatasetRequest, member: Member, file: WideFile, start_ns: int) -> dict[str, Any]:
    beside = request.folder / f"{member.name}.truth.json"
    about = truth(request.what, member.seed, request.duration_s, start_ns, member.number)
    _write(beside, about.to_json())
    return {
        "vehicle": member.number,
        "split": member.split,
        "seed": member.seed,
        "rows": file.rows,
        "faults": sorted({fault["fault_code"] for fault in about.faults}),
        "files": {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in (file.path, beside)},
    }


def _manifest(request: DatasetRequest, entries: list[dict[str, Any]]) -> dict[str, Any]:
    manifest = {
        "scenario": request.what.name,
        "words": request.what.words,
        "seed": request.seed,
        "version": request.version,
        "duration_s": request.duration_s,
        "signals": list(request.signals),
        "vehicles": sorted(entries, key=lambda entry: int(entry["vehicle"])),
    }
    _write(request.folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    return manifest


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DatasetError(f"{path}: cannot be written: {error.strerror or error}") from error
