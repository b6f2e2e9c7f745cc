"""One vehicle's connection: a non-blocking TLS socket that speaks MQTT 5, driven by somebody else's epoll.

    TCP ─▶ TLS handshake ─▶ CONNECT ─▶ SUBSCRIBE to its down topic ─▶ open

Thousands of them share a thread: nothing here waits. The packets are mqtt5's, which reads and writes bytes and knows no socket.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

import mqtt5

from wire.topics import down, up

__all__ = ["Endpoint", "Link", "Listener"]

KEEPALIVE_S = 30
SESSION_S = 3600  # as the agent asks for: receipts that come while the vehicle is in a tunnel wait this long at the broker
PING_S = 20.0
SILENCE_S = 1.5 * KEEPALIVE_S
READ_BYTES = 16_384  # a TLS record
_MAX_PACKET_ID = 65_535
_LINGER_NOT = struct.pack("ii", 1, 0)  # close() resets the connection, as a network that is gone does, and leaves nothing in TIME_WAIT
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT


class _State(IntEnum):
    TCP = 0
    TLS = 1
    MQTT = 2
    OPEN = 3
    CLOSED = 4


class Endpoint:
    """A broker's address, resolved once: 3,000 vehicles must not ask the name server 3,000 times."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.family: int = socket.AF_INET
        self.address: tuple[str | bytes | int, ...] = (host, port)

    def choose(self, family: int, address: tuple[str | bytes | int, ...]) -> None:
        self.family, self.address = family, address


class Listener(Protocol):
    """Whose connection it is."""

    def opened(self, now_s: float) -> None: ...

    def acknowledged(self, packet_id: int, reason: int, now_s: float) -> None:
        """The broker's PUBACK."""

    def heard(self, payload: bytes, now_s: float) -> None:
        """A message on the down topic."""

    def closed(self, reason: str, now_s: float) -> None:
        """It ended by itself; not called after `abort` or `goodbye`."""


class Link:
    """`start`, then `event` whenever epoll says so. `watch(fd, mask)` sets what epoll waits for; mask 0 takes the socket out."""

    def __init__(
        self, vehicle: str, tls: ssl.SSLContext, endpoint: Endpoint, listener: Listener, watch: Callable[[Link, int, int], None]
    ) -> None:
        self._vehicle = vehicle
        self._tls = tls
        self._endpoint = endpoint
        self._listener = listener
        self._watch = watch
        self._topic = up(vehicle)
        self._state = _State.TCP
        self._socket: socket.socket | None = None
        self._secure: ssl.SSLSocket | None = None
        self._mask = 0
        self._out = bytearray()
        self._in = b""
        self._packet_id = 0
        self.sent_s = self.read_s = 0.0
        self.began_s = 0.0
        self.receive_max = 65_535  # messages without a PUBACK that the broker allows

    @property
    def open(self) -> bool:
        return self._state is _State.OPEN

    def start(self, now_s: float) -> None:
        """Begin to connect."""
        self.began_s = self.sent_s = self.read_s = now_s
        try:
            self._socket = socket.socket(self._endpoint.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            # Without it Nagle's algorithm holds a batch back until the one before it is acknowledged.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            code = self._socket.connect_ex(self._endpoint.address)
        except OSError as error:
            self._fail(error.strerror or str(error), now_s)
            return
        if code not in (0, errno.EINPROGRESS):
            self._fail(os.strerror(code), now_s)
            return
        self._want(_OUT)

    def event(self, mask: int, now_s: float) -> None:
        """epoll says that the socket can be read or written, or has ended."""
        try:
            if self._state is _State.TCP:
                self._connected(now_s)
            elif self._state is _State.TLS:
                self._shake(now_s)
            elif self._state is not _State.CLOSED:
                if mask & _OUT:
                    self._flush()
                if mask & ~_OUT:
                    self._read(now_s)
        except (OSError, ValueError) as error:  # ValueError: a packet that is none
            self._fail(_one_line(error), now_s)

    def publish(self, payload: bytes, now_s: float) -> int | None:
        """Send at QoS 1; returns the packet's id, None when the connection broke meanwhile (`closed` was called)."""
        self._packet_id = self._packet_id % _MAX_PACKET_ID + 1
        packet = mqtt5.PublishPacket(self._topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=self._packet_id)
        return self._packet_id if self._send(packet.write(), now_s) else None

    def keep(self, now_s: float) -> None:
        """Ping when nothing was sent for long; end a connection on which nothing comes back."""
        if self._state is not _State.OPEN:
            return
        if now_s - self.read_s > SILENCE_S:
            self._fail(f"the broker is silent for {SILENCE_S:.0f} s", now_s)
        elif now_s - self.sent_s > PING_S:
            self._send(mqtt5.PingReqPacket().write(), now_s)

    def abort(self) -> None:
        """The network is gone: no goodbye."""
        self._close()

    def goodbye(self) -> None:
        """DISCONNECT, and close."""
        if self._state is _State.OPEN and self._secure is not None:
            with contextlib.suppress(OSError):  # it is closed in any case
                self._secure.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))  # the last bytes still go out
                self._out += mqtt5.DisconnectPacket().write()
                self._flush()
        self._close()

    def _connected(self, now_s: float) -> None:
        assert self._socket is not None
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._fail(os.strerror(code), now_s)
            return
        self._secure = self._tls.wrap_socket(self._socket, server_hostname=self._endpoint.host, do_handshake_on_connect=False)
        self._state = _State.TLS
        self._shake(now_s)

    def _shake(self, now_s: float) -> None:
        assert self._secure is not None
        try:
            self._secure.do_handshake()
        except ssl.SSLWantReadError:
            self._want(_IN)
            return
        except ssl.SSLWantWriteError:
            self._want(_OUT)
            return
        self._state = _State.MQTT
        self._want(_IN)
        connect = mqtt5.ConnectPacket(self._vehicle, clean_start=False, keep_alive=KEEPALIVE_S, session_expiry_interval=SESSION_S)
        self._send(connect.write(), now_s)

    def _send(self, data: bytes, now_s: float) -> bool:
        self.sent_s = now_s
        self._out += data
        try:
            self._flush()
        except OSError as error:
            self._fail(_one_line(error), now_s)
            return False
        return True

    def _flush(self) -> None:
        assert self._secure is not None
        while self._out:
            try:
                sent = self._secure.send(self._out)
            except ssl.SSLWantWriteError:
                self._want(_IN | _OUT)
                return
            del self._out[:sent]
        self._want(_IN)

    def _read(self, now_s: float) -> None:
        assert self._secure is not None
        while True:
            try:
                data = self._secure.recv(READ_BYTES)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            if not data:
                self._fail("the broker closed the connection", now_s)
                return
            self.read_s = now_s
            self._in = self._in + data if self._in else data
            self._packets(now_s)
            if self._state is _State.CLOSED or not self._secure.pending():
                return

    def _packets(self, now_s: float) -> None:
        view = memoryview(self._in)
        at = 0
        answer = b""
        while at < len(view) and self._state is not _State.CLOSED:
            try:
                packet, size = mqtt5.read(view[at:])
            except IndexError:  # the rest of it is still to come
                break
            at += size
            if isinstance(packet, mqtt5.PublishPacket):
                if packet.packet_id is not None:
                    answer += mqtt5.PubAckPacket(packet.packet_id).write()
                self._listener.heard(bytes(packet.payload), now_s)
            elif isinstance(packet, mqtt5.PubAckPacket):
                self._listener.acknowledged(packet.packet_id, int(packet.reason_code), now_s)
            else:
                self._control(packet, now_s)
        self._in = bytes(view[at:])
        if answer and self._state is not _State.CLOSED:
            self._send(answer, now_s)

    def _control(self, packet: object, now_s: float) -> None:
        if isinstance(packet, mqtt5.ConnAckPacket):
            if packet.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
                self._fail(f"refused: {packet.reason_code.name}", now_s)
                return
            self.receive_max = packet.receive_max
            wanted = mqtt5.TopicFilter(down(self._vehicle), max_qos=mqtt5.QoS.AT_LEAST_ONCE)
            self._packet_id += 1
            self._send(mqtt5.SubscribePacket(self._packet_id, [wanted]).write(), now_s)
        elif isinstance(packet, mqtt5.SubAckPacket):
            if int(packet.reason_codes[0]) >= 0x80:
                self._fail(f"may not subscribe to {down(self._vehicle)}", now_s)
                return
            self._state = _State.OPEN
            self._listener.opened(now_s)
        elif isinstance(packet, mqtt5.DisconnectPacket):
            self._fail(f"disconnected: {packet.reason_code.name}", now_s)

    def _want(self, mask: int) -> None:
        if mask != self._mask and self._state is not _State.CLOSED:
            self._mask = mask
            self._watch(self, self.fileno(), mask)

    def fileno(self) -> int:
        sock = self._secure or self._socket
        assert sock is not None
        return sock.fileno()

    def _fail(self, reason: str, now_s: float) -> None:
        if self._state is not _State.CLOSED:
            self._close()
            self._listener.closed(reason, now_s)

    def _close(self) -> None:
        if self._state is _State.CLOSED:
            return
        sock = self._secure or self._socket
        if sock is not None:
            if self._mask:
                self._watch(self, sock.fileno(), 0)
            sock.close()
        self._state = _State.CLOSED


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
