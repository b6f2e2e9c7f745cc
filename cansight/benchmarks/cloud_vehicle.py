"""One vehicle of `cloud_fleet`: a connection that costs little. MQTT 5 in TLS 1.3 through memory, so that all that has come is one system
call, whatever number of packets it is; what is read of them is PUBACKs and receipts."""

import socket
import ssl
import struct
from collections.abc import Callable
from typing import TypeVar

import mqtt5

from cansight.errors import WorkFailed
from simulator.fleet.keys import VehicleKeys
from wire.topics import down

__all__ = ["Vehicle", "publish"]

CONNECT_S = 20.0
KEEPALIVE_S = 1800  # nothing is said until all others are sealed, connected and opened; from then on a batch every other second
AGAIN_S, MOST_AGAIN_S = 5.0, 300.0  # as the agent's outbox: without a receipt a batch is sent again, then after twice as long
AT_ONCE = 16  # of these
READ_BYTES = 1 << 16
_PUBLISH, _PUBACK = 3, 4
_PUBLISH_QOS_1, _QOS = 0x32, 0x06
_FIRST_ID_AGAIN, _MAX_ID = 1 << 15, 65_535  # a packet's first id is its sequence plus one; what is sent again has one of these
_ID = struct.Struct(">H")
_ACKNOWLEDGE = struct.Struct(">BBH")
_RECEIPT = struct.Struct(">BB16sH")  # as wire.receipts has it; behind it ENTRY_BYTES for each batch, its sequence first
ENTRY_BYTES = 21

T = TypeVar("T")


def publish(topic: str, payload: bytes, packet_id: int) -> bytes:
    """A PUBLISH at QoS 1 without properties. MQTT 5, 3.3."""
    return mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id).write()


class Vehicle:
    """`Vehicle(keys, port, packets)` connects. packets: the PUBLISH of each sequence.

    sent: packets sent so far, from sequence 0 on. held: sequence -> (monotonic s at which it is sent again, s from then to the next time).
    """

    def __init__(self, keys: VehicleKeys, port: int, packets: list[bytes]) -> None:
        self.packets = packets
        self.sent = self.again = 0
        self.held: dict[int, tuple[float, float]] = {}
        self.receipts: list[bytes] = []
        self._read = self._out = b""
        self._next_id = _FIRST_ID_AGAIN
        try:
            self._socket = socket.create_connection(("127.0.0.1", port), CONNECT_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._arrived, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = keys.tls.wrap_bio(self._arrived, self._leaving, server_hostname="localhost")
            self._blocking(self._tls.do_handshake)
            self._tls.write(mqtt5.ConnectPacket(keys.vehicle, clean_start=True, keep_alive=KEEPALIVE_S).write())
            self._expect(mqtt5.ConnAckPacket)
            wanted = mqtt5.TopicFilter(down(keys.vehicle), max_qos=mqtt5.QoS.AT_LEAST_ONCE)
            self._tls.write(mqtt5.SubscribePacket(1, [wanted]).write())
            self._expect(mqtt5.SubAckPacket)
            self._socket.setblocking(False)
        except (OSError, ValueError) as error:
            raise WorkFailed(f"bench cloud: vehicle {keys.vehicle} cannot connect: {error}") from None

    def send(self, sequence: int, now_s: float) -> None:
        """This batch for the first time."""
        self.sent = sequence + 1
        self.held[sequence] = (now_s + AGAIN_S, 2 * AGAIN_S)
        self._send(self.packets[sequence])

    def look(self, now_s: float) -> None:
        """Take PUBACKs and receipts, acknowledge these, and send again what has waited for its receipt for too long."""
        if self._out:
            self._flush()
        if data := self._receive():
            self._take(data)
        if self.held and next(iter(self.held.values()))[0] <= now_s:
            for sequence in [one for one, (due_s, _) in self.held.items() if due_s <= now_s][:AT_ONCE]:
                self._send_again(sequence, now_s)

    def _send_again(self, sequence: int, now_s: float) -> None:
        _, pause_s = self.held.pop(sequence, (0.0, AGAIN_S))
        self.held[sequence] = (now_s + pause_s, min(2 * pause_s, MOST_AGAIN_S))
        self.again += 1
        packet = self.packets[sequence]
        start, _ = _body(packet, 0) or (0, 0)
        at = start + 2 + _ID.unpack_from(packet, start)[0]
        self._next_id = self._next_id + 1 if self._next_id < _MAX_ID else _FIRST_ID_AGAIN
        self._send(packet[:at] + _ID.pack(self._next_id) + packet[at + 2 :])

    def _send(self, data: bytes) -> None:
        self._tls.write(data)
        self._out += self._leaving.read()
        self._flush()

    def _flush(self) -> None:
        """What the socket does not take waits for the next look."""
        try:
            self._out = self._out[self._socket.send(self._out) :]
        except BlockingIOError:
            return

    def _receive(self) -> bytes:
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return b""
        if not data:
            raise WorkFailed("bench cloud: the broker closed a vehicle's connection")
        self._arrived.write(data)
        found = self._read
        try:
            while self._arrived.pending or self._tls.pending():
                found += self._tls.read(READ_BYTES)
        except ssl.SSLWantReadError:  # the rest of a record is still to come
            return found
        return found

    def _take(self, data: bytes) -> None:
        at = 0
        while (body := _body(data, at)) is not None:
            start, end = body
            kind = data[at] >> 4
            if kind == _PUBLISH:
                behind = start + 2 + _ID.unpack_from(data, start)[0]
                if data[at] & _QOS:
                    self._send(_ACKNOWLEDGE.pack(_PUBACK << 4, 2, _ID.unpack_from(data, behind)[0]))
                    behind += 2
                self._said(data[behind + 1 + data[behind] : end])  # behind the properties, of which there are less than 128 bytes
            elif kind != _PUBACK:
                raise WorkFailed(f"bench cloud: the broker sent a vehicle a packet of type {kind}")
            elif end - start > 2 and data[start + 2]:  # refused, or nobody is there to take it
                for sequence, (_, pause_s) in self.held.items():
                    self.held[sequence] = (0.0, pause_s)
            at = end
        self._read = data[at:]

    def _said(self, payload: bytes) -> None:
        if len(payload) < _RECEIPT.size:  # a request for the announcement
            self.held.pop(0, None)
            self.held = {0: (0.0, AGAIN_S)} | self.held
            return
        self.receipts.append(payload)
        for at in range(_RECEIPT.size, len(payload), ENTRY_BYTES):
            self.held.pop(int.from_bytes(payload[at : at + 4], "big"), None)

    def _blocking(self, step: Callable[[], T]) -> T:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._socket.sendall(self._leaving.read())
                if not (data := self._socket.recv(READ_BYTES)):
                    raise OSError("the broker hung up") from None
                self._arrived.write(data)

    def _expect(self, kind: type) -> None:
        data: bytes = self._blocking(lambda: self._tls.read(READ_BYTES))
        packet, _ = mqtt5.read(memoryview(data))
        if not isinstance(packet, kind):
            raise OSError(f"expected {kind.__name__}, found {packet}")


def _body(data: bytes, at: int) -> tuple[int, int] | None:
    """Where the body of the packet that begins there begins and ends; None while it is not whole. MQTT 5, 2.1.4."""
    size, shift = 0, 0
    for place in range(at + 1, min(at + 5, len(data))):
        size |= (data[place] & 0x7F) << shift
        shift += 7
        if data[place] < 0x80:
            end = place + 1 + size
            return (place + 1, end) if end <= len(data) else None
    return None
