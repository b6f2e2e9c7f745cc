"""Frames to signals: one gather over (frame, signal) pairs.

Each frame's identifier and multiplexers say which variant of its message it is (`dbc/variants.py`); a variant is a run of rows, and the
block's runs are repeated into pairs, every one of which is cut out of its frame's 64-bit word with a shift and a mask from flat tables.
Nothing loops over frames, messages or signals, so a block costs about forty NumPy calls whatever is in it. Blocks of
2,000 to 4,000 frames are the fastest; beyond them the temporaries leave the second-level cache.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dbc import variants
from dbc.frame_checks import FrameChecks
from dbc.frames import FrameBlock
from dbc.identifiers import Identifiers
from dbc.payload import Cuts, Payload
from dbc.plan import SELECTOR_BITS, CompiledDbc
from dbc.rows import Rows
from dbc.validity import Reason

__all__ = ["Decoder", "SignalBlock"]

Index = NDArray[np.intp]

SHORT_FRAME = np.uint8(Reason.SHORT_FRAME)


class SignalBlock:
    """k decoded values, in the order of their frames. What only some readers want is made when it is first asked for.

    signal: (k,) intp, index into the schema. raw: (k,) int64, uint64 and float patterns bit-cast (Schema.kind); 0 where the frame was too
    short. reason: (k,) uint8 of Reason. all_valid: no reason but VALID. frames_known: frames of the block that a DBC knows and that gave a
    signal.
    """

    def __init__(
        self,
        block: FrameBlock,
        runs: tuple[Index | None, Index],
        row: Index,
        rows: Rows,
        raw: NDArray[np.int64],
        reason: NDArray[np.uint8] | None,
    ) -> None:
        """runs: the frame (None = one run a frame) and the number of pairs of each run."""
        self._block_ns = block.timestamp_ns
        self._run_frame, self._run_count = runs
        self._row, self._rows = row, rows
        self._frame: NDArray[np.int32] | None = None
        self._value: NDArray[np.float64] | None = None
        self.signal: Index = rows.signal.take(row)
        self.raw = raw
        self.all_valid = reason is None
        self.reason: NDArray[np.uint8] = np.zeros(len(raw), np.uint8) if reason is None else reason

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def frame(self) -> NDArray[np.int32]:
        """(k,) index into the frame block."""
        if self._frame is None:
            count, frame = self._run_count, self._run_frame
            self._frame = (np.arange(len(count), dtype=np.int32) if frame is None else frame.astype(np.int32)).repeat(count)
        return self._frame

    @property
    def timestamp_ns(self) -> NDArray[np.int64]:
        """(k,) the frame's."""
        stamps = self._block_ns if self._run_frame is None else self._block_ns.take(self._run_frame)
        return stamps.repeat(self._run_count)

    @property
    def value(self) -> NDArray[np.float64]:
        """(k,) physical, exactly cantools'; NaN unless VALID."""
        if self._value is None:
            self._value = self._rows.physical(self.raw, self._row)
            if not self.all_valid:
                np.putmask(self._value, self.reason.view(np.bool_), np.nan)  # 0 is VALID
        return self._value

    @property
    def known(self) -> NDArray[np.bool_]:
        """(frames,) of the block: whether a DBC knows it and it gave a signal."""
        has: NDArray[np.bool_] = self._run_count > 0
        if self._run_frame is None:
            return has
        known = np.zeros(len(self._block_ns), np.bool_)
        known[self._run_frame[has]] = True
        return known

    @property
    def frames_known(self) -> int:
        return int(np.count_nonzero(self.known))


class Decoder:
    """Decodes blocks; their channels are matched to the DBCs' by name. Keeps the alive counters of the frames that came last."""

    def __init__(self, compiled: CompiledDbc, channels: tuple[str, ...] = ()) -> None:
        """channels: those of the blocks to come, as far as they are known."""
        plan = compiled.plan
        self._variants = v = variants.build(plan)
        self._identifiers = Identifiers(plan, compiled.schema.channels, v.root)
        self._selectors = Cuts(plan, np.maximum(v.selector, 0)) if len(plan.row_bit) else None
        self._selects = v.selector >= 0
        self._any_selects = bool(self._selects.any())
        self._selector_need = plan.row_need[np.maximum(v.selector, 0)] if len(plan.row_need) else np.zeros(len(v.selector), np.uint16)
        self._any_sparse = bool((v.sparse >= 0).any())
        self._many_runs = bool((v.runs > 1).any())
        self._any_two = bool(v.two.any())
        self._any_big, self._all_big = bool(v.big.any()), bool(v.big[v.count > 0].all())
        self._rows = Rows(compiled, v.rows)
        self._end = v.first + v.count
        self._row_need = plan.row_need[v.rows]
        self._checks = FrameChecks(compiled, v.root, v.whole)
        self._numbers = np.arange(4096, dtype=np.intp)

    def decode(self, block: FrameBlock) -> SignalBlock:
        """Every signal of every frame that a DBC knows. Unknown, remote and error frames give none."""
        v = self._variants
        state = self._identifiers.match(block)
        payload = Payload(block.data, block.length)
        some_short = bool(np.count_nonzero(block.length < self._checks.least.take(state)))
        bad = self._checks.check(block, payload, state, some_short) if self._checks else None
        frame, segment = self.runs(block, payload, state, some_short)
        count = v.count.take(segment)
        ends = count.cumsum()
        k = int(ends[-1]) if len(ends) else 0
        end = self._end.take(segment)
        end -= ends
        row = end.repeat(count)
        if k > len(self._numbers):
            self._numbers = np.arange(2 * k, dtype=np.intp)
        row += self._numbers[:k]
        raw, reason = self._rows.finish(self._bits(payload, frame, segment, count, row), row)
        if some_short:
            length = block.length if frame is None else block.length.take(frame)
            short = self._row_need.take(row) > length.repeat(count)
            reason = np.zeros(k, np.uint8) if reason is None else reason
            np.putmask(reason, short, SHORT_FRAME)
            np.putmask(raw, short, 0)
        if bad is not None:
            reason = np.zeros(k, np.uint8) if reason is None else reason
            np.maximum(reason, (bad if frame is None else bad.take(frame)).repeat(count), out=reason)
        return SignalBlock(block, (frame, count), row, self._rows, raw, reason)

    def runs(self, block: FrameBlock, payload: Payload, state: Index, some_short: bool) -> tuple[Index | None, Index]:
        """Frame (None = one run a frame) and segment of each run, in the order of the frames.

        state: (n,) where each frame starts; changed in place. some_short: a frame may end before a selector does.
        """
        v, frame = self._variants, None
        if self._any_selects:
            if self._many_runs:
                runs = v.runs.take(state)
                if runs.max(initial=1) > 1:
                    frame = np.arange(len(state)).repeat(runs)
                    state = (state - runs.cumsum() + runs).repeat(runs) + np.arange(len(frame))
            self._follow(payload, block.length if some_short else None, frame, state)
        segment = v.segment.take(state)
        if self._any_two:
            two = v.two.take(state)
            if two.any():
                parts = two.astype(np.intp) + 1
                frame = (np.arange(len(two)) if frame is None else frame).repeat(parts)
                segment = segment.repeat(parts)
                segment[parts.cumsum()[two] - 1] += 1
        return frame, segment

    def _follow(self, payload: Payload, length: NDArray[np.integer] | None, frame: Index | None, state: Index) -> None:
        """Read selectors until every state is final; changes `state` in place. length: None = all selectors are there."""
        assert self._selectors is not None
        v = self._variants
        at = self._selects.take(state).nonzero()[0]
        while len(at):
            here = state.take(at)
            of = at if frame is None else frame.take(at)
            value = self._selectors.cut(payload, of, here).view(np.int64)
            entry = self._search(here, value) if self._any_sparse else value
            entry += v.base.take(here)
            following = v.follow.take(entry)
            if length is not None:
                np.copyto(following, v.default.take(here), where=self._selector_need.take(here) > length.take(of))
            state[at] = following
            more = self._selects.take(following)
            at = at[more]

    def _search(self, state: Index, value: Index) -> Index:
        """Entry of each selector value, counted from its state's first."""
        v = self._variants
        sparse = v.sparse.take(state)
        these = np.flatnonzero(sparse >= 0)
        if not len(these):
            return value
        number, wanted = sparse.take(these), value.take(these).view(np.uint64)
        key = number.astype(np.uint64) << np.uint64(SELECTOR_BITS) | wanted
        near = v.sparse_key.searchsorted(key)
        found = (v.sparse_key.take(near, mode="clip") == key) & (wanted < 2**SELECTOR_BITS)
        # The entry after the last is the default.
        value[these] = np.where(found, near - v.sparse_first.take(number), v.sparse_count.take(number))
        return value

    def _bits(self, payload: Payload, frame: Index | None, segment: Index, count: Index, row: Index) -> NDArray[np.uint64]:
        """(k,) raw bits of all runs. A classic payload is one word: it is repeated, which is cheaper than gathering it."""
        cuts = self._rows.cuts
        if payload.width > 1:
            place = (np.arange(len(count)) if frame is None else frame) * payload.width
            if self._any_big:
                place += self._variants.big.take(segment) * len(payload.little)
            place = place.repeat(count)
            place += cuts.word.take(row)
            value: NDArray[np.uint64] = payload.both.take(place, mode="clip")
            value >>= cuts.shift.take(row)
            cuts.mend(value, payload, place, row)
        else:
            if not self._any_big:
                word = payload.little
            elif self._all_big:
                word = payload.swapped
            else:
                big = self._variants.big.take(segment)
                if frame is None:
                    word = np.where(big, payload.swapped, payload.little)
                else:
                    word = payload.both.take(frame + big * payload.n)
                    frame = None
            value = (word if frame is None else word.take(frame)).repeat(count)
            value >>= cuts.shift.take(row)
        value &= cuts.mask.take(row)
        return value
