"""Recorded frames: every format to one kind of block, told apart by content, not by name.

text (candump, ASC, TRC, CSV ...)     parsers of our own, from files (packed by gzip or not), pipes and standard input, as it arrives
BLF                                   a parser of our own
python-can's SQLite                   through python-can
MF4                                   through asammdf, a channel group's chunk at a time

A broken line is left aside, counted and reported with its number (`LogReader.skipped`, `first_skipped`); of a damaged binary or packed log
what can be trusted is read, and the damage is told (`LogReader.damage`). A strict reader stops at either.
"""

from __future__ import annotations

import codecs
import io
import stat
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import TracebackType

from dbc.errors import LogFormatError
from dbc.frames import FrameBlock, slice_frames
from dbc.logs.candump_writer import write_candump
from dbc.logs.formats import FORMATS, TEXT_FORMATS, format_of, text_parser
from dbc.logs.lines import TextParser
from dbc.logs.packed import Unpacker, unpacked

__all__ = ["FORMATS", "LogReader", "open_log", "write_candump"]

SNIFF_BYTES = 64 * 1024  # enough for any header seen; a terminal's greeting may stand before the first frame
LINE_BYTES = 48  # of a candump line, for the size of a read
LONGEST_LINE = 64 * 1024
FOLLOW_S = 0.05  # between two looks at a file that grows

GZIP = b"\x1f\x8b"


def open_log(path: str | Path, *, block_frames: int = 4000, follow: bool = False, strict: bool = False) -> LogReader:
    """A reader of the log at `path`, or of standard input for "-".

    block_frames: the most frames a block has. follow: at the end wait for more, as `tail -f` does (text formats only).
    strict: LogFormatError at the first broken line, instead of counting it.
    Nothing is opened before the first block is asked for; LogFormatError comes from there.
    """
    return LogReader(path, block_frames, follow, strict)


class LogReader(Iterator[FrameBlock]):
    """Iterates over a log's blocks. A pipe's frames are given as they arrive; a block is not waited for."""

    def __init__(self, path: str | Path, block_frames: int, follow: bool, strict: bool) -> None:
        self.path = str(path)
        self.format = ""  # known after the first block
        self.empty = False  # whether nothing came through the pipe: a bus may be silent, a recording is not
        self.position = 0  # how much of the file is read, in bytes (of an MF4: in proportion to its frames); for a progress bar
        self._block_frames, self._follow, self._strict = block_frames, follow, strict
        self._parser: TextParser | None = None
        self._damage: list[str] = []
        self._given = False  # whether a frame has been
        self._blocks = self._read()

    @property
    def skipped(self) -> int:
        """Broken lines so far."""
        return 0 if self._parser is None else self._parser.skipped

    @property
    def first_skipped(self) -> int | None:
        """Number of the first of them, from 1."""
        return None if self._parser is None else self._parser.first_skipped

    @property
    def damage(self) -> str | None:
        """What could not be read of a binary or packed log so far, and where; None = nothing."""
        more = f" (and {len(self._damage) - 1} more places)" if len(self._damage) > 1 else ""
        return self._damage[0] + more if self._damage else None

    def __next__(self) -> FrameBlock:
        try:
            block = next(self._blocks)
        except StopIteration:
            if self._damage and not self._given:
                raise LogFormatError(self.path, f"damaged: {self.damage}; nothing could be read") from None
            raise
        self._given = True
        return block

    def _damaged(self, what: str) -> None:
        if self._strict:
            raise LogFormatError(self.path, f"damaged: {what}")
        self._damage.append(what)

    def refuse_empty(self) -> None:
        """For recordings, after their last block. Raises LogFormatError where the pipe had nothing."""
        if self.empty:
            raise LogFormatError(self.path, "is empty: nothing came through the pipe")

    def close(self) -> None:
        self._blocks.close()

    def __enter__(self) -> LogReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _read(self) -> Generator[FrameBlock, None, None]:
        try:
            if self.path == "-":
                with io.FileIO(sys.stdin.fileno(), closefd=False) as stream:
                    yield from self._from_stream(stream)
            elif stat.S_ISREG(Path(self.path).stat().st_mode):
                yield from self._from_file(Path(self.path))
            else:
                with Path(self.path).open("rb", buffering=0) as stream:
                    yield from self._from_stream(stream)
        except OSError as error:
            raise LogFormatError(self.path, f"cannot be read: {error.strerror or error}") from error

    def _from_file(self, path: Path) -> Iterator[FrameBlock]:
        with path.open("rb") as file:
            packed = file.read(2) == GZIP
            file.seek(0)
            source = Unpacker(file, self._damaged) if packed else file
            head = source.read(SNIFF_BYTES)
            self.format = format_of(head) or self._refuse(head)
            if self.format in TEXT_FORMATS:

                def read(size: int) -> bytes:
                    self.position = file.tell()
                    return source.read(size)

                yield from self._text(read, head)
                return
        self._damage.clear()  # the same file is unpacked again
        yield from self._through_library(path, packed)

    def _through_library(self, path: Path, packed: bool) -> Iterator[FrameBlock]:
        """Binary formats, whose libraries are heavy to import."""
        from dbc.logs import readers

        with unpacked(path, packed, self._damaged) as plain:
            if self.format == "mf4":
                from dbc.logs.mf4 import read_mf4

                for share, block in read_mf4(plain, self.path, self._block_frames, self._damaged):
                    self.position = int(share * path.stat().st_size)
                    yield block
                return
            for position, block in readers.read_blocks(plain, self.path, self.format, self._block_frames, self._damaged):
                self.position = position
                yield block

    def _from_stream(self, stream: io.FileIO) -> Iterator[FrameBlock]:
        """A FIFO or standard input: reads give what is there. Only text can be read from its middle on."""
        head = b""
        while format_of(head) is None and len(head) < SNIFF_BYTES:
            chunk = stream.read(SNIFF_BYTES)
            if not chunk:
                break
            head += chunk
        self.empty = not head.strip()
        self.format = format_of(head) or ("candump" if self.empty else self._refuse(head))
        if self.format not in TEXT_FORMATS:
            raise LogFormatError(self.path, f"is a {self.format.upper()} log on a pipe; from a pipe only text formats can be read")
        yield from self._text(stream.read, head)

    def _text(self, read: Callable[[int], bytes | None], head: bytes) -> Iterator[FrameBlock]:
        """Blocks of whole lines; the line that is not whole yet waits for the next read."""
        self._parser = text_parser(self.format, head)
        old_mac = b"\n" not in head and b"\r" in head  # line ends are CR alone
        chunk: bytes | None = head.removeprefix(codecs.BOM_UTF8)
        rest = b""
        while chunk or self._follow:
            entered_ns = time.time_ns()
            if not chunk:
                time.sleep(FOLLOW_S)
            else:
                if b"\0" in chunk:
                    chunk = chunk.replace(b"\0", b"")  # a file system's padding after a power cut
                text = rest + (chunk.replace(b"\r", b"\n") if old_mac else chunk)
                whole = text.rfind(b"\n") + 1
                text, rest = text[:whole], text[whole:]
                if len(rest) > LONGEST_LINE:
                    raise LogFormatError(self.path, f"a line is longer than {LONGEST_LINE} bytes", self._parser.lines + 1)
                yield from self._blocks_of(text, entered_ns)
            chunk = read(self._block_frames * LINE_BYTES)
        if rest:
            yield from self._blocks_of(rest, time.time_ns())

    def _blocks_of(self, text: bytes, entered_ns: int) -> Iterator[FrameBlock]:
        assert self._parser is not None
        block = self._parser.parse(text, entered_ns)
        if self._strict and self._parser.first_skipped is not None:
            raise LogFormatError(self.path, f"is no line of a {self.format} log", self._parser.first_skipped)
        for start in range(0, len(block), self._block_frames):
            yield slice_frames(block, start, start + self._block_frames)

    def _refuse(self, head: bytes) -> str:
        if self._damage and not head:
            raise LogFormatError(self.path, f"damaged: {self.damage}; nothing could be read")
        begin = ascii(head[:40].decode("latin-1").split("\n")[0])[1:-1]
        raise LogFormatError(
            self.path, f"is not a log that can be read: it begins with '{begin}'; expected {FORMATS}" if head else "is empty"
        )
