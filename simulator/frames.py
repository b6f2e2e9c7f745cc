"""Signals to frames: sampling at each message's period, counters, checksums, payloads, and a place on the bus for each frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbc.encoder import MessageEncoder, message_encoders
from dbc.frames import FrameBlock
from dbc.plan import CompiledDbc
from simulator.old.vehicle import STEPS_PER_S

__all__ = ["BIT_RATE", "FrameMaker", "crc8_j1850", "frame_time_us"]

BIT_RATE = 500_000
STEP_MS = 1000 // STEPS_PER_S
JITTER_US = 60.0  # of the sender's task; a control unit's timer is that steady
JITTER_MOST_US = 400.0
PHASE_STEP_US = 1_310  # between messages of one bus: spreads them, so that they do not wait for each other
CHECKSUM, COUNTER = "Checksum", "AliveCounter"
PAYLOAD_BYTES = 8


def _crc_table() -> NDArray[np.uint8]:
    def shifted(byte: int) -> int:
        for _ in range(8):
            byte = (byte << 1) ^ 0x1D if byte & 0x80 else byte << 1
        return byte & 0xFF

    return np.array([shifted(byte) for byte in range(256)], np.uint8)


CRC_TABLE = _crc_table()


def crc8_j1850(frame_id: NDArray[np.uint32], data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The DBC's checksum: CRC-8 SAE J1850 over the frame id (low byte, high byte) and payload bytes 1 to 7.

    frame_id: (n,), data: (n, 8). Returns (n,) uint8. Polynomial 0x1D, start 0xFF, final XOR 0xFF (AUTOSAR SWS CRC Library).
    """
    crc = CRC_TABLE[0xFF ^ (frame_id & 0xFF).astype(np.uint8)]
    crc = CRC_TABLE[crc ^ (frame_id >> 8 & 0xFF).astype(np.uint8)]
    for byte in range(1, PAYLOAD_BYTES):
        crc = CRC_TABLE[crc ^ data[:, byte]]
    final: NDArray[np.uint8] = crc ^ np.uint8(0xFF)
    return final


def frame_time_us(length: NDArray[np.integer]) -> NDArray[np.float64]:
    """How long a classic frame with an 11-bit id occupies the bus, with the stuff bits that random data cause.

    47 bits around the payload (ISO 11898-1, interframe space included), one stuff bit in about 19 of the 34 + 8 n bits that are stuffed.
    """
    bits: NDArray[np.float64] = 47 + 8 * length + (34 + 8 * length) / 19
    return bits * (1e6 / BIT_RATE)


@dataclass(frozen=True)
class _Group:
    """The messages of one period: they are sampled together."""

    period_ms: int
    columns: NDArray[np.intp]  # (g,) of the signals in the schema
    step: NDArray[np.intp]  # (k,) the step before each sample
    share: NDArray[np.float64]  # (k, 1) how far between that step and the next
    smooth: NDArray[np.bool_]  # (g,) interpolated between steps; states and numbers hold
    messages: tuple[_Message, ...]


@dataclass(frozen=True)
class _Message:
    encoder: MessageEncoder
    channel: int
    columns: slice  # of the group's
    counter: int | None  # column of the alive counter within the message
    checked: bool
    multiplexer: tuple[int, int] | None  # column, number of values
    phase_us: float


class FrameMaker:
    """Makes the frames of one second after the other."""

    def __init__(self, compiled: CompiledDbc, rng: np.random.Generator) -> None:
        schema = compiled.schema
        self.channels = schema.channels
        self.names = schema.names
        self.scale, self.offset = schema.scale, schema.offset
        self.lowest = np.rint((schema.minimum - schema.offset) / schema.scale)
        self.highest = np.rint((schema.maximum - schema.offset) / schema.scale)
        self._rng = rng
        encoders = message_encoders(compiled)
        periods = sorted({int(encoder.period_ms) for encoder in encoders})
        place = dict.fromkeys(self.channels, 0)
        phases: dict[str, float] = {}
        for encoder in sorted(encoders, key=lambda e: e.period_ms):
            phases[encoder.name] = place[encoder.channel] * PHASE_STEP_US % (encoder.period_ms * 1000 - 800)
            place[encoder.channel] += 1
        self._groups = [self._group(compiled, [e for e in encoders if e.period_ms == period], period, phases) for period in periods]

    def _group(self, compiled: CompiledDbc, encoders: list[MessageEncoder], period_ms: int, phases: dict[str, float]) -> _Group:
        schema = compiled.schema
        columns: list[int] = []
        messages = []
        for encoder in encoders:
            short = [name.rpartition(".")[2] for name in encoder.signals]
            selectors = {place for path in encoder.selectors for place in path}
            multiplexer = next(iter(selectors))[0] if selectors else None
            messages.append(
                _Message(
                    encoder=encoder,
                    channel=self.channels.index(encoder.channel),
                    columns=slice(len(columns), len(columns) + len(short)),
                    counter=short.index(COUNTER) if COUNTER in short else None,
                    checked=CHECKSUM in short,
                    multiplexer=None if multiplexer is None else (multiplexer, len(selectors)),
                    phase_us=phases[encoder.name],
                )
            )
            columns += [schema.index(name) for name in encoder.signals]
        time_ms = np.arange(0, 1000, period_ms)
        return _Group(
            period_ms=period_ms,
            columns=np.array(columns, np.intp),
            step=(time_ms // STEP_MS).astype(np.intp),
            share=(time_ms % STEP_MS / STEP_MS)[:, None],
            smooth=np.array([schema.choices[column] is None for column in columns]),
            messages=tuple(messages),
        )

    def sample(self, values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """What each period group sends in this second. values: (STEPS_PER_S + 1, signals). Returns (frames, signals of the group) each."""
        sampled = []
        for group in self._groups:
            picked = values[:, group.columns]
            now = picked[group.step]
            if group.period_ms < STEP_MS:
                now = now + np.where(group.smooth, group.share * (picked[group.step + 1] - now), 0.0)
            sampled.append(now)
        return sampled

    def block(self, second: int, values: NDArray[np.float64], start_ns: int, entered_ns: int) -> FrameBlock:
        """The frames of one second.

        second: since the start of the drive. values: (STEPS_PER_S + 1, signals in the schema's order) physical, from this second's first
        instant to the next one's. start_ns: UTC of the second's first instant.
        """
        parts: list[tuple[Any, int, int, int, NDArray[Any]]] = []  # time, id, channel, length, payloads
        checked = []
        for group, sampled in zip(self._groups, self.sample(values), strict=True):
            columns = group.columns
            scaled = np.rint((sampled - self.offset[columns]) / self.scale[columns])
            raw = np.clip(scaled, self.lowest[columns], self.highest[columns]).astype(np.int64)
            frames = len(raw)
            due = np.arange(frames) * (group.period_ms * 1000.0)
            count = second * frames + np.arange(frames)
            for message in group.messages:
                mine = raw[:, message.columns]
                if message.counter is not None:
                    mine[:, message.counter] = count & 15
                if message.multiplexer:
                    mine[:, message.multiplexer[0]] = count % message.multiplexer[1]
                payload = np.zeros((frames, PAYLOAD_BYTES), np.uint8)
                payload[:, : message.encoder.length] = message.encoder.pack(mine)
                if message.checked:
                    checked.append(len(parts))
                parts.append((due + message.phase_us, message.encoder.frame_id, message.channel, message.encoder.length, payload))
        sizes = np.array([len(part[0]) for part in parts])
        time_us = np.concatenate([part[0] for part in parts])
        time_us += np.minimum(np.abs(self._rng.standard_normal(len(time_us))) * JITTER_US, JITTER_MOST_US)
        frame_id = np.repeat(np.array([part[1] for part in parts], np.uint32), sizes)
        channel = np.repeat(np.array([part[2] for part in parts], np.uint8), sizes)
        length = np.repeat(np.array([part[3] for part in parts], np.uint8), sizes)
        data = np.concatenate([part[4] for part in parts])
        protected = np.repeat(np.isin(np.arange(len(parts)), checked), sizes)
        data[protected, 0] = crc8_j1850(frame_id[protected], data[protected])
        time_us = self._on_the_bus(time_us, channel, length)
        order = np.argsort(time_us, kind="stable")
        return FrameBlock(
            self.channels,
            start_ns + time_us[order] * 1000,
            frame_id[order],
            channel[order],
            length[order],
            data[order],
            entered_ns,
        )

    def _on_the_bus(self, time_us: NDArray[np.float64], channel: NDArray[np.uint8], length: NDArray[np.uint8]) -> NDArray[np.int64]:
        """When each frame is received: a bus carries one at a time, and who comes late waits. Whole µs, as a candump log has them."""
        received = np.empty(len(time_us), np.int64)
        for number in range(len(self.channels)):
            mine = np.flatnonzero(channel == number)
            mine = mine[np.argsort(time_us[mine], kind="stable")]
            takes = np.ceil(frame_time_us(length[mine]))
            end = np.cumsum(takes)
            received[mine] = np.rint(np.maximum.accumulate(time_us[mine] - (end - takes)) + end)
        return np.minimum(received, 999_999)
