"""The connection to the broker: MQTT over mutual TLS 1.3, one thread that owns the socket, and nothing it does ends custody of a batch.

MQTT 5 first, because its PUBACK says when nobody listens (0x10); 3.1.1 for a broker that refuses 5. One connection is `edge/session.py`;
how long to wait for the next one, `edge/reconnect.py`; what may go over the link, `edge/upload.py`.
"""

import contextlib
import logging
import random
import socket
import threading
import time

from paho.mqtt.enums import MQTTProtocolVersion

from edge.bandwidth import TokenBucket
from edge.config import BrokerConfig, UploadConfig
from edge.identity import Identity
from edge.outbox import Outbox
from edge.reconnect import STEADY_S, Ending, Pauses
from edge.session import IDLE_S, Line, Session
from edge.upload import ConditionsFile

CLOSED_OFTEN = 8  # times in a row, without a word

log = logging.getLogger(__name__)


class Uplink:
    """Offers what the outbox says is due and brings it the broker's and the cloud's answers. `lock` guards the outbox."""

    def __init__(
        self, config: BrokerConfig, identity: Identity, outbox: Outbox, lock: threading.Lock, upload: UploadConfig | None = None
    ) -> None:
        upload = upload or UploadConfig()
        self._line = Line(config, identity, outbox, lock, ConditionsFile(upload))
        if upload.bytes_per_s:
            outbox.cap = TokenBucket(upload.bytes_per_s)
        self._pauses = Pauses(lambda most: random.uniform(0, most))
        self._thread: threading.Thread | None = None
        self._wake_write: socket.socket | None = None
        self._said_away = ""
        self._closed = 0
        self.certificates = self._line.certificates
        self.connected = False

    def start(self) -> None:
        """Start the thread."""
        self._line.wake_read, self._wake_write = socket.socketpair()
        self._line.wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        # A daemon: a name server or a broker that does not answer must not hold the agent's end up.
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Something may be due earlier than the thread knows."""
        if self._wake_write is None:
            return
        with contextlib.suppress(BlockingIOError):  # the thread has not read the wake-ups before this one yet
            self._wake_write.send(b"\0")

    def ask(self, request: bytes) -> None:
        """Send a request for a new certificate over the connection that is there."""
        self._line.requests.append(request)
        self.wake()

    def stop(self, timeout_s: float) -> None:
        """Say goodbye and end the thread; gives up waiting after `timeout_s`."""
        self._line.stop.set()
        self.wake()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        line = self._line
        while self._may_connect():
            session = Session(line, self._came_back)
            session.run()
            if self.connected:
                self.connected = False
                with line.lock:
                    line.outbox.disconnect(time.monotonic())
            if line.stop.is_set():
                return
            if session.speaks_another_version and line.five:
                line.protocol = MQTTProtocolVersion.MQTTv311
                continue  # at once: the broker is there
            line.protocol = MQTTProtocolVersion.MQTTv5
            if session.refused_will:
                line.will = False
                continue  # at once, without; if it was something else, it is refused again
            if session.subscribed_s is None:
                line.will = True
            ending = session.ending or Ending.LOST
            self._closed = self._closed + 1 if ending is Ending.CLOSED and session.held_s < STEADY_S else 0
            self._say_away(ending, session.reason)
            line.stop.wait(self._pauses.next_s(ending, session.held_s))

    def _may_connect(self) -> bool:
        """Waits while nothing may go over the link. False at the end."""
        line = self._line
        while not line.stop.is_set():
            if line.conditions.look():
                with line.lock:
                    line.outbox.allow(line.conditions.turns)
            if line.conditions.share != "nothing":
                return True
            line.stop.wait(IDLE_S)
        return False

    def _say_away(self, ending: Ending, reason: str) -> None:
        """Once for each time that the broker goes away; a session that somebody else takes is an error of its own.

        mosquitto 2.0.11 does not say that it gives our session to somebody else: it closes the connection.
        """
        if self._closed == CLOSED_OFTEN:
            log.error(
                "broker %s: closes every connection soon; is there another agent with this vehicle's certificate?", self._line.address
            )
        if ending is Ending.TAKEN:
            log.error(
                "broker %s: another client has this vehicle's certificate and took its session; two agents, or a stolen key",
                self._line.address,
            )
        elif not self._said_away and self._line.conditions.share != "nothing":
            log.warning("broker %s is away (%s); batches stay in the outbox", self._line.address, reason)
            self._said_away = reason

    def _came_back(self) -> None:
        line = self._line
        log.info("connected to broker %s (MQTT %s)", line.address, "5" if line.five else "3.1.1")
        if not line.will:
            log.warning("broker %s: its rules do not let this vehicle leave a last will; it connects without", line.address)
        self._said_away = ""
        self.connected = True
        with line.lock:
            line.outbox.connect()
