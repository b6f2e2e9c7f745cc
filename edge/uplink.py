"""The connection to the broker: MQTT over mutual TLS 1.3, one thread that owns the socket, and nothing it does ends custody of a batch.

MQTT 5 first, because its PUBACK says when nobody listens (0x10); 3.1.1 for a broker that refuses 5. Each connection is a new paho client,
so paho never sends anything again by itself: what is sent again, and when, is the outbox's part.
"""

import contextlib
import logging
import random
import select
import socket
import ssl
import threading
import time
from collections import deque
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.config import BrokerConfig
from edge.identity import Identity
from edge.outbox import MAX_IN_FLIGHT, Key, Outbox
from wire.errors import WireError
from wire.receipts import AnnouncementRequest, decode_downlink
from wire.topics import certificate, down, renew, up

KEEPALIVE_S = 30
SESSION_S = 3600  # receipts that come while the vehicle is in a tunnel wait this long at the broker
CONNECT_S = 10.0  # TCP and TLS, then CONNACK and SUBACK
FIRST_PAUSE_S, MAX_PAUSE_S = 1.0, 60.0  # doubling, full jitter: a fleet must not come back all at once
STEADY_S = 10.0  # a connection that held this long begins the pauses anew
IDLE_S = 1.0
NO_SUBSCRIBERS = 0x10
FAILURE = 0x80
UNSUPPORTED_VERSIONS = {0x01, 0x84}  # 3.1.1's and 5's code for "this protocol version is not spoken here"

log = logging.getLogger(__name__)


class Uplink:
    """Offers what the outbox says is due and brings it the broker's and the cloud's answers. `lock` guards the outbox."""

    def __init__(self, config: BrokerConfig, identity: Identity, outbox: Outbox, lock: threading.Lock) -> None:
        self._config = config
        self._identity = identity
        self._outbox = outbox
        self._lock = lock
        self._up, self._down = up(identity.vehicle), down(identity.vehicle)
        self._renew, self._certificate = renew(identity.vehicle), certificate(identity.vehicle)
        self.requests: deque[bytes] = deque(maxlen=1)  # for a new certificate; lost with the connection, and asked again
        self.certificates: deque[bytes] = deque(maxlen=4)  # answers, for the agent's thread
        self._protocol = MQTTProtocolVersion.MQTTv5
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._wake_read: socket.socket | None = None
        self._wake_write: socket.socket | None = None
        self._said_away = False
        self.connected = False

    def start(self) -> None:
        """Start the thread."""
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
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
        self.requests.append(request)
        self.wake()

    def stop(self, timeout_s: float) -> None:
        """Say goodbye and end the thread; gives up waiting after `timeout_s`."""
        self._stop.set()
        self.wake()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stop.is_set():
            session = _Session(self)
            began_s = time.monotonic()
            reason = session.run()
            if self.connected:
                self.connected = False
                with self._lock:
                    self._outbox.disconnect(time.monotonic())
            if self._stop.is_set():
                return
            if session.speaks_another_version and self._protocol is MQTTProtocolVersion.MQTTv5:
                self._protocol = MQTTProtocolVersion.MQTTv311
                continue  # at once: the broker is there
            self._protocol = MQTTProtocolVersion.MQTTv5
            if not self._said_away:
                self._said_away = True
                log.warning("broker %s:%d is away (%s); batches stay in the outbox", self._config.host, self._config.port, reason)
            if session.subscribed and time.monotonic() - began_s >= STEADY_S:
                pause_s = FIRST_PAUSE_S
            self._stop.wait(random.uniform(0, pause_s))
            pause_s = min(MAX_PAUSE_S, 2 * pause_s)

    def _came_back(self) -> None:
        version = "5" if self._protocol is MQTTProtocolVersion.MQTTv5 else "3.1.1"
        log.info("connected to broker %s:%d (MQTT %s)", self._config.host, self._config.port, version)
        self._said_away = False
        self.connected = True
        with self._lock:
            self._outbox.connect()


class _Session:
    """One connection, from TCP to its end. Every method runs in the uplink's thread."""

    def __init__(self, uplink: Uplink) -> None:
        self._uplink = uplink
        self._published: dict[int, Key] = {}  # packet id -> batch, until its PUBACK
        self._reason = ""
        self._welcomed = False
        self._refused = False
        self._said_strange = False
        self.refused_version = False
        self.subscribed = False

    @property
    def speaks_another_version(self) -> bool:
        """The broker refused the protocol version, or hung up on the CONNECT without a word, as some do."""
        return self.refused_version or (not self._welcomed and not self._refused and self._reason == _NO_WELCOME)

    def run(self) -> str:
        """Hold the connection until it ends; returns why it ended."""
        client = self._client()
        try:
            self._connect(client)
            self._hold(client)
        except OSError as error:
            return _one_line(error)
        except Exception as error:  # noqa: BLE001 - a hostile broker's packets make paho raise anything; the connection ends, not the agent
            log.warning("broker %s:%d: %s while reading it", self._uplink._config.host, self._uplink._config.port, _one_line(error))
            return _one_line(error)
        finally:
            self._say_goodbye(client)
        return self._reason

    @staticmethod
    def _say_goodbye(client: mqtt.Client) -> None:
        try:
            if client.socket() is not None:
                client.disconnect()  # writes, and closes the socket
        except OSError as error:
            log.debug("the connection broke while it was closed: %s", error)

    def _client(self) -> mqtt.Client:
        uplink = self._uplink
        five = uplink._protocol is MQTTProtocolVersion.MQTTv5
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=uplink._identity.vehicle,
            clean_session=None if five else False,
            protocol=uplink._protocol,
            reconnect_on_failure=False,
        )
        client.tls_set_context(uplink._identity.tls)
        client.connect_timeout = CONNECT_S
        client.max_inflight_messages = MAX_IN_FLIGHT
        client.on_socket_open = _no_delay
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        return client

    def _connect(self, client: mqtt.Client) -> None:
        config = self._uplink._config
        if self._uplink._protocol is MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = SESSION_S
            client.connect(config.host, config.port, KEEPALIVE_S, clean_start=False, properties=properties)
        else:
            client.connect(config.host, config.port, KEEPALIVE_S)

    def _hold(self, client: mqtt.Client) -> None:
        uplink = self._uplink
        assert uplink._wake_read is not None
        deadline_s = time.monotonic() + CONNECT_S
        while not uplink._stop.is_set():
            sock = client.socket()
            if not isinstance(sock, ssl.SSLSocket):  # None: closed
                self._reason = self._reason or (_HUNG_UP if self._welcomed else _NO_WELCOME)
                return
            if not self.subscribed and time.monotonic() > deadline_s:
                self._reason = f"no answer within {CONNECT_S:.0f} s"
                return
            wait_s = 0.0 if sock.pending() else self._wait_s()
            readable, writable, _ = select.select([sock, uplink._wake_read], [sock] if client.want_write() else [], [], wait_s)
            if uplink._wake_read in readable:
                uplink._wake_read.recv(4096)
            status = MQTTErrorCode.MQTT_ERR_SUCCESS
            if sock in readable or sock.pending():
                status = client.loop_read()
            if status == MQTTErrorCode.MQTT_ERR_SUCCESS and sock in writable:
                status = client.loop_write()
            if status == MQTTErrorCode.MQTT_ERR_SUCCESS:
                status = client.loop_misc()
            if status != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._reason = self._reason or (_HUNG_UP if self._welcomed else _NO_WELCOME)
                return
            if self.subscribed:
                self._offer(client)

    def _wait_s(self) -> float:
        if not self.subscribed:
            return 0.1
        with self._uplink._lock:
            wake_s = self._uplink._outbox.wake_s()
        return IDLE_S if wake_s is None else min(IDLE_S, max(0.0, wake_s - time.monotonic()))

    def _offer(self, client: mqtt.Client) -> None:
        while self._uplink.requests:
            client.publish(self._uplink._renew, self._uplink.requests.popleft(), qos=1)
        with self._uplink._lock:
            due = self._uplink._outbox.due(time.monotonic())
        for batch in due:
            info = client.publish(self._uplink._up, batch.data, qos=1)
            if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return  # the connection is going; what was not sent is in flight by the outbox's book and comes again
            self._published[info.mid] = batch.key

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:
            self._refused = True
            self.refused_version = reason.value in UNSUPPORTED_VERSIONS
            self._reason = f"refused: {reason}"
            return
        self._welcomed = True
        client.subscribe([(self._uplink._down, 1), (self._uplink._certificate, 1)])

    def _on_subscribe(self, client: mqtt.Client, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Any) -> None:
        if not reasons or reasons[0].is_failure:  # without the second a certificate cannot be renewed, and everything else goes on
            self._reason = f"may not subscribe to {self._uplink._down}"
            client.disconnect()
            return
        self.subscribed = True
        self._uplink._came_back()

    def _on_publish(self, _client: mqtt.Client, _data: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        key = self._published.pop(mid, None)
        if key is not None and (reason.value == NO_SUBSCRIBERS or reason.value >= FAILURE):
            with self._uplink._lock:
                self._uplink._outbox.undelivered(key, time.monotonic())

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        now_s = time.monotonic()
        if message.topic == self._uplink._certificate:
            self._uplink.certificates.append(bytes(message.payload))
            return
        try:
            said = decode_downlink(bytes(message.payload))
        except WireError as error:
            if not self._said_strange:  # once a connection: whoever sends such messages must not fill the log too
                self._said_strange = True
                log.warning("left aside a message on %s that is no receipt: %s", self._uplink._down, error)
            return
        with self._uplink._lock:
            if isinstance(said, AnnouncementRequest):
                self._uplink._outbox.request(said.stream, now_s)
                return
            for entry in said.entries:
                self._uplink._outbox.receipt(said.stream, entry.sequence, entry.status, entry.tag, now_s)

    def _on_disconnect(self, _client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if not self._reason and reason.is_failure and self._welcomed:
            self._reason = str(reason)


_HUNG_UP = "it closed the connection"
_NO_WELCOME = "it closed the connection instead of answering: does it accept this vehicle's certificate?"


def _no_delay(_client: mqtt.Client, _data: Any, sock: Any) -> None:
    # Without it Nagle's algorithm holds a batch back until the one before it is acknowledged: p50 10.8 ms instead of 0.44 ms on loopback.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
