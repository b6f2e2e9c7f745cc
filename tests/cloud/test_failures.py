"""What a store, a secret or a disk does to a running cloud: nothing is lost, page and metrics say what is wrong, and it ends by itself.

Real mosquitto, InfluxDB, Chromium, and a cloud in this process, whose waits pass at once and are added up: an hour's outage takes seconds.
What a restarted PostgreSQL and a killed replica do is in test_postgres.py and test_replicas_live.py, a broker's in test_cloud_run.py.
"""

import asyncio
import contextlib
import re
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cloud_vehicle import Client, Vehicle, receipts
from console import chromium, expect, visit
from prometheus_client.parser import text_string_to_metric_families

import cloud.app
import processes
import servers
from cansight import settings
from cloud.config import CloudConfig, InfluxConfig
from cloud.runner import Runner
from cloud.stores.influx_http import InfluxServer
from dbc.compiler import load_compiled
from full_disk import fill, small_disk
from wire.messages import Clock
from wire.receipts import Status

HOUR_S = 3600
DBC = 'VERSION ""\n\nBU_: ECU\n\n' + "".join(
    f"BO_ {256 + message} M{message}: 8 ECU\n" + "".join(f' SG_ S{n} : {16 * n}|16@1+ (1,0) [0|0] "" ECU\n' for n in range(4)) + "\n"
    for message in range(2)
)


class _Loop(asyncio.SelectorEventLoop):
    """Of a thread that is not the main one, where signals cannot be asked for."""

    def add_signal_handler(self, *_: Any) -> None:
        pass

    def remove_signal_handler(self, *_: Any) -> bool:
        return False


class Cloud:
    """`cansight cloud run` in a thread. `waited`: seconds that each sink has paused, which took no time."""

    def __init__(self, folder: Path, pki: Path, port: int, store: dict[str, Any], monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
        dbc = folder / "car.dbc"
        dbc.write_text(DBC)
        self.settings, self.api = processes.cloud_settings(folder, pki, port, [str(dbc)], store, **more)
        self.schema = load_compiled([str(dbc)], None).schema
        self.token = processes.TOKENS[self.api]
        self.waited: defaultdict[str, float] = defaultdict(float)
        monkeypatch.setattr(Runner, "_pause", self._pause())
        monkeypatch.setattr(cloud.app, "DISK_PAUSE_S", 0.01)
        self._cloud = cloud.app.Cloud(settings.load(self.settings, CloudConfig))
        self._loop = _Loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._cloud.run()], name="cloud")

    def _pause(self) -> Any:
        waited = self.waited

        async def pause(runner: Runner, pause_s: float) -> None:
            waited[runner.sink.name] += pause_s
            await asyncio.sleep(0.001)

        return pause

    def __enter__(self) -> "Cloud":
        self._thread.start()
        processes.until(lambda: self.stats().get("connected", False) or not self._thread.is_alive(), "the cloud")
        assert self._thread.is_alive()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._cloud.stop)
        self._thread.join(60)
        assert not self._thread.is_alive()
        self._loop.close()

    def stats(self) -> dict[str, Any]:
        return processes.get(f"{self.api}/api/stats") or {}

    def sink(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.stats()["sinks"][name]
        return found

    def metrics(self) -> dict[tuple[str, ...], float]:
        with urllib.request.urlopen(processes.asking(f"{self.api}/metrics"), timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}

    def ready(self) -> bool:
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(f"{self.api}/readyz", timeout=10) as answer:
            return bool(answer.status == 200)
        return False

    def watched(self, browser: Any) -> Any:
        """The system page, in a real browser."""
        return visit(browser, f"{self.api}/#/system", token=self.token)


class Drive:
    """A vehicle that drove for the last hour and `ticks` of which are sent by and by, each time until its receipt is there."""

    def __init__(self, cloud: Cloud, pki: Path, port: int) -> None:
        self.start_ms = time.time_ns() // 1_000_000_000 * 1000 - HOUR_S * 1000
        self.vehicle = Vehicle(pki, cloud.schema, clock=Clock(boot_ms=0, utc_ms=self.start_ms, source="system"))
        self.client = Client(pki, port, self.vehicle.id)
        self.ticks = 0
        self._done = 0  # messages with a receipt

    def __enter__(self) -> "Drive":
        self.client.__enter__()
        self.client.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.__exit__(*_)

    def send(self, ticks: int) -> None:
        """Publish them, sixty to a batch."""
        for first in range(self.ticks, self.ticks + ticks, 60):
            self.vehicle.rows(range(first, min(first + 60, self.ticks + ticks)))
        self.ticks += ticks
        for sealed in self.missing():
            self.client.paho.publish(self.vehicle.topic, sealed.data, qos=1)

    def missing(self) -> list[Any]:
        """What has no receipt, or one that the vehicle would not believe."""
        got = receipts(self.client.heard)
        return [
            one
            for one in self.vehicle.sent
            if got.get((one.header.stream, one.header.sequence)) != (Status.STORED, one.tags[Status.STORED])
        ]

    def receipted(self) -> None:
        self.client.until(lambda: not self.missing(), "receipts")

    def stored(self, cloud: Cloud, influx: InfluxConfig) -> None:
        """Every tick is in InfluxDB, once, with its values."""
        processes.until(lambda: not cloud.sink("store")["behind"], "the store's sink")
        with InfluxServer(influx) as server:
            (series,) = server.query("cansight", 'SELECT "M0.S0", "M1.S3" FROM signals WHERE vehicle = \'' + self.vehicle.id + "'")
        values = self.vehicle.values(range(self.ticks))
        assert series.rows == [[self.start_ms + 1000 * tick, values[tick][0], values[tick][-1]] for tick in range(self.ticks)]


def says(page: Any, words: str) -> None:
    expect(page.locator(".notice.bad").filter(has_text=re.compile(words)).first).to_be_visible()


def says_nothing(page: Any) -> None:
    expect(page.locator(".figure").first).to_be_visible()
    expect(page.locator(".notice.bad")).to_have_count(0)


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Any]:
    with chromium(chromium_path) as browser:
        yield browser


@pytest.fixture
def influx(tmp_path: Path) -> Iterator[servers.HttpServer]:
    """Not started yet."""
    folder = tmp_path / "influx"
    folder.mkdir()
    server = servers.influxdb(folder)
    yield server
    server.stop()


def test_a_store_that_is_away_for_an_hour(
    tmp_path: Path, pki: Path, mosquitto: servers.Server, influx: servers.HttpServer, monkeypatch: pytest.MonkeyPatch, browser: Any
) -> None:
    influx.start()
    store = {"kind": "influx", "influx": {"url": influx.url}}
    with Cloud(tmp_path, pki, mosquitto.port, store, monkeypatch) as cloud, Drive(cloud, pki, mosquitto.port) as drive:
        drive.send(60)
        drive.receipted()
        processes.until(lambda: cloud.sink("store")["behind"] == 0, "the store")
        influx.kill()
        while cloud.waited["store"] < HOUR_S:  # an hour of driving in an hour without a store
            if drive.ticks < HOUR_S:
                drive.send(180)
            drive.receipted()  # custody does not wait for the store
        drive.vehicle.finding(drive.ticks - 1)
        drive.send(0)
        drive.receipted()
        processes.until(lambda: cloud.sink("tickets")["behind"] == 0, "the ticket, which does not wait either")
        assert len(processes.get(f"{cloud.api}/api/tickets")["tickets"]) == 1
        said, measured = cloud.sink("store"), cloud.metrics()
        assert "Connection refused" in said["error"]
        assert said["behind"] == measured["cansight_cloud_sink_behind", "store"] >= drive.ticks // 60
        assert measured["cansight_cloud_sink_away", "store"] == 1
        assert measured["cansight_cloud_sink_away", "tickets"] == measured["cansight_cloud_sink_behind", "tickets"] == 0
        assert not cloud.ready()
        with cloud.watched(browser) as page:
            says(page, "time series: .*Connection refused")
            influx.start()
            drive.stored(cloud, InfluxConfig(url=influx.url))
            processes.until(lambda: cloud.metrics()["cansight_cloud_sink_away", "store"] == 0 and cloud.ready(), "an end of it")
            says_nothing(page)


def test_a_wrong_password_of_the_store_is_read_again_once_it_is_right(
    tmp_path: Path, pki: Path, mosquitto: servers.Server, influx: servers.HttpServer, monkeypatch: pytest.MonkeyPatch, browser: Any
) -> None:
    config = influx.folder / "influxdb.conf"
    config.write_text(config.read_text().replace("[http]\n", "[http]\nauth-enabled = true\n"))
    influx.start()
    with InfluxServer(InfluxConfig(url=influx.url)) as server:
        server.query("", "CREATE USER cansight WITH PASSWORD 'right' WITH ALL PRIVILEGES")
    password = tmp_path / "influx.password"
    password.write_text("last year's\n")
    named = {"url": influx.url, "username": "cansight", "password_file": str(password)}
    store = {"kind": "influx", "influx": named}
    with Cloud(tmp_path, pki, mosquitto.port, store, monkeypatch) as cloud, Drive(cloud, pki, mosquitto.port) as drive:
        drive.send(600)
        drive.receipted()
        processes.until(lambda: cloud.waited["store"] > 60, "a minute")
        assert f"answered 401: authorization failed; is {password} right?" in cloud.sink("store")["error"]
        assert "last year" not in cloud.sink("store")["error"]
        assert cloud.metrics()["cansight_cloud_sink_away", "store"] == 1
        assert not cloud.ready()
        with cloud.watched(browser) as page:
            says(page, "time series: .*401.*influx.password right")
            password.write_text("right\n")
            drive.stored(cloud, InfluxConfig(**named))
            assert cloud.metrics()["cansight_cloud_sink_away", "store"] == 0
            says_nothing(page)


def test_a_full_disk_of_the_cloud(
    tmp_path: Path, pki: Path, mosquitto: servers.Server, influx: servers.HttpServer, monkeypatch: pytest.MonkeyPatch, browser: Any
) -> None:
    influx.start()
    store = {"kind": "influx", "influx": {"url": influx.url}}
    with (
        small_disk("32m") as disk,
        Cloud(tmp_path, pki, mosquitto.port, store, monkeypatch, state=str(disk / "cloud")) as cloud,
        Drive(cloud, pki, mosquitto.port) as drive,
    ):
        drive.send(60)
        drive.receipted()
        ballast = fill(disk)
        drive.send(HOUR_S - 60)
        processes.until(lambda: bool(cloud.stats()["landing_error"]), "the full disk")
        assert drive.missing(), "no custody of what cannot be kept"
        assert "No space left" in cloud.stats()["landing_error"]
        assert cloud.metrics()["cansight_cloud_landing_away",] == 1
        with cloud.watched(browser) as page:  # signing in needs no room
            says(page, "Landing log: .*No space left")
            ballast.unlink()
            drive.receipted()
            drive.stored(cloud, InfluxConfig(url=influx.url))
            assert cloud.metrics()["cansight_cloud_landing_away",] == 0
            says_nothing(page)


def test_a_full_disk_of_the_store(
    tmp_path: Path, pki: Path, mosquitto: servers.Server, monkeypatch: pytest.MonkeyPatch, browser: Any
) -> None:
    with small_disk("16m") as disk:
        influx = servers.influxdb(disk)
        influx.start()
        store = {"kind": "influx", "influx": {"url": influx.url}}
        try:
            with Cloud(tmp_path, pki, mosquitto.port, store, monkeypatch) as cloud, Drive(cloud, pki, mosquitto.port) as drive:
                drive.send(60)
                drive.receipted()
                processes.until(lambda: cloud.sink("store")["behind"] == 0, "the store")
                ballast = fill(disk)
                drive.send(1200)
                drive.receipted()
                processes.until(lambda: cloud.waited["store"] > 60, "a minute")
                with cloud.watched(browser) as page:
                    says(page, "time series: .*answered 500.*no space left")
                    ballast.unlink()
                    influx.stop()  # 1.6.7 goes on refusing what it writes into the same file until it is started again
                    influx.start()
                    drive.stored(cloud, InfluxConfig(url=influx.url))
                    says_nothing(page)
        finally:
            influx.stop()
