"""Two aggregators against one, with the same fleet: mosquitto, InfluxDB and PostgreSQL, real processes.

The figure is what the busier of the two spends of a processor beside what the one spends, once every stream is open (a stream lasts for
an hour, and each of the two opens it): where each has a core of its own, as many times the vehicles fit before the broker or the store is
the limit. CANSIGHT_BENCH_POSTGRES is the address of a PostgreSQL in which databases may be made; without it this is left out.
"""

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from cansight.benchmarks.broker import find_mosquitto, mosquitto
from cansight.benchmarks.cloud_load import GO, INFLUXDB, PATIENCE_S, SIGNALS, aggregator, environment, pings, query
from cansight.benchmarks.fleet import cpu_s, fleet_report
from cansight.benchmarks.material import Material, whole_number
from cansight.benchmarks.result import Result
from cansight.demo import services
from cansight.demo.processes import Processes
from cansight.errors import UsageError, WorkFailed

VEHICLES, SECONDS = 1000, 60
LEAST_RATIO = 1.8
NAMES = ("a", "b")
OPENED = 0.3
Running = tuple["subprocess.Popen[str]", Callable[[], dict[str, Any]]]


def replicas(_: Material) -> list[Result]:
    """Every tick must be in the store in the end, whoever had it."""
    server, program = os.environ.get("CANSIGHT_BENCH_POSTGRES", ""), find_mosquitto("replicas")
    try:
        services.program("influxd", "influxdb")
    except UsageError as missing:
        click.echo(f"replicas: left out, {missing}", err=True)
        return []
    if not server:
        click.echo("replicas: left out, CANSIGHT_BENCH_POSTGRES names no PostgreSQL", err=True)
    if program is None or not server:
        return []
    from cansight.commands.sim_fleet import issue
    from cloud.mosquitto_config import write_rules
    from cloud.pki import replica
    from simulator.fleet import vehicle_id

    vehicles = whole_number("CANSIGHT_BENCH_VEHICLES", VEHICLES)
    seconds = whole_number("CANSIGHT_BENCH_SECONDS", SECONDS)
    with tempfile.TemporaryDirectory(prefix="cansight-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        pki, port, broker = stack.enter_context(mosquitto(folder, program))
        for one in NAMES:
            replica(pki, one)
        write_rules(pki, folder)
        os.kill(broker, signal.SIGHUP)
        with environment(GO):
            child, url = services.influxd(folder / "influxdb", folder / "influxdb.log", INFLUXDB)
            stack.enter_context(Processes()).start(child)
        services.wait_until(lambda: pings(url), child, "bench replicas")
        issue(pki, [vehicle_id(1, number) for number in range(vehicles)], lambda words, share: None)
        spent: dict[int, list[float]] = {}
        for number in (1, 2):
            database = _make(server, f"bench_{os.getpid()}_{number}")
            with ExitStack() as running:
                clouds = []
                for one in NAMES[:number]:
                    (folder / f"{number}{one}").mkdir()
                    made = aggregator(folder / f"{number}{one}", pki, port, url, one, database, f"replicas{number}")
                    clouds.append(running.enter_context(made))
                course = _Course(clouds)
                course.start()
                report = fleet_report(pki, port, vehicles, seconds, "--prepared", patience_s=PATIENCE_S + 2 * seconds)
                ticks = 2 * int(report["rows_receipted"])
                _stored(url, f"replicas{number}", ticks)
                spent[number] = course.end(int(report["rows_receipted"]))
    one_us, (busier_us, other_us) = spent[1][0], sorted(spent[2], reverse=True)
    what = f"{vehicles:,} vehicles, {seconds} s: processor time a value of all of the busier of two (the other {other_us:.2f} µs)"
    return [Result("replicas", what, "one for all", "µs", busier_us, one_us, one_us / busier_us, LEAST_RATIO)]


class _Course(threading.Thread):
    """What the aggregators spend, from when the first OPENED of all batches had landed to the end."""

    def __init__(self, clouds: list[Running]) -> None:
        super().__init__(daemon=True)
        self._clouds = clouds
        self._samples: list[tuple[int, list[float]]] = []
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(1.0):
            self._look()

    def end(self, batches: int) -> list[float]:
        """Processor time of each, in µs a value of all."""
        self._ended.set()
        self.join()
        self._look()
        last, cpu = self._samples[-1]
        first, before = next(sample for sample in self._samples if sample[0] >= OPENED * batches)
        return [(spent - earlier) / ((last - first) * 2 * SIGNALS) * 1e6 for spent, earlier in zip(cpu, before, strict=True)]

    def _look(self) -> None:
        landed = sum(stats()["landed"] for _, stats in self._clouds)
        self._samples.append((landed, [cpu_s(process.pid) for process, _ in self._clouds]))


def _make(server: str, name: str) -> str:
    """A new database's address."""
    import psycopg
    from sqlalchemy import make_url

    with psycopg.connect(server, autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name}".encode())
    return make_url(server).set(database=name).render_as_string(hide_password=False)


def _stored(url: str, database: str, ticks: int) -> None:
    """Once the store has every tick; WorkFailed where it has not in time, or has more."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        fields = query(url, database, "SHOW FIELD KEYS FROM signals")
        found = int(query(url, database, f'SELECT count("{fields[0][0]}") FROM signals')[0][1]) if fields else 0
        if found == ticks:
            return
        if time.monotonic() > deadline_s or found > ticks:
            raise WorkFailed(f"bench replicas: {ticks:,} ticks have a receipt, the store has {found:,}")
        time.sleep(1.0)
