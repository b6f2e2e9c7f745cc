"""Parquet files of a data set: `timestamp` and one column for each signal."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from simulator.errors import DatasetError

__all__ = ["WideFile", "sha256"]

LEVEL = 3  # of zstd; from 1 to 3 a fifth of the size, from 3 to 9 three times the time for a twentieth
SOME, REPEATING = 2048, 0.6  # of so many values, the share that may differ where a dictionary pays


class WideFile:
    """One Parquet file: `timestamp` (float64, s since 1970) and columns of float32; NaN is written as null. It appears whole or not at all.

    columns: name -> unit, which is kept in the field's metadata. Every `write` makes a row group.
    """

    def __init__(self, path: Path, columns: Mapping[str, str], about: Mapping[str, str]) -> None:
        self.path, self.rows = path, 0
        self._partial = path.with_name(f".{path.name}.partial")
        fields = [pa.field("timestamp", pa.float64(), nullable=False, metadata={"unit": "s"})]
        fields += [pa.field(name, pa.float32(), metadata={"unit": unit} if unit else None) for name, unit in columns.items()]
        self._schema = pa.schema(fields, metadata=dict(about))
        self._writer: Any = None

    def __enter__(self) -> WideFile:
        with self._named():
            self._partial.touch()
        return self

    def write(self, timestamp_s: NDArray[np.float64], values: Sequence[NDArray[np.float32]]) -> None:
        """timestamp_s: (m,); values: of each column (m,)."""
        if not len(timestamp_s):
            return
        if self._writer is None:
            self._open(values)
        arrays = [pa.array(timestamp_s), *(pa.array(np.ascontiguousarray(column), from_pandas=True) for column in values)]
        with self._named():
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema), row_group_size=len(timestamp_s))
        self.rows += len(timestamp_s)

    def _open(self, values: Sequence[NDArray[np.float32]]) -> None:
        """values: of the first group, by which each column's encoding is chosen."""
        repeating = []
        for name, column in zip(self._schema.names[1:], values, strict=bool(values)):
            some = column[:: max(1, len(column) // SOME)]
            if len(np.unique(some)) < REPEATING * len(some):
                repeating.append(name)
        self._writer = pq.ParquetWriter(
            self._partial, self._schema, compression="zstd", compression_level=LEVEL, write_statistics=False, use_dictionary=repeating
        )

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DatasetError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            with self._named():
                if self._writer is None and error is None:
                    self._open(())
                if self._writer is not None:
                    self._writer.close()
                if error is None:
                    self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Of the file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
