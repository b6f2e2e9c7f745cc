"""A lake's folder as drives: one for each vehicle and day, whatever files it is in (docs/lake.md)."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from models.errors import TrainingDataError
from models.table_files import FileTable, Layout, parquet_columns, read_file

__all__ = ["read_lake"]

FRESH = "fresh"


def read_lake(folder: Path, keep: Callable[[str], bool], layout: Layout) -> Iterator[tuple[str, FileTable]]:
    """(folder, table) of every vehicle and day in a lake, or a part of one (LAKE/ticks/day=2026-11-23). A lake's live ticks alone are read,
    unless its folder `replays` is given.

    A table has the columns of all: a signal that a day does not have is NaN. Raises TrainingDataError with the file.
    """
    root = folder / "ticks" if (folder / "ticks").is_dir() else folder
    days: dict[Path, list[Path]] = {}
    for file in sorted(root.rglob("*.parquet")):
        if file.parent.name.startswith("vehicle="):
            days.setdefault(file.parent, []).append(file)
    if not days:
        waits = " but fresh files: put it in order with `cansight lake compact`" if any((folder / FRESH).glob("*.parquet")) else ""
        raise TrainingDataError(f"{folder}: expected a log, a table, or a lake's folder with day=…/vehicle=…; found nothing{waits}")
    names: dict[str, None] = {}
    offered: dict[str, None] = {}
    for files in days.values():
        for file in files:
            kept, all_names = parquet_columns(file, keep, layout)
            names |= dict.fromkeys(kept)
            offered |= dict.fromkeys(all_names)
    for day, files in days.items():
        yield str(day), _laid_over([read_file(file, keep, layout) for file in files], tuple(names), tuple(offered))


def _laid_over(tables: list[FileTable], names: tuple[str, ...], offered: tuple[str, ...]) -> FileTable:
    """One row for each time; a missing value never hides another file's."""
    axis, place = np.unique(np.concatenate([table.stamp_ms for table in tables]), return_inverse=True)
    values = np.full((len(axis), len(names)), np.nan)
    at = {name: number for number, name in enumerate(names)}
    start = 0
    for table in tables:
        rows = place[start : start + len(table.stamp_ms)]
        start += len(table.stamp_ms)
        for column, name in enumerate(table.names):
            there = np.isfinite(table.values[:, column])
            values[rows[there], at[name]] = table.values[there, column]
    return FileTable(names, offered, axis, values)
