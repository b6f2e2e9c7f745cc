"""Data sets: many vehicles of a scenario as Parquet, with the truth beside them.

A folder: `manifest.json`; for each vehicle `vehicle-0007.parquet` (ticks), or `vehicle-0007.minutes.parquet` and
`vehicle-0007.ticks.parquet`, and `vehicle-0007.truth.json`. The same request and version give the same bytes, however many processes work.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from dbc.compiler import compile_dbc
from dbc.vehicles import DBC_FILES
from simulator.dataset_drives import make_drives
from simulator.dataset_file import WideFile, sha256
from simulator.dataset_minutes import make_minutes
from simulator.dataset_plan import DRIVES, MINUTES, SPLITS, TICKS, DatasetRequest, Member, chosen, members
from simulator.dataset_ticks import make_ticks
from simulator.drive_truth import truth
from simulator.errors import DatasetError, DatasetWorkerError

__all__ = ["DRIVES", "MANIFEST", "MINUTES", "TICKS", "DatasetRequest", "make_dataset"]

MANIFEST = "manifest.json"
# Vehicles that are simulated beside each other, of one seed. More are faster; ticks of all must fit into the memory.
MAKE = {TICKS: make_ticks, MINUTES: make_minutes, DRIVES: make_drives}
BATCH = {TICKS: 50, MINUTES: 120, DRIVES: 160}


def make_dataset(request: DatasetRequest, workers: int = 1, progress: Callable[[int], None] | None = None) -> dict[str, Any]:
    """Write the folder; returns the manifest. progress: called with how many vehicles are done since the last call.

    Raises DatasetError, ScenarioError.
    """
    chosen(compile_dbc(DBC_FILES), request.signals)
    try:
        request.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"{request.folder}: cannot be written: {error.strerror or error}") from error
    batches = list(_batches(members(request.seed, request.vehicles), BATCH[request.resolution]))
    entries: list[dict[str, Any]] = []
    for done in _worked(request, batches, min(workers, len(batches))):
        entries += done
        if progress is not None:
            progress(len(done))
    return _manifest(request, entries)


def _batches(everyone: Sequence[Member], most: int) -> Iterator[tuple[Member, ...]]:
    for split in SPLITS:
        of = tuple(member for member in everyone if member.split == split)
        for first in range(0, len(of), most):
            yield of[first : first + most]


def _worked(request: DatasetRequest, batches: Sequence[tuple[Member, ...]], workers: int) -> Iterator[list[dict[str, Any]]]:
    if workers <= 1:
        for batch in batches:
            yield _make(request, batch)
        return
    # Not forked: the program may have threads.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for one in [pool.submit(_make, request, batch) for batch in batches]:
            try:
                yield one.result()
            except BrokenProcessPool as error:
                raise DatasetWorkerError(
                    f"{request.folder}: a worker process was ended from outside (too little memory?); fewer --workers need less"
                ) from error


def _make(request: DatasetRequest, batch: tuple[Member, ...]) -> list[dict[str, Any]]:
    """The files of these vehicles; what the manifest says about each."""
    files = MAKE[request.resolution](request, batch)
    return [_entry(request, member, files[member.number]) for member in batch]


def _entry(request: DatasetRequest, member: Member, files: dict[str, WideFile]) -> dict[str, Any]:
    beside = request.folder / f"{member.name}.truth.json"
    about = truth(request.what, member.seed, request.duration_s, request.start_ns, member.number)
    _write(beside, about.to_json())
    paths = [*(file.path for file in files.values()), beside]
    return {
        "vehicle": member.number,
        "split": member.split,
        "seed": member.seed,
        "rows": {kind: file.rows for kind, file in files.items()},
        "faults": [
            {key: fault.get(key) for key in ("fault_code", "onset_s", "failed_s", "repaired_s", "ended_s")} for fault in about.faults
        ],
        "files": {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in paths},
    }


def _manifest(request: DatasetRequest, entries: list[dict[str, Any]]) -> dict[str, Any]:
    manifest = {
        "scenario": request.what.name,
        "words": request.what.words,
        "seed": request.seed,
        "version": request.version,
        "start_ns": request.what.start_ns if request.start_ns is None else request.start_ns,
        "duration_s": request.duration_s,
        "resolution": request.resolution,
        "signals": list(request.signals),
        "split": {split: [entry["vehicle"] for entry in entries if entry["split"] == split] for split in SPLITS},
        "vehicles": sorted(entries, key=lambda entry: int(entry["vehicle"])),
    }
    _write(request.folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    return manifest


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DatasetError(f"{path}: cannot be written: {error.strerror or error}") from error
