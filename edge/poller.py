"""Sends what `edge/polling.py` allows: ISO-TP over python-can, by can-isotp. Optional; imported only where polling is switched on."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np

from dbc.frames import EFF_FLAG, EFF_MASK, FrameBlock
from dbc.sampler import Snapshot
from dbc.schema import Schema
from dbc.validity import Reason
from edge.config import PollingConfig
from edge.errors import ConfigError, SourceError
from edge.polling import Link, Polling, checked_request, identifier
from edge.sources.python_can import without_log_formats

with without_log_formats():
    import can
    import isotp  # which imports python-can, too

__all__ = ["Poller", "open_poller"]

log = logging.getLogger(__name__)

STEP_S = 0.01
SPEED_AGE_MS = 1000.0  # at a tick: a speed that no frame of the last second carried is not known
NEGATIVE, PENDING = 0x7F, 0x78  # service and code of "request correctly received, response pending", ISO 14229-1 A.1


class Poller:
    """Owns a bus of its own for requests and their flow control. `speed` and `hear` may be called from another thread."""

    def __init__(self, bus: can.BusABC, link: Link, polling: Polling, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        extended = bool(link.request_id & EFF_FLAG)
        mode = isotp.AddressingMode.Normal_29bits if extended else isotp.AddressingMode.Normal_11bits
        self._bus, self._polling, self._now_ns = bus, polling, now_ns
        self._lock = threading.Lock()
        self._stack = isotp.TransportLayerLogic(
            rxfn=self._receive,
            txfn=self._send,
            address=isotp.Address(mode, txid=link.request_id & EFF_MASK, rxid=link.answer_id & EFF_MASK),
            params={"tx_padding": 0xCC, "blocksize": 0, "stmin": 0},  # CC: ISO 15765-2, 10.4.2.1; costs no stuff bits
        )

    def speed(self, value: float | None) -> None:
        """The vehicle's speed at a tick; None = not known."""
        with self._lock:
            self._polling.speed(value, self._now_ns())

    def hear(self, block: FrameBlock) -> None:
        """What the agent reads from the bus."""
        with self._lock:
            self._polling.hear(block, self._now_ns())

    def run(self, stop: threading.Event) -> None:
        """Until stopped, or until the bus fails: polling is a convenience, and ends without ending the agent."""
        spoke = None
        while not stop.wait(STEP_S):
            try:
                self.step()
            except (can.CanError, OSError) as error:
                log.warning("polling ends: %s", error)
                return
            if self._polling.other_tester != spoke:
                spoke = self._polling.other_tester
                log.warning("polling ends: another tester speaks (identifier %X)", spoke & EFF_MASK if spoke else 0)

    def step(self) -> bytes | None:
        """One turn: take what came, send what may be sent. Returns the answer that is complete now, from its service on."""
        self._stack.process()
        answer: bytes | None = None
        with self._lock:
            if self._stack.available():
                answer = bytes(self._stack.recv() or b"")
                if answer[:1] != bytes([NEGATIVE]) or answer[2:3] != bytes([PENDING]):
                    self._polling.answered(self._now_ns())
            request = self._polling.next(self._now_ns())
        if request is not None:
            self._stack.send(request)
            self._stack.process()
        return answer

    def _receive(self, _timeout_s: float) -> isotp.CanMessage | None:
        message = self._bus.recv(0)
        if message is None or message.is_error_frame or message.is_remote_frame:
            return None
        # Heard here too, before anything is sent: the agent's own reader may be behind.
        with self._lock:
            identifier = message.arbitration_id | (EFF_FLAG if message.is_extended_id else 0)
            self._polling.hear_one(identifier, bytes(message.data), self._now_ns())
        return isotp.CanMessage(arbitration_id=message.arbitration_id, data=bytes(message.data), extended_id=message.is_extended_id)

    def _send(self, message: isotp.CanMessage) -> None:
        with self._lock:
            if self._polling.other_tester is not None:  # not even the flow control of an answer that is under way
                return
            self._polling.sending(bytes(message.data), self._now_ns())
        self._bus.send(can.Message(arbitration_id=message.arbitration_id, data=message.data, is_extended_id=message.is_extended_id))


def open_poller(config: PollingConfig, schema: Schema, stop: threading.Event, stack: ExitStack) -> Callable[[Snapshot], None]:
    """Check the settings, open the bus and start asking; what is opened belongs to `stack`. Returns what takes every snapshot.

    Raises ConfigError, SourceError, or dbc's SignalUnknown.
    """
    requests = [checked_request(text) for text in config.requests]
    if not config.speed:
        raise ConfigError("polling.speed: is not set; nothing is sent unless a signal says that the vehicle stands")
    column = schema.index(config.speed)
    link = Link(config.channel, identifier(config.request_id), identifier(config.answer_id))
    if (link.request_id ^ link.answer_id) & EFF_FLAG:
        raise ConfigError("polling.answer_id: expected as many bits as polling.request_id has")
    try:
        bus = can.Bus(interface=config.interface, channel=config.channel)
    except (can.CanError, OSError, ValueError) as error:
        raise SourceError(f"polling.channel: {config.interface} {config.channel} cannot be opened: {error}") from error
    stack.callback(bus.shutdown)
    poller = Poller(bus, link, Polling(link, requests, int(config.interval_s * 1e9)))
    thread = threading.Thread(target=poller.run, args=(stop,), name="polling", daemon=True)
    thread.start()
    stack.callback(_end, thread, stop)
    return lambda snapshot: poller.speed(_speed(snapshot, column))


def _speed(snapshot: Snapshot, column: int) -> float | None:
    """The tick's speed that is farthest from 0; None where it is not valid, or only held from a while ago."""
    if snapshot.reason[column] != Reason.VALID or not snapshot.age_ms[column] <= SPEED_AGE_MS:
        return None
    seen = [snapshot.value[column], snapshot.minimum[column], snapshot.maximum[column]]
    return max((float(value) for value in seen if np.isfinite(value)), key=abs, default=None)


def _end(thread: threading.Thread, stop: threading.Event) -> None:
    stop.set()
    thread.join()
