"""Frames to a log: candump, ASC, BLF, MF4. A file appears whole, under its name, or not at all.

The formats differ in what they keep: candump and ASC microseconds, BLF and MF4 nanoseconds (within float64 seconds). A channel is
written as the number in its name; candump keeps the name.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from dbc.errors import LogFormatError
from dbc.frames import CANFD_BRS, CANFD_ESI, CANFD_FDF, EFF_FLAG, EFF_MASK, ERR_FLAG, RTR_FLAG, FrameBlock, filled_flags
from dbc.logs.candump_writer import write_candump

__all__ = ["SUFFIXES", "LogWriter", "open_log_writer"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
LENGTH_CODES = np.array([min(code for code, size in enumerate((*range(9), 12, 16, 20, 24, 32, 48, 64)) if size >= n) for n in range(65)])


class _Format(Protocol):
    def write(self, block: FrameBlock) -> None: ...
    def close(self) -> None: ...


class LogWriter:
    """`with open_log_writer(path) as writer: writer.write(block)`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
        self._format: _Format | None = None

    def __enter__(self) -> LogWriter:
        try:
            self._format = SUFFIXES[self.path.suffix.lower()](self._temporary)
        except OSError as error:
            raise self._unwritable(error) from error
        return self

    def write(self, block: FrameBlock) -> None:
        assert self._format is not None
        if len(block):
            try:
                self._format.write(block)
            except OSError as error:
                raise self._unwritable(error) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._format is not None
        try:
            self._format.close()
            if kind is None:
                self._temporary.replace(self.path)
        except OSError as fault:
            raise self._unwritable(fault) from fault
        finally:
            self._temporary.unlink(missing_ok=True)

    def _unwritable(self, error: OSError) -> LogFormatError:
        return LogFormatError(str(self.path), f"cannot be written: {error.strerror or error}")


def open_log_writer(path: Path) -> LogWriter:
    """A writer of the format that the suffix names: .log candump, .asc, .blf, .mf4. Raises LogFormatError for another suffix."""
    if path.suffix.lower() not in SUFFIXES:
        raise LogFormatError(str(path), f"is no kind of log that can be written; expected a name that ends in {', '.join(SUFFIXES)}")
    return LogWriter(path)


def bus_number(name: str) -> int:
    """can0 is 0; a name without a number is 0 too."""
    found = re.search(r"(\d{1,3})$", name)
    return int(found[1]) if found else 0


class _Candump:
    def __init__(self, path: Path) -> None:
        self._stream = path.open("wb")

    def write(self, block: FrameBlock) -> None:
        write_candump(self._stream, block)

    def close(self) -> None:
        self._stream.close()


class _Asc:
    """Vector's text format, with the date in UTC, which the header has no place to say."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("w", encoding="ascii", newline="\n")
        self._start_ns: int | None = None

    def write(self, block: FrameBlock) -> None:
        if self._start_ns is None:
            self._start_ns = int(block.timestamp_ns[0]) // 1_000_000_000 * 1_000_000_000
            at = EPOCH + timedelta(seconds=self._start_ns // 1_000_000_000)
            date = f"{DAYS[at.weekday()]} {MONTHS[at.month - 1]} {at.day:02d} {at:%H:%M:%S}.000 {at.year} UTC"
            self._stream.write(f"date {date}\nbase hex  timestamps absolute\ninternal events logged\n")
        numbers = [bus_number(name) + 1 for name in block.channels]
        for stamp, identifier, channel, length, flags, data in zip(
            (block.timestamp_ns - self._start_ns).tolist(),
            block.frame_id.tolist(),
            block.channel.tolist(),
            block.length.tolist(),
            filled_flags(block.flags, block.length).tolist(),
            block.data,
            strict=True,
        ):
            sign, microseconds = ("-" if stamp < 0 else ""), abs(stamp) // 1000
            time = f"{sign}{microseconds // 1_000_000}.{microseconds % 1_000_000:06d}"
            name = f"{identifier & EFF_MASK:X}{'x' if identifier & EFF_FLAG else ''}"
            words = data[:length].tobytes().hex(" ").upper()
            if identifier & ERR_FLAG:
                self._stream.write(f"{time} {numbers[channel]}  ErrorFrame\n")
            elif identifier & RTR_FLAG:
                self._stream.write(f"{time} {numbers[channel]}  {name} Rx r {length}\n")
            elif flags & CANFD_FDF:
                switched, passive = int(bool(flags & CANFD_BRS)), int(bool(flags & CANFD_ESI))
                said = f"{switched} {passive} {LENGTH_CODES[length]:x} {length} {words}".rstrip()
                # What we do not know are zeros: duration and length on the bus, checksum, bit timings. The 12th flag is FDF.
                more = f"0 0 {1 << 12 | switched << 13 | passive << 14:X} 0 0 0 0 0"
                self._stream.write(f"{time} CANFD {numbers[channel]} Rx {name} {said} {more}\n")
            else:
                self._stream.write(f"{time} {numbers[channel]}  {name} Rx d {length} {words}\n")

    def close(self) -> None:
        self._stream.close()


class _Blf:
    """Through python-can."""

    def __init__(self, path: Path) -> None:
        from can import Message
        from can.io import BLFWriter

        self._message, self._writer = Message, BLFWriter(str(path))

    def write(self, block: FrameBlock) -> None:
        numbers = [bus_number(name) for name in block.channels]
        for stamp, identifier, channel, length, flags, data in zip(
            block.timestamp_ns.tolist(),
            block.frame_id.tolist(),
            block.channel.tolist(),
            block.length.tolist(),
            filled_flags(block.flags, block.length).tolist(),
            block.data,
            strict=True,
        ):
            remote = bool(identifier & RTR_FLAG)
            is_fd = bool(flags & CANFD_FDF) and not identifier & (RTR_FLAG | ERR_FLAG)
            self._writer.on_message_received(
                self._message(
                    timestamp=stamp / 1e9,
                    arbitration_id=identifier & EFF_MASK,
                    is_extended_id=bool(identifier & EFF_FLAG),
                    is_remote_frame=remote,
                    is_error_frame=bool(identifier & ERR_FLAG),
                    is_fd=is_fd,
                    bitrate_switch=is_fd and bool(flags & CANFD_BRS),
                    error_state_indicator=is_fd and bool(flags & CANFD_ESI),
                    channel=numbers[channel],
                    dlc=length,
                    data=None if remote else data[:length].tobytes(),
                )
            )

    def close(self) -> None:
        self._writer.stop()


class _Mf4:
    """ASAM MDF 4.10 bus log: a group each for data, remote and error frames, in whole arrays."""

    def __init__(self, path: Path) -> None:
        import asammdf

        path.open("wb").close()  # asammdf writes at the end, and makes folders that are not there
        self._path, self._asammdf = path, asammdf
        self._mdf: Any = asammdf.MDF(version="4.10")
        self._start_ns: int | None = None
        self._groups: dict[tuple[str, int], int] = {}

    def write(self, block: FrameBlock) -> None:
        if self._start_ns is None:
            self._start_ns = int(block.timestamp_ns[0]) // 1_000_000_000 * 1_000_000_000
            self._mdf.header.start_time = EPOCH + timedelta(seconds=self._start_ns // 1_000_000_000)
        second = (block.timestamp_ns - self._start_ns) / 1e9
        error = (block.frame_id & ERR_FLAG) != 0
        remote = ~error & ((block.frame_id & RTR_FLAG) != 0)
        long = ~error & ~remote & (block.length > 8)
        bus = np.array([bus_number(name) + 1 for name in block.channels], np.uint8)
        for kind, these, width in (
            ("CAN_DataFrame", ~error & ~remote & ~long, 8),
            ("CAN_DataFrame", long, 64),
            ("CAN_RemoteFrame", remote, 0),
            ("CAN_ErrorFrame", error, 0),
        ):
            if these.any():
                self._append(kind, width, second[these], bus.take(block.channel[these]), block, these)

    def _append(self, kind: str, width: int, second: Any, bus: Any, block: FrameBlock, these: Any) -> None:
        names = [("BusChannel", "u1"), ("ID", "<u4"), ("IDE", "u1"), ("DLC", "u1"), ("DataLength", "u1"), ("Dir", "u1"), ("EDL", "u1")]
        fields: list[Any] = [(f"{kind}.{name}", code) for name, code in names]
        if width:
            fields += [(f"{kind}.BRS", "u1"), (f"{kind}.ESI", "u1")]
            fields.append((f"{kind}.DataBytes", "u1", (width,)))
        samples = np.zeros(len(second), fields)
        identifier, length = block.frame_id[these], block.length[these]
        samples[f"{kind}.BusChannel"] = bus
        samples[f"{kind}.ID"] = identifier & np.uint32(EFF_MASK)
        samples[f"{kind}.IDE"] = (identifier & np.uint32(EFF_FLAG)) != 0
        samples[f"{kind}.DLC"] = LENGTH_CODES.take(length)
        samples[f"{kind}.DataLength"] = length
        if width:
            flags = filled_flags(None if block.flags is None else block.flags[these], length)
            for name, bit in (("EDL", CANFD_FDF), ("BRS", CANFD_BRS), ("ESI", CANFD_ESI)):
                samples[f"{kind}.{name}"] = (flags & np.uint8(bit)) != 0
            samples[f"{kind}.DataBytes"] = block.data[these][:, :width]
        group = self._groups.get((kind, width))
        if group is not None:
            self._mdf.extend(group, [(second, None), (samples, None)])
            return
        constants = self._asammdf.blocks.v4_constants
        source = self._asammdf.blocks.v4_blocks.SourceInformation(source_type=constants.SOURCE_BUS, bus_type=constants.BUS_TYPE_CAN)
        signal = self._asammdf.Signal(samples=samples, timestamps=second, name=kind, source=source)
        self._groups[kind, width] = group = self._mdf.append(signal, acq_name="CAN", common_timebase=True)
        flags = constants.FLAG_CG_BUS_EVENT | constants.FLAG_CG_PLAIN_BUS_EVENT
        self._mdf.groups[group].channel_group.flags |= flags

    def close(self) -> None:
        self._mdf.save(self._path, overwrite=True, compression=1)
        self._mdf.close()


SUFFIXES: dict[str, Any] = {".log": _Candump, ".asc": _Asc, ".blf": _Blf, ".mf4": _Mf4}
