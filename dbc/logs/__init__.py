"""Recorded frames: every format to one kind of block, told apart by content, not by name.

candump text      a parser of our own; also from a FIFO or standard input ("-"), as it arrives
ASC, BLF, TRC, python-can's CSV and SQLite     through python-can
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import stat
import sys
import time
import zlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import TracebackType

from dbc.errors import LogFormatError
from dbc.frames import FrameBlock, slice_frames
from dbc.logs.candump import LINE, CandumpParser, write_candump

__all__ = ["FORMATS", "LogReader", "open_log", "write_candump"]

FORMATS = "candump, ASC, BLF, TRC, python-can's CSV or SQLite"
SNIFF_BYTES = 64 * 1024  # enough for any header seen; a terminal's greeting may stand before the first frame
LINE_BYTES = 48  # of a candump line, for the size of a read
LONGEST_LINE = 64 * 1024
FOLLOW_S = 0.05  # between two looks at a file that grows

GZIP = b"\x1f\x8b"
MAGIC = ((b"LOGG", "blf"), (b"MDF     ", "mf4"), (b"UnFinMF ", "mf4"), (b"SQLite format 3\0", "sqlite"))


def open_log(path: str | Path, *, block_frames: int = 4000, follow: bool = False) -> LogReader:
    """A reader of the log at `path`, or of standard input for "-".

    block_frames: the most frames a block has. follow: at the end wait for more, as `tail -f` does (candump only).
    Nothing is opened before the first block is asked for; LogFormatError comes from there.
    """
    return LogReader(path, block_frames, follow)


class LogReader(Iterator[FrameBlock]):
    """Iterates over a log's blocks. A pipe's frames are given as they arrive; a block is not waited for."""

    def __init__(self, path: str | Path, block_frames: int, follow: bool) -> None:
        self.path = str(path)
        self.format = ""  # known after the first block
        self._block_frames, self._follow = block_frames, follow
        self._parser = CandumpParser()
        self._blocks = self._read()

    @property
    def skipped(self) -> int:
        """Lines, so far, that are no frame (candump)."""
        return self._parser.skipped

    @property
    def first_skipped(self) -> int | None:
        """Number of the first such line, from 1."""
        return self._parser.first_skipped

    def __next__(self) -> FrameBlock:
        return next(self._blocks)

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
            try:
                source = gzip.GzipFile(fileobj=file) if packed else file
                head = source.read(SNIFF_BYTES)
                self.format = _format_of(head) or self._refuse(head)
                if self.format == "candump":
                    yield from self._candump(source.read, head)
                    return
            except (EOFError, zlib.error) as error:
                raise LogFormatError(self.path, f"damaged gzip file: {error}") from error
        from dbc.logs.readers import READERS, read_blocks  # python-can takes a tenth of a second to import

        if self.format not in READERS:
            raise LogFormatError(self.path, "is an ASAM MDF4 file, which needs the asammdf package; expected " + FORMATS)
        yield from read_blocks(path, self.format, self._block_frames)

    def _from_stream(self, stream: io.FileIO) -> Iterator[FrameBlock]:
        """A FIFO or standard input: reads give what is there. Only candump text can be read from its middle on."""
        head = b""
        while _format_of(head) is None and len(head) < SNIFF_BYTES:
            chunk = stream.read(SNIFF_BYTES)
            if not chunk:
                break
            head += chunk
        self.format = _format_of(head) or (self._refuse(head) if head.strip() else "candump")
        if self.format != "candump":
            raise LogFormatError(self.path, f"is a {self.format.upper()} log on a pipe; from a pipe only candump text can be read")
        yield from self._candump(stream.read, head)

    def _candump(self, read: Callable[[int], bytes | None], head: bytes) -> Iterator[FrameBlock]:
        """Blocks of whole lines; the line that is not whole yet waits for the next read."""
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
        block = self._parser.parse(text, entered_ns)
        for start in range(0, len(block), self._block_frames):
            yield slice_frames(block, start, start + self._block_frames)

    def _refuse(self, head: bytes) -> str:
        begin = ascii(head[:40].decode("latin-1").split("\n")[0])[1:-1]
        raise LogFormatError(
            self.path, f"is not a log that can be read: it begins with {begin!r}; expected {FORMATS}" if head else "is empty"
        )


def _format_of(head: bytes) -> str | None:
    """The format of a log that begins with `head`; None = none that is known."""
    for magic, form in MAGIC:
        if head.startswith(magic):
            return form
    lines = [line.strip() for line in re.split(rb"[\r\n]+", head.removeprefix(codecs.BOM_UTF8).replace(b"\0", b"")) if line.strip()]
    if not lines:
        return None
    first = lines[0].lower()
    if first.startswith((b"date ", b"base hex", b"base dec")):
        return "asc"
    if first.startswith(b";"):
        return "trc"
    if first.startswith(b"timestamp,arbitration_id,extended,remote,error,dlc,data"):
        return "csv"
    return "candump" if any(LINE.fullmatch(line) for line in lines) else None
