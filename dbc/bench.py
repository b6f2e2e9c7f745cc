"""Decoding speed, ours against cantools, in the same run and on the same frames; equal results are checked first."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from dbc.compiler import CompiledDbc, compile_dbc
from dbc.dbc_file import parse_file_argument
from dbc.decoder import Decoder
from dbc.errors import LogFormatError
from dbc.frames import EFF_FLAG, EFF_MASK, FrameBlock, slice_frames
from dbc.logs import open_log
from dbc.validity import Reason

__all__ = ["bench_decode", "compare", "recorded_blocks"]

RUNS = 5
TURN_S = 0.1


def bench_decode(
    log: str | None = None,
    files: Sequence[str] = (),
    *,
    block_frames: int = 400,
    frames: int = 40_000,
    source: Iterable[FrameBlock] = (),
) -> dict[str, Any]:
    """Frames a second, decoded to float64 physical values with their reasons, on one core.

    log: a recording; files: its DBC, one bus. Without them: `source`, frames of the vehicle of our own, or random payloads of it.
    block_frames: in a block. frames: at most this many, all of messages that the DBC knows.
    Returns {"source", "frames", "block_frames", "signals_per_frame", "ours", "rival": frames/s (medians), "ratio", and the same without
    scaling, raw integers only: "ours_raw", "rival_raw", "ratio_raw"}. Raises ValueError where a value differs from cantools'.
    """
    files = [parse_file_argument(file).path for file in files] or [parse_file_argument(_own_file()).path]
    compiled = compile_dbc(files)
    known, database = _cantools(files)
    name = log or "the vehicle of our own"
    blocks = recorded_blocks(log, source, compiled, block_frames, frames) if log or source else _made_blocks(known, block_frames, frames)
    payloads = [[(int(i) & EFF_MASK, d[:n].tobytes()) for i, d, n in zip(b.frame_id, b.data, b.length, strict=True)] for b in blocks]
    decoder, schema = Decoder(compiled, blocks[0].channels), compiled.schema

    def ours() -> None:
        for block in blocks:
            _ = decoder.decode(block).value

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
    speeds = compare({"ours": ours, "rival": rival(True), "ours_raw": ours_raw, "rival_raw": rival(False)}, total)
    return {
        "source": name,
        "frames": total,
        "block_frames": block_frames,
        "signals_per_frame": pairs / total,
        "ratio": speeds["ours"] / speeds["rival"],
        "ratio_raw": speeds["ours_raw"] / speeds["rival_raw"],
        **speeds,
    }


def _own_file() -> str:
    from dbc.vehicles import DBC_FILES

    return DBC_FILES[0]


def _cantools(files: Sequence[str]) -> tuple[dict[int, Any], Any]:
    """Messages by identifier with EFF_FLAG, and the database that decodes them."""
    import cantools.database

    database = cantools.database.Database(strict=False)
    for file in files:
        database.add_dbc_string(parse_file_argument(file).read().decode("utf-8", errors="replace"))
    return {message.frame_id | (EFF_FLAG if message.is_extended_frame else 0): message for message in database.messages}, database


def recorded_blocks(
    log: str | None, source: Iterable[FrameBlock], compiled: CompiledDbc, block_frames: int, frames: int
) -> list[FrameBlock]:
    """Full blocks of known frames of one bus, in order, from the log or else from `source`. LogFormatError when there are none."""
    keys = (compiled.plan.message_key & np.uint64(0xFFFF_FFFF)).astype(np.uint32)
    kept: list[FrameBlock] = []
    for block in open_log(log, block_frames=100_000) if log else source:
        these = np.isin(block.frame_id, keys)
        if not log:  # of several buses the first
            these &= block.channel == 0
        at = np.flatnonzero(these)[: frames - sum(map(len, kept))]
        part = (block.timestamp_ns[at], block.frame_id[at], np.zeros(len(at), np.uint8), block.length[at], block.data[at])
        kept.append(FrameBlock(compiled.schema.channels[:1], *part, block.entered_ns))
    width = max((block.data.shape[1] for block in kept), default=8)
    whole = FrameBlock(
        compiled.schema.channels[:1],
        np.concatenate([block.timestamp_ns for block in kept] or [np.zeros(0, np.int64)]),
        np.concatenate([block.frame_id for block in kept] or [np.zeros(0, np.uint32)]),
        np.concatenate([block.channel for block in kept] or [np.zeros(0, np.uint8)]),
        np.concatenate([block.length for block in kept] or [np.zeros(0, np.uint8)]),
        np.concatenate([np.pad(block.data, ((0, 0), (0, width - block.data.shape[1]))) for block in kept] or [np.zeros((0, 8), np.uint8)]),
        0,
    )
    blocks = [slice_frames(whole, start, start + block_frames) for start in range(0, len(whole), block_frames)]
    full = [block for block in blocks if len(block) == block_frames] or blocks
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


def compare(sides: dict[str, Callable[[], None]], frames: int) -> dict[str, float]:
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
