"""MF4 logs as a source, read in a process of their own: asammdf brings pandas, and the agent would take twice the memory of its limit.

The child (`python -m edge.sources.mf4_log PATH`) writes to its standard output, for each block, a line of JSON and the arrays behind it;
at the end a line that says how it ended.
"""

import gzip
import os
import subprocess
import sys
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from dbc.errors import LogFormatError
from dbc.frames import FrameBlock
from dbc.logs import open_log
from dbc.logs.formats import format_of

GZIP = b"\x1f\x8b"
HEAD_BYTES = 8  # of an MF4's identification, ASAM MDF 4.1, 5.1
PATIENCE_S = 5.0


class _Line(msgspec.Struct, omit_defaults=True):
    """A block, with `frames` > 0, or the end. reason, line: of a LogFormatError."""

    channels: tuple[str, ...] = ()
    frames: int = 0
    width: int = 0
    entered_ns: int = 0
    flagged: bool = False
    damage: str | None = None
    reason: str = ""
    line: int | None = None


def is_mf4(path: str) -> bool:
    """Whether it is a file whose content, packed by gzip or not, is an MF4's."""
    try:
        if not Path(path).is_file():
            return False
        with Path(path).open("rb") as file:
            head = file.read(HEAD_BYTES)
        if head.startswith(GZIP):
            with gzip.open(path) as packed:
                head = packed.read(HEAD_BYTES)
    except (OSError, EOFError, zlib.error):  # whoever reads it says what is wrong
        return False
    return format_of(head) == "mf4"


class Mf4Log(Iterator[FrameBlock]):
    """Blocks of the log at `path`, as dbc's LogReader gives them. The process is started with the first one and ended by `close`."""

    skipped, first_skipped = 0, None  # of lines, which an MF4 does not have

    def __init__(self, path: str) -> None:
        self.path = path
        self.damage: str | None = None
        self._blocks = self._read()

    def __next__(self) -> FrameBlock:
        return next(self._blocks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._blocks.close()

    def _read(self) -> Generator[FrameBlock, None, None]:
        # -P and the explicit path: the working folder of a service must never decide which packages are imported.
        root = str(Path(__file__).resolve().parents[2])
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
        command = [sys.executable, "-P", "-m", "edge.sources.mf4_log", self.path]
        with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                while (line := _next_line(process.stdout)).frames:
                    yield _next_block(process.stdout, line)
            except (msgspec.DecodeError, EOFError):
                code = process.wait(PATIENCE_S)
                raise LogFormatError(self.path, f"the process that reads it ended in the middle of it, with code {code}") from None
            finally:
                process.kill()
        if line.reason:
            raise LogFormatError(self.path, line.reason, line.line)
        self.damage = line.damage


def _next_line(stream: IO[bytes]) -> _Line:
    return msgspec.json.decode(stream.readline(), type=_Line)


def _next_block(stream: IO[bytes], line: _Line) -> FrameBlock:
    def column(dtype: str, width: int = 1) -> NDArray[Any]:
        values = np.empty(line.frames * width, dtype)
        left = values.view(np.uint8).data
        while left:
            if not (got := stream.readinto(left)):  # type: ignore[attr-defined]  # of a pipe's io.BufferedReader
                raise EOFError
            left = left[got:]
        return values

    stamps, identifiers, channel, length = column("i8"), column("u4"), column("u1"), column("u1")
    data = column("u1", line.width).reshape(line.frames, line.width)
    flags = column("u1") if line.flagged else None
    return FrameBlock(line.channels, stamps, identifiers, channel, length, data, line.entered_ns, flags)


def main(path: str, stream: IO[bytes]) -> None:
    """The child: write the log to the stream."""
    end = _Line()
    try:
        with open_log(path) as reader:
            for block in reader:
                if len(block):
                    _write(stream, block)
            end.damage = reader.damage
    except LogFormatError as error:
        end = _Line(reason=error.reason, line=error.line)
    stream.write(msgspec.json.encode(end) + b"\n")
    stream.flush()


def _write(stream: IO[bytes], block: FrameBlock) -> None:
    line = _Line(tuple(block.channels), len(block), block.data.shape[1], block.entered_ns, block.flags is not None)
    stream.write(msgspec.json.encode(line) + b"\n")
    for column, dtype in ((block.timestamp_ns, "i8"), (block.frame_id, "u4"), (block.channel, "u1"), (block.length, "u1")):
        stream.write(np.ascontiguousarray(column, dtype).tobytes())
    stream.write(block.data.tobytes())
    if block.flags is not None:
        stream.write(block.flags.astype("u1").tobytes())
    stream.flush()


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.stdout.buffer)
    except BrokenPipeError:  # the agent is told to stop, or gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
