"""The aggregator's connection to the broker: MQTT over mutual TLS 1.3, in one thread that owns the socket.

A message is acknowledged to the broker only when it has landed, so whatever was not is delivered again: by the broker when we come
back, and by the vehicle, which has no receipt, in any case. At most UNACKNOWLEDGED messages wait for that; MQTT 5's receive maximum
tells the broker, and the socket is not read meanwhile. Each connection is a session object of its own, so that an acknowledgement
that comes late can never hit another message's packet id. What an ended connection delivered still counts until it is acknowledged, and
so does QoS 0, which the broker would not hold back: memory is bounded whoever sends.
"""

import logging
import random
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from cloud.aggregator import Arrival
from cloud.config import BrokerConfig
from cloud.errors import CloudError
from cloud.inlet_paho import PahoSession
from cloud.inlet_session import Mqtt5Session, Session, one_line
from cloud.replica_names import client_id
from wire.topics import UP_FILTER, WILL_FILTER, gone

UNACKNOWLEDGED = 1000
KEEPALIVE_S = 30
SESSION_S = 86_400  # what arrives while the aggregator is away waits this long at the broker
CONNECT_S = 10.0
FIRST_PAUSE_S, MAX_PAUSE_S = 0.25, 15.0
STEADY_S = 10.0
IDLE_S = 1.0

log = logging.getLogger(__name__)


class _Token(msgspec.Struct, frozen=True, eq=False):
    """What an arrival is acknowledged by. packet_id: 0 for QoS 0, of which the broker wants to hear nothing."""

    session: Session
    packet_id: int


class Inlet:
    """`deliver` is called in the inlet's thread for each message; `publish` and `acknowledge` may be called from any."""

    def __init__(self, config: BrokerConfig, deliver: Callable[[Arrival], None], group: str = "") -> None:
        """`group`: of replicas, of which the broker gives each message to one (`cloud.replica_names.share_group`)."""
        self.config = config
        self.deliver = deliver
        self.connected = False
        self.client_id = client_id(config.replica)  # the common name of its certificate
        # Who is told that a vehicle is gone: everyone. Who gets a message: one.
        self.filters = (f"$share/{group}/{UP_FILTER}" if config.replica else UP_FILTER, WILL_FILTER)
        self.unacknowledged, self.keepalive_s, self.connect_s, self.idle_s = UNACKNOWLEDGED, KEEPALIVE_S, CONNECT_S, IDLE_S
        # A session that the broker kept would go on being given its share while this replica is away, for its vehicles to send again.
        self.session_s = 0 if config.replica else SESSION_S
        self.five = True  # speaks MQTT 5; else 3.1.1
        self.tls: ssl.SSLContext | None = None
        self.out: deque[tuple[str, bytes]] = deque(maxlen=100_000)  # receipts that are lost here are given again when the batch comes again
        self.acknowledged: deque[_Token] = deque()
        self.gone_ms: dict[str, int] = {}  # vehicle -> UTC ms of its last will: its connection ended without a goodbye
        self.waiting = 0  # messages delivered and not acknowledged; the thread's own
        self.stopping = threading.Event()
        self.wake_read: socket.socket | None = None
        self._wake_write: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._said_away = False
        self._tried_another = False  # version of MQTT, since the last connection

    def start(self) -> None:
        """Read the certificates and start the thread. Raises CloudError naming a file that cannot be used."""
        self.tls = tls_context(self.config)
        self.wake_read, self._wake_write = socket.socketpair()
        self.wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="inlet", daemon=True)
        self._thread.start()

    def publish(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Send (topic, payload) at QoS 1, now or when the broker is back."""
        self.out.extend(messages)
        self._wake()

    def acknowledge(self, arrivals: Iterable[Arrival]) -> None:
        """Tell the broker that these need not be delivered again."""
        self.acknowledged.extend(arrival.token for arrival in arrivals if isinstance(arrival.token, _Token))
        self._wake()

    def stop(self, timeout_s: float) -> None:
        """Send what waits, say goodbye, end the thread."""
        self.stopping.set()
        self._wake()
        if self._thread is not None:
            self._thread.join(timeout_s)
        for end in (self.wake_read, self._wake_write):
            if end is not None and (self._thread is None or not self._thread.is_alive()):
                end.close()

    def _wake(self) -> None:
        if self._wake_write is not None:
            try:
                self._wake_write.send(b"\0")
            except OSError:
                return  # full of wake-ups that were not read yet, or closed

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self.stopping.is_set():
            session: Session = Mqtt5Session(self) if self.five else PahoSession(self)
            began_s = time.monotonic()
            reason = session.run()
            self.connected = False
            if self.stopping.is_set():
                return
            if session.speaks_another_version and self.config.replica:
                reason = "it does not speak MQTT 5, without which there are no replicas"
            elif session.speaks_another_version:
                self.five = not self.five
                if session.refused_version or not self._tried_another:
                    self._tried_another = True
                    continue  # at once: the broker is there
            if not self._said_away:
                self._said_away = True
                log.warning("broker %s:%d is away (%s)", self.config.host, self.config.port, reason)
            if session.subscribed and time.monotonic() - began_s >= STEADY_S:
                pause_s = FIRST_PAUSE_S
            self.stopping.wait(random.uniform(0, pause_s))
            pause_s = min(MAX_PAUSE_S, 2 * pause_s)

    def came_back(self) -> None:
        version = "5" if self.five else "3.1.1"
        log.info("connected to broker %s:%d (MQTT %s)", self.config.host, self.config.port, version)
        self._said_away = self._tried_another = False
        self.connected = True

    def arrived(self, session: Session, topic: str, payload: bytes, packet_id: int) -> None:
        """A message; in the inlet's thread."""
        now_ms = time.time_ns() // 1_000_000
        self.waiting += 1
        token = _Token(session, packet_id)
        if (vehicle := gone(topic)) is not None:  # a state and no data: nothing lands, and no ticket comes of it
            self.gone_ms[vehicle] = now_ms
            self.acknowledged.append(token)
            return
        self.deliver(Arrival(topic, payload, now_ms, token))


def tls_context(config: BrokerConfig) -> ssl.SSLContext:
    """TLS 1.3 with our certificate and the fleet's CA alone. Raises CloudError naming the file that cannot be used."""
    for key, path in (("broker.ca", config.ca), ("broker.certificate", config.certificate), ("broker.key", config.key)):
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise CloudError(f"{path}: {key} cannot be read: {error.strerror}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cafile=config.ca)
    except (ssl.SSLError, ValueError) as error:
        raise CloudError(f"{config.ca}: broker.ca is not a certificate in PEM: {one_line(error)}") from error
    try:
        context.load_cert_chain(config.certificate, config.key)
    except (ssl.SSLError, ValueError) as error:
        raise CloudError(f"{config.certificate}: broker.certificate and broker.key do not go together: {one_line(error)}") from error
    return context
