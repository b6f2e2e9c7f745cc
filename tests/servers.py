"""Real servers for the tests: unprivileged, in a temporary folder, on a free loopback port, stopped by process id."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

READY_S = 30.0
SEARCH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))


def program(name: str, package: str) -> str:
    """The program's path. Without it the test is left out with that reason; under CI=true that is a failure."""
    found = shutil.which(name, path=SEARCH) if os.environ.get("CANSIGHT_INSTALL_SERVICES") != "no" else None
    if found is None:
        leave_out(f"{name} is not installed (Debian package {package})")
    assert found is not None
    return found


def leave_out(reason: str) -> None:
    """Skip with a reason; fail under CI=true, where nothing may be left out."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"under CI=true nothing is left out: {reason}")
    pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A process that listens on a port; `stop` is SIGTERM, `kill` is SIGKILL, `start` again keeps port and data."""

    def __init__(self, command: list[str], folder: Path, port: int, ready: Callable[[], bool] | None = None) -> None:
        self.command = command
        self.folder = folder
        self.host = "localhost"
        self.port = port
        self.log = folder / "server.log"
        self._ready = ready or self._listens
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_S
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                pytest.fail(f"{self.command[0]} did not start: {self.log_text[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    @property
    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class HttpServer(Server):
    """A server with a URL and a path that answers once it is ready."""

    def __init__(self, command: list[str], folder: Path, port: int, ping: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._ping = self.url + ping
        super().__init__(command, folder, port, self._answers)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self._ping, timeout=1):
                return True
        except (urllib.error.URLError, OSError):
            return False


def mosquitto(folder: Path, pki: Path) -> Server:
    from cloud.mosquitto_config import mosquitto_config

    path = program("mosquitto", "mosquitto")
    port = free_port()
    config = mosquitto_config(pki, folder, "127.0.0.1", port)
    return Server([path, "-v", "-c", str(config)], folder, port)


def embedded_broker(folder: Path, pki: Path) -> Server:
    port = free_port()
    command = [sys.executable, "-m", "cansight", "cloud", "broker", "--pki", str(pki), "--host", "localhost", "--port", str(port)]
    return Server(command, folder, port)


def influxdb(folder: Path) -> HttpServer:
    path = program("influxd", "influxdb")
    port, rpc = free_port(), free_port()
    config = folder / "influxdb.conf"
    config.write_text(
        f'reporting-disabled = true\nbind-address = "127.0.0.1:{rpc}"\n'
        f'[meta]\ndir = "{folder}/meta"\n[data]\ndir = "{folder}/data"\nwal-dir = "{folder}/wal"\nquery-log-enabled = false\n'
        f'[http]\nbind-address = "127.0.0.1:{port}"\nlog-enabled = false\n[monitor]\nstore-enabled = false\n'
    )
    return HttpServer([path, "-config", str(config)], folder, port, "/ping")


def victoria_metrics(folder: Path) -> HttpServer:
    path = program("victoria-metrics", "victoria-metrics")
    port = free_port()
    options = [
        f"-storageDataPath={folder}/data",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-retentionPeriod=100y",
        "-dedup.minScrapeInterval=1ms",
    ]
    return HttpServer([path, *options, "-loggerLevel=ERROR"], folder, port, "/health")
