"""`/healthz`, `/readyz` and `/metrics` of the agent over HTTP, for whoever watches the telematics unit. No value of a signal is in them."""

import logging
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import TracebackType
from typing import Any, Self

import msgspec

from edge.errors import ConfigError
from edge.health import Status, troubles

PATIENCE_S = 10.0  # the loop comes round ten times a second; a slow flash may hold it for some seconds
CONNECTION_S = 2.0  # one connection at a time, so none may stay

log = logging.getLogger(__name__)


class HealthServer:
    """`with HealthServer("127.0.0.1:9464", status) as server` listens until its end; "" does not. Raises ConfigError.

    `beat` is called by the agent's loop; the status is read as it is then.
    """

    def __init__(self, listen: str, status: Status) -> None:
        self._listen = listen
        self._status = status
        self._beat_s = time.monotonic()
        self._server: HTTPServer | None = None
        self.port = 0

    def __enter__(self) -> Self:
        if not self._listen:
            return self
        host, _, port = self._listen.rpartition(":")
        try:
            self._server = HTTPServer((host.strip("[]"), int(port)), partial(_Handler, self))
        except (OSError, OverflowError) as error:
            raise ConfigError(f"health.listen: {self._listen}: cannot listen: {getattr(error, 'strerror', None) or error}") from error
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 1.0}, name="health", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._server is not None:
            threading.Thread(target=self._server.shutdown, daemon=True).start()  # waits for a poll; the end of the agent does not
            self._server.socket.close()

    def beat(self, now_s: float) -> None:
        """The agent's loop came round."""
        self._beat_s = now_s

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status code, content type and body."""
        if path == "/metrics":
            from edge.metrics import CONTENT_TYPE, exposition  # 3 MB that an agent without an address to listen on does without

            return 200, CONTENT_TYPE, exposition(self._status)
        dead, unready = troubles(self._status, time.monotonic() - self._beat_s, PATIENCE_S)
        if path not in ("/healthz", "/readyz"):
            return 404, "application/json", msgspec.json.encode({"error": "expected /healthz, /readyz or /metrics"})
        found = dead if path == "/healthz" else unready
        return (503 if found else 200), "application/json", msgspec.json.encode({"ok": not found, "problems": found})


class _Handler(BaseHTTPRequestHandler):
    timeout = CONNECTION_S
    server_version, sys_version = "cansight", ""

    def __init__(self, health: HealthServer, *connection: Any) -> None:
        self.health = health
        super().__init__(*connection)  # answers the request

    def do_GET(self) -> None:
        code, kind, body = self.health.answer(self.path.partition("?")[0])
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        log.debug(format, *args)
