"""The broker of a benchmark, a real mosquitto, and behind it the least cloud that gives receipts."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from cansight.errors import WorkFailed
from cansight.ports import free_port

READY_S = 60.0
SEARCH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))


def find_mosquitto(benchmark: str) -> str | None:
    """Its path; None, and a line that says so, where it is not installed."""
    found = shutil.which("mosquitto", path=SEARCH)
    if found is None:
        click.echo(f"{benchmark}: left out, mosquitto is not installed (Debian package mosquitto)", err=True)
    return found


@contextlib.contextmanager
def mosquitto(folder: Path, program: str) -> Iterator[tuple[Path, int, int]]:
    """PKI folder, port and process id of a mosquitto as `cansight cloud mosquitto` sets it up. Raises WorkFailed when it does not start."""
    from cloud import pki as keys
    from cloud.mosquitto_config import mosquitto_config

    pki = folder / "pki"
    keys.init(pki)
    port = free_port()
    config = mosquitto_config(pki, folder, "127.0.0.1", port)
    command = [program, "-c", str(config)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as broker:
        try:
            deadline_s = time.monotonic() + READY_S
            while not _listens(port):
                if broker.poll() is not None or time.monotonic() > deadline_s:
                    raise WorkFailed(f"bench: {program} did not start")
                time.sleep(0.05)
            yield pki, port, broker.pid
        finally:
            broker.terminate()


@contextlib.contextmanager
def broker_and_receipts(folder: Path, program: str, pids: list[int] | None = None) -> Iterator[tuple[Path, int]]:
    """PKI folder and port of a mosquitto, and behind it the cloud that gives receipts.

    pids: those of the two are put there. Raises WorkFailed when one does not start.
    """
    with contextlib.ExitStack() as stack:
        pki, port, broker = stack.enter_context(mosquitto(folder, program))
        command = [sys.executable, "-m", "cansight.benchmarks.fleet_cloud", str(pki), str(port)]
        cloud = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(cloud.kill)
        assert cloud.stdout is not None
        if cloud.stdout.readline().strip() != "ready":
            raise WorkFailed("bench: the side that gives receipts did not start")
        if pids is not None:
            pids += [broker, cloud.pid]
        yield pki, port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
