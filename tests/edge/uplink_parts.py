"""An uplink in this process, a cloud that answers it, and a broker that says what it is told to, for what a real one never says."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
from cryptography import x509
from outbox_writer import VEHICLE, Writer
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from cloud import pki as fleet
from edge.config import BrokerConfig, UploadConfig
from edge.identity import Identity, _tls
from edge.outbox import Batch, Lane, Outbox
from edge.streams import Record
from edge.uplink import Uplink
from wire.header import Header
from wire.receipts import Status, encode_receipt, receipt_tag
from wire.topics import UP_FILTER, WILL_FILTER, down


class Vehicle:
    """An outbox in memory and the uplink that empties it."""

    def __init__(self, pki: Path, port: int, upload: UploadConfig | None = None) -> None:
        if not (pki / "vehicles" / f"{VEHICLE}.pem").exists():
            fleet.vehicle(pki, VEHICLE)
        ca, pair = str(pki / "fleet-ca.pem"), [str(pki / "vehicles" / f"{VEHICLE}.{kind}") for kind in ("pem", "key")]
        certificate = x509.load_pem_x509_certificate(Path(pair[0]).read_bytes())
        identity = Identity(VEHICLE, certificate, fleet.load_key(Path(pair[1])), (), _tls(ca, *pair))
        self.outbox = Outbox(lambda most: most / 10)
        self.lock = threading.Lock()
        self.writer = Writer()
        self.uplink = Uplink(BrokerConfig(ca, pair[0], pair[1], "localhost", port), identity, self.outbox, self.lock, upload)
        self.cloud: Answering | None = None
        self._position = 0

    def record(self, *records: Record) -> None:
        """Into the outbox, as the store does when they are durable."""
        with self.lock:
            for record in records:
                header, position = record.sealed.header, -1
                if header.sequence:
                    position, self._position = self._position, self._position + 1
                self.outbox.put(Batch(header.stream, header.sequence, record.lane, position, record.sealed.data, record.sealed.tags))
        self.uplink.wake()

    def announce(self) -> None:
        self.record(self.writer.announcement())

    def rows(self, number: int, size: int = 100) -> None:
        self.record(*(self.writer.rows(size) for _ in range(number)))

    @property
    def held(self) -> int:
        with self.lock:
            return self.outbox.held

    @property
    def arrived(self) -> list[int]:
        """Sequences, as they came to the cloud."""
        assert self.cloud is not None
        return self.cloud.arrived

    def lanes(self) -> list[Lane]:
        with self.lock:
            return [batch.lane for batch in self.outbox._held.values()]


@contextmanager
def vehicle(pki: Path, port: int, upload: UploadConfig | None = None, *, cloud: int = 0) -> Iterator[Vehicle]:
    """Connecting, with its stream's announcement in the outbox; `cloud`: a broker's port at which somebody answers."""
    made = Vehicle(pki, port, upload)
    made.announce()
    if cloud:
        made.cloud = Answering(pki, cloud, made)
    made.uplink.start()
    try:
        yield made
    finally:
        made.uplink.stop(5.0)
        if made.cloud is not None:
            made.cloud.close()


class Answering:
    """The aggregator's place: receipts for everything, and what it heard."""

    def __init__(self, pki: Path, port: int, vehicle: Vehicle) -> None:
        self.arrived: list[int] = []
        self.wills: list[tuple[str, bytes]] = []
        self.answers = True
        self._key = vehicle.writer.sealer.key
        self._ready = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="aggregator", protocol=MQTTProtocolVersion.MQTTv5)
        self._client.tls_set(str(pki / "fleet-ca.pem"), str(pki / "aggregator.pem"), str(pki / "aggregator.key"))
        self._client.on_connect = lambda client, *_: client.subscribe([(UP_FILTER, 1), (WILL_FILTER, 1)])
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._take
        self._client.connect("localhost", port)
        self._client.loop_start()
        assert self._ready.wait(20)

    def _take(self, client: mqtt.Client, _: object, message: mqtt.MQTTMessage) -> None:
        if message.topic.endswith("/will"):
            self.wills.append((message.topic, message.payload))
            return
        header = Header.unpack(message.payload)
        self.arrived.append(header.sequence)
        if self.answers:
            tag = receipt_tag(self._key, header.pack(), Status.STORED)
            client.publish(down(header.vehicle), encode_receipt(header.stream, [(header.sequence, Status.STORED, tag)]), qos=1)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class ScriptedBroker:
    """Accepts one connection after the other over TLS and hands each to the script: reason codes that no real broker says on demand."""

    def __init__(self, pki: Path, script: Callable[[ssl.SSLSocket, int], None]) -> None:
        import socket

        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pki / "broker.pem", pki / "broker.key")
        self._context.load_verify_locations(pki / "fleet-ca.pem")
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connects: list[bytes] = []
        self._open: list[ssl.SSLSocket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        number = 0
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return  # closed: the test is over
            try:
                sock = self._context.wrap_socket(plain, server_side=True)
                self._open.append(sock)
                self.connects.append(sock.recv(4096))
                self._script(sock, number)
            except OSError:
                plain.close()
            number += 1

    def close(self) -> None:
        self._listener.close()
        for sock in self._open:
            sock.close()


def connack(code: int = 0, properties: bytes = b"") -> bytes:
    """MQTT 5.0, 3.2."""
    body = bytes([0, code, len(properties)]) + properties
    return bytes([0x20, len(body)]) + body


def disconnect(code: int) -> bytes:
    """MQTT 5.0, 3.14."""
    return bytes([0xE0, 2, code, 0])
