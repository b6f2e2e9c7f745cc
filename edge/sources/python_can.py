"""Every interface that python-can knows as a source: PEAK, Kvaser, Vector, slcan, IXXAT, a server of another computer, ...

One Python object a frame is python-can's way, so this costs ten times what `socketcan` does; where the kernel has a driver for the
interface, use that.
"""

import importlib
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbc.frames import CANFD_BRS, CANFD_ESI, CANFD_FDF, EFF_FLAG, ERR_FLAG, RTR_FLAG, FrameBlock, stated_flags
from edge.errors import SourceError
from edge.sources.channel import Channel
from edge.sources.clock import SteadyClock

DRAIN_S = 0.01
BLOCK_S = 0.1
CAPACITY = 4096  # frames of a block
IDLE_S = 0.25
REOPEN_S = 1.0
FAR_NS = 5_000_000_000  # a block whose newest frame seems so old, or from the future, is stamped by another clock than the computer's
USUAL_NS = 200_000_000  # what comes from a slow adapter is this old, at most;
SLEW_NS = 10_000_000  # what seems older is set right by so much a block

log = logging.getLogger(__name__)


class PythonCan:
    """A source of live frames from one bus of python-can.

    interface, options: as for `can.Bus`; options holds the channel. name: of the channel in frames and DBC.
    `open` raises SourceError; an interface that fails later is waited for.
    """

    def __init__(self, interface: str, options: Mapping[str, Any], name: str, clock: SteadyClock, stop: Event) -> None:
        self.channels = [Channel(name)]
        self._interface = interface
        self._options = dict(options)
        self._clock = clock
        self._stop = stop
        self._bus: Any = None
        self._stamps = DriverStamps()
        self._can: Any = None

    def open(self) -> None:
        """Open the bus. Raises SourceError."""
        try:
            with without_log_formats():
                self._can = importlib.import_module("can")
            self._connect()
        except ModuleNotFoundError as error:
            raise SourceError(f"source.interface: {self._interface}: needs the Python package {error.name}") from error
        except Exception as error:  # drivers raise CanError, OSError, ValueError, TypeError and their own for bad options
            raise SourceError(f"source.interface: {self._interface}: cannot be opened: {_line(error)}") from error

    def close(self) -> None:
        if self._bus is not None:
            try:
                self._bus.shutdown()
            except Exception as error:  # noqa: BLE001 - the interface is gone; whatever its driver says, so are we
                log.debug("%s: closing: %s", self.channels[0].name, error)
            self._bus = None

    def frames(self) -> Iterator[FrameBlock]:
        """Blocks until told to stop; the last one is what came until then. Closes the bus at its end."""
        channel = self.channels[0]
        messages: list[Any] = []
        entered_ns, due_s = 0, float("inf")
        try:
            while True:
                ending = self._stop.is_set()
                try:
                    if self._bus is None:
                        if self._stop.wait(REOPEN_S) and not messages:
                            return
                        self._connect()
                    count = self._drain(messages, IDLE_S if not messages and not ending else 0.0)
                except Exception as error:  # noqa: BLE001 - drivers raise more than CanError when their hardware goes
                    channel.lost(_line(error))
                    self.close()
                    count = 0
                now_s = time.monotonic()
                if count and due_s == float("inf"):
                    entered_ns, due_s = time.time_ns(), now_s + BLOCK_S
                full = len(messages) >= CAPACITY
                if full or now_s >= due_s or (ending and messages):
                    block, due_s = self._block(messages, entered_ns, full), float("inf")
                    messages = []
                    channel.heard(len(block), now_s)
                    if len(block):
                        yield block
                elif not count:
                    channel.heard(0, now_s)
                if ending and not full:
                    return
                if messages and not full:
                    time.sleep(DRAIN_S)
        finally:
            self.close()

    def _connect(self) -> None:
        self._bus = self._can.Bus(interface=self._interface, **self._options)
        self._stamps = DriverStamps()
        self.channels[0].opened(time.monotonic())

    def _drain(self, messages: list[Any], wait_s: float) -> int:
        """What the bus holds, after a wait for the first."""
        before = len(messages)
        message = self._bus.recv(wait_s)
        while message is not None:
            messages.append(message)
            if len(messages) >= CAPACITY:
                break
            message = self._bus.recv(0)
        return len(messages) - before

    def _block(self, messages: list[Any], entered_ns: int, full: bool) -> FrameBlock:
        error = [message for message in messages if message.is_error_frame]
        if error:
            self.channels[0].erred(np.array([ERR_FLAG | message.arbitration_id for message in error], np.uint32))
            messages = [message for message in messages if not message.is_error_frame]
        n = len(messages)
        payloads = [b"" if message.is_remote_frame else bytes(message.data) for message in messages]
        width = 64 if any(len(payload) > 8 for payload in payloads) else 8
        data = np.frombuffer(b"".join(payload.ljust(width, b"\0") for payload in payloads), np.uint8).reshape(n, width)
        stamps = np.array([round(message.timestamp * 1e9) for message in messages], np.int64)
        length = np.array([len(payload) for payload in payloads], np.uint8)
        said = np.array([_flags(message) for message in messages], np.uint8)
        return FrameBlock(
            (self.channels[0].name,),
            self._clock.place(self._stamps.utc(stamps, time.time_ns(), newest=not full)),
            np.array([_identifier(message) for message in messages], np.uint32),
            np.zeros(n, np.uint8),
            length,
            data,
            entered_ns,
            stated_flags(said, length) if said.any() else None,
        )


class DriverStamps:
    """What takes a driver's stamps to CLOCK_REALTIME.

    Drivers stamp with UTC, with the time since the computer or the interface was started, or not at all; some by a crystal of their own,
    which is minutes off after some weeks, many by the system's clock as it was when they were opened, whatever it is set to later. So each
    block after which the driver had nothing more, whose newest frame has therefore just come, is held against now.
    """

    def __init__(self) -> None:
        self._offset_ns: int | None = None

    def utc(self, stamps: NDArray[np.int64], now_ns: int, *, newest: bool = True) -> NDArray[np.int64]:
        """(n,) stamps of a block, in CLOCK_REALTIME. newest: the driver has no later frames; then none is later than now_ns."""
        offset_ns = self._offset_ns or 0
        if len(stamps) and (newest or self._offset_ns is None):
            age_ns = now_ns - int(stamps.max()) - offset_ns
            if not 0 <= age_ns <= FAR_NS:
                offset_ns += age_ns
            elif age_ns > USUAL_NS:
                offset_ns += min(SLEW_NS, age_ns - USUAL_NS)
            self._offset_ns = offset_ns
        return stamps + offset_ns


def _identifier(message: Any) -> int:
    flags = (EFF_FLAG if message.is_extended_id else 0) | (RTR_FLAG if message.is_remote_frame else 0)
    return int(message.arbitration_id) | flags


def _flags(message: Any) -> int:
    if not message.is_fd:
        return 0
    return CANFD_FDF | (CANFD_BRS if message.bitrate_switch else 0) | (CANFD_ESI if message.error_state_indicator else 0)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def without_log_formats() -> Iterator[None]:
    """python-can imports asammdf, and with it pandas, where they are installed: 90 MB that an agent has no use for."""
    absent = "asammdf" not in sys.modules
    if absent:
        sys.modules["asammdf"] = None  # type: ignore[assignment]  # the import system's own way to say "not there"
    try:
        yield
    finally:
        if absent:
            del sys.modules["asammdf"]
