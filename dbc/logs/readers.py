"""Binary log formats whose readers give frame after frame: BLF, and the SQLite files that python-can writes.

Both are read without python-can, which would bring asammdf and pandas into an agent where they are installed.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

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
    """Of python-can's table `messages`: the columns ts, arbitration_id, extended, remote, error, dlc, data."""
    number = 0
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
            for row in file.execute("SELECT * FROM messages"):
                number += 1
                yield 0, [_frame(row)]
    except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
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


def _frame(row: tuple[Any, ...]) -> Frame:
    """A row's frame. Its float seconds carry no more than microseconds. Raises ValueError or TypeError for what is none."""
    seconds, identifier, extended, remote, error, dlc, data = row
    if not (data is None or isinstance(data, bytes)):
        raise TypeError(f"data {data!r}")
    if not -LAST_SECOND < seconds < LAST_SECOND:
        raise ValueError(f"time {seconds}")
    number = identifier & EFF_MASK  # as it is: an identifier beyond 11 bits that is not extended matches no DBC
    number |= ERR_FLAG if error else (EFF_FLAG if extended else 0) | (RTR_FLAG if remote else 0)
    payload = b"" if remote or data is None else bytes(data)[:64]
    length = min(dlc, 8) if remote else len(payload)
    return Frame(round(seconds * 1e6) * 1000, number, "can0", payload, length)
