"""What systemd is told, over a real datagram socket."""

import os
import socket
from pathlib import Path

import pytest

from cansight.service import Service


@pytest.fixture
def systemd(tmp_path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(tmp_path / "notify"))
    listening.setblocking(False)
    return listening


def told(systemd: socket.socket) -> list[str]:
    said = []
    while True:
        try:
            said.append(systemd.recv(4096).decode())
        except BlockingIOError:
            return said


def test_ready_alive_and_stopping_are_told_and_alive_at_half_the_watchdog_time(systemd: socket.socket, tmp_path: Path) -> None:
    now = [100.0]
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    service = Service(environment, lambda: now[0])
    service.ready()
    for _ in range(40):
        service.alive()
        now[0] += 1.0
    service.stopping()
    said = told(systemd)
    assert said[0].startswith("READY=1\nMAINPID=")
    assert said[1:] == ["WATCHDOG=1"] * 3 + ["STOPPING=1"]


def test_another_process_s_watchdog_is_not_ours(systemd: socket.socket, tmp_path: Path) -> None:
    service = Service({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"})
    service.alive()
    assert told(systemd) == []


def test_without_systemd_nothing_is_told_and_nothing_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    service = Service({})
    service.ready()
    service.alive()
    gone = Service({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    gone.ready()
    gone.stopping()
    assert len(caplog.records) == 1


def test_an_abstract_socket_is_spoken_to() -> None:
    name = f"cansight-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        listening.settimeout(5)
        Service({"NOTIFY_SOCKET": f"@{name}"}).stopping()
        assert listening.recv(100) == b"STOPPING=1"
