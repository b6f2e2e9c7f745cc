"""Frames that their sender would not stand by: alive counters and checksums (`dbc/integrity.py`) of whole blocks.

A CRC is linear over XOR: that of a payload is the XOR of one table entry a byte and of a constant, so that all frames of a block are
checked together, whatever their messages (Sarwate 1988). Counters are sorted by message, where each follows the one before it.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dbc.frames import EFF_MASK, FrameBlock
from dbc.integrity import DATA_IDS, PROFILES, Profile, checksum, pages
from dbc.payload import WORD_BYTES, Cuts, Payload
from dbc.plan import CompiledDbc, DecodePlan
from dbc.validity import Reason

__all__ = ["MOST_JUMP", "FrameChecks"]

Index = NDArray[np.intp]
Bytes = NDArray[np.uint8]

MOST_JUMP = 3  # steps of an alive counter between two frames: up to two lost frames are no fault of the sender's (E2E MaxDeltaCounter)
COUNTER, CHECKSUM = np.uint8(Reason.COUNTER), np.uint8(Reason.CHECKSUM)
NO_COUNTER = -(1 << 40)
HALF, QUARTER = np.uint64(32), np.uint64(16)
COUNTER_BITS = np.uint32(0xFF00_00FF)  # message and counter of _ByteCounters' numbers


class FrameChecks:
    """Checks the frames of c protected messages; falsy where the DBC protects none. Keeps each message's last counter.

    least: (states,) bytes of a frame that starts there below which it is short, for the decoder and for a checksum.
    """

    def __init__(self, compiled: CompiledDbc, root: Index, whole: NDArray[np.uint16]) -> None:
        """root: (messages,) state of a frame of that message, as `check` gets them. whole: (states,) bytes that its signals need."""
        plan = compiled.plan
        messages = np.flatnonzero(plan.message_check >= 0)
        length = plan.message_length[messages]
        self.least = whole.copy()
        self.least[root[messages]] = np.maximum(whole[root[messages]], length)
        self._groups: list[tuple[Index, _Group]] = []
        words = -(-np.maximum(length.astype(np.intp), 1) // WORD_BYTES)
        for width in np.unique(words).tolist():
            of_group = messages[words == width]
            number = np.full(len(whole), -1, np.intp)
            number[root[of_group]] = np.arange(len(of_group))
            self._groups.append((number, _Group(plan, of_group, width)))

    def __bool__(self) -> bool:
        return bool(self._groups)

    def check(self, block: FrameBlock, payload: Payload, state: Index, some_short: bool) -> NDArray[np.uint8] | None:
        """(n,) Reason of each frame, VALID for what is not protected; None = all are valid.

        state: (n,) where each frame starts. some_short: frames may be shorter than `least`.
        """
        found: NDArray[np.uint8] | None = None
        for of_state, group in self._groups:
            number = of_state.take(state)
            at = (number >= 0).nonzero()[0]
            if not len(at):
                continue
            number = number.take(at)
            if some_short:  # of a short frame SHORT_FRAME is said where it ends, and nothing else
                whole = block.length.take(at) >= group.length.take(number)
                if not whole.all():
                    at, number = at[whole], number[whole]
                if not len(at):
                    continue
            wrong, late = group.check(payload, at, number)
            if wrong is None and late is None:
                continue
            found = np.zeros(len(block), np.uint8) if found is None else found
            if late is not None:
                found[at[late]] = COUNTER
            if wrong is not None:
                found[at[wrong]] = CHECKSUM
        return found


class _Counters(Protocol):
    def late(self, payload: Payload, at: Index, number: Index, data: Bytes) -> Index | None:
        """Which of k frames have a counter that stood still or jumped; None = none.

        at: (k,) their places in the block. number: (k,) their messages. data: (k, bytes). A frame with a wrong checksum counts as a frame
        too: it may be the only one to tell that others were lost.
        """


class _Group:
    """c messages whose payloads have the same number of 64-bit words."""

    def __init__(self, plan: DecodePlan, messages: Index, words: int) -> None:
        self.length = plan.message_length[messages]
        self._words = words
        checks = plan.message_check[messages]
        names = list(PROFILES)
        kinds = [PROFILES[names[number]] if number >= 0 else None for number in plan.check_profile[checks].tolist()]
        row = plan.check_counter[checks].astype(np.intp)
        self._cuts = Cuts(plan, np.maximum(row, 0))
        moduli = np.array(
            [
                1 if at < 0 else kind.modulus if kind and kind.modulus else 1 << min(int(plan.row_length[at]), 32)
                for kind, at in zip(kinds, row.tolist(), strict=True)
            ],
            np.int64,
        )
        self._counters: _Counters = _byte_counters(plan, row, moduli) or _WideCounters(self._cuts, moduli)
        self._any_list = any(kind is not None and "list" in kind.tail for kind in kinds)
        self._any_sum = any(kind is not None and at >= 0 for kind, at in zip(kinds, plan.check_checksum[checks].tolist(), strict=True))
        self._tables(plan, messages, checks, kinds)

    def _tables(self, plan: DecodePlan, messages: Index, checks: NDArray[np.int32], kinds: list[Profile | None]) -> None:
        """For each message and byte of the payload its page; for each message and counter the constant.

        The checksum that the frame carries is folded in: the XOR over all bytes is 0 where it is right.
        """
        width, names = self._words * WORD_BYTES, list(PROFILES)
        table = _Pages()
        page = np.full((len(messages), width), table.add(np.zeros(256, np.uint16)), np.intp)
        constant = np.zeros((len(messages), DATA_IDS), np.uint16)
        for number, kind in enumerate(kinds):
            row = int(plan.check_checksum[checks[number]])
            if kind is None or row < 0:
                continue
            of_kind = pages(kind, max(WORD_BYTES, width) + len(kind.tail))
            bit, bits = int(plan.row_bit[row]), int(plan.row_length[row])
            place = tuple(range(bit // 8, (bit + bits - 1) // 8 + 1))
            for byte in place:
                page[number, byte] = table.add(_said(plan, row, byte))
            length = WORD_BYTES if kind.whole_frame else int(self.length[number])
            covered = [byte for byte in range(length) if byte not in place]
            for follow, byte in enumerate(reversed(covered), len(kind.tail)):
                page[number, byte] = table.add(of_kind[follow])
            profile = names[int(plan.check_profile[checks[number]])]
            frame_id = int(plan.message_key[messages[number]]) & EFF_MASK
            data_id = plan.check_data_id[checks[number]].tobytes()
            constant[number] = [checksum(profile, frame_id, bytes(length), place, data_id, counter) for counter in range(DATA_IDS)]
        self._table = np.concatenate(table.pages)
        alike = bool((page == page[0]).all())
        self._page = page * 256
        self._pages = np.tile(page[0] * 256, 512) if alike else None  # of so many frames: repeating the row costs more than adding it
        self._constant = constant.reshape(-1) if self._any_list else constant[:, 0].copy()

    def check(self, payload: Payload, at: Index, number: Index) -> tuple[Index | None, Index | None]:
        """Which of k frames have a wrong checksum, and which a counter out of step; None = none. Arguments as _Counters.late's."""
        width = self._words * WORD_BYTES
        data = (payload.little.take(at) if payload.width == 1 else payload.little.reshape(payload.n, -1).take(at, axis=0)).view(np.uint8)
        data = data.reshape(len(at), -1)[:, :width]
        wrong = self._wrong(payload, at, number, data) if self._any_sum else None
        return wrong, self._counters.late(payload, at, number, data)

    def _wrong(self, payload: Payload, at: Index, number: Index, data: Bytes) -> Index | None:
        entry = data.astype(np.intp)
        if self._pages is None:
            entry += self._page.take(number, axis=0)
        else:
            if entry.size > len(self._pages):
                self._pages = np.tile(self._page[0], 2 * len(entry))
            flat = entry.reshape(-1)
            flat += self._pages[: entry.size]
        parts = self._table.take(entry)
        if self._words == 1:  # eight numbers of 16 bits are two of 64
            halves = parts.view(np.uint64)
            folded = halves[:, 0] ^ halves[:, 1]
            folded ^= folded >> HALF
            folded ^= folded >> QUARTER
            found = folded.astype(np.uint16)
        else:
            found = np.bitwise_xor.reduce(parts, axis=1)
        place = number
        if self._any_list:
            counter = self._cuts.cut(payload, at, number).view(np.int64)
            place = number * DATA_IDS + (counter & (DATA_IDS - 1))
        wrong = found != self._constant.take(place)
        return wrong.nonzero()[0] if np.count_nonzero(wrong) else None


class _Pages:
    """Pages of 256 entries, each kept once."""

    def __init__(self) -> None:
        self.pages: list[NDArray[np.uint16]] = []
        self._numbers: dict[bytes, int] = {}

    def add(self, page: NDArray[np.uint16]) -> int:
        """Its number."""
        number = self._numbers.setdefault(page.tobytes(), len(self.pages))
        if number == len(self.pages):
            self.pages.append(page)
        return number


def _said(plan: DecodePlan, row: int, byte: int) -> NDArray[np.uint16]:
    """(256,) what a byte of the payload adds to the checksum that the frame carries."""
    bit, bits = int(plan.row_bit[row]), int(plan.row_length[row])
    page = np.zeros(256, np.uint16)
    for power in range(bits):  # of the checksum, from the least significant bit on
        at = bit + bits - 1 - power if plan.row_big[row] else bit + power
        if at // 8 == byte:
            inside = 7 - at % 8 if plan.row_big[row] else at % 8
            page |= ((np.arange(256) >> inside & 1) << power).astype(np.uint16)
    return page


class _WideCounters:
    """Counters of any kind and place."""

    def __init__(self, cuts: Cuts, moduli: NDArray[np.int64]) -> None:
        """moduli: (c,); 1 = the message has no counter."""
        self._cuts = cuts
        self._modulus = moduli
        self._numbers = np.arange(len(moduli))
        self._last = np.full(len(moduli), NO_COUNTER, np.int64)

    def late(self, payload: Payload, at: Index, number: Index, data: Bytes) -> Index | None:
        counter = self._cuts.cut(payload, at, number).view(np.int64)
        numbers = np.concatenate([self._numbers, number])
        order = numbers.astype(np.uint16).argsort(kind="stable")  # a radix sort
        numbers = numbers.take(order)
        counters = np.concatenate([self._last, counter]).take(order)
        self._last[numbers] = counters  # the last one stays
        step = counters[1:] - counters[:-1]
        step -= 1
        step %= self._modulus.take(numbers[1:])
        bad = step >= MOST_JUMP
        bad &= numbers[1:] == numbers[:-1]
        bad &= counters[:-1] >= 0
        return order[1:][bad] - len(self._numbers) if np.count_nonzero(bad) else None


class _ByteCounters:
    """Counters of a few bits of one byte, as many in each message, that count to the next power of two: what cars have.

    A frame is a number, message << 24 | place in the block << 8 | counter, so that sorted ones stand by message and in order of time, and
    the low byte of their differences is the counter's step. The counter stands at the byte's top, where a step over zero is one like any.
    """

    MOST_MESSAGES = 255
    MOST_FRAMES = 0xFFFF  # at once

    def __init__(self, byte: Index, bit: Index, bits: int) -> None:
        """byte, bit: (messages,) the counter's byte, and of it the counter's lowest bit."""
        messages, left = len(byte), (8 - bits - bit).astype(np.uint8)
        self._byte: Index | int = int(byte[0]) if bool((byte == byte[0]).all()) else byte
        self._left: Bytes | np.uint8 = left[0] if bool((left == left[0]).all()) else left
        self._mask = np.uint8(0xFF << (8 - bits) & 0xFF)
        self._one, self._limit = np.uint8(1 << (8 - bits)), MOST_JUMP << (8 - bits)
        self._first = np.arange(messages, dtype=np.uint32) << np.uint32(24)
        self._beyond = self._first + np.uint32(1 << 24)
        self._place = np.arange(1, 4097, dtype=np.uint32) << np.uint32(8)
        self._last = self._first.copy()  # of each message, at place 0
        self._news: NDArray[np.bool_] | None = np.ones(messages, np.bool_)  # messages without a frame so far

    def late(self, payload: Payload, at: Index, number: Index, data: Bytes) -> Index | None:
        byte = data[:, self._byte] if isinstance(self._byte, int) else data[np.arange(len(data)), self._byte.take(number)]
        counter: Bytes = byte << (self._left.take(number) if isinstance(self._left, np.ndarray) else self._left)
        counter &= self._mask
        if len(counter) <= self.MOST_FRAMES:
            return self._step(counter, number)
        parts = [slice(start, start + self.MOST_FRAMES) for start in range(0, len(counter), self.MOST_FRAMES)]
        found = [(part.start, self._step(counter[part], number[part])) for part in parts]
        late = [start + one for start, one in found if one is not None]
        return np.concatenate(late) if late else None

    def _step(self, counter: Bytes, number: Index) -> Index | None:
        if len(counter) > len(self._place):
            self._place = np.arange(1, self.MOST_FRAMES + 1, dtype=np.uint32) << np.uint32(8)
        fresh = self._first.take(number)
        fresh |= self._place[: len(counter)]
        fresh |= counter
        frames = np.concatenate([self._last, fresh])
        frames.sort()
        step = (frames[1:] - frames[:-1]).astype(np.uint8)
        step -= self._one
        end = frames.searchsorted(self._beyond)
        end -= 1
        step[end[:-1]] = 0  # from the last frame of one message to what stands for the next
        self._last = frames.take(end)
        self._last &= COUNTER_BITS
        if self._news is not None:
            start = np.concatenate([[0], end[:-1] + 1])
            came = end > start
            step[start[self._news & came]] = 0
            self._news &= ~came
            if not self._news.any():
                self._news = None
        bad = step >= self._limit
        if not np.count_nonzero(bad):
            return None
        place: Index = (frames[1:][bad] >> np.uint32(8) & np.uint32(0xFFFF)).astype(np.intp)
        return place - 1


def _byte_counters(plan: DecodePlan, rows: Index, moduli: NDArray[np.int64]) -> _ByteCounters | None:
    """None where the messages' counters (rows; -1 = none) are not as _ByteCounters wants them."""
    if len(rows) > _ByteCounters.MOST_MESSAGES or (rows < 0).any():
        return None
    bits = int(plan.row_length[rows[0]])
    byte, inside = np.divmod(plan.row_bit[rows].astype(np.intp), 8)
    bit = np.where(plan.row_big[rows], 8 - inside - bits, inside)
    alike = bool((plan.row_length[rows] == bits).all()) and bool((moduli == 1 << bits).all())
    return _ByteCounters(byte, bit, bits) if alike and bool(((bit >= 0) & (bit + bits <= 8)).all()) else None
