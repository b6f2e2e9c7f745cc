"""The cloud under a fleet: mosquitto, one aggregator, InfluxDB, real processes; 200 signals a second of each vehicle, sealed before.

What a value costs the aggregator, how late it is in the store at p99, and the usual way beside it in the same run: paho, JSON, an
influxdb-client `Point` a tick. The fleet that sends is on the same cores, and its time is told beside theirs.

The fleet's streams are opened one by one, and what is measured begins when their backlog is gone (`cloud_course`); the whole run is told
beside it.

CANSIGHT_BENCH_SECONDS says how long from then on (60; the promise is for 600), CANSIGHT_BENCH_VEHICLES how many.
CANSIGHT_BENCH_MOST=1: instead of one run, by bisection the most vehicles whose p99 is within the limit, to a sixteenth of as many.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec
import tomli_w

from cansight.benchmarks.broker import find_mosquitto, mosquitto
from cansight.benchmarks.cloud_course import LIMIT_S, Course, Stats, drive, ramp_s
from cansight.benchmarks.material import Material, whole_number
from cansight.benchmarks.result import Result
from cansight.demo import services
from cansight.demo.processes import Processes
from cansight.errors import UsageError, WorkFailed
from cansight.ports import free_port
from cloud.config import CloudConfig
from cloud.delays import WITHIN_S
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
INFLUXDB = """\
cache-snapshot-memory-size = 268435456
cache-max-memory-size = 4294967296
"""
GO = {
    "GOGC": "off",
    "GOMEMLIMIT": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') // 2 >> 20}MiB",
}
"""As docs/influxdb.md says for a large fleet: with 25 MB, the default, the server rewrites its cache every few seconds, and a third of its
time goes to its garbage collector; so it collects when it has half of the machine's memory, not whenever its heap has doubled."""


@dataclass(frozen=True)
class _Run:
    """The course of aggregator, broker, store and fleet. told: how late everything since the start was."""

    vehicles: int
    course: Course
    told: dict[str, Any]
    rival_us: float

    @property
    def p99_s(self) -> float:
        return self.course.late_s(0.99)


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
    vehicles = whole_number("CANSIGHT_BENCH_VEHICLES", VEHICLES)
    seconds = whole_number("CANSIGHT_BENCH_SECONDS", SECONDS)
    if os.environ.get("CANSIGHT_BENCH_MOST"):
        return [_most(program, vehicles, seconds)]
    return _results(_run(program, vehicles, seconds, with_rival=True))


def _most(program: str, vehicles: int, seconds: int) -> Result:
    """Between none and twice as many: the most of which p99 is within the limit."""
    step = max(1, vehicles // 16)
    holds, fails, best = 0, 32, None
    at = 16
    while fails - holds > 1:
        run = _run(program, at * step, seconds)
        good = run.p99_s <= LATE_S
        cores = ", ".join(f"{one:.2f}" for one in run.course.cores)
        click.echo(
            f"cloud: {run.vehicles:,} vehicles: p99 {run.p99_s:.1f} s; cores of aggregator, broker, InfluxDB, fleet: {cores}", err=True
        )
        holds, fails, best = (at, fails, run) if good else (holds, at, best)
        at = (holds + fails) // 2
    if best is None:
        raise WorkFailed(f"bench cloud: not even {step} vehicles are within {LATE_S:.0f} s")
    what = f"the most vehicles whose p99 is under {LATE_S:.0f} s, {seconds} s each (p99 {best.p99_s:.1f} s; {fails * step:,} are too many)"
    return Result("cloud", what, "asked for", "vehicles", best.vehicles, vehicles, best.vehicles / vehicles, 1.0)


def _run(program: str, vehicles: int, seconds: int, with_rival: bool = False) -> _Run:
    """All from nothing; the rival's processor time a value, µs, where it is asked for."""
    from cansight.commands.sim_fleet import issue
    from simulator.fleet import vehicle_id

    with tempfile.TemporaryDirectory(prefix="cansight-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        pki, port, broker = stack.enter_context(mosquitto(folder, program))
        with environment(GO):
            child, url = services.influxd(folder / "influxdb", folder / "influxdb.log", INFLUXDB)
            stack.enter_context(Processes()).start(child)
        services.wait_until(lambda: pings(url), child, "bench cloud")
        ids = [vehicle_id(1, number) for number in range(max(vehicles, RIVALS))]
        issue(pki, ids, lambda words, share: None)
        with aggregator(folder, pki, port, url) as (process, stats):
            pids = (process.pid, broker, child.pid)
            course = drive(pki, port, vehicles, seconds, [stats], pids, partial(_once_stored, stats))
            told = stats()["delays"]["start"]
        ticks = 2 * course.report["batches"]
        if (stored := _stored(url)) != ticks:
            raise WorkFailed(f"bench cloud: {ticks:,} ticks have a receipt, the store has {stored:,}")
        return _Run(vehicles, course, told, _rival(pki, port, url, ids[:RIVALS]) if with_rival else 0.0)


def _results(run: _Run) -> list[Result]:
    course, told = run.course, run.told
    if not course.batches:
        raise WorkFailed("bench cloud: nothing was left to be measured")
    aggregator_us, broker_us, store_us, fleet_us = course.cpu_us(2 * SIGNALS)
    counts = course.last.since(course.first)
    within = counts[min(round(LATE_S / WITHIN_S), len(counts)) - 1] / counts[-1]
    opened = f"{run.vehicles:,} vehicles, their streams opened over {ramp_s(run.vehicles)} s, "
    if course.settled_s is None:
        opened += f"WHOSE BACKLOG WAS NOT GONE {LIMIT_S:.0f} s after it"
    else:
        opened += f"their backlog gone {course.settled_s:.0f} s after it"
    late = f"{opened}; {course.last.at_s - course.first.at_s:.0f} s from then on: from the bus to the store, p99"
    late += f" ({counts[-1]:,} ticks, half within {course.late_s(0.5):.1f} s, {100 * within:.2f} % within {LATE_S:.0f} s;"
    late += f" with the opening p99 {told['p99_s']:.1f} s, longest {told['greatest_s']:.1f} s;"
    late += f" sent late at p99 {course.report['late_s']:.2f} s, {course.report['again']:,} batches sent again)"
    beside = f"broker {broker_us:.2f}, InfluxDB {store_us:.2f}, beside them the fleet that sends {fleet_us:.2f}"
    cores = ", ".join(f"{one:.2f}" for one in course.cores)
    cost = f"the aggregator's processor time a value ({beside}; cores: {cores}; transparent huge pages: {_huge_pages()})"
    rival = "paho, JSON, a Point with 200 fields"
    return [
        Result("cloud", late, "limit", "s", run.p99_s, LATE_S, LATE_S / run.p99_s, 1.0),
        Result("cloud", cost, "limit", "µs", aggregator_us, MOST_US, MOST_US / aggregator_us, 1.0),
        Result(
            "cloud",
            "the same, opened, landed, receipted, stored",
            rival,
            "µs",
            aggregator_us,
            run.rival_us,
            run.rival_us / aggregator_us,
            LEAST_RATIO,
        ),
    ]


def _huge_pages() -> str:
    """The kernel's mode: most of what a value costs InfluxDB is waiting for memory, and so is much of what it costs the cloud."""
    try:
        return Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text().partition("[")[2].partition("]")[0]
    except OSError:
        return "none"


@contextmanager
def environment(more: dict[str, str]) -> Iterator[None]:
    """Of the processes that are started in the block; what the user has set stays."""
    new = {name: value for name, value in more.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]


@contextmanager
def aggregator(
    folder: Path, pki: Path, port: int, url: str, replica: str = "", database: str = "", influx: str = "cansight"
) -> Iterator[tuple[subprocess.Popen[str], Stats]]:
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


def _once_stored(stats: Stats, ticks: int) -> None:
    """Returns once all these ticks are written."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        told: dict[str, Any] = stats()["delays"]["start"]
        if told["ticks"] + told["backlog"] >= ticks:
            return
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
