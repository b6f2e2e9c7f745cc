"""A link that fails: a TCP proxy on loopback between a client and a real server, with every fault that a mobile network has.

    with LinkProxy(server.port) as link:
        client.connect("localhost", link.port)
        link.latency_s = 0.3                  bytes come later
        link.bytes_per_s = 1                  and slowly
        link.reset()                          RST to both ends
        link.cut(up=50)                       RST as soon as 50 more bytes have gone up: in the middle of a packet
        link.half_open()                      the server's end is closed, and the client is never told
        link.freeze() ... link.thaw()         no coverage: nothing passes, SYNs get no answer once the kernel's queue is full; what was
                                              connected before stays dead, as behind a NAT that has forgotten it
        link.refuse() ... link.listen()       nobody listens

One thread with an event loop owns every socket. Bytes are never altered, and each direction's order is kept: TCP promises that.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from cansight.ports import free_port

CHUNK = 65536
QUEUE = 64  # chunks on the way in one direction
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


@dataclass(eq=False)
class _Pair:
    """One connection: the client's end and the server's."""

    client: socket.socket
    server: socket.socket
    dead: bool = False  # bytes are read and thrown away
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class LinkProxy:
    """`latency_s` (each way) and `bytes_per_s` (each way, 0: as fast as it goes) may be set at any time."""

    def __init__(self, target_port: int, target_host: str = "127.0.0.1") -> None:
        self.latency_s = 0.0
        self.bytes_per_s = 0.0
        self.connections = 0  # since the start
        self.bytes_up = 0
        self.bytes_down = 0
        self.port = free_port()
        self._target = (target_host, target_port)
        self._pairs: set[_Pair] = set()
        self._cut: dict[str, int] = {}  # direction -> bytes that still pass
        self._frozen = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="link", daemon=True)
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._do(self._refuse)
        self._do(self._reset)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(asyncio.sleep(0))  # cancelled tasks end
        self._loop.close()

    @property
    def open_connections(self) -> int:
        return len(self._pairs)

    def reset(self) -> None:
        """RST to both ends of every connection."""
        self._do(self._reset)

    def hang_up(self) -> None:
        """FIN to both ends of every connection."""
        self._do(lambda: [self._close(pair) for pair in list(self._pairs)])

    def cut(self, *, up: int = -1, down: int = -1) -> None:
        """RST once so many more bytes have passed in that direction, counted over all connections from now on."""
        self._cut = {way: count for way, count in (("up", up), ("down", down)) if count >= 0}

    @property
    def cut_done(self) -> bool:
        return not self._cut

    def half_open(self) -> None:
        """Every server's end is closed; the clients' ends stay open, take bytes and say nothing more."""
        self._do(self._half_open)

    def freeze(self) -> None:
        """Nothing passes any more, and nobody is told."""
        self._frozen = True
        self._do(self._pause)

    def thaw(self) -> None:
        """New connections work; those from before the frost stay dead."""
        self._frozen = False
        self._do(self._resume)

    def refuse(self) -> None:
        """Nobody listens on the port; connections are reset."""
        self._do(self._refuse)
        self._do(self._reset)

    def listen(self) -> None:
        """On the same port again."""
        self._do(self._listen)

    def heal(self) -> None:
        """No more faults; dead connections stay dead."""
        self.latency_s = self.bytes_per_s = 0.0
        self._cut.clear()
        self.thaw()
        if self._listener is None:
            self.listen()

    def _do(self, action: Callable[[], object]) -> None:
        async def run() -> None:
            action()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def _listen(self) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen(1)  # a small queue: when nobody accepts it is full soon, and a SYN then gets no answer
        self._listener.setblocking(False)
        self._resume()

    def _refuse(self) -> None:
        self._pause()
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _pause(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            self._accepting = None
        for pair in self._pairs:
            pair.dead = True

    def _resume(self) -> None:
        if self._listener is not None and not self._frozen and self._accepting is None:
            self._accepting = self._loop.create_task(self._accept(self._listener))

    def _reset(self) -> None:
        for pair in list(self._pairs):
            for end in (pair.client, pair.server):
                with contextlib.suppress(OSError):  # closed already
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._close(pair)

    def _half_open(self) -> None:
        for pair in self._pairs:
            pair.dead = True
            with contextlib.suppress(OSError):  # the server was faster
                pair.server.shutdown(socket.SHUT_RDWR)

    def _close(self, pair: _Pair) -> None:
        self._pairs.discard(pair)
        for task in pair.tasks:
            task.cancel()
        for end in (pair.client, pair.server):
            if end.fileno() >= 0:
                self._loop.remove_reader(end)  # before its number is another socket's
                self._loop.remove_writer(end)
                end.close()

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            client, _ = await self._loop.sock_accept(listener)
            client.setblocking(False)
            server = socket.socket()
            server.setblocking(False)
            try:
                await self._loop.sock_connect(server, self._target)
            except OSError:
                client.close()
                server.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            pair = _Pair(client, server)
            self._pairs.add(pair)
            for way, source, sink in (("up", client, server), ("down", server, client)):
                queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUE)
                pair.tasks.add(self._loop.create_task(self._read(pair, source, queue)))
                pair.tasks.add(self._loop.create_task(self._write(pair, sink, queue, way)))

    async def _read(self, pair: _Pair, source: socket.socket, queue: asyncio.Queue[tuple[float, bytes]]) -> None:
        data = b"-"
        while data:
            try:
                data = await self._loop.sock_recv(source, CHUNK)
            except OSError:
                data = b""
            await queue.put((self._loop.time() + self.latency_s, data))

    async def _write(self, pair: _Pair, sink: socket.socket, queue: asyncio.Queue[tuple[float, bytes]], way: str) -> None:
        try:
            while True:
                at_s, data = await queue.get()
                await asyncio.sleep(max(0.0, at_s - self._loop.time()))
                if not data:  # the end; a client's is a dead connection's end, too
                    if not pair.dead or way == "up":
                        self._close(pair)
                        return
                    continue
                while data and not pair.dead:
                    size = max(1, int(self.bytes_per_s / 20)) if self.bytes_per_s else CHUNK
                    if self.bytes_per_s:
                        await asyncio.sleep(min(size, len(data)) / self.bytes_per_s)
                    piece, data = data[:size], data[size:]
                    if not pair.dead and await self._carry(piece, sink, way):
                        self._reset()
                        return
        except OSError:
            self._close(pair)

    async def _carry(self, piece: bytes, sink: socket.socket, way: str) -> bool:
        """Whether the cut was in it."""
        left = self._cut.get(way)
        if left is not None:
            piece = piece[:left]
            self._cut[way] = left - len(piece)
        await self._loop.sock_sendall(sink, piece)
        self.bytes_up += len(piece) if way == "up" else 0
        self.bytes_down += len(piece) if way == "down" else 0
        if left is None or self._cut[way]:
            return False
        del self._cut[way]
        return True
