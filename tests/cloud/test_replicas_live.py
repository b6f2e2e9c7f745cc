"""Aggregators as processes on a real PostgreSQL: two that share a mosquitto and an InfluxDB, and one whose database goes away."""

import signal
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cloud_vehicle import Client, Vehicle, receipts
from paho.mqtt.enums import MQTTProtocolVersion
from test_cloud_run import DBC, EV, CloudProcess, connected, deliver, make_vehicle

import processes
import servers
from cloud import pki as fleet
from cloud.lake.reading import open_lake
from dbc.compiler import load_compiled
from dbc.schema import Schema
from wire.messages import StatusMessage

FIVE = MQTTProtocolVersion.MQTTv5


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    return load_compiled(DBC, tmp_path_factory.mktemp("dbc")).schema


class Replica(CloudProcess):
    """One of several, or one alone ("") on PostgreSQL."""

    def __init__(self, name: str, folder: Path, pki: Path, port: int, store: dict[str, Any], url: str) -> None:
        self.folder = folder / f"replica-{name}"
        self.folder.mkdir()
        self.process = None
        certificate = f"aggregator-{name}" if name else "aggregator"
        self.settings, self.api = processes.cloud_settings(
            self.folder,
            pki,
            port,
            DBC,
            store,
            vehicle_model=[{"name": "cansight_ev", "dbc": DBC, "catalogue": str(EV / "catalogue.toml")}],
            broker=processes.broker(pki, port, certificate) | {"replica": name},
            database={"url": url},
            lake={"path": str(folder / "lake")} if name else {},  # replicas write one
        )

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(processes.asking(f"{self.api}/metrics"), timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return float(next(line for line in lines if line.startswith(name + " ")).split()[1])


def caught_up(process: CloudProcess) -> bool:
    stats = process.stats()
    return bool(stats) and not any(sink["behind"] or sink["error"] for sink in stats["sinks"].values())


def stored(process: CloudProcess, vehicle: Vehicle, schema: Schema, boot_ms: int, ticks: int) -> None:
    """Every tick is in the store, once and with its values, and no other."""
    for name in (schema.names[0], schema.names[-1]):
        query = f"signal={name}&from_ms={boot_ms}&to_ms={boot_ms + 1_000_000}&points=10000"
        found = process.get(f"/api/vehicles/{vehicle.id}/series?{query}")
        assert found["tick_ms"] == [boot_ms + 1000 * tick for tick in range(ticks)]
        assert found["series"][name] == schema.physical(vehicle.values(range(ticks)))[:, schema.index(name)].tolist()


def publish(client: Client, vehicle: Vehicle, ticks: range, times: int = 1) -> None:
    for tick in range(ticks.start, ticks.stop, 2):
        for data in [vehicle.rows(range(tick, tick + 2)).data] * times:
            client.paho.publish(vehicle.topic, data, qos=1)


@pytest.mark.timeout(240)
def test_two_share_the_messages_and_whoever_dies_nothing_is_lost_or_twice(
    tmp_path: Path, pki: Path, postgres: servers.Postgres, influxdb: servers.HttpServer, schema: Schema
) -> None:
    for name in ("a", "b"):
        fleet.replica(pki, name)
    (tmp_path / "mosquitto").mkdir()
    broker = servers.mosquitto(tmp_path / "mosquitto", pki)
    store = {"kind": "influx", "influx": {"url": influxdb.url}}
    url = postgres.make("shared")
    vehicles = [make_vehicle(pki, schema) for _ in range(3)]
    with ExitStack() as stack:
        broker.start()
        stack.callback(broker.stop)
        a, b = replicas = [Replica(name, tmp_path, pki, broker.port, store, url) for name in ("a", "b")]
        for replica in replicas:
            replica.start()
            stack.callback(lambda one=replica: one.dead() or one.end(signal.SIGKILL))
        clients = [stack.enter_context(connected(vehicle, broker, FIVE)) for vehicle, _ in vehicles]
        for (vehicle, _), client in zip(vehicles, clients, strict=True):
            client.listen()
            client.paho.publish(vehicle.topic, vehicle.announcement.data, qos=1)  # one of the two is told, both can open what follows
            publish(client, vehicle, range(100), times=2)  # each batch twice: many land at both
            client.paho.publish(vehicle.topic, vehicle.finding(1, finding_id=bytes.fromhex(vehicle.id) * 2).data, qos=1)
            running = StatusMessage(tick_ms=200_000, state="running", counters={}, facts={})
            client.paho.publish(vehicle.topic, vehicle.say(running).data, qos=1)
            deliver(client, vehicle)
        shares = [replica.stats()["landed"] for replica in replicas]
        assert all(shares), shares
        assert sum(shares) > 3 * 53, "some landed at both"
        for dying, staying in ((a, b), (b, a)):
            before = len(receipts(clients[-1].heard))
            for (vehicle, _), client in zip(vehicles, clients, strict=True):
                first = 100 if dying is a else 200
                publish(client, vehicle, range(first, first + 100))
                vehicle.finding(2, finding_id=bytes([first]) * 8 + bytes.fromhex(vehicle.id))
            clients[-1].until(lambda b=before: len(receipts(clients[-1].heard)) > b, "some receipts")
            dying.end(signal.SIGKILL)
            for (vehicle, _), client in zip(vehicles, clients, strict=True):
                deliver(client, vehicle)  # the other one takes all of it
            assert staying.stats()["connected"]
            dying.start()
        for replica in replicas:
            processes.until(lambda: caught_up(replica), "the sinks")  # noqa: B023
        heard = {vehicle.id for vehicle, _ in vehicles}  # b, started last, was told nothing since
        processes.until(lambda: b.stats()["online_ms"].keys() == heard, "b's word of vehicles that the other has heard")
        for vehicle, boot_ms in vehicles:
            stored(a, vehicle, schema, boot_ms, 300)
            for replica in replicas:  # they have one queue
                (ticket,) = replica.get(f"/api/tickets?vehicle={vehicle.id}")["tickets"]
                assert ticket["occurrences"] == 3
        for replica in replicas:
            assert replica.end(signal.SIGTERM) == 0
    with open_lake(tmp_path / "lake") as lake:  # the one of both
        told = lake.query(f'SELECT vehicle, count("{schema.names[-1]}") AS ticks FROM ticks GROUP BY vehicle').to_pylist()
    assert {one["vehicle"]: one["ticks"] for one in told} == dict.fromkeys(heard, 300)


@pytest.mark.timeout(180)
def test_the_database_is_started_again_under_load(tmp_path: Path, pki: Path, mosquitto: servers.Server, schema: Schema) -> None:
    folder = tmp_path / "postgres"
    folder.mkdir()
    postgres = servers.Postgres(folder)
    with ExitStack() as stack:
        stack.callback(postgres.end)
        postgres.start()
        process = Replica("", tmp_path, pki, mosquitto.port, {"kind": "embedded"}, postgres.make("cloud"))
        process.start()
        stack.callback(lambda: process.dead() or process.end(signal.SIGKILL))
        (old, old_boot_ms), (new, new_boot_ms) = make_vehicle(pki, schema), make_vehicle(pki, schema)
        client, other = (stack.enter_context(connected(vehicle, mosquitto, FIVE)) for vehicle in (old, new))
        client.listen()
        other.listen()
        client.paho.publish(old.topic, old.announcement.data, qos=1)
        publish(client, old, range(100))
        deliver(client, old)
        postgres.kill()
        publish(client, old, range(100, 200))
        old.finding(150)
        deliver(client, old)  # a stream that is known lands and has its receipts without the tables
        other.paho.publish(new.topic, new.announcement.data, qos=1)  # one that is new waits for them
        publish(other, new, range(100))
        processes.until(lambda: bool(process.stats().get("database_error")), "the loss to be said")
        processes.until(lambda: process.stats()["unknown"] > 0, "what is new to wait")
        publish(client, old, range(200, 300))
        deliver(client, old)  # and nobody else with it
        assert process.metric("cansight_cloud_database_away") == 1
        system = process.get("/api/system")
        assert not system["tickets"]["ok"]
        assert "connection" in system["tickets"]["error"]
        assert not receipts(other.heard)
        postgres.start()
        processes.until(lambda: not process.stats()["database_error"], "the database to be seen again")
        deliver(other, new)
        processes.until(lambda: caught_up(process), "the sinks")
        stored(process, old, schema, old_boot_ms, 300)
        stored(process, new, schema, new_boot_ms, 100)
        (ticket,) = process.get("/api/tickets")["tickets"]
        assert (ticket["vehicle"], ticket["occurrences"]) == (old.id, 1)
        assert process.metric("cansight_cloud_database_away") == 0
        assert process.end(signal.SIGTERM) == 0
