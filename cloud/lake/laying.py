"""Rows laid over one another: one row for each time, whatever batches, classes and files its values came in, and however often."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute

from cloud.lake.rows import BATCH, ROW

__all__ = ["laid_over", "lean", "times_of"]


def times_of(table: pa.Table) -> NDArray[np.int64]:
    """(n,) int64 UTC ms."""
    times: NDArray[np.int64] = table.column("time").cast(pa.int64()).to_numpy()
    return times


def laid_over(tables: Sequence[pa.Table]) -> pa.Table:
    """Rows of one vehicle as one table, ordered by time. Of values for one time the last table's stands; a null never hides a value.

    Columns: time, model, then each batch column, then each signal of any table.
    """
    fields = _fields(tables)
    schema = pa.schema(fields, metadata={"cansight.lake": "1"})
    times = [times_of(table) for table in tables]
    if len(tables) == 1 and (np.diff(times[0]) > 0).all() and tables[0].column_names == schema.names:
        return tables[0].cast(schema)
    axis, place = np.unique(np.concatenate(times), return_inverse=True)
    ends = np.cumsum([len(one) for one in times])
    places = np.split(place, ends[:-1])
    columns = [pa.array(axis).cast(fields[0].type)]
    columns += [_column(field, tables, places, len(axis)) for field in fields[1:]]
    return pa.Table.from_arrays(columns, schema=schema)


def lean(table: pa.Table) -> pa.Table:
    """Without the columns that say nothing of a vehicle's own file: its vehicle, which the folder names."""
    return table.drop_columns(["vehicle"]) if "vehicle" in table.column_names else table


def _fields(tables: Sequence[pa.Table]) -> list[pa.Field]:
    found: dict[str, pa.Field] = {}
    for table in tables:
        found |= {field.name: field for field in table.schema}
    found.pop("vehicle", None)

    def rank(field: pa.Field) -> int:
        kind = (field.metadata or {}).get(b"cansight")
        return 0 if field.name == "time" else 1 if kind == ROW["cansight"].encode() else 2 if kind == BATCH["cansight"].encode() else 3

    return sorted(found.values(), key=rank)


def _column(field: pa.Field, tables: Sequence[pa.Table], places: Sequence[NDArray[np.intp]], rows: int) -> pa.Array:
    texts: dict[str, int] = {}
    filled: NDArray[Any] = np.full(rows, np.nan)
    for table, place in zip(tables, places, strict=True):
        if field.name not in table.column_names:
            continue
        column = table.column(field.name).combine_chunks()
        values = _codes(column, texts) if pa.types.is_dictionary(field.type) else column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        there = ~np.isnan(values)
        filled[place[there]] = values[there]
    missing = np.isnan(filled)
    if pa.types.is_dictionary(field.type):
        numbers = pa.array(np.where(missing, 0, filled).astype(np.int32), mask=missing)
        return pa.DictionaryArray.from_arrays(numbers, pa.array(list(texts), pa.string()))
    if field.type != pa.float64():
        return pa.array(np.where(missing, 0, filled).astype(np.int64), mask=missing).cast(field.type)
    return pa.array(filled, mask=missing)


def _codes(column: Any, texts: dict[str, int]) -> NDArray[np.float64]:
    """(n,) the number of each text, NaN = none; `texts` grows."""
    if not pa.types.is_dictionary(column.type):
        column = compute.dictionary_encode(column)
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    codes = np.array([texts.setdefault(text, len(texts)) for text in column.dictionary.to_pylist()] or [0], np.float64)
    numbers = column.indices.cast(pa.float64()).to_numpy(zero_copy_only=False)
    there = ~np.isnan(numbers)
    found = np.full(len(numbers), np.nan)
    found[there] = codes[numbers[there].astype(np.intp)]
    return found
