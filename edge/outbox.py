"""The outbox's rules: which batch is sent when, and what ends the vehicle's custody of it. Pure: no clock, no socket, no file.

    put ─▶ fresh ─due─▶ in flight ─receipt with the right tag─▶ answered
                  ▲          │ no receipt in 5 s, or the broker says that nobody listens
                  └─ waiting ◀┘ 5 s doubling to 5 min, full jitter

A PUBACK ends nothing: a broker that is killed, or whose queue is full, loses what it has acknowledged. Only a receipt does.

Whose turn it is, is judged when a batch is sent: findings, then live rows, then the backlog, findings first. The backlog keeps to three
quarters of the places, to a number of bytes under way (what stands in a slow link's queue before a live batch) and to a rate.

While nothing at all is receipted (the aggregator is away), one batch at a time is sent as a probe, seconds apart: a backlog
is not played again and again to a broker that nobody listens to. Probes alternate between batches sent before and new ones, so that
batches that are never answered cannot block the others. A stream's announcement goes before any other batch of it, since the cloud cannot
answer for a batch whose key it lacks. What the cloud asks for is sent at once.
"""

import heapq
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from enum import IntEnum

from edge.bandwidth import TokenBucket
from wire.receipts import Status, tags_match

MAX_IN_FLIGHT = 16
MAX_RETRIES_IN_FLIGHT = 4  # while new batches are there: what is never answered must not take every place
MAX_BACKLOG_IN_FLIGHT = 12
MAX_BACKLOG_BYTES = 32 << 10  # under way at a time: 4 s of a link of 64 kbit/s
BACKLOG_BYTES_S = 128 << 10  # a week of driving in a quarter of an hour, and a fleet that comes back at once does not flood its cloud
BACKLOG_BURST_S = 0.25  # of that rate at a time: fewer wake-ups
RECEIPT_S = 5.0  # the landing log commits within 50 ms; this leaves a slow mobile network its time
BACK_OFF_S = 5.0
MAX_BACK_OFF_S = 300.0
PROBE_S = 8.0  # between two probes, at most: a cloud that is back is found, and live batches flow, within 10 s
REQUEST_S = 5.0  # a request for an announcement can be forged by the broker; it is honoured this often
SWEEP = 512  # entries beyond those held, after which the queues are cleared of what is gone

Key = tuple[bytes, int]  # stream, sequence


class Lane(IntEnum):
    """Where a batch lies in the outbox."""

    RESERVED = 0  # findings, gaps and announcements
    BULK = 1  # rows


class Turn(IntEnum):
    """In the order of sending."""

    FINDING = 0
    LIVE = 1
    BACKLOG_FINDING = 2
    BACKLOG = 3

    @property
    def is_backlog(self) -> bool:
        return self >= Turn.BACKLOG_FINDING


class _State(IntEnum):
    FRESH = 0
    IN_FLIGHT = 1
    WAITING = 2


@dataclass(slots=True, eq=False)
class Batch:
    """A sealed batch in the vehicle's custody. position: in its lane's log; -1 for an announcement (sequence 0).

    live_until_s: before that it goes before the backlog; -inf for what an earlier run, or an outage, has left on the flash.
    """

    stream: bytes
    sequence: int
    lane: Lane
    position: int
    data: bytes
    tags: Mapping[Status, bytes]  # what a receipt of that status must carry
    live_until_s: float = math.inf
    attempts: int = 0
    sent_s: float = -math.inf
    due_s: float = -math.inf
    answered: Status | None = None
    as_backlog: bool = False  # how it was sent
    state: _State = field(default=_State.FRESH)

    @property
    def key(self) -> Key:
        return self.stream, self.sequence

    def turn(self, now_s: float) -> Turn:
        if self.lane is Lane.RESERVED:
            return Turn.FINDING if now_s < self.live_until_s else Turn.BACKLOG_FINDING
        return Turn.LIVE if now_s < self.live_until_s else Turn.BACKLOG


_Waiting = tuple[float, int, Batch]  # due, order of pushing


class Outbox:
    """Holds the batches that may be sent now; what lies further back on the flash is the store's part.

    uniform: returns a random number in [0, its argument]. Times are seconds of any monotonic clock.
    """

    def __init__(self, uniform: Callable[[float], float]) -> None:
        self._uniform = uniform
        self._connected = False
        self._held: dict[Key, Batch] = {}  # everything that has no receipt yet
        self._fresh: dict[Turn, deque[Batch]] = {turn: deque() for turn in Turn}
        self._waiting: dict[Turn, list[_Waiting]] = {turn: [] for turn in Turn}
        self._in_flight: OrderedDict[Key, Batch] = OrderedDict()  # in the order of sending
        self._backlog_in_flight = 0
        self._backlog_bytes = 0
        self._backlog_s = -math.inf  # the backlog's rate lets nothing through before that
        self._announcements: dict[bytes, Batch] = {}
        self._requested_s: dict[bytes, float] = {}
        self._asked: deque[Batch] = deque()  # announcements that the cloud waits for
        self._pushes = 0
        self._unswept = 0  # entries since the queues were last cleared
        self._last_receipt_s = -math.inf
        self._silence = 0  # rounds of sending in a row that nobody answered
        self._silence_s = -math.inf
        self._quiet_until_s = -math.inf
        self._probe_fresh = False
        self._allowed: Set[Turn] = frozenset(Turn)
        self._answered: list[Batch] = []
        self.cap: TokenBucket | None = None
        self.forged = 0  # receipts whose tag was wrong

    @property
    def connected(self) -> bool:
        return self._connected

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def held(self) -> int:
        """Batches and announcements here without a receipt."""
        return len(self._held)

    def put(self, batch: Batch) -> None:
        """Take a durable batch over. A stream's announcement is put before its first batch, and is sent before it."""
        if batch.key in self._held:
            raise ValueError(f"stream {batch.stream.hex()} sequence {batch.sequence} is held already")
        if batch.sequence == 0:
            self._announcements[batch.stream] = batch
        self._held[batch.key] = batch
        self._sweep()
        self._fresh[batch.turn(-math.inf)].append(batch)

    def withdraw(self, batch: Batch) -> bool:
        """Let go of a batch without an end of custody: the store puts it again later. False while it is in flight, or not here."""
        if self._held.get(batch.key) is not batch or batch.state is _State.IN_FLIGHT:
            return False
        del self._held[batch.key]
        return True

    def allow(self, turns: Set[Turn]) -> None:
        """What may go over the link as it is now."""
        self._allowed = turns

    def due(self, now_s: float, most: int = MAX_IN_FLIGHT) -> list[Batch]:
        """The batches to send now, at most so many; they are in flight from here on."""
        if not self._connected:
            return []
        while self._in_flight and (oldest := next(iter(self._in_flight.values()))).sent_s + RECEIPT_S <= now_s:
            self._missed(oldest, now_s)
        self._age(now_s)
        chosen: list[Batch] = []
        while len(chosen) < most and (batch := self._choose(now_s)) is not None:
            self._send(batch, now_s)
            chosen.append(batch)
        return chosen

    def wake_s(self) -> float | None:
        """When `due` has something to do next, if nothing else happens; None: not before something else happens."""
        if not self._connected:
            return None
        if self._asked and len(self._in_flight) < MAX_IN_FLIGHT:
            return -math.inf
        times = []
        if self._in_flight:
            times.append(next(iter(self._in_flight.values())).sent_s + RECEIPT_S)
        if len(self._in_flight) < self._window:
            times += [time_s for time_s, _, _ in self._sources()]
        return min(times) if times else None

    def receipt(self, stream: bytes, sequence: int, status: Status, tag: bytes, now_s: float) -> Batch | None:
        """The cloud's word on one batch. Returns the batch whose custody it ended; None when it is forged, or not ours any more."""
        batch = self._held.get((stream, sequence))
        if batch is None:
            return None
        if not tags_match(batch.tags[status], tag):
            self.forged += 1
            return None
        self._release(batch)
        if batch.answered is None:  # an announcement that was asked for again is answered again
            batch.answered = status
            self._answered.append(batch)
        self._last_receipt_s = now_s
        if self._silence:
            self._forgive(now_s)
        self._trust()
        return batch

    def request(self, stream: bytes, now_s: float) -> bool:
        """The cloud lacks the announcement of `stream`: send it again, at most every REQUEST_S. Returns whether it will be sent."""
        batch = self._announcements.get(stream)
        if batch is None or now_s - self._requested_s.get(stream, -math.inf) < REQUEST_S:
            return False
        if batch.state is _State.FRESH and batch.key in self._held:  # it is about to go; what has its receipt from an earlier run is not
            return False
        self._requested_s[stream] = now_s
        self._held[batch.key] = batch  # even when it was receipted: the cloud may have been restored from a backup
        self._take_back(batch)
        self._wait(batch, now_s, now_s)
        self._asked.append(batch)
        return True

    def undelivered(self, key: Key, now_s: float) -> None:
        """The broker took the batch but says that it went to nobody (MQTT 5: 0x10), or refused it: as good as no receipt."""
        if (batch := self._in_flight.get(key)) is not None:
            self._missed(batch, now_s)

    def hold_back(self, key: Key, now_s: float) -> None:
        """This broker cannot take the batch. It says nothing about the others."""
        if (batch := self._in_flight.get(key)) is not None:
            self._take_back(batch)
            self._wait(batch, now_s + MAX_BACK_OFF_S, now_s)

    def connect(self) -> None:
        """The broker is there, and receipts can arrive."""
        self._connected = True
        self._trust()

    def disconnect(self, now_s: float) -> None:
        """The broker is away: what was in flight may be lost, so it is sent again when the broker is back."""
        self._connected = False
        for batch in list(self._in_flight.values()):
            self._take_back(batch)
            self._wait(batch, now_s, now_s)

    def forget(self, lane: Lane, before: int) -> set[Key]:
        """The store had to drop the lane's records before this position. Returns those of them that had no receipt."""
        dropped = [batch for batch in self._held.values() if batch.lane is lane and 0 <= batch.position < before]
        for batch in dropped:
            self._release(batch)
        return {batch.key for batch in dropped}

    def set_aside(self, stream: bytes) -> bool:
        """Let go of an announcement without a batch of its stream here: the store puts it again before the next. False: it is under way."""
        batch = self._announcements.get(stream)
        if batch is None or batch.key in self._in_flight:
            return False
        self._held.pop(batch.key, None)
        self.forget_stream(stream)
        return True

    def forget_stream(self, stream: bytes) -> None:
        """Nothing of this stream is left: its announcement is not needed any more."""
        if (batch := self._announcements.pop(stream, None)) is not None:
            self._release(batch)
        self._requested_s.pop(stream, None)

    def take_answered(self) -> list[Batch]:
        """The batches whose custody ended since the last call."""
        answered, self._answered = self._answered, []
        return answered

    @property
    def _window(self) -> int:
        return 1 if self._silence else MAX_IN_FLIGHT

    def _choose(self, now_s: float) -> Batch | None:
        while self._asked and len(self._in_flight) < MAX_IN_FLIGHT:
            asked = self._asked.popleft()
            if self._held.get(asked.key) is asked and asked.state is _State.WAITING:
                return asked
        if len(self._in_flight) >= self._window:
            return None
        ready = [(turn, retry) for time_s, turn, retry in self._sources() if time_s <= now_s]
        if not ready:
            return None
        turn, retry = ready[0]
        if self._silence and len({retry for _, retry in ready}) == 2:
            turn, retry = next(source for source in ready if source[1] is not self._probe_fresh)
            self._probe_fresh = not self._probe_fresh
        chosen = self._waiting[turn][0][2] if retry else self._fresh[turn][0]
        if (first := self._announcement_before(chosen)) is not None:
            return first
        if retry:
            heapq.heappop(self._waiting[turn])
        else:
            self._fresh[turn].popleft()
        return chosen

    def _sources(self) -> Iterator[tuple[float, Turn, bool]]:
        """(from when, whose turn, whether it was sent before) of what could be sent with the places that are free, in order."""
        self._tidy()
        something_new = any(self._fresh.values())
        retries = sum(batch.attempts > 1 for batch in self._in_flight.values())
        may_retry = bool(self._silence) or not something_new or retries < MAX_RETRIES_IN_FLIGHT
        for turn in Turn:
            if turn not in self._allowed:
                continue
            from_s = self._quiet_until_s
            if self.cap is not None:
                from_s = max(from_s, self.cap.ready_s(backlog=turn.is_backlog))
            if turn.is_backlog and not self._silence:
                if self._backlog_in_flight >= MAX_BACKLOG_IN_FLIGHT or self._backlog_bytes >= MAX_BACKLOG_BYTES:
                    return
                from_s = max(from_s, self._backlog_s)
            if self._waiting[turn] and may_retry:
                yield max(from_s, self._waiting[turn][0][0]), turn, True
            if self._fresh[turn]:
                yield from_s, turn, False

    def _announcement_before(self, batch: Batch) -> Batch | None:
        """The announcement of the batch's stream, if it must go first: it never went, or in silence, it waits for an answer."""
        announcement = self._announcements.get(batch.stream)
        if announcement is None or announcement is batch or self._held.get(announcement.key) is not announcement:
            return None
        first = announcement.state is _State.FRESH or (bool(self._silence) and announcement.state is _State.WAITING)
        return announcement if first else None

    def _send(self, batch: Batch, now_s: float) -> None:
        batch.state = _State.IN_FLIGHT
        batch.attempts += 1
        batch.sent_s = now_s
        self._in_flight[batch.key] = batch
        if self.cap is not None:
            self.cap.take(len(batch.data), now_s)
        batch.as_backlog = batch.turn(now_s).is_backlog
        if batch.as_backlog:
            self._backlog_in_flight += 1
            self._backlog_bytes += len(batch.data)
            self._backlog_s = max(self._backlog_s, now_s - BACKLOG_BURST_S) + len(batch.data) / BACKLOG_BYTES_S

    def _take_back(self, batch: Batch) -> None:
        """Out of flight, if it was."""
        if self._in_flight.pop(batch.key, None) is not None and batch.as_backlog:
            self._backlog_in_flight -= 1
            self._backlog_bytes -= len(batch.data)

    def _age(self, now_s: float) -> None:
        """What has waited too long to be live is backlog; queues are in the order of recording."""
        for turn in (Turn.FINDING, Turn.LIVE):
            queue = self._fresh[turn]
            while queue and (later := queue[0].turn(now_s)) is not turn:
                self._fresh[later].append(queue.popleft())

    def _tidy(self) -> None:
        """Remove what was answered, dropped, withdrawn or scheduled anew from the heads of the queues."""
        for heap in self._waiting.values():
            while heap and not self._is_waiting(heap[0]):
                heapq.heappop(heap)
        for queue in self._fresh.values():
            while queue and not self._is_fresh(queue[0]):
                queue.popleft()

    def _sweep(self) -> None:
        """Now and then, all of that from behind their heads too.

        While nothing may be sent, heads stay: the queues would keep every batch of an outage of weeks that the store has withdrawn.
        """
        self._unswept += 1
        if self._unswept <= SWEEP + len(self._held):
            return
        self._unswept = 0
        for turn in Turn:
            self._fresh[turn] = deque(batch for batch in self._fresh[turn] if self._is_fresh(batch))
            self._waiting[turn] = [entry for entry in self._waiting[turn] if self._is_waiting(entry)]
            heapq.heapify(self._waiting[turn])

    def _is_fresh(self, batch: Batch) -> bool:
        return self._held.get(batch.key) is batch and batch.state is _State.FRESH

    def _is_waiting(self, entry: _Waiting) -> bool:
        due_s, _, batch = entry
        return self._held.get(batch.key) is batch and batch.state is _State.WAITING and batch.due_s == due_s

    def _missed(self, batch: Batch, now_s: float) -> None:
        self._take_back(batch)
        self._wait(batch, now_s + self._uniform(_back_off_s(batch.attempts)), now_s)
        # One round of batches that were sent together counts once: those sent before silence was noticed add nothing.
        if self._last_receipt_s < batch.sent_s and batch.sent_s >= self._silence_s:
            self._silence += 1
            self._silence_s = now_s
            pause_s = self._uniform(min(_back_off_s(self._silence), PROBE_S))
            self._quiet_until_s = max(now_s, min(now_s + pause_s, batch.sent_s + PROBE_S))

    def _wait(self, batch: Batch, due_s: float, now_s: float) -> None:
        batch.state = _State.WAITING
        batch.due_s = due_s
        self._pushes += 1
        self._sweep()
        heapq.heappush(self._waiting[batch.turn(now_s)], (due_s, self._pushes, batch))

    def _release(self, batch: Batch) -> None:
        self._held.pop(batch.key, None)
        self._take_back(batch)

    def _forgive(self, now_s: float) -> None:
        """Somebody is there again: what waits was not at fault, and goes on at once, oldest first."""
        for batch in self._held.values():
            if batch.state is _State.WAITING:
                batch.attempts = 1
                self._wait(batch, now_s, now_s)

    def _trust(self) -> None:
        self._silence = 0
        self._silence_s = self._quiet_until_s = -math.inf


def _back_off_s(attempts: int) -> float:
    """The longest pause after that many attempts."""
    return float(min(MAX_BACK_OFF_S, BACK_OFF_S * 2.0 ** min(attempts - 1, 16)))
