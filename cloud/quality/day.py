"""What is known of one vehicle's day (UTC). Pure: adding a batch twice changes nothing, and the order in which they come does not matter.

A day's ticks are a bit for each second; a stream's batches are runs of sequences with the seconds of their first and last tick. From
these the figures come (cloud/quality/figures.py).
"""

import math
from bisect import bisect_right, insort
from collections.abc import Sequence

import msgspec
import zstandard

__all__ = ["LATENCY_TOP_MS", "OK_MS", "SECONDS", "Batch", "Day", "Dropped", "News", "Run", "closed", "dump", "latency_ms", "load"]

SECONDS = 86_400
ON_TIME_MS = 86_400_000  # a batch that came later than this after its last tick has failed
OK_MS = 60_000  # what came later than this after its tick is a backlog after an outage, and not in the percentiles
LATENCY_FIRST_MS, PER_OCTAVE = 50.0, 8  # bins of the delays: each 9 % wider than the one before
LATENCY_TOP_MS = OK_MS + 1000


class Run(msgspec.Struct, array_like=True):
    """Batches first..last of a stream, between whose ticks nothing is missing: they begin at second `begin` and end at `end`."""

    first: int
    last: int
    begin: int
    end: int


class Dropped(msgspec.Struct, array_like=True, frozen=True, order=True):
    """Sequences first..last of a stream that the vehicle had to drop, and its reason."""

    stream: str
    first: int
    last: int
    reason: str


class Batch(msgspec.Struct):
    """What a batch says of one day. seconds: of its ticks, ascending, not empty; values, valid: how many it has.

    starts: it is counted here; of one that goes over midnight the second part is not. twins: as `Day.twins`, of this batch.
    """

    stream: str
    sequence: int
    seconds: list[int]
    received_ms: int
    values: int
    valid: int
    starts: bool = True
    twins: dict[str, tuple[int, int]] = {}


class News(msgspec.Struct):
    """What was received of a vehicle's day and is not in it yet.

    others: (stream, sequence) of messages that are no ticks; states: (ms, state) of status messages other than "running".
    """

    batches: list[Batch] = []
    others: list[tuple[str, int]] = []
    states: list[tuple[int, str]] = []


class Day(msgspec.Struct):
    """values, valid: of the batches; late: batches that came after ON_TIME_MS; backlog: ticks that came after OK_MS; delays: bin -> ticks.

    ahead_ms: how far the newest tick of a batch was ahead of our clock when it arrived, the greatest. states: (ms, state) of status
    messages other than "running". others: sequences of a stream that are no ticks.
    twins: signal -> [ticks compared, ticks more than 2 % off].
    """

    ticks: bytearray = msgspec.field(default_factory=lambda: bytearray(SECONDS // 8))
    streams: dict[str, list[Run]] = {}
    others: dict[str, list[int]] = {}
    batches: int = 0
    late: int = 0
    values: int = 0
    valid: int = 0
    backlog: int = 0
    delays: dict[int, int] = {}
    ahead_ms: int | None = None
    states: list[tuple[int, str]] = []
    dropped: list[Dropped] = []
    twins: dict[str, list[int]] = {}

    def holds(self, stream: str, sequence: int) -> bool:
        """Whether that batch was added."""
        runs = self.streams.get(stream)
        if not runs:
            return False
        at = bisect_right(runs, sequence, key=_first) - 1
        return at >= 0 and sequence <= runs[at].last

    def learn(self, news: News, day_ms: int) -> None:
        """day_ms: this day's first ms, UTC."""
        for batch in news.batches:
            self.add(batch, day_ms)
        for other in news.others:
            self.note(*other)
        if news.states:
            self.states = sorted({*self.states, *news.states})

    def add(self, batch: Batch, day_ms: int) -> bool:
        """A batch's ticks of this day. False where it was there."""
        if self.holds(batch.stream, batch.sequence):
            return False
        seconds, received_ms = batch.seconds, batch.received_ms
        self._lay(batch.stream, Run(batch.sequence, batch.sequence, seconds[0], seconds[-1]))
        ticks, delays = self.ticks, self.delays
        for second in seconds:
            ticks[second >> 3] |= 1 << (second & 7)
            delay_ms = received_ms - day_ms - 1000 * second + 1000
            if delay_ms > LATENCY_TOP_MS:
                self.backlog += 1
            else:
                at = 0 if delay_ms <= LATENCY_FIRST_MS else 1 + int(PER_OCTAVE * math.log2(delay_ms / LATENCY_FIRST_MS))
                delays[at] = delays.get(at, 0) + 1
        last_ms = day_ms + 1000 * seconds[-1]
        self.values += batch.values
        self.valid += batch.valid
        self.batches += batch.starts
        self.late += batch.starts and received_ms - last_ms > ON_TIME_MS
        self.ahead_ms = last_ms - received_ms if self.ahead_ms is None else max(self.ahead_ms, last_ms - received_ms)
        for signal, (compared, off) in batch.twins.items():
            counted = self.twins.setdefault(signal, [0, 0])
            counted[0] += compared
            counted[1] += off
        return True

    def note(self, stream: str, sequence: int) -> None:
        """A message that is no ticks: its sequence is not missing."""
        others = self.others.setdefault(stream, [])
        if not others or others[-1] < sequence:
            others.append(sequence)
        elif sequence not in others:
            insort(others, sequence)

    def drop(self, dropped: Dropped) -> None:
        """A gap's message."""
        if dropped not in self.dropped:
            self.dropped = sorted([*self.dropped, dropped])

    def _lay(self, stream: str, run: Run) -> None:
        runs = self.streams.setdefault(stream, [])
        if not runs or runs[-1].last < run.first:  # as they nearly always come
            if runs and _follows(runs[-1], run):
                runs[-1].last, runs[-1].end = run.last, run.end
            else:
                runs.append(run)
            return
        runs.insert(bisect_right(runs, run.first, key=_first), run)
        self.streams[stream] = closed(runs)


def latency_ms(delays: dict[int, int], share: float) -> float | None:
    """The delay that `share` of the ticks stayed below, at most 9 % too much; None: there are no ticks."""
    total = sum(delays.values())
    seen = 0
    for at in sorted(delays):
        seen += delays[at]
        if seen >= share * total:
            return float(LATENCY_FIRST_MS * 2 ** (at / PER_OCTAVE))
    return None


def dump(day: Day) -> bytes:
    """As it is kept."""
    return zstandard.ZstdCompressor(level=1).compress(msgspec.msgpack.encode(day))


def load(kept: bytes) -> Day:
    """The inverse."""
    return msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(kept), type=Day)


def _first(run: Run) -> int:
    return run.first


def _follows(run: Run, following: Run) -> bool:
    """Whether nothing is missing between them: findings and status messages have sequences of the stream, too."""
    return following.begin - run.end <= 1


def closed(runs: Sequence[Run]) -> list[Run]:
    """Runs ordered by their first sequence, joined where nothing is missing between them. Changes the runs."""
    found: list[Run] = []
    for run in runs:
        if found and (_follows(found[-1], run) or run.first <= found[-1].last):
            found[-1].last, found[-1].end = max(found[-1].last, run.last), max(found[-1].end, run.end)
        else:
            found.append(run)
    return found
