"""When the frames of many cars come around the moments at which their buses wake and fall asleep.

While a bus is awake and stays so, every message comes in its period, give or take half a millisecond; what a healthy bus can say of itself
that is odd, it says where it begins and ends. So of months only these moments are simulated frame by frame: their times alone, by the rules
of `simulator.frames` (a test holds both together), each frame as long as a payload can make it, and against the seconds of the clock
shifted by any part of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dbc.compiler import compile_dbc
from dbc.network import network_names
from dbc.vehicles import DBC_FILES
from simulator.frames import JITTER_MOST_US, JITTER_US, FrameMaker
from simulator.months import Stretch
from simulator.signals import Traits

__all__ = ["AFTER_S", "BEFORE_S", "Around", "BusChanges", "BusTimes", "Change"]

BEFORE_S, AFTER_S = 3, 4
SECOND_US = 1e6
PAYLOADS = 64  # tried, for the longest
CHUNK = 250


@dataclass(frozen=True, slots=True)
class Change:
    """Of a lane's buses. awake: of the seconds from BEFORE_S before `time_s` on, a bit for each bus. until_s: of the next change."""

    lane: int
    time_s: float
    until_s: float
    awake: NDArray[np.uint8]


class BusChanges:
    """Which buses are awake when, in lanes that are being simulated; give it every stretch."""

    def __init__(self, lanes: int) -> None:
        self._last: NDArray[np.int64] = np.full(lanes, -1)
        self._before_s = np.full(lanes, np.nan)
        self._seen: list[list[tuple[float, int]]] = [[] for _ in range(lanes)]

    def see(self, rows: Stretch) -> None:
        """The next rows."""
        lane = rows.lane
        last, before = self._last[lane], self._before_s[lane]
        for buses, time_s in zip(rows.buses.astype(np.int64), rows.time_s, strict=True):
            for at in np.flatnonzero(buses != last).tolist():
                begin = before[at] if np.isfinite(before[at]) else time_s[at] - 1.0
                self._seen[int(lane[at])].append((float(begin), int(buses[at])))
            last, before = buses, time_s
        self._last[lane], self._before_s[lane] = last, before

    def changes(self) -> list[Change]:
        """All of them, but what a lane begins with."""
        found = []
        for lane, seen in enumerate(self._seen):
            times = np.array([time_s for time_s, _ in seen])
            state = np.array([buses for _, buses in seen], np.uint8)
            for at in range(1, len(seen)):
                seconds = times[at] - BEFORE_S + np.arange(BEFORE_S + AFTER_S)
                awake = state[np.maximum(np.searchsorted(times, seconds, side="right") - 1, 0)]
                until_s = float(times[at + 1]) if at + 1 < len(seen) else np.inf
                found.append(Change(lane, float(times[at]), until_s, awake))
        return found


@dataclass(frozen=True)
class Around:
    """The ticks around n changes. changes: (n,). end_s: (n, t) of each tick, after the change.

    count: (n, t, m) frames of each message in the tick. seen_us: (n, t, m) when its newest frame came, on a clock of its own for each
    change; 0: none yet.
    """

    changes: Sequence[Change]
    end_s: NDArray[np.float64]
    count: NDArray[np.int64]
    seen_us: NDArray[np.float64]


class BusTimes:
    """Of the simulated car. messages: (m,) names in the order of `dbc.network.network_names`; channel, period_ms: (m,) of each."""

    def __init__(self) -> None:
        compiled = compile_dbc(DBC_FILES)
        self.schema = compiled.schema
        maker = FrameMaker(compiled, Traits(compiled.schema), (0, 0))
        self.messages = list(dict.fromkeys(name.rpartition(".")[0] for name in network_names(compiled.schema)[: -len(maker.channels)]))
        number = {name: at for at, name in enumerate(self.messages)}
        self.channel = np.zeros(len(self.messages), np.intp)
        self.period_ms = np.full(len(self.messages), np.nan)
        dice = np.random.default_rng(0)
        steady: list[list[tuple[float, int, float]]] = [[] for _ in maker.channels]
        woken: list[list[tuple[float, int, float]]] = [[] for _ in maker.channels]
        for one in maker.timetable():
            at = number[one.name]
            self.channel[at] = one.channel
            self.period_ms[at] = one.period_ms or np.nan
            takes_us = maker.longest_us(one.number, PAYLOADS, dice)
            steady[one.channel] += [(float(due), at, takes_us) for due in one.due_us(woken=False)]
            woken[one.channel] += [(float(due), at, takes_us) for due in one.due_us(woken=True)]
        self._tables = [(np.array(sorted(awake)), np.array(sorted(wakes))) for awake, wakes in zip(steady, woken, strict=True)]

    def around(self, changes: Sequence[Change], seed: int) -> Iterator[Around]:
        """Some changes after the other, each against a clock of its own."""
        dice = np.random.default_rng((seed, 5))
        for first in range(0, len(changes), CHUNK):
            yield self._around(changes[first : first + CHUNK], dice)

    def _around(self, changes: Sequence[Change], dice: np.random.Generator) -> Around:
        n, seconds, m = len(changes), BEFORE_S + AFTER_S, len(self.messages)
        ticks = seconds + 1
        shift_us = dice.uniform(0, SECOND_US, n)
        awake = np.stack([change.awake for change in changes])
        count, seen = np.zeros(n * ticks * m, np.int64), np.zeros(n * ticks * m)
        base = np.arange(n)[:, None] * ticks
        for channel, (steady, wakes) in enumerate(self._tables):
            on = (awake >> channel & 1).astype(np.bool_)
            woke = on & ~np.concatenate([on[:, :1], on[:, :-1]], axis=1)
            size = max(len(steady), len(wakes))
            due = np.full((n, seconds, size), np.inf, np.float64)
            message, takes = np.zeros((n, seconds, size), np.intp), np.zeros((n, seconds, size))
            for these, table in ((on & ~woke, steady), (woke, wakes)):
                due[these, : len(table)] = table[:, 0]
                message[these, : len(table)] = table[:, 1].astype(np.intp)
                takes[these, : len(table)] = table[:, 2]
            due += np.arange(seconds)[:, None] * SECOND_US
            due += np.minimum(np.abs(dice.standard_normal(due.shape, np.float32)) * JITTER_US, JITTER_MOST_US)
            order = np.argsort(due.reshape(n, -1), axis=1, kind="stable")
            ready, takes_us, whose = (np.take_along_axis(part.reshape(n, -1), order, axis=1) for part in (due, takes, message))
            end = np.cumsum(takes_us, axis=1)
            received = np.rint(np.maximum.accumulate(ready - (end - takes_us), axis=1) + end) + shift_us[:, None]
            there = np.isfinite(received)
            tick = np.minimum(np.where(there, received, 0.0) // SECOND_US, ticks - 1).astype(np.intp)
            place = ((base + tick) * m + whose.astype(np.intp))[there]
            count += np.bincount(place, minlength=len(count))
            seen[place] = received[there]  # ascending in time for each change: the last one stays
        shape = (n, ticks, m)
        begin_s = np.array([change.time_s for change in changes]) - BEFORE_S
        end_s = begin_s[:, None] + np.arange(1, ticks + 1) - shift_us[:, None] / SECOND_US
        return Around(changes, end_s, count.reshape(shape), np.maximum.accumulate(seen.reshape(shape), axis=1))
