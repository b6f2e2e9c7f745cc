"""Minutes and hours of a vehicle's ticks: mean, least, greatest and how many, as InfluxDB lines.

Field `Message.Signal` is the mean, so that a chart of minutes is a chart of ticks with another database; `Message.Signal.min`, `.max` and
`.count` stand beside it. The point's time is the window's start. Windows are aligned to 1970, as InfluxDB's own `GROUP BY time()` are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud.line_protocol import escape_key

__all__ = ["HOUR_MS", "MINUTE_MS", "Windows", "downsampled", "lines"]

MINUTE_MS, HOUR_MS = 60_000, 3_600_000


@dataclass(frozen=True)
class Windows:
    """w windows of m signals: start_ms (w,) int64; mean, least, greatest (w, m) float64, NaN: nothing was valid; count (w, m) int64."""

    start_ms: NDArray[np.int64]
    mean: NDArray[np.float64]
    least: NDArray[np.float64]
    greatest: NDArray[np.float64]
    count: NDArray[np.int64]


def downsampled(tick_ms: NDArray[np.int64], values: NDArray[np.float64], width_ms: int) -> Windows:
    """tick_ms (n,) ascending, values (n, m) with NaN where there is none. Windows without a tick are not there."""
    start = tick_ms // width_ms * width_ms
    first = np.flatnonzero(np.append(True, start[1:] != start[:-1])) if len(start) else np.empty(0, np.intp)
    if not len(first):
        empty = np.empty((0, values.shape[1]))
        return Windows(start, empty, empty, empty, empty.astype(np.int64))
    there = np.isfinite(values)
    count = np.add.reduceat(there.astype(np.int64), first, axis=0)
    total = np.add.reduceat(np.where(there, values, 0.0), first, axis=0)
    least = np.minimum.reduceat(np.where(there, values, np.inf), first, axis=0)
    greatest = np.maximum.reduceat(np.where(there, values, -np.inf), first, axis=0)
    some = count > 0
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=some)
    # a mean of equal values may be rounded to beside them
    mean = np.clip(mean, np.where(some, least, np.nan), np.where(some, greatest, np.nan))
    return Windows(start[first], mean, np.where(some, least, np.nan), np.where(some, greatest, np.nan), count)


def lines(vehicle: str, model: str, bus: str, names: Sequence[str], windows: Windows) -> list[str]:
    """One line of `signals` for each window in which one of the signals was valid."""
    head = f"signals,vehicle={escape_key(vehicle)},model={escape_key(model)},bus={escape_key(bus)} "
    keys = [escape_key(name) for name in names]
    written = []
    columns = (windows.mean.tolist(), windows.least.tolist(), windows.greatest.tolist(), windows.count.tolist())
    for start, mean, least, greatest, count in zip(windows.start_ms.tolist(), *columns, strict=True):
        fields = [
            f"{key}={mean[place]!r},{key}.min={least[place]!r},{key}.max={greatest[place]!r},{key}.count={float(count[place])!r}"
            for place, key in enumerate(keys)
            if count[place]
        ]
        if fields:
            written.append(f"{head}{','.join(fields)} {start}")
    return written
