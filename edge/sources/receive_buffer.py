"""Frames from a socket into one preallocated block: `recvmmsg` takes what the kernel holds in one call, NumPy reads it as columns.

Python's own `recvmsg` makes four objects a frame; at 12,000 frames/s that is most of a small computer's core.
The layouts are those of <linux/can.h> (struct can_frame, struct canfd_frame) and <bits/socket.h>.
"""

import ctypes
import errno
import os
import socket
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SO_TIMESTAMPNS = 35  # <asm-generic/socket.h>; also the type of the control message
SO_RXQ_OVFL = 40
CAN_MTU, CANFD_MTU = 16, 72  # sizeof(struct can_frame), sizeof(struct canfd_frame)
CLASSIC_BYTES, FD_BYTES = 8, 64

_CMSG_ALIGN = ctypes.sizeof(ctypes.c_size_t)
_CMSG_HEADER = (_CMSG_ALIGN + 2 * ctypes.sizeof(ctypes.c_int) + _CMSG_ALIGN - 1) // _CMSG_ALIGN * _CMSG_ALIGN
_STAMP_SPACE = _CMSG_HEADER + 2 * ctypes.sizeof(ctypes.c_long)  # a struct timespec
_DROPS_SPACE = _CMSG_HEADER + _CMSG_ALIGN  # a uint32, padded
_LONG = np.dtype("l")


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):  # struct msghdr
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vector", ctypes.c_void_p),
        ("vectors", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):  # struct mmsghdr
    _fields_ = (("header", _Header), ("length", ctypes.c_uint))


_CONTROL = np.dtype(
    {
        "names": ["stamp_level", "stamp_type", "seconds", "nanoseconds", "drops_level", "drops_type", "drops"],
        "formats": ["i4", "i4", _LONG, _LONG, "i4", "i4", "u4"],
        "offsets": [
            _CMSG_ALIGN,
            _CMSG_ALIGN + 4,
            _CMSG_HEADER,
            _CMSG_HEADER + _LONG.itemsize,
            _STAMP_SPACE + _CMSG_ALIGN,
            _STAMP_SPACE + _CMSG_ALIGN + 4,
            _STAMP_SPACE + _CMSG_HEADER,
        ],
        "itemsize": _STAMP_SPACE + _DROPS_SPACE,
    }
)
_FRAME = np.dtype([("id", "u4"), ("length", "u1"), ("flags", "u1"), ("reserved", "u2"), ("data", "u1", (FD_BYTES,))])
# (65, 8) words: the payload bytes that a length leaves
_KEPT = np.where(np.arange(FD_BYTES) < np.arange(FD_BYTES + 1)[:, np.newaxis], 0xFF, 0).astype(np.uint8).view(np.uint64)


@dataclass(frozen=True, slots=True)
class Received:
    """n frames of one socket, copied out of the buffer."""

    timestamp_ns: NDArray[np.int64]  # (n,) CLOCK_REALTIME, of the kernel
    frame_id: NDArray[np.uint32]  # (n,) with flags
    length: NDArray[np.uint8]  # (n,) payload bytes
    data: NDArray[np.uint8]  # (n, 8) or (n, 64), zero beyond the length
    drops: int | None  # the kernel's counter of frames that found the socket's buffer full, modulo 2**32; None: it said nothing
    damaged: int  # messages that were no frame, left out
    unstamped: int  # frames to which the kernel gave no time; they got the caller's

    def only(self, rows: NDArray[np.intp]) -> "Received":
        """These frames alone."""
        frames = self.timestamp_ns[rows], self.frame_id[rows], self.length[rows], self.data[rows]
        return Received(*frames, self.drops, self.damaged, self.unstamped)


class ReceiveBuffer:
    """Room for `capacity` frames of one socket. `receive` fills it, `take` empties it."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self._frames = np.zeros(capacity, _FRAME)
        self._controls = np.zeros(capacity, _CONTROL)
        vectors = np.zeros(capacity, np.dtype(_Iovec))
        messages = np.zeros(capacity, np.dtype(_Message))
        number = np.arange(capacity, dtype=np.uintp)
        vectors["base"] = self._frames.ctypes.data + number * CANFD_MTU
        vectors["length"] = CANFD_MTU
        header: Any = messages["header"]
        header["vector"] = vectors.ctypes.data + number * vectors.itemsize
        header["vectors"] = 1
        header["control"] = self._controls.ctypes.data + number * self._controls.itemsize
        header["control_length"] = _CONTROL.itemsize
        self._vectors, self._messages = vectors, messages  # the kernel reads them: they live as long as this object
        self._lengths, self._control_lengths, self._flags = messages["length"], header["control_length"], header["flags"]
        self._address = messages.ctypes.data
        self._receive = ctypes.CDLL(None, use_errno=True).recvmmsg

    def receive(self, descriptor: int) -> int:
        """Take what waits, without waiting. Returns the number of frames. Raises OSError (ENETDOWN, ENODEV, ...) as the socket does."""
        address = ctypes.c_void_p(self._address + self.used * self._messages.itemsize)
        count: int = self._receive(descriptor, address, self.capacity - self.used, socket.MSG_DONTWAIT, None)
        if count < 0:
            number = ctypes.get_errno()
            if number in (errno.EAGAIN, errno.EINTR):  # nothing there
                return 0
            raise OSError(number, os.strerror(number))
        self.used += count
        return count

    def take(self, now_ns: int) -> Received:
        """What was received since the last call, as columns of their own. now_ns: for frames without a stamp."""
        n, self.used = self.used, 0
        frames, controls, sizes = self._frames[:n], self._controls[:n], self._lengths[:n]
        of_frame = ((sizes == CAN_MTU) | (sizes == CANFD_MTU)) & (self._flags[:n] & socket.MSG_TRUNC == 0)
        damaged = n - int(np.count_nonzero(of_frame))
        stamped = (controls["stamp_level"] == socket.SOL_SOCKET) & (controls["stamp_type"] == SO_TIMESTAMPNS)
        stamps = controls["seconds"].astype(np.int64) * 1_000_000_000 + controls["nanoseconds"]
        drops = self._drops(n)
        unstamped = n - int(np.count_nonzero(stamped))
        if unstamped:
            stamps[~stamped] = now_ns
        wide = bool((sizes == CANFD_MTU).any())
        length = np.minimum(frames["length"], np.where(sizes == CANFD_MTU, FD_BYTES, CLASSIC_BYTES).astype(np.uint8))
        data = np.ascontiguousarray(frames["data"] if wide else frames["data"][:, :CLASSIC_BYTES])
        words = data.view(np.uint64)
        words &= _KEPT.take(length, axis=0)[:, : words.shape[1]]  # what stands behind the payload is the sender's memory, not zero
        identifier = frames["id"].copy()
        controls["stamp_type"] = controls["drops_type"] = 0
        self._control_lengths[:n] = _CONTROL.itemsize
        received = Received(stamps, identifier, length, data, drops, damaged, unstamped)
        return received.only(np.flatnonzero(of_frame)) if damaged else received

    def _drops(self, n: int) -> int | None:
        """The newest count. The kernel sends none while it is zero."""
        controls = self._controls[:n]
        said = np.flatnonzero((controls["drops_level"] == socket.SOL_SOCKET) & (controls["drops_type"] == SO_RXQ_OVFL))
        return int(controls["drops"][said[-1]]) if len(said) else None
