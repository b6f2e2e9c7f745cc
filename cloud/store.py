"""The time-series store as the rest of the cloud sees it. `cloud/stores/` has the embedded one and InfluxDB.

Writing is idempotent: the same event written twice changes nothing. All calls block (they run in a sink's or the API's
thread) and may be made from several threads at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from cloud.errors import CloudError
from cloud.events import FindingEvent, GapEvent, TickRows

__all__ = [
    "AT_ONCE",
    "SIGNAL_AGE_MS",
    "Series",
    "SignalValue",
    "Store",
    "StoreUnavailable",
    "TickRows",
    "VehicleSummary",
    "bucket_ms",
    "nobody",
    "thinned",
]

TICK_MS = 1000
AT_ONCE = 1024  # batches that are made ready together
SIGNAL_AGE_MS = (
    10_000  # a signal's newest value is looked for this far behind the vehicle's newest tick: classes travel in batches of their own
)


class StoreUnavailable(CloudError):
    """The store is away or says "later"; nothing is lost by trying again."""

    exit_code = 1


@dataclass(frozen=True)
class VehicleSummary:
    """A vehicle that has values in the store."""

    vehicle: str
    model: str
    last_tick_ms: int


@dataclass(frozen=True)
class SignalValue:
    """A signal's newest valid value, at most SIGNAL_AGE_MS behind the vehicle's newest tick; older ones are left out."""

    signal: str
    value: float
    tick_ms: int


@dataclass(frozen=True)
class Series:
    """`tick_ms` (n,) int64 UTC, ascending, without repeats; each of `values` (n,) float64, NaN = no valid value.

    A tick at which none of the signals has a valid value is not there: a step that is longer than usual is a gap.
    """

    tick_ms: NDArray[np.int64]
    values: dict[str, NDArray[np.float64]] = field(default_factory=dict)


def nobody(rows: Sequence[TickRows]) -> None:
    """Is told what is stored, and does not want to know."""


class Store(Protocol):
    """A place for ticks, findings and gaps. `with store:` opens and closes it; queries see what `write` returned from."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def write(self, rows: Sequence[TickRows], stored: Callable[[Sequence[TickRows]], None] = nobody) -> None:
        """Store ticks. Raises StoreUnavailable when it is worth trying again; whatever can never be stored is quarantined.

        `stored` is called with some of the rows as soon as a query returns them, until it was called with each.
        """

    def write_findings(self, findings: Sequence[FindingEvent]) -> None:
        """Store findings; raises as `write`."""

    def write_gaps(self, gaps: Sequence[GapEvent]) -> None:
        """Store gaps; raises as `write`."""

    def delete(self, vehicle: str, from_ms: int, to_ms: int) -> dict[str, int]:
        """Remove everything of a vehicle with from_ms <= time < to_ms (gaps: by their arrival); how many points of which kind were there.

        Raises CloudError where the store cannot delete by vehicle, before anything is removed.
        """

    def flush(self) -> None:
        """What was written survives a power cut once this returns; before, it survives a kill. A sink's cursor is saved after it."""

    def vehicles(self) -> list[VehicleSummary]:
        """Every vehicle that has values, by id. Queries raise StoreUnavailable when the store is away."""

    def newest(self, vehicle: str) -> int | None:
        """UTC ms of the newest tick that a query of the store returns; None for an unknown vehicle."""

    def signals(self, vehicle: str) -> list[SignalValue]:
        """The newest values, by name; empty for an unknown vehicle."""

    def series(self, vehicle: str, signals: Sequence[str], from_ms: int, to_ms: int, points: int) -> Series:
        """Values with from_ms <= tick < to_ms on a common axis. Unknown signals are all NaN.

        Where there would be more than about `points` ticks, each bucket gives two: the least value in it at its start and the
        greatest at its middle, so that a spike is never averaged away (the same buckets in every store: `bucket_ms`).
        """


def bucket_ms(from_ms: int, to_ms: int, points: int) -> int:
    """Width of a bucket, ms, a whole number of ticks; 0 where every tick fits."""
    ticks = max(0, to_ms - from_ms) / TICK_MS
    if ticks <= points:
        return 0
    return int(np.ceil(2 * ticks / max(2, points))) * TICK_MS


def thinned(series: Series, bucket: int) -> Series:
    """Two ticks for each bucket of `bucket` ms (aligned to 1970): its least and its greatest value. 0 = as it is."""
    if not bucket or not len(series.tick_ms):
        return series
    start = series.tick_ms // bucket * bucket
    first = np.flatnonzero(np.append(True, start[1:] != start[:-1]))
    axis = np.stack([start[first], start[first] + bucket // 2], axis=1).ravel()
    values = {
        name: np.stack([np.fmin.reduceat(value, first), np.fmax.reduceat(value, first)], axis=1).ravel()
        for name, value in series.values.items()
    }
    return Series(axis, values)
