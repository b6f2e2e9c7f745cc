"""`cansight cloud run` as a process, on real brokers and stores: what it promises when it is killed, stopped or misconfigured."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cloud_vehicle import Client, Vehicle, receipts
from paho.mqtt.enums import MQTTProtocolVersion
from prometheus_client.parser import text_string_to_metric_families

import processes
import servers
from cansight.commands.cloud_settings import load_config
from cloud.check import check
from dbc.compiler import load_compiled
from dbc.schema import Schema
from wire.messages import Clock, StatusMessage
from wire.receipts import Status

EV = Path(__file__).parents[2] / "dbc" / "vehicles" / "cansight_ev"
DBC = [f"{EV / 'drive.dbc'}@can0", f"{EV / 'body.dbc'}@can1"]


class CloudProcess:
    """`cansight cloud run` with settings that may be changed between runs."""

    def __init__(self, folder: Path, pki: Path, port: int, store: dict[str, Any]) -> None:
        self.folder = folder
        self.settings, self.api = processes.cloud_settings(
            folder,
            pki,
            port,
            DBC,
            store,
            vehicle_model=[{"name": "cansight_ev", "dbc": DBC, "catalogue": str(EV / "catalogue.toml")}],
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = processes.cansight("cloud", "run", "-c", self.settings, log=self.folder / "cloud.log")
        processes.until(lambda: self.stats().get("connected", False) or self.dead(), "the aggregator")
        assert not self.dead(), self.words()

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def dead(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def words(self) -> str:
        return (self.folder / "cloud.log").read_text()

    def get(self, path: str) -> Any:
        return processes.get(f"{self.api}{path}")

    def stats(self) -> dict[str, Any]:
        return self.get("/api/stats") or {}


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    return load_compiled(DBC, tmp_path_factory.mktemp("dbc")).schema


@pytest.fixture(params=["mosquitto, influx", "embedded broker, embedded store"])
def cloud(request: pytest.FixtureRequest, tmp_path: Path, pki: Path) -> Iterator[tuple[CloudProcess, servers.Server, Any]]:
    if request.param.startswith("mosquitto"):
        broker, protocol = request.getfixturevalue("mosquitto"), MQTTProtocolVersion.MQTTv5
        store = {"kind": "influx", "influx": {"url": request.getfixturevalue("influxdb").url}}
    else:
        broker, protocol = request.getfixturevalue("embedded_broker"), MQTTProtocolVersion.MQTTv311
        store = {"kind": "embedded"}
    process = CloudProcess(tmp_path, pki, broker.port, store)
    process.start()
    try:
        yield process, broker, protocol
    finally:
        if not process.dead():
            process.end(signal.SIGKILL)


def make_vehicle(pki: Path, schema: Schema) -> tuple[Vehicle, int]:
    """A vehicle whose boot was now, and that instant."""
    boot_ms = time.time_ns() // 1_000_000_000 * 1000
    return Vehicle(pki, schema, clock=Clock(boot_ms=0, utc_ms=boot_ms, source="system")), boot_ms


def connected(vehicle: Vehicle, broker: servers.Server, protocol: Any) -> Client:
    return Client(vehicle.pki, broker.port, vehicle.id, protocol=protocol)


def deliver(client: Client, vehicle: Vehicle, again_s: float = 1.0) -> None:
    """Do as an agent does: send what has no receipt again and again, every `again_s`, until it has one."""

    def missing() -> list[Any]:
        got = receipts(client.heard)
        return [
            sealed
            for sealed in vehicle.sent
            if got.get((sealed.header.stream, sealed.header.sequence)) != (Status.STORED, sealed.tags[Status.STORED])
        ]

    deadline = time.monotonic() + 60
    while due := missing():
        assert time.monotonic() < deadline, f"{len(due)} batches have no receipt"
        for sealed in due:
            client.paho.publish(vehicle.topic, sealed.data, qos=1)
        with client.changed:
            client.changed.wait_for(lambda: not missing(), again_s)


def test_what_is_sent_can_be_queried_and_a_finding_is_a_ticket(
    cloud: tuple[CloudProcess, servers.Server, Any], pki: Path, schema: Schema
) -> None:
    process, broker, protocol = cloud
    vehicle, boot_ms = make_vehicle(pki, schema)
    vehicle.rows(range(3))
    vehicle.finding(2)
    with connected(vehicle, broker, protocol) as client:
        client.listen()
        deliver(client, vehicle, again_s=60)  # once each, however slow the machine
    processes.until(lambda: (process.get(f"/api/vehicles/{vehicle.id}/newest") or {}).get("tick_ms") == boot_ms + 2000, "the last tick")
    name = schema.names[5]
    found = process.get(f"/api/vehicles/{vehicle.id}/series?signal={name}&from_ms={boot_ms}&to_ms={boot_ms + 10_000}")
    assert found["tick_ms"] == [boot_ms, boot_ms + 1000, boot_ms + 2000]
    assert found["series"][name] == schema.physical(vehicle.values(range(3)))[:, 5].tolist()
    processes.until(lambda: len(process.get("/api/tickets")["tickets"]) == 1, "the ticket")
    (ticket,) = process.get("/api/tickets")["tickets"]
    assert (ticket["vehicle"], ticket["fault_code"], ticket["tier"]) == (vehicle.id, "coolant_leak", "unrated")
    stats = process.stats()
    assert (stats["landed"], stats["duplicates"], stats["refused"], stats["findings"]) == (3, 0, 0, 1)
    assert [one for one in check(load_config(process.settings)) if not one.ok] == [], "beside the running cloud"
    assert process.end(signal.SIGTERM) == 0


def test_what_a_vehicle_says_of_itself_is_asked_for_and_late_news_change_nothing(
    cloud: tuple[CloudProcess, servers.Server, Any], pki: Path, schema: Schema
) -> None:
    process, broker, protocol = cloud
    vehicle, boot_ms = make_vehicle(pki, schema)
    vehicle.say(StatusMessage(tick_ms=9000, state="stopping", counters={"frames": 12.0}, facts={"agent": "cansight 9"}))
    vehicle.say(StatusMessage(tick_ms=4000, state="running", counters={"frames": 5.0}))
    with connected(vehicle, broker, protocol) as client:
        client.listen()
        deliver(client, vehicle)
    processes.until(lambda: process.stats()["sinks"]["health"]["behind"] == 0, "the sink")
    said = process.get(f"/api/vehicles/{vehicle.id}/status")
    assert (said["tick_ms"], said["state"], said["counters"], said["facts"]) == (
        boot_ms + 9000,
        "stopping",
        {"frames": 12.0},
        {"agent": "cansight 9"},
    )
    with urllib.request.urlopen(processes.asking(f"{process.api}/metrics"), timeout=10) as answer:
        text = answer.read().decode()
    found = {
        (sample.name, *sample.labels.values()): sample.value for family in text_string_to_metric_families(text) for sample in family.samples
    }
    assert found[("cansight_cloud_landed_total",)] == process.stats()["landed"] == 3
    assert found[("cansight_cloud_sink_behind", "health")] == 0
    assert process.end(signal.SIGTERM) == 0


@pytest.mark.timeout(180)
def test_killed_at_any_time_nothing_is_lost_and_nothing_is_twice(
    cloud: tuple[CloudProcess, servers.Server, Any], pki: Path, schema: Schema
) -> None:
    process, broker, protocol = cloud
    vehicle, boot_ms = make_vehicle(pki, schema)
    with connected(vehicle, broker, protocol) as client:
        client.listen()
        client.paho.publish(vehicle.topic, vehicle.announcement.data, qos=1)
        for round_ in range(4):
            before = len(receipts(client.heard))
            for tick in range(round_ * 100, round_ * 100 + 100, 2):
                client.paho.publish(vehicle.topic, vehicle.rows(range(tick, tick + 2)).data, qos=1)
            client.paho.publish(vehicle.topic, vehicle.finding(round_, finding_id=bytes([round_]) * 16).data, qos=1)
            client.until(lambda b=before: len(receipts(client.heard)) > b, "some receipts")
            process.end(signal.SIGKILL)
            process.start()
        deliver(client, vehicle)
        assert not client.refused
    processes.until(lambda: not any(sink["behind"] for sink in process.stats()["sinks"].values()), "the sinks")
    for name in (schema.names[0], schema.names[-1]):
        query = f"signal={name}&from_ms={boot_ms}&to_ms={boot_ms + 1_000_000}&points=10000"
        found = process.get(f"/api/vehicles/{vehicle.id}/series?{query}")
        column = schema.index(name)
        assert found["tick_ms"] == [boot_ms + 1000 * tick for tick in range(400)]
        assert found["series"][name] == schema.physical(vehicle.values(range(400)))[:, column].tolist()
    (ticket,) = process.get("/api/tickets")["tickets"]
    assert ticket["occurrences"] == 4
    assert process.end(signal.SIGTERM) == 0
    with sqlite3.connect(process.folder / "cloud" / "cansight.db") as database:
        (runs,) = database.execute("SELECT ranges FROM landed").fetchone()
    assert len(runs) == 8, "every sequence landed: one run"


def test_the_broker_may_go_and_come_back(tmp_path: Path, pki: Path, mosquitto: servers.Server, schema: Schema) -> None:
    process = CloudProcess(tmp_path, pki, mosquitto.port, {"kind": "embedded"})
    process.start()
    try:
        vehicle, boot_ms = make_vehicle(pki, schema)
        vehicle.rows(range(2))
        mosquitto.kill()
        processes.until(lambda: process.stats()["connected"] is False, "the loss")
        mosquitto.start()
        with connected(vehicle, mosquitto, MQTTProtocolVersion.MQTTv5) as client:
            client.listen()
            deliver(client, vehicle)
        processes.until(lambda: (process.get(f"/api/vehicles/{vehicle.id}/newest") or {}).get("tick_ms") == boot_ms + 1000, "the last tick")
        assert process.end(signal.SIGINT) == 0
        assert process.words().count("is away") == 1
        assert "Traceback" not in process.words()
    finally:
        if not process.dead():
            process.end(signal.SIGKILL)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.replace("fleet-ca.pem", "no-such.pem"), "no-such.pem: broker.ca cannot be read: No such file or directory"),
        (lambda s: s.replace("aggregator.key", "broker.key"), "broker.certificate and broker.key do not go together"),
        (lambda s: s.replace("recipient.key", "pack.key"), "pack.key: recipient private key: expected a file from"),
        (lambda s: s.replace("drive.dbc", "absent.dbc"), "absent.dbc"),
        (lambda s: s.replace("catalogue.toml", "drive.dbc"), "drive.dbc"),
        (lambda s: s.replace('host = "127.0.0.1"', 'host = "0.0.0.0"'), "api.host: expected a loopback address"),
        (lambda s: s.replace('kind = "embedded"', 'kind = "oracle"'), "store.kind: "),
        (lambda s: s + '\n[surprise]\nkey = "value"\n', "surprise"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_code_2(tmp_path: Path, pki: Path, change: Any, words: str) -> None:
    process = CloudProcess(tmp_path, pki, servers.free_port(), {"kind": "embedded"})
    process.settings.write_text(change(process.settings.read_text()))
    done = subprocess.run(
        [sys.executable, "-m", "cansight", "cloud", "run", "-c", str(process.settings)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("cansight: ")


def test_a_port_in_use_is_one_line_and_exit_code_2(tmp_path: Path, pki: Path, mosquitto: servers.Server) -> None:
    process = CloudProcess(tmp_path, pki, mosquitto.port, {"kind": "embedded"})
    process.start()
    try:
        second = (
            CloudProcess(tmp_path / "second", pki, mosquitto.port, {"kind": "embedded"}) if (tmp_path / "second").mkdir() is None else None
        )
        assert second is not None
        port = process.api.rpartition(":")[2]
        second.settings.write_text(second.settings.read_text().replace(second.api.rpartition(":")[2], port))
        for settings, words in ((second.settings, f"{port}: cannot listen"), (process.settings, "another process has this log open")):
            done = subprocess.run(
                [sys.executable, "-m", "cansight", "cloud", "run", "-c", str(settings)], capture_output=True, text=True, timeout=60
            )
            assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
            assert words in done.stderr
        command = [sys.executable, "-m", "cansight", "cloud", "broker", "--pki", str(pki), "--port", str(mosquitto.port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert f"broker 127.0.0.1:{mosquitto.port}: cannot listen" in done.stderr
    finally:
        process.end(signal.SIGTERM)


def test_check_looks_at_everything_and_says_what_is_wrong(tmp_path: Path, pki: Path, mosquitto: servers.Server) -> None:
    influx = {"kind": "influx", "influx": {"url": f"http://127.0.0.1:{servers.free_port()}"}}
    for store, code in (({"kind": "embedded"}, 0), (influx, 1)):
        process = CloudProcess(tmp_path, pki, mosquitto.port, store)
        command = [sys.executable, "-m", "cansight", "cloud", "check", "--json", "-c", str(process.settings)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stderr
        answer = json.loads(done.stdout)
        what = ["files", "certificates", "revocations", "broker", "database", "store", "clock", "api"]
        assert [row["what"].split()[0] for row in answer["checks"]] == what
        assert [row["ok"] for row in answer["checks"]] == [True, True, True, True, True, code == 0, True, True]
        assert answer["ok"] is (code == 0)
