"""Diagnostic answers that a DBC describes: which messages these are, and the form their payloads take.

A DBC has no word for ISO-TP. Files for diagnostics agree on this form (CSS Electronics' are the best known): the message begins with the
length byte of a single frame, then come the service and what it answers, each a multiplexer of the next:

    length | service (0x62) | identifier, 2 bytes | data        UDS, read data by identifier
    length | service (0x41) | PID, 1 byte         | data        OBD

With extended addressing the address byte comes before the length. `answers` finds these messages by their multiplexer; the payloads that
`dbc.protocols.Reassembler` makes of several frames have the same form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dbc.frames import EFF_FLAG
from dbc.plan import NOT_PGN, SELECTOR_BITS, DecodePlan

__all__ = ["POSITIVE", "Answers", "answers", "is_identity"]

POSITIVE = 0x40  # a positive answer's service is the request's plus this
NEGATIVE = 0x7F
OBD_VEHICLE = 0x09
READ_BY_IDENTIFIER = 0x22
CLASSIC_BYTES = 8


@dataclass(frozen=True, slots=True)
class Answers:
    """A message of a DBC that describes diagnostic answers."""

    extended: bool  # an address byte comes first
    services: frozenset[int]  # that the message knows


def answers(plan: DecodePlan) -> dict[int, Answers]:
    """Message key to what it answers, for the messages of diagnostic form."""
    found = {}
    for message, key in enumerate(plan.message_key.tolist()):
        if plan.message_pgn[message] != NOT_PGN:
            continue
        identifier = key & 0xFFFF_FFFF
        if plan.message_length[message] <= CLASSIC_BYTES and not _is_diagnostic(identifier):
            continue  # an ordinary message may have a multiplexer in its second byte too
        node = int(plan.message_node[message])
        first, count = int(plan.node_slot_first[node]), int(plan.node_slot_count[node])
        for slot in range(first, first + count):
            row = int(plan.slot_row[slot])
            if plan.row_length[row] != 8 or plan.row_bit[row] not in (8, 16):  # either byte order: the second or the third byte
                continue
            services = frozenset(value for value in _values(plan, slot) if value <= 0xFF)  # files name values that eight bits cannot have
            if services and all(_is_answer(service) for service in services):
                found[key] = Answers(bool(plan.row_bit[row] == 16), services)
                break
    return found


def is_identity(payload: bytes) -> bool:
    """Whether a request or answer (from its service on) carries the VIN: OBD mode 09 InfoType 02, DID F190. Its class is `identity`."""
    service = payload[0] & ~POSITIVE if payload else 0
    return (service == OBD_VEHICLE and payload[1:2] == b"\x02") or (service == READ_BY_IDENTIFIER and payload[1:3] == b"\xf1\x90")


def _values(plan: DecodePlan, slot: int) -> frozenset[int]:
    low, high = plan.child_key.searchsorted(np.array([slot, slot + 1], np.uint64) << np.uint64(SELECTOR_BITS))
    return frozenset((plan.child_key[low:high] & np.uint64(2**SELECTOR_BITS - 1)).astype(np.int64).tolist())


def _is_answer(service: int) -> bool:
    """0x41-0x4A OBD (SAE J1979), 0x50-0x7E UDS and KWP (ISO 14229-1, table 2), 0xC3-0xC8 UDS."""
    return 0x41 <= service <= 0x4A or 0x50 <= service < NEGATIVE or 0xC3 <= service <= 0xC8


def _is_diagnostic(identifier: int) -> bool:
    """The identifiers that ISO 15765-4 reserves for the answers of emission-related ECUs."""
    if identifier & EFF_FLAG:
        return identifier & 0x1FFF_FF00 == 0x18DA_F100
    return 0x7E8 <= identifier <= 0x7EF
