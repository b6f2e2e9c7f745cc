"""Snapshots to batches: one stream for each consent class, N ticks in a batch, sealed before they leave memory.

A stream's announcement carries the row that its batches are relative to and, once some rows are known, the widths to expect of their
deltas. The first row of a drive is the worst of all to be relative to (signals are still missing), so the first streams are short.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from dbc.sampler import Snapshot
from dbc.schema import Schema
from dbc.validity import Reason
from edge.finding_limit import FindingLimit
from edge.identity import Identity
from edge.streams import Journey, Record, Stream
from wire.codec import with_expected_widths
from wire.messages import Clock, FindingMessage, Gap, Rows, StatusMessage

IDENTITY = "identity"  # who the owner or the vehicle is (VIN): never recorded
TECHNICAL = "technical"  # also carries findings, gaps and status
ROTATION_S = 3600.0  # a content key lives an hour
SLEEPING_S = 60.0  # so much later a message ends a stream: where ticks come, one of them has
# After so many ticks of a run a stream ends early: with expected widths rows take a third less, and an announcement takes what a
# minute of rows does. Twice, because a car that idles for the first half minute says little about the drive.
SETTLING_TICKS = (30, 300)
HISTORY_TICKS = 60  # rows that tell what widths to expect
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
    ticks: int = 0  # of this run
    settled: int = 0  # how many of SETTLING_TICKS are behind us
    history: deque[tuple[int, NDArray[np.int64], NDArray[np.uint8]]] = field(default_factory=lambda: deque(maxlen=HISTORY_TICKS))

    def add(self, tick_ms: int, raw: NDArray[np.int64], reason: NDArray[np.uint8]) -> None:
        self.tick_ms.append(tick_ms)
        self.raw.append(raw)
        self.reason.append(reason)
        self.history.append((tick_ms, raw, reason))
        self.ticks += 1

    def needs_stream(self, now_s: float) -> bool:
        """Whether this tick begins a new stream."""
        if self.stream is None or now_s - self.stream.opened_s >= ROTATION_S:
            return True
        if not len(self.columns):
            return False
        if not len(self.stream.columns):  # it was opened for a message alone
            return True
        return self.settled < len(SETTLING_TICKS) and self.ticks >= SETTLING_TICKS[self.settled] and not self.tick_ms

    def baseline(self, tick_ms: int, raw: NDArray[np.int64], reason: NDArray[np.uint8]) -> Rows | None:
        """This tick of raw (n,) and reason (n,), with what the last minute lets expect; None without columns."""
        if not len(self.columns):
            return None
        tick = Rows(np.array([tick_ms], dtype=np.int64), raw[np.newaxis], reason[np.newaxis])
        if not self.history:
            return tick
        times, raws, reasons = zip(*self.history, strict=True)
        return with_expected_widths(tick, Rows(np.array(times, dtype=np.int64), np.stack(raws), np.stack(reasons)))

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
        self._limit = FindingLimit()

    @property
    def waiting(self) -> int:
        """The newest ticks that wait for a full batch."""
        return max(len(kept.tick_ms) for kept in self._classes.values())

    def snapshot(self, snapshot: Snapshot, now_s: float) -> list[Record]:
        """Record one tick."""
        self._count(snapshot)
        records: list[Record] = []
        for consent_class, kept in self._classes.items():
            raw, reason = snapshot.raw[kept.columns], snapshot.reason[kept.columns]
            tick_ms = snapshot.tick_ns // NS_PER_MS
            if kept.needs_stream(now_s):
                records += self._flush(kept)
                kept.settled += kept.settled < len(SETTLING_TICKS) and kept.ticks >= SETTLING_TICKS[kept.settled]
                records.append(self._open(consent_class, kept, kept.columns, kept.baseline(tick_ms, raw, reason), now_s))
            if not len(kept.columns):
                continue
            if kept.tick_ms and tick_ms <= kept.tick_ms[-1]:  # the frames' clock was set back; ticks increase within a batch
                records += self._flush(kept)
            if not kept.tick_ms:
                kept.waiting_since_s = now_s
            kept.add(tick_ms, raw, reason)
            if len(kept.tick_ms) >= self._batch_ticks:
                records += self._flush(kept)
        for finding in self._limit.due(snapshot.tick_ns // NS_PER_MS):
            records += self._say(finding, now_s)
        return records

    def message(self, message: FindingMessage | Gap | StatusMessage, now_s: float) -> list[Record]:
        """Record what is said beside the rows; before the first snapshot in a stream of its own, for a crash must not forget it.

        A finding over its detector's rate is held back, see `FindingLimit`.
        """
        messages = self._limit.admit(message) if isinstance(message, FindingMessage) else [message]
        return [record for one in messages for record in self._say(one, now_s)]

    def packs(self, pack_ids: tuple[str, ...]) -> None:
        """Other packs run: streams that begin from here on say so."""
        if pack_ids != self._journey.pack_ids:
            self._journey = replace(self._journey, pack_ids=pack_ids)

    def place(self, clock: Clock, now_s: float) -> list[Record]:
        """UTC is known, or known better: from here on streams are announced with this clock.

        What was announced without one is placed by the message that says it. What was announced with another stays where it is, and its
        streams end.
        """
        known = self._journey.clock is not None
        self._journey = replace(self._journey, clock=clock)
        if not known:
            return self._say(clock, now_s)
        records: list[Record] = []
        for kept in self._classes.values():
            records += self._flush(kept)
            kept.stream = None
        return records

    def _say(self, message: Clock | FindingMessage | Gap | StatusMessage, now_s: float) -> list[Record]:
        kept = self._classes[TECHNICAL]
        records: list[Record] = []
        if kept.stream is None or now_s - kept.stream.opened_s >= ROTATION_S + SLEEPING_S:
            records += self._flush(kept)
            records.append(self._open(TECHNICAL, kept, kept.columns[:0], None, now_s))
        assert kept.stream is not None
        return [*records, kept.stream.message(message)]

    def _open(self, consent_class: str, kept: _Class, columns: NDArray[np.intp], baseline: Rows | None, now_s: float) -> Record:
        kept.stream, announcement = Stream.open(self._identity, self._journey, consent_class, columns, self._n_signals, baseline, now_s)
        return announcement

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
