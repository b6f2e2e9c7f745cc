"""What a log holds: frames, channels, identifiers, and how much of it a DBC explains."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from dbc.compiler import CompiledDbc
from dbc.decoder import Decoder
from dbc.frames import CANFD_FDF, CLASSIC_BYTES, EFF_FLAG, EFF_MASK, ERR_FLAG, RTR_FLAG, FrameBlock, filled_flags
from dbc.logs import LogReader
from dbc.protocols import Reassembler
from dbc.validity import Reason

__all__ = ["ChannelInfo", "IdentifierInfo", "LogInfo", "SignalCoverage", "decoded_by_channel", "described_frames", "survey"]

FD_FASTER = 4  # rate of an FD frame's payload to that of its identifier,
FD_EARLIER, FD_FIELDS = 18, 38  # fields of a classic frame that an FD frame does not send at that rate; its own at the faster rate


@dataclass
class SignalCoverage:
    """How much of a log the DBC explains."""

    signals: int  # in the schema
    frames_decoded: int = 0
    frames_short: int = 0  # frames that end before one of their signals
    seen: int = 0  # signals with at least one valid value
    changing: int = 0  # signals with at least two different values
    changing_names: list[str] = field(default_factory=list)


@dataclass
class IdentifierInfo:
    channel: str
    identifier: str  # hexadecimal, 8 digits when extended
    frames: int
    period_ms: float | None  # on average; None for a single frame
    message: str | None = None  # of the DBC


@dataclass
class ChannelInfo:
    frames: int = 0
    frames_per_s: float = 0.0  # on average
    bits_per_s: float = 0.0  # on average, stuff bits as they are on average included
    peak_bits_per_s: float = 0.0  # in the second of most


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
    fd: int = 0  # CAN FD
    longest: int = 0  # payload bytes
    skipped: int = 0  # lines that are no frame
    first_skipped: int | None = None
    damage: str | None = None  # what cannot be read of a binary or packed log
    span_s: float = 0.0
    channels: dict[str, ChannelInfo] = field(default_factory=dict)
    identifiers: list[IdentifierInfo] = field(default_factory=list)  # remote and error frames left out; most frames first
    unknown: list[tuple[str, str, int]] = field(
        default_factory=list
    )  # channel, identifier, frames: those no DBC knows, most frequent first
    coverage: SignalCoverage | None = None


def survey(reader: LogReader, compiled: CompiledDbc | None = None) -> LogInfo:
    """Read the whole log once. Raises LogFormatError."""
    info = LogInfo(reader.path)
    by_identifier: dict[tuple[str, int], list[int]] = {}  # frames, first and last stamp
    load = _Load()
    coverage = None if compiled is None else _Coverage(compiled)
    last = None
    for block in reader:
        _count(info, block, last)
        last = int(block.timestamp_ns[-1])
        load.take(block)
        _count_identifiers(by_identifier, block)
        if coverage is not None:
            coverage.take(block)
    reader.refuse_empty()
    info.format, info.skipped, info.first_skipped, info.damage = reader.format, reader.skipped, reader.first_skipped, reader.damage
    info.span_s = 0.0 if info.first_ns is None or info.last_ns is None else (info.last_ns - info.first_ns) / 1e9
    names: dict[tuple[str, int], str] = {} if compiled is None else _messages(compiled)
    frames = {key: seen for key, seen in by_identifier.items() if not key[1] & (ERR_FLAG | RTR_FLAG)}
    for (channel, identifier), (count, first_ns, last_ns) in sorted(frames.items(), key=lambda item: (-item[1][0], item[0])):
        period_ms = (last_ns - first_ns) / 1e6 / (count - 1) if count > 1 else None
        info.identifiers.append(IdentifierInfo(channel, _hex(identifier), count, period_ms, names.get((channel, identifier))))
    for (channel, _), (count, _, _) in by_identifier.items():
        info.channels.setdefault(channel, ChannelInfo()).frames += count
    for channel, found in info.channels.items():
        found.frames_per_s = found.frames / info.span_s if info.span_s else 0.0
        total, found.peak_bits_per_s = load.of(channel)
        found.bits_per_s = total / info.span_s if info.span_s else 0.0
    if coverage is not None:
        info.coverage = coverage.result()
        decoded = coverage.identifiers
        info.unknown = [
            (one.channel, one.identifier, one.frames) for one in info.identifiers if (one.channel, int(one.identifier, 16)) not in decoded
        ]
    return info


def _messages(compiled: CompiledDbc) -> dict[tuple[str, int], str]:
    keys = compiled.plan.message_key.tolist()
    return {
        (compiled.schema.channels[key >> 32], key & 0xFFFF_FFFF): name for key, name in zip(keys, compiled.plan.message_names, strict=True)
    }


def _count_identifiers(seen: dict[tuple[str, int], list[int]], block: FrameBlock) -> None:
    keys, first, inverse, counts = np.unique(
        block.channel.astype(np.uint64) << np.uint64(32) | block.frame_id, return_index=True, return_inverse=True, return_counts=True
    )
    last = np.empty(len(keys), np.intp)
    last[inverse] = np.arange(len(block))
    stamps = block.timestamp_ns
    for key, count, begin, end in zip(keys.tolist(), counts.tolist(), stamps[first].tolist(), stamps[last].tolist(), strict=True):
        name = block.channels[key >> 32], key & 0xFFFF_FFFF
        known = seen.setdefault(name, [0, begin, end])
        known[0] += count
        known[2] = end


class _Load:
    """Bits on each bus: a frame's fields (ISO 11898-1), and a stuff bit for each ten, which is what real traffic has.

    A log does not say at what rate an FD frame's payload went: four times the other bits' rate (500 kbit/s and 2 Mbit/s) is usual.
    """

    def __init__(self) -> None:
        self._bits: dict[str, list[float]] = {}  # total, bits of the current second, the most of a second
        self._second: dict[str, int] = {}

    def take(self, block: FrameBlock) -> None:
        length = np.where((block.frame_id & RTR_FLAG) != 0, 0, block.length)
        payload = 8 * length.astype(np.int64)
        fields = np.where((block.frame_id & EFF_FLAG) != 0, 67, 47)
        bits = np.where(length > 8, fields - FD_EARLIER + (payload + FD_FIELDS) / FD_FASTER, fields + payload) * 1.1
        second = block.timestamp_ns // 1_000_000_000
        edges = [0, *(np.flatnonzero(np.diff(second)) + 1).tolist(), len(block)]
        for start, stop in pairwise(edges):
            sums = np.bincount(block.channel[start:stop], bits[start:stop], len(block.channels))
            for name, amount in zip(block.channels, sums.tolist(), strict=True):
                state = self._bits.setdefault(name, [0.0, 0.0, 0.0])
                if self._second.get(name) != int(second[start]):
                    self._second[name], state[1] = int(second[start]), 0.0
                state[0] += amount
                state[1] += amount
                state[2] = max(state[2], state[1])

    def of(self, channel: str) -> tuple[float, float]:
        """(bits in all, in the second of most)."""
        state = self._bits[channel]
        return state[0], state[2]


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
    if block.flags is not None or block.data.shape[1] > CLASSIC_BYTES:
        info.fd += int(np.count_nonzero(filled_flags(block.flags, block.length) & CANFD_FDF))


def _hex(identifier: int) -> str:
    return f"{identifier & EFF_MASK:08X}" if identifier & EFF_FLAG else f"{identifier:03X}"


class _Coverage:
    def __init__(self, compiled: CompiledDbc) -> None:
        n = len(compiled.schema)
        self._names = compiled.schema.names
        self._reassembler, self._decoder = Reassembler(compiled), Decoder(compiled, compiled.schema.channels)
        self._result = SignalCoverage(n)
        self._seen = np.zeros(n, np.bool_)
        self._changing = np.zeros(n, np.bool_)
        self._first = np.zeros(n, np.int64)
        self.identifiers: set[tuple[str, int]] = set()  # that were decoded

    def take(self, block: FrameBlock) -> None:
        whole = self._reassembler.feed(block)
        signals = self._decoder.decode(whole)
        frames = np.unique(signals.frame)
        self._result.frames_decoded += len(frames)
        if len(whole) == len(block):  # so that a frame's own identifier is known
            keys = np.unique(block.channel[frames].astype(np.uint64) << np.uint64(32) | block.frame_id[frames])
            self.identifiers |= {(block.channels[key >> 32], key & EFF_MASK) for key in keys.tolist()}
        self._result.frames_short += len(np.unique(signals.frame[signals.reason == Reason.SHORT_FRAME]))
        valid = signals.reason == Reason.VALID
        signal, raw = signals.signal[valid], signals.raw[valid]
        new = np.flatnonzero(~self._seen[signal])[::-1]  # backwards, so that the first value is the one that stays
        self._first[signal[new]] = raw[new]
        self._seen[signal] = True
        self._changing[signal[raw != self._first[signal]]] = True

    def result(self) -> SignalCoverage:
        self._result.seen, self._result.changing = int(self._seen.sum()), int(self._changing.sum())
        self._result.changing_names = [self._names[number] for number in np.flatnonzero(self._changing)]
        return self._result
