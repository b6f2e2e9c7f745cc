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

__all__ = ["Compacted", "compact", "delete"]

ROUND_VALUES = 32 << 20  # of fresh files that are sorted by vehicle at once: 256 MB of float64
MOST_PARTS = 8  # files that a vehicle's day may have before they are made into one, while the day still grows
ROW_GROUP = 32_768  # rows; nine hours
LEFTOVER_S = 3600.0

Progress = Callable[[str], None]
_Touched = dict[str, set[tuple[str, str]]]  # kind -> (day, vehicle)

log = logging.getLogger(__name__)


@dataclass
class Compacted:
    """What was done: the sink's files that were sorted in, days of a vehicle made into one file, days dropped, rows removed."""

    fresh: int = 0
    days: int = 0
    dropped: int = 0
    removed: int = 0


def compact(folders: Folders, keep: int | None, now_ms: int, progress: Progress = lambda words: None, whole: bool = True) -> Compacted:
    """keep: days that live ticks and events are kept; a recorded log is kept for ever. Raises LakeError, OSError.

    whole: every day that there is is looked at; else the days that fresh files were for, and the last two. Years of a fleet are
    millions of folders, and hardly any of them changes.
    """
    done = Compacted()
    touched: _Touched = defaultdict(set)
    with folders.locked():
        _leftovers(folders, now_ms, whole)
        for kind in (TICKS, REPLAYS):
            for group in _rounds(folders.fresh_files(kind)):
                progress(f"{kind}: {len(group)} fresh files")
                touched[kind] |= _sort_in(folders, kind, group)
                done.fresh += len(group)
        done.fresh += _sort_in_events(folders, touched[EVENTS])
        today = day_of(now_ms)
        for kind in KINDS:
            for (day, vehicle), files in _looked_at(folders, kind, None if whole else touched[kind], now_ms).items():
                if len(files) > 1 and (day < today or len(files) > MOST_PARTS):
                    progress(f"{kind} {day} {vehicle}")
                    _make_one(folders, kind, day, vehicle, files)
                    done.days += 1
        done.dropped = _drop_old(folders, keep, now_ms)
        done.removed = sum(_apply(folders, folders.deletions, None if whole else touched).values())
        if whole:
            folders.note_look()
    return done


def delete(folders: Folders, vehicle: str, from_ms: int, to_ms: int, now_ms: int) -> dict[str, int]:
    """Remove a vehicle's rows with from_ms <= time < to_ms, up to now; how many of which kind. Raises LakeError, OSError.

    It is noted first: what a running cloud still has in memory, or a backup brings back, is not read, and compaction removes it.
    """
    deletion = Deletion(vehicle, from_ms, min(to_ms, now_ms))
    with folders.locked():
        folders.note_deletion(deletion)
        return _apply(folders, [deletion], None)


def _looked_at(folders: Folders, kind: str, touched: set[tuple[str, str]] | None, now_ms: int) -> dict[tuple[str, str], list[Path]]:
    """(day, vehicle) -> files; None: of all days."""
    if touched is None:
        return folders.parts(kind)
    found = folders.parts(kind, since=date.fromisoformat(day_of(now_ms - DAY_MS)))
    for day, vehicle in sorted(touched - found.keys()):
        found[day, vehicle] = sorted(folders.place(kind, day, vehicle).glob("*.parquet"))
    return found


def _apply(folders: Folders, deletions: Sequence[Deletion], touched: _Touched | None) -> dict[str, int]:
    """With the lock. touched: the days that something was added to; None: all."""
    counted = dict.fromkeys(KINDS, 0)
    of: dict[str, list[Deletion]] = defaultdict(list)
    for one in deletions:
        of[one.vehicle].append(one)
    for kind in KINDS if deletions else ():
        for file in folders.fresh_files(kind):
            counted[kind] += _without(file, deletions)
        if touched is not None:
            parts = {key: sorted(folders.place(kind, *key).glob("*.parquet")) for key in sorted(touched[kind])}
        elif kind == EVENTS:
            parts = folders.parts(kind)
        else:
            parts = {key: files for vehicle in of for key, files in folders.parts(kind, vehicle=vehicle).items()}
        for (day, vehicle), files in parts.items():
            mine = of.get(vehicle, []) if vehicle else deletions
            if hit := [one for one in mine if day_ms(day) < one.to_ms and day_ms(day) + DAY_MS > one.from_ms]:
                for file in files:
                    counted[kind] += _without(file, hit, whole=vehicle != "")
    return counted


def _without(file: Path, deletions: Sequence[Deletion], whole: bool = False) -> int:
    """Write the file again without the rows; how many those were. `whole`: the file is of the deletions' vehicle alone."""
    table = _read(file, ["time"] if whole else ["time", "vehicle"])
    times = times_of(table)
    gone = np.zeros(len(times), np.bool_)
    for one in deletions:
        mine = (times >= one.from_ms) & (times < one.to_ms)
        if not whole and mine.any():
            mine &= compute.equal(table.column("vehicle").cast(pa.string()), one.vehicle).to_numpy()
        gone |= mine
    if not gone.any():
        return 0
    if gone.all():
        file.unlink()
        return int(gone.sum())
    told = {key: value for key, value in (parquet.read_metadata(file).metadata or {}).items() if key != b"ARROW:schema"}
    table = _read(file).filter(pa.array(~gone)).replace_schema_metadata(told)
    write(file.parent, table, file.stem, row_group=ROW_GROUP)
    return int(gone.sum())


def _leftovers(folders: Folders, now_ms: int, whole: bool) -> None:
    """What killed processes left half written; a sink's own, of this cloud or of another replica, is younger."""
    for leftover in (folders.root if whole else folders.fresh).rglob("*.part"):
        if leftover.parent not in (folders.fresh, folders.columns) or now_ms / 1000 - leftover.stat().st_mtime > LEFTOVER_S:
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


def _sort_in(folders: Folders, kind: str, files: Sequence[Path]) -> set[tuple[str, str]]:
    """Fresh files to a file for each day and vehicle in them; which those are."""
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
    return set(found)


def _sort_in_events(folders: Folders, touched: set[tuple[str, str]]) -> int:
    files = folders.fresh_files(EVENTS)
    by_day: dict[str, list[pa.Table]] = defaultdict(list)
    for file in files:
        table = _read(file)
        days = times_of(table) // DAY_MS
        for day in np.unique(days).tolist():
            by_day[day_of(day * DAY_MS)].append(table.filter(pa.array(days == day)))
    for day, tables in by_day.items():
        write(folders.place(EVENTS, day), _once(tables), new_name(), row_group=ROW_GROUP)
        touched.add((day, ""))
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
        for day in folders.days(kind):
            if day >= oldest:
                break
            for files in folders.parts(kind, date.fromisoformat(day), date.fromisoformat(day)).values():
                for file in files:
                    file.unlink()
                dropped += 1
            folder = folders.root / kind / f"day={day}"
            for empty in [*folder.glob("vehicle=*"), folder]:
                if not any(empty.iterdir()):
                    empty.rmdir()
    return dropped


def _read(file: Path, columns: list[str] | None = None) -> pa.Table:
    with _opened(file) as opened:
        return opened.read(columns)


def _opened(file: Path) -> parquet.ParquetFile:
    try:
        return parquet.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise LakeError(f"{file}: is damaged: {str(error).splitlines()[0]}; move it away, the rest of the lake is whole") from error
