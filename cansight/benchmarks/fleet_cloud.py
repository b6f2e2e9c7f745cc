"""The least cloud that a fleet needs: it opens announcements and answers every batch with its receipt, and stores nothing.

The aggregator's place in a measurement of the fleet alone: `python -m cansight.benchmarks.fleet_cloud PKI PORT`. One blocking socket. It
says `ready` when it is subscribed, and is ended by its parent.
"""

import socket
import ssl
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import mqtt5
from cryptography import x509

from wire.envelope import read_announcement
from wire.errors import FormatError
from wire.header import HEADER_BYTES, Header
from wire.receipts import Status, encode_receipt, receipt_key, tag_for
from wire.recipients import RecipientKey, load_recipient_keys
from wire.topics import UP_FILTER, down

KEEPALIVE_S = 0  # none: it ends with its parent
READ_BYTES = 1 << 18
_MAX_PACKET_ID = 65_535


class Receipts:
    """Receipts for what arrives."""

    def __init__(self, keys: dict[bytes, RecipientKey], ca: x509.Certificate) -> None:
        self._keys = keys
        self._ca = ca
        self._tag_keys: dict[bytes, bytes] = {}
        self._packet_id = 0

    def answer(self, packet: mqtt5.Packet) -> bytes:
        """The bytes to send back."""
        if isinstance(packet, mqtt5.ConnAckPacket):
            return mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(UP_FILTER, max_qos=mqtt5.QoS.AT_LEAST_ONCE)]).write()
        if isinstance(packet, mqtt5.SubAckPacket):
            sys.stdout.write("ready\n")
            sys.stdout.flush()
        if not isinstance(packet, mqtt5.PublishPacket) or packet.packet_id is None:
            return b""
        acknowledgement = mqtt5.PubAckPacket(packet.packet_id).write()
        data = bytes(packet.payload)
        try:
            header = Header.unpack(data)
        except FormatError:  # the rival's JSON: acknowledged and no more
            return acknowledgement
        if header.sequence == 0:
            self._tag_keys[header.stream] = receipt_key(read_announcement(data, self._keys, self._ca, datetime.now(UTC)).key)
        tag_key = self._tag_keys.get(header.stream)
        if tag_key is None:
            return acknowledgement  # of a fleet before this process; it is sent again until somebody gives up
        tag = tag_for(tag_key, data[:HEADER_BYTES], Status.STORED)
        receipt = encode_receipt(header.stream, [(header.sequence, Status.STORED, tag)])
        self._packet_id = self._packet_id % _MAX_PACKET_ID + 1
        topic = down(header.vehicle)
        return acknowledgement + mqtt5.PublishPacket(topic, receipt, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=self._packet_id).write()


def main(arguments: list[str]) -> None:
    """Until it is ended."""
    pki, port = Path(arguments[0]), int(arguments[1])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=pki / "fleet-ca.pem")
    context.load_cert_chain(pki / "aggregator.pem", pki / "aggregator.key")
    receipts = Receipts(load_recipient_keys([pki / "recipient.key"]), x509.load_pem_x509_certificate((pki / "fleet-ca.pem").read_bytes()))
    with socket.create_connection(("localhost", port)) as plain, context.wrap_socket(plain, server_hostname="localhost") as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(mqtt5.ConnectPacket("aggregator", clean_start=True, keep_alive=KEEPALIVE_S).write())
        for packets in _packets(sock):
            if answer := b"".join(map(receipts.answer, packets)):
                sock.sendall(answer)


def _packets(sock: ssl.SSLSocket) -> Iterator[list[mqtt5.Packet]]:
    kept = b""
    while data := sock.recv(READ_BYTES):
        kept += data
        view, at, found = memoryview(kept), 0, []
        while at < len(view):
            try:
                packet, size = mqtt5.read(view[at:])
            except IndexError:  # the rest of it is still to come
                break
            at += size
            found.append(packet)
        kept = bytes(view[at:])
        yield found


if __name__ == "__main__":
    main(sys.argv[1:])
