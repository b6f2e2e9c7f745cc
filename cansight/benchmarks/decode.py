"""Frames to signals in blocks of 400 (100 ms of a loaded bus), against cantools."""

import numpy as np

from cansight.benchmarks.material import Material
from cansight.benchmarks.result import Result
from dbc.bench import bench_decode
from dbc.frames import FrameBlock

DRIVE_S = 40
FLOOR = 20.0
FLOOR_CHECKED = 12.0  # most frames of the simulated drive have a counter and a checksum, which cantools does not look at


def decode(material: Material) -> list[Result]:
    """Physical values in float64, with counters, checksums and "not available" checked; frame by frame equal to cantools'."""
    found = bench_decode(material.log, material.files, source=drive(material))
    what = f"decode {found['frames']:,.0f} frames, {found['signals_per_frame']:.1f} signals each, blocks of {found['block_frames']}"
    floor = FLOOR if material.log is not None else FLOOR_CHECKED
    return [Result("decode", what, "cantools decode_message", "frames/s", found["ours"], found["rival"], found["ratio"], floor)]


def drive(material: Material) -> list[FrameBlock]:
    """Without a recording: frames of a simulated drive, so that counters and checksums are right. Those of the classic buses, as a source
    of classic interfaces gives them: payloads 8 bytes wide."""
    if material.log is not None:
        return []
    from simulator import drive as simulated

    return [_classic(block) for block in simulated("healthy", 1, DRIVE_S)]


def _classic(block: FrameBlock) -> FrameBlock:
    these = np.flatnonzero(block.length <= 8)
    return FrameBlock(
        block.channels,
        block.timestamp_ns[these],
        block.frame_id[these],
        block.channel[these],
        block.length[these],
        np.ascontiguousarray(block.data[these, :8]),
        block.entered_ns,
    )
