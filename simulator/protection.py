"""Checksums into payloads, as the DBC declares them, for frames of many messages at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dbc.frames import EFF_MASK
from dbc.integrity import PROFILES, Profile, checksum
from dbc.plan import CompiledDbc

__all__ = ["Protection"]

Index = NDArray[np.intp]
WIDTH = 64


class Protection:
    """Of the messages of a plan, by their number in it.

    A CRC is linear over XOR: that of a payload is the XOR of one table entry for each byte and of the checksum of zeros (Sarwate 1988).
    """

    def __init__(self, compiled: CompiledDbc) -> None:
        plan = compiled.plan
        names, messages = list(PROFILES), len(plan.message_names)
        self.protected = np.zeros(messages, np.bool_)
        self._place, self._size = np.zeros(messages, np.intp), np.zeros(messages, np.intp)  # of the checksum, in bytes
        self._constant = np.zeros(messages, np.uint16)
        self._page = np.zeros((messages, WIDTH), np.intp)
        tables, first = [np.zeros((1, 256), np.uint16)], {}
        for number in range(messages):
            check = int(plan.message_check[number])
            if check < 0 or plan.check_checksum[check] < 0 or plan.check_profile[check] < 0:
                continue
            name = names[plan.check_profile[check]]
            kind, row = PROFILES[name], int(plan.check_checksum[check])
            place, size = divmod(int(plan.row_bit[row]), 8)[0], kind.bits // 8
            own = tuple(range(place, place + size))
            length = 8 if kind.whole_frame else int(plan.message_length[number])
            if kind not in first:
                first[kind] = sum(map(len, tables))
                tables.append(_pages(kind))
            covered = [byte for byte in range(length) if byte not in own]
            for follow, byte in enumerate(reversed(covered), len(kind.tail)):
                self._page[number, byte] = (first[kind] + follow) * 256
            data_id = plan.check_data_id[check].tobytes()
            self._constant[number] = checksum(name, int(plan.message_key[number]) & EFF_MASK, bytes(length), own, data_id, 0)
            self.protected[number], self._place[number], self._size[number] = True, place, size
        self._table = np.concatenate(tables).reshape(-1)

    def write(self, message: Index, data: NDArray[np.uint8]) -> None:
        """Put the right checksums into (n, 8 or 64) payloads, in place. message: (n,) numbers in the plan."""
        at = np.flatnonzero(self.protected.take(message))
        for long in (False, True):
            these = at[self._size.take(message[at]) == 1 + long]
            if not len(these):
                continue
            of = message[these]
            width = data.shape[1] if long else 8
            part = data[these, :width]
            entry = self._table.take(self._page[of, :width] + part)
            found = np.bitwise_xor.reduce(entry, axis=1) ^ self._constant[of]
            place = self._place[of]
            data[these, place] = found & 0xFF
            if long:
                data[these, place + 1] = found >> 8  # low byte first, as E2E profile 5 has it


def _pages(kind: Profile) -> NDArray[np.uint16]:
    """(WIDTH + tail, 256) what a byte adds to the checksum when as many bytes follow it as the row's number."""

    def step(value: int) -> int:
        value <<= kind.bits - 8
        for _ in range(8):
            value = value << 1 ^ (kind.polynomial if value >> kind.bits - 1 & 1 else 0)
        return value & (1 << kind.bits) - 1

    page = np.array([step(byte) for byte in range(256)], np.uint16)
    pages = [page]
    for _ in range(WIDTH + len(kind.tail) - 1):
        last = pages[-1]
        pages.append(page[last >> np.uint16(kind.bits - 8)] ^ (last << np.uint16(8) if kind.bits > 8 else np.uint16(0)))
    return np.array(pages)
