"""Batches as Arrow tables: `time`, `vehicle`, `model`, which batch a row came in, and a float64 column for each signal.

The batch is `stream_CLASS` and `sequence_CLASS`, one pair for each consent class, so that rows of one tick can be laid over one another.
A signal's column has unit, words, subsystem, purpose and class as its metadata; null: no valid value.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cloud.events import FindingEvent, GapEvent, StatusEvent, TickRows, work_out_values
from dbc.catalogue import Catalogue

if TYPE_CHECKING:
    from dbc.schema import Schema

__all__ = ["BATCH", "KEYS", "ROW", "Layout", "event_table", "signal_fields"]

ROW = {"cansight": "row"}  # metadata of the columns that are no signals
BATCH = {"cansight": "batch"}
KEYS = "cansight.keys"  # of a fresh file: [day, vehicle] of its rows
CHUNK_BYTES = 16 << 20  # raw values that are made into columns at once: bounds the memory
AT_ONCE = 64  # batches whose values are turned into columns together: what that takes stays in the processor's caches
TIME = pa.field("time", pa.timestamp("ms", "UTC"), nullable=False, metadata=ROW)
TEXT = pa.dictionary(pa.int32(), pa.string())


def signal_fields(schema: "Schema", catalogue: Catalogue | None) -> list[pa.Field]:
    """Every signal's column, in the schema's order."""
    catalogue = catalogue or Catalogue.empty()
    fields = []
    for name, unit in zip(schema.names, schema.units, strict=True):
        entry = catalogue.entry(name)
        told = {"unit": unit, "privacy": catalogue.consent_class(name)}
        if entry is not None:
            told |= {"en": entry.words.en, "zh": entry.words.zh, "subsystem": entry.subsystem, "purpose": entry.purpose}
        fields.append(pa.field(name, pa.float64(), metadata=told))
    return fields


class Layout:
    """What batches of one vehicle model, schema, choice of signals and consent class have in common."""

    def __init__(self, batch: TickRows, fields: Sequence[pa.Field]) -> None:
        self._columns = batch.columns
        self._model = batch.model
        self.texts = ["vehicle", "model", f"stream_{batch.consent_class}"]  # columns of few values
        told = {"cansight.lake": "1"}
        self.arrow = pa.schema(
            [
                TIME,
                pa.field("vehicle", TEXT, nullable=False, metadata=ROW),
                pa.field("model", TEXT, nullable=False, metadata=ROW),
                pa.field(f"stream_{batch.consent_class}", TEXT, metadata=BATCH),
                pa.field(f"sequence_{batch.consent_class}", pa.uint32(), metadata=BATCH),
                *(fields[column] for column in batch.columns.tolist()),
            ],
            metadata=told,
        )

    def tables(self, batches: Sequence[TickRows]) -> Iterator[pa.Table]:
        """Their rows, by vehicle, a bounded number at a time."""
        ordered = sorted(batches, key=lambda batch: batch.vehicle)  # stable: in the order of their arrival
        chunk: list[TickRows] = []
        size = 0
        for batch in ordered:
            chunk.append(batch)
            size += batch.raw.nbytes
            if size >= CHUNK_BYTES:
                yield self._table(chunk)
                chunk, size = [], 0
        if chunk:
            yield self._table(chunk)

    def _table(self, batches: Sequence[TickRows]) -> pa.Table:
        work_out_values(batches)  # of those whose values no other sink has worked out
        ticks = np.array([len(batch.tick_ms) for batch in batches])
        rows = int(ticks.sum())
        by_signal = np.empty((len(self._columns), rows))
        missing = np.empty((len(self._columns), rows), np.bool_)
        for first in range(0, len(batches), AT_ONCE):
            some = batches[first : first + AT_ONCE]
            values = np.concatenate([batch.value for batch in some])
            at = int(ticks[:first].sum())
            by_signal[:, at : at + len(values)], missing[:, at : at + len(values)] = values.T, ~np.isfinite(values.T)
        lacking: NDArray[np.bool_] = np.any(missing, axis=1)
        columns: list[pa.Array] = [
            pa.array(np.concatenate([batch.tick_ms for batch in batches])).cast(TIME.type),
            _repeated([batch.vehicle for batch in batches], ticks),
            _repeated([self._model] * len(batches), ticks),
            _repeated([batch.stream.hex() for batch in batches], ticks),
            pa.array(np.repeat(np.array([batch.sequence for batch in batches], np.uint32), ticks)),
        ]
        columns += [pa.array(by_signal[at], mask=missing[at] if lacking[at] else None) for at in range(len(by_signal))]
        return pa.Table.from_arrays(columns, schema=self.arrow)


def event_table(events: Sequence[FindingEvent | GapEvent | StatusEvent]) -> pa.Table:
    """Findings, gaps and status messages: when, which batch, and the message as JSON."""
    rows: dict[str, list[Any]] = {name: [] for name in EVENT_SCHEMA.names}
    for event in events:
        if isinstance(event, FindingEvent):
            kind, ms, body = "finding", event.finding.tick_ms, _json(event.finding)
        elif isinstance(event, GapEvent):
            kind, ms, body = "gap", event.received_ms, _json(event.gap)
        else:
            kind, ms, body = "status", event.tick_ms, _json(event.status)
        row = (ms, event.vehicle, event.model, kind, event.received_ms, event.replay, event.stream.hex(), event.sequence, body)
        for name, value in zip(EVENT_SCHEMA.names, row, strict=True):
            rows[name].append(value)
    return pa.table(rows, schema=EVENT_SCHEMA)


EVENT_SCHEMA = pa.schema(
    [
        TIME,
        pa.field("vehicle", pa.string(), nullable=False, metadata=ROW),
        pa.field("model", pa.string(), nullable=False, metadata=ROW),
        pa.field("kind", pa.string(), nullable=False, metadata=ROW),
        pa.field("received", pa.timestamp("ms", "UTC"), nullable=False, metadata=ROW),
        pa.field("replay", pa.bool_(), nullable=False, metadata=ROW),
        pa.field("stream", pa.string(), nullable=False, metadata=BATCH),
        pa.field("sequence", pa.uint32(), nullable=False, metadata=BATCH),
        pa.field("body", pa.string(), nullable=False, metadata=ROW),
    ],
    metadata={"cansight.lake": "1"},
)


def _repeated(texts: Sequence[str], times: "np.ndarray[Any, Any]") -> pa.DictionaryArray:
    distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    numbers = np.repeat(np.array([distinct[text] for text in texts], np.int32), times)
    return pa.DictionaryArray.from_arrays(pa.array(numbers), pa.array(list(distinct), pa.string()))


def _json(message: msgspec.Struct) -> str:
    """As MessagePack has it; ids in hexadecimal."""
    fields = msgspec.to_builtins(message, builtin_types=(bytes,))
    return msgspec.json.encode({name: value.hex() if isinstance(value, bytes) else value for name, value in fields.items()}).decode()
