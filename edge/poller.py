"""Sends what `edge/polling.py` allows: ISO-TP over python-can, by can-isotp. Optional; imported only where polling is switched on."""

import threading
import time
from collections.abc import Callable

import can
import isotp

from dbc.frames import EFF_FLAG, EFF_MASK, FrameBlock
from edge.polling import Link, Polling

__all__ = ["Poller"]

STEP_S = 0.01
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
        """Until stopped. The caller's thread; raises what the bus raises."""
        while not stop.wait(STEP_S):
            self.step()

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
