"""One segment file: its name, its records, and how a damaged one is read.

    name    {first position:020}-{salt:08x}.seg
    record  4 bytes marker | u32 payload length | u64 position | u32 payload CRC | u32 header CRC | payload     (big-endian)

Both CRCs are CRC-32 seeded with the segment's random salt; the header's covers the 20 bytes before it. The header has a CRC of its
own so that a record whose payload is damaged is stepped over exactly, and one whose length is damaged is not believed. The salt is
there because payloads come from strangers: after damage the reader looks for the next marker, and a payload that holds
something like a record must not be taken for one.
"""

import errno
import os
import re
import struct
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

Opener = Callable[[Path, int, int], int]
MARKER = b"\xc5\x1a\x9e\x47"
MAX_PAYLOAD_BYTES = 16 << 20  # four times the largest batch: a length above it is damage
_HEAD = struct.Struct(">4sIQI")
_CRC = struct.Struct(">I")
RECORD_BYTES = _HEAD.size + _CRC.size
_NAME = re.compile(r"(\d{20})-([0-9a-f]{8})\.seg", re.ASCII)
_PAGE = 4096
_PART_BYTES = 256 << 10  # a reader's share of memory
_FILLER = b"\xee"  # not zero: a tail of zeros is taken for an unfinished write and cut
_MARK_EVERY = 64  # records between two marks: a reader's start costs one scan of that many, a mark some 100 bytes of memory


@dataclass(slots=True)
class Segment:
    """A segment file as the log knows it. size: its synced bytes. marks: (position, offset) of every 64th record."""

    path: Path
    first: int
    salt: int
    size: int = 0
    marks: list[tuple[int, int]] = field(default_factory=list)
    records: int = 0

    @classmethod
    def named(cls, path: Path) -> Self | None:
        """The segment of a file's name, or None for a file that is none."""
        match = _NAME.fullmatch(path.name)
        return cls(path, int(match[1]), int(match[2], 16)) if match else None

    @classmethod
    def new(cls, folder: Path, first: int, salt: int) -> Self:
        return cls(folder / f"{first:020d}-{salt:08x}.seg", first, salt)

    def mark(self, position: int, offset: int) -> None:
        """Notes a record at its offset; called for every record in order."""
        if self.records % _MARK_EVERY == 0:
            self.marks.append((position, offset))
        self.records += 1

    def part(self, position: int, limit: int) -> tuple[int, int, int]:
        """What to read for the records from `position` on: offsets start and end, and the position that follows the part."""
        at = max(0, bisect_right(self.marks, position, key=lambda mark: mark[0]) - 1)
        start = self.marks[at][1] if self.marks and self.marks[at][0] <= position else 0
        behind = bisect_left(self.marks, start + _PART_BYTES, key=lambda mark: mark[1])
        if behind < len(self.marks):
            return start, self.marks[behind][1], self.marks[behind][0]
        return start, self.size, limit


def encode_record(salt: int, position: int, payload: bytes) -> bytes:
    """One record's bytes."""
    head = _HEAD.pack(MARKER, len(payload), position, zlib.crc32(payload, salt))
    return b"".join((head, _CRC.pack(zlib.crc32(head, salt)), payload))


class Scan:
    """Reads the records of a segment's bytes, stepping over damage.

    After `records()` is exhausted: `end` is the offset behind the last intact record, `torn` says that what follows it is one
    record that was being written (so nothing that was ever synced).
    """

    def __init__(self, data: bytes, salt: int) -> None:
        self.data = data
        self.salt = salt
        self.end = 0
        self.torn = False

    def records(self) -> Iterator[tuple[int, int, bytes]]:
        """(position, offset, payload) of each intact record, in file order."""
        at = 0
        while (at := self._header_from(at)) >= 0:
            _, length, position, payload_crc = _HEAD.unpack_from(self.data, at)
            start = at + RECORD_BYTES
            payload = self.data[start : start + length]
            if len(payload) == length and zlib.crc32(payload, self.salt) == payload_crc:
                self.end = start + length
                yield position, at, payload
                at = self.end
            elif len(payload) == length:
                at = start + length  # the header holds, so this is exactly where the next record begins
            else:
                self.torn = at == self.end
                return
        rest = self.data[self.end :]
        self.torn = len(rest) < RECORD_BYTES or not any(rest)  # zeros: the file's size was durable before its data

    def _header_from(self, at: int) -> int:
        """The offset of the first intact record header at or after `at`, or -1."""
        while (at := self.data.find(MARKER, at)) >= 0:
            if at + RECORD_BYTES > len(self.data):
                return -1
            head_crc = _CRC.unpack_from(self.data, at + _HEAD.size)[0]
            length = _HEAD.unpack_from(self.data, at)[1]
            if length <= MAX_PAYLOAD_BYTES and zlib.crc32(self.data[at : at + _HEAD.size], self.salt) == head_crc:
                return at
            at += 1
        return -1


def load(path: Path, start: int, end: int, opener: Opener) -> bytes:
    """Bytes start..end of a file; pages that the disk cannot read become filler that no record survives."""
    descriptor = opener(path, os.O_RDONLY | os.O_CLOEXEC, 0o600)
    try:
        whole = _pread(descriptor, start, end - start)
        if whole is not None:
            return whole
        pages = [(at, min(_PAGE, end - at)) for at in range(start, end, _PAGE)]
        return b"".join((_pread(descriptor, at, count) or b"").ljust(count, _FILLER) for at, count in pages)
    finally:
        os.close(descriptor)


def _pread(descriptor: int, at: int, count: int) -> bytes | None:
    try:
        return os.pread(descriptor, count, at)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return None
