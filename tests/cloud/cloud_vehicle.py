"""A vehicle for the cloud's tests: seals real messages with a real certificate, and can speak MQTT."""

import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
from cloud_samples import START_MS
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from cloud.pki import vehicle as enrol
from dbc.schema import Schema
from wire.codec import encode_rows
from wire.envelope import Sealed, StreamSealer, announce
from wire.messages import Announcement, Clock, Contribution, FindingMessage, Gap, Kind, Message, Rows, Window, encode_message, pack_columns
from wire.receipts import Receipt, decode_downlink
from wire.recipients import read_recipient
from wire.topics import down, up

CLOCK = Clock(boot_ms=0, utc_ms=START_MS, source="system")


class Vehicle:
    """Streams of one vehicle. Ticks are seconds after its boot."""

    def __init__(self, pki: Path, schema: Schema, clock: Clock | None = CLOCK, boot_id: bytes = b"b" * 16) -> None:
        self.pki = pki
        self.schema = schema
        self.clock = clock
        self.boot_id = boot_id
        self.id = enrol(pki)
        self.certificate = x509.load_pem_x509_certificate((pki / "vehicles" / f"{self.id}.pem").read_bytes())
        self.key: Any = load_pem_private_key((pki / "vehicles" / f"{self.id}.key").read_bytes(), None)
        self.sent: list[Sealed] = []
        self.new_stream()

    @property
    def topic(self) -> str:
        return up(self.id)

    def new_stream(self, **changes: Any) -> Sealed:
        """Start a stream; returns its announcement."""
        self.sealer = StreamSealer.start(self.id)
        fleet_ca = x509.load_pem_x509_certificate((self.pki / "fleet-ca.pem").read_bytes())
        recipient = read_recipient((self.pki / "recipient.json").read_bytes(), fleet_ca, START_MS / 1000)
        fields = {
            "boot_id": self.boot_id,
            "clock": self.clock,
            "schema_id": self.schema.schema_id,
            "consent_class": "technical",
            "columns": pack_columns(np.ones(len(self.schema), np.bool_)),
            "pack_ids": [],
            "campaign_id": "",
            "agent": "test",
            "baseline": b"",
        } | changes
        self.announcement = announce(self.sealer, Announcement(**fields), [recipient], self.certificate, self.key)
        self.sent = [self.announcement]
        return self.announcement

    def values(self, ticks: range) -> np.ndarray:
        """(t, m) raw values: tick * 10 + signal."""
        return np.array(ticks, np.int64)[:, None] * 10 + np.arange(len(self.schema), dtype=np.int64)[None, :]

    def rows(self, ticks: range) -> Sealed:
        raw = self.values(ticks)
        body = encode_rows(Rows(np.array(ticks, np.int64) * 1000, raw, np.zeros(raw.shape, np.uint8)), None)
        return self._sent(self.sealer.seal(Kind.ROWS, body))

    def say(self, message: Message) -> Sealed:
        kind, body = encode_message(message)
        return self._sent(self.sealer.seal(kind, body))

    def finding(self, tick: int, state: Any = "active", finding_id: bytes = b"f" * 16) -> Sealed:
        window = Window(tick_ms=[tick * 1000], signals=["score"], values=[[2.0]])
        contribution = Contribution(signal=self.schema.names[0], unit="", expected=1.0, seen=2.0, share=1.0)
        return self.say(
            FindingMessage(
                finding_id=finding_id,
                state=state,
                pack_id="pack",
                fault_code="coolant_leak",
                tick_ms=tick * 1000,
                since_ms=tick * 1000 - 3000,
                score=2.0,
                threshold=1.0,
                p_value=0.001,
                contributions=[contribution],
                window=window,
            )
        )

    def gap(self, first: int, last: int) -> Sealed:
        return self.say(Gap(stream=self.sealer.stream, first=first, last=last, reason="outbox full"))

    def _sent(self, sealed: Sealed) -> Sealed:
        self.sent.append(sealed)
        return sealed


def receipts(messages: list[tuple[str, bytes]]) -> dict[tuple[bytes, int], tuple[int, bytes]]:
    """(stream, sequence) -> (status, tag) of every receipt among downlink messages."""
    found = {}
    for _, payload in messages:
        message = decode_downlink(payload)
        if isinstance(message, Receipt):
            found |= {(message.stream, entry.sequence): (entry.status, entry.tag) for entry in message.entries}
    return found


class Client:
    """An MQTT client with the certificate of `who`. `with Client(...) as client`: connected, or `refused` says why not."""

    def __init__(self, pki: Path, port: int, who: str, *, client_id: str | None = None, protocol: Any = MQTTProtocolVersion.MQTTv5) -> None:
        context = ssl.create_default_context(cafile=str(pki / "fleet-ca.pem"))
        if who:
            stem = pki / who if (pki / f"{who}.pem").exists() else pki / "vehicles" / who
            context.load_cert_chain(f"{stem}.pem", f"{stem}.key")
        self.port = port
        self.who = who
        self.heard: list[tuple[str, bytes]] = []
        self.published: dict[int, Any] = {}
        self.suback: list[Any] = []
        self.connack: Any = None
        self.refused = ""
        self.changed = threading.Condition()
        five = protocol is MQTTProtocolVersion.MQTTv5
        self.paho = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=who if client_id is None else client_id,
            clean_session=None if five else True,
            protocol=protocol,
            reconnect_on_failure=False,
        )
        self.paho.tls_set_context(context)
        self.paho.on_socket_open = lambda _c, _d, sock: sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.paho.on_connect = lambda _c, _d, _f, reason, _p: self._note("connack", reason)
        self.paho.on_subscribe = lambda _c, _d, _m, reasons, _p: self._note("suback", reasons)
        self.paho.on_publish = lambda _c, _d, mid, reason, _p: self._note("published", self.published | {mid: reason})
        self.paho.on_message = lambda _c, _d, message: self._note("heard", [*self.heard, (message.topic, message.payload)])
        self.paho.on_disconnect = lambda _c, _d, _f, reason, _p: self._note("refused", f"disconnected: {reason}")

    def _note(self, name: str, value: Any) -> None:
        with self.changed:
            setattr(self, name, value)
            self.changed.notify_all()

    def __enter__(self) -> "Client":
        try:
            self.paho.connect("localhost", self.port, 30)
        except OSError as error:
            self.refused = str(error)
            return self
        self.paho.loop_start()
        self.until(lambda: self.connack is not None or bool(self.refused), "CONNACK or a refusal")
        if self.connack is not None and self.connack.is_failure:
            self.refused = str(self.connack)
        return self

    def __exit__(self, *_: object) -> None:
        self.paho.disconnect()
        self.paho.loop_stop()

    def until(self, condition: Callable[[], bool], what: str) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, 30), f"waited in vain for {what}"

    def subscribe(self, topic: str) -> int:
        """The reason code's value."""
        self.suback = []
        self.paho.subscribe(topic, qos=1)
        self.until(lambda: bool(self.suback), "SUBACK")
        return int(self.suback[0].value)

    def publish(self, topic: str, payload: bytes, **options: Any) -> int:
        """The PUBACK's reason code's value; 3.1.1 has none and it is 0."""
        info = self.paho.publish(topic, payload, qos=1, **options)
        self.until(lambda: info.mid in self.published or bool(self.refused), "PUBACK")
        return int(self.published[info.mid].value) if info.mid in self.published else -1

    def listen(self) -> None:
        assert self.subscribe(down(self.who)) == 1
