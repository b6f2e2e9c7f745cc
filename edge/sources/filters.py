"""Which identifiers the kernel lets through: those of the messages that the DBC files know on a channel, and the answers of polling.

A frame that nobody decodes then costs a comparison in the kernel instead of a copy, a slot of the buffer and a look-up here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dbc.frames import EFF_FLAG, EFF_MASK, RTR_FLAG, SFF_MASK
from dbc.plan import ANY_SOURCE, NOT_PGN, CompiledDbc

MOST_FILTERS = 512  # CAN_RAW_FILTER_MAX of <linux/can/raw.h>
PDU2_FIRST = 0xF0  # J1939-21, 5.2: from this PDU format on, the next byte is part of the group and no destination
TRANSPORT_GROUPS = (0xEC00, 0xEB00, 0xC800, 0xC700)  # J1939-21, 5.10: what carries groups of more than 8 bytes


@dataclass(frozen=True, slots=True)
class Filter:
    """Lets frames through whose (identifier & mask) == (frame_id & mask), flags included."""

    frame_id: int
    mask: int


def wanted(compiled: CompiledDbc, channel: str, also: Sequence[int] = ()) -> tuple[Filter, ...]:
    """Filters for the channel's frames. Empty = let everything through: a socket takes no more than 512, or no DBC is for the channel.

    also: identifiers, with EFF_FLAG, that are let through whether a DBC knows them or not.
    """
    plan, channels = compiled.plan, compiled.schema.channels
    if channel not in channels:
        return ()
    number = channels.index(channel)
    found: dict[Filter, None] = dict.fromkeys(map(_identifier, also))
    for key, group, source in zip(plan.message_key.tolist(), plan.message_pgn.tolist(), plan.message_source.tolist(), strict=True):
        if key >> 32 != number:
            continue
        if group == NOT_PGN:
            found[_identifier(key & 0xFFFF_FFFF)] = None
            continue
        found[_group(group, source)] = None
        for transport in TRANSPORT_GROUPS:
            found[_group(transport, source)] = None
    return tuple(found) if len(found) <= MOST_FILTERS else ()


def _identifier(frame_id: int) -> Filter:
    return Filter(frame_id, EFF_FLAG | RTR_FLAG | (EFF_MASK if frame_id & EFF_FLAG else SFF_MASK))


def _group(group: int, source: int) -> Filter:
    """Any priority; any destination where the group has one."""
    mask = 0x3FF_FF00 if group >> 8 & 0xFF >= PDU2_FIRST else 0x3FF_0000
    if source == ANY_SOURCE:
        return Filter(EFF_FLAG | group << 8, EFF_FLAG | RTR_FLAG | mask)
    return Filter(EFF_FLAG | group << 8 | source, EFF_FLAG | RTR_FLAG | mask | 0xFF)
