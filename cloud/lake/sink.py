"""The lake's sink: batches are kept in memory for a minute or two, then written as files of all vehicles; compaction sorts them by vehicle.

What it has taken is durable when `flush` returns, so its cursor stays behind until then (`SAVE_EVERY_S`): after a kill the messages since
come again, and the rows that were in a file already are there twice until they are compacted. Reading lays them over one another.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import parquet

from cloud.events import MOST_LAYOUTS, Event, FindingEvent, GapEvent, StatusEvent, TickRows
from cloud.lake.folders import DAY_MS, EVENTS, REPLAYS, TICKS, Folders, day_of, new_name, write, writing
from cloud.lake.rows import KEYS, Layout, event_table, signal_fields

if TYPE_CHECKING:
    from dbc.catalogue import Catalogue

__all__ = ["SAVE_EVERY_S", "LakeSink"]

SAVE_EVERY_S = 120.0
BUFFER_BYTES = 32 << 20  # of raw values and reasons; at 3,000 vehicles of 200 signals six seconds
EVENTS_KEPT = 10_000

log = logging.getLogger(__name__)

_Key = tuple[str, bytes, bytes, str, bool]


class LakeSink:
    """`catalogues` by the vehicle model's name. One thread."""

    name = "lake"

    def __init__(self, root: Path, catalogues: Mapping[str, "Catalogue | None"], buffer_bytes: int = BUFFER_BYTES) -> None:
        self.folders = Folders(root)
        self._catalogues = catalogues
        self._most = buffer_bytes
        self._batches: dict[_Key, list[TickRows]] = defaultdict(list)
        self._events: list[FindingEvent | GapEvent | StatusEvent] = []
        self._bytes = 0
        self._layouts: dict[_Key, Layout] = {}
        self._described: set[tuple[str, bytes]] = set()

    def take(self, events: Sequence[Event]) -> None:
        """Raises OSError while the disk does not take what is kept already; then nothing of `events` is kept."""
        if self._bytes >= self._most or len(self._events) >= EVENTS_KEPT:
            self.flush()
        for event in events:
            if not isinstance(event, TickRows):
                self._events.append(event)
            elif len(event.tick_ms):
                self._batches[event.model, event.schema.schema_id, event.columns.tobytes(), event.consent_class, event.replay].append(event)
                self._bytes += event.raw.nbytes + event.reason.nbytes

    def flush(self) -> None:
        """Everything that was taken is in files, durably. Raises OSError; what was not written is kept."""
        for key, batches in list(self._batches.items()):
            self._write(key, batches)
            del self._batches[key]
            self._bytes -= sum(batch.raw.nbytes + batch.reason.nbytes for batch in batches)
        if self._events:
            write(self.folders.fresh, event_table(self._events), f"{EVENTS}-{new_name()}", level=1)
            self._events = []

    def _write(self, key: _Key, batches: list[TickRows]) -> None:
        layout = self._layouts.get(key)
        if layout is None:
            if len(self._layouts) >= MOST_LAYOUTS:
                self._layouts.clear()
            layout = self._layouts.setdefault(key, self._layout(batches[0]))
        name = f"{REPLAYS if key[-1] else TICKS}-{new_name()}"
        # what is written here is read once or twice: signals' statistics and dictionaries, and zstd, would cost more than they save
        with (
            writing(self.folders.fresh, name) as path,
            parquet.ParquetWriter(
                path, layout.arrow, compression="lz4", use_dictionary=layout.texts, write_statistics=["time", "vehicle"]
            ) as writer,
        ):
            for table in layout.tables(batches):
                writer.write_table(table)
            writer.add_key_value_metadata({KEYS: json.dumps(_keys(batches))})

    def _layout(self, batch: TickRows) -> Layout:
        fields = signal_fields(batch.schema, self._catalogues.get(batch.model))
        if (batch.model, batch.schema.schema_id) not in self._described:
            self._describe(batch, fields)
            self._described.add((batch.model, batch.schema.schema_id))
        return Layout(batch, fields)

    def _describe(self, batch: TickRows, fields: list[pa.Field]) -> None:
        """The vehicle model's signals as a table, for those who read the lake."""
        told = [{key.decode(): value.decode() for key, value in (field.metadata or {}).items()} for field in fields]
        rows = {name: [one.get(name, "") for one in told] for name in ("unit", "en", "zh", "subsystem", "purpose", "privacy")}
        table = pa.table({"model": [batch.model] * len(fields), "signal": [field.name for field in fields], **rows})
        write(self.folders.columns, table, f"{batch.model}-{batch.schema.schema_id.hex()}")


def _keys(batches: Sequence[TickRows]) -> list[tuple[str, str]]:
    """(day, vehicle) of the file's rows: what else is read for these is laid over it."""
    found: dict[str, set[int]] = defaultdict(set)
    for batch in batches:
        days = found[batch.vehicle]
        days.add(int(batch.tick_ms[0]) // DAY_MS)  # they ascend
        days.add(int(batch.tick_ms[-1]) // DAY_MS)
    names = {day: day_of(day * DAY_MS) for day in set().union(*found.values())}
    return [(names[day], vehicle) for vehicle, days in found.items() for day in sorted(days)]
