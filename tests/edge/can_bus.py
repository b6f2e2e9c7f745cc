"""A bus without a kernel that has CAN: socket pairs that deliver struct can_frame and canfd_frame, as a raw CAN socket does."""

import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from dbc.frames import FrameBlock
from edge.sources.can_socket import report
from edge.sources.filters import Filter

SENDER_BYTES = 4 << 20
PATIENCE_S = 30.0


def classic(frame_id: int, payload: bytes, length: int | None = None) -> bytes:
    return struct.pack("=IB3x8s", frame_id, len(payload) if length is None else length, payload)


def fd(frame_id: int, payload: bytes) -> bytes:
    return struct.pack("=IBB2x64s", frame_id, len(payload), 1, payload)


class PairBus:
    """An opener for SocketCan: each channel is one half of a pair, `send` writes to the other. An interface can be taken down."""

    def __init__(self) -> None:
        self.ends: dict[str, socket.socket] = {}
        self.down: set[str] = set()
        self.filters: dict[str, tuple[Filter, ...]] = {}

    def open(self, channel: str, filters: tuple[Filter, ...]) -> socket.socket:
        if channel in self.down:
            raise OSError(errno.ENETDOWN, os.strerror(errno.ENETDOWN))
        self.filters[channel] = filters
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        report(ours)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENDER_BYTES)
        if channel in self.ends:
            self.ends[channel].close()
        self.ends[channel] = theirs
        return ours

    def send(self, channel: str, *frames: bytes) -> None:
        for frame in frames:
            self.ends[channel].send(frame)

    def close(self) -> None:
        for end in self.ends.values():
            end.close()


class Collector:
    """Runs a source in a thread, as the agent does, and keeps its blocks."""

    def __init__(self, frames: Iterator[FrameBlock], stop: threading.Event) -> None:
        self.blocks: list[FrameBlock] = []
        self._stop = stop
        self._thread = threading.Thread(target=self._run, args=(frames,))
        self._thread.start()

    def _run(self, frames: Iterator[FrameBlock]) -> None:
        for block in frames:
            self.blocks.append(block)

    def __len__(self) -> int:
        return sum(map(len, self.blocks))

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


def frames_of(blocks: list[FrameBlock]) -> list[tuple[str, int, bytes]]:
    """(channel, identifier with flags, payload) of each frame."""
    return [
        (block.channels[channel], int(frame_id), data[:length].tobytes())
        for block in blocks
        for channel, frame_id, length, data in zip(block.channel, block.frame_id, block.length, block.data, strict=True)
    ]


def until(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> None:
    """Waits for something to become true."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience_s} s for {what}"
        time.sleep(0.01)
