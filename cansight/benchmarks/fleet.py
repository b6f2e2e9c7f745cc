"""`sim fleet` against a real mosquitto: 3,000 vehicles from one process; processor time a batch against a paho client and thread each."""

import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from cansight.benchmarks.material import Material
from cansight.benchmarks.result import Result
from cansight.errors import WorkFailed

VEHICLES = 3000
SECONDS = 20
SIGNALS = 200
RIVALS = 300  # threads of a rival process: thousands do not come up on two cores; its time a batch grows with them
RIVAL_SECONDS = 10
TURNS = 3
ON_TIME = 0.98  # of the nominal rate: what a run of 20 s reaches with its last batch receipted
READY_S = 60.0
SEARCH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))


def fleet(_: Material) -> list[Result]:
    """Every batch of ours is sealed and receipted, its tag checked; the rival's only acknowledged. Left out where there is no mosquitto."""
    mosquitto = shutil.which("mosquitto", path=SEARCH)
    if mosquitto is None:
        click.echo("fleet: left out, mosquitto is not installed (Debian package mosquitto)", err=True)
        return []
    from cansight.commands.sim_fleet import issue
    from simulator.fleet import vehicle_id

    with tempfile.TemporaryDirectory(prefix="cansight-bench-") as name, _stack(Path(name), mosquitto) as (pki, port):
        issue(pki, [vehicle_id(1, number) for number in range(VEHICLES)], lambda words, share: None)
        mine, other = [], []
        for turn in range(TURNS):
            ours = _fleet(pki, port, RIVALS, RIVAL_SECONDS)
            mine.append(ours["cpu_s"] / ours["rows_receipted"])
            rivals = [vehicle_id(1, number) for number in range(RIVALS * turn, RIVALS * (turn + 1))]
            theirs = _json([sys.executable, "-m", "cansight.benchmarks.fleet_rival", str(pki), str(port), str(RIVAL_SECONDS), *rivals])
            if theirs["batches"] != RIVALS * RIVAL_SECONDS // 2:
                raise WorkFailed(
                    f"bench fleet: the rival's broker acknowledged {theirs['batches']} of {RIVALS * RIVAL_SECONDS // 2} batches"
                )
            other.append(theirs["cpu_s"] / theirs["batches"])
        live = _fleet(pki, port, VEHICLES, SECONDS)
        prepared = _fleet(pki, port, VEHICLES, SECONDS, "--prepared")
    ours_s, theirs_s = statistics.median(mine), statistics.median(other)
    results = [
        Result(
            "fleet",
            f"{RIVALS} vehicles, {SIGNALS} signals x 2 ticks: processor time a batch, encoded, sealed, sent, receipted",
            "a paho client and thread for each vehicle, JSON in clear, no receipts",
            "µs",
            ours_s * 1e6,
            theirs_s * 1e6,
            theirs_s / ours_s,
            1.0,
        )
    ]
    nominal = VEHICLES / 2
    for how, report in (("sealed live", live), ("sealed before", prepared)):
        rate, cpu_us = report["batches_per_s"], report["cpu_us_per_batch"]
        what = f"{VEHICLES:,} vehicles from one process, {how}, {cpu_us:.0f} µs of processor time a batch: receipted"
        results.append(Result("fleet", what, "one batch each 2 s", "batches/s", rate, nominal, rate / nominal, ON_TIME))
    return results


def _fleet(pki: Path, port: int, vehicles: int, seconds: int, *more: str) -> dict[str, Any]:
    arguments = ["--vehicles", str(vehicles), "--broker", f"mqtts://localhost:{port}", "--pki", str(pki), "--duration", f"{seconds}s"]
    return _json([sys.executable, "-m", "cansight", "sim", "fleet", *arguments, "--signals", str(SIGNALS), "--json", *more])


def _json(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WorkFailed(f"bench fleet: {' '.join(command[2:5])}: {done.stderr.strip()[-300:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@contextlib.contextmanager
def _stack(folder: Path, mosquitto: str) -> Iterator[tuple[Path, int]]:
    """A mosquitto as `cansight cloud mosquitto` sets it up, and the cloud that gives receipts."""
    from cloud import pki as keys
    from cloud.mosquitto_config import mosquitto_config

    pki = folder / "pki"
    keys.init(pki)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = mosquitto_config(pki, folder, "127.0.0.1", port)
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(subprocess.Popen([mosquitto, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        stack.callback(broker.terminate)
        deadline_s = time.monotonic() + READY_S
        while not _listens(port):
            if broker.poll() is not None or time.monotonic() > deadline_s:
                raise WorkFailed(f"bench fleet: {mosquitto} did not start")
            time.sleep(0.05)
        command = [sys.executable, "-m", "cansight.benchmarks.fleet_cloud", str(pki), str(port)]
        cloud = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(cloud.kill)
        assert cloud.stdout is not None
        if cloud.stdout.readline().strip() != "ready":
            raise WorkFailed("bench fleet: the side that gives receipts did not start")
        yield pki, port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
