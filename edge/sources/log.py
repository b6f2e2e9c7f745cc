"""A recorded log, a FIFO or standard input as a source of frames."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

from dbc.frames import FrameBlock
from dbc.logs import LogReader, open_log
from edge.config import STDIN, SourceConfig
from edge.errors import SourceError
from edge.sources.mf4_log import Mf4Log, is_mf4
from edge.sources.pacing import paced

log = logging.getLogger(__name__)


def check_log(config: SourceConfig) -> None:
    """Raises SourceError when the path cannot be a log. What is in it is seen when it is read."""
    if config.log == STDIN:
        return
    path = Path(config.log)
    try:
        if path.is_dir():
            raise SourceError(f"source.log: {path}: is a folder; expected a log file, a FIFO or -")
        if path.is_fifo():
            return  # opening it would wait for whoever writes it
        with path.open("rb"):
            pass
    except OSError as error:
        raise SourceError(f"source.log: {path}: cannot be read: {error.strerror}") from error


def log_frames(config: SourceConfig, stop: Event) -> Iterator[FrameBlock]:
    """The log's frames, paced if `speed` is set, until told to stop. Raises dbc's LogFormatError, at the latest where the log stops being
    one."""
    blocks = _counting(Mf4Log(config.log) if is_mf4(config.log) else open_log(config.log), stop)
    if config.speed <= 0:
        return blocks
    return paced(blocks, config.speed, time.monotonic, time.time_ns, stop.wait)


def _counting(reader: LogReader | Mf4Log, stop: Event) -> Iterator[FrameBlock]:
    """The reader's blocks; what it left aside is said at the end. Raises SourceError behind what could be read of a damaged log."""
    with reader:
        for block in reader:
            yield block
            if stop.is_set():
                return
    if reader.skipped:
        log.warning("%s: %d lines are no frames, the first of them line %d", reader.path, reader.skipped, reader.first_skipped)
    if reader.damage:
        raise SourceError(f"{reader.path}: damaged: {reader.damage}; what could be read of it is recorded")
