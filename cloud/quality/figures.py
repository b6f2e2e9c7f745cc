"""A day's figures: how complete it is, what is missing and why, how late it came. Pure.

A second without a tick counts as missing where the vehicle was recording: it lies between two ticks of the day, no message said that the
vehicle goes to sleep, and the agent was not off. What no figure can know: a vehicle that never comes back.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator
from enum import StrEnum
from itertools import pairwise

import msgspec
import numpy as np

from cloud.quality.day import SECONDS, Day, Dropped, Run, latency_ms

__all__ = ["TWIN_RULE", "Cause", "Figures", "Hole", "figures"]

ASLEEP_WITHIN_S = 90  # an agent says how it does once a minute
RESTART_S = 60  # a pause at a change of streams that is longer: the agent, and most likely the vehicle, was off
TWIN_RULE = 0.02  # a sensor may be so far from its twins, as a share of what they read
TWIN_TICKS = 60  # compared, before anything is said of a sensor
TWIN_SHARE = 0.5  # of them off, and it is said


class Cause(StrEnum):
    """Why ticks are missing. The first two are no loss."""

    ASLEEP = "asleep"  # its buses slept, or it was switched off
    OFF = "off"  # the agent was not running, and had not said that it would not
    DROPPED = "dropped"  # the vehicle had to drop them: its outbox was full, or they were too old
    NOT_ARRIVED = "not_arrived"  # recorded: they are on the way, or lost
    RESTART = "restart"  # the agent began anew within a minute
    NOTHING_RECORDED = "nothing_recorded"  # the agent ran and made no ticks


NO_LOSS = frozenset({Cause.ASLEEP, Cause.OFF})


class Hole(msgspec.Struct, frozen=True):
    """No ticks from second `begin` to before `end` of the day. `reason`: the vehicle's words, where it dropped something."""

    begin: int
    end: int
    cause: Cause
    reason: str = ""


class Figures(msgspec.Struct, frozen=True):
    """seen, missing: ticks. recorded: batches that the vehicle made and we know of; failed: of these those that were dropped or came
    more than a day late; pending: those that are not here. p50_ms, p99_ms: without a backlog. ahead_ms: its clock was at least so far
    ahead of ours (the way makes it less, so it is below 0 for a right one). off: signals more than 2 % from their twins, with the share
    of ticks at which they were.
    """

    seen: int
    missing: int
    recorded: int
    failed: int
    pending: int
    valid: float | None
    p50_ms: float | None
    p99_ms: float | None
    backlog: int
    ahead_ms: int | None
    holes: list[Hole]
    off: dict[str, float]

    @property
    def completeness(self) -> float | None:
        """Of the ticks there should be, those that are there."""
        return self.seen / (self.seen + self.missing) if self.seen else None

    @property
    def upload(self) -> float | None:
        """Of the batches recorded, those that were here within a day."""
        return 1 - self.failed / self.recorded if self.recorded else None


def figures(day: Day, day_ms: int, over: bool) -> Figures:
    """day_ms: its first ms, UTC; over: it is a day since its end, so that what has not come counts as failed."""
    seen = int(np.unpackbits(np.frombuffer(day.ticks, np.uint8)).sum())
    holes = list(_holes(day, day_ms))
    missing = sum(hole.end - hole.begin for hole in holes if hole.cause not in NO_LOSS)
    dropped = sum(one.last - one.first + 1 for one in day.dropped)
    pending = sum(_between(day, stream, *pair) for stream, runs in day.streams.items() for pair in pairwise(runs))
    pending = max(0, pending - sum(one.last - one.first + 1 for one in day.dropped if one.stream in day.streams))
    failed = day.late + dropped + (pending if over else 0)
    off = {name: bad / ticks for name, (ticks, bad) in sorted(day.twins.items()) if ticks >= TWIN_TICKS and bad > TWIN_SHARE * ticks}
    return Figures(
        seen=seen,
        missing=missing,
        recorded=day.batches + dropped + (pending if over else 0),
        failed=failed,
        pending=pending,
        valid=day.valid / day.values if day.values else None,
        p50_ms=latency_ms(day.delays, 0.5),
        p99_ms=latency_ms(day.delays, 0.99),
        backlog=day.backlog,
        ahead_ms=day.ahead_ms,
        holes=holes,
        off=off,
    )


def _holes(day: Day, day_ms: int) -> Iterator[Hole]:
    there = np.flatnonzero(np.unpackbits(np.frombuffer(day.ticks, np.uint8), bitorder="little")[:SECONDS])
    gaps = np.flatnonzero(np.diff(there) > 1).tolist()
    if not gaps:
        return
    sides = _Sides(day)
    for at in gaps:
        begin, end = int(there[at]) + 1, int(there[at + 1])
        yield Hole(begin, end, *_why(day, day_ms, begin, end, sides))


class _Sides:
    """What lies at the sides of holes, by second: a day may have a hole for every other second, so none may be searched for.

    between: the stream whose tick is the last before a hole and the first after it, with its runs there. ended: streams with a run that
    ends just before the hole. dropped: of each stream, ordered.
    """

    def __init__(self, day: Day) -> None:
        self.between: dict[tuple[int, int], tuple[str, Run, Run]] = {}
        self.ended: dict[int, set[str]] = defaultdict(set)
        self.dropped: dict[str, list[Dropped]] = defaultdict(list)
        for stream, runs in day.streams.items():
            for before, after in pairwise(runs):
                self.between.setdefault((before.end + 1, after.begin), (stream, before, after))
            for run in runs:
                self.ended[run.end + 1].add(stream)
        for one in day.dropped:
            self.dropped[one.stream].append(one)


def _why(day: Day, day_ms: int, begin: int, end: int, sides: _Sides) -> tuple[Cause, str]:
    if (found := sides.between.get((begin, end))) is not None:
        stream, before, after = found
        dropped = sides.dropped.get(stream, [])
        at = bisect_right(dropped, before.last, key=_last)
        if at < len(dropped) and dropped[at].first < after.first:
            return Cause.DROPPED, dropped[at].reason
        if _asleep(day, day_ms, begin, end):
            return Cause.ASLEEP, ""
        return (Cause.NOT_ARRIVED if _between(day, stream, before, after) else Cause.NOTHING_RECORDED), ""
    if _asleep(day, day_ms, begin, end):
        return Cause.ASLEEP, ""
    for stream in sorted(sides.ended.get(begin, ())):
        dropped = sides.dropped.get(stream, [])
        at = bisect_right(dropped, day.streams[stream][-1].last, key=_first)
        if at < len(dropped):
            return Cause.DROPPED, dropped[at].reason
    return (Cause.RESTART if end - begin <= RESTART_S else Cause.OFF), ""


def _asleep(day: Day, day_ms: int, begin: int, end: int) -> bool:
    """states: ordered."""
    at = bisect_left(day.states, day_ms + 1000 * (begin - ASLEEP_WITHIN_S), key=_ms)
    return at < len(day.states) and day.states[at][0] < day_ms + 1000 * end


def _between(day: Day, stream: str, before: Run, after: Run) -> int:
    """Batches of the stream between two of its runs that are not here."""
    others = day.others.get(stream, [])
    known = bisect_left(others, after.first) - bisect_right(others, before.last)
    return max(0, after.first - before.last - 1 - known)


def _first(dropped: Dropped) -> int:
    return dropped.first


def _last(dropped: Dropped) -> int:
    return dropped.last


def _ms(state: tuple[int, str]) -> int:
    return state[0]
