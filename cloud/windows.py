"""Which hours of which vehicle have ticks that the store's minutes and hours do not show yet, and when they are made again.

A window is noted when a tick of it is written, however late it comes, and done once nothing has been noted for it for QUIET_MS. Several
clouds may share the tables: each remembers for less than half of that time that it has noted a window, so a tick that one of them writes is
always in the store before another takes the window up.
"""

from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

from cloud.database import Database
from cloud.events import TickRows
from cloud.stores.downsampled import HOUR_MS

__all__ = ["QUIET_MS", "StaleWindows", "hours_of"]

QUIET_MS = 300_000
NOTED_FOR_MS = QUIET_MS // 2 - 10_000


@runtime_checkable
class Downsampling(Protocol):
    """A store that keeps minutes and hours beside its ticks."""

    def downsample(self, vehicle: str, model: str, hour_ms: int) -> int:
        """Make the minutes and the hour anew from the ticks that are there; how many lines were written. Raises StoreUnavailable."""


def hours_of(rows: Iterable[TickRows]) -> set[tuple[str, str, int]]:
    """(vehicle, model, start of the hour) of every live tick. A replayed log is looked at as it is."""
    found = set()
    for batch in rows:
        if not batch.replay:
            ticks = batch.tick_ms.tolist()
            if ticks and ticks[0] // HOUR_MS == ticks[-1] // HOUR_MS:  # they ascend
                found.add((batch.vehicle, batch.model, ticks[0] // HOUR_MS * HOUR_MS))
            else:
                found |= {(batch.vehicle, batch.model, tick // HOUR_MS * HOUR_MS) for tick in ticks}
    return found


class StaleWindows:
    """`note` in the store's sink, `work` beside it; calls block. `now_ms`: the wall clock, UTC ms."""

    def __init__(self, database: Database, store: Downsampling, now_ms: Callable[[], int]) -> None:
        self.done = 0  # windows made, since the start
        self._database = database
        self._store = store
        self._now_ms = now_ms
        self._noted: dict[tuple[str, str, int], int] = {}

    def note(self, rows: Iterable[TickRows]) -> None:
        """After the rows are in the store and before the sink's cursor passes them. Durable when it returns."""
        now = self._now_ms()
        fresh = [window for window in hours_of(rows) if now - self._noted.get(window, -QUIET_MS) >= NOTED_FOR_MS]
        if not fresh:
            return
        self._database.note_windows(fresh, now)
        if len(self._noted) > 100_000:
            self._noted = {window: ms for window, ms in self._noted.items() if now - ms < NOTED_FOR_MS}
        self._noted |= dict.fromkeys(fresh, now)

    def work(self, most: int) -> int:
        """Make windows that have been quiet for long enough, the longest first, at most so many; how many. Raises StoreUnavailable."""
        made = 0
        for vehicle, model, hour_ms, noted_ms in self._database.quiet_windows(self._now_ms() - QUIET_MS, most):
            claimed_ms = self._now_ms()  # nobody else takes it up, and if we die somebody does, later
            if not self._database.claim_window(vehicle, hour_ms, noted_ms, claimed_ms):
                continue
            self._store.downsample(vehicle, model, hour_ms)
            self._database.forget_window(vehicle, hour_ms, claimed_ms)
            made += 1
        self.done += made
        return made

    @property
    def waiting(self) -> int:
        """Windows that are noted."""
        return self._database.count_windows()
