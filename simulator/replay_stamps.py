"""When the frames of one log are due: its stamps, made to never go back.

Recorded stamps jump. Rules, for a jump of more than `FAR_NS` = 1 s to the frame before:

- Fewer than ten frames that jump away and are followed by frames near the ones before them are *stray*: due with the frame before them.
- Any other jump forward is a gap, and kept; one of more than a day is cut to a second.
- Any other jump back is a clock that was set back, or a log that begins anew: the frames go on where the ones before them ended.

A frame stamped up to a second earlier than the one before it is due at once: the log's order is kept.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["FAR_NS", "LONGEST_GAP_NS", "SURE_FRAMES", "SteadyStamps"]

FAR_NS = 1_000_000_000
SURE_FRAMES = 10
LONGEST_GAP_NS = 86_400 * 1_000_000_000
CUT_GAP_NS = 1_000_000_000
EARLIEST_NS, LATEST_NS = -(1 << 60), 1 << 62  # the years 1933 and 2116: differences and shifts of stamps are int64 too

Stamps = NDArray[np.int64]


class SteadyStamps:
    """Stamps of one log, block after block."""

    def __init__(self) -> None:
        self.stray = 0  # frames
        self.set_back = 0  # times
        self.gaps_cut = 0  # times
        self._stamp_ns: int | None = None  # of the last frame that was not stray, as the log has it
        self._at_ns = 0  # when it is due
        self._shift_ns = 0

    def place(self, stamp_ns: Stamps, *, at_end: bool) -> Stamps:
        """(n,) stamps -> (m,) never less than the one before; m < n: the last n - m frames are to come again, with what follows them.

        at_end: nothing follows, m = n.
        """
        stamp_ns = np.clip(stamp_ns, EARLIEST_NS, LATEST_NS)
        n = len(stamp_ns)
        if n == 0:
            return stamp_ns
        if self._stamp_ns is None:
            self._stamp_ns = self._at_ns = int(stamp_ns[0])
        jumps = np.flatnonzero(np.abs(np.diff(stamp_ns, prepend=self._stamp_ns)) > FAR_NS).tolist()
        if not jumps:  # nearly every block
            return self._go_on(stamp_ns)
        at_ns = np.empty(n, np.int64)
        bounds = sorted({0, n, *jumps})
        for start, stop in pairwise(bounds):
            jump_ns = int(stamp_ns[start]) - self._stamp_ns
            if abs(jump_ns) > FAR_NS:
                few = stop - start < SURE_FRAMES
                if few and stop == n and not at_end:
                    return at_ns[:start]
                if few and stop < n and abs(int(stamp_ns[stop]) - self._stamp_ns) <= FAR_NS:
                    at_ns[start:stop] = self._at_ns
                    self.stray += stop - start
                    continue
                self._jump(jump_ns, int(stamp_ns[start]))
            at_ns[start:stop] = self._go_on(stamp_ns[start:stop])
        return at_ns

    def _jump(self, jump_ns: int, stamp_ns: int) -> None:
        if jump_ns < 0:
            self.set_back += 1
            self._shift_ns = self._at_ns - stamp_ns
        elif jump_ns > LONGEST_GAP_NS:
            self.gaps_cut += 1
            self._shift_ns = self._at_ns + CUT_GAP_NS - stamp_ns

    def _go_on(self, stamp_ns: Stamps) -> Stamps:
        at_ns: Stamps = np.maximum(np.maximum.accumulate(stamp_ns) + self._shift_ns, self._at_ns)
        self._stamp_ns, self._at_ns = int(stamp_ns[-1]), int(at_ns[-1])
        return at_ns
