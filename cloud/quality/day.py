"""What is known of one vehicle's day (UTC). Pure: adding a batch twice changes nothing, and days of two replicas join to the same.

A day's ticks are a bit for each second; a stream's batches are runs of sequences with the seconds of their first and last tick. From
these the figures come (cloud/quality/figures.py).
"""

import math
from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence

import msgspec
import zstandard

__all__ = ["LATENCY_TOP_MS", "OK_MS", "SECONDS", "Day", "Dropped", "Run", "dump", "joined", "latency_ms", "load"]

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

    def add(
        self,
        stream: str,
        sequence: int,
        seconds: Sequence[int],
        day_ms: int,
        received_ms: int,
        values: int,
        valid: int,
        starts: bool = True,
    ) -> bool:
        """A batch's ticks of this day: `seconds`, ascending, not empty. False where it was there.

        starts: the batch is counted here; of one that goes over midnight the second part is not.
        """
        if self.holds(stream, sequence):
            return False
        self._lay(stream, Run(sequence, sequence, seconds[0], seconds[-1]))
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
        self.values += values
        self.valid += valid
        self.batches += starts
        self.late += starts and received_ms - last_ms > ON_TIME_MS
        self.ahead_ms = last_ms - received_ms if self.ahead_ms is None else max(self.ahead_ms, last_ms - received_ms)
        return True

    def say(self, ms: int, state: str) -> None:
        """A status message that says something else than "running"."""
        if (ms, state) not in self.states:
            self.states = sorted([*self.states, (ms, state)])

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
        self.streams[stream] = _closed(runs)


def joined(days: Iterable[Day]) -> Day:
    """Days that replicas counted apart as one. Each batch is counted by one of them."""
    whole = Day()
    for day in days:
        whole.ticks = bytearray(a | b for a, b in zip(whole.ticks, day.ticks, strict=True))
        for stream, runs in day.streams.items():
            together = sorted([*whole.streams.get(stream, []), *(Run(*msgspec.structs.astuple(run)) for run in runs)], key=_first)
            whole.streams[stream] = _closed(together)
        for stream, sequences in day.others.items():
            whole.others[stream] = sorted({*whole.others.get(stream, []), *sequences})
        for name in ("batches", "late", "values", "valid", "backlog"):
            setattr(whole, name, getattr(whole, name) + getattr(day, name))
        for at, ticks in day.delays.items():
            whole.delays[at] = whole.delays.get(at, 0) + ticks
        whole.ahead_ms = max((one for one in (whole.ahead_ms, day.ahead_ms) if one is not None), default=None)
        whole.states = sorted({*whole.states, *day.states})
        whole.dropped = sorted({*whole.dropped, *day.dropped})
        for signal, (ticks, off) in day.twins.items():
            before = whole.twins.get(signal, [0, 0])
            whole.twins[signal] = [before[0] + ticks, before[1] + off]
    return whole


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


def _closed(runs: Sequence[Run]) -> list[Run]:
    found: list[Run] = []
    for run in runs:
        if found and (_follows(found[-1], run) or run.first <= found[-1].last):
            found[-1].last, found[-1].end = max(found[-1].last, run.last), max(found[-1].end, run.end)
        else:
            found.append(run)
    return found
