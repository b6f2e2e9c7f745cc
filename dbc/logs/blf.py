"""Vector's BLF: frames in objects, objects in containers that are compressed one by one.

    file header "LOGG" ... | object "LOBJ" (container) | object (container) | ...
    container, unpacked: ... objects of frames; one may go on in the next container

A damaged container is left out whole: its checksum (Adler-32, of zlib) says that any byte of it may be wrong. A file that was cut off is
read up to the cut. Source: the layouts that python-can's reader knows (it follows Vector's published binlog headers), to which the tests
hold this one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import BinaryIO

from dbc.errors import LogFormatError
from dbc.frames import EFF_FLAG, EFF_MASK, ERR_FLAG, RTR_FLAG
from dbc.logs.lines import Broken, Frame, fd_flags

__all__ = ["read_blf"]

FILE_HEADER = struct.Struct("<4sL32x8H")  # signature, size of the header; first stamp as a SYSTEMTIME in UTC
OBJECT = struct.Struct("<4sHHLL")  # signature, size and version of the header, size and type of the object
STAMP_V1 = struct.Struct("<L4xQ")  # unit, stamp since the file's start
STAMP_V2 = struct.Struct("<L4xQ8x")
CONTAINER = struct.Struct("<H6xL4x")  # how it is compressed, unpacked size
MESSAGE = struct.Struct("<HBBL8s")  # channel, flags, length code, identifier, data
ERROR_EXT = struct.Struct("<H8xB5xL4x8s")  # channel, length, identifier, data: as far as the controller had got
FD_MESSAGE = struct.Struct("<HBBL4xxBB5x64s")  # channel, flags, length code, identifier; FD flags, bytes, data
FD_MESSAGE_64 = struct.Struct(
    "<BBBxL4xL16xHBBL"
)  # channel, length code, bytes, identifier, flags; bit count, direction, offset of more, checksum

CAN_MESSAGE, CAN_MESSAGE2, LOG_CONTAINER, CAN_ERROR_EXT, CAN_FD_MESSAGE, CAN_FD_MESSAGE_64 = 1, 86, 10, 73, 100, 101
STORED, DEFLATED = 0, 2
TEN_MICROSECONDS = 1  # the unit; anything else is nanoseconds
EXTENDED, REMOTE, REMOTE_64 = 0x8000_0000, 0x80, 0x10
EXTENDED_LENGTH, BIT_RATE_SWITCH, ERROR_PASSIVE = 0x1, 0x2, 0x4  # FD flags; of FD_MESSAGE_64 they stand 12 bits higher
FD_64_SHIFT = 12
LARGEST = 64 << 20  # bytes of a container; Vector's are 128 KiB
ALIGNED = 4  # objects begin at multiples; between them are up to 7 bytes of padding
PADDING = 8

Damage = Callable[[str], None]


def read_blf(file: BinaryIO, name: str, damaged: Damage) -> Iterator[tuple[int, list[Frame]]]:
    """(position in the file, frames of a container). damaged: is told of each place that cannot be read, and goes on or raises.

    Raises LogFormatError, with `name`, where the file's header cannot be read.
    """
    head = file.read(FILE_HEADER.size)
    if len(head) < FILE_HEADER.size:
        raise LogFormatError(name, f"is cut off within its header, {len(head)} bytes long")
    _, size, *moment = FILE_HEADER.unpack(head)
    file.seek(max(size, FILE_HEADER.size))
    objects = _Objects(_start_ns(moment), damaged)
    while True:
        at = file.tell()
        header = file.read(OBJECT.size)
        if not header:
            break
        if len(header) < OBJECT.size:
            damaged(f"cut off at byte {at + len(header)}")
            break
        signature, _, _, length, kind = OBJECT.unpack(header)
        if signature != b"LOBJ" or not OBJECT.size <= length <= LARGEST:
            damaged(f"no object at byte {at}")
            break
        body = file.read(length - OBJECT.size)
        cut = len(body) < length - OBJECT.size
        content = _unpacked(body, at, cut, damaged) if kind == LOG_CONTAINER else None
        yield at, objects.feed(content, at)
        if cut:
            damaged(f"cut off at byte {at + OBJECT.size + len(body)}")
            break
        file.seek(length % ALIGNED, 1)
    objects.finish()


def _unpacked(body: bytes, at: int, cut: bool, damaged: Damage) -> bytes | None:
    """What is in the container at byte `at` of the file; None where it cannot be trusted."""
    if len(body) < CONTAINER.size:
        if not cut:
            damaged(f"an empty container at byte {at}")
        return None
    method, size = CONTAINER.unpack_from(body)
    content = body[CONTAINER.size :]
    if method == STORED:
        if size != len(content) and not cut:
            damaged(f"the container at byte {at} has {len(content)} bytes, not {size}")
            return None
        return content
    if method != DEFLATED:
        damaged(f"a container that is compressed in an unknown way ({method}) at byte {at}")
        return None
    unpacker = zlib.decompressobj()
    try:
        whole = unpacker.decompress(content, LARGEST)
    except zlib.error as error:
        damaged(f"the container at byte {at}: {error}")
        return None
    if len(unpacker.unused_data) >= ALIGNED:  # its length is wrong: it swallows what follows
        damaged(f"the container at byte {at} goes on after its end")
        return None
    if not unpacker.eof and not cut:
        damaged(f"the container at byte {at} ends too early")
        return None
    return whole


class _Objects:
    """Objects of the containers' contents, which are one stream."""

    def __init__(self, start_ns: int, damaged: Damage) -> None:
        self._start_ns, self._damaged = start_ns, damaged
        self._rest = b""

    def feed(self, content: bytes | None, container: int) -> list[Frame]:
        """Frames of the objects that are whole. content: None = lost, so that an object that began before has no end."""
        if content is None:
            self.finish()
            self._rest = b""
            return []
        data, frames, at = self._rest + content, [], 0
        while True:
            found = data.find(b"LOBJ", at, at + PADDING + 4)
            if found < 0:
                if len(data) - at > PADDING + 4:
                    # An object whose beginning is in a container that is lost, or damage: on to the next.
                    found = data.find(b"LOBJ", at)
                    if at or found < 0 or self._rest:
                        self._damaged(f"no object where one should be, in the container at byte {container}")
                    if found < 0:
                        at = len(data)
                        break
                else:
                    break
            if found + OBJECT.size > len(data):
                at = found
                break
            _, _, version, length, kind = OBJECT.unpack_from(data, found)
            if not OBJECT.size <= length <= LARGEST:
                self._damaged(f"an object of {length} bytes, in the container at byte {container}")
                at = found + 4
                continue
            if found + length > len(data):
                at = found
                break
            try:
                frame = self._frame(data[found : found + length], version, kind)
            except (Broken, struct.error) as error:
                self._damaged(f"an object of type {kind} that is no frame ({error}), in the container at byte {container}")
                frame = None
            if frame is not None:
                frames.append(frame)
            at = found + length
        self._rest = data[at:]
        return frames

    def finish(self) -> None:
        if len(self._rest) >= PADDING:
            self._damaged("the last object has no end")

    def _frame(self, data: bytes, version: int, kind: int) -> Frame | None:
        """Of one object; None where it is of another kind. Raises Broken and struct.error."""
        if kind not in (CAN_MESSAGE, CAN_MESSAGE2, CAN_ERROR_EXT, CAN_FD_MESSAGE, CAN_FD_MESSAGE_64):
            return None
        if version not in (1, 2):
            raise Broken(f"header version {version}")
        form = STAMP_V1 if version == 1 else STAMP_V2
        unit, stamp = form.unpack_from(data, OBJECT.size)
        at = OBJECT.size + form.size
        time_ns = self._start_ns + stamp * (10_000 if unit == TEN_MICROSECONDS else 1)
        if kind in (CAN_MESSAGE, CAN_MESSAGE2):
            channel, flags, code, number, payload = MESSAGE.unpack_from(data, at)
            return _data_frame(time_ns, channel, number, payload[: min(code, 8)], bool(flags & REMOTE), code)
        if kind == CAN_ERROR_EXT:
            channel, code, number, payload = ERROR_EXT.unpack_from(data, at)
            payload = payload[: min(code, 8)]
            return Frame(time_ns, ERR_FLAG | number & EFF_MASK, _name(channel), payload, len(payload))
        if kind == CAN_FD_MESSAGE:
            channel, flags, code, number, fd, size, payload = FD_MESSAGE.unpack_from(data, at)
            return _data_frame(time_ns, channel, number, payload[:size], bool(flags & REMOTE), code, fd)
        channel, code, size, number, flags, _, _, more, _ = FD_MESSAGE_64.unpack_from(data, at)
        size = min(size, 64)
        # The size may be of more bytes than are there: what is missing are zeros, as Vector's own tools have it.
        end = more if at + FD_MESSAGE_64.size <= more <= len(data) else len(data)
        payload = data[at + FD_MESSAGE_64.size : end][:size].ljust(size, b"\0")
        return _data_frame(time_ns, channel, number, payload, bool(flags & REMOTE_64), code, flags >> FD_64_SHIFT)


def _data_frame(time_ns: int, channel: int, number: int, payload: bytes, remote: bool, code: int, fd: int = 0) -> Frame:
    # As it is: an identifier beyond 11 bits that is not marked as extended matches no DBC.
    flagged = number & EFF_MASK | (EFF_FLAG if number & EXTENDED else 0) | (RTR_FLAG if remote else 0)
    if remote:
        return Frame(time_ns, flagged, _name(channel), b"", min(code, 8))
    fd_frame = fd_flags(bool(fd & BIT_RATE_SWITCH), bool(fd & ERROR_PASSIVE)) if fd & EXTENDED_LENGTH else None
    return Frame(time_ns, flagged, _name(channel), payload, len(payload), fd_frame)


def _name(channel: int) -> str:
    return f"can{max(channel - 1, 0)}"


def _start_ns(moment: list[int]) -> int:
    """Of a SYSTEMTIME: year, month, day of the week, day, hour, minute, second, milliseconds. 0 where it is no date."""
    year, month, _, day, hour, minute, second, ms = moment
    try:
        return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()) * 1_000_000_000 + ms * 1_000_000
    except ValueError:
        return 0
