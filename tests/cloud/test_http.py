"""Requests to a store's server: real sockets, real TLS, and servers that do not do what they should."""

import itertools
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloud.stores.http import HttpClient, HttpError

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Kind: a: b\r\n\r\nok"


class Server:
    """Answers each request it has read by `answer(request)`; None closes the connection."""

    def __init__(self, answer: Callable[[bytes], bytes | None], each: int | None, context: ssl.SSLContext | None) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self._answer = answer
        self._each = each  # requests of a connection
        self._context = context
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self.socket.accept()
            except OSError:
                return  # closed: the test has ended
            self.connections += 1
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        try:
            with self._context.wrap_socket(link, server_side=True) if self._context is not None else link as stream:
                for _ in range(self._each) if self._each is not None else itertools.count():
                    if (request := _read(stream)) is None:
                        return
                    self.requests.append(request)
                    answer = self._answer(request)
                    if answer is None:
                        return
                    stream.sendall(answer)
        except OSError:
            return  # the client went away, as it does where it does not trust us


def _read(stream: socket.socket) -> bytes | None:
    data = b""
    while b"\r\n\r\n" not in data:
        some = stream.recv(65536)
        if not some:
            return None
        data += some
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += stream.recv(65536)
    return head + b"\r\n\r\n" + body


@contextmanager
def served(answer: Callable[[bytes], bytes | None], each: int | None = None, context: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(answer, each, context)
    try:
        yield server
    finally:
        server.socket.close()


@pytest.fixture
def ok() -> Iterator[Server]:
    with served(lambda request: OK) as server:
        yield server


def test_one_connection_serves_many_requests_one_after_the_other(ok: Server) -> None:
    body = bytes(range(256)) * 4000  # a megabyte, more than a socket takes at once
    with HttpClient(f"http://127.0.0.1:{ok.port}", 10) as http:
        answers = [http.post("/write?db=a%20b", body, ("Authorization: Token t", "X-A: ü")) for _ in range(5)]
    assert {(answer.status, answer.body) for answer in answers} == {(200, b"ok")}
    assert ok.connections == 1
    head, _, sent = ok.requests[-1].partition(b"\r\n\r\n")
    assert sent == body
    assert head.startswith(b"POST /write?db=a%20b HTTP/1.1\r\n")
    assert b"Authorization: Token t" in head
    assert "X-A: ü".encode() in head
    assert b"expect" not in head.lower()


def test_each_thread_has_a_connection_while_it_asks() -> None:
    together = threading.Barrier(4)

    def answer(request: bytes) -> bytes:
        together.wait(10)  # none goes before all four are there
        return OK

    with served(answer) as server, HttpClient(f"http://127.0.0.1:{server.port}", 10) as http, ThreadPoolExecutor(4) as threads:
        assert [one.status for one in threads.map(lambda _: http.post("/", b"x"), range(4))] == [200] * 4
        assert server.connections == 4


def test_the_headers_of_a_get(ok: Server) -> None:
    with HttpClient(f"http://127.0.0.1:{ok.port}", 10) as http:
        answer = http.get("/ping")
    assert (answer.status, answer.headers["x-kind"]) == (200, "a: b")


def test_a_connection_that_the_server_has_closed_meanwhile_is_made_again() -> None:
    with served(lambda request: OK, each=1) as server, HttpClient(f"http://127.0.0.1:{server.port}", 10) as http:
        assert [http.post("/", b"x" * 100_000).status for _ in range(3)] == [200] * 3
        assert server.connections == 3


def test_a_certificate_is_checked(pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "broker.pem", pki / "broker.key")
    with served(lambda request: OK, context=context) as server:
        url = f"https://127.0.0.1:{server.port}"
        with HttpClient(url, 10) as http, pytest.raises(HttpError, match="certificate"):
            http.post("/", b"x")
        monkeypatch.setenv("SSL_CERT_FILE", str(pki / "fleet-ca.pem"))
        with HttpClient(url, 10) as http:
            assert http.post("/", b"x").status == 200
            assert http.get("/").status == 200
        assert server.connections == 3


@pytest.mark.parametrize("said", [None, b"", b"no HTTP at all\r\n\r\n"], ids=["closes", "says nothing", "another protocol"])
def test_no_answer_is_an_error_that_says_why_and_the_next_request_is_tried(said: bytes | None) -> None:
    def answer(request: bytes) -> bytes | None:
        return said if len(server.requests) == 1 else OK

    with served(answer) as server, HttpClient(f"http://127.0.0.1:{server.port}", 1) as http:
        with pytest.raises(HttpError) as raised:
            http.post("/", b"x", ("Authorization: Token hidden",))
        assert "\n" not in str(raised.value)
        assert str(raised.value)
        assert "hidden" not in str(raised.value)
        assert http.post("/", b"x").status == 200


def test_nobody_listens(unused_port: int) -> None:
    with HttpClient(f"http://127.0.0.1:{unused_port}", 10) as http, pytest.raises(HttpError, match="Connection refused"):
        http.post("/", b"x")


def test_a_redirection_is_not_followed_and_no_proxy_asked(ok: Server, monkeypatch: pytest.MonkeyPatch, unused_port: int) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused_port}")
    moved = f"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:{ok.port}/\r\nContent-Length: 0\r\n\r\n".encode()
    with served(lambda request: moved) as server, HttpClient(f"http://127.0.0.1:{server.port}", 10) as http:
        assert http.post("/", b"x").status == 307
    assert not ok.requests


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
    return port
