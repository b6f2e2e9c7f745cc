"""Packs over a bus's own figures (dbc/network.py) around the moments at which the buses of many cars wake and fall asleep.

What a healthy bus says is regular but there; so of months it is these moments that are judged, frame by frame, against any phase of the
clock. Counters, checksums and values of a healthy car are right, so of them there is nothing to see.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dbc.network import AWAKE_NS, KINDS, SILENCE
from models.evaluation.months import stitch
from models.evaluation.stream import StreamJudge, Ticks
from models.pack import Pack

__all__ = ["Around", "bus_figures", "is_of_the_bus", "judge_bus"]

AWAKE_US = AWAKE_NS / 1000


class Around(Protocol):
    """The ticks around n moments, as `simulator.bus_changes.Around`."""

    @property
    def end_s(self) -> NDArray[np.float64]: ...
    @property
    def count(self) -> NDArray[np.int64]: ...
    @property
    def seen_us(self) -> NDArray[np.float64]: ...


def is_of_the_bus(pack: Pack) -> bool:
    """Whether a pack looks at figures of the network alone."""
    return all("#" in name for name in pack.manifest.names)


def bus_figures(
    count: NDArray[np.int64], seen_us: NDArray[np.float64], channel: NDArray[np.intp], period_ms: NDArray[np.float64]
) -> NDArray[np.float32]:
    """(t, figures, n) as `dbc.network.NetworkWatch` has them, of frames whose counters, checksums and values are right.

    count, seen_us: (n, t, m) frames of each message in a tick, and when its newest one came. channel, period_ms: (m,).
    """
    n, ticks, m = count.shape
    buses = int(channel.max()) + 1
    heard_before, woke = np.zeros((n, buses)), np.zeros((n, buses))
    figures = np.zeros((ticks, m * len(KINDS) + buses, n), np.float32)
    of_message = figures[:, : m * len(KINDS)].reshape(ticks, m, len(KINDS), n)
    most = np.ceil(1e3 / period_ms)
    for tick in range(ticks):
        seen = seen_us[:, tick]
        heard = np.stack([seen[:, channel == bus].max(axis=1) for bus in range(buses)], axis=1)
        heard = np.maximum(heard, heard_before)
        wakes = heard - heard_before > AWAKE_US
        woke[wakes] = heard[wakes]
        heard_before = heard
        overdue = (heard[:, channel] - np.maximum(seen, woke[:, channel])) / 1e3 / period_ms - 1
        of_message[tick, :, KINDS.index(SILENCE)] = np.maximum(np.nan_to_num(overdue, nan=0.0), 0.0).T
        beyond = np.nan_to_num(np.maximum(count[:, tick] - most, 0.0), nan=0.0)
        of_message[tick, :, KINDS.index("#excess")] = beyond.T
    return figures


def judge_bus(
    packs: Sequence[Pack],
    figures: Sequence[str],
    around: Iterable[Around],
    channel: NDArray[np.intp],
    period_ms: NDArray[np.float64],
    begin_end_s: NDArray[np.float64],
) -> tuple[list[tuple[int, str, float, float | None]], NDArray[np.int64], list[float]]:
    """Findings (moment, fault code, seen_s, ticket_s), ticks that each pack judged, and the highest score of each.

    figures: names of what `bus_figures` gives. begin_end_s: (moments, 2); ticks that end between them count.
    """
    found: list[tuple[int, str, float, float | None]] = []
    judged, highest = np.zeros(len(packs), np.int64), [0.0] * len(packs)
    first = 0
    for some in around:
        n = len(some.end_s)
        span = begin_end_s[first : first + n]
        counts = (some.end_s > span[:, :1]) & (some.end_s <= span[:, 1:])
        whole = np.where(counts, np.cumsum(counts, axis=1), 0)
        values = bus_figures(some.count, some.seen_us, channel, period_ms)
        time_s = np.floor(some.end_s)  # a second apart, as the clock's are
        for at, pack in enumerate(packs):
            one = StreamJudge(pack, figures, n, learning=False)
            one.feed(Ticks(np.arange(n), 0, time_s.T, values, whole.T))
            judged[at] += one.state.judged.sum()
            found += [(first + which.vehicle, which.fault_code, which.seen_s, which.ticket_s) for which in stitch(one, range(n))]
            limits = one.detector.scale[:, None]
            strength = (values[:, [figures.index(name) for name in pack.manifest.names]] / limits) ** 2 * counts.T[:, None, :]
            highest[at] = max(highest[at], float(strength.max(initial=0.0)))
        first += n
    return found, judged, highest
