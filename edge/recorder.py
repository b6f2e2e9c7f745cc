"""Snapshots to batches: one stream for each consent class, N ticks in a batch, sealed before they leave memory."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dbc.sampler import Snapshot
from dbc.schema import Schema
from dbc.validity import Reason
from edge.identity import Identity
from edge.streams import Journey, Record, Stream
from wire.messages import FindingMessage, Gap, Rows, StatusMessage

IDENTITY = "identity"  # who the owner or the vehicle is (VIN): never recorded
TECHNICAL = "technical"  # also carries findings, gaps and status
ROTATION_S = 3600.0  # a content key lives an hour
PATIENCE_S = 1.0  # when frames stop, a batch that is not full waits this much longer than it takes to fill one

NS_PER_MS = 1_000_000


@dataclass
class Samples:
    """Signal-samples recorded so far: valid values; changed: other than at the tick before."""

    recorded: int = 0
    changed: int = 0


@dataclass
class _Class:
    """One consent class: its columns, its stream, and the ticks that wait for a full batch."""

    columns: NDArray[np.intp]
    stream: Stream | None = None
    tick_ms: list[int] = field(default_factory=list)
    raw: list[NDArray[np.int64]] = field(default_factory=list)
    reason: list[NDArray[np.uint8]] = field(default_factory=list)
    waiting_since_s: float = 0.0

    def take(self) -> Rows:
        rows = Rows(np.array(self.tick_ms, dtype=np.int64), np.stack(self.raw), np.stack(self.reason))
        self.tick_ms, self.raw, self.reason = [], [], []
        return rows


class Recorder:
    """Takes snapshots and messages and gives sealed records, an announcement before its stream's first. `now_s` is monotonic."""

    def __init__(self, schema: Schema, consent_class: Callable[[str], str], identity: Identity, journey: Journey, batch_ticks: int) -> None:
        self.samples = Samples()
        self._n_signals = len(schema)
        self._identity = identity
        self._journey = journey
        self._batch_ticks = batch_ticks
        classes = np.array([consent_class(name) for name in schema.names])
        self._classes = {name: _Class(np.flatnonzero(classes == name)) for name in sorted({TECHNICAL, *classes.tolist()} - {IDENTITY})}
        self._columns = np.flatnonzero(classes != IDENTITY)
        self._previous: Snapshot | None = None
        self._before_stream: list[FindingMessage | Gap | StatusMessage] = []

    def snapshot(self, snapshot: Snapshot, now_s: float) -> list[Record]:
        """Record one tick."""
        self._count(snapshot)
        records: list[Record] = []
        for consent_class, kept in self._classes.items():
            raw, reason = snapshot.raw[kept.columns], snapshot.reason[kept.columns]
            tick_ms = snapshot.tick_ns // NS_PER_MS
            if kept.stream is None or now_s - kept.stream.opened_s >= ROTATION_S:
                records += self._flush(kept)
                baseline = Rows(np.array([tick_ms], dtype=np.int64), raw[np.newaxis], reason[np.newaxis])
                kept.stream, announcement = Stream.open(
                    self._identity, self._journey, consent_class, kept.columns, self._n_signals, baseline, now_s
                )
                records.append(announcement)
            if not len(kept.columns):
                continue
            if kept.tick_ms and tick_ms <= kept.tick_ms[-1]:  # the frames' clock was set back; ticks increase within a batch
                records += self._flush(kept)
            if not kept.tick_ms:
                kept.waiting_since_s = now_s
            kept.tick_ms.append(tick_ms)
            kept.raw.append(raw)
            kept.reason.append(reason)
            if len(kept.tick_ms) >= self._batch_ticks:
                records += self._flush(kept)
        waiting, self._before_stream = self._before_stream, []
        for message in waiting:
            records += self.message(message)
        return records

    def message(self, message: FindingMessage | Gap | StatusMessage) -> list[Record]:
        """Record what is said beside the rows; before the first snapshot it waits for the stream."""
        stream = self._classes[TECHNICAL].stream
        if stream is None:
            self._before_stream.append(message)
            return []
        return [stream.message(message)]

    def flush(self, now_s: float | None = None) -> list[Record]:
        """Seal what waits for a full batch: all of it, or with `now_s` what has waited too long."""
        records: list[Record] = []
        for kept in self._classes.values():
            if now_s is None or (kept.tick_ms and now_s - kept.waiting_since_s >= self._batch_ticks + PATIENCE_S):
                records += self._flush(kept)
        return records

    @staticmethod
    def _flush(kept: _Class) -> list[Record]:
        if kept.stream is None or not kept.tick_ms:
            return []
        return [kept.stream.rows(kept.take())]

    def _count(self, snapshot: Snapshot) -> None:
        raw, valid = snapshot.raw[self._columns], snapshot.reason[self._columns] == Reason.VALID
        self.samples.recorded += int(np.count_nonzero(valid))
        if self._previous is not None:
            before = self._previous
            valid &= (raw != before.raw[self._columns]) | (before.reason[self._columns] != Reason.VALID)
        self.samples.changed += int(np.count_nonzero(valid))
        self._previous = snapshot
