"""What the guest's tests share: virtual buses, a source on them, a sender of another process."""

import errno
import fcntl
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dbc.frames import FrameBlock
from edge.sources.can_socket import Opener, open_can
from edge.sources.clock import SteadyClock
from edge.sources.filters import Filter
from edge.sources.socketcan import SocketCan

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
PATIENCE_S = 20.0
BUSYBOX = "/dev/shm/bin/busybox"
CAR = Path("/dev/shm/shared/car")  # made by prepared_car.py on the other side, where it is quick


def until(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> None:
    """Waits for something to become true."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience_s} s for {what}"
        time.sleep(0.01)


def set_up(interface: str, up: bool) -> None:
    """`ip link set INTERFACE up|down`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        name = interface.encode()
        flags = struct.unpack_from("H", fcntl.ioctl(probe, SIOCGIFFLAGS, struct.pack("16sH14x", name, 0)), 16)[0]
        fcntl.ioctl(probe, SIOCSIFFLAGS, struct.pack("16sH14x", name, flags | IFF_UP if up else flags & ~IFF_UP))


def ip(*arguments: str) -> None:
    subprocess.run([BUSYBOX, "ip", *arguments], check=True, capture_output=True)


@contextmanager
def sender(interface: str) -> Iterator[socket.socket]:
    """A raw CAN socket to send with; it receives nothing."""
    with socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW) as made:
        made.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FILTER, b"")
        made.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FD_FRAMES, 1)
        made.bind((interface,))
        yield made


PACED = """
import socket, struct, sys, time
interface, rate, total = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
out = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
out.bind((interface,))
start = time.monotonic()
for number in range(total):
    late = time.monotonic() - start - number / rate
    if late < 0:
        time.sleep(-late)
    out.send(struct.pack("=IB3xQ", 0x100 + number % 8, 8, number))
print(time.monotonic() - start)
"""


def paced_sender(interface: str, rate: int, total: int) -> subprocess.Popen[str]:
    """Another process that sends `total` frames, `rate` a second: payload n is the number n."""
    command = [sys.executable, "-S", "-c", PACED, interface, str(rate), str(total)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


class Live:
    """A SocketCan source in a thread, as the agent runs it."""

    def __init__(self, channels: dict[str, tuple[Filter, ...]], opener: Opener = open_can) -> None:
        self.blocks: list[FrameBlock] = []
        self._stop = threading.Event()
        clock = SteadyClock()
        clock.start()
        self.source = SocketCan(list(channels.items()), clock, self._stop, opener)
        self.source.open()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        for block in self.source.frames():
            self.blocks.append(block)

    def __enter__(self) -> "Live":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def __len__(self) -> int:
        return sum(map(len, self.blocks))

    @property
    def frames(self) -> list[tuple[str, int, bytes]]:
        return [
            (block.channels[channel], int(frame_id), data[:length].tobytes())
            for block in list(self.blocks)
            for channel, frame_id, length, data in zip(block.channel, block.frame_id, block.length, block.data, strict=True)
        ]


def sends(out: socket.socket, frame: bytes) -> None:
    """Send, waiting while the queue is full."""
    while True:
        try:
            out.send(frame)
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            time.sleep(0.001)
