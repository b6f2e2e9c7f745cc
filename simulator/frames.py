"""Signals to frames: sampling at each message's cycle, noise, counters, checksums, payloads, and a place on the bus for each frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dbc.encoder import MessageEncoder, message_encoders
from dbc.frames import FrameBlock
from dbc.plan import CompiledDbc
from simulator.bus_time import FrameTimes
from simulator.protection import Protection
from simulator.signals import Traits, flashing
from simulator.state import Array

__all__ = ["JITTER_MOST_US", "JITTER_US", "FrameMaker", "Timed"]

Index = NDArray[np.intp]

JITTER_US = 60.0  # of the sender's task; a control unit's timer is that steady
JITTER_MOST_US = 400.0
PHASE_STEP_US = 1_310  # between messages of one bus: spreads them, so that they do not wait for each other
PHASE_MARGIN_US = 800
COUNTER = "AliveCounter"
NETWORK = "NM_"  # network management: the first on a bus that wakes up
WAKE_FRAMES, WAKE_CYCLE_US = 10, 20_000.0  # of network management, before anything else is sent (AUTOSAR NM: immediate transmissions)
WAKE_S = 0.2
SENSORS, BUS = 0, 1  # purposes of random numbers


@dataclass(frozen=True)
class _Message:
    number: int  # in the plan
    encoder: MessageEncoder
    channel: int
    columns: slice  # of its group's
    counter: int | None  # column of the alive counter within the message
    multiplexer: tuple[int, int] | None  # column, number of values
    phase_us: float


@dataclass(frozen=True, slots=True)
class Timed:
    """When a message is due. number: in the plan; period_ms 0: an event message, which is said as its bus wakes."""

    number: int
    name: str
    channel: int
    period_ms: int
    phase_us: float

    def due_us(self, woken: bool) -> Array:
        """(k,) in a second through which its bus is awake. woken: it wakes as the second begins."""
        if not self.period_ms:
            return np.array([WAKE_S * 1e6]) if woken else np.zeros(0)
        due = np.arange(0, 1000, self.period_ms).astype(np.float64) * 1000 + self.phase_us
        if not woken:
            return due
        due = due[due >= 1e6 * WAKE_S]
        return np.concatenate([WAKE_CYCLE_US * np.arange(WAKE_FRAMES), due]) if self.name.startswith(NETWORK) else due


@dataclass(frozen=True)
class _Group:
    """The messages of one cycle: they are sampled together. period_ms 0: event messages."""

    period_ms: int
    columns: Index  # (g,) of the signals in the schema
    share: Array  # (k, 1) how far each sample is into the second
    held: NDArray[np.bool_]  # (g,)
    noisy: Index  # columns of the group that have noise,
    deviation: Array  # theirs,
    quiet: NDArray[np.bool_]  # and whether it is gone at zero
    flashing: Index  # columns of indicators
    messages: tuple[_Message, ...]


@dataclass
class _Sent:
    """Frames of a second, part by part."""

    time_us: list[Array] = field(default_factory=list)
    message: list[int] = field(default_factory=list)  # number in the plan
    data: list[NDArray[np.uint8]] = field(default_factory=list)


class FrameMaker:
    """Makes the frames of one second after the other, of one car.

    Between a second's two ends smooth signals are interpolated; states and numbers have the value of its end for the whole second: what
    changes, changes as the second begins. All randomness depends on (seed, second) alone.
    """

    def __init__(self, compiled: CompiledDbc, traits: Traits, seed: Sequence[int], noise: float = 1.0) -> None:
        """seed: what noise and jitter are drawn by, for instance (fleet seed, vehicle number). noise: gain of the sensors' noise."""
        schema = compiled.schema
        self.channels, self.names = schema.channels, schema.names
        self.scale, self.offset, self.traits = schema.scale, schema.offset, traits
        self._seed, self._noise = tuple(seed), noise
        self._protection = Protection(compiled)
        encoders = message_encoders(compiled)
        self._frame_id = np.array([encoder.frame_id for encoder in encoders], np.uint32)
        self._channel = np.array([self.channels.index(encoder.channel) for encoder in encoders], np.uint8)
        self._length = np.array([encoder.length for encoder in encoders], np.uint8)
        self._times = FrameTimes.of(self._frame_id, self._length, self._length > 8)
        self._width = 64 if int(self._length.max()) > 8 else 8
        self._count = np.zeros(len(encoders), np.int64)  # frames of each message so far
        self._last_event: dict[int, bytes] = {}
        self._awake = np.zeros(len(self.channels), np.bool_)
        self._busy_us = np.zeros(len(self.channels))  # beyond the end of the last second
        self._late: tuple[NDArray[np.int64], Index, NDArray[np.uint8]] | None = None  # frames that end after their second
        periods = [0 if np.isnan(encoder.period_ms) else int(encoder.period_ms) for encoder in encoders]
        phases = self._phases(encoders, periods)
        numbers = range(len(encoders))
        self._groups = [
            self._group(compiled, [(n, encoders[n]) for n in numbers if periods[n] == period], period, phases)
            for period in sorted(set(periods))
        ]

    def timetable(self) -> list[Timed]:
        """Of all messages."""
        return [
            Timed(one.number, one.encoder.name, one.channel, group.period_ms, one.phase_us)
            for group in self._groups
            for one in group.messages
        ]

    def longest_us(self, message: int, tries: int, dice: np.random.Generator) -> float:
        """How long a frame of this message keeps its bus busy at most, of so many payloads drawn at random, and of zeros."""
        data = dice.integers(0, 256, (tries, self._width), np.uint8)
        data[0] = 0
        return float(np.ceil(self._times.us(np.full(tries, message), data).max()))

    def _phases(self, encoders: Sequence[MessageEncoder], periods: Sequence[int]) -> dict[int, float]:
        place = dict.fromkeys(self.channels, 0)
        phases = {}
        for number in sorted(range(len(encoders)), key=lambda n: periods[n]):
            if periods[number]:
                channel = encoders[number].channel
                phases[number] = float(place[channel] * PHASE_STEP_US % (periods[number] * 1000 - PHASE_MARGIN_US))
                place[channel] += 1
        return phases

    def _group(self, compiled: CompiledDbc, mine: list[tuple[int, MessageEncoder]], period_ms: int, phases: dict[int, float]) -> _Group:
        schema, traits = compiled.schema, self.traits
        columns: list[int] = []
        messages = []
        for number, encoder in mine:
            short = [name.rpartition(".")[2] for name in encoder.signals]
            selectors = {place for path in encoder.selectors for place in path}
            multiplexer = next(iter(selectors))[0] if selectors else None
            messages.append(
                _Message(
                    number=number,
                    encoder=encoder,
                    channel=int(self._channel[number]),
                    columns=slice(len(columns), len(columns) + len(short)),
                    counter=short.index(COUNTER) if COUNTER in short else None,
                    multiplexer=None if multiplexer is None else (multiplexer, len(selectors)),
                    phase_us=phases.get(number, 0.0),
                )
            )
            columns += [schema.index(name) for name in encoder.signals]
        at = np.array(columns, np.intp)
        noisy = np.flatnonzero(traits.deviation[at] > 0)
        return _Group(
            period_ms=period_ms,
            columns=at,
            share=(np.arange(0, 1000, period_ms) / 1000 if period_ms else np.ones(1))[:, None],
            held=traits.held[at],
            noisy=noisy,
            deviation=traits.deviation[at][noisy] * self._noise,
            quiet=traits.quiet[at][noisy],
            flashing=np.flatnonzero(traits.flashing[at]),
            messages=tuple(messages),
        )

    def block(
        self, second: int, before: Array, after: Array, awake: Sequence[bool] | NDArray[np.bool_], start_ns: int, entered_ns: int
    ) -> FrameBlock:
        """The frames of one second.

        second: since the start of the run. before, after: (signals,) physical, without noise, at the second's two ends. awake: of each
        channel. start_ns: UTC of the second's first instant. entered_ns: as in FrameBlock.
        """
        now = np.asarray(awake, np.bool_)
        woken = now & ~self._awake
        self._awake = now
        sent = _Sent()
        if now.any():
            noise = np.random.default_rng((*self._seed, SENSORS, second))
            for group in self._groups:
                raw = self._raw(group, second, before[group.columns], after[group.columns], noise)
                for message in group.messages:
                    if now[message.channel]:
                        self._message(sent, group.period_ms, message, raw[:, message.columns], bool(woken[message.channel]))
        return self._placed(sent, second, start_ns, entered_ns)

    def _raw(self, group: _Group, second: int, before: Array, after: Array, noise: np.random.Generator) -> NDArray[np.int64]:
        """(k, g) raw values of the group's samples."""
        value = np.where(group.held, after, before + (after - before) * group.share)
        if len(group.flashing):
            value[:, group.flashing] *= flashing(second + group.share)
        if len(group.noisy):
            part = noise.standard_normal((len(value), len(group.noisy))) * group.deviation
            if group.quiet.any():
                part[:, group.quiet] *= value[:, group.noisy[group.quiet]] > 0
            value[:, group.noisy] += part
        at = group.columns
        scaled = np.rint((value - self.offset[at]) / self.scale[at])
        return np.clip(scaled, self.traits.lowest[at], self.traits.highest[at]).astype(np.int64)

    def _message(self, sent: _Sent, period_ms: int, message: _Message, raw: NDArray[np.int64], woken: bool) -> None:
        """What is sent of a message in this second. raw: (k, signals of the message)."""
        due_us = np.arange(len(raw), dtype=np.float64) * (period_ms * 1000.0) + message.phase_us
        if not period_ms:
            said = raw.tobytes()
            if not woken and self._last_event.get(message.number) == said:
                return
            self._last_event[message.number] = said
            due_us = np.array([WAKE_S * 1e6 if woken else 0.0])
        elif woken and message.encoder.name.startswith(NETWORK):
            due_us = np.concatenate([WAKE_CYCLE_US * np.arange(WAKE_FRAMES, dtype=np.float64), due_us[due_us >= 1e6 * WAKE_S]])
            raw = np.concatenate([raw[:1].repeat(WAKE_FRAMES, axis=0), raw[len(raw) - (len(due_us) - WAKE_FRAMES) :]])
        elif woken:
            first = int(np.searchsorted(due_us, 1e6 * WAKE_S))
            due_us, raw = due_us[first:], raw[first:]
            if not len(raw):
                return
        count = self._count[message.number] + np.arange(len(raw))
        self._count[message.number] += len(raw)
        if message.counter is not None:
            bits = int(message.encoder.bits[message.encoder.column == message.counter][0])
            raw[:, message.counter] = count & (1 << bits) - 1
        if message.multiplexer:
            raw[:, message.multiplexer[0]] = count % message.multiplexer[1]
        sent.time_us.append(due_us)
        sent.message.append(message.number)
        sent.data.append(message.encoder.pack(raw))

    def _placed(self, sent: _Sent, second: int, start_ns: int, entered_ns: int) -> FrameBlock:
        """The frames on their buses, in order; those that end after the second wait for the next block."""
        sizes = np.array([len(part) for part in sent.time_us], np.intp)
        message = np.repeat(np.array(sent.message, np.intp), sizes)
        data = np.zeros((len(message), self._width), np.uint8)
        at = 0
        for payload in sent.data:
            data[at : at + len(payload), : payload.shape[1]] = payload
            at += len(payload)
        self._protection.write(message, data)
        time_us = np.concatenate([*sent.time_us, np.empty(0)])
        jitter = np.random.default_rng((*self._seed, BUS, second)).standard_normal(len(time_us) + 1)[1:]
        time_us += np.minimum(np.abs(jitter) * JITTER_US, JITTER_MOST_US)
        received = self._on_the_bus(time_us, message, data) + start_ns // 1000
        if self._late is not None:
            received = np.concatenate([self._late[0], received])
            message, data = np.concatenate([self._late[1], message]), np.concatenate([self._late[2], data])
        order = np.argsort(received, kind="stable")
        end = int(np.searchsorted(received[order], start_ns // 1000 + 1_000_000))
        later, order = order[end:], order[:end]
        self._late = (received[later], message[later], data[later]) if len(later) else None
        message = message[order]
        return FrameBlock(
            self.channels,
            received[order] * 1000 + start_ns % 1000,
            self._frame_id[message],
            self._channel[message],
            self._length[message],
            data[order],
            entered_ns,
        )

    def _on_the_bus(self, time_us: Array, message: Index, data: NDArray[np.uint8]) -> NDArray[np.int64]:
        """When each frame is received: a bus carries one at a time, and who comes late waits. Whole µs, as a candump log has them."""
        received = np.empty(len(time_us), np.int64)
        takes_us = np.ceil(self._times.us(message, data))
        channel = self._channel[message]
        for number in range(len(self.channels)):
            mine = np.flatnonzero(channel == number)
            mine = mine[np.argsort(time_us[mine], kind="stable")]
            takes = takes_us[mine]
            end = np.cumsum(takes)
            ready = np.maximum(time_us[mine], self._busy_us[number])
            received[mine] = np.rint(np.maximum.accumulate(ready - (end - takes)) + end)
            self._busy_us[number] = max(0.0, float(received[mine].max(initial=0)) - 1e6, self._busy_us[number] - 1e6)
        return received
