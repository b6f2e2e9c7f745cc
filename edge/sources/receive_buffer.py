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

from dbc.frames import CANFD_BRS, CANFD_ESI, CANFD_FDF, ERR_FLAG, stated_flags

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
        "names": ["stamp", "seconds", "nanoseconds", "drop", "drops"],  # stamp, drop: level and type of a control message as one number
        "formats": ["u8", _LONG, _LONG, "u8", "u4"],
        "offsets": [
            _CMSG_ALIGN,
            _CMSG_HEADER,
            _CMSG_HEADER + _LONG.itemsize,
            _STAMP_SPACE + _CMSG_ALIGN,
            _STAMP_SPACE + _CMSG_HEADER,
        ],
        "itemsize": _STAMP_SPACE + _DROPS_SPACE,
    }
)
_PLAIN = np.array([_STAMP_SPACE, CAN_MTU], np.uint64)  # control bytes and bytes of a classic frame that is stamped, and no more
_STAMP, _DROP = (np.array([socket.SOL_SOCKET, kind], np.int32).view(np.uint64)[0] for kind in (SO_TIMESTAMPNS, SO_RXQ_OVFL))
_FRAME = np.dtype([("id", "u4"), ("length", "u1"), ("flags", "u1"), ("reserved", "u2"), ("data", "u1", (FD_BYTES,))])
# (65, 8) words: the payload bytes that a length leaves
_KEPT = np.where(np.arange(FD_BYTES) < np.arange(FD_BYTES + 1)[:, np.newaxis], 0xFF, 0).astype(np.uint8).view(np.uint64)
_KEPT_CLASSIC = _KEPT[: CLASSIC_BYTES + 1, 0].copy()


@dataclass(frozen=True, slots=True)
class Received:
    """n frames, copied out of the buffer, in the order in which they were taken."""

    timestamp_ns: NDArray[np.int64]  # (n,) CLOCK_REALTIME, of the kernel
    frame_id: NDArray[np.uint32]  # (n,) with flags
    length: NDArray[np.uint8]  # (n,) payload bytes
    data: NDArray[np.uint8]  # (n, 8) or (n, 64), zero beyond the length
    damaged: NDArray[np.bool_] | None  # (n,) what came is no CAN frame; None: all are
    drops: tuple[NDArray[np.intp], NDArray[np.uint32]] | None  # rows with the kernel's counter of frames that found the socket's buffer
    #   full, and the counter, modulo 2**32; None: it said nothing
    flags: NDArray[np.uint8] | None = None  # (n,) of CAN FD, as a FrameBlock has them


class ReceiveBuffer:
    """Room for `capacity` frames. `receive` appends what a socket holds; `take_plain`, or else `take`, empties it."""

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
        self._address, self._size = messages.ctypes.data, messages.itemsize
        words = messages.view(np.uint64).reshape(capacity, -1)
        places = _Header.control_length.offset // 8, _Message.length.offset // 8
        self._sizes = words[:, places[0] : places[1] + 1 : places[1] - places[0]]
        self._heads, self._payloads = self._frames.view(np.uint64).reshape(capacity, -1).T[:2]  # of a classic frame there is no more
        self._receive = ctypes.CDLL(None, use_errno=True).recvmmsg
        self._receive.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)

    def receive(self, descriptor: int) -> int:
        """Take what waits, without waiting, as far as there is room. Returns the number of frames.

        Raises OSError (ENETDOWN, ENODEV, ...) as the socket does; what it held before that comes with the next call.
        """
        address = self._address + self.used * self._size
        count: int = self._receive(descriptor, address, self.capacity - self.used, socket.MSG_DONTWAIT, None)
        if count < 0:
            number = ctypes.get_errno()
            if number in (errno.EAGAIN, errno.EINTR):  # nothing there
                return 0
            raise OSError(number, os.strerror(number))
        self.used += count
        return count

    def take_plain(self, in_order: bool) -> tuple[NDArray[np.intp] | None, Received] | None:
        """As `take`, in the order of the stamps, where nothing but stamped, classic data frames came: a block of the usual bus in a third
        of the steps, all of which find a cold cache. None, and nothing is taken, where something else did.

        in_order: they came so. Returns the row in which each frame was taken, None = as they are; and the frames.
        """
        n = self.used
        if not (self._sizes[:n] == _PLAIN).all():
            return None
        head, data = self._heads[:n], self._payloads[:n]
        if int(np.bitwise_or.reduce(head)) & ERR_FLAG:
            return None
        controls = self._controls[:n]
        stamps: NDArray[np.int64] = controls["seconds"] * np.int64(1_000_000_000)
        stamps += controls["nanoseconds"]
        order = None
        if in_order:
            head, data = head.copy(), data.copy()
        else:
            order = stamps.argsort(kind="stable")
            stamps, head, data = stamps.take(order), head.take(order), data.take(order)
        length = np.minimum(head.view(np.uint8)[4::8], CLASSIC_BYTES)
        data &= _KEPT_CLASSIC.take(length)  # what stands behind the payload is the sender's memory, not zero
        self._control_lengths[:n] = _CONTROL.itemsize
        self.used = 0
        return order, Received(stamps, head.astype(np.uint32), length, data.view(np.uint8).reshape(n, CLASSIC_BYTES), None, None)

    def take(self, now_ns: int) -> Received:
        """What was received since the last call, as columns of their own. now_ns: for frames that the kernel gave no stamp."""
        n, self.used = self.used, 0
        frames, controls, sizes = self._frames[:n], self._controls[:n], self._lengths[:n]
        stamps: NDArray[np.int64] = controls["seconds"] * np.int64(1_000_000_000)
        stamps += controls["nanoseconds"]
        unstamped = controls["stamp"] != _STAMP
        if unstamped.any():
            stamps[unstamped] = now_ns
        drops = None
        said = controls["drop"] == _DROP
        if said.any():
            rows = np.flatnonzero(said)
            drops = rows, controls["drops"][rows]
            controls["drop"] = 0
        length: NDArray[np.uint8]
        damaged: NDArray[np.bool_] | None = None
        flags: NDArray[np.uint8] | None = None
        if (sizes == CAN_MTU).all():  # the usual bus
            length = np.minimum(frames["length"], CLASSIC_BYTES)
            data = frames["data"][:, :CLASSIC_BYTES].copy()
            data.view(np.uint64)[:, 0] &= _KEPT_CLASSIC.take(length)
        else:
            wide = sizes == CANFD_MTU
            bad = (sizes != CAN_MTU) & ~wide | (self._flags[:n] & socket.MSG_TRUNC != 0)
            damaged = bad if bad.any() else None
            length = np.minimum(frames["length"], np.where(wide, FD_BYTES, CLASSIC_BYTES).astype(np.uint8))
            data = frames["data"].copy() if wide.any() else frames["data"][:, :CLASSIC_BYTES].copy()
            words = data.view(np.uint64)
            words &= _KEPT.take(length, axis=0)[:, : words.shape[1]]
            said = frames["flags"] & np.uint8(CANFD_BRS | CANFD_ESI) | np.uint8(CANFD_FDF)  # kernels before 6.0 do not set the latter
            flags = stated_flags(np.where(wide, said, np.uint8(0)), length)
        identifier = frames["id"].copy()
        controls["stamp"] = 0
        self._control_lengths[:n] = _CONTROL.itemsize
        return Received(stamps, identifier, length, data, damaged, drops, flags)
