"""Log formats that python-can reads, as frame blocks. One Python object a frame: ten times slower than candump's own parser."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dbc.errors import LogFormatError
from dbc.frames import EFF_FLAG, ERR_FLAG, RTR_FLAG, FrameBlock

__all__ = ["READERS", "read_blocks"]


def _text(path: Path) -> Any:
    """A byte order mark is dropped, and a byte that is no UTF-8 (an umlaut in a comment) does no harm."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if packed:
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="replace")
    return path.open(encoding="utf-8-sig", errors="replace")


def _asc(path: Path) -> Any:
    from can.io import ASCReader

    return ASCReader(_text(path), relative_timestamp=False)


def _trc(path: Path) -> Any:
    from can.io import TRCReader

    return TRCReader(_text(path))


def _csv(path: Path) -> Any:
    from can.io import CSVReader

    return CSVReader(_text(path))


def _blf(path: Path) -> Any:
    from can.io import BLFReader

    return BLFReader(str(path))


def _sqlite(path: Path) -> Any:
    from can.io import SqliteReader

    return SqliteReader(str(path))


READERS: dict[str, Callable[[Path], Any]] = {"asc": _asc, "trc": _trc, "csv": _csv, "blf": _blf, "sqlite": _sqlite}


def read_blocks(path: Path, form: str, block_frames: int) -> Iterator[FrameBlock]:
    """Blocks of `block_frames` frames. Raises LogFormatError where python-can gives up."""
    channels: tuple[str, ...] = ()
    messages: list[Any] = []
    try:
        with READERS[form](path) as reader:
            for message in reader:
                messages.append(message)
                if len(messages) == block_frames:
                    block = _block(messages, channels)
                    channels, messages = block.channels, []
                    yield block
    except (LogFormatError, OSError, GeneratorExit):
        raise
    except Exception as error:  # python-can lets struct, zlib, sqlite3, value and index errors of damaged files through
        raise LogFormatError(str(path), f"damaged {form.upper()} log: {error or type(error).__name__}") from error
    if messages:
        yield _block(messages, channels)


def _block(messages: list[Any], channels: tuple[str, ...]) -> FrameBlock:
    """python-can's messages as a block; `channels` are those of the log's earlier blocks."""
    names = list(channels)
    n = len(messages)
    width = 64 if any(len(message.data) > 8 for message in messages) else 8
    block = FrameBlock(
        (), np.empty(n, np.int64), np.empty(n, np.uint32), np.empty(n, np.uint8), np.empty(n, np.uint8), np.zeros((n, width), np.uint8), 0
    )
    for number, message in enumerate(messages):
        name = _channel(message.channel)
        if name not in names:
            names.append(name)
        identifier = message.arbitration_id & 0x1FFF_FFFF
        if message.is_error_frame:
            identifier |= ERR_FLAG
        else:
            identifier |= (EFF_FLAG if message.is_extended_id else 0) | (RTR_FLAG if message.is_remote_frame else 0)
        data = b"" if message.is_remote_frame else bytes(message.data)[:64]
        block.timestamp_ns[number] = round(message.timestamp * 1e6) * 1000  # float seconds carry no more than microseconds
        block.frame_id[number] = identifier
        block.channel[number] = names.index(name)
        block.length[number] = min(message.dlc, 8) if message.is_remote_frame else len(data)
        block.data[number, : len(data)] = np.frombuffer(data, np.uint8)
    return FrameBlock(tuple(names), block.timestamp_ns, block.frame_id, block.channel, block.length, block.data, time.time_ns())


def _channel(channel: Any) -> str:
    """Readers number channels from 0; a log without channels has one. ASC files of tools other than Vector's begin at 0: there it is -1."""
    if channel is None:
        return "can0"
    return f"can{max(channel, 0)}" if isinstance(channel, int) else str(channel)
