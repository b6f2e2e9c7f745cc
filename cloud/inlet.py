"""The aggregator's connection to the broker: MQTT over mutual TLS 1.3, in one thread that owns the socket.

A message is acknowledged to the broker only when it has landed, so whatever was not is delivered again: by the broker when we come
back, and by the vehicle, which has no receipt, in any case. At most UNACKNOWLEDGED messages wait for that; MQTT 5's receive maximum
tells the broker, and for 3.1.1 the socket is not read meanwhile. Each connection is a new paho client, so that an acknowledgement
that comes late can never hit another message's packet id. What an ended connection delivered still counts until it is acknowledged, and
so does QoS 0, which the broker would not hold back: memory is bounded whoever sends.
"""

import logging
import random
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from cloud.aggregator import Arrival
from cloud.config import BrokerConfig
from cloud.errors import CloudError
from wire.topics import UP_FILTER, WILL_FILTER, gone

CLIENT_ID = "aggregator"  # the common name of its certificate
UNACKNOWLEDGED = 1000
KEEPALIVE_S = 30
SESSION_S = 86_400  # what arrives while the aggregator is away waits this long at the broker
CONNECT_S = 10.0
FIRST_PAUSE_S, MAX_PAUSE_S = 0.25, 15.0
STEADY_S = 10.0
IDLE_S = 1.0
UNSUPPORTED_VERSIONS = {0x01, 0x84}  # 3.1.1's and 5's code for "this protocol version is not spoken here"
_HUNG_UP = "the broker hung up"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Token:
    """What an arrival is acknowledged by. packet_id: 0 for QoS 0, of which the broker wants to hear nothing."""

    session: "_Session"
    packet_id: int


class Inlet:
    """`deliver` is called in the inlet's thread for each message; `publish` and `acknowledge` may be called from any."""

    def __init__(self, config: BrokerConfig, deliver: Callable[[Arrival], None]) -> None:
        self.config = config
        self.deliver = deliver
        self.connected = False
        self.protocol = MQTTProtocolVersion.MQTTv5
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
            session = _Session(self)
            began_s = time.monotonic()
            reason = session.run()
            self.connected = False
            if self.stopping.is_set():
                return
            if session.speaks_another_version:
                five = self.protocol is MQTTProtocolVersion.MQTTv5
                self.protocol = MQTTProtocolVersion.MQTTv311 if five else MQTTProtocolVersion.MQTTv5
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
        version = "5" if self.protocol is MQTTProtocolVersion.MQTTv5 else "3.1.1"
        log.info("connected to broker %s:%d (MQTT %s)", self.config.host, self.config.port, version)
        self._said_away = self._tried_another = False
        self.connected = True


class _Session:
    """One connection, from TCP to its end. Every method runs in the inlet's thread."""

    def __init__(self, inlet: Inlet) -> None:
        self.inlet = inlet
        self.refused_version = False
        self.subscribed = False
        self._reason = ""
        self._answered = False  # the broker said something to our CONNECT

    @property
    def speaks_another_version(self) -> bool:
        """The broker refused the protocol version, or hung up on the CONNECT without a word, as some do."""
        return self.refused_version or (not self._answered and self._reason == _HUNG_UP)

    def run(self) -> str:
        """Hold the connection until it ends; returns why it ended."""
        client = self._client()
        try:
            self._connect(client)
            self._hold(client)
        except OSError as error:
            return _one_line(error)
        except Exception as error:  # noqa: BLE001 - a hostile broker's packets make paho raise anything; the connection ends, not the cloud
            log.warning("broker %s:%d: %s while reading it", self.inlet.config.host, self.inlet.config.port, _one_line(error))
            return _one_line(error)
        finally:
            if client.socket() is not None:
                client.disconnect()
                client.loop_write()
        return self._reason

    def _client(self) -> mqtt.Client:
        inlet = self.inlet
        five = inlet.protocol is MQTTProtocolVersion.MQTTv5
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=CLIENT_ID,
            clean_session=None if five else False,
            protocol=inlet.protocol,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        assert inlet.tls is not None
        client.tls_set_context(inlet.tls)
        client.connect_timeout = CONNECT_S
        client.max_inflight_messages = 1000
        client.on_socket_open = _no_delay
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        return client

    def _connect(self, client: mqtt.Client) -> None:
        config = self.inlet.config
        if self.inlet.protocol is MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = SESSION_S
            properties.ReceiveMaximum = UNACKNOWLEDGED
            client.connect(config.host, config.port, KEEPALIVE_S, clean_start=False, properties=properties)
        else:
            client.connect(config.host, config.port, KEEPALIVE_S)

    def _hold(self, client: mqtt.Client) -> None:
        inlet = self.inlet
        assert inlet.wake_read is not None
        deadline_s = time.monotonic() + CONNECT_S
        while True:
            self._send(client)  # may find the connection broken, and closes it then
            sock: Any = client.socket()
            if sock is None:
                self._reason = self._reason or _HUNG_UP
                return
            if not self.subscribed and time.monotonic() > deadline_s:
                self._reason = f"no answer within {CONNECT_S:.0f} s"
                return
            if inlet.stopping.is_set() and not client.want_write():
                return
            reads = inlet.waiting < UNACKNOWLEDGED or not self._answered
            if not reads:  # a session that was there before goes on with messages, before it answers our SUBSCRIBE
                deadline_s = time.monotonic() + CONNECT_S
            pending = reads and sock.pending() > 0
            readable, writable, _ = select.select(
                [sock, inlet.wake_read] if reads else [inlet.wake_read], [sock] if client.want_write() else [], [], 0 if pending else IDLE_S
            )
            if inlet.wake_read in readable:
                inlet.wake_read.recv(4096)
            status = MQTTErrorCode.MQTT_ERR_SUCCESS
            if pending or sock in readable:
                status = client.loop_read()
            if status == MQTTErrorCode.MQTT_ERR_SUCCESS and sock in writable:
                status = client.loop_write()
            if status == MQTTErrorCode.MQTT_ERR_SUCCESS:
                status = client.loop_misc()
            if status != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._reason = self._reason or _HUNG_UP
                return

    def _send(self, client: mqtt.Client) -> None:
        """Acknowledgements, then receipts: custody is ours before the vehicle hears of it."""
        inlet = self.inlet
        while inlet.acknowledged:
            token = inlet.acknowledged.popleft()
            inlet.waiting -= 1
            if token.session is self and token.packet_id:
                client.ack(token.packet_id, 1)
        if not self.subscribed:
            return
        while inlet.out:
            topic, payload = inlet.out.popleft()
            client.publish(topic, payload, qos=1)

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        self._answered = True
        if reason.is_failure:
            self.refused_version = reason.value in UNSUPPORTED_VERSIONS
            self._reason = f"refused: {reason}"
            return
        client.subscribe([(UP_FILTER, 1), (WILL_FILTER, 1)])

    def _on_subscribe(self, client: mqtt.Client, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Any) -> None:
        if not reasons or reasons[0].is_failure:  # a broker whose rules know no last wills carries batches all the same
            self._reason = f"may not subscribe to {UP_FILTER}; is the certificate the aggregator's?"
            client.disconnect()
            return
        self.subscribed = True
        self.inlet.came_back()

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        now_ms = time.time_ns() // 1_000_000
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""  # refused, counted and acknowledged like any other topic that is not ours
        self.inlet.waiting += 1
        token = _Token(self, message.mid if message.qos else 0)
        if (vehicle := gone(topic)) is not None:  # a state and no data: nothing lands, and no ticket comes of it
            self.inlet.gone_ms[vehicle] = now_ms
            self.inlet.acknowledged.append(token)
            return
        self.inlet.deliver(Arrival(topic, bytes(message.payload), now_ms, token))

    def _on_disconnect(self, _client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if not self._reason:
            self._reason = _HUNG_UP if not self._answered else f"disconnected: {reason}"


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
        raise CloudError(f"{config.ca}: broker.ca is not a certificate in PEM: {_one_line(error)}") from error
    try:
        context.load_cert_chain(config.certificate, config.key)
    except (ssl.SSLError, ValueError) as error:
        raise CloudError(f"{config.certificate}: broker.certificate and broker.key do not go together: {_one_line(error)}") from error
    return context


def _no_delay(_client: mqtt.Client, _data: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # 0.4 ms instead of 11 ms for a 20 kB message over TLS


def _one_line(error: BaseException) -> str:
    return " ".join(f"{error}".split()) or type(error).__name__
