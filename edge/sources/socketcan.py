"""Raw CAN sockets as a source: sleep, take what the kernel holds, hand over a block four times a second.

The wake-up is the cost of receiving, not the copy: a wake-up for each frame takes ten times the processor time of one for each 10 ms, and
those still cost a third of receiving and decoding together, as each finds cold caches. So the kernel keeps the frames for as long as its
buffer allows: with the 8 MB that the agent asks for and gets with CAP_NET_ADMIN, until the block is due; with the 278 frames of a
socket as it comes, 10 ms. Of the decoder's cost four fifths are cold caches, too. Blocks of a quarter of a second (three full buses: 3,000
frames) cost half of what blocks of 100 ms do, and nothing waits for the difference: snapshots come once a second. When no frame comes,
nothing wakes: `poll` waits for the first.
"""

import errno
import logging
import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from threading import Event

import numpy as np
from numpy.typing import NDArray

from dbc.frames import ERR_FLAG, FrameBlock
from edge.errors import SourceError
from edge.sources.can_socket import Opener, can_interfaces, open_can, room
from edge.sources.channel import Channel
from edge.sources.clock import SteadyClock
from edge.sources.filters import Filter
from edge.sources.receive_buffer import ReceiveBuffer

DRAIN_S = 0.01  # the longest sleep where the kernel's buffer is small
BLOCK_S = 0.25  # of a bus; the longest sleep
BUSIEST = 20_000  # frames/s of one bus: 1 Mbit/s of frames without payload
SPARE = 4  # the kernel's buffer holds a busiest bus for so many sleeps: a wake-up may be late
CAPACITY = 4096  # frames of a block; a drain that fills it hands over at once
IDLE_S = 0.25  # how late a stop, or an interface that is back, is seen on a silent bus
REOPEN_S = 0.5

log = logging.getLogger(__name__)


class SocketCan:
    """A source of live frames from one or more CAN interfaces.

    channels: (name, filters) of each. `open` raises SourceError for an interface that is not there; one that is down, then or later, is
    waited for. opener: how a channel becomes a socket; anything that delivers struct can_frame or canfd_frame will do.
    """

    def __init__(
        self, channels: Sequence[tuple[str, tuple[Filter, ...]]], clock: SteadyClock, stop: Event, opener: Opener = open_can
    ) -> None:
        self.channels = [Channel(name) for name, _ in channels]
        self._names = tuple(name for name, _ in channels)
        self._ports = [_Port(channel, filters, opener) for channel, (_, filters) in zip(self.channels, channels, strict=True)]
        self._order = list(range(len(self._ports)))
        self._buffer = ReceiveBuffer(CAPACITY)
        self._runs: list[tuple[int, int, int]] = []  # (port, first row, row after the last) of what is in the buffer,
        self._port = np.zeros(CAPACITY, np.uint8)  # and the port of each row
        self._clock = clock
        self._stop = stop
        self._pace_s = DRAIN_S

    def open(self) -> None:
        """Open every socket. Raises SourceError."""
        for port in self._ports:
            port.open(time.monotonic(), first=True)
        self._reopen(time.monotonic())

    def close(self) -> None:
        for port in self._ports:
            port.close()

    def frames(self) -> Iterator[FrameBlock]:
        """Blocks, in the order of their stamps, until told to stop; the last one is what came until then. Closes the sockets at its end."""
        with ExitStack() as stack:
            stack.callback(self.close)
            due_s = 0.0
            while True:
                ending = self._stop.is_set()
                count = self._drain()
                now_s = time.monotonic()
                full = self._buffer.used == CAPACITY
                if full or (self._buffer.used and (ending or now_s >= due_s)):
                    block = self._block(now_s)
                    due_s = now_s + BLOCK_S
                    if len(block):
                        yield block
                if full:
                    continue  # there is more
                if ending:
                    return
                if count or self._buffer.used:
                    time.sleep(self._pace_s)
                else:
                    self._wait(now_s)

    def _drain(self) -> int:
        """Take what the sockets hold. Returns the number of frames."""
        buffer, before = self._buffer, self._buffer.used
        for number in self._order:
            start = buffer.used
            self._ports[number].drain(buffer)
            if buffer.used > start:
                self._runs.append((number, start, buffer.used))
                self._port[start : buffer.used] = number
            if buffer.used == CAPACITY:
                self._order = self._order[1:] + self._order[:1]  # the next one begins with another: a flooded bus must not hide the rest
                break
        return buffer.used - before

    def _wait(self, now_s: float) -> None:
        """Until a frame comes, for a while. A wait for one frame would wake for each: the drain comes some time after the first."""
        for port in self._ports:
            port.channel.heard(0, now_s)
        self._reopen(now_s)
        poller = select.poll()
        for port in self._ports:
            if port.socket is not None:
                poller.register(port.socket, select.POLLIN)
        if poller.poll(IDLE_S * 1000):
            time.sleep(self._pace_s)

    def _reopen(self, now_s: float) -> None:
        for port in self._ports:
            port.reopen(now_s)
        self._pace_s = min((port.pace_s for port in self._ports), default=DRAIN_S)

    def _block(self, now_s: float) -> FrameBlock:
        """What all sockets have received since the last block, in the order of the stamps; error frames are counted and left out."""
        runs, self._runs = self._runs, []
        now_ns = time.time_ns()
        channel = self._port[: self._buffer.used]
        plain = self._buffer.take_plain(in_order=len(runs) == 1)
        if plain is None:
            return self._sorted_out(len(runs) > 1, channel.copy(), now_ns, now_s)
        order, received = plain
        heard = [0] * len(self.channels)
        for port, start, stop in runs:
            heard[port] += stop - start
        for one, count in zip(self.channels, heard, strict=True):
            one.heard(count, now_s)
        self._reopen(now_s)
        stamps = received.timestamp_ns
        entered_ns = min(int(stamps[0]), now_ns)
        channel = channel.copy() if order is None else channel.take(order)
        return FrameBlock(self._names, self._clock.place(stamps), received.frame_id, channel, received.length, received.data, entered_ns)

    def _sorted_out(self, several: bool, channel: NDArray[np.uint8], now_ns: int, now_s: float) -> FrameBlock:
        """As `_block`, where more than plain data frames came."""
        received = self._buffer.take(now_ns)
        if received.drops is not None:
            for row, count in zip(*received.drops, strict=True):
                self.channels[channel[row]].dropped(int(count))
        stamps, frame_id, length, data = received.timestamp_ns, received.frame_id, received.length, received.data
        flags = received.flags
        entered_ns = min(int(stamps.min()), now_ns)
        error = frame_id & np.uint32(ERR_FLAG) != 0
        if received.damaged is not None or error.any():
            keep = self._account(channel, frame_id, error, received.damaged, now_s)
            stamps, frame_id, length, data, channel = stamps[keep], frame_id[keep], length[keep], data[keep], channel[keep]
            flags = None if flags is None else flags[keep]
        else:
            for one, count in zip(self.channels, np.bincount(channel, minlength=len(self.channels)).tolist(), strict=True):
                one.heard(count, now_s)
        self._reopen(now_s)
        stamps = self._clock.place(stamps)
        if several and len(stamps):
            order = stamps.argsort(kind="stable")
            stamps, frame_id, channel = stamps.take(order), frame_id.take(order), channel.take(order)
            length, data = length.take(order), data.take(order, axis=0)
            flags = None if flags is None else flags.take(order)
        return FrameBlock(self._names, stamps, frame_id, channel, length, data, entered_ns, flags)

    def _account(
        self,
        channel: NDArray[np.uint8],
        frame_id: NDArray[np.uint32],
        error: NDArray[np.bool_],
        damaged: NDArray[np.bool_] | None,
        now_s: float,
    ) -> NDArray[np.intp]:
        """Tell each channel, in order, what it had of frames, error frames and what is neither. Returns the rows of frames."""
        if damaged is None:
            damaged = np.zeros(len(channel), np.bool_)
        frame, error = ~error & ~damaged, error & ~damaged
        for number, one in enumerate(self.channels):
            mine = np.flatnonzero(channel == number)
            errors = np.flatnonzero(error[mine])
            # Bus-off is the end of what came before it, and frames after it are news.
            after = mine[errors[-1] + 1 :] if len(errors) else mine
            one.status.frames_damaged += int(np.count_nonzero(damaged[mine]))
            if len(errors):
                one.heard(int(np.count_nonzero(frame[mine[: errors[-1]]])), now_s)
                one.erred(frame_id[mine[errors]])
            one.heard(int(np.count_nonzero(frame[after])), now_s)
        return np.flatnonzero(frame)


class _Port:
    """One channel's socket and buffer."""

    def __init__(self, channel: Channel, filters: tuple[Filter, ...], opener: Opener) -> None:
        self.channel = channel
        self.socket: socket.socket | None = None
        self.pace_s = BLOCK_S  # how long the kernel's buffer can be left alone
        self._filters = filters
        self._opener = opener
        self._tried_s = float("-inf")

    def open(self, now_s: float, *, first: bool = False) -> None:
        self._tried_s = now_s
        try:
            self.socket = self._opener(self.channel.name, self._filters)
        except OSError as error:
            if first and error.errno != errno.ENETDOWN:
                raise SourceError(_refusal(self.channel.name, error)) from error
            self.channel.lost(error.strerror or str(error))
            return
        self.channel.opened(now_s)
        self.pace_s = max(DRAIN_S, min(BLOCK_S, room(self.socket) / (SPARE * BUSIEST)))

    def reopen(self, now_s: float) -> None:
        if self.socket is None and now_s - self._tried_s >= REOPEN_S:
            self.open(now_s)

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def drain(self, buffer: ReceiveBuffer) -> None:
        """Take what the socket holds. An interface that went says so before it hands over the frames from before."""
        if self.socket is None:
            return
        descriptor = self.socket.fileno()
        try:
            buffer.receive(descriptor)
        except OSError as error:
            with suppress(OSError):
                buffer.receive(descriptor)
            self.close()
            self.channel.lost(error.strerror or str(error))


def _refusal(channel: str, error: OSError) -> str:
    if error.errno == errno.EAFNOSUPPORT:
        return f"source.socketcan: {channel}: this kernel has no CAN (module can, can-raw)"
    if error.errno == errno.ENODEV:
        there = ", ".join(can_interfaces()) or "none"
        return f"source.socketcan: {channel}: there is no such interface; CAN interfaces here: {there}"
    return f"source.socketcan: {channel}: cannot be opened: {error.strerror}"
