"""SAE J1939: identifiers (J1939-21, 5.2), and its transport protocol (5.10) heard from outside.

    29 bits:  priority 3 | extended data page 1 | data page 1 | PDU format 8 | PDU specific 8 | source address 8

PDU format below 240 (PDU1): "PDU specific" is the destination's address and is no part of the parameter group number (PGN); from 240 on
(PDU2) it is, and the message is for everybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbc.protocols.transfers import Listener, Transfer

__all__ = ["EVERYBODY", "NULL_ADDRESS", "VIN_PGN", "ReassembledGroup", "Transport", "message_pgn", "pgn_of", "pgns_of"]

NULL_ADDRESS = 0xFE  # what a DBC writes where any source address is meant
EVERYBODY = 0xFF
VIN_PGN = 0xFEEC  # vehicle identification, J1939-71
PDU2_FIRST = 240

# Parameter groups of the transport protocols, by PDU format: all four are PDU1.
TP_CONTROL, TP_DATA = 0xEC, 0xEB
ETP_CONTROL, ETP_DATA = 0xC8, 0xC7
TRANSPORT_FORMATS = (TP_CONTROL, TP_DATA, ETP_CONTROL, ETP_DATA)

# Control bytes of TP.CM and ETP.CM
RTS, CTS, END_OF_MESSAGE, BAM, ABORT = 16, 17, 19, 32, 255
ETP_RTS, ETP_OFFSET, ETP_END_OF_MESSAGE = 20, 22, 23

PACKET = 7  # bytes of a message in each data packet
MAX_TP = 1785  # bytes: 255 packets
TIMEOUT_NS = 1_250_000_000  # T2 and T3 of J1939-21, the longest of its timeouts between two packets

# 29-bit identifiers of ISO 15765 diagnostics, which J1939-21 leaves to it: their third byte is an address, never a group extension.
ISO_15765_FORMATS = (0xCD, 0xCE, 0xDA, 0xDB)


def pgn_of(identifier: int) -> int:
    """The parameter group of a 29-bit identifier; priority, source and a PDU1's destination are not part of it."""
    pgn = identifier >> 8 & 0x3FFFF
    return pgn if (pgn >> 8 & 0xFF) >= PDU2_FIRST else pgn & 0x3FF00


def pgns_of(identifiers: NDArray[np.uint32]) -> NDArray[np.int64]:
    """(n,) parameter groups of (n,) 29-bit identifiers, with or without flags."""
    pgn = (identifiers >> np.uint32(8)).astype(np.int64) & 0x3FFFF
    return np.where((pgn >> 8 & 0xFF) >= PDU2_FIRST, pgn, pgn & 0x3FF00)


def message_pgn(message: Any) -> int | None:
    """The group by which a DBC's message (cantools) is matched; None where it is matched by its identifier.

    Files say so in several ways, and some not at all: the frame format J1939PG; the file's ProtocolType; the null address as source,
    together with more bytes than a classic frame has.
    """
    if not message.is_extended_frame or message.is_fd:
        return None
    pgn = pgn_of(message.frame_id)
    if message.protocol == "j1939":
        return pgn
    if pgn >> 8 & 0xFF in ISO_15765_FORMATS:
        return None
    return pgn if message.length > 8 and message.frame_id & 0xFF == NULL_ADDRESS else None


@dataclass(frozen=True, slots=True)
class ReassembledGroup:
    """A parameter group that came in several frames."""

    pgn: int
    source: int
    destination: int  # EVERYBODY = broadcast
    payload: bytes


class Transport(Listener):
    """BAM, RTS/CTS and the extended protocol of all pairs of nodes on all channels. Pure: time is the frames' own."""

    def __init__(self) -> None:
        super().__init__(TIMEOUT_NS)

    def feed(self, channel: int, identifier: int, stamp_ns: int, payload: bytes) -> ReassembledGroup | None:
        """A frame of one of TRANSPORT_FORMATS. Returns the group that it completes."""
        form = identifier >> 16 & 0xFF
        source, destination = identifier & 0xFF, identifier >> 8 & 0xFF
        if len(payload) < 8:  # every packet of these groups has eight bytes, the last one padded
            self.counts.malformed += 1
            return None
        extended = form in (ETP_CONTROL, ETP_DATA)
        if form in (TP_CONTROL, ETP_CONTROL):
            return self._control(channel, source, destination, extended, stamp_ns, payload)
        key = (channel, source, destination, extended)
        transfer = self._transfers.get(key, stamp_ns)
        if transfer is None:
            self.counts.orphans += 1
            return None
        return self._data(key, transfer, payload)

    def _control(
        self, channel: int, source: int, destination: int, extended: bool, stamp_ns: int, payload: bytes
    ) -> ReassembledGroup | None:
        control = payload[0]
        sent = (channel, source, destination, extended)  # control byte of the sender
        answered = (channel, destination, source, extended)  # control byte of the receiver: it concerns the transfer the other way
        pgn = int.from_bytes(payload[5:8], "little") & 0x3FFFF
        if control == (ETP_RTS if extended else RTS) or (control == BAM and not extended):
            self._begin(sent, pgn, control == BAM, extended, stamp_ns, payload)
        elif extended and control == ETP_OFFSET:
            transfer = self._transfers.get(sent, stamp_ns)
            if transfer is not None:
                transfer.expected = int.from_bytes(payload[2:5], "little")  # packets already sent: sequence number 1 is the next
        elif control == ABORT:  # from either side
            self._transfers.abort(sent)
            self._transfers.abort(answered)
        elif control == (ETP_END_OF_MESSAGE if extended else END_OF_MESSAGE):
            self._transfers.lose(answered)  # the receiver has all packets; we would have completed it, had we heard them all
        else:  # CTS: it keeps the transfer alive
            self._transfers.get(answered, stamp_ns)
        return None

    def _begin(self, key: tuple[int, int, int, bool], pgn: int, broadcast: bool, extended: bool, stamp_ns: int, payload: bytes) -> None:
        total = int.from_bytes(payload[1:5] if extended else payload[1:3], "little")
        packets = -(-total // PACKET)
        # 8 bytes and less need no transport; the packet count of TP must fit the byte count.
        if total <= 8 or (not extended and (total > MAX_TP or payload[3] != packets)) or (broadcast and key[2] != EVERYBODY):
            self._transfers.abort(key)
            self.counts.malformed += 1
            return
        transfer = Transfer(total, stamp_ns, bytearray(), expected=0 if extended else 1, about=pgn)
        if self._transfers.begin(key, transfer) and not broadcast:
            transfer.data = bytearray(packets * PACKET)
            transfer.heard = bytearray(packets)

    def _data(self, key: tuple[int, int, int, bool], transfer: Transfer, payload: bytes) -> ReassembledGroup | None:
        number, part = payload[0], payload[1:8]
        if key[2] == EVERYBODY:  # nothing is sent again
            if number != transfer.expected:
                self._transfers.lose(key)
                return None
            transfer.expected += 1
            transfer.data += part
            if len(transfer.data) < transfer.total:
                return None
        else:
            # The receiver may ask for packets again, so that each has its place; in TP `expected` stays 1 and is no offset.
            place = number - 1 + (transfer.expected if key[3] else 0)
            if number == 0 or place * PACKET >= transfer.total:
                self._transfers.lose(key)
                return None
            transfer.data[place * PACKET : (place + 1) * PACKET] = part
            transfer.heard[place] = 1
            if 0 in transfer.heard:
                return None
        pgn = transfer.about
        return ReassembledGroup(pgn, key[1], key[2], self._transfers.complete(key))
