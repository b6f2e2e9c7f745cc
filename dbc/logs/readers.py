"""Binary log formats whose readers give frame after frame: BLF by our own, SQLite by python-can's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dbc.errors import LogFormatError
from dbc.frames import EFF_FLAG, EFF_MASK, ERR_FLAG, RTR_FLAG, FrameBlock
from dbc.logs.blf import read_blf
from dbc.logs.lines import LAST_SECOND, Broken, Frame, LineParser

__all__ = ["read_blocks"]

Damage = Callable[[str], None]


def read_blocks(path: Path, name: str, form: str, block_frames: int, damaged: Damage) -> Iterator[tuple[int, FrameBlock]]:
    """(position in the file, block of up to `block_frames` frames). damaged: is told of what cannot be read, and goes on or raises.

    Raises LogFormatError, with `name`, where nothing can be read.
    """
    blocks = _Blocks(damaged)
    frames: list[Frame] = []
    for position, more in _blf(path, name, damaged) if form == "blf" else _sqlite(path, damaged):
        frames += more
        while len(frames) >= block_frames:
            yield position, blocks.take(frames[:block_frames])
            del frames[:block_frames]
    if frames:
        yield path.stat().st_size, blocks.take(frames)


def _blf(path: Path, name: str, damaged: Damage) -> Iterator[tuple[int, list[Frame]]]:
    with path.open("rb") as file:
        yield from read_blf(file, name, damaged)


def _sqlite(path: Path, damaged: Damage) -> Iterator[tuple[int, list[Frame]]]:
    from can.io import SqliteReader

    number = 0
    try:
        with SqliteReader(str(path)) as reader:
            for message in reader:
                number += 1
                yield 0, [_frame(message)]
    except (OSError, LogFormatError):
        raise
    except Exception as error:  # noqa: BLE001  python-can lets sqlite3, value and type errors of damaged files through
        damaged(f"row {number + 1}: {' '.join(str(error).split()) or type(error).__name__}")


class _Blocks(LineParser):
    """Numbers the channels as they come."""

    def __init__(self, damaged: Damage) -> None:
        super().__init__()
        self._damaged = damaged

    def take(self, frames: list[Frame]) -> FrameBlock:
        numbers = {name: number for number, name in enumerate(self.channels)}
        good = [frame for frame in frames if self._fits(frame, numbers)]
        return self._block(good, numbers, time.time_ns())

    def _fits(self, frame: Frame, numbers: dict[str, int]) -> bool:
        try:
            self._check(frame, numbers)
        except Broken as error:
            self._damaged(str(error))
            return False
        return True


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
