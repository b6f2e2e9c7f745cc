"""Raw CAN sockets as a source: sleep 10 ms, take what the kernel holds, hand over a block every 100 ms.

The wake-up is the cost of receiving, not the copy: a wake-up for each frame takes ten times the processor time of one for each 10 ms. The
decoder's cost is by block, so blocks are handed over ten times a second and not a hundred. When no frame comes, nothing wakes: `poll`
waits for the first.
"""

import errno
import logging
import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from threading import Event

import numpy as np

from dbc.frames import ERR_FLAG, FrameBlock
from edge.errors import SourceError
from edge.sources.can_socket import Opener, can_interfaces, open_can
from edge.sources.channel import Channel
from edge.sources.clock import SteadyClock
from edge.sources.filters import Filter
from edge.sources.receive_buffer import ReceiveBuffer, Received

DRAIN_S = 0.01
BLOCK_S = 0.1  # 100 ms of a bus
CAPACITY = 4096  # frames of one socket that a block holds; a drain that fills it hands over at once
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
        self._clock = clock
        self._stop = stop

    def open(self) -> None:
        """Open every socket. Raises SourceError."""
        for port in self._ports:
            port.open(time.monotonic(), first=True)

    def close(self) -> None:
        for port in self._ports:
            port.close()

    def frames(self) -> Iterator[FrameBlock]:
        """Blocks, in the order of their stamps, until told to stop. Closes the sockets at its end."""
        with ExitStack() as stack:
            stack.callback(self.close)
            entered_ns, due_s = 0, float("inf")
            while not self._stop.is_set():
                count = full = 0
                for port in self._ports:
                    count += port.drain()
                    full += port.buffer.used == CAPACITY
                now_s = time.monotonic()
                if count and due_s == float("inf"):
                    entered_ns, due_s = time.time_ns(), now_s + BLOCK_S
                if full or now_s >= due_s:
                    block = self._block(entered_ns, now_s)
                    due_s = float("inf")
                    if block is not None:
                        yield block
                if full:
                    continue  # there is more
                if count or due_s < float("inf"):
                    time.sleep(DRAIN_S)
                else:
                    self._wait(now_s)

    def _wait(self, now_s: float) -> None:
        """Until a frame comes, for a while. A wait for one frame would wake for each: the drain comes 10 ms after the first."""
        for port in self._ports:
            port.channel.heard(0, now_s)
            port.reopen(now_s)
        poller = select.poll()
        for port in self._ports:
            if port.socket is not None:
                poller.register(port.socket, select.POLLIN)
        if poller.poll(IDLE_S * 1000):
            time.sleep(DRAIN_S)

    def _block(self, entered_ns: int, now_s: float) -> FrameBlock | None:
        """What all sockets have received since the last block; None when that was no frame."""
        parts: list[tuple[int, Received]] = []
        for number, port in enumerate(self._ports):
            received = port.take(now_s)
            if received is not None:
                parts.append((number, received))
            port.reopen(now_s)
        if not parts:
            return None
        width = max(part.data.shape[1] for _, part in parts)
        stamps = self._clock.place(np.concatenate([part.timestamp_ns for _, part in parts]))
        frame_id = np.concatenate([part.frame_id for _, part in parts])
        channel = np.repeat(np.array([number for number, _ in parts], np.uint8), [len(part.frame_id) for _, part in parts])
        length = np.concatenate([part.length for _, part in parts])
        data = np.concatenate([_widened(part, width) for _, part in parts])
        if len(parts) > 1:
            order = stamps.argsort(kind="stable")
            stamps, frame_id, channel, length, data = stamps[order], frame_id[order], channel[order], length[order], data[order]
        return FrameBlock(self._names, stamps, frame_id, channel, length, data, entered_ns)


class _Port:
    """One channel's socket and buffer."""

    def __init__(self, channel: Channel, filters: tuple[Filter, ...], opener: Opener) -> None:
        self.channel = channel
        self.socket: socket.socket | None = None
        self.buffer = ReceiveBuffer(CAPACITY)
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

    def reopen(self, now_s: float) -> None:
        if self.socket is None and now_s - self._tried_s >= REOPEN_S:
            self.open(now_s)

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def drain(self) -> int:
        """Take what the socket holds into the buffer. Returns the number of frames."""
        taken = 0
        refusal: OSError | None = None
        while self.socket is not None and self.buffer.used < CAPACITY:
            try:
                count = self.buffer.receive(self.socket.fileno())
            except OSError as error:
                if refusal is not None:  # said already, and there is nothing behind it
                    break
                refusal = error  # the frames from before are still there: the kernel says this first
                continue
            taken += count
            if not count:
                break
        if refusal is not None:
            self.close()
            self.channel.lost(refusal.strerror or str(refusal))
        return taken

    def take(self, now_s: float) -> Received | None:
        """The buffer's frames; error frames are counted and left out."""
        if not self.buffer.used:
            self.channel.heard(0, now_s)
            return None
        received = self.buffer.take(time.time_ns())
        status = self.channel.status
        status.frames_damaged += received.damaged
        if received.drops is not None:
            self.channel.dropped(received.drops)
        error = np.flatnonzero(received.frame_id & np.uint32(ERR_FLAG))
        if len(error):
            n = len(received.frame_id)
            after = n - 1 - int(error[-1])
            self.channel.heard(n - len(error) - after, now_s)  # bus-off is the end of what came before it, and frames after it are news
            self.channel.erred(received.frame_id[error])
            received = received.only(np.setdiff1d(np.arange(n), error))
            if after:
                self.channel.heard(after, now_s)
        else:
            self.channel.heard(len(received.frame_id), now_s)
        return received if len(received.frame_id) else None


def _widened(part: Received, width: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    if part.data.shape[1] == width:
        return part.data
    wide = np.zeros((len(part.data), width), np.uint8)
    wide[:, : part.data.shape[1]] = part.data
    return wide


def _refusal(channel: str, error: OSError) -> str:
    if error.errno == errno.EAFNOSUPPORT:
        return f"source.socketcan: {channel}: this kernel has no CAN (module can, can-raw)"
    if error.errno == errno.ENODEV:
        there = ", ".join(can_interfaces()) or "none"
        return f"source.socketcan: {channel}: there is no such interface; CAN interfaces here: {there}"
    return f"source.socketcan: {channel}: cannot be opened: {error.strerror}"
