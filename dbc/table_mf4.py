"""Decoded signals as MF4, through asammdf: one channel group for each signal (long), or one for all of them (wide)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from dbc.schema import Schema
from dbc.tables import LongRows, WideRows, join_long, join_wide

__all__ = ["LongMf4", "WideMf4"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_S = 250_000_000_000  # year 9892: what a date can still be


class _Mf4:
    """Stamps count from the first row; the file's start time says when that was."""

    def __init__(self, path: Path, schema: Schema) -> None:
        import asammdf

        self._mdf: Any = asammdf.MDF(version="4.10")
        self._signal = asammdf.Signal
        self._path, self._schema = path, schema
        self._start_s: float | None = None

    def _begin(self, first_s: float) -> float:
        if self._start_s is None:
            self._start_s = float(np.floor(first_s)) if 0 <= first_s < LAST_S else 0.0
            self._mdf.header.start_time = EPOCH + timedelta(seconds=self._start_s)
        return self._start_s

    def _named(self, number: int, samples: Any, second: Any) -> Any:
        return self._signal(samples=samples, timestamps=second, name=self._schema.names[number], unit=self._schema.units[number])

    def close(self) -> None:
        # asammdf puts its own suffix on a name without one; the temporary file's name has another.
        written = self._path.with_name(self._path.name + ".mf4")
        try:
            self._mdf.save(written, overwrite=True, compression=1)
            written.replace(self._path)
        finally:
            written.unlink(missing_ok=True)
            self._mdf.close()


class LongMf4(_Mf4):
    """A channel group for each signal, with its own time stamps."""

    def __init__(self, path: Path, schema: Schema) -> None:
        super().__init__(path, schema)
        self._group: dict[int, int] = {}

    def write(self, parts: list[LongRows]) -> None:
        rows = join_long(parts)
        second = rows.timestamp - self._begin(float(rows.timestamp[0]))
        order = rows.signal.argsort(kind="stable")
        numbers, first = np.unique(rows.signal[order], return_index=True)
        for number, part in zip(numbers.tolist(), np.split(order, first[1:]), strict=True):
            if number in self._group:
                self._mdf.extend(self._group[number], [(second[part], None), (rows.value[part], None)])
            else:
                self._group[number] = self._mdf.append([self._named(number, rows.value[part], second[part])], common_timebase=True)


class WideMf4(_Mf4):
    """One channel group for all signals."""

    def __init__(self, path: Path, schema: Schema) -> None:
        super().__init__(path, schema)
        self._group: int | None = None

    def write(self, parts: list[WideRows]) -> None:
        rows = join_wide(parts)
        second = rows.timestamp - self._begin(float(rows.timestamp[0]))
        columns = np.ascontiguousarray(rows.value.T)
        if self._group is None:
            signals = [self._named(number, column, second) for number, column in enumerate(columns)]
            self._group = self._mdf.append(signals, common_timebase=True)
        else:
            self._mdf.extend(self._group, [(second, None), *((column, None) for column in columns)])
