"""Decoding speed, ours against cantools, in the same run and on the same frames; equal results are checked first."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dbc.compiler import compile_dbc
from dbc.decoder import Decoder
from dbc.frames import EFF_FLAG, FrameBlock, slice_frames
from dbc.logs import open_log
from dbc.validity import Reason

__all__ = ["bench_decode"]

RUNS = 5


def bench_decode(log: str, files: Sequence[str], *, block_frames: int = 400, frames: int = 40_000) -> dict[str, float]:
    """Frames a second, decoded to float64 physical values, on one core.

    log: a recording. files: its DBC, "PATH" or "PATH@CHANNEL", one for each channel. Uses the first `frames` frames that the DBC knows.
    Returns {"ours", "rival": frames/s (medians), "ratio", "ours_raw", "rival_raw", "ratio_raw": the same without scaling,
    "frames", "signals_per_frame"}. Raises ValueError where the values differ.
    """
    import cantools.database

    compiled = compile_dbc(files)
    known: dict[int, Any] = {}
    database = cantools.database.Database(strict=False)
    for file in files:
        database.add_dbc_file(file.rpartition("@")[0] or file, encoding="cp1252")
    for message in database.messages:
        known[message.frame_id | (EFF_FLAG if message.is_extended_frame else 0)] = message
    blocks = _known_blocks(log, set(known), block_frames, frames)
    payloads = [[(int(i) & ~EFF_FLAG, d[:n].tobytes()) for i, d, n in zip(b.frame_id, b.data, b.length, strict=True)] for b in blocks]
    decoder, schema = Decoder(compiled, blocks[0].channels), compiled.schema

    def ours() -> None:
        for block in blocks:
            signals = decoder.decode(block)
            schema.physical(signals.raw, signals.signal)

    def ours_raw() -> None:
        for block in blocks:
            decoder.decode(block)

    def rival(scaling: bool) -> Callable[[], None]:
        def run() -> None:
            for block in payloads:
                for identifier, payload in block:
                    database.decode_message(identifier, payload, decode_choices=False, scaling=scaling)

        return run

    pairs = 0
    for block in blocks:
        signals = decoder.decode(block)
        values = schema.physical(signals.raw, signals.signal)
        pairs += len(signals)
        _check_equal(block, known, schema.names, signals, values)
    total = sum(map(len, blocks))
    speeds = _compare({"ours": ours, "rival": rival(True), "ours_raw": ours_raw, "rival_raw": rival(False)}, total)
    return speeds | {
        "ratio": speeds["ours"] / speeds["rival"],
        "ratio_raw": speeds["ours_raw"] / speeds["rival_raw"],
        "frames": float(total),
        "signals_per_frame": pairs / total,
    }


def _known_blocks(log: str, known: set[int], block_frames: int, frames: int) -> list[FrameBlock]:
    """Full blocks of known frames, whole within the message: cantools refuses the others."""
    blocks: list[FrameBlock] = []
    left = frames
    for block in open_log(log, block_frames=100_000):
        these = np.flatnonzero(np.isin(block.frame_id, np.array(sorted(known), np.uint32)))[:left]
        left -= len(these)
        part = FrameBlock(
            block.channels,
            block.timestamp_ns[these],
            block.frame_id[these],
            block.channel[these],
            block.length[these],
            block.data[these],
            block.entered_ns,
        )
        blocks += [slice_frames(part, start, start + block_frames) for start in range(0, len(part), block_frames)]
    return [block for block in blocks if len(block) == block_frames] or blocks


def _check_equal(block: FrameBlock, known: dict[int, Any], names: Sequence[str], signals: Any, values: Any) -> None:
    ours: list[dict[str, float]] = [{} for _ in range(len(block))]
    for frame, signal, value, reason in zip(signals.frame, signals.signal, values, signals.reason, strict=True):
        if reason == Reason.VALID:
            ours[frame][names[signal]] = float(value)
    for number, mine in enumerate(ours):
        message = known[int(block.frame_id[number])]
        payload = block.data[number, : block.length[number]].tobytes()
        theirs = {f"{message.name}.{name}": float(value) for name, value in message.decode(payload, decode_choices=False).items()}
        if mine != theirs:
            raise ValueError(f"frame {number} ({message.name} {payload.hex()}): {mine} is not cantools' {theirs}")


def _compare(sides: dict[str, Callable[[], None]], frames: int) -> dict[str, float]:
    """Median frames/s of each side; the sides take turns, so that a disturbance hits them all."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(RUNS):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: frames / statistics.median(times) for name, times in seconds.items()}
