"""The cloud under a fleet: mosquitto, one aggregator, InfluxDB, real processes; 200 signals a second of each vehicle, sealed before.

What a value costs the aggregator, how late it is in the store at p99, and the usual way beside it in the same run: paho, JSON, an
influxdb-client `Point` a tick. CANSIGHT_BENCH_SECONDS says how long (60; the promise is for 600), CANSIGHT_BENCH_VEHICLES how many.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec
import tomli_w

from cansight.benchmarks.broker import find_mosquitto, mosquitto
from cansight.benchmarks.fleet import cpu_s, fleet_report
from cansight.benchmarks.material import Material
from cansight.benchmarks.result import Result
from cansight.demo import services
from cansight.demo.processes import Processes
from cansight.errors import UsageError, WorkFailed
from cansight.ports import free_port
from cloud.config import CloudConfig
from cloud.replica_names import client_id
from cloud.roles import Role
from cloud.tokens import Tokens
from dbc.vehicles import CATALOGUE, DBC_FILES

VEHICLES, SECONDS, SIGNALS = 3000, 60, 200
LATE_S = 5.0
MOST_US = 0.8
LEAST_RATIO = 2.5
RIVALS, RIVAL_SECONDS = 300, 20
PATIENCE_S = 200.0
INFLUXDB = "cache-snapshot-memory-size = 536870912\ncache-max-memory-size = 4294967296"
"""As docs/influxdb.md says for a large fleet: with 25 MB, the default, the server rewrites its cache every few seconds."""


def cloud(_: Material) -> list[Result]:
    """Every tick must be in the store in the end. Left out where mosquitto or InfluxDB is not installed."""
    program = find_mosquitto("cloud")
    try:
        services.program("influxd", "influxdb")
    except UsageError as missing:
        click.echo(f"cloud: left out, {missing}", err=True)
        return []
    if program is None:
        return []
    from cansight.commands.sim_fleet import issue
    from simulator.fleet import vehicle_id

    vehicles = int(os.environ.get("CANSIGHT_BENCH_VEHICLES", VEHICLES))
    seconds = int(os.environ.get("CANSIGHT_BENCH_SECONDS", SECONDS))
    with tempfile.TemporaryDirectory(prefix="cansight-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        pki, port, broker = stack.enter_context(mosquitto(folder, program))
        child, url = services.influxd(folder / "influxdb", folder / "influxdb.log", INFLUXDB)
        stack.enter_context(Processes()).start(child)
        services.wait_until(lambda: pings(url), child, "bench cloud")
        ids = [vehicle_id(1, number) for number in range(max(vehicles, RIVALS))]
        issue(pki, ids, lambda words, share: None)
        with aggregator(folder, pki, port, url) as (process, stats):
            pids = (process.pid, broker, child.pid)
            before = [cpu_s(pid) for pid in pids]
            report = fleet_report(pki, port, vehicles, seconds, "--prepared", patience_s=PATIENCE_S + 2 * seconds)
            ticks = 2 * int(report["rows_receipted"])
            told = _once_stored(stats, ticks)
            spent = [cpu_s(pid) - first for pid, first in zip(pids, before, strict=True)]
        stored = _stored(url)
        if stored != ticks:
            raise WorkFailed(f"bench cloud: {ticks:,} ticks have a receipt, the store has {stored:,}")
        rival_us = _rival(pki, port, url, ids[:RIVALS])
    return _results(f"{vehicles:,} vehicles, {seconds} s", ticks * SIGNALS, spent, report, told, rival_us)


def _results(what: str, values: int, spent: list[float], report: dict[str, Any], told: dict[str, Any], rival_us: float) -> list[Result]:
    aggregator, broker, store = (one / values * 1e6 for one in spent)
    beside = f"broker {broker:.2f}, InfluxDB {store:.2f}, the fleet {report['cpu_s'] / values * 1e6:.2f}"
    late = f"{what}: from the bus to the store, p99 (p50 {told['p50_s']:.2f} s, longest {told['greatest_s']:.2f} s, {told['ticks']:,} ticks"
    late += f", sent late at p99 {report['late_s']['p99']:.2f} s)"
    return [
        Result("cloud", late, "limit", "s", told["p99_s"], LATE_S, LATE_S / told["p99_s"], 1.0),
        Result(
            "cloud", f"the aggregator's processor time a value ({beside})", "limit", "µs", aggregator, MOST_US, MOST_US / aggregator, 1.0
        ),
        Result(
            "cloud",
            "the same, opened, landed, receipted, stored",
            "paho, JSON, a Point with 200 fields",
            "µs",
            aggregator,
            rival_us,
            rival_us / aggregator,
            LEAST_RATIO,
        ),
    ]


@contextmanager
def aggregator(
    folder: Path, pki: Path, port: int, url: str, replica: str = "", database: str = "", influx: str = "cansight"
) -> Iterator[tuple[subprocess.Popen[str], Callable[[], dict[str, Any]]]]:
    """`cansight cloud run` and what reads its counters. `database`: a PostgreSQL's address, `influx`: the name of InfluxDB's."""
    certificate = pki / client_id(replica)
    settings: dict[str, Any] = {
        "state": str(folder / "state"),
        "fleet_ca": str(pki / "fleet-ca.pem"),
        "recipient_keys": [str(pki / "recipient.key")],
        "broker": {
            "port": port,
            "ca": str(pki / "fleet-ca.pem"),
            "certificate": f"{certificate}.pem",
            "key": f"{certificate}.key",
            "replica": replica,
        },
        "vehicle_model": [{"name": "cansight_ev", "dbc": [str(path) for path in DBC_FILES], "catalogue": str(CATALOGUE)}],
        "store": {"kind": "influx", "influx": {"url": url, "timeout_s": 60.0, "database": influx}},
        "database": {"url": database},
        "api": {"port": free_port()},
    }
    config = folder / "cloud.toml"
    config.write_text(tomli_w.dumps(settings))
    with Tokens(msgspec.convert(settings, CloudConfig).database_url) as tokens:
        token = tokens.create(f"bench {replica}", Role.READ_ONLY)
    command = [sys.executable, "-m", "cansight", "cloud", "run", "-c", str(config), "--json"]
    with (folder / "cloud.log").open("w") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise WorkFailed(f"bench cloud: the aggregator did not start: {(folder / 'cloud.log').read_text()[-300:]}")
            page = json.loads(line)["url"]

            def stats() -> dict[str, Any]:
                asked = urllib.request.Request(f"{page}/api/stats", headers={"Authorization": f"Bearer {token}"})
                with urllib.request.urlopen(asked, timeout=30) as answer:
                    told: dict[str, Any] = json.load(answer)
                return told

            yield process, stats
        finally:
            process.terminate()


def _once_stored(stats: Callable[[], dict[str, Any]], ticks: int) -> dict[str, Any]:
    """The delays since the start, once all these ticks are written."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        told: dict[str, Any] = stats()["delays"]["start"]
        if told["ticks"] + told["backlog"] >= ticks:
            return told
        if time.monotonic() > deadline_s:
            raise WorkFailed(f"bench cloud: {told['ticks']:,} of {ticks:,} ticks were stored {PATIENCE_S:.0f} s after the last receipt")
        time.sleep(1.0)


def _stored(url: str) -> int:
    """Ticks in the store: how often the first recorded signal has a value."""
    fields = query(url, "cansight", "SHOW FIELD KEYS FROM signals")
    name = fields[0][0].replace('"', '\\"')
    return int(query(url, "cansight", f'SELECT count("{name}") FROM signals')[0][1])


def query(url: str, database: str, text: str) -> list[list[Any]]:
    """The rows of the first series that InfluxQL finds."""
    asked = urllib.parse.urlencode({"db": database, "q": text}).encode()
    with urllib.request.urlopen(f"{url}/query", data=asked, timeout=120) as answer:
        found = json.load(answer)["results"][0].get("series", [])
    rows: list[list[Any]] = found[0]["values"] if found else []
    return rows


def pings(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/ping", timeout=2):
            return True
    except OSError:
        return False


def _rival(pki: Path, port: int, url: str, vehicles: list[str]) -> float:
    """Its processor time a value, µs."""
    urllib.request.urlopen(f"{url}/query", data=b"q=CREATE+DATABASE+rival", timeout=30).close()
    module = [sys.executable, "-m", "cansight.benchmarks.cloud_rival", str(pki), str(port), url, "rival"]
    with subprocess.Popen(module, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise WorkFailed("bench cloud: the rival did not start")
        feed = [sys.executable, "-m", "cansight.benchmarks.fleet_rival", str(pki), str(port), str(RIVAL_SECONDS), *vehicles]
        done = subprocess.run(feed, capture_output=True, text=True, check=False, timeout=PATIENCE_S + 10 * RIVAL_SECONDS)
        if done.returncode:
            process.kill()
            raise WorkFailed(f"bench cloud: the rival's feed: {done.stderr.strip()[-300:]}")
        process.terminate()
        told = json.loads(process.stdout.readline())
    expected = len(vehicles) * RIVAL_SECONDS * SIGNALS
    if told["values"] != expected:
        raise WorkFailed(f"bench cloud: the rival has {told['values']:,} of {expected:,} values")
    return float(told["cpu_s"]) / expected * 1e6
