"""A block of CAN frames: the one form that every source and log reader yields, and the decoder takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["EFF_FLAG", "EFF_MASK", "ERR_FLAG", "RTR_FLAG", "SFF_MASK", "FrameBlock", "slice_frames"]

# Flags and masks of `frame_id`, as in <linux/can.h>.
EFF_FLAG = 0x8000_0000  # 29-bit identifier
RTR_FLAG = 0x4000_0000  # remote frame: no payload
ERR_FLAG = 0x2000_0000  # error frame: of the controller, not of the bus
SFF_MASK = 0x0000_07FF
EFF_MASK = 0x1FFF_FFFF


@dataclass(frozen=True, slots=True)
class FrameBlock:
    """n frames in the order in which they came."""

    channels: tuple[str, ...]
    timestamp_ns: NDArray[np.int64]  # (n,) UTC, the frame's own (the kernel's or the log's) stamp
    frame_id: NDArray[np.uint32]  # (n,) with EFF, RTR and ERR flags
    channel: NDArray[np.uint8]  # (n,) index into channels
    length: NDArray[np.uint8]  # (n,) payload bytes, 0..64
    data: NDArray[np.uint8]  # (n, 8) or (n, 64), zero padded, C-contiguous
    entered_ns: int  # wall clock (time.time_ns) when the block entered the source

    def __len__(self) -> int:
        return len(self.timestamp_ns)


def slice_frames(block: FrameBlock, start: int, stop: int) -> FrameBlock:
    """Frames [start, stop) of the block, as views of its arrays."""
    part = slice(start, stop)
    return FrameBlock(
        block.channels,
        block.timestamp_ns[part],
        block.frame_id[part],
        block.channel[part],
        block.length[part],
        block.data[part],
        block.entered_ns,
    )
