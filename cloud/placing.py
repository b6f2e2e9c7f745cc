"""From a vehicle's boot axis to UTC: an opened message becomes an event for the sinks."""

import msgspec

from cloud.events import Event, FindingEvent, GapEvent, StatusEvent, TickRows
from cloud.streams import Opened
from wire.messages import Clock, FindingMessage, Gap, Rows, StatusMessage

UNKNOWN_MODEL = "unknown"


def needs_clock(opened: Opened) -> bool:
    """Whether the message has times that are to be placed, or says which database it belongs to by its clock."""
    return isinstance(opened.message, Rows | FindingMessage | Gap)


def place(opened: Opened, clock: Clock | None) -> Event | None:
    """The event, or None for a message that is not for the sinks. `clock` is needed where `needs_clock` says so."""
    header, message, stream = opened.header, opened.message, opened.stream
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
    if isinstance(message, Rows):
        assert stream.model is not None, "rows of an unknown schema are quarantined"
        return TickRows(
            **common,  # type: ignore[arg-type]
            schema=stream.model.schema,
            columns=stream.columns,
            tick_ms=message.tick_ms + shift,
            raw=message.raw,
            reason=message.reason,
            consent_class=stream.announcement.consent_class,
        )
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
