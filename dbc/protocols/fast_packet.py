"""NMEA 2000 fast packet: up to 223 bytes of one parameter group in frames of that group itself.

    first frame:   sequence 3 bits, frame number 0 | total length | 6 bytes
    next frames:   sequence 3 bits, frame number 5 bits | 7 bytes

Unlike J1939's transport there is no announcement; whether a group is a fast packet is known from its number alone.
"""

from __future__ import annotations

from dbc.protocols.transfers import Listener, Transfer

__all__ = ["FIRST_PGN", "MAX_BYTES", "FastPackets", "is_fast_packet"]

FIRST_PGN = 0x1ED00  # NMEA 2000 groups with several frames begin here; below are J1939's
MIXED_FIRST, MIXED_LAST = 0x1F000, 0x1FEFF  # here single frames and fast packets are mixed: the length says which it is
LAST_PGN = 0x1FFFF
MAX_BYTES = 223  # 6 + 31 x 7
TIMEOUT_NS = 750_000_000  # between two frames of one message


def is_fast_packet(pgn: int, length: int) -> bool:
    """Whether a group of `length` bytes comes as fast packets."""
    if not FIRST_PGN <= pgn <= LAST_PGN:
        return False
    return length > 8 if MIXED_FIRST <= pgn <= MIXED_LAST else True


class FastPackets(Listener):
    """The fast packets of all groups, sources and channels. Pure: time is the frames' own."""

    def __init__(self) -> None:
        super().__init__(TIMEOUT_NS)

    def feed(self, channel: int, identifier: int, stamp_ns: int, payload: bytes) -> bytes | None:
        """A frame of a fast-packet group. Returns the payload that it completes."""
        if len(payload) < 2:
            self.counts.malformed += 1
            return None
        number = payload[0] & 0x1F
        key = (channel, identifier, payload[0] >> 5)  # a sender may begin a message before the last frame of the one before
        if number == 0:
            total = payload[1]
            if not 0 < total <= MAX_BYTES:
                self._transfers.abort(key)
                self.counts.malformed += 1
                return None
            if not self._transfers.begin(key, Transfer(total, stamp_ns, bytearray(payload[2:8]), expected=1)):
                return None
            short = len(payload) - 2 < min(6, total)
            if short:
                self._transfers.lose(key)
                return None
            return self._transfers.complete(key) if total <= 6 else None
        transfer = self._transfers.get(key, stamp_ns)
        if transfer is None:
            self.counts.orphans += 1
            return None
        transfer.data += payload[1:8]
        if number != transfer.expected or len(transfer.data) < min(transfer.total, 6 + 7 * number):
            self._transfers.lose(key)
            return None
        transfer.expected += 1
        return self._transfers.complete(key) if len(transfer.data) >= transfer.total else None
