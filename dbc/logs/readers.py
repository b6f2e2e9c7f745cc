"""Binary log formats that python-can reads, as frame blocks. One Python object a frame."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dbc.errors import LogFormatError
from dbc.frames import EFF_FLAG, EFF_MASK, ERR_FLAG, RTR_FLAG, FrameBlock
from dbc.logs.lines import LAST_SECOND, Frame, LineParser

__all__ = ["READERS", "read_blocks", "unpacked"]


def _blf(path: Path) -> Any:
    from can.io import BLFReader

    return BLFReader(str(path))


def _sqlite(path: Path) -> Any:
    from can.io import SqliteReader

    return SqliteReader(str(path))


READERS: dict[str, Callable[[Path], Any]] = {"blf": _blf, "sqlite": _sqlite}


@contextlib.contextmanager
def unpacked(path: Path, packed: bool) -> Iterator[Path]:
    """The file itself, or, of one that is packed by gzip, a temporary copy that is not: binary formats are not read from front to back."""
    if not packed:
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="cansight-log-") as copy:
        try:
            with gzip.open(path) as source:
                shutil.copyfileobj(source, copy)
        except (EOFError, zlib.error) as error:
            raise LogFormatError(str(path), f"damaged gzip file: {error}") from error
        copy.flush()
        yield Path(copy.name)


def read_blocks(path: Path, name: str, form: str, block_frames: int) -> Iterator[tuple[int, FrameBlock]]:
    """(position in the file, block of up to `block_frames` frames). Raises LogFormatError, with `name`, where python-can gives up."""
    blocks = _Blocks()
    frames: list[Frame] = []
    try:
        with READERS[form](path) as reader:
            file = getattr(reader, "file", None)
            for message in reader:
                frames.append(_frame(message))
                if len(frames) == block_frames:
                    yield (file.tell() if file is not None else 0), blocks.take(frames)
                    frames = []
    except (LogFormatError, OSError, GeneratorExit):
        raise
    except Exception as error:  # python-can lets struct, zlib, sqlite3, value and index errors of damaged files through
        raise LogFormatError(name, f"damaged {form.upper()} log: {error or type(error).__name__}") from error
    if frames:
        yield path.stat().st_size, blocks.take(frames)


class _Blocks(LineParser):
    """Numbers the channels as they come."""

    def take(self, frames: list[Frame]) -> FrameBlock:
        numbers = {name: number for number, name in enumerate(self.channels)}
        for frame in frames:
            self._check(frame, numbers)
        return self._block(frames, numbers, time.time_ns())


def _frame(message: Any) -> Frame:
    """python-can's message. Its float seconds carry no more than microseconds."""
    if not -LAST_SECOND < message.timestamp < LAST_SECOND:
        raise ValueError(f"time {message.timestamp}")
    extended, remote, error = bool(message.is_extended_id), bool(message.is_remote_frame), bool(message.is_error_frame)
    number = message.arbitration_id & EFF_MASK  # as it is: an identifier beyond 11 bits that is not extended matches no DBC
    number |= ERR_FLAG if error else (EFF_FLAG if extended else 0) | (RTR_FLAG if remote else 0)
    data = b"" if remote else bytes(message.data)[:64]
    length = min(message.dlc, 8) if remote else len(data)
    return Frame(round(message.timestamp * 1e6) * 1000, number, _channel(message.channel), data, length)


def _channel(channel: Any) -> str:
    """Readers number channels from 0; a log without channels has one."""
    if channel is None:
        return "can0"
    return f"can{max(channel, 0)}" if isinstance(channel, int) else str(channel)
