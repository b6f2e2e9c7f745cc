"""A block of CAN frames: the one form that every source and log reader yields, and the decoder takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    *("CANFD_BRS", "CANFD_ESI", "CANFD_FDF", "CLASSIC_BYTES", "EFF_FLAG", "EFF_MASK", "ERR_FLAG", "RTR_FLAG", "SFF_MASK"),
    *("FrameBlock", "filled_flags", "joined_flags", "slice_frames", "stated_flags"),
]

# Flags and masks of `frame_id`, as in <linux/can.h>.
EFF_FLAG = 0x8000_0000  # 29-bit identifier
RTR_FLAG = 0x4000_0000  # remote frame: no payload
ERR_FLAG = 0x2000_0000  # error frame: of the controller, not of the bus
SFF_MASK = 0x0000_07FF
EFF_MASK = 0x1FFF_FFFF

# Bits of `flags`, as in <linux/can.h>, struct canfd_frame.
CANFD_BRS = 0x01  # the payload is sent at the second bit rate
CANFD_ESI = 0x02  # the sender is error passive
CANFD_FDF = 0x04  # the frame is CAN FD

CLASSIC_BYTES = 8


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
    # (n,) of CAN FD. None, as on every classic bus: a frame of more than 8 bytes is FD with the second bit rate, every other one classic.
    flags: NDArray[np.uint8] | None = None

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
        None if block.flags is None else block.flags[part],
    )


def filled_flags(flags: NDArray[np.uint8] | None, length: NDArray[np.integer]) -> NDArray[np.uint8]:
    """(n,) flags of a block's frames, also where it leaves them out. Frames of more than 8 bytes are FD, whatever was said."""
    long = length > CLASSIC_BYTES
    if flags is None:
        return np.where(long, np.uint8(CANFD_FDF | CANFD_BRS), np.uint8(0))
    return np.where(long, flags | np.uint8(CANFD_FDF), flags)


def stated_flags(flags: NDArray[np.uint8], length: NDArray[np.integer]) -> NDArray[np.uint8] | None:
    """The flags (n,) of frames of these lengths (n,), bytes, as a block carries them: None where they say no more than the lengths do."""
    filled = filled_flags(flags, length)
    return None if np.array_equal(filled, filled_flags(None, length)) else filled


def joined_flags(parts: Sequence[tuple[NDArray[np.uint8] | None, NDArray[np.integer]]]) -> NDArray[np.uint8] | None:
    """Flags of blocks one after the other. parts: (flags, length) of each."""
    if all(flags is None for flags, _ in parts):
        return None
    return np.concatenate([filled_flags(flags, length) for flags, length in parts])
