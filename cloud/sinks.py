"""Sinks: what takes events from the landing log, each by a runner of its own (`cloud.runner`)."""

import time
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from cloud.database import Database
from cloud.delays import Delays
from cloud.events import Event, FindingEvent, GapEvent, StatusEvent, TickRows
from cloud.store import Store
from cloud.tickets.service import TicketService
from cloud.windows import StaleWindows
from wire.messages import FindingMessage, StatusMessage

GROUP = 1024  # messages given to a sink at once
NOTED = 100  # batches whose delays are noted together


class Sink(Protocol):
    """Takes events durably. `take` blocks; what it raises of `cloud.runner.AWAY` is tried again, anything else is the event's fault."""

    name: str
    # The runner's own, where it has none of these:
    # `save_every_s`: how long its cursor may stay behind what it was given, where `flush` is dear.
    # `pace_s`: how long it may wait for a group to grow, where nobody waits for it.
    # `wants`: the messages whose events it takes; all.

    def take(self, events: Sequence[Event]) -> None: ...

    def flush(self) -> None:
        """Return when what was taken survives a power cut; raises as `take`."""


@runtime_checkable
class GradualSink(Sink, Protocol):
    """One of which to flush all at once would keep the others waiting."""

    def flush_some(self) -> bool:
        """A part of `flush`. True once all is safe that was taken before the first of these parts; then a first one comes again."""


class StoreSink:
    """Everything with a time goes to the time-series store; `windows` notes which minutes that makes stale, `delays` how late it was."""

    name = "store"

    def __init__(self, store: Store, windows: StaleWindows | None = None, delays: Delays | None = None) -> None:
        self._store = store
        self._windows = windows
        self._delays = delays

    def take(self, events: Sequence[Event]) -> None:
        if rows := sorted((event for event in events if isinstance(event, TickRows)), key=_of_vehicle):  # a series' ticks in one request
            stored: list[tuple[int, list[TickRows]]] = []  # with when they were; noted when all are, as otherwise all are written again
            self._store.write(rows, lambda some: _note(stored, some))
            if self._delays is not None:
                for now_ms, some in stored:
                    self._delays.add(some, now_ms)
            if self._windows is not None:
                self._windows.note(rows)
        if findings := [event for event in events if isinstance(event, FindingEvent)]:
            self._store.write_findings(findings)
        if gaps := [event for event in events if isinstance(event, GapEvent)]:
            self._store.write_gaps(gaps)

    def flush(self) -> None:
        self._store.flush()


def _note(stored: list[tuple[int, list[TickRows]]], some: Sequence[TickRows]) -> None:
    """As of the last of them, NOTED or so together."""
    together = stored.pop()[1] if stored and len(stored[-1][1]) < NOTED else []
    stored.append((time.time_ns() // 1_000_000, [*together, *some]))


def _of_vehicle(rows: TickRows) -> str:
    return rows.vehicle


class TicketSink:
    """Findings become tickets."""

    name = "tickets"
    wants = (FindingMessage,)

    def __init__(self, tickets: TicketService) -> None:
        self._tickets = tickets

    def take(self, events: Sequence[Event]) -> None:
        self._tickets.consume_all([event for event in events if isinstance(event, FindingEvent)])

    def flush(self) -> None:
        """Each ticket is durable when `consume` returns."""


class HealthSink:
    """Each vehicle's newest status message is kept in the tables."""

    name = "health"
    wants = (StatusMessage,)
    pace_s = 0.5

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, events: Sequence[Event]) -> None:
        if statuses := [event for event in events if isinstance(event, StatusEvent)]:
            self._database.hear(statuses)

    def flush(self) -> None:
        """Each status is durable when `hear` returns."""


class SeldomSink:
    """Sinks that keep what they are given for a while share a cursor, and so the work of reading and placing for them."""

    pace_s = 1.0

    def __init__(self, name: str, sinks: Sequence[Sink], save_every_s: float) -> None:
        self.name = name
        self.save_every_s = save_every_s
        self._sinks = sinks

    def take(self, events: Sequence[Event]) -> None:
        """Where one is away, those before it are given the events again."""
        for sink in self._sinks:
            sink.take(events)

    def flush(self) -> None:
        for sink in self._sinks:
            sink.flush()

    def flush_some(self) -> bool:
        for sink in self._sinks:
            if isinstance(sink, GradualSink) and not sink.flush_some():
                return False
        for sink in self._sinks:
            if not isinstance(sink, GradualSink):
                sink.flush()
        return True
