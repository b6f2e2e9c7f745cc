"""Files packed by gzip, read as far as they can be.

Python's own reader loses what came before the damage in the same read, and what a file that was cut off still has.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["Unpacker", "unpacked"]

CHUNK = 64 * 1024
SMALLEST = 16  # a chunk with damage in it is given in pieces down to this size: what comes before the damage is kept
GZIP = 16 + zlib.MAX_WBITS

Damage = Callable[[str], None]


class Unpacker:
    """`read` of a gzip file's content; damage ends it, and is told."""

    def __init__(self, file: BinaryIO, damaged: Damage) -> None:
        self._file, self._damaged = file, damaged
        self._stream = zlib.decompressobj(GZIP)
        self._packed = self._ready = b""
        self._ended = False

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end."""
        parts, missing = [], size
        while missing and not self._ended:
            part = self._next(missing)
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _next(self, most: int) -> bytes:
        if not self._packed:
            self._packed = self._file.read(CHUNK)
            if not self._packed:
                if not self._stream.eof:
                    self._damaged(f"the gzip file is cut off at byte {self._file.tell()}")
                self._ended = True
                return b""
        if self._stream.eof:  # another member follows, or padding
            rest = self._packed.lstrip(b"\0")
            if not rest:
                self._packed = b""
                return b""
            self._packed, self._stream = rest, zlib.decompressobj(GZIP)
        return self._unpack(most)

    def _unpack(self, most: int) -> bytes:
        piece = self._packed
        while True:
            before = self._stream.copy()
            try:
                text = self._stream.decompress(piece, most)
            except zlib.error as error:
                self._stream = before
                if len(piece) > SMALLEST:
                    piece = piece[: len(piece) // 2]
                    continue
                at = self._file.tell() - len(self._packed)
                self._damaged(f"the gzip file is damaged near byte {at}: {' '.join(str(error).split())}")
                self._ended = True
                return b""
            left = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            self._packed = left + self._packed[len(piece) :]
            return text


@contextmanager
def unpacked(path: Path, packed: bool, damaged: Damage) -> Iterator[Path]:
    """The file itself, or, of one that is packed by gzip, a temporary copy that is not: binary formats are not read from front to back."""
    if not packed:
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="cansight-log-") as copy, path.open("rb") as file:
        source = Unpacker(file, damaged)
        while part := source.read(CHUNK):
            copy.write(part)
        copy.flush()
        yield Path(copy.name)
