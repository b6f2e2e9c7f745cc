"""Frames at the pace of their own time stamps, against the monotonic clock."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from dbc.frames import FrameBlock, slice_frames

STEP_S = 0.02  # frames are handed over this often: 50 blocks a second cost little, and add at most this to the latency


def paced(
    blocks: Iterable[FrameBlock], speed: float, monotonic_s: Callable[[], float], wall_ns: Callable[[], int], wait: Callable[[float], bool]
) -> Iterator[FrameBlock]:
    """`blocks`, cut so that each frame comes when its stamp says, `speed` times as fast; the first comes at once.

    A stamp earlier than one before it does not turn time back: that frame comes with the one before it. A block's `entered_ns` is the wall
    clock when it is handed over, because that is when its frames enter. wait(seconds) returns True to end.
    """
    origin_ns: int | None = None
    latest_ns = 0
    start_s = 0.0
    for block in blocks:
        if not len(block):
            continue
        if origin_ns is None:
            origin_ns = latest_ns = int(block.timestamp_ns[0])
            start_s = monotonic_s()
        stamps = np.maximum(np.maximum.accumulate(block.timestamp_ns), latest_ns)
        latest_ns = int(stamps[-1])
        at = 0
        while at < len(block):
            played_ns = origin_ns + int((monotonic_s() - start_s) * speed * 1e9)
            until = int(np.searchsorted(stamps, played_ns, side="right"))
            if until > at:
                yield replace(slice_frames(block, at, until), entered_ns=wall_ns())
                at = until
            if at < len(block) and wait(max(STEP_S, (int(stamps[at]) - played_ns) / speed / 1e9)):
                return
