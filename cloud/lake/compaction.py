"""Compaction: what the sink wrote becomes files by day and vehicle, one row a tick; what is too old or deleted goes.

Any step may be killed: a file is whole or not there, and what it was made from is removed after it is durable. Until then rows are there
twice, and reading lays them over one another.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import compute, parquet

from cloud.lake.errors import LakeError
from cloud.lake.folders import DAY_MS, EVENTS, KINDS, REPLAYS, TICKS, Deletion, Folders, day_ms, day_of, new_name, write
from cloud.lake.laying import laid_over, lean, times_of

__all__ = ["Compacted", "compact", "delete", "keep_days"]

ROUND_VALUES = 32 << 20  # of fresh files that are sorted by vehicle at once: 256 MB of float64
MOST_PARTS = 8  # files that a vehicle's day may have before they are made into one, while the day still grows
ROW_GROUP = 32_768  # rows; nine hours
LEFTOVER_S = 3600.0

Progress = Callable[[str], None]

log = logging.getLogger(__name__)


@dataclass
class Compacted:
    """What was done: the sink's files that were sorted in, days of a vehicle made into one file, days dropped, rows removed."""

    fresh: int = 0
    days: int = 0
    dropped: int = 0
    removed: int = 0


def keep_days(text: str) -> int | None:
    """ "90d" -> 90; None: for ever."""
    return None if text == "forever" else int(text.removesuffix("d"))


def compact(folders: Folders, keep: int | None, now_ms: int, progress: Progress = lambda words: None) -> Compacted:
    """keep: days that live ticks and events are kept; a recorded log is kept for ever. Raises LakeError, OSError."""
    done = Compacted()
    with folders.locked():
        _leftovers(folders, now_ms)
        for kind in (TICKS, REPLAYS):
            for group in _rounds(folders.fresh_files(kind)):
                progress(f"{kind}: {len(group)} fresh files")
                _sort_in(folders, kind, group)
                done.fresh += len(group)
        done.fresh += _sort_in_events(folders)
        today = day_of(now_ms)
        for kind in KINDS:
            for (day, vehicle), files in folders.parts(kind).items():
                if len(files) > 1 and (day < today or len(files) > MOST_PARTS):
                    progress(f"{kind} {day} {vehicle}")
                    _make_one(folders, kind, day, vehicle, files)
                    done.days += 1
        done.dropped = _drop_old(folders, keep, now_ms)
        for deletion in folders.deletions:
            done.removed += sum(_apply(folders, deletion).values())
    return done


def delete(folders: Folders, vehicle: str, from_ms: int, to_ms: int, now_ms: int) -> dict[str, int]:
    """Remove a vehicle's rows with from_ms <= time < to_ms, up to now; how many of which kind. Raises LakeError, OSError.

    It is noted first: what a running cloud still has in memory, or a backup brings back, is not read, and compaction removes it.
    """
    deletion = Deletion(vehicle, from_ms, min(to_ms, now_ms))
    with folders.locked():
        folders.note_deletion(deletion)
        return _apply(folders, deletion)


def _apply(folders: Folders, deletion: Deletion) -> dict[str, int]:
    """With the lock."""
    counted = dict.fromkeys(KINDS, 0)
    for kind in KINDS:
        for file in folders.fresh_files(kind):
            counted[kind] += _without(file, deletion)
        for (day, vehicle), files in folders.parts(kind).items():
            if vehicle not in ("", deletion.vehicle) or day_ms(day) >= deletion.to_ms or day_ms(day) + DAY_MS <= deletion.from_ms:
                continue
            for file in files:
                counted[kind] += _without(file, deletion, whole=vehicle != "")
    return counted


def _without(file: Path, deletion: Deletion, whole: bool = False) -> int:
    """Write the file again without the rows; how many those were. `whole`: the file is of that vehicle alone."""
    table = _read(file, ["time"] if whole else ["time", "vehicle"])
    times = times_of(table)
    gone = (times >= deletion.from_ms) & (times < deletion.to_ms)
    if not whole:
        gone &= compute.equal(table.column("vehicle").cast(pa.string()), deletion.vehicle).to_numpy()
    if not gone.any():
        return 0
    if gone.all():
        file.unlink()
        return int(gone.sum())
    told = {key: value for key, value in (parquet.read_metadata(file).metadata or {}).items() if key != b"ARROW:schema"}
    table = _read(file).filter(pa.array(~gone)).replace_schema_metadata(told)
    write(file.parent, table, file.stem, row_group=ROW_GROUP)
    return int(gone.sum())


def _leftovers(folders: Folders, now_ms: int) -> None:
    """What killed processes left half written; the sink's own is younger."""
    for leftover in folders.root.rglob("*.part"):
        if leftover.parent != folders.fresh or now_ms / 1000 - leftover.stat().st_mtime > LEFTOVER_S:
            leftover.unlink(missing_ok=True)


def _rounds(files: Sequence[Path]) -> Iterator[list[Path]]:
    group: list[Path] = []
    values = 0
    for file in files:
        with _opened(file) as opened:
            size = opened.metadata.num_rows * opened.metadata.num_columns
        if group and values + size > ROUND_VALUES:
            yield group
            group, values = [], 0
        group.append(file)
        values += size
    if group:
        yield group


def _sort_in(folders: Folders, kind: str, files: Sequence[Path]) -> None:
    """Fresh files to a file for each day and vehicle in them."""
    found: dict[tuple[str, str], list[pa.Table]] = defaultdict(list)
    for file in files:
        table = _read(file)
        vehicles = table.column("vehicle").combine_chunks()
        vehicles = vehicles if isinstance(vehicles, pa.DictionaryArray) else vehicles.dictionary_encode()
        codes, names = vehicles.indices.to_numpy(), vehicles.dictionary.to_pylist()
        days = times_of(table) // DAY_MS
        key = codes.astype(np.int64) * (1 << 32) + days
        order = np.argsort(key, kind="stable")
        bounds = np.flatnonzero(np.diff(key[order], prepend=-1)) if len(key) else np.empty(0, np.intp)
        ordered = table if (np.diff(order) == 1).all() else table.take(pa.array(order))
        for start, end in zip(bounds, np.append(bounds[1:], len(key)), strict=True):
            first = order[start]
            found[day_of(int(days[first]) * DAY_MS), names[codes[first]]].append(lean(ordered.slice(start, end - start)))
    for (day, vehicle), tables in sorted(found.items()):
        _write_day(folders, kind, day, vehicle, laid_over(tables))
    for file in files:
        file.unlink()


def _sort_in_events(folders: Folders) -> int:
    files = folders.fresh_files(EVENTS)
    by_day: dict[str, list[pa.Table]] = defaultdict(list)
    for file in files:
        table = _read(file)
        days = times_of(table) // DAY_MS
        for day in np.unique(days).tolist():
            by_day[day_of(day * DAY_MS)].append(table.filter(pa.array(days == day)))
    for day, tables in by_day.items():
        write(folders.place(EVENTS, day), _once(tables), new_name(), row_group=ROW_GROUP)
    for file in files:
        file.unlink()
    return len(files)


def _make_one(folders: Folders, kind: str, day: str, vehicle: str, files: Sequence[Path]) -> None:
    tables = [_read(file) for file in files]
    if kind == EVENTS:
        write(folders.place(kind, day), _once(tables), new_name(), row_group=ROW_GROUP)
    else:
        _write_day(folders, kind, day, vehicle, laid_over(tables))
    for file in files:
        file.unlink()


def _write_day(folders: Folders, kind: str, day: str, vehicle: str, table: pa.Table) -> None:
    told = {**(table.schema.metadata or {}), b"cansight.vehicle": vehicle.encode(), b"cansight.day": day.encode()}
    write(folders.place(kind, day, vehicle), table.replace_schema_metadata(told), new_name(), row_group=ROW_GROUP)


def _once(tables: Sequence[pa.Table]) -> pa.Table:
    """Events without repeats, by time."""
    table = pa.concat_tables(tables).sort_by([("time", "ascending"), ("stream", "ascending"), ("sequence", "ascending")])
    keys = list(zip(table.column("stream").to_pylist(), table.column("sequence").to_pylist(), strict=True))
    first = {key: number for number, key in reversed(list(enumerate(keys)))}
    return table if len(first) == len(keys) else table.take(pa.array(sorted(first.values())))


def _drop_old(folders: Folders, keep: int | None, now_ms: int) -> int:
    if keep is None:
        return 0
    oldest = (datetime.fromtimestamp(now_ms / 1000, UTC).date() - timedelta(days=keep)).isoformat()
    dropped = 0
    for kind in (TICKS, EVENTS):
        for (day, _), files in folders.parts(kind, until=date.fromisoformat(oldest)).items():
            if day < oldest:
                for file in files:
                    file.unlink()
                dropped += 1
    for folder in [*folders.root.glob("ticks/day=*/vehicle=*"), *folders.root.glob("*/day=*")]:
        if not any(folder.iterdir()):
            folder.rmdir()
    return dropped


def _read(file: Path, columns: list[str] | None = None) -> pa.Table:
    with _opened(file) as opened:
        return opened.read(columns)


def _opened(file: Path) -> parquet.ParquetFile:
    try:
        return parquet.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise LakeError(f"{file}: is damaged: {str(error).splitlines()[0]}; move it away, the rest of the lake is whole") from error
