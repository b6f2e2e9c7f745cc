"""Real servers for the tests: unprivileged, in a temporary folder, on a free loopback port, stopped by process id."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest

from cansight.ports import free_port as free_port

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


class Server:
    """A process that listens on a port; `stop` is SIGTERM, `kill` is SIGKILL, `start` again keeps port and data."""

    def __init__(
        self, command: list[str], folder: Path, port: int, ready: Callable[[], bool] | None = None, user: int | None = None
    ) -> None:
        self.command = command
        self.user = user  # the process's, where it is not ours
        self.folder = folder
        self.host = "localhost"
        self.port = port
        self.log = folder / "server.log"
        self._ready = ready or self._listens
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **_as(self.user)
            )
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


class Postgres(Server):
    """A PostgreSQL of one's own, which survives `kill` and `start`."""

    PASSWORD = "only for a test"

    def __init__(self, folder: Path) -> None:
        self._bin = _postgres_folder()
        # PostgreSQL will not run as root, and as nobody it cannot look into root's folders
        user = pwd.getpwnam("nobody").pw_uid if os.getuid() == 0 else None
        self._given = tempfile.TemporaryDirectory(prefix="cansight-postgres-") if user is not None else None
        home = Path(self._given.name) if self._given is not None else folder
        data, port = home / "data", free_port()
        options = {"fsync": "off", "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "100"}
        command = [f"{self._bin}/postgres", "-D", str(data), "-p", str(port)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        super().__init__(command, home, port, user=user)
        if user is not None:
            os.chown(home, user, -1)
        password = home / "password"
        password.write_text(self.PASSWORD)
        password.chmod(0o644)
        subprocess.run(
            [
                f"{self._bin}/initdb",
                "-D",
                str(data),
                "-U",
                "cansight",
                "-A",
                "scram-sha-256",
                f"--pwfile={password}",
                "--no-sync",
                "-E",
                "UTF8",
            ],
            check=True,
            capture_output=True,
            cwd=home,
            **_as(user),
        )
        self._ready = self._takes_connections

    def url(self, database: str = "postgres", password: bool = True) -> str:
        """As an operator writes it."""
        secret = f":{quote(self.PASSWORD)}" if password else ""
        return f"postgresql://cansight{secret}@127.0.0.1:{self.port}/{database}"

    def make(self, database: str) -> str:
        """A new empty database's address."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as db:
            db.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")  # type: ignore[call-overload]
            db.execute(f"CREATE DATABASE {database}")  # type: ignore[call-overload]
        return self.url(database)

    def stop(self) -> None:
        """At once, without waiting for clients ("fast shutdown")."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """With each connection's process: one that lived a moment longer would hold the shared memory, and the next start would fail."""
        children = psutil.Process(self.process.pid).children(recursive=True) if self.process is not None else []
        super().kill()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children, 30)

    def end(self) -> None:
        """For good."""
        self.stop()
        if self._given is not None:
            self._given.cleanup()

    def _takes_connections(self) -> bool:
        import psycopg

        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.url(), connect_timeout=5):
            return True
        return False


def _postgres_folder() -> Path:
    if os.environ.get("CANSIGHT_INSTALL_SERVICES") != "no":
        for found in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True):
            return found.parent
    leave_out("PostgreSQL is not installed (Debian package postgresql)")
    raise AssertionError("not reached")


def _as(user: int | None) -> dict[str, Any]:
    return {} if user is None else {"user": user, "group": user, "extra_groups": []}


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
