"""ASAM MDF4 bus logs, through asammdf, a chunk of a channel group at a time.

A bus log (ASAM MDF bus logging associated standard) has channel groups of frames: CAN_DataFrame and CAN_RemoteFrame, with the channels
.BusChannel, .ID, .IDE, .DataLength, .DataBytes. Whole chunks become arrays; nothing is done frame by frame. Groups are merged by time.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbc.errors import LogFormatError
from dbc.frames import (
    CANFD_BRS,
    CANFD_ESI,
    CANFD_FDF,
    EFF_FLAG,
    EFF_MASK,
    ERR_FLAG,
    RTR_FLAG,
    SFF_MASK,
    FrameBlock,
    filled_flags,
    joined_flags,
    slice_frames,
    stated_flags,
)
from dbc.logs.mf4_links import circular_link

__all__ = ["read_mf4"]

CHUNK = 100_000  # frames that are read of a group at a time
KINDS = {"CAN_DataFrame": 0, "CAN_RemoteFrame": RTR_FLAG, "CAN_ErrorFrame": ERR_FLAG}
FD_FIELDS = ("EDL", "BRS", "ESI")
LAST_SECOND = 2**63 // 10**9 - 1


def read_mf4(path: Path, name: str, block_frames: int, damaged: Callable[[str], None]) -> Iterator[tuple[float, FrameBlock]]:
    """(share of the frames that have been read, block). damaged: is told of what cannot be read after a first block.

    Raises LogFormatError, with `name`, for a file of which nothing can be read, or one without frames.
    """
    try:
        import asammdf
    except ModuleNotFoundError as error:
        raise LogFormatError(name, "is an ASAM MDF4 file, which needs the asammdf package: install cansight[log]") from error
    read: float | None = None
    try:
        # An open file, not a path: by its path asammdf would look at the extension, and may unpack or delete.
        options: Any = {"process_bus_logging": False}  # its own index of all identifiers: not needed
        with _quiet(), _finalisable(path) as file, _opened(asammdf, file, options) as mdf:
            for share, block in _read(mdf, name, block_frames, damaged):
                yield share, block
                read = share
    except (LogFormatError, OSError) as error:
        _let_go(error)
        raise
    except Exception as error:  # asammdf lets struct, zlib, index, key and assertion errors of damaged files through
        _let_go(error)
        reason = " ".join(str(error).split()) or type(error).__name__
        if read is None:
            raise LogFormatError(name, f"damaged MF4 log: {reason}") from error
        damaged(f"after {read:.0%} of the frames: {reason}")


def _read(mdf: Any, name: str, block_frames: int, damaged: Callable[[str], None]) -> Iterator[tuple[float, FrameBlock]]:
    groups = [_Group(mdf, number, frames, kind) for number, frames, kind in _bus_groups(mdf, damaged)]
    total = sum(group.frames for group in groups)
    if not groups:
        raise LogFormatError(name, "has no CAN frames: it is no bus log (decoded signals are no frames)")
    start_ns = round(mdf.header.start_time.timestamp() * 1e6) * 1000
    channels: tuple[str, ...] = ()
    waiting: list[_Chunk] = []
    read = 0
    while groups or waiting:
        # Whatever comes before the earliest of the groups' last stamps is complete.
        for group in [group for group in groups if not group.pending]:
            chunk = group.next()
            waiting.append(chunk)
            read += len(chunk.second)
        limit = min((group.last for group in groups if not group.finished), default=np.inf)
        for group in groups:
            group.pending = group.last > limit and not group.finished
        groups = [group for group in groups if not group.finished]
        ready = [chunk.part(chunk.second <= limit) for chunk in waiting]
        waiting = [left for chunk in waiting if len((left := chunk.part(chunk.second > limit)).second)]
        merged = _merge([chunk for chunk in ready if len(chunk.second)])
        if merged is None:
            continue
        channels, block = _block(merged, channels, start_ns)
        for start in range(0, len(block), block_frames):
            yield read / total, slice_frames(block, start, start + block_frames)


def _bus_groups(mdf: Any, damaged: Callable[[str], None]) -> Iterator[tuple[int, int, str]]:
    """(number, frames, kind) of each group that has frames."""
    for number, group in enumerate(mdf.groups):
        names = {channel.name for channel in group.channels}
        frames = int(group.channel_group.cycles_nr)
        for kind in KINDS:
            if frames and (f"{kind}.ID" in names or (kind == "CAN_ErrorFrame" and kind in names)):
                _check_record(group)
                size = sum(block.original_size for block in group.get_data_blocks())
                record = group.channel_group.samples_byte_nr + group.channel_group.invalidation_bytes_nr
                if frames * record > size:  # asammdf would fill up what is missing
                    there = size // max(record, 1)
                    damaged(f"channel group {number} has {there} frames of {frames}")
                    frames = there
                if frames:
                    yield number, frames, kind


def _check_record(group: Any) -> None:
    """asammdf cuts channels out of records without looking whether they lie within, and takes the process down where they do not."""
    size = group.channel_group.samples_byte_nr
    for channel in group.channels:
        end = channel.byte_offset + (channel.bit_offset + channel.bit_count + 7) // 8
        if end > size:
            raise ValueError(f"the channel {channel.name} ends at byte {end} of a record of {size}")


@dataclass
class _Chunk:
    second: NDArray[np.float64]  # (n,) since the measurement's start
    frame_id: NDArray[np.uint32]
    bus: NDArray[np.int64]
    length: NDArray[np.uint8]
    data: NDArray[np.uint8]  # (n, 8) or (n, 64)
    flags: NDArray[np.uint8] | None = None  # of CAN FD, where there are such frames of 8 bytes or fewer, or without the second bit rate

    def part(self, which: NDArray[np.bool_]) -> _Chunk:
        if which.all():
            return self
        flags = None if self.flags is None else self.flags[which]
        return _Chunk(self.second[which], self.frame_id[which], self.bus[which], self.length[which], self.data[which], flags)


class _Group:
    """A channel group that is read from front to back."""

    def __init__(self, mdf: Any, number: int, frames: int, kind: str) -> None:
        self._mdf, self._number, self._kind = mdf, number, kind
        self._names = {channel.name for channel in mdf.groups[number].channels}
        self._at = 0
        self.frames = frames
        self.last = -np.inf  # stamp that the group has been read to
        self.pending = False  # frames of it wait for the other groups
        self.finished = False

    def next(self) -> _Chunk:
        """The next chunk. All channels of the group are asked for at once: their data are then unpacked once."""
        kind = self._kind
        wanted = ("ID", "IDE", "BusChannel", "DataLength", "DLC", "DataBytes", *(FD_FIELDS if kind == "CAN_DataFrame" else ()))
        fields = [
            field for field in wanted if f"{kind}.{field}" in self._names and not (field == "DLC" and f"{kind}.DataLength" in self._names)
        ]
        names = [(f"{kind}.{field}", self._number, None) for field in fields] or [(kind, self._number, None)]
        with np.errstate(invalid="ignore"):  # a damaged file's stamps that are no numbers: looked at below
            signals = self._mdf.select(names, record_offset=self._at, record_count=min(CHUNK, self.frames - self._at), copy_master=False)
        second = np.asarray(signals[0].timestamps, np.float64)
        n = len(second)
        self._at += n
        self.finished = self._at >= self.frames or n == 0
        if n:
            self.last = float(second.max())
        found = {field: np.asarray(signal.samples) for field, signal in zip(fields, signals, strict=True)}
        for field, samples in found.items():
            if field != "DataBytes" and samples.shape != (n,):  # of a damaged data type
                raise ValueError(f"the channel {kind}.{field} is not one number a frame")
        return self._chunk(second, found)

    def _chunk(self, second: NDArray[np.float64], field: dict[str, NDArray[Any]]) -> _Chunk:
        n, flag = len(second), KINDS[self._kind]
        if flag == ERR_FLAG:
            identifier = np.full(n, ERR_FLAG, np.uint32)
        else:
            number = field["ID"].astype(np.uint32)
            extended = field["IDE"].astype(np.int64) != 0 if "IDE" in field else (number & np.uint32(EFF_FLAG)) != 0
            identifier = np.where(extended, number & np.uint32(EFF_MASK) | np.uint32(EFF_FLAG), number & np.uint32(SFF_MASK)) | np.uint32(
                flag
            )
        bus = field["BusChannel"].astype(np.int64) if "BusChannel" in field else np.ones(n, np.int64)
        length = np.zeros(n, np.uint8)
        data = np.zeros((n, 8), np.uint8)
        if flag != ERR_FLAG:
            wanted = np.clip(field["DataLength" if "DataLength" in field else "DLC"].astype(np.int64), 0, 64)
            length = (np.minimum(wanted, 8) if flag == RTR_FLAG else wanted).astype(np.uint8)
        if flag == 0:
            data = _padded(field["DataBytes"], n)
            length = np.minimum(length, np.uint8(data.shape[1]))
            if int(length.min(initial=64)) < data.shape[1]:
                data[np.arange(data.shape[1]) >= length[:, None]] = 0
        return _Chunk(second, identifier, bus, length, data, _flags(field, length) if flag == 0 else None)


def _flags(field: dict[str, NDArray[Any]], length: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Of data frames. Loggers that say what is FD mostly say the bit rate, too; those that do not have the usual one."""
    said = {name: field[name].astype(np.int64) != 0 for name in FD_FIELDS if name in field}
    if "EDL" not in said or not said["EDL"].any():
        return None
    flags = filled_flags(None, length)
    is_fd = said["EDL"]
    flags[is_fd] = CANFD_FDF
    flags[is_fd & said.get("BRS", True)] |= CANFD_BRS
    flags[is_fd & said.get("ESI", False)] |= CANFD_ESI
    return stated_flags(flags, length)


def _padded(samples: NDArray[Any], n: int) -> NDArray[np.uint8]:
    """(n, 8) or (n, 64)."""
    data = samples.view(np.uint8).reshape(n, -1) if n else np.zeros((0, 8), np.uint8)
    width = 8 if data.shape[1] <= 8 else 64
    whole = np.zeros((n, width), np.uint8)
    whole[:, : min(width, data.shape[1])] = data[:, :width]
    return whole


def _merge(chunks: list[_Chunk]) -> _Chunk | None:
    """In order of time. Frames of one group stay in their order where their stamps are equal."""
    if not chunks:
        return None
    if len(chunks) == 1 and (np.diff(chunks[0].second) >= 0).all():
        return chunks[0]
    width = max(chunk.data.shape[1] for chunk in chunks)
    for chunk in chunks:
        if chunk.data.shape[1] < width:
            chunk.data = np.concatenate([chunk.data, np.zeros((len(chunk.data), width - chunk.data.shape[1]), np.uint8)], axis=1)
    second = np.concatenate([chunk.second for chunk in chunks])
    order = second.argsort(kind="stable")
    flags = joined_flags([(chunk.flags, chunk.length) for chunk in chunks])
    return _Chunk(
        second[order],
        np.concatenate([chunk.frame_id for chunk in chunks])[order],
        np.concatenate([chunk.bus for chunk in chunks])[order],
        np.concatenate([chunk.length for chunk in chunks])[order],
        np.concatenate([chunk.data for chunk in chunks])[order],
        None if flags is None else flags[order],
    )


def _block(chunk: _Chunk, channels: tuple[str, ...], start_ns: int) -> tuple[tuple[str, ...], FrameBlock]:
    """Bus 1 is can0. Stamps are rounded to whole nanoseconds, which float64 seconds hold for days."""
    names = list(channels)
    channel = np.zeros(len(chunk.second), np.uint8)
    for bus in np.unique(chunk.bus).tolist():
        name = f"can{max(bus - 1, 0)}"
        if name not in names:
            names.append(name)
        if names.index(name) > 255:
            raise ValueError("more than 255 buses")
        channel[chunk.bus == bus] = names.index(name)
    if not (np.abs(chunk.second) < LAST_SECOND / 2).all():
        raise ValueError("a time that is none")
    stamp = start_ns + np.round(chunk.second * 1e9).astype(np.int64)
    return tuple(names), FrameBlock(tuple(names), stamp, chunk.frame_id, channel, chunk.length, chunk.data, time.time_ns(), chunk.flags)


@contextlib.contextmanager
def _finalisable(path: Path) -> Iterator[Any]:
    """The open file; of a recording that was cut off ("UnFinMF") a temporary copy, in which asammdf completes the headers."""
    with path.open("rb") as file:
        if not file.read(8).startswith(b"UnFinMF"):
            file.seek(0)
            yield file
            return
        with tempfile.TemporaryFile(prefix="cansight-log-") as copy:
            file.seek(0)
            shutil.copyfileobj(file, copy)
            copy.seek(0)
            yield copy


def _opened(asammdf: Any, file: Any, options: dict[str, Any]) -> Any:
    """asammdf follows links in a circle for ever, and prints a traceback where it cannot complete a header: one line says it."""
    if circle := circular_link(file):
        raise ValueError(circle)
    with contextlib.redirect_stdout(io.StringIO()):
        return asammdf.MDF(file, **options)


def _let_go(error: BaseException | None) -> None:
    """asammdf's destructor complains on stderr about an object that it could not open to the end: such an object counts as closed."""
    while error is not None:
        trace = error.__traceback__
        while trace is not None:
            opened: Any = trace.tb_frame.f_locals.get("self")
            if hasattr(opened, "_closed"):
                opened._closed = True
            trace = trace.tb_next
        error = error.__context__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """asammdf logs what it makes of damaged files; the one line that we raise says it."""
    import logging

    logger = logging.getLogger("asammdf")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
