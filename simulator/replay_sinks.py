"""Where a replay's frames go: a raw CAN socket of the kernel, or a bus of python-can; and which of them may be sent to.

    RawCan      SocketCAN: whole groups of frames with one `sendmmsg`, 0.5-1 µs a frame
    PythonCan   every other interface: one Python object a frame

A sink takes as many frames as its queue has room for and says how many; it drops none.
"""

from __future__ import annotations

import ctypes
import difflib
import errno
import os
import socket
import sys
import time
from collections.abc import Callable
from itertools import repeat
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dbc.frames import CANFD_BRS, CANFD_ESI, CANFD_FDF, EFF_FLAG, EFF_MASK, ERR_FLAG, RTR_FLAG, SFF_MASK, filled_flags
from simulator.can_links import CLASSIC_MTU, FD_MTU, Link, can_links, find_link
from simulator.errors import ReplayError, ReplayFailed
from simulator.replay_routes import SOCKETCAN, Target
from simulator.replay_timetable import Timed

__all__ = ["VIRTUAL_INTERFACES", "PythonCan", "RawCan", "Sink", "is_virtual", "make_sink"]

VIRTUAL_INTERFACES = ("virtual", "udp_multicast")  # of python-can: no controller is behind them
AF_CAN, CAN_RAW, SOL_CAN_RAW = 29, 1, 101  # <linux/can.h>; Python names these only where its own build knew CAN
CAN_RAW_FILTER, CAN_RAW_FD_FRAMES = 1, 5
BATCH = 1024  # UIO_MAXIOV: the kernel takes no more messages in one call
FULL = (errno.ENOBUFS, errno.EAGAIN)  # the interface's queue (qdisc); the socket's own buffer
SEND_BYTES = 1 << 20
FULL_S = 0.05
LENGTHS = (*range(9), 12, 16, 20, 24, 32, 48, 64)  # that a CAN FD frame can have (ISO 11898-1, table of the DLC)
WIRE_LENGTH = np.array([min(length for length in LENGTHS if length >= n) for n in range(65)], np.uint8)

FRAME = np.dtype([("id", "u4"), ("length", "u1"), ("flags", "u1"), ("reserved", "u2"), ("data", "u1", (64,))])  # struct canfd_frame
VECTOR = np.dtype([("base", "u8"), ("length", "u8")])  # struct iovec
MESSAGE = np.dtype(  # struct mmsghdr, 64 bit: pointer and length of the name, of the vectors, of the control data; flags; bytes sent
    {"names": ["vector", "vectors"], "formats": ["u8", "u8"], "offsets": [16, 24], "itemsize": 64}
)


class Sink(Protocol):
    """`with sink: sink.load(frames); sink.send(0, n)`."""

    name: str  # as --to has it
    why: str  # it took nothing

    def load(self, frames: Timed) -> None:
        """These are to be sent next. Raises ReplayFailed where the bus can never take them."""

    def send(self, start: int, stop: int) -> int:
        """Send the loaded frames [start, stop), in order; how many were taken. Raises ReplayFailed."""

    def __enter__(self) -> Sink: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def is_virtual(target: Target) -> bool:
    """Whether what is sent there stays in software, as the kernel and python-can say. Raises ReplayError where there is no such bus."""
    return _can_link(target).is_virtual if target.interface == SOCKETCAN else target.interface in VIRTUAL_INTERFACES


def make_sink(target: Target, *, on_a_bench: bool = False) -> Sink:
    """The sink of a target, not opened yet. Raises ReplayError where there is no such bus, or hardware behind it and this is no bench."""
    if target.interface != SOCKETCAN:
        _check_interface(target)
    if not on_a_bench and not is_virtual(target):
        what = f"{target.interface} is an interface to hardware"
        if target.interface == SOCKETCAN:
            what = f"{target.channel} is no virtual bus (the kernel calls it {_can_link(target).kind or 'nothing'}, not vcan or vxcan)"
        raise ReplayError(f"--to {target.name}: {what}: recorded frames could move something; on a bench, add --i-am-on-a-bench")
    if target.interface != SOCKETCAN:
        return PythonCan(target)
    link = _can_link(target)
    if not link.up:
        raise ReplayError(f"--to {target.name}: the interface is down: ip link set {link.name} up")
    return RawCan(target.name, lambda: _raw_socket(link.name), fd=link.takes_fd)


def _can_link(target: Target) -> Link:
    name = target.channel
    try:
        link, there = find_link(name), [link.name for link in can_links()]
    except OSError as error:
        raise ReplayError(f"--to {target.name}: the kernel does not say what it is: {error.strerror or error}") from error
    if link is None or not link.is_can:
        what = "no such network interface" if link is None else f"{name} is no CAN interface"
        hint = f"the CAN interfaces here: {', '.join(there)}" if there else "there is no CAN interface on this computer"
        raise ReplayError(f"--to {target.name}: {what}; {hint}")
    return link


def _raw_socket(name: str) -> socket.socket:
    """A raw CAN socket that sends and receives nothing. Raises OSError."""
    made = socket.socket(AF_CAN, socket.SOCK_RAW | socket.SOCK_CLOEXEC, CAN_RAW)
    try:
        made.setsockopt(SOL_CAN_RAW, CAN_RAW_FILTER, b"")
        made.setsockopt(SOL_CAN_RAW, CAN_RAW_FD_FRAMES, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        made.bind((name,))
    except BaseException:
        made.close()
        raise
    return made


class RawCan:
    """A socket that takes struct can_frame and struct canfd_frame. opener: makes it, or raises OSError. fd: the interface takes both."""

    def __init__(self, name: str, opener: Callable[[], socket.socket], *, fd: bool = True) -> None:
        self.name, self.why = name, ""
        self._opener, self._fd = opener, fd
        self._socket: socket.socket | None = None
        self._sendmmsg: Any = None
        self._number = -1
        self._frames, self._vectors, self._messages = np.zeros(0, FRAME), np.zeros(0, VECTOR), np.zeros(0, MESSAGE)

    def __enter__(self) -> RawCan:
        try:
            self._socket = self._opener()
        except OSError as error:
            no_can = error.errno == errno.EAFNOSUPPORT
            raise ReplayError(f"--to {self.name}: {'this kernel has no SocketCAN' if no_can else error.strerror or error}") from error
        self._number = self._socket.fileno()
        self._sendmmsg = ctypes.CDLL(None, use_errno=True).sendmmsg
        self._sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()

    def load(self, frames: Timed) -> None:
        flags = filled_flags(frames.flags, frames.length)
        is_fd = flags & np.uint8(CANFD_FDF) != 0
        if not self._fd and is_fd.any():
            hint = f"ip link set {self.name.partition(':')[2]} mtu {FD_MTU}"
            raise ReplayFailed(f"--to {self.name}: the log has CAN FD frames and the interface takes none: {hint}")
        n = len(frames)
        if n > len(self._frames):
            self._frames, self._vectors, self._messages = np.zeros(n, FRAME), np.zeros(n, VECTOR), np.zeros(n, MESSAGE)
            self._vectors["base"] = self._frames.ctypes.data + FRAME.itemsize * np.arange(n, dtype=np.uint64)
            self._messages["vector"] = self._vectors.ctypes.data + VECTOR.itemsize * np.arange(n, dtype=np.uint64)
            self._messages["vectors"] = 1
        packed = self._frames[:n]
        packed["id"] = _identifier(frames.frame_id)
        packed["length"] = np.where(is_fd, WIRE_LENGTH.take(frames.length), frames.length)
        packed["flags"] = flags & np.uint8(CANFD_BRS | CANFD_ESI)
        packed["data"][:, : frames.data.shape[1]] = frames.data
        self._vectors["length"][:n] = np.where(is_fd, FD_MTU, CLASSIC_MTU)

    def send(self, start: int, stop: int) -> int:
        at = start
        while at < stop:
            done = self._sendmmsg(
                self._number, self._messages.ctypes.data + MESSAGE.itemsize * at, min(stop - at, BATCH), socket.MSG_DONTWAIT
            )
            if done > 0:
                at += done
                continue
            number = ctypes.get_errno()
            if number == errno.EINTR:
                continue
            if number not in FULL:
                raise ReplayFailed(f"{self.name}: {os.strerror(number)}")
            self.why = os.strerror(number)
            break
        return at - start


def _identifier(frame_id: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """As the kernel wants them. An identifier that 11 bits cannot hold was one of 29 on the wire, whatever the log says."""
    long = (frame_id & np.uint32(EFF_MASK)) > SFF_MASK
    return np.where(long & ((frame_id & np.uint32(ERR_FLAG)) == 0), frame_id | np.uint32(EFF_FLAG), frame_id)


class PythonCan:
    """A bus of python-can."""

    def __init__(self, target: Target) -> None:
        self.name, self.why = target.name, ""
        self._target = target
        self._bus: Any = None
        self._message: Any = None
        self._refused: type[Exception] = Exception
        self._frames: list[tuple[Any, ...]] = []
        # `virtual` waits for a full receiver for ever if it may; others take a time as leave to wait for the frame's acknowledgement.
        self._timeout_s = FULL_S if target.interface == "virtual" else None

    def __enter__(self) -> PythonCan:
        can = _python_can()
        self._message, self._refused = can.Message, can.CanOperationError
        options: dict[str, Any] = {key: can.util.cast_from_string(value) for key, value in self._target.options.items()}
        if self._target.channel:
            options["channel"] = self._target.channel
        try:
            self._bus = can.Bus(interface=self._target.interface, **options)
        except Exception as error:
            # drivers raise CanError, OSError, ValueError, TypeError and their own for a bad channel or option, or a missing package
            raise ReplayError(f"--to {self.name}: cannot be opened: {_line(error)}") from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._bus is not None:
            self._bus.shutdown()

    def load(self, frames: Timed) -> None:
        """What `can.Message` wants of each frame, in its order, made of columns: here every frame is a Python object in the end."""
        identifier, flags = _identifier(frames.frame_id), filled_flags(frames.flags, frames.length)
        is_fd = flags & np.uint8(CANFD_FDF) != 0
        remote = identifier & np.uint32(RTR_FLAG) != 0
        size = np.where(is_fd, WIRE_LENGTH.take(frames.length), frames.length)
        begin = np.arange(len(frames)) * frames.data.shape[1]
        kept = np.where(remote, 0, np.minimum(size, frames.data.shape[1]))
        whole = frames.data.tobytes()
        self._frames = list(
            zip(
                (identifier & np.uint32(EFF_MASK)).tolist(),
                (identifier & np.uint32(EFF_FLAG) != 0).tolist(),
                remote.tolist(),
                (identifier & np.uint32(ERR_FLAG) != 0).tolist(),
                repeat(None),  # the channel
                size.tolist(),
                [whole[start:end] for start, end in zip(begin.tolist(), (begin + kept).tolist(), strict=True)],
                is_fd.tolist(),
                repeat(True),  # is_rx, as python-can has it where nobody says otherwise
                (flags & np.uint8(CANFD_BRS) != 0).tolist(),
                (flags & np.uint8(CANFD_ESI) != 0).tolist(),
            )
        )

    def send(self, start: int, stop: int) -> int:
        send, message, now, timeout_s = self._bus.send, self._message, time.time, self._timeout_s
        number = start
        try:
            for number in range(start, stop):
                send(message(now(), *self._frames[number]), timeout_s)
        except self._refused as error:  # mostly a full queue; there is no code for it that all drivers share
            self.why = _line(error)
            return number - start
        except Exception as error:
            raise ReplayFailed(f"{self.name}: {_line(error)}") from error
        return stop - start


def _check_interface(target: Target) -> None:
    known = _python_can().VALID_INTERFACES
    if target.interface not in known:
        close = difflib.get_close_matches(target.interface, known)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(sorted(known))}"
        raise ReplayError(f"--to {target.name}: no such interface; {hint}")


def _python_can() -> Any:
    """The module `can`. It imports asammdf where that is installed, and with it pandas, which take a second and are of no use here."""
    if "can" not in sys.modules and "asammdf" not in sys.modules:
        sys.modules["asammdf"] = None  # type: ignore[assignment]  # the import system's own way to say "not there"
        try:
            import can
        finally:
            del sys.modules["asammdf"]
    import can
    import can.util

    return can


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
