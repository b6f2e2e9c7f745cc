"""From a vehicle's boot axis to UTC: an opened message becomes an event for the sinks.

A message is placed by the clock that its stream was announced with, else by the first one that its boot has said. A clock is not believed
where it says that something was sealed after it arrived here: such a vehicle's clock is ahead, and what it records waits for a better one.
"""

from collections.abc import Callable

import msgspec

from cloud.events import Event, FindingEvent, GapEvent, StatusEvent, TickRows
from cloud.streams import Opened
from wire.messages import Clock, FindingMessage, Gap, Rows, StatusMessage

UNKNOWN_MODEL = "unknown"
AHEAD_MS = 600_000  # a vehicle's clock and ours may differ by so much


def needs_clock(opened: Opened) -> bool:
    """Whether the message has times that are to be placed, or says which database it belongs to by its clock."""
    return isinstance(opened.message, Rows | FindingMessage | Gap)


def credible(clock: Clock, received_ms: int) -> bool:
    """Whether the clock can be right: what it was said at was before it arrived. A log's times are its own."""
    return clock.source == "log" or clock.utc_ms <= received_ms + AHEAD_MS


def clock_for(opened: Opened, of_its_boot: Callable[[], Clock | None]) -> Clock | None:
    """The clock to place the message by; None: there is none that can be right."""
    if (own := own_clock(opened)) is not None:
        return own
    boots = of_its_boot()
    return boots if boots is not None and _fits(opened, boots) else None


def own_clock(opened: Opened) -> Clock | None:
    """The clock that its stream was announced with, where that can be right."""
    own = opened.stream.announcement.clock
    return own if own is not None and _fits(opened, own) else None


def _fits(opened: Opened, clock: Clock) -> bool:
    newest = _newest_ms(opened.message)
    if newest is None:
        return credible(clock, opened.received_ms)
    return clock.source == "log" or newest - clock.boot_ms + clock.utc_ms <= opened.received_ms + AHEAD_MS


def _newest_ms(message: object) -> int | None:
    if isinstance(message, Rows):
        return int(message.tick_ms[-1]) if len(message.tick_ms) else None
    return message.tick_ms if isinstance(message, FindingMessage | StatusMessage) else None


def place(opened: Opened, clock: Clock | None) -> Event | None:
    """The event, or None for a message that is not for the sinks. `clock` is needed where `needs_clock` says so."""
    header, message, stream = opened.header, opened.message, opened.stream
    if isinstance(message, Rows):
        return _rows(opened, message, clock)
    shift = clock.utc_ms - clock.boot_ms if clock is not None else 0
    replay = clock is not None and clock.source == "log"
    model = stream.model.name if stream.model is not None else UNKNOWN_MODEL
    common = {
        "vehicle": header.vehicle,
        "model": model,
        "stream": header.stream,
        "sequence": header.sequence,
        "received_ms": opened.received_ms,
        "replay": replay,
    }
    if isinstance(message, FindingMessage):
        window = msgspec.structs.replace(message.window, tick_ms=[tick + shift for tick in message.window.tick_ms])
        placed = msgspec.structs.replace(message, tick_ms=message.tick_ms + shift, since_ms=message.since_ms + shift, window=window)
        return FindingEvent(**common, finding=placed)  # type: ignore[arg-type]
    if isinstance(message, Gap):
        return GapEvent(**common, gap=message)  # type: ignore[arg-type]
    if isinstance(message, StatusMessage):
        # that a vehicle is there and its clock is not known yet is worth knowing too
        tick_ms = message.tick_ms + shift if clock is not None else opened.received_ms
        return StatusEvent(**common, tick_ms=tick_ms, status=message)  # type: ignore[arg-type]
    return None


def _rows(opened: Opened, message: Rows, clock: Clock | None) -> TickRows:
    """Nearly all that comes are these. One event is for every sink that asks with the same clock: what one of them works out, all have."""
    kept = opened.placed
    if kept is not None and kept[0] is clock:
        return kept[1]
    header, stream = opened.header, opened.stream
    assert stream.model is not None, "rows of an unknown schema are quarantined"
    event = TickRows(
        header.vehicle,
        stream.model.name,
        header.stream,
        header.sequence,
        opened.received_ms,
        clock is not None and clock.source == "log",
        stream.model.schema,
        stream.columns,
        message.tick_ms + (clock.utc_ms - clock.boot_ms if clock is not None else 0),
        message.raw,
        message.reason,
        stream.announcement.consent_class,
    )
    opened.placed = (clock, event)
    return event
