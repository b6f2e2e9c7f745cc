"""ISO 15765-2 (ISO-TP) heard from outside: the payloads of diagnostic requests and answers.

    single frame       0 length 4          | payload             (CAN FD: 0 0 | length | payload)
    first frame        1 length 12         | payload             (length 0: 32-bit length follows)
    consecutive frame  2 sequence 4        | payload
    flow control       3 ...                                     (from the receiver: nothing to collect)

With extended and mixed addressing one address byte comes before all of this, and it tells the streams of one identifier apart.
"""

from __future__ import annotations

from dbc.protocols.transfers import Listener, Transfer

__all__ = ["IsoTp"]

SINGLE, FIRST, CONSECUTIVE, FLOW_CONTROL = 0, 1, 2, 3
TIMEOUT_NS = 1_000_000_000  # N_Cr, ISO 15765-2 table 16


class IsoTp(Listener):
    """The ISO-TP streams of all identifiers and channels. Pure: time is the frames' own.

    Passive: a lost consecutive frame cannot be asked for, so its message is dropped and counted.
    """

    def __init__(self) -> None:
        super().__init__(TIMEOUT_NS)

    @property
    def open(self) -> int:
        """Messages under way."""
        return len(self._transfers)

    def feed(self, channel: int, identifier: int, stamp_ns: int, payload: bytes, *, extended: bool = False) -> bytes | None:
        """A frame's payload (without padding beyond its length). Returns the message that it completes.

        extended: the first byte is an address (extended or mixed addressing).
        """
        skip = 1 if extended else 0
        if len(payload) <= skip:
            self.counts.malformed += 1
            return None
        key = (channel, identifier, payload[0] if extended else -1)
        kind = payload[skip] >> 4
        if kind == CONSECUTIVE:
            return self._consecutive(key, stamp_ns, payload[skip] & 0xF, payload[skip + 1 :])
        if kind == SINGLE:
            return self._single(key, payload, skip)
        if kind == FIRST:
            self._first(key, stamp_ns, payload, skip)
        elif kind != FLOW_CONTROL:
            self.counts.malformed += 1
        return None

    def _single(self, key: tuple[int, int, int], payload: bytes, skip: int) -> bytes | None:
        length, start = payload[skip] & 0xF, skip + 1
        if length == 0 and len(payload) > 8:  # CAN FD: the length is in the next byte
            length, start = payload[skip + 1], skip + 2
        if not 0 < length <= len(payload) - start:
            self.counts.malformed += 1
            return None
        self._transfers.abort(key)  # a new message ends the one before
        self.counts.messages += 1
        return payload[start : start + length]

    def _first(self, key: tuple[int, int, int], stamp_ns: int, payload: bytes, skip: int) -> None:
        if len(payload) < 8:  # a first frame is always full
            self.counts.malformed += 1
            return
        total, start = (payload[skip] & 0xF) << 8 | payload[skip + 1], skip + 2
        if total == 0:
            total, start = int.from_bytes(payload[skip + 2 : skip + 6], "big"), skip + 6
        if total <= 7 - skip:  # it would have fitted a single frame
            self.counts.malformed += 1
            return
        part = bytearray(payload[start:])
        if len(part) >= total:
            self.counts.malformed += 1
            return
        self._transfers.begin(key, Transfer(total, stamp_ns, part, expected=1, about=len(payload) - skip - 1))

    def _consecutive(self, key: tuple[int, int, int], stamp_ns: int, number: int, part: bytes) -> bytes | None:
        transfer = self._transfers.get(key, stamp_ns)
        if transfer is None:
            self.counts.orphans += 1
            return None
        transfer.data += part
        done = len(transfer.data) >= transfer.total
        if number != transfer.expected or not (done or len(part) == transfer.about):  # all but the last are as full as the first
            self._transfers.lose(key)
            return None
        transfer.expected = (number + 1) & 0xF
        return self._transfers.complete(key) if done else None
