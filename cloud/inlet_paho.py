"""One connection of the inlet to a broker that speaks MQTT 3.1.1 and nothing later, as the embedded one does: by paho.

Each is a new paho client, so that an acknowledgement that comes late can never hit another message's packet id.
"""

import logging
import select
import time
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from cloud.inlet_session import HUNG_UP, no_delay, one_line
from wire.topics import UP_FILTER, WILL_FILTER

if TYPE_CHECKING:
    from cloud.inlet import Inlet

UNSUPPORTED_VERSIONS = {0x01, 0x84}  # 3.1.1's and 5's code for "this protocol version is not spoken here"

log = logging.getLogger(__name__)


class PahoSession:
    """By MQTT 3.1.1: the broker cannot be told how many messages may wait, so the socket is not read meanwhile."""

    def __init__(self, inlet: "Inlet") -> None:
        self.inlet = inlet
        self.refused_version = False
        self.subscribed = False
        self._reason = ""
        self._answered = False  # the broker said something to our CONNECT

    @property
    def speaks_another_version(self) -> bool:
        """The broker refused the protocol version, or hung up on the CONNECT without a word, as some do."""
        return self.refused_version or (not self._answered and self._reason == HUNG_UP)

    def run(self) -> str:
        """Hold the connection until it ends; returns why it ended."""
        client = self._client()
        try:
            client.connect(self.inlet.config.host, self.inlet.config.port, self.inlet.keepalive_s)
            self._hold(client)
        except OSError as error:
            return one_line(error)
        except Exception as error:  # noqa: BLE001 - a hostile broker's packets make paho raise anything; the connection ends, not the cloud
            log.warning("broker %s:%d: %s while reading it", self.inlet.config.host, self.inlet.config.port, one_line(error))
            return one_line(error)
        finally:
            if client.socket() is not None:
                client.disconnect()
                client.loop_write()
        return self._reason

    def _client(self) -> mqtt.Client:
        inlet = self.inlet
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=inlet.client_id,
            clean_session=False,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        assert inlet.tls is not None
        client.tls_set_context(inlet.tls)
        client.connect_timeout = inlet.connect_s
        client.max_inflight_messages = 1000
        client.on_socket_open = _no_delay
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        return client

    def _hold(self, client: mqtt.Client) -> None:
        inlet = self.inlet
        assert inlet.wake_read is not None
        deadline_s = time.monotonic() + inlet.connect_s
        while True:
            self._send(client)  # may find the connection broken, and closes it then
            sock: Any = client.socket()
            if sock is None:
                self._reason = self._reason or HUNG_UP
                return
            if not self.subscribed and time.monotonic() > deadline_s:
                self._reason = f"no answer within {inlet.connect_s:.0f} s"
                return
            if inlet.stopping.is_set() and not client.want_write():
                return
            reads = inlet.waiting < inlet.unacknowledged or not self._answered
            if not reads:  # a session that was there before goes on with messages, before it answers our SUBSCRIBE
                deadline_s = time.monotonic() + inlet.connect_s
            pending = reads and sock.pending() > 0
            readable, writable, _ = select.select(
                [sock, inlet.wake_read] if reads else [inlet.wake_read],
                [sock] if client.want_write() else [],
                [],
                0 if pending else inlet.idle_s,
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
                self._reason = self._reason or HUNG_UP
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
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""  # refused, counted and acknowledged like any other topic that is not ours
        self.inlet.arrived(self, topic, bytes(message.payload), message.mid if message.qos else 0)

    def _on_disconnect(self, _client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if not self._reason:
            self._reason = HUNG_UP if not self._answered else f"disconnected: {reason}"


def _no_delay(_client: mqtt.Client, _data: Any, sock: Any) -> None:
    no_delay(sock)
