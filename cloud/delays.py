"""How late values are: from the second a frame was on the bus to the store's word that a query returns it. Counted in the store's sink.

The first frame of a tick at second T entered the vehicle up to a second before T, so a tick's delay is counted from T - 1 s. What was
received more than BACKLOG_S after its tick is a backlog after an outage: it is counted and not in the percentiles, which tell whether the
promise of the running system is kept.
"""

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cloud.events import TickRows

__all__ = ["BACKLOG_S", "WITHIN_S", "Delays"]

BACKLOG_S = 60.0
BIN_MS = 20
BINS = 6000  # two minutes
WITHIN_BINS = 5
WITHIN_S = WITHIN_BINS * BIN_MS / 1000
KEPT_MINUTES = 10
TICK_MS = 1000


@dataclass
class _Minute:
    start_ms: int
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    greatest_ms: int = 0
    backlog: int = 0


class Delays:
    """`add` in the sink's thread, `summary` in any."""

    def __init__(self) -> None:
        self._whole = _Minute(0)
        self._minutes: deque[_Minute] = deque(maxlen=KEPT_MINUTES)
        self._lock = threading.Lock()

    def add(self, rows: Iterable[TickRows], now_ms: int) -> None:
        """Live rows that the store has taken at now_ms (UTC)."""
        with self._lock:
            minute = now_ms // 60_000 * 60_000
            if not self._minutes or self._minutes[-1].start_ms != minute:
                self._minutes.append(_Minute(minute))
            live = [batch for batch in rows if not batch.replay and len(batch.tick_ms)]
            if not live:
                return
            ticks = np.array([len(batch.tick_ms) for batch in live])
            late = np.array([batch.received_ms - int(batch.tick_ms[-1]) > BACKLOG_S * 1000 for batch in live])
            delay_ms = np.maximum(now_ms - np.concatenate([batch.tick_ms for batch in live]) + TICK_MS, 0)[~late.repeat(ticks)]
            counts = np.bincount(np.minimum(delay_ms // BIN_MS, BINS - 1), minlength=BINS)
            for kept in (self._whole, self._minutes[-1]):
                kept.backlog += int(ticks[late].sum())
                kept.counts += counts
                kept.greatest_ms = max(kept.greatest_ms, int(delay_ms.max(initial=0)))

    def summary(self, now_ms: int) -> dict[str, dict[str, float | int | None]]:
        """Of the last ten minutes and since the start: ticks, p50_s, p99_s, greatest_s (None: no ticks), backlog (ticks)."""
        with self._lock:
            recent = [minute for minute in self._minutes if minute.start_ms > now_ms - KEPT_MINUTES * 60_000]
            return {"recent": _told(recent), "start": _told([self._whole])}

    def within(self) -> list[int]:
        """Since the start: ticks that were less than WITHIN_S, 2 WITHIN_S … late, to where all were. Of two such lists the difference says
        how late what came between was. Without backlogs."""
        with self._lock:
            sums = np.cumsum(self._whole.counts)[WITHIN_BINS - 1 :: WITHIN_BINS]
        return sums[: int(np.searchsorted(sums, sums[-1])) + 1].tolist() if sums[-1] else []


def _told(parts: list[_Minute]) -> dict[str, float | int | None]:
    counts = np.sum([part.counts for part in parts], axis=0, dtype=np.int64) if parts else np.zeros(BINS, np.int64)
    total = int(counts.sum())
    told: dict[str, float | int | None] = {"ticks": total, "backlog": sum(part.backlog for part in parts)}
    below = np.cumsum(counts)
    for name, share in (("p50_s", 0.5), ("p99_s", 0.99)):
        told[name] = (int(np.searchsorted(below, share * total)) + 1) * BIN_MS / 1000 if total else None
    told["greatest_s"] = max(part.greatest_ms for part in parts) / 1000 if total else None
    return told
