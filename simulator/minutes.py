"""Aggregates of a minute: of each vehicle's samples, the mean of every signal, and least and most where they matter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MINUTE_S", "MinuteRows", "Minutes"]

MINUTE_S = 60.0
Numbers = NDArray[np.intp]
Values = NDArray[np.float32]
NOTHING = -1


@dataclass(frozen=True)
class MinuteRows:
    """r minutes that are complete. value: (columns, r): the means in the signals' order, then the least, then the most."""

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
        self._step = step[:, None].astype(np.float32)
        self._minute = np.full(lanes, NOTHING, np.int64)
        m = len(channel)
        self._sum = np.zeros((m, lanes), np.float32)  # of 12 samples or so
        self._base = np.zeros((m, lanes), np.float32)  # the minute's first value: what is summed are differences to it
        self._count = np.zeros((int(channel.max()) + 1, lanes), np.int64)
        self._last = np.zeros((len(self._held), lanes), np.float32)
        self._least = np.zeros((len(extremes), lanes), np.float32)
        self._most = np.zeros((len(extremes), lanes), np.float32)

    def feed(self, lane: Numbers, time_s: NDArray[np.float64], value: Values, asleep: NDArray[np.bool_]) -> list[MinuteRows]:
        """lane, time_s (k,); value (m, k); asleep (channels, k): NaN for that reason. A sample at 60 s belongs to the minute before it."""
        rounds = []
        minute = (np.ceil(time_s / MINUTE_S) - 1).astype(np.int64)
        order = np.lexsort((time_s, lane))
        # The k-th sample of each lane together: no lane is there twice, and there are few rounds.
        sorted_lane = lane[order]
        first = np.flatnonzero(np.diff(sorted_lane, prepend=NOTHING))
        rank = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
        for number in range(int(rank.max(initial=-1)) + 1):
            mine = order[rank == number]
            rows = self._round(lane[mine], minute[mine], value[:, mine], asleep[:, mine])
            if rows is not None:
                rounds.append(rows)
        return rounds

    def _round(self, lane: Numbers, minute: NDArray[np.int64], value: Values, asleep: NDArray[np.bool_]) -> MinuteRows | None:
        fresh = minute != self._minute[lane]
        done = lane[fresh & (self._minute[lane] != NOTHING)]
        rows = self._rows(done) if len(done) else None
        began = lane[fresh]
        self._minute[began] = minute[fresh]
        self._sum[:, began] = 0.0
        self._count[:, began] = 0
        self._least[:, began] = self._most[:, began] = np.nan
        awake = ~asleep
        # A signal's base is its first value in the minute, which for a bus that wakes up in it is not the minute's first sample.
        new = (self._count[:, lane] == 0) & awake
        self._count[:, lane] += awake
        if new.any():
            at, which = np.nonzero(new[self._channel])
            self._base[at, lane[which]] = value[at, which]
        difference = value - self._base[:, lane]
        difference[asleep[self._channel]] = 0.0
        self._sum[:, lane] += difference
        held = value[self._held]
        self._last[:, lane] = np.where(asleep[self._channel[self._held]], self._last[:, lane], held)
        few = value[self._extremes]
        self._least[:, lane] = np.fmin(self._least[:, lane], few)
        self._most[:, lane] = np.fmax(self._most[:, lane], few)
        return rows

    def _rows(self, lane: Numbers) -> MinuteRows:
        count = self._count[:, lane][self._channel]
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = self._base[:, lane] + self._sum[:, lane] / count
        np.rint(mean / self._step, out=mean)
        mean *= self._step
        mean[self._held] = np.where(count[self._held] > 0, self._last[:, lane], np.nan)
        return MinuteRows(
            lane, (MINUTE_S * self._minute[lane]).astype(np.float64), np.concatenate([mean, self._least[:, lane], self._most[:, lane]])
        )

    def finish(self) -> MinuteRows:
        """The minutes that had not ended."""
        return self._rows(np.flatnonzero(self._minute != NOTHING))
