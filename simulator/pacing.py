"""Blocks at the speed of a clock: what a live source would deliver, as fast or slow as asked."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from dbc.frames import FrameBlock, slice_frames
from simulator.errors import ScenarioError

__all__ = ["SLICE_NS", "pace"]

SLICE_NS = 50_000_000  # of the frames' own time: twenty slices a second, so that frames arrive smoothly


def pace(
    blocks: Iterable[FrameBlock],
    speed: float = 1.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[FrameBlock]:
    """Yield the blocks in slices of 50 ms of their own time, each when it is due at `speed` times real time.

    A slice is due at its end, when its last frame would have come. `entered_ns` is stamped anew at that instant. A
    consumer that is too slow is not waited for: the next slices then come at once, until the clock is met again.
    Raises ScenarioError for a speed that is not positive.
    """
    if not speed > 0:
        raise ScenarioError(f"speed: expected more than 0, found {speed}")
    return _paced(blocks, speed, clock, sleep)


def _paced(blocks: Iterable[FrameBlock], speed: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> Iterator[FrameBlock]:
    began: float | None = None
    first_ns = 0
    for block in blocks:
        if not len(block):
            continue
        if began is None:
            began, first_ns = clock(), int(block.timestamp_ns[0])
        number = (block.timestamp_ns - first_ns) // SLICE_NS
        edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(block)]
        for start, stop in itertools.pairwise(edges):
            due = began + (int(number[start]) + 1) * SLICE_NS / 1e9 / speed
            wait = due - clock()
            if wait > 0:
                sleep(wait)
            yield dataclasses.replace(slice_frames(block, start, stop), entered_ns=time.time_ns())
