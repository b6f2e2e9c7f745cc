"""Tables on disk: Parquet, CSV, MF4. A file appears whole, under its name, or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from dbc.errors import TableError
from dbc.schema import Schema
from dbc.tables import LongNames, LongRows, WideRows, join_long, join_wide

__all__ = ["SUFFIXES", "TableFile", "open_table"]

ROW_GROUP = 1_000_000  # rows of a long table that are written together
WIDE_BYTES = 32 * 2**20  # of a wide table
SUFFIXES = (".parquet", ".csv", ".mf4")


class Sink(Protocol):
    """Writes rows, given in parts that follow one another; none of them is empty."""

    def write(self, parts: Any) -> None: ...
    def close(self) -> None: ...


class TableFile:
    """Collects rows into large pieces and writes them to a temporary file, which gets its name when all went well."""

    def __init__(self, path: Path, schema: Schema, wide: bool) -> None:
        self.path, self._schema, self._wide = path, schema, wide
        self.rows = 0
        self._parts: list[Any] = []
        self._waiting = 0
        self._limit = max(1, WIDE_BYTES // (8 * (len(schema) + 1))) if wide else ROW_GROUP
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
        self._sink: Sink | None = None

    def __enter__(self) -> TableFile:
        with _named(self.path):
            self._temporary.touch()  # a folder that cannot be written to is found out before the log is read
        self._sink = _sink(self.path.suffix.lower(), self._temporary, self._schema, self._wide)
        return self

    def write(self, rows: LongRows | WideRows) -> None:
        if not len(rows):
            return
        self._parts.append(rows)
        self._waiting += len(rows)
        if self._waiting >= self._limit:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        assert self._sink is not None
        if self._parts:
            with _named(self.path):
                self._sink.write(self._parts)
            self.rows += self._waiting
            self._parts, self._waiting = [], 0

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._sink is not None
        try:
            with _named(self.path):
                if error is None:
                    self.flush()
                self._sink.close()
                if error is None:
                    os.replace(self._temporary, self.path)  # noqa: PTH105
        finally:
            self._temporary.unlink(missing_ok=True)


def open_table(path: Path, schema: Schema, *, wide: bool) -> TableFile:
    """A table file of the kind that its suffix names. Raises TableError for another suffix, or where a package is missing."""
    if path.suffix.lower() not in SUFFIXES:
        raise TableError(f"{path}: is no kind of table that can be written; expected a name that ends in {', '.join(SUFFIXES)}")
    return TableFile(path, schema, wide)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TableError(f"{path}: cannot be written: {error.strerror or error}") from error


def _sink(suffix: str, path: Path, schema: Schema, wide: bool) -> Sink:
    kinds: dict[tuple[str, bool], Callable[[Path, Schema], Sink]] = {
        (".parquet", False): _LongParquet,
        (".parquet", True): _WideParquet,
        (".csv", False): _LongCsv,
        (".csv", True): _WideCsv,
    }
    try:
        if suffix == ".mf4":
            from dbc.table_mf4 import LongMf4, WideMf4

            return WideMf4(path, schema) if wide else LongMf4(path, schema)
        return kinds[suffix, wide](path, schema)
    except ModuleNotFoundError as error:
        raise TableError(f"a {suffix} table needs the {error.name} package: install cansight[log]") from error


def _arrow(pa: Any, kind: Any, values: Any, n: int | None = None) -> Any:
    """The NumPy array as an Arrow array, not copied. Not pa.array: that imports pandas, a quarter of a second, to see if it is a frame."""
    return pa.Array.from_buffers(kind, len(values) if n is None else n, [None, pa.py_buffer(values)])


def _strings(pa: Any, words: Sequence[str]) -> Any:
    encoded = [word.encode() for word in words]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), len(encoded), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))])


class _LongParquet:
    """Row groups of about a million rows; the words are dictionaries, so that a row costs a few bytes."""

    def __init__(self, path: Path, schema: Schema) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._pa, self._names = pa, LongNames(schema)
        self._messages, self._signals = _strings(pa, self._names.messages), _strings(pa, self._names.signals)
        word = pa.dictionary(pa.int32(), pa.string())
        self._schema = pa.schema(
            [
                pa.field("timestamp", pa.float64(), nullable=False),
                pa.field("channel", word, nullable=False),
                pa.field("message", word, nullable=False),
                pa.field("signal", word, nullable=False),
                pa.field("value", pa.float64(), nullable=False),
                pa.field("valid", pa.bool_(), nullable=False),
            ]
        )
        # Of the numbers only the words are worth a dictionary: looking up floats costs more than zstd saves by it.
        self._writer = pq.ParquetWriter(
            path,
            self._schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=["channel", "message", "signal"],
            write_statistics=["timestamp", "value"],
        )

    def table(self, parts: list[LongRows]) -> Any:
        """The parts as they are, each a batch of its own: what is not joined is not copied."""
        pa, names = self._pa, self._names
        channels = _strings(pa, parts[-1].channels)  # a reader's list of channels only grows: the last one holds for all parts

        def words(codes: Any, dictionary: Any) -> Any:
            return pa.DictionaryArray.from_arrays(_arrow(pa, pa.int32(), codes), dictionary, safe=False)

        batches = [
            pa.RecordBatch.from_arrays(
                [
                    _arrow(pa, pa.float64(), rows.timestamp),
                    words(rows.channel.astype(np.int32), channels),
                    words(names.message_code.take(rows.signal), self._messages),
                    words(names.signal_code.take(rows.signal), self._signals),
                    _arrow(pa, pa.float64(), rows.value),
                    _arrow(pa, pa.bool_(), np.packbits(rows.valid, bitorder="little"), len(rows)),
                ],
                schema=self._schema,
            )
            for rows in parts
        ]
        return pa.Table.from_batches(batches)

    def write(self, parts: list[LongRows]) -> None:
        self._writer.write_table(self.table(parts), row_group_size=2 * ROW_GROUP)

    def close(self) -> None:
        self._writer.close()


class _LongCsv(_LongParquet):
    def __init__(self, path: Path, schema: Schema) -> None:
        import pyarrow as pa
        import pyarrow.csv

        self._pa, self._names = pa, LongNames(schema)
        self._messages, self._signals = _strings(pa, self._names.messages), _strings(pa, self._names.signals)
        text = [(name, pa.string()) for name in ("channel", "message", "signal")]
        self._schema = pa.schema([("timestamp", pa.float64()), *text, ("value", pa.float64()), ("valid", pa.bool_())])
        self._writer = pa.csv.CSVWriter(path, self._schema, write_options=pa.csv.WriteOptions(quoting_style="needed"))

    def table(self, parts: list[LongRows]) -> Any:
        pa, names, rows = self._pa, self._names, join_long(parts)
        return pa.Table.from_arrays(
            [
                pa.array(rows.timestamp),
                _strings(pa, rows.channels).take(pa.array(rows.channel)),
                self._messages.take(pa.array(names.message_code.take(rows.signal))),
                self._signals.take(pa.array(names.signal_code.take(rows.signal))),
                pa.array(rows.value),
                pa.array(rows.valid),
            ],
            schema=self._schema,
        )

    def write(self, parts: list[LongRows]) -> None:
        self._writer.write_table(self.table(parts))


class _WideParquet:
    def __init__(self, path: Path, schema: Schema) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._pa = pa
        self._schema = _wide_schema(pa, schema)
        self._writer: Any = pq.ParquetWriter(path, self._schema, compression="zstd", compression_level=1)

    def write(self, parts: list[WideRows]) -> None:
        rows = join_wide(parts)
        columns = [self._pa.array(rows.timestamp), *(self._pa.array(column) for column in np.ascontiguousarray(rows.value.T))]
        self._writer.write_table(self._pa.Table.from_arrays(columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


class _WideCsv(_WideParquet):
    def __init__(self, path: Path, schema: Schema) -> None:
        import pyarrow as pa
        import pyarrow.csv

        self._pa = pa
        self._schema = _wide_schema(pa, schema)
        self._writer = pa.csv.CSVWriter(path, self._schema, write_options=pa.csv.WriteOptions(quoting_style="needed"))


def _wide_schema(pa: Any, schema: Schema) -> Any:
    return pa.schema([(name, pa.float64()) for name in ("timestamp", *schema.names)])
