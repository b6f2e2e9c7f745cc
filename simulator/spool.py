"""Rows of many vehicles in the order in which they come about, kept on disk until each vehicle's can be written one after the other."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from simulator.errors import DatasetError

__all__ = ["Spool"]

POOL_BYTES = 128 * 2**20
Numbers = NDArray[np.intp]


class Spool:
    """A temporary file without a name, of pieces compressed with LZ4. A row: whose it is, its time, a value for each column."""

    def __init__(self, folder: Path, columns: int) -> None:
        self._folder, self._columns = folder, columns
        rows = max(1, POOL_BYTES // (4 * columns))
        self._pool = np.empty((rows, columns), np.float32)
        self._whose, self._time_s = np.empty(rows, np.intp), np.empty(rows)
        self._filled = 0
        self._pieces: dict[int, list[tuple[int, int, NDArray[np.float64]]]] = {}  # whose -> offset, bytes, times
        self._file: IO[bytes] | None = None
        self._codec = pa.Codec("lz4")

    def __enter__(self) -> Spool:
        self._file = tempfile.TemporaryFile(dir=self._folder, prefix=".cansight-spool-")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, whose: Numbers, time_s: NDArray[np.float64], value: NDArray[np.float32]) -> None:
        """whose, time_s (k,); value (k, columns)."""
        at = 0
        while at < len(whose):
            many = min(len(whose) - at, len(self._whose) - self._filled)
            here, there = slice(self._filled, self._filled + many), slice(at, at + many)
            self._whose[here], self._time_s[here] = whose[there], time_s[there]
            self._pool[here] = value[there]
            self._filled, at = self._filled + many, at + many
            if self._filled == len(self._whose):
                self._pour()

    def _pour(self) -> None:
        assert self._file is not None
        whose = self._whose[: self._filled]
        order = np.argsort(whose, kind="stable")
        firsts = np.flatnonzero(np.diff(whose[order], prepend=-1))
        try:
            for mine in np.split(order, firsts[1:]) if len(order) else ():
                piece = self._codec.compress(np.ascontiguousarray(self._pool[mine].T), asbytes=True)  # by column it is small and quick
                self._pieces.setdefault(int(whose[mine[0]]), []).append((self._file.tell(), len(piece), self._time_s[mine].copy()))
                self._file.write(piece)
        except OSError as error:
            raise DatasetError(f"{self._folder}: cannot be written: {error.strerror or error}") from error
        self._filled = 0

    def rows(self, whose: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """time_s (r,) in order, value (r, columns). Everything must have been added."""
        if self._filled:
            self._pour()
        assert self._file is not None
        pieces = self._pieces.pop(whose, [])
        time_s = np.concatenate([times for _, _, times in pieces]) if pieces else np.zeros(0)
        order = np.argsort(time_s, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))  # of each row, when all are in order
        value = np.empty((len(time_s), self._columns), np.float32)
        begin = 0
        for offset, length, times in pieces:
            self._file.seek(offset)
            size = 4 * self._columns * len(times)
            piece = np.frombuffer(self._codec.decompress(self._file.read(length), size, asbytes=True), np.float32)
            value[place[begin : begin + len(times)]] = piece.reshape(self._columns, len(times)).T
            begin += len(times)
        return time_s[order], value
