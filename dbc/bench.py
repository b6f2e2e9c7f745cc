"""Decoding speed, ours against cantools, in the same run and on the same frames; equal results are checked first."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dbc.compiler import compile_dbc
from dbc.dbc_file import parse_file_argument
from dbc.decoder import Decoder
from dbc.errors import LogFormatError
from dbc.frames import EFF_FLAG, EFF_MASK, FrameBlock, slice_frames
from dbc.logs import open_log
from dbc.validity import Reason

__all__ = ["bench_decode"]

RUNS = 5
TURN_S = 0.1


def bench_decode(log: str | None = None, files: Sequence[str] = (), *, block_frames: int = 400, frames: int = 40_000) -> dict[str, Any]:
    """Frames a second, decoded to float64 physical values, on one core.

    log: a recording; files: its DBC, one bus. Without them: random payloads of the vehicle of our own.
    block_frames: in a block. frames: at most this many, all of messages that the DBC knows.
    Returns {"source", "frames", "block_frames", "signals_per_frame", "ours", "rival": frames/s (medians), "ratio", and the same without
    scaling, raw integers only: "ours_raw", "rival_raw", "ratio_raw"}. Raises ValueError where a value differs from cantools'.
    """
    import cantools.database

    if log is None:
        from dbc.vehicles import DBC_FILES

        files = [parse_file_argument(DBC_FILES[0]).path]
    compiled = compile_dbc(files)
    database = cantools.database.Database(strict=False)
    for file in files:
        database.add_dbc_string(parse_file_argument(file).read().decode("utf-8", errors="replace"))
    known = {message.frame_id | (EFF_FLAG if message.is_extended_frame else 0): message for message in database.messages}
    blocks = _made_blocks(known, block_frames, frames) if log is None else _recorded_blocks(log, known, block_frames, frames)
    payloads = [[(int(i) & EFF_MASK, d[:n].tobytes()) for i, d, n in zip(b.frame_id, b.data, b.length, strict=True)] for b in blocks]
    decoder, schema = Decoder(compiled, blocks[0].channels), compiled.schema

    def ours() -> None:
        for block in blocks:
            signals = decoder.decode(block)
            signals.value  # noqa: B018

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
    return {
        "source": log or "random payloads of the vehicle of our own",
        "frames": total,
        "block_frames": block_frames,
        "signals_per_frame": pairs / total,
        "ratio": speeds["ours"] / speeds["rival"],
        "ratio_raw": speeds["ours_raw"] / speeds["rival_raw"],
        **speeds,
    }


def _recorded_blocks(log: str, known: dict[int, Any], block_frames: int, frames: int) -> list[FrameBlock]:
    """Full blocks of known frames, in the log's order. LogFormatError when there are none."""
    blocks: list[FrameBlock] = []
    for block in open_log(log, block_frames=100_000):
        these = np.flatnonzero(np.isin(block.frame_id, np.array(sorted(known), np.uint32)))[:frames]
        frames -= len(these)
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
    full = [block for block in blocks if len(block) == block_frames] or [block for block in blocks if len(block)]
    if not full:
        raise LogFormatError(str(log), "has no frame that the DBC knows; is it this vehicle's DBC, and on the right channel?")
    return full


def _made_blocks(known: dict[int, Any], block_frames: int, frames: int) -> list[FrameBlock]:
    """Random payloads; of multiplexed messages those whose multiplexer has a value that the DBC knows, as cantools refuses the others."""
    import cantools.database

    random = np.random.default_rng(0)
    usable: list[tuple[int, bytes]] = []
    for identifier, message in known.items():
        for payload in (random.bytes(message.length) for _ in range(50)):
            try:
                message.decode(payload, decode_choices=False)
            except cantools.database.DecodeError:
                continue
            usable.append((identifier, payload))
    chosen = random.integers(0, len(usable), frames)
    width = 64 if any(len(payload) > 8 for _, payload in usable) else 8
    identifiers = np.array([identifier for identifier, _ in usable], np.uint32)[chosen]
    lengths = np.array([len(payload) for _, payload in usable], np.uint8)[chosen]
    data = np.array([list(payload.ljust(width, b"\0")) for _, payload in usable], np.uint8)[chosen]
    block = FrameBlock(("can0",), np.arange(frames) * 250_000, identifiers, np.zeros(frames, np.uint8), lengths, data, 0)
    return [slice_frames(block, start, start + block_frames) for start in range(0, frames, block_frames)]


def _check_equal(block: FrameBlock, known: dict[int, Any], names: Sequence[str], signals: Any, values: Any) -> None:
    """values: physical ones of all raw values, also of those that are not valid: the bits must be read alike, whatever they mean."""
    ours: list[dict[str, float]] = [{} for _ in range(len(block))]
    for frame, signal, value, reason in zip(signals.frame, signals.signal, values, signals.reason, strict=True):
        if reason != Reason.SHORT_FRAME:
            ours[frame][names[signal]] = float(value)
    for number, mine in enumerate(ours):
        message = known[int(block.frame_id[number])]
        payload = block.data[number, : block.length[number]].tobytes()
        theirs = {f"{message.name}.{name}": float(value) for name, value in message.decode(payload, decode_choices=False).items()}
        if mine != theirs:
            raise ValueError(f"frame {number} ({message.name} {payload.hex()}): {mine} is not cantools' {theirs}")


def _compare(sides: dict[str, Callable[[], None]], frames: int) -> dict[str, float]:
    """Median frames/s of each side, by CPU time. The sides take turns of one length, so that a disturbance hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(RUNS):
        for name, run in sides.items():
            runs, start = 0, time.process_time()
            while (spent := time.process_time() - start) < TURN_S or not runs:
                run()
                runs += 1
            seconds[name].append(spent / runs)
    return {name: frames / statistics.median(times) for name, times in seconds.items()}
