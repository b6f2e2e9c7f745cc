"""Opening a raw CAN socket: what it lets through, how much the kernel keeps, and what the kernel says with each frame."""

import array
import contextlib
import errno
import fcntl
import socket
import struct
from collections.abc import Callable

from edge.sources.filters import Filter
from edge.sources.receive_buffer import SO_RXQ_OVFL, SO_TIMESTAMPNS

SO_RCVBUFFORCE = 33
# The kernel doubles what is asked: 21,000 frames, 5 s of a full 500 kbit/s bus. Default: 278.
BUFFER_BYTES = 8 << 20
FRAME_BYTES = 768  # of the buffer, for a classic frame and for one of CAN FD: struct sk_buff and its data
SOL_CAN_RAW = 101  # <linux/can/raw.h>; Python names these only where its own build knew CAN
CAN_RAW_FILTER, CAN_RAW_ERR_FILTER, CAN_RAW_FD_FRAMES = 1, 2, 5
CAN_RAW = 1
AF_CAN = 29
CAN_ERR_MASK = 0x1FFF_FFFF
ARPHRD_CAN = 280
SIOCGIFHWADDR = 0x8927


Opener = Callable[[str, tuple[Filter, ...]], socket.socket]


def open_can(channel: str, filters: tuple[Filter, ...]) -> socket.socket:
    """A socket bound to the interface. Without filters it takes every frame. Raises OSError: ENODEV, ENETDOWN, EAFNOSUPPORT, ..."""
    made = socket.socket(AF_CAN, socket.SOCK_RAW | socket.SOCK_CLOEXEC, CAN_RAW)
    try:
        if filters:
            packed = b"".join(struct.pack("=II", one.frame_id, one.mask) for one in filters)
            made.setsockopt(SOL_CAN_RAW, CAN_RAW_FILTER, packed)
        made.setsockopt(SOL_CAN_RAW, CAN_RAW_ERR_FILTER, CAN_ERR_MASK)
        with contextlib.suppress(OSError):  # a kernel before 3.6 knows no CAN FD
            made.setsockopt(SOL_CAN_RAW, CAN_RAW_FD_FRAMES, 1)
        report(made)
        made.bind((channel,))
        # Binding to an interface that is down succeeds; the socket then says so once.
        if (down := made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) != 0:
            raise OSError(down, "Network is down" if down == errno.ENETDOWN else "interface cannot be used")
    except BaseException:
        made.close()
        raise
    return made


def report(made: socket.socket) -> None:
    """Ask for time stamps and the drop counter, and for room; for any socket that delivers struct can_frame."""
    made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    made.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
    try:
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    except OSError:  # without CAP_NET_ADMIN: as much as net.core.rmem_max allows
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)


def room(made: socket.socket) -> int:
    """Frames that the kernel keeps for the socket."""
    return made.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // FRAME_BYTES


def can_interfaces() -> list[str]:
    """Names of this computer's CAN interfaces."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = array.array("b", struct.pack("16sH14x", name.encode()[:15], 0))
            try:
                fcntl.ioctl(probe, SIOCGIFHWADDR, request)
            except OSError:  # gone in between
                continue
            if struct.unpack_from("H", request, 16)[0] == ARPHRD_CAN:
                found.append(name)
    return sorted(found)
