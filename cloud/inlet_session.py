"""One connection of the inlet: its rules, and the one that speaks MQTT 5 (OASIS standard, 2019), on a socket of its own.

Packets are mqtt5's; what is read is parsed as it lies, many packets at once, and what is said goes out together. paho, which the way
back to 3.1.1 uses (`cloud/inlet_paho.py`), takes a system call for each few bytes of each packet: four times the processor time a message.
"""

import contextlib
import logging
import select
import socket
import ssl
import time
from typing import TYPE_CHECKING, Protocol

import mqtt5

if TYPE_CHECKING:
    from cloud.inlet import Inlet

__all__ = ["HUNG_UP", "Mqtt5Session", "Session", "no_delay", "one_line"]

HUNG_UP = "the broker hung up"
READ_BYTES = 1 << 14  # a TLS record has no more
READS = 256  # records, of which a message is one, that are read in a row
PACE_S = 0.03  # between two readings: under load one waking is for many messages; what comes after a silence waits for nothing
MAX_PACKET_BYTES = 4 << 20  # far beyond what a vehicle may send; a broker that announces more is not listened to
GRANTED = (mqtt5.SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE, mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE)
UNSUPPORTED_3 = b"\x20\x02\x00\x01"  # MQTT 3.1.1's answer to a version that it does not know

log = logging.getLogger(__name__)


class Session(Protocol):
    """One connection, from TCP to its end. Every method runs in the inlet's thread."""

    subscribed: bool

    @property
    def refused_version(self) -> bool:
        """The broker said that it does not speak this version."""

    @property
    def speaks_another_version(self) -> bool:
        """It said so, or hung up on the CONNECT without a word, as some do."""

    def run(self) -> str:
        """Hold the connection until it ends; returns why it ended."""


class _Over(Exception):
    """The connection has ended; the reason."""


class Mqtt5Session:
    """By MQTT 5: receive maximum in both directions, a session that the broker keeps while we are away."""

    def __init__(self, inlet: "Inlet") -> None:
        self.inlet = inlet
        self.refused_version = False
        self.subscribed = False
        self._answered = False  # the broker said something to our CONNECT
        self._reason = ""
        self._in = bytearray()
        self._out = bytearray()
        self._packet_id = 1  # of the newest message of ours; 1 is the SUBSCRIBE's
        self._unanswered: set[int] = set()  # packet ids of receipts
        self._may_be_unanswered = 65_535  # of them: the broker's receive maximum
        self._keepalive_s = float(inlet.keepalive_s)
        self._heard_s = self._said_s = self._asked_s = 0.0  # monotonic

    @property
    def speaks_another_version(self) -> bool:
        return self.refused_version or (not self._answered and self._reason == HUNG_UP)

    def run(self) -> str:
        config = self.inlet.config
        assert self.inlet.tls is not None
        try:
            with (
                socket.create_connection((config.host, config.port), self.inlet.connect_s) as plain,
                self.inlet.tls.wrap_socket(plain, server_hostname=config.host) as sock,
            ):
                no_delay(sock)
                sock.setblocking(False)
                self._hold(sock)
        except _Over as over:
            self._reason = str(over)
        except OSError as error:
            self._reason = one_line(error)
        except Exception as error:  # whatever a hostile broker's packets raise: the connection ends, not the cloud
            self._reason = one_line(error)
            log.warning(
                "broker %s:%d: %s while reading it", config.host, config.port, self._reason, exc_info=not isinstance(error, ValueError)
            )
        return self._reason

    def _hold(self, sock: ssl.SSLSocket) -> None:
        inlet = self.inlet
        connect = mqtt5.ConnectPacket(
            inlet.client_id,
            keep_alive=int(self._keepalive_s),
            session_expiry_interval=inlet.session_s,
            receive_max=inlet.unacknowledged,
            max_packet_size=MAX_PACKET_BYTES,
        )
        self._out += connect.write()
        now_s = time.monotonic()
        deadline_s, self._heard_s, self._said_s = now_s + inlet.connect_s, now_s, now_s
        assert inlet.wake_read is not None
        while True:
            self._take()  # what lies here from before, where there is room now
            self._say()
            self._flush(sock)
            now_s = time.monotonic()
            if not self.subscribed and now_s > deadline_s:
                raise _Over(f"no answer within {inlet.connect_s:.0f} s")
            if inlet.stopping.is_set() and not self._out:
                self._goodbye(sock)
                return
            reads = self._may_take
            if not reads:  # a session that was there before goes on with messages, before it answers our SUBSCRIBE
                deadline_s = now_s + inlet.connect_s
            self._keep_alive(now_s)
            if reads and not self._out and (rest_s := self._heard_s + PACE_S - now_s) > 0:
                time.sleep(rest_s)
            pending = reads and sock.pending() > 0
            readable, _, _ = select.select(
                [sock, inlet.wake_read] if reads else [inlet.wake_read], [sock] if self._out else [], [], 0 if pending else inlet.idle_s
            )
            if inlet.wake_read in readable:
                inlet.wake_read.recv(4096)
            if pending or sock in readable:
                self._read(sock)

    def _read(self, sock: ssl.SSLSocket) -> None:
        size = len(self._in)
        for _ in range(READS):
            try:
                data = sock.recv(READ_BYTES)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            if not data and len(self._in) == size:
                raise _Over(self._reason or HUNG_UP)
            if not data:
                break  # what it said before it hung up is looked at first
            self._in += data
        if len(self._in) == size:
            return
        self._heard_s = time.monotonic()
        if not self._answered and self._in.startswith(UNSUPPORTED_3):
            self._answered = self.refused_version = True
            raise _Over("refused: it speaks MQTT 3.1.1")

    def _take(self) -> None:
        """Packets that are whole, as long as messages may wait."""
        if not self._in or not self._may_take:
            return
        at = 0
        with memoryview(bytes(self._in)) as view:
            while at < len(view) and self._may_take:
                try:
                    packet, size = mqtt5.read(view[at:])
                except IndexError:  # the rest of it is still to come
                    if len(view) - at > MAX_PACKET_BYTES + 8:
                        raise _Over(f"a packet of more than {MAX_PACKET_BYTES} bytes") from None
                    break
                at += size
                self._packet(packet)
        del self._in[:at]

    @property
    def _may_take(self) -> bool:
        return self.inlet.waiting < self.inlet.unacknowledged or not self._answered

    def _packet(self, packet: mqtt5.Packet) -> None:
        self._answered = True
        if isinstance(packet, mqtt5.PublishPacket):
            self.inlet.arrived(self, packet.topic, bytes(packet.payload), packet.packet_id or 0)
        elif isinstance(packet, mqtt5.PubAckPacket):
            self._unanswered.discard(packet.packet_id)
        elif isinstance(packet, mqtt5.ConnAckPacket):
            if packet.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
                self.refused_version = packet.reason_code == mqtt5.ConnAckReasonCode.UNSUPPORTED_PROTOCOL_VERSION
                raise _Over(f"refused: {_words(packet.reason_code)}")
            if self.inlet.config.replica and not packet.shared_subscription_available:
                raise _Over("it has no shared subscriptions, without which there are no replicas")
            self._may_be_unanswered = packet.receive_max
            if packet.server_keep_alive is not None:
                self._keepalive_s = float(packet.server_keep_alive)
            filters = [mqtt5.TopicFilter(one, max_qos=mqtt5.QoS.AT_LEAST_ONCE) for one in self.inlet.filters]
            self._out += mqtt5.SubscribePacket(1, filters).write()
        elif isinstance(packet, mqtt5.SubAckPacket):
            if packet.reason_codes[0] not in GRANTED:  # a broker whose rules know no last wills carries batches all the same
                raise _Over(f"may not subscribe to {self.inlet.filters[0]}; is the certificate the aggregator's?")
            self.subscribed = True
            self.inlet.came_back()
        elif isinstance(packet, mqtt5.DisconnectPacket):
            raise _Over(f"disconnected: {_words(packet.reason_code)}")

    def _say(self) -> None:
        """Acknowledgements, then receipts: custody is ours before the vehicle hears of it."""
        inlet = self.inlet
        while inlet.acknowledged:
            token = inlet.acknowledged.popleft()
            inlet.waiting -= 1
            if token.session is self and token.packet_id:
                self._out += mqtt5.PubAckPacket(token.packet_id).write()
        while self.subscribed and inlet.out and len(self._unanswered) < self._may_be_unanswered:
            topic, payload = inlet.out.popleft()
            while True:
                self._packet_id = self._packet_id % 65_535 + 1
                if self._packet_id not in self._unanswered:
                    break
            self._unanswered.add(self._packet_id)
            self._out += mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=self._packet_id).write()

    def _flush(self, sock: ssl.SSLSocket) -> None:
        while self._out:
            try:
                sent = sock.send(self._out)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            del self._out[:sent]
            self._said_s = time.monotonic()

    def _keep_alive(self, now_s: float) -> None:
        """MQTT 5, 3.1.2.10. A broker that has said nothing for one and a half of that time, though it was asked, is gone."""
        if not self._keepalive_s:
            return
        if now_s - self._heard_s > 1.5 * self._keepalive_s + self.inlet.idle_s:
            raise _Over(f"nothing heard for {now_s - self._heard_s:.0f} s")
        if now_s - max(self._said_s, self._asked_s) >= self._keepalive_s or (
            now_s - self._heard_s >= self._keepalive_s and now_s - self._asked_s >= self._keepalive_s
        ):
            self._asked_s = now_s
            self._out += mqtt5.PingReqPacket().write()

    def _goodbye(self, sock: ssl.SSLSocket) -> None:
        with contextlib.suppress(OSError):
            sock.send(mqtt5.DisconnectPacket().write())


def _words(code: object) -> str:
    """mqtt5's codes print as numbers, and are shown as <ConnAckReasonCode.NOT_AUTHORIZED: 135>."""
    return repr(code).rpartition(".")[2].partition(":")[0].lower().replace("_", " ")


def one_line(error: BaseException) -> str:
    """What went wrong."""
    return " ".join(f"{error}".split()) or type(error).__name__


def no_delay(sock: socket.socket) -> None:
    """0.4 ms instead of 11 ms for a 20 kB message over TLS."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
