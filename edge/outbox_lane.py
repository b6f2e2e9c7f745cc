"""One lane of the outbox on the flash: its segment log, what of it is in memory, and what has its receipt.

    first                cursor              loaded                                  next
    │ freed when the gap  │ window: in memory │ on the flash alone, read by and by     │
    │ of it is durable    │ oldest first      │   tail: the newest, in memory as well  │

`window` is what the reader has taken from the flash, in order. `tail` is what was recorded since and is offered at once, because live
batches do not wait behind a backlog; of those, the ones that have their receipt are `done`, and the reader steps over them.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from edge.outbox import Batch, Lane
from edge.outbox_record import Ranges, decode_record
from edge.streams import Record
from wire.segment_log import SegmentLog


@dataclass
class LaneLog:
    """How far one lane has come. Positions are the segment log's."""

    lane: Lane
    log: SegmentLog
    limit_bytes: int
    loaded: int = 0  # records before this position are in the window, or have their receipt
    durable: int = 0  # records before this position are on the flash
    freed: int = 0  # records before this position are given up, and deleted when their gap is durable
    begun: int = 0  # records from this position on were written by this run
    window: OrderedDict[int, Batch] = field(default_factory=OrderedDict)
    tail: OrderedDict[int, Batch] = field(default_factory=OrderedDict)
    done: Ranges = field(default_factory=Ranges)  # positions from `loaded` on that have their receipt
    staged: list[tuple[Batch, Record]] = field(default_factory=list)  # appended, not durable yet
    staged_from: int = 0  # the number of the first of them, among the records of both lanes
    last_sequence: dict[bytes, int] = field(default_factory=dict)  # of each stream, among the records before `loaded`
    after_damage: set[bytes] = field(default_factory=set)  # streams that may miss sequences before the next one loaded

    @property
    def cursor(self) -> int:
        """Everything before this position has its receipt."""
        return next(iter(self.window), self.loaded)

    @property
    def pending(self) -> int:
        """Batches without a receipt, those that are not durable yet included."""
        return self.log.next - self.loaded + len(self.window) - len(self.done)

    def recover(self, cursor: int, done: list[tuple[int, int]]) -> None:
        """Everything from the cursor on is sent (again), but what is known to be done."""
        self.loaded = self.freed = cursor if self.log.first <= cursor <= self.log.next else self.log.first
        self.durable = self.begun = self.log.next
        self.done = Ranges((first, last) for first, last in done if first <= last < self.durable)
        self.done.drop_before(self.loaded)

    def begin(self, batch: Batch) -> None:
        """Into the window: the batch at `loaded`."""
        self.window[batch.position] = batch
        self.last_sequence[batch.stream] = batch.sequence
        self.advance(batch.position + 1)

    def advance(self, position: int) -> None:
        self.loaded = position
        if self.done.runs and self.done.runs[0][0] < position:
            self.done.drop_before(position)

    def answered(self, batch: Batch) -> None:
        """The cloud has it."""
        if self.window.pop(batch.position, None) is None and self.tail.pop(batch.position, None) is not None:
            self.done.add(batch.position)

    def read(self, position: int) -> Iterator[tuple[int, Batch | None]]:
        """Durable records from `position` on; None for one that is none."""
        for found, data in self.log.read(position):
            if found >= self.durable:
                return
            yield found, decode_record(data, found, self.lane)

    def oldest(self) -> tuple[int, list[Batch]] | None:
        """The oldest segment that is not given up yet: the position behind it and its batches without a receipt.

        None when there is only the one that is being written.
        """
        parts = self.log.segments
        begin, end = next(
            ((first, following) for (first, *_), (following, *_) in pairwise(parts) if following > self.freed),
            (0, None),
        )
        if end is None:
            return None
        held = []
        for position, batch in self.read(max(begin, self.cursor)):
            if position >= end:
                break
            if batch is not None and position not in self.done and (position >= self.loaded or position in self.window):
                held.append(self.window.get(position) or self.tail.get(position) or batch)
        return end, held

    def give_up(self, before: int) -> None:
        """Records before this position are not sent any more."""
        self.freed = before
        for batches in (self.window, self.tail):
            for position in [position for position in batches if position < before]:
                del batches[position]
        if before > self.loaded:
            self.advance(before)

    @property
    def bytes(self) -> int:
        """Of the segments that are not given up."""
        if self.freed <= self.log.first:  # asked for ten times a second, and a full outbox has a thousand segments
            return self.log.bytes
        parts = self.log.segments
        gone = sum(size for (_, size, _), (following, *_) in pairwise(parts) if following <= self.freed)
        return self.log.bytes - gone
