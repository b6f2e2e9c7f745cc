"""The source that the settings name."""

import itertools
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from dbc.frames import FrameBlock
from dbc.plan import CompiledDbc
from edge.boot_clock import BootClockFile
from edge.config import STDIN, SourceConfig
from edge.errors import SourceError
from edge.sources.channel import Channel
from edge.sources.clock import NS_PER_MS, SteadyClock
from edge.sources.filters import wanted
from edge.sources.log import check_log, log_frames
from edge.sources.python_can import PythonCan
from edge.sources.socketcan import SocketCan
from wire.messages import Clock

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """Frames, and what their stamps mean."""

    frames: Iterator[FrameBlock]
    clock: Clock | None  # places the stamps' axis on UTC; None: that is not known yet
    boot_id: bytes  # the axis: 16 bytes
    live: SteadyClock | None = None  # of a bus: time goes on when no frames come. None: time is the log's
    channels: Sequence[Channel] = field(default=())


def check(config: SourceConfig) -> None:
    """What can be seen of a source before anything is made. Raises SourceError."""
    if config.log:
        check_log(config)


def open_source(
    config: SourceConfig, compiled: CompiledDbc, stop: Event, boot_clock: BootClockFile, answers: Mapping[str, int] | None = None
) -> Source:
    """Open it. Raises SourceError; for a log that is a file also dbc's LogFormatError.

    answers: of channels that are polled, the identifier (with EFF_FLAG) of the answers, which no DBC need know.
    """
    if config.log:
        frames = _first_checked(config, log_frames(config, stop))
        return Source(frames, Clock(boot_ms=0, utc_ms=0, source="log"), os.urandom(16))  # a log's stamps are UTC already, and its own
    boot = boot_clock.open()
    clock = SteadyClock()
    start_ms = clock.start(boot.offset_ns) // NS_PER_MS
    bus: SocketCan | PythonCan
    if config.socketcan:
        _check_channels(config.socketcan, compiled)
        also = {channel: (answer,) for channel, answer in (answers or {}).items()}
        bus = SocketCan([(channel, wanted(compiled, channel, also.get(channel, ()))) for channel in config.socketcan], clock, stop)
    else:
        channel = {"channel": config.channel} if config.channel != "" else {}
        bus = PythonCan(config.interface, config.options | channel, _name(config, compiled), clock, stop)
    bus.open()
    return Source(bus.frames(), boot.clock(start_ms), boot.axis_id, clock, bus.channels)


def _first_checked(config: SourceConfig, blocks: Iterator[FrameBlock]) -> Iterator[FrameBlock]:
    """Of a plain file the first block is read now, so that a file of another format is refused before anything is started."""
    if config.log == STDIN or not Path(config.log).is_file():
        return blocks
    first = next(blocks, None)
    return iter(()) if first is None else itertools.chain([first], blocks)


def _check_channels(channels: Sequence[str], compiled: CompiledDbc) -> None:
    known = compiled.schema.channels
    if not set(channels) & set(known):
        raise SourceError(f"source.socketcan: no DBC is for {', '.join(channels)}; dbc.files names {', '.join(known)} (FILE@CHANNEL)")
    for channel in channels:
        if channel not in known:
            log.warning("%s: no DBC is for this channel; none of its frames is decoded", channel)


def _name(config: SourceConfig, compiled: CompiledDbc) -> str:
    """The DBC's channel for a bus whose own name ("PCAN_USBBUS1") may be another: the one of its name, or the only one."""
    known = compiled.schema.channels
    if str(config.channel) in known:
        return str(config.channel)
    if len(known) == 1:
        return known[0]
    raise SourceError(f"source.channel: no DBC is for {config.channel or 'it'}; dbc.files names {', '.join(known)} (FILE@CHANNEL)")
