"""The cloud under a fleet: mosquitto, one aggregator, InfluxDB, real processes; 200 signals a second of each vehicle, sealed before.

What a value costs the aggregator, how late it is in the store at p99, and the usual way beside it in the same run: paho, JSON, an
influxdb-client `Point` a tick. The fleet that sends is on the same cores, and its time is told beside theirs.

Warm-up is WARM_UP_S from the first batch that lands: all vehicles open their streams in the same seconds and InfluxDB makes all of its
series, which a running fleet does over an hour. What is measured after it is asked for; the whole run is told beside it.

CANSIGHT_BENCH_SECONDS says how long after the warm-up (60; the promise is for 600), CANSIGHT_BENCH_VEHICLES how many.
CANSIGHT_BENCH_MOST=1: instead of one run, by bisection the most vehicles whose p99 is within the limit, to a sixteenth of as many.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec
import tomli_w

from cansight.benchmarks.broker import find_mosquitto, mosquitto
from cansight.benchmarks.fleet import cpu_s, fleet_report
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
WARM_UP_S = 30
LATE_S = 5.0
MOST_US = 0.8
LEAST_RATIO = 2.5
RIVALS, RIVAL_SECONDS = 300, 20
PATIENCE_S = 200.0
LOOK_S = 1.0
INFLUXDB = "cache-snapshot-memory-size = 536870912\ncache-max-memory-size = 4294967296"
GO = {"GOGC": "400", "GOMEMLIMIT": "8GiB"}
"""As docs/influxdb.md says for a large fleet: with 25 MB, the default, the server rewrites its cache every few seconds, and a third of its
time goes to its garbage collector."""


@dataclass(frozen=True)
class _Look:
    """What was so far: processor time of aggregator, broker and store, s; batches landed; ticks less than 1, 2 … WITHIN_S late."""

    at_s: float
    cpu_s: tuple[float, ...]
    landed: int
    within: list[int]


@dataclass(frozen=True)
class _Run:
    """after: what was measured after the warm-up; whole: of all ticks. cpu_us: a value, of aggregator, broker and store."""

    vehicles: int
    seconds: float
    ticks: int
    cpu_us: tuple[float, ...]
    cores: tuple[float, ...]
    p99_s: float
    within: float
    whole: dict[str, Any]
    whole_us: float
    report: dict[str, Any]


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
    run, rival_us = _run(program, vehicles, seconds, with_rival=True)
    return _results(run, rival_us)


def _most(program: str, vehicles: int, seconds: int) -> Result:
    """Between none and twice as many: the most of which p99 is within the limit."""
    step = max(1, vehicles // 16)
    holds, fails, best = 0, 32, None
    at = 16
    while fails - holds > 1:
        run, _ = _run(program, at * step, seconds)
        good = run.p99_s <= LATE_S
        cores = ", ".join(f"{one:.2f}" for one in run.cores)
        click.echo(f"cloud: {run.vehicles:,} vehicles: p99 {run.p99_s:.1f} s; cores of aggregator, broker, InfluxDB: {cores}", err=True)
        holds, fails, best = (at, fails, run) if good else (holds, at, best)
        at = (holds + fails) // 2
    if best is None:
        raise WorkFailed(f"bench cloud: not even {step} vehicles are within {LATE_S:.0f} s")
    what = f"the most vehicles whose p99 is under {LATE_S:.0f} s, {seconds} s each (p99 {best.p99_s:.1f} s; {fails * step:,} are too many)"
    return Result("cloud", what, "asked for", "vehicles", best.vehicles, vehicles, best.vehicles / vehicles, 1.0)


def _run(program: str, vehicles: int, seconds: int, with_rival: bool = False) -> tuple[_Run, float]:
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
            course = _Course(stats, (process.pid, broker, child.pid))
            course.start()
            lasts = seconds + WARM_UP_S
            report = fleet_report(pki, port, vehicles, lasts, "--prepared", patience_s=PATIENCE_S + 3 * lasts)
            ticks = 2 * int(report["rows_receipted"])
            told = _once_stored(stats, ticks)
            looks = course.end()
        stored = _stored(url)
        if stored != ticks:
            raise WorkFailed(f"bench cloud: {ticks:,} ticks have a receipt, the store has {stored:,}")
        rival_us = _rival(pki, port, url, ids[:RIVALS]) if with_rival else 0.0
    return _measured(vehicles, ticks, looks, told, report), rival_us


def _measured(vehicles: int, ticks: int, looks: list[_Look], told: dict[str, Any], report: dict[str, Any]) -> _Run:
    began = next(look.at_s for look in looks if look.within)
    first = next((look for look in looks if look.at_s >= began + WARM_UP_S), looks[-1])
    last = looks[-1]
    values = 2 * SIGNALS * (last.landed - first.landed)
    counts = [late - _at(first.within, place) for place, late in enumerate(last.within)]
    if not values or not counts[-1]:
        raise WorkFailed("bench cloud: nothing was left to be measured after the warm-up")
    share = [one / counts[-1] for one in counts]
    spent = [after - before for after, before in zip(last.cpu_s, first.cpu_s, strict=True)]
    return _Run(
        vehicles=vehicles,
        seconds=last.at_s - first.at_s,
        ticks=counts[-1],
        cpu_us=tuple(one / values * 1e6 for one in spent),
        cores=tuple(one / (last.at_s - first.at_s) for one in spent),
        p99_s=(next(place for place, one in enumerate(share) if one >= 0.99) + 1) * WITHIN_S,
        within=share[min(round(LATE_S / WITHIN_S) - 1, len(share) - 1)],
        whole=told,
        whole_us=last.cpu_s[0] / (ticks * SIGNALS) * 1e6,
        report=report,
    )


def _at(sums: list[int], place: int) -> int:
    return sums[min(place, len(sums) - 1)] if sums else 0


def _results(run: _Run, rival_us: float) -> list[Result]:
    report, whole = run.report, run.whole
    sent_us = report["cpu_s"] / (whole["ticks"] + whole["backlog"]) / SIGNALS * 1e6
    beside = f"broker {run.cpu_us[1]:.2f}, InfluxDB {run.cpu_us[2]:.2f}, the fleet that sends {sent_us:.2f}"
    late = f"{run.vehicles:,} vehicles, {run.seconds:.0f} s after {WARM_UP_S} s of warm-up: from the bus to the store, p99"
    late += f" ({run.ticks:,} ticks, {100 * run.within:.2f} % within {LATE_S:.0f} s; with the warm-up p99 {whole['p99_s']:.1f} s,"
    late += f" longest {whole['greatest_s']:.1f} s; sent late at p99 {report['late_s']['p99']:.2f} s)"
    aggregator = run.cpu_us[0]
    cost = f"the aggregator's processor time a value (with the warm-up {run.whole_us:.2f}; {beside})"
    return [
        Result("cloud", late, "limit", "s", run.p99_s, LATE_S, LATE_S / run.p99_s, 1.0),
        Result("cloud", cost, "limit", "µs", aggregator, MOST_US, MOST_US / aggregator, 1.0),
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


class _Course(threading.Thread):
    """Looks at the three processes now and then."""

    def __init__(self, stats: Callable[[], dict[str, Any]], pids: tuple[int, ...]) -> None:
        super().__init__(daemon=True)
        self._stats = stats
        self._pids = pids
        self._looks: list[_Look] = []
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(LOOK_S):
            self._look()

    def end(self) -> list[_Look]:
        """All looks, the last one made now."""
        self._ended.set()
        self.join()
        self._look()
        return self._looks

    def _look(self) -> None:
        stats = self._stats()
        self._looks.append(_Look(time.monotonic(), tuple(map(cpu_s, self._pids)), stats["landed"], stats["within"]))


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
