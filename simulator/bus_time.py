"""How long a frame keeps its bus busy: its real bits, stuff bits included.

Classic frames: ISO 11898-1:2015, 10.4.2; FD frames with bit rate switch: 10.4.3. A stuff bit follows five equal bits, from the start of
frame on; in a classic frame up to the checksum's end, in an FD frame up to the payload's end, after which stuff bits are at fixed places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["DATA_BIT_RATE", "NOMINAL_BIT_RATE", "FrameTimes", "frame_time_us"]

NOMINAL_BIT_RATE = 500_000
DATA_BIT_RATE = 2_000_000  # of an FD frame's payload and checksum

LENGTH_CODES = {length: code for code, length in enumerate((*range(9), 12, 16, 20, 24, 32, 48, 64))}
CRC15 = 0x4599
LONGEST_RUN = 5
# After the checksum: its delimiter, acknowledgement and delimiter, end of frame (7), interframe space (3).
TAIL_BITS = 13
FD_TAIL_BITS = 12  # the delimiter still is at the data rate

Bytes = NDArray[np.uint8]


def _bits(value: int, count: int) -> list[int]:
    return [value >> place & 1 for place in range(count - 1, -1, -1)]


def _step(state: int, bit: int) -> tuple[int, int]:
    """State (2 * run + last bit; 0 = nothing yet) after a bit, and whether a stuff bit follows it: that has the other value."""
    run = state >> 1
    run = run + 1 if run and state & 1 == bit else 1
    return (2 | (1 - bit), 1) if run == LONGEST_RUN else (2 * run | bit, 0)


def _run(state: int, bits: list[int]) -> tuple[int, int]:
    stuffed = 0
    for bit in bits:
        state, more = _step(state, bit)
        stuffed += more
    return state, stuffed


STATES = 2 * LONGEST_RUN + 2


def _automaton(count: int) -> tuple[Bytes, Bytes]:
    """(STATES * 2**count,) the state after `count` bits, and the stuff bits among them."""
    found = [_run(state, _bits(value, count)) for state in range(STATES) for value in range(1 << count)]
    after, stuffed = np.array(found, np.uint8).T.copy()
    return after, stuffed


AFTER_8, STUFFED_8 = _automaton(8)
_, STUFFED_7 = _automaton(7)


def _crc15_step(crc: int, bit: int) -> int:
    feedback = crc >> 14 & 1 ^ bit
    return (crc << 1 & 0x7FFF) ^ (CRC15 if feedback else 0)


def _crc15(crc: int, bits: list[int]) -> int:
    for bit in bits:
        crc = _crc15_step(crc, bit)
    return crc


CRC15_TABLE = np.array([_crc15(value << 7, [0] * 8) for value in range(256)], np.uint16)


@dataclass(frozen=True)
class FrameTimes:
    """Of frames of m messages with 11-bit identifiers. frame_id, length: (m,); fd: (m,) FD frames with bit rate switch."""

    length: NDArray[np.intp]
    fd: NDArray[np.bool_]
    state: NDArray[np.uint8]  # (m,) after the header
    crc: NDArray[np.uint16]  # (m,) of the header of a classic frame
    nominal: NDArray[np.intp]  # (m,) header and tail bits at the nominal rate
    data: NDArray[np.intp]  # (m,) bits at the data rate, without what the payload's own stuff bits add

    @staticmethod
    def of(frame_id: NDArray[np.integer], length: NDArray[np.integer], fd: NDArray[np.bool_]) -> FrameTimes:
        rows = [_header(int(one), int(size), bool(long)) for one, size, long in zip(frame_id, length, fd, strict=True)]
        state, crc, nominal, data = (np.array(column) for column in zip(*rows, strict=True))
        return FrameTimes(
            length.astype(np.intp), fd, state.astype(np.uint8), crc.astype(np.uint16), nominal.astype(np.intp), data.astype(np.intp)
        )

    def us(self, message: NDArray[np.intp], data: Bytes) -> NDArray[np.float64]:
        """(n,) how long each frame takes. message: (n,) which of the m it is; data: (n, 8 or 64) payloads."""
        time = np.empty(len(message))
        for fd in (False, True):
            these = np.flatnonzero(self.fd[message] == fd)
            if len(these):
                of = message[these]
                bits = self._payload_bits(of, data[these, : int(self.length[of].max())], fd)
                if fd:
                    time[these] = self.nominal[of] * (1e6 / NOMINAL_BIT_RATE) + (self.data[of] + bits) * (1e6 / DATA_BIT_RATE)
                else:
                    time[these] = (self.nominal[of] + bits) * (1e6 / NOMINAL_BIT_RATE)
        return time

    def _payload_bits(self, message: NDArray[np.intp], data: Bytes, fd: bool) -> NDArray[np.intp]:
        """(n,) bits of payload and, in a classic frame, checksum, with the stuff bits in them."""
        length = self.length[message]
        order = np.argsort(-length, kind="stable")  # the longest first: those that go on are a prefix
        state = self.state[message[order]].astype(np.uint16)
        crc = self.crc[message[order]].copy()
        stuffed = np.zeros(len(message), np.intp)
        sizes, rows = length[order], data[order]
        for byte in range(data.shape[1]):
            going = int(np.searchsorted(-sizes, -byte, side="left"))
            value = rows[:going, byte]
            place = state[:going] << np.uint16(8) | value
            stuffed[:going] += STUFFED_8.take(place)
            state[:going] = AFTER_8.take(place)
            if not fd:
                crc[:going] = (crc[:going] << np.uint16(8) & np.uint16(0x7FFF)) ^ CRC15_TABLE.take(crc[:going] >> np.uint16(7) ^ value)
        bits = 8 * sizes + stuffed
        if not fd:
            place = state << np.uint16(8) | crc >> np.uint16(7)
            more = STUFFED_8.take(place).astype(np.intp)
            place = AFTER_8.take(place).astype(np.uint16) << np.uint16(7) | crc & np.uint16(0x7F)
            bits += 15 + more + STUFFED_7.take(place)
        found = np.empty_like(bits)
        found[order] = bits
        return found


def _header(frame_id: int, length: int, fd: bool) -> tuple[int, int, int, int]:
    """State of the stuffing and checksum after the header; bits at the nominal rate (header, tail), at the data rate."""
    identifier = [0, *_bits(frame_id, 11)]  # start of frame
    code = _bits(LENGTH_CODES[length], 4)
    if not fd:
        head = [*identifier, 0, 0, 0, *code]  # RTR, IDE, r0
        state, stuffed = _run(0, head)
        return state, _crc15(0, head), len(head) + stuffed + TAIL_BITS, 0
    arbitration = [*identifier, 0, 0, 1, 0, 1]  # RRS, IDE, FDF, res, BRS
    state, stuffed = _run(0, arbitration)
    state, more = _run(state, [0, *code])  # ESI
    checksum = 4 + (17 if length <= 16 else 21)  # stuff count and CRC
    fixed = 1 + checksum // 4  # a stuff bit before it and after every fourth bit of it
    return state, 0, len(arbitration) + stuffed + FD_TAIL_BITS, 5 + more + checksum + fixed + 1


def frame_time_us(frame_id: NDArray[np.integer], length: NDArray[np.integer], data: Bytes) -> NDArray[np.float64]:
    """(n,) µs of any n frames with 11-bit identifiers; those of more than 8 bytes are FD frames with bit rate switch."""
    keys, message = np.unique(frame_id.astype(np.int64) << 8 | length, return_inverse=True)
    size = keys & 0xFF
    return FrameTimes.of(keys >> 8 & 0x7FF, size, size > 8).us(message.astype(np.intp), data)
