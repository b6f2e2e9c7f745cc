"""What a log holds: frames, channels, identifiers, and how much of it a DBC explains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dbc.compiler import CompiledDbc
from dbc.decoder import Decoder
from dbc.frames import EFF_FLAG, EFF_MASK, ERR_FLAG, RTR_FLAG, FrameBlock
from dbc.logs import LogReader
from dbc.protocols import Reassembler
from dbc.validity import Reason

__all__ = ["LogInfo", "SignalCoverage", "decoded_by_channel", "described_frames", "survey"]


@dataclass
class SignalCoverage:
    """How much of a log the DBC explains."""

    signals: int  # in the schema
    frames_decoded: int = 0
    frames_short: int = 0  # frames that end before one of their signals
    seen: int = 0  # signals with at least one valid value
    changing: int = 0  # signals with at least two different values


@dataclass
class LogInfo:
    path: str
    format: str = ""
    frames: int = 0
    first_ns: int | None = None  # earliest stamp, UTC
    last_ns: int | None = None  # latest stamp
    backwards: int = 0  # frames stamped earlier than the frame before them
    extended: int = 0
    remote: int = 0
    error: int = 0
    longest: int = 0  # payload bytes
    skipped: int = 0  # lines that are no frame
    first_skipped: int | None = None
    channels: dict[str, int] = field(default_factory=dict)  # frames by channel
    identifiers: int = 0  # different (channel, identifier) pairs
    unknown: list[tuple[str, str, int]] = field(
        default_factory=list
    )  # channel, identifier, frames: those no DBC knows, most frequent first
    coverage: SignalCoverage | None = None


def survey(reader: LogReader, compiled: CompiledDbc | None = None) -> LogInfo:
    """Read the whole log once. Raises LogFormatError."""
    info = LogInfo(reader.path)
    by_identifier: Counter[tuple[str, int]] = Counter()
    coverage = None if compiled is None else _Coverage(compiled)
    last = None
    for block in reader:
        _count(info, block, last)
        last = int(block.timestamp_ns[-1])
        keys, counts = np.unique(block.channel.astype(np.uint64) << np.uint64(32) | block.frame_id, return_counts=True)
        for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
            by_identifier[block.channels[key >> 32], key & 0xFFFF_FFFF] += count
        if coverage is not None:
            coverage.take(block)
    info.format, info.skipped, info.first_skipped = reader.format, reader.skipped, reader.first_skipped
    frames = {key: count for key, count in by_identifier.items() if not key[1] & (ERR_FLAG | RTR_FLAG)}
    info.identifiers = len(frames)
    for (channel, _), count in by_identifier.items():
        info.channels[channel] = info.channels.get(channel, 0) + count
    if coverage is not None and compiled is not None:
        info.coverage = coverage.result()
        known = {(compiled.schema.channels[key >> 32], key & 0xFFFF_FFFF) for key in compiled.plan.message_key.tolist()}
        strange = Counter({key: count for key, count in frames.items() if key not in known})
        info.unknown = [(channel, _hex(identifier), count) for (channel, identifier), count in strange.most_common()]
    return info


def described_frames(blocks: Iterable[FrameBlock], compiled: CompiledDbc) -> dict[str, int]:
    """Frames whose identifier is compiled (on whichever channel), for each channel seen; 0 where there is none."""
    known = np.unique(compiled.plan.message_key & 0xFFFF_FFFF).astype(np.uint32)
    described: dict[str, int] = {}
    for block in blocks:
        hits = np.isin(block.frame_id, known)
        for number in np.unique(block.channel).tolist():
            channel = block.channels[number]
            described[channel] = described.get(channel, 0) + int(np.count_nonzero(hits & (block.channel == number)))
    return described


def decoded_by_channel(blocks: Sequence[FrameBlock], compiled: CompiledDbc) -> dict[str, int]:
    """Frames that the DBC, compiled for one channel, would decode on each channel of the blocks; transport protocols included."""
    place = compiled.schema.channels[0] if compiled.schema.channels else ""
    found: dict[str, int] = {}
    for name in dict.fromkeys(name for block in blocks for name in block.channels):
        reassembler, decoder = Reassembler(compiled), Decoder(compiled, compiled.schema.channels)
        found[name] = 0
        for block in blocks:
            renamed = replace(block, channels=tuple(place if channel == name else "" for channel in block.channels))
            found[name] += len(np.unique(decoder.decode(reassembler.feed(renamed)).frame))
    return found


def _count(info: LogInfo, block: FrameBlock, last_ns: int | None) -> None:
    stamps = block.timestamp_ns
    info.frames += len(block)
    info.first_ns = min(int(stamps.min()), stamps[0] if info.first_ns is None else info.first_ns)
    info.last_ns = max(int(stamps.max()), stamps[0] if info.last_ns is None else info.last_ns)
    info.first_ns, info.last_ns = int(info.first_ns), int(info.last_ns)
    info.backwards += int((np.diff(stamps) < 0).sum()) + int(last_ns is not None and stamps[0] < last_ns)
    flags = block.frame_id
    info.extended += int(((flags & EFF_FLAG) != 0).sum())
    info.remote += int(((flags & RTR_FLAG) != 0).sum())
    info.error += int(((flags & ERR_FLAG) != 0).sum())
    info.longest = max(info.longest, int(block.length.max()))


def _hex(identifier: int) -> str:
    return f"{identifier & EFF_MASK:08X}" if identifier & EFF_FLAG else f"{identifier:03X}"


class _Coverage:
    def __init__(self, compiled: CompiledDbc) -> None:
        n = len(compiled.schema)
        self._compiled = compiled
        self._decoder = Decoder(compiled, compiled.schema.channels)
        self._result = SignalCoverage(n)
        self._seen = np.zeros(n, np.bool_)
        self._changing = np.zeros(n, np.bool_)
        self._first = np.zeros(n, np.int64)

    def take(self, block: FrameBlock) -> None:
        signals = self._decoder.decode(block)
        self._result.frames_decoded += len(np.unique(signals.frame))
        valid = signals.reason == Reason.VALID
        self._result.frames_short += len(np.unique(signals.frame[~valid]))
        signal, raw = signals.signal[valid], signals.raw[valid]
        new = np.flatnonzero(~self._seen[signal])[::-1]  # backwards, so that the first value is the one that stays
        self._first[signal[new]] = raw[new]
        self._seen[signal] = True
        self._changing[signal[raw != self._first[signal]]] = True

    def result(self) -> SignalCoverage:
        self._result.seen, self._result.changing = int(self._seen.sum()), int(self._changing.sum())
        return self._result
