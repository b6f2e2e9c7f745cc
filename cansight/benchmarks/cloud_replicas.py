"""Two aggregators against one: mosquitto, InfluxDB and PostgreSQL, real processes.

How many vehicles each can carry for a core that it spends, once every stream is open and its backlog gone: one with half of the fleet,
then two with all of it, of whom the busier counts. So many times the vehicles fit where each has a core of its own, before the broker or
the store is the limit. And the same fleet by one, what the second takes off it. CANSIGHT_BENCH_POSTGRES is the address of a PostgreSQL in
which databases may be made; without it this is left out.
"""

import os
import signal
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click

from cansight.benchmarks.broker import find_mosquitto, mosquitto
from cansight.benchmarks.cloud_course import LIMIT_S, drive, ramp_s
from cansight.benchmarks.cloud_load import GO, INFLUXDB, PATIENCE_S, SIGNALS, aggregator, environment, pings, query
from cansight.benchmarks.material import Material, whole_number
from cansight.benchmarks.result import Result
from cansight.demo import services
from cansight.demo.processes import Processes
from cansight.errors import UsageError, WorkFailed

VEHICLES, SECONDS = 2000, 60
LEAST_RATIO = 1.8
NAMES = ("a", "b")


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
        cores: list[list[float]] = []
        how: list[str] = []
        for run, (number, fleet) in enumerate(((1, vehicles // 2), (1, vehicles), (2, vehicles))):
            database = _make(server, f"bench_{os.getpid()}_{run}")
            with ExitStack() as running:
                clouds = []
                for one in NAMES[:number]:
                    (folder / f"{run}{one}").mkdir()
                    made = aggregator(folder / f"{run}{one}", pki, port, url, one, database, f"replicas{run}")
                    clouds.append(running.enter_context(made))
                pids, stats = [process.pid for process, _ in clouds], [told for _, told in clouds]
                course = drive(pki, port, fleet, seconds, stats, pids, partial(_stored, url, f"replicas{run}"))
                us = sorted(course.cpu_us(2 * SIGNALS)[:number], reverse=True)
                cores.append([fleet * SIGNALS * one / 1e6 for one in us])
                how.append("gone" if course.settled_s is not None else f"NOT GONE after {LIMIT_S:.0f} s")
    (half,), (whole,), (busier, other) = cores
    told = f"{vehicles:,} vehicles, {seconds} s after {ramp_s(vehicles)} s of opening (backlogs {', '.join(how)})"
    beside = f"for each core of the busier ({busier:.3f}, the other {other:.3f})"
    return [
        Result(
            "replicas",
            f"{told}: vehicles {beside}",
            f"one, with half of them ({half:.3f} cores)",
            "vehicles",
            vehicles / busier,
            vehicles / 2 / half,
            2 * half / busier,
            LEAST_RATIO,
        ),
        Result("replicas", "the same, processor time of the busier", "one, with all of them", "cores", busier, whole, whole / busier),
    ]


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
