"""Frames to signals: one gather over (frame, signal) pairs.

A block's frames are turned into *runs* (frame, segment); a segment is a contiguous run of plan rows of one byte order. Runs are
repeated into pairs, and every pair is cut out of its frame's 64-bit word with a shift and a mask taken from flat tables. Nothing loops
over frames, messages or signals, so a block costs about thirty NumPy calls whatever is in it. Blocks beyond about 4,000 frames get
slower again: their temporaries leave the second-level cache.

Little-endian signals are cut from the payload read as a little-endian number; big-endian ones from the reversed payload, where they
are ordinary little-endian signals too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dbc.frames import EFF_FLAG, SFF_MASK, FrameBlock
from dbc.plan import SELECTOR_BITS, CompiledDbc
from dbc.validity import Reason

__all__ = ["Decoder", "SignalBlock"]

Index = NDArray[np.intp]
Words = NDArray[np.uint64]

STANDARD_IDS = SFF_MASK + 1
CLASSIC_BITS, FD_BITS = 64, 512


@dataclass(frozen=True, slots=True)
class SignalBlock:
    """k decoded values, in the order of their frames."""

    frame: NDArray[np.int32]  # (k,) index into the frame block
    signal: NDArray[np.int32]  # (k,) index into the schema
    raw: NDArray[np.int64]  # (k,) uint64 and float patterns bit-cast (Schema.kind); 0 unless VALID
    reason: NDArray[np.uint8]  # (k,) of Reason
    timestamp_ns: NDArray[np.int64]  # (k,) the frame's

    def __len__(self) -> int:
        return len(self.frame)


class Decoder:
    """Decodes blocks whose channels are named `channels`; blocks that name others are matched by name."""

    def __init__(self, compiled: CompiledDbc, channels: tuple[str, ...]) -> None:
        plan = compiled.plan
        self._schema_channels = compiled.schema.channels
        self._maps: dict[tuple[str, ...], Index] = {}
        self._channel_map(channels)
        self._plan = plan
        nodes = len(plan.node_first)
        self._nothing = nodes  # the node of frames that no DBC knows
        self._tables(compiled)
        self._segments(compiled)
        # identifiers
        standard = np.full((len(self._schema_channels) + 1) * STANDARD_IDS, nodes, np.intp)  # the last channel is "in no DBC"
        is_standard = (plan.message_key & np.uint64(EFF_FLAG)) == 0
        keys = plan.message_key[is_standard]
        standard[(keys >> np.uint64(32)).astype(np.intp) * STANDARD_IDS + (keys & np.uint64(SFF_MASK)).astype(np.intp)] = plan.message_node[
            is_standard
        ]
        self._standard = standard
        self._extended_key = plan.message_key[~is_standard]
        self._extended_node = plan.message_node[~is_standard].astype(np.intp)
        self._slots = np.append(plan.node_slot_count, 0).astype(np.intp)
        self._slot_first = np.append(plan.node_slot_first, 0).astype(np.intp)
        self._slot_row = plan.slot_row.astype(np.intp)
        self._child_node = plan.child_node.astype(np.intp)
        self._numbers = np.arange(4096, dtype=np.intp)

    def decode(self, block: FrameBlock) -> SignalBlock:
        """Every signal of every frame that a DBC knows. Unknown, remote and error frames give none."""
        n = len(block)
        node = self._match(block)
        data = block.data
        if data.shape[1] == 64 and (n == 0 or int(block.length.max()) <= 8):
            data = np.ascontiguousarray(data[:, :8])
        payload = _Payload(data)
        frame: Index | None = None  # of each run; None = one run a frame
        if len(self._slot_row):
            frame, node = self._descend(payload, block.length, node)
        if self._mixed:
            frame, node = self._split(frame, node)
        count = self._segment_count.take(node)
        ends = count.cumsum()
        k = int(ends[-1]) if len(ends) else 0
        row = (self._segment_first.take(node) - ends + count).repeat(count)
        if k > len(self._numbers):
            self._numbers = np.arange(2 * k, dtype=np.intp)
        row += self._numbers[:k]
        big = self._segment_big.take(node) if self._any_big else None
        raw = self._cut_runs(payload, frame, big, count, row)
        number = np.arange(n, dtype=np.int32) if frame is None else frame.astype(np.int32)
        pair_frame = number.repeat(count)
        stamp = block.timestamp_ns if frame is None else block.timestamp_ns.take(frame)
        reason = np.zeros(k, np.uint8)
        length = block.length if frame is None else block.length.take(frame)
        if (length < self._segment_need.take(node)).any():
            short = self._row_need.take(row) > length.repeat(count)
            reason[short] = Reason.SHORT_FRAME
            raw[short] = 0
        signal = row.astype(np.int32) if self._row_is_signal else self._row_signal.take(row)
        return SignalBlock(pair_frame, signal, raw, reason, stamp.repeat(count))

    def _match(self, block: FrameBlock) -> Index:
        """(n,) the root node of each frame."""
        channel = self._channel_map(block.channels)
        place = (block.frame_id & np.uint32(SFF_MASK)).astype(np.intp)
        if len(channel) > 1:
            place += channel.take(block.channel) * STANDARD_IDS
        elif channel[0]:
            place += channel[0] * STANDARD_IDS
        node = self._standard.take(place)
        if int(block.frame_id.max(initial=0)) > SFF_MASK:
            other = np.flatnonzero(block.frame_id > SFF_MASK)
            node[other] = self._nothing
            if len(self._extended_key):
                key = channel.take(block.channel[other]).astype(np.uint64) << np.uint64(32) | block.frame_id[other]
                near = np.minimum(self._extended_key.searchsorted(key), len(self._extended_key) - 1)
                # A remote or error frame has flags that no key has, so that it matches none.
                found = self._extended_key.take(near) == key
                node[other[found]] = self._extended_node.take(near[found])
        return node

    def _channel_map(self, channels: tuple[str, ...]) -> Index:
        """Of a block's channels: number of each in the schema; the number after the last where no DBC is for it."""
        known = self._maps.get(channels)
        if known is None:
            there = self._schema_channels
            known = np.array([there.index(name) if name in there else len(there) for name in channels] or [len(there)], np.intp)
            self._maps[channels] = known
        return known

    def _tables(self, compiled: CompiledDbc) -> None:
        """Row by row: where to cut, for payloads of 8 and of 64 bytes."""
        plan = compiled.plan
        length = plan.row_length.astype(np.int64)
        bit = plan.row_bit.astype(np.int64)
        big = plan.row_big
        self._row_signal = plan.row_signal
        self._row_is_signal = bool((plan.row_signal == np.arange(len(plan.row_signal))).all())  # nothing multiplexed, no order mixed
        self._row_need = plan.row_need
        self._row_big = big.astype(np.intp)
        self._mask = np.uint64(2**64 - 1) >> (64 - length).astype(np.uint64)
        self._sign = np.where(plan.row_signed, np.uint64(1) << (length - 1).astype(np.uint64), np.uint64(0)).astype(np.uint64)
        self._any_sign = bool(plan.row_signed.any())
        self._half = plan.row_half if plan.row_half.any() else None
        # Signals outside the payload are cut at bit 0 and then called SHORT_FRAME.
        self._classic = np.clip(np.where(big, CLASSIC_BITS - bit - length, bit), 0, CLASSIC_BITS - 1).astype(np.uint64)
        wide = np.clip(np.where(big, FD_BITS - bit - length, bit), 0, FD_BITS - 1)
        self._fd_word = (wide // 64).astype(np.intp)
        self._fd_next = np.minimum(self._fd_word + 1, 7)
        self._fd_shift = (wide % 64).astype(np.uint64)
        self._fd_rest = np.uint64(63) - self._fd_shift

    def _segments(self, compiled: CompiledDbc) -> None:
        """Nodes cut where the byte order changes. Segment = node where no node is mixed; the last segment is empty."""
        plan = compiled.plan
        bigs = np.concatenate([[0], np.cumsum(plan.row_big)])
        count = plan.node_count.astype(np.intp)
        first = plan.node_first.astype(np.intp)
        big_rows = (bigs[first + count] - bigs[first]).astype(np.intp)
        little_rows = count - big_rows
        self._mixed = bool(((big_rows > 0) & (little_rows > 0)).any())
        if self._mixed:  # segment 2 * node: little-endian rows; 2 * node + 1: big-endian rows
            counts = np.stack([little_rows, big_rows], axis=1).ravel()
            firsts = np.stack([first, first + little_rows], axis=1).ravel()
            is_big = np.tile([False, True], len(count))
            need = np.repeat(plan.node_need, 2)
        else:
            counts, firsts, is_big, need = count, first, big_rows > 0, plan.node_need
        self._two_runs = np.append((big_rows > 0) & (little_rows > 0), False)
        self._only_big = np.append(big_rows > 0, False) & ~self._two_runs
        empty = 2 if self._mixed else 1
        self._segment_count = np.concatenate([counts, np.zeros(empty, np.intp)])
        self._segment_first = np.concatenate([firsts, np.zeros(empty, np.intp)])
        self._segment_big = np.concatenate([is_big, np.zeros(empty, np.bool_)])
        self._segment_need = np.concatenate([need, np.zeros(empty, np.uint8)])
        self._any_big = bool(plan.row_big.any())
        self._all_big = bool(plan.row_big.all())

    def _split(self, frame: Index | None, node: Index) -> tuple[Index, Index]:
        """Runs of nodes to runs of segments, where nodes are mixed."""
        runs = self._two_runs.take(node).astype(np.intp) + 1
        segment = (2 * node + self._only_big.take(node)).repeat(runs)
        second = runs.cumsum()[runs == 2] - 1
        segment[second] += 1
        return (np.arange(len(node)) if frame is None else frame).repeat(runs), segment

    def _descend(self, payload: _Payload, length: NDArray[np.uint8], node: Index) -> tuple[Index | None, Index]:
        """Follow the multiplexers, level by level: runs of root nodes to runs of all nodes that are present."""
        at = np.flatnonzero(self._slots.take(node))
        if not len(at):
            return None, node
        frames, nodes = [np.arange(len(node))], [node]
        here_frame, here_node = at, node[at]
        while len(here_frame):
            next_frame, next_node = [], []
            slots = self._slots.take(here_node)
            for number in range(int(slots.max())):
                if number:  # the first pass has them all
                    has = slots > number
                    here_frame, here_node, slots = here_frame[has], here_node[has], slots[has]
                slot = self._slot_first.take(here_node) + number
                row, frame = self._slot_row.take(slot), here_frame
                value = self._cut(payload, frame, row)
                key = slot.astype(np.uint64) << np.uint64(SELECTOR_BITS) | value
                near = np.minimum(self._plan.child_key.searchsorted(key), len(self._plan.child_key) - 1)
                found = (self._plan.child_key.take(near) == key) & (value < 2**SELECTOR_BITS)
                found &= self._row_need.take(row) <= length.take(frame)
                next_frame.append(frame[found])
                next_node.append(self._child_node.take(near[found]))
            here_frame, here_node = np.concatenate(next_frame), np.concatenate(next_node)
            frames.append(here_frame)
            nodes.append(here_node)
            deeper = np.flatnonzero(self._slots.take(here_node))
            here_frame, here_node = here_frame[deeper], here_node[deeper]
        frame = np.concatenate(frames)
        order = frame.argsort(kind="stable")
        return frame[order], np.concatenate(nodes)[order]

    def _cut(self, payload: _Payload, frame: Index, row: Index) -> Words:
        """(k,) raw bits of row of frame, pair by pair."""
        value: Words
        if payload.fd:
            words, start = payload.both, (frame + self._row_big.take(row) * payload.n) * 8
            value = words.take(start + self._fd_word.take(row)) >> self._fd_shift.take(row)
            # A signal may reach into the next word; shifting twice keeps a shift by 64 out, which a processor takes for 0.
            value |= words.take(start + self._fd_next.take(row)) << np.uint64(1) << self._fd_rest.take(row)
        else:
            value = payload.both.take(frame + self._row_big.take(row) * payload.n) >> self._classic.take(row)
        value &= self._mask.take(row)
        return value

    def _cut_runs(
        self, payload: _Payload, frame: Index | None, big: NDArray[np.bool_] | None, count: Index, row: Index
    ) -> NDArray[np.int64]:
        """(k,) raw values of all runs. The classic payload is one word: it is repeated, which is cheaper than gathering it."""
        if payload.fd:
            of_run = np.arange(payload.n) if frame is None else frame
            value = self._cut(payload, of_run.repeat(count), row)
        else:
            if big is None:
                word = payload.little
            elif self._all_big:
                word = payload.reversed
            elif frame is None:
                word = np.where(big, payload.reversed, payload.little)
            else:
                word = payload.both.take(frame + big * payload.n)
                frame = None
            if frame is not None:
                word = word.take(frame)
            value = word.repeat(count)
            value >>= self._classic.take(row)
            value &= self._mask.take(row)
        if self._any_sign:
            sign = self._sign.take(row)
            value ^= sign
            value -= sign
        if self._half is not None:
            half = np.flatnonzero(self._half.take(row))
            value[half] = value[half].astype(np.uint16).view(np.float16).astype(np.float32).view(np.uint32)
        return value.view(np.int64)


class _Payload:
    """The payloads of a block as 64-bit words, read from either end; each form is made when it is first asked for."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        """data: (n, 8) or (n, 64), C-contiguous."""
        self.n, width = data.shape
        self.fd = width == 64
        self._data = data
        self.little: Words = data.view("<u8").reshape(-1)
        self._reversed: Words | None = None
        self._both: Words | None = None

    @property
    def reversed(self) -> Words:
        if self._reversed is None:
            if self.fd:
                self._reversed = np.ascontiguousarray(self._data[:, ::-1]).view("<u8").reshape(-1)
            else:  # a byte swap, at which NumPy is faster than at copying backwards
                swapped: Words = self.little.byteswap()
                self._reversed = swapped
        return self._reversed

    @property
    def both(self) -> Words:
        """The little-endian words, then the reversed ones."""
        if self._both is None:
            self._both = np.concatenate([self.little, self.reversed])
        return self._both
