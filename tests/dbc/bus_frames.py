"""Frames for the protocols' tests: written by hand, or of a log; and what a DBC makes of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dbc.compiler import compile_dbc
from dbc.decoder import Decoder
from dbc.frames import FrameBlock, slice_frames
from dbc.logs import open_log
from dbc.protocols import Reassembler
from dbc.validity import Reason

MS = 1_000_000
Frame = tuple[int, int, bytes]  # stamp in ms, identifier with flags, payload
Series = dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]  # signal to stamps and values; NaN = invalid


def block_of(frames: Sequence[Frame], channel: str = "bus0", width: int = 8) -> FrameBlock:
    data = np.zeros((len(frames), width), np.uint8)
    for row, (_, _, payload) in enumerate(frames):
        data[row, : len(payload)] = np.frombuffer(payload, np.uint8)
    return FrameBlock(
        (channel,),
        np.array([stamp * MS for stamp, _, _ in frames], np.int64),
        np.array([identifier for _, identifier, _ in frames], np.uint32),
        np.zeros(len(frames), np.uint8),
        np.array([len(payload) for _, _, payload in frames], np.uint8),
        data,
        0,
    )


def log_blocks(path: Path, block_frames: int = 4000) -> Iterator[FrameBlock]:
    """The log's blocks, the channels called bus0, bus1 ... in their order."""
    for block in open_log(path, block_frames=block_frames):
        yield replace(block, channels=tuple(f"bus{number}" for number in range(len(block.channels))))


def one_by_one(block: FrameBlock) -> Iterator[FrameBlock]:
    for at in range(len(block)):
        yield slice_frames(block, at, at + 1)


def decoded(files: Sequence[str], blocks: Iterable[FrameBlock]) -> tuple[Series, Reassembler]:
    """Every signal seen, through reassembler and decoder."""
    compiled = compile_dbc(files)
    reassembler, decoder = Reassembler(compiled), Decoder(compiled, compiled.schema.channels)
    stamps: dict[str, list[NDArray[np.int64]]] = {}
    values: dict[str, list[NDArray[np.float64]]] = {}
    for block in blocks:
        signals = decoder.decode(reassembler.feed(block))
        value = compiled.schema.physical(signals.raw, signals.signal)
        value[signals.reason != Reason.VALID] = np.nan
        for number in np.unique(signals.signal).tolist():
            at = signals.signal == number
            name = compiled.schema.names[number]
            stamps.setdefault(name, []).append(signals.timestamp_ns[at])
            values.setdefault(name, []).append(value[at])
    reassembler.finish()
    return {name: (np.concatenate(stamps[name]), np.concatenate(values[name])) for name in stamps}, reassembler


def isotp_frames(payload: bytes, address: bytes = b"", pad: int = 0xAA) -> list[bytes]:
    """The frames of a payload, classic CAN; address: one byte for extended addressing."""
    room = 7 - len(address)

    def full(data: bytes) -> bytes:
        return (address + data).ljust(8, bytes([pad]))

    if len(payload) <= room:
        return [full(bytes([len(payload)]) + payload)]
    first = room - 1
    frames = [full(bytes([0x10 | len(payload) >> 8, len(payload) & 0xFF]) + payload[:first])]
    for number, at in enumerate(range(first, len(payload), room), 1):
        frames.append(full(bytes([0x20 | number & 0xF]) + payload[at : at + room]))
    return frames


def transport_frames(pgn: int, payload: bytes, source: int = 0, destination: int = 0xFF) -> list[tuple[int, bytes]]:
    """Identifiers and payloads of a J1939 group of more than 8 bytes: BAM, or RTS and data to one destination."""
    packets = -(-len(payload) // 7)
    control = 32 if destination == 0xFF else 16
    head = bytes([control]) + len(payload).to_bytes(2, "little") + bytes([packets, 0xFF]) + pgn.to_bytes(3, "little")
    frames = [(0x9CEC0000 | destination << 8 | source, head)]
    for number in range(packets):
        part = payload[7 * number : 7 * number + 7].ljust(7, b"\xff")
        frames.append((0x9CEB0000 | destination << 8 | source, bytes([number + 1]) + part))
    return frames


def fast_packet_frames(payload: bytes, sequence: int = 0) -> list[bytes]:
    frames = [bytes([sequence << 5, len(payload)]) + payload[:6]]
    for number, at in enumerate(range(6, len(payload), 7), 1):
        frames.append(bytes([sequence << 5 | number]) + payload[at : at + 7])
    return [frame.ljust(8, b"\xff") for frame in frames]
