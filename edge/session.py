"""One connection to the broker, from TCP to its end. Every method runs in the uplink's thread.

Each connection is a new paho client, so paho never sends anything again by itself: what is sent again, and when, is the outbox's part.
"""

import logging
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.config import BrokerConfig
from edge.identity import Identity
from edge.liveness import Liveness, unacknowledged
from edge.outbox import Batch, Outbox
from edge.reconnect import Ending, ending_by, ending_of
from edge.upload import ConditionsFile
from wire.errors import WireError
from wire.receipts import AnnouncementRequest, decode_downlink
from wire.topics import WILL, certificate, down, renew, up, will

KEEPALIVE_S = 30
SESSION_S = 3600  # receipts that come while the vehicle is in a tunnel wait this long at the broker
CONNECT_S = 10.0  # for TCP, for TLS, and for CONNACK and SUBACK
WILL_DELAY_S = 30  # a vehicle that is back by then was never away
IDLE_S = 1.0
OWED_S = 0.2  # between two looks at whether the link is dead
RECEIVE_MAXIMUM = 64  # receipts that the broker may send before we have acknowledged them
MAX_PACKET_BYTES = 64 << 10  # that we take: a receipt has at most 21 kB
PACKET_BYTES = 64  # MQTT's own around a batch, at most
UNLEARN_S = 3600.0  # a packet size that a broker has hung up on is tried again after so long
NO_SUBSCRIBERS, FAILURE = 0x10, 0x80  # MQTT 5.0, 3.4.2.1
NOT_AUTHORIZED, PACKET_TOO_LARGE = 0x87, 0x95
UNSUPPORTED_VERSIONS = {0x01, 0x84}  # 3.1.1's and 5's code for "this protocol version is not spoken here"

log = logging.getLogger(__name__)


@dataclass
class Line:
    """What outlives a connection. `lock` guards the outbox; the deques pass between the threads."""

    config: BrokerConfig
    identity: Identity
    outbox: Outbox
    lock: threading.Lock
    conditions: ConditionsFile
    protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5
    spoke_five: bool = False  # this broker does: a hang-up without a word is no refusal of the version
    will: bool = True  # False for a broker whose rules do not have that topic
    largest: int | None = None  # packet that the broker took, as it hung up on a larger one
    largest_until_s: float = float("-inf")
    stop: threading.Event = field(default_factory=threading.Event)
    wake_read: socket.socket | None = None
    requests: deque[bytes] = field(
        default_factory=lambda: deque(maxlen=1)
    )  # for a new certificate; lost with the connection, and asked again
    certificates: deque[bytes] = field(default_factory=lambda: deque(maxlen=4))  # answers, for the agent's thread

    @property
    def five(self) -> bool:
        return self.protocol is MQTTProtocolVersion.MQTTv5

    @property
    def address(self) -> str:
        return f"{self.config.host}:{self.config.port}"


class Session:
    """`run` returns when the connection has ended; `ending` and `reason` say why."""

    def __init__(self, line: Line, came_back: Callable[[], None]) -> None:
        self._line = line
        self._came_back = came_back
        self._up, self._down = up(line.identity.vehicle), down(line.identity.vehicle)
        self._certificate = certificate(line.identity.vehicle)
        self._published: dict[int, Batch | None] = {}  # packet id -> batch (None: something else), until its PUBACK
        self._liveness = Liveness()
        self._welcomed = False
        self._said: set[str] = set()
        self._look_s = 0.0
        self._most = 65_535  # PUBLISHes that the broker takes before it has acknowledged them: MQTT 5.0, 3.2.2.3.3
        self._largest: int | None = None
        self.refused_version = False
        self.refused_will = False
        self.subscribed_s: float | None = None
        self.ending: Ending | None = None
        self.reason = ""

    @property
    def held_s(self) -> float:
        """How long batches could go."""
        return 0.0 if self.subscribed_s is None else time.monotonic() - self.subscribed_s

    @property
    def speaks_another_version(self) -> bool:
        """The broker refused the protocol version, or hung up on the CONNECT without a word, as some do."""
        return self.refused_version or (self.reason == _NO_WELCOME and not self._line.spoke_five)

    def run(self) -> None:
        """Hold the connection until it ends."""
        client = self._client()
        try:
            self._connect(client)
            self._hold(client)
        except OSError as error:
            self._end(ending_of(error), _one_line(error))
        except Exception as error:  # noqa: BLE001 - a hostile broker's packets make paho raise anything; the connection ends, not the agent
            log.warning("broker %s: %s while reading it", self._line.address, _one_line(error))
            self._end(Ending.REJECTED, _one_line(error))
        finally:
            self._say_goodbye(client)

    def _end(self, ending: Ending, reason: str) -> None:
        """The first reason is the one."""
        if self.ending is None:
            self.ending, self.reason = ending, reason

    @staticmethod
    def _say_goodbye(client: mqtt.Client) -> None:
        try:
            if client.socket() is not None:
                client.disconnect()  # writes, and closes the socket; the broker keeps the last will to itself
        except OSError as error:
            log.debug("the connection broke while it was closed: %s", error)

    def _client(self) -> mqtt.Client:
        line = self._line
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=line.identity.vehicle,
            clean_session=None if line.five else False,
            protocol=line.protocol,
            reconnect_on_failure=False,
        )
        client.tls_set_context(line.identity.tls)
        client.connect_timeout = CONNECT_S
        client.max_inflight_messages = 65_535  # `_offer` keeps to the broker's own limit
        client.on_socket_open = _no_delay
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        if line.will:
            properties = None
            if line.five:
                properties = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
                properties.WillDelayInterval = WILL_DELAY_S
            client.will_set(will(line.identity.vehicle), WILL, qos=1, properties=properties)
        return client

    def _connect(self, client: mqtt.Client) -> None:
        config = self._line.config
        if self._line.five:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = SESSION_S
            properties.ReceiveMaximum = RECEIVE_MAXIMUM
            properties.MaximumPacketSize = MAX_PACKET_BYTES
            client.connect(config.host, config.port, KEEPALIVE_S, clean_start=False, properties=properties)
        else:
            client.connect(config.host, config.port, KEEPALIVE_S)

    def _hold(self, client: mqtt.Client) -> None:
        line = self._line
        assert line.wake_read is not None
        deadline_s = time.monotonic() + CONNECT_S
        while not line.stop.is_set():
            sock = client.socket()
            if not isinstance(sock, ssl.SSLSocket):  # None: closed
                return self._hung_up()
            pending = sock.pending() > 0
            readable, writable, _ = select.select(
                [sock, line.wake_read], [sock] if client.want_write() else [], [], 0.0 if pending else self._wait_s()
            )
            if line.wake_read in readable:
                line.wake_read.recv(4096)
            heard = pending or sock in readable
            now_s = time.monotonic()
            if self.subscribed_s is None and now_s > deadline_s:
                return self._end(Ending.LOST, f"no answer within {CONNECT_S:.0f} s")
            if self._liveness.is_dead(now_s, owed=bool(self._published), heard=heard, queued=unacknowledged(sock)):
                return self._end(Ending.LOST, "nothing comes any more")
            status = MQTTErrorCode.MQTT_ERR_SUCCESS
            if heard:
                status = client.loop_read()
            if client._in_packet["remaining_length"] > MAX_PACKET_BYTES:  # paho would gather 256 MB; it has no public name for this
                return self._end(Ending.REJECTED, f"it sent a packet of more than {MAX_PACKET_BYTES} bytes")
            if status == MQTTErrorCode.MQTT_ERR_SUCCESS and sock in writable:
                status = client.loop_write()
            if status == MQTTErrorCode.MQTT_ERR_SUCCESS:
                status = client.loop_misc()
            if status != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return self._hung_up()
            if not self._may_go(now_s):
                return self._end(Ending.UNREACHED, "nothing may go over this link now")
            if self.subscribed_s is not None:
                self._offer(client)
        return None

    def _hung_up(self) -> None:
        self._end(Ending.CLOSED if self._welcomed else Ending.REJECTED, _HUNG_UP if self._welcomed else _NO_WELCOME)

    def _wait_s(self) -> float:
        if self.subscribed_s is None:
            return 0.1
        most_s = OWED_S if self._published else IDLE_S
        if len(self._published) >= self._most:
            return most_s
        with self._line.lock:
            wake_s = self._line.outbox.wake_s()
        return most_s if wake_s is None else min(most_s, max(0.0, wake_s - time.monotonic()))

    def _may_go(self, now_s: float) -> bool:
        conditions = self._line.conditions
        if now_s >= self._look_s:
            self._look_s = now_s + IDLE_S
            if conditions.look():
                with self._line.lock:
                    self._line.outbox.allow(conditions.turns)
        return conditions.share != "nothing"

    def _offer(self, client: mqtt.Client) -> None:
        line = self._line
        while line.requests and len(self._published) < self._most:
            info = client.publish(renew(line.identity.vehicle), line.requests.popleft(), qos=1)
            self._published[info.mid] = None
        room = self._most - len(self._published)
        with line.lock:
            due = line.outbox.due(time.monotonic(), room)
        for batch in due:
            if self._is_too_large(batch):
                continue
            info = client.publish(self._up, batch.data, qos=1)
            if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return  # the connection is going; what was not sent is in flight by the outbox's book and comes again
            self._published[info.mid] = batch

    def _is_too_large(self, batch: Batch) -> bool:
        """A packet that the broker hangs up on would come first again after the next connection, and nothing else would ever pass."""
        limits = [limit for limit in (self._largest, self._line.largest) if limit is not None]
        if not limits or len(batch.data) + PACKET_BYTES <= min(limits):
            return False
        with self._line.lock:
            self._line.outbox.hold_back(batch.key, time.monotonic())
        self._say_once(f"takes at most {min(limits)} bytes; a batch of {len(batch.data)} stays in the outbox", "its limit must be raised")
        return True

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, properties: Properties | None) -> None:
        line = self._line
        if reason.is_failure:
            self.refused_version = reason.value in UNSUPPORTED_VERSIONS
            self.refused_will = reason.value == NOT_AUTHORIZED and line.will
            self._end(ending_by(reason.value), f"refused: {reason}")
            return
        self._welcomed = True
        line.spoke_five = line.spoke_five or line.five
        self._most = getattr(properties, "ReceiveMaximum", self._most)
        self._largest = getattr(properties, "MaximumPacketSize", None)
        if time.monotonic() > line.largest_until_s:
            line.largest = None
        client.subscribe([(self._down, 1), (self._certificate, 1)])

    def _on_subscribe(self, client: mqtt.Client, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Any) -> None:
        if not reasons or reasons[0].is_failure:  # without the second a certificate cannot be renewed, and everything else goes on
            self._end(Ending.REJECTED, f"may not subscribe to {self._down}")
            client.disconnect()
            return
        self.subscribed_s = time.monotonic()
        self._came_back()

    def _on_publish(self, _client: mqtt.Client, _data: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        batch = self._published.pop(mid, None)
        if batch is None or (reason.value != NO_SUBSCRIBERS and reason.value < FAILURE):
            return
        if reason.value >= FAILURE:
            self._say_once(f"does not take batches ({reason})", "they stay in the outbox")
        with self._line.lock:
            self._line.outbox.undelivered(batch.key, time.monotonic())

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        now_s = time.monotonic()
        if message.topic == self._certificate:
            self._line.certificates.append(bytes(message.payload))
            return
        try:
            said = decode_downlink(bytes(message.payload))
        except WireError as error:
            self._say_once(f"brought a message on {self._down} that is no receipt", str(error))
            return
        with self._line.lock:
            if isinstance(said, AnnouncementRequest):
                self._line.outbox.request(said.stream, now_s)
                return
            for entry in said.entries:
                self._line.outbox.receipt(said.stream, entry.sequence, entry.status, entry.tag, now_s)

    def _on_disconnect(self, _client: mqtt.Client, _data: Any, flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if not flags.is_disconnect_packet_from_server:
            return
        if reason.value == PACKET_TOO_LARGE:
            self._learn_largest()
        self._end(ending_by(reason.value), f"it said: {reason}")

    def _learn_largest(self) -> None:
        """The broker did not say how much it takes. If any packet was too large, the largest under way was."""
        sizes = [len(batch.data) for batch in self._published.values() if batch is not None]
        if sizes:
            self._line.largest = max(sizes) + PACKET_BYTES - 1
            self._line.largest_until_s = time.monotonic() + UNLEARN_S

    def _say_once(self, what: str, then: str) -> None:
        """Once a connection: whoever sends such things must not fill the log too."""
        kind = what.partition(";")[0]
        if kind not in self._said:
            self._said.add(kind)
            log.warning("broker %s: %s; %s", self._line.address, what, then)


_HUNG_UP = "it closed the connection"
_NO_WELCOME = "it closed the connection instead of answering: does it accept this vehicle's certificate?"


def _no_delay(_client: mqtt.Client, _data: Any, sock: Any) -> None:
    # Without it Nagle's algorithm holds a batch back until the one before it is acknowledged: p50 10.8 ms instead of 0.44 ms on loopback.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
