"""Where the faults of a drive are: a column of labels, or the truth that the simulator writes beside what it simulates."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.errors import TrainingDataError
from models.evaluation.events import Event

__all__ = ["SPLITS", "Recording", "labelled_events", "read_truth", "recordings"]

SPLITS = ("training", "calibration", "test")
MANIFEST = "manifest.json"
STEP_MS = 1000


@dataclass(frozen=True, slots=True)
class Recording:
    """One file to evaluate on, and the file that says what is true about it; None: nothing does."""

    path: str
    truth: Path | None


class _Fault(msgspec.Struct, frozen=True):
    """One fault of a truth file; what is not needed here is left out."""

    fault_code: str
    onset_s: float
    onset_ns: int
    failed_ns: int | None = None
    repaired_s: float | None = None
    ended_ns: int | None = None


class _Truth(msgspec.Struct, frozen=True):
    faults: list[_Fault]


class _Vehicle(msgspec.Struct, frozen=True):
    vehicle: int
    split: str
    files: dict[str, Any]


class _Dataset(msgspec.Struct, frozen=True):
    vehicles: Annotated[list[_Vehicle], msgspec.Meta(min_length=1)]


def recordings(paths: Sequence[str], split: str, truths: Sequence[str] = ()) -> list[Recording]:
    """The files behind `paths`: a data set's folder stands for the ticks of the vehicles of `split` ("all": of every split).

    truths: one for each path, in their order; without, the truth beside a file (`vehicle-0007.truth.json`) is taken where there is one.
    Raises TrainingDataError.
    """
    if truths and len(truths) != len(paths):
        raise TrainingDataError(f"{len(truths)} truth files for {len(paths)} data files; give one for each, in the same order")
    found: list[Recording] = []
    for at, path in enumerate(paths):
        folder = Path(path)
        if folder.is_dir():
            if truths:
                raise TrainingDataError(f"{path}: is a data set's folder, which has its truth with it; leave --truth out")
            found += [Recording(str(file), _beside(file)) for file in _of_dataset(folder, split)]
        else:
            found.append(Recording(path, Path(truths[at]) if truths else _beside(folder)))
    return found


def read_truth(path: Path) -> list[Event]:
    """The faults of a truth file, of all codes. Raises TrainingDataError with the place in the file."""
    document = _decode(path, _Truth, "a truth file of `cansight sim`")
    events = []
    for fault in document.faults:
        end_ns = fault.ended_ns
        if end_ns is None and fault.repaired_s is not None:
            end_ns = fault.onset_ns + round((fault.repaired_s - fault.onset_s) * 1e9)
        events.append(
            Event(
                begin_ms=-(-fault.onset_ns // 1_000_000),
                end_ms=end_ns // 1_000_000 if end_ns is not None else np.iinfo(np.int64).max,
                fault_code=fault.fault_code,
                failed_ms=None if fault.failed_ns is None else fault.failed_ns // 1_000_000,
            )
        )
    return events


def labelled_events(source: str, column: str, tick_ms: NDArray[np.int64], label: NDArray[np.float64]) -> list[Event]:
    """Runs of labels (n,) that are not 0; tick_ms: (n,). Raises TrainingDataError where a row has none."""
    if not np.isfinite(label).all():
        row = int(np.flatnonzero(~np.isfinite(label))[0]) + 1
        raise TrainingDataError(f"{source}: row {row} has no label in column {column!r}; expected 0 (healthy) or 1 (faulty)")
    edges = np.flatnonzero(np.diff(np.concatenate([[False], label != 0, [False]]).astype(np.int8)))
    end_ms = np.append(tick_ms, tick_ms[-1:] + STEP_MS)
    return [Event(int(tick_ms[first]), int(end_ms[behind])) for first, behind in zip(edges[::2], edges[1::2], strict=True)]


def _of_dataset(folder: Path, split: str) -> list[Path]:
    if not (folder / MANIFEST).is_file():
        raise TrainingDataError(f"{folder}: is a folder without {MANIFEST}; expected a data set of `cansight sim dataset`, or files")
    vehicles = _decode(folder / MANIFEST, _Dataset, "a data set's manifest").vehicles
    chosen = [vehicle for vehicle in vehicles if split in (vehicle.split, "all")]
    files = [folder / name for vehicle in chosen for name in sorted(vehicle.files) if name.endswith(".parquet")]
    files = [file for file in files if not file.name.endswith(".minutes.parquet")]  # a pack judges ticks of a second
    if not files:
        raise TrainingDataError(f"{folder}: no vehicle of the split {split} in it; choose another --split, or simulate more --vehicles")
    return files


def _beside(path: Path) -> Path | None:
    name = path.name.removesuffix(".parquet").removesuffix(".ticks")
    for candidate in (path.with_name(f"{name}.truth.json"), path.with_suffix(".truth.json")):
        if candidate.is_file():
            return candidate
    return None


def _decode(path: Path, kind: type[Any], what: str) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise TrainingDataError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TrainingDataError(f"{path}: not {what}: {error}") from error
