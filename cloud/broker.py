"""A broker in this process for the demonstration, with the rules of the mosquitto for production (mosquitto_config.py).

Whoever connects has a certificate of the fleet's CA that is not revoked; its common name is the client id and decides the topics: a
vehicle writes its own `up`, `renew` and `will` and reads its own `down` and `certificate`, the aggregator reads every `up` and `will` and
writes every `down`, the registrar reads every `renew` and writes every `certificate`.
"""

import asyncio
import logging
import re
import ssl
from pathlib import Path
from typing import Any

from amqtt.adapters import BufferReader, ReaderAdapter, WriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import Action, ListenerConfig
from amqtt.contexts import BrokerConfig as AmqttConfig
from amqtt.errors import AMQTTError, BrokerError, MQTTError, NoDataError
from amqtt.mqtt.connack import IDENTIFIER_REJECTED, UNACCEPTABLE_PROTOCOL_VERSION, ConnackPacket
from amqtt.mqtt.connect import ConnectPacket
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.session import Session

from cloud.errors import CloudError
from cloud.mosquitto_config import NEEDED, REGISTRAR, require
from cloud.replica_names import AGGREGATOR
from wire.errors import WireError
from wire.topics import CERTIFICATE_FILTER, DOWN_FILTER, RENEW_FILTER, UP_FILTER, WILL_FILTER, certificate, down, renew, up, will

CONNECT_S = 10.0  # for a client to say who it is
MAX_CONNECT_BYTES = 4096
# what they read, what they write
_SERVICES = {AGGREGATOR: ((UP_FILTER, WILL_FILTER), DOWN_FILTER), REGISTRAR: ((RENEW_FILTER,), CERTIFICATE_FILTER)}

log = logging.getLogger(__name__)


def may(client: str, action: Action, topic: str) -> bool:
    """The rules, for a client whose certificate says it is `client`."""
    if client in _SERVICES:
        reads, writes = _SERVICES[client]
        if action is Action.PUBLISH:
            return _is_one_of(writes, topic)
        return topic in reads or any(_is_one_of(filter_, topic) for filter_ in reads)
    try:
        return topic in ((up(client), renew(client), will(client)) if action is Action.PUBLISH else (down(client), certificate(client)))
    except WireError:
        return False  # its name is no vehicle's


def _is_one_of(filter_: str, topic: str) -> bool:
    return re.fullmatch(filter_.replace("+", "[0-9a-f]{16}"), topic, re.ASCII) is not None


class EmbeddedBroker:
    """`async with EmbeddedBroker(pki_folder, host, port) as broker`: amqtt with the rules above. MQTT 3.1.1, sessions in memory."""

    def __init__(self, pki_folder: Path, host: str, port: int) -> None:
        self.pki_folder = pki_folder
        self.host = host
        self.port = port
        self._broker: _Broker | None = None

    async def __aenter__(self) -> "EmbeddedBroker":
        require(self.pki_folder)
        _server_context(*(str(self.pki_folder / name) for name in NEEDED))
        for noisy in ("amqtt", "transitions"):
            # per-connection chatter, and a traceback for each client that goes away in the middle of a message
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        listener = ListenerConfig(
            bind=f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}",
            ssl=True,
            cafile=str(self.pki_folder / "fleet-ca.pem"),
            certfile=str(self.pki_folder / "broker.pem"),
            keyfile=str(self.pki_folder / "broker.key"),
        )
        self._broker = _Broker(AmqttConfig(listeners={"default": listener}, plugins={}))
        try:
            await self._broker.start()
        except BrokerError as error:
            reason = error.__cause__.strerror if isinstance(error.__cause__, OSError) else error
            raise CloudError(f"broker {self.host}:{self.port}: cannot listen: {reason}") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._broker is not None:
            await self._broker.shutdown()
            self._broker = None


class _Broker(Broker):  # type: ignore[misc]  # amqtt is not typed
    """amqtt, closed where it is open by default. The tests connect with wrong certificates, names, topics, wills and retained messages,
    because what is overridden here are not all public names."""

    @staticmethod
    def _create_ssl_context(listener: ListenerConfig) -> ssl.SSLContext:
        return _server_context(listener.cafile, str(Path(listener.cafile).with_suffix(".crl")), listener.certfile, listener.keyfile)

    async def _client_connected(self, listener_name: str, reader: ReaderAdapter, writer: WriterAdapter) -> None:
        try:
            await super()._client_connected(listener_name, reader, writer)
        except OSError as error:  # amqtt lets it through, and asyncio would log a traceback
            log.debug("a client went away: %s", error)

    async def _initialize_client_session(
        self, reader: ReaderAdapter, writer: WriterAdapter, remote_address: str, remote_port: int
    ) -> tuple[BrokerProtocolHandler, Session]:
        """Compare client id and certificate before amqtt looks at its sessions: it would end another client's of the same id first."""
        packet = await _connect_packet(reader, writer)
        name = _common_name(writer)
        _, found, version = packet.partition(b"\0\4MQTT")
        if found and version[:1] != b"\4":
            await ConnackPacket.build(0, UNACCEPTABLE_PROTOCOL_VERSION).to_stream(writer)
            await writer.close()
            raise MQTTError("only MQTT 3.1.1 is spoken here")
        try:
            client = (await ConnectPacket.from_stream(BufferReader(packet))).client_id
        except (AMQTTError, MQTTError, NoDataError, ValueError, UnicodeDecodeError, IndexError) as error:
            await writer.close()
            raise MQTTError(f"not a CONNECT packet: {error}") from error
        if client != name:
            log.warning("refused client id %r with the certificate of %r", str(client)[:64], name[:64])
            await ConnackPacket.build(0, IDENTIFIER_REJECTED).to_stream(writer)
            await writer.close()
            raise MQTTError("the client id is not the certificate's name")
        handler, session = await super()._initialize_client_session(BufferReader(packet), writer, remote_address, remote_port)
        return handler, session

    async def _authenticate(self, session: Session, _: ListenerConfig) -> bool:
        return session.client_id is not None  # its certificate was compared above

    async def _topic_filtering(self, session: Session, topic: str, action: Action) -> bool:
        allowed = may(session.client_id or "", action, topic)
        if not allowed:
            log.warning("refused %s to %s %s", session.client_id, action.value, topic[:80])
        return allowed

    async def _broadcast_message(self, session: Session | None, topic: str | None, data: Any, force_qos: int | None = None) -> None:
        """A will comes this way without having been asked about."""
        if session is not None and topic is not None and may(session.client_id or "", Action.PUBLISH, topic):
            await super()._broadcast_message(session, topic, data, force_qos)

    async def retain_message(self, *_: Any, **__: Any) -> None:
        """Nothing is retained: amqtt hands retained messages to clients that may not read them."""


def _server_context(ca: str, revoked: str, certificate: str, key: str) -> ssl.SSLContext:
    """TLS 1.3 and a certificate of every client: amqtt's own context takes a client without one. Raises CloudError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise CloudError(f"{ca}: expected the fleet CA's certificate (PEM); the file is not one") from error
    try:
        context.load_verify_locations(cafile=revoked)
    except (OSError, ssl.SSLError) as error:
        raise CloudError(f"{revoked}: expected the fleet's revocation list (PEM); `cansight pki revoke` writes it anew") from error
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise CloudError(f"{certificate} and {key}: are not a certificate and its key; both are of one `cansight pki init`") from error
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def _connect_packet(reader: ReaderAdapter, writer: WriterAdapter) -> bytes:
    """The first packet's bytes, bounded in size and time."""
    try:
        async with asyncio.timeout(CONNECT_S):
            packet: bytes = await reader.read(1)
            length = shift = 0
            while True:
                octet = await reader.read(1)
                packet += octet
                length |= (octet[0] & 0x7F) << shift
                shift += 7
                if not octet[0] & 0x80:
                    break
                if shift > 21:
                    raise MQTTError("the first packet's length is malformed")
            if length > MAX_CONNECT_BYTES:
                raise MQTTError(f"the first packet has {length} bytes")
            body: bytes = await reader.read(length)
            return packet + body
    except (TimeoutError, EOFError, IndexError, OSError, MQTTError) as error:
        await writer.close()
        raise MQTTError(f"no CONNECT packet: {error}") from error


def _common_name(writer: WriterAdapter) -> str:
    """The verified client certificate's only common name, or nothing."""
    connection = writer.get_ssl_info()
    certificate = connection.getpeercert() if connection is not None else None
    subject = (certificate or {}).get("subject", ())
    names = [value for part in subject for key, value in part if key == "commonName"]
    return str(names[0]) if len(names) == 1 else ""
