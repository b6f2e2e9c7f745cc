"""Aggregates of a minute: of each vehicle's samples, the mean of every signal, and least and most where they matter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MINUTE_S", "MinuteRows", "Minutes"]

MINUTE_S = 60.0
NOTHING = -1
Numbers = NDArray[np.intp]
Values = NDArray[np.float32]


@dataclass(frozen=True)
class MinuteRows:
    """r minutes that are complete. value: (r, columns): the means in the signals' order, then the least, then the most."""

    lane: Numbers  # (r,)
    begin_s: NDArray[np.float64]  # (r,) of the lane's time
    value: Values


class Minutes:
    """Samples in, minutes out. Each lane's samples come in the order of their time; a minute is given when the next one has begun.

    A signal is empty where its bus was asleep for the whole minute, and where any of its values was missing for another reason.
    """

    def __init__(
        self, lanes: int, channel: NDArray[np.uint8], held: NDArray[np.bool_], extremes: Numbers, step: NDArray[np.float64]
    ) -> None:
        """channel (m,): bus of each signal. held (m,): states and counts, of which the last value is kept instead of the mean. extremes:
        the signals whose least and most are kept too. step (m,): of the raw values; a mean is rounded to it."""
        self._channel, self._held, self._extremes = channel, np.flatnonzero(held), extremes
        self._step = step.astype(np.float32)
        self._minute = np.full(lanes, NOTHING, np.int64)
        m = len(channel)
        self._base = np.zeros((lanes, m), np.float32)  # the minute's first value
        self._sum = np.zeros((lanes, m), np.float32)  # of the differences to it
        self._count = np.zeros((lanes, int(channel.max()) + 1), np.int64)  # of samples, by bus
        self._last = np.zeros((lanes, len(self._held)), np.float32)
        self._least = np.zeros((lanes, len(extremes)), np.float32)
        self._most = np.zeros((lanes, len(extremes)), np.float32)

    def feed(self, lane: Numbers, time_s: NDArray[np.float64], value: Values, asleep: NDArray[np.bool_]) -> list[MinuteRows]:
        """lane, time_s (k,); value (k, m); asleep (k, buses): NaN for that reason. A sample at 60 s belongs to the minute before it."""
        minute = (np.ceil(time_s / MINUTE_S) - 1).astype(np.int64)
        order = np.lexsort((time_s, lane))
        # The first sample of each lane, then the second of each: no lane is there twice, and there are few rounds.
        first = np.flatnonzero(np.diff(lane[order], prepend=NOTHING))
        rank = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
        rounds = []
        for number in range(int(rank.max(initial=-1)) + 1):
            mine = order[rank == number]
            rows = self._round(lane[mine], minute[mine], value[mine], asleep[mine])
            if rows is not None:
                rounds.append(rows)
        return rounds

    def _round(self, lane: Numbers, minute: NDArray[np.int64], value: Values, asleep: NDArray[np.bool_]) -> MinuteRows | None:
        fresh = minute != self._minute[lane]
        began = lane[fresh]
        ended = began[self._minute[began] != NOTHING]
        rows = self._rows(ended) if len(ended) else None
        self._minute[began] = minute[fresh]
        self._base[began], self._sum[began], self._count[began] = value[fresh], 0.0, 0
        self._least[began] = self._most[began] = np.nan
        self._wake(lane, value, asleep)
        self._count[lane] += ~asleep
        value -= self._base[lane]
        if asleep.any():
            value[asleep[:, self._channel]] = 0.0
        self._sum[lane] += value
        return rows

    def _wake(self, lane: Numbers, value: Values, asleep: NDArray[np.bool_]) -> None:
        """What is kept besides the sum; and the base of a bus that is heard for the first time in a minute that had begun without it."""
        late = (self._count[lane] == 0) & ~asleep
        late &= ~late.all(axis=1)[:, None]
        if late.any():
            at, signal = np.nonzero(late[:, self._channel])
            self._base[lane[at], signal] = value[at, signal]
        held = value[:, self._held]
        if asleep.any():
            held = np.where(asleep[:, self._channel[self._held]], self._last[lane], held)
        self._last[lane] = held
        few = value[:, self._extremes]
        self._least[lane] = np.fmin(self._least[lane], few)
        self._most[lane] = np.fmax(self._most[lane], few)

    def _rows(self, lane: Numbers) -> MinuteRows:
        count = self._count[lane].astype(np.float32)
        mean = self._sum[lane]
        with np.errstate(invalid="ignore", divide="ignore"):
            mean /= count[:, self._channel]
        mean += self._base[lane]
        mean /= self._step
        np.rint(mean, out=mean)
        mean *= self._step
        mean[:, self._held] = np.where(count[:, self._channel[self._held]] > 0, self._last[lane], np.nan)
        begin_s = (MINUTE_S * self._minute[lane]).astype(np.float64)
        return MinuteRows(lane, begin_s, np.concatenate([mean, self._least[lane], self._most[lane]], axis=1))

    def finish(self) -> MinuteRows:
        """The minutes that had not ended."""
        return self._rows(np.flatnonzero(self._minute != NOTHING))
