"""Both brokers keep the same rules: whose certificate it is decides everything."""

import asyncio
import socket
import ssl
import struct
from pathlib import Path
from typing import Any

import pytest
from cloud_vehicle import Client
from paho.mqtt.enums import MQTTProtocolVersion

import servers
from cloud.broker import EmbeddedBroker
from cloud.errors import CloudError
from cloud.mosquitto_config import mosquitto_config
from cloud.pki import init
from cloud.pki import vehicle as enrol
from wire.topics import UP_FILTER, down, up


class Broker:
    """A running broker, and the newest protocol that it speaks."""

    def __init__(self, server: servers.Server, protocol: Any) -> None:
        self.server = server
        self.port = server.port
        self.protocol = protocol

    def client(self, pki: Path, who: str, **options: Any) -> Client:
        return Client(pki, self.port, who, protocol=self.protocol, **options)


@pytest.fixture(params=["mosquitto", "embedded_broker"])
def broker(request: pytest.FixtureRequest) -> Broker:
    protocol = MQTTProtocolVersion.MQTTv5 if request.param == "mosquitto" else MQTTProtocolVersion.MQTTv311
    return Broker(request.getfixturevalue(request.param), protocol)


def test_a_batch_goes_up_and_a_receipt_comes_down(broker: Broker, pki: Path) -> None:
    vehicle = enrol(pki)
    with broker.client(pki, vehicle) as car, broker.client(pki, "aggregator") as cloud:
        car.listen()
        assert cloud.subscribe(UP_FILTER) == 1
        assert car.publish(up(vehicle), b"batch") == 0
        cloud.until(lambda: len(cloud.heard) == 1, "the batch")
        assert cloud.heard == [(up(vehicle), b"batch")]
        cloud.publish(down(vehicle), b"receipt")
        car.until(lambda: len(car.heard) == 1, "the receipt")
        assert car.heard == [(down(vehicle), b"receipt")]


def test_without_a_certificate_of_the_fleet_nobody_connects(broker: Broker, pki: Path, tmp_path: Path) -> None:
    with broker.client(pki, "", client_id="x") as client:
        assert client.refused
        assert client.connack is None
    init(tmp_path / "other")
    stranger = enrol(tmp_path / "other")
    for suffix in (".pem", ".key"):  # trusts our broker, shows another fleet's certificate
        (pki / "vehicles").mkdir(exist_ok=True)
        (pki / "vehicles" / f"{stranger}{suffix}").write_bytes((tmp_path / "other" / "vehicles" / f"{stranger}{suffix}").read_bytes())
    with broker.client(pki, stranger) as client:
        assert client.refused
        assert client.connack is None


def test_older_tls_is_refused(broker: Broker, pki: Path) -> None:
    context = ssl.create_default_context(cafile=str(pki / "fleet-ca.pem"))
    context.load_cert_chain(pki / "aggregator.pem", pki / "aggregator.key")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("localhost", broker.port), 10) as plain, pytest.raises(OSError, match=r"(?i)ssl|protocol|version"):
        context.wrap_socket(plain, server_hostname="localhost")


def test_a_vehicle_reaches_its_own_topics_only(broker: Broker, pki: Path) -> None:
    mine, other = enrol(pki), enrol(pki)
    with broker.client(pki, mine) as car, broker.client(pki, other) as victim, broker.client(pki, "aggregator") as cloud:
        victim.listen()
        assert cloud.subscribe(UP_FILTER) == 1
        car.listen()
        for topic in (down(other), up(other), UP_FILTER, "#", "$SYS/#", "cansight/1/+/down"):
            car.subscribe(topic)
        for topic in (up(other), down(other), down(mine), "cansight/1/aggregator/up", "elsewhere"):
            car.publish(topic, b"forged")
        cloud.publish(down(other), b"for the other")
        victim.until(lambda: bool(victim.heard), "its receipt")
        victim.publish(up(other), b"the other's batch")
        car.publish(up(mine), b"my batch")
        cloud.until(lambda: len(cloud.heard) == 2, "both batches")
        cloud.publish(down(mine), b"for me")
        car.until(lambda: bool(car.heard), "its own receipt")
        assert set(car.heard) == {(down(mine), b"for me")}  # once for each of its subscriptions that match
        assert sorted(cloud.heard) == sorted([(up(other), b"the other's batch"), (up(mine), b"my batch")])
        assert victim.heard == [(down(other), b"for the other")]


def test_the_aggregator_may_not_speak_for_a_vehicle(broker: Broker, pki: Path) -> None:
    vehicle = enrol(pki)
    with broker.client(pki, "aggregator") as cloud, broker.client(pki, vehicle) as car:
        assert cloud.subscribe(UP_FILTER) == 1
        cloud.publish(up(vehicle), b"forged")
        car.publish(up(vehicle), b"genuine")
        cloud.until(lambda: bool(cloud.heard), "the batch")
        assert cloud.heard == [(up(vehicle), b"genuine")]


def test_another_client_id_gets_nobody_elses_session(broker: Broker, pki: Path) -> None:
    """mosquitto takes the certificate's name whatever the client says, the embedded broker refuses; neither disturbs the other client."""
    thief, victim = enrol(pki), enrol(pki)
    with broker.client(pki, victim) as car, broker.client(pki, "aggregator") as cloud:
        car.listen()
        with broker.client(pki, thief, client_id=victim) as intruder:
            if not intruder.refused:
                intruder.subscribe(down(victim))
            cloud.publish(down(victim), b"receipt")
            car.until(lambda: bool(car.heard), "the receipt")
            assert intruder.heard == []
        assert not car.refused


def test_a_will_and_a_retained_message_stay_inside_the_rules(broker: Broker, pki: Path) -> None:
    thief, victim = enrol(pki), enrol(pki)
    with broker.client(pki, victim) as car, broker.client(pki, "aggregator") as cloud:
        car.listen()
        intruder = broker.client(pki, thief)
        intruder.paho.will_set(down(victim), b"forged by a will", qos=1)
        with intruder:
            if not intruder.refused:
                intruder.publish(up(thief), b"retained", retain=True)
                sock: Any = intruder.paho.socket()
                if sock is not None:  # mosquitto has hung up already, because of the retained message
                    sock.close()  # without a DISCONNECT: the will is due
        assert cloud.subscribe(UP_FILTER) == 1
        cloud.publish(down(victim), b"receipt")
        car.until(lambda: (down(victim), b"receipt") in car.heard, "the receipt")
        assert car.heard == [(down(victim), b"receipt")]
        assert (up(thief), b"retained") not in cloud.heard


def test_noise_before_connect_ends_that_connection_alone(broker: Broker, pki: Path) -> None:
    vehicle = enrol(pki)
    context = ssl.create_default_context(cafile=str(pki / "fleet-ca.pem"))
    context.load_cert_chain(pki / "vehicles" / f"{vehicle}.pem", pki / "vehicles" / f"{vehicle}.key")
    for noise in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x10\xff\xff\xff\xff", b"\x10\xff\xff\xff\x7f", b"\x10\x00", b"\x10\x04\x00\x09MQ"):
        with socket.create_connection(("localhost", broker.port), 10) as plain:
            secure = context.wrap_socket(plain, server_hostname="localhost")
            secure.sendall(noise)
            secure.close()
    with broker.client(pki, vehicle) as car:
        assert not car.refused
    assert "Traceback" not in broker.server.log_text


def test_a_connection_that_is_reset_is_no_traceback_in_the_log(broker: Broker, pki: Path) -> None:
    vehicle = enrol(pki)
    context = ssl.create_default_context(cafile=str(pki / "fleet-ca.pem"))
    context.load_cert_chain(pki / "vehicles" / f"{vehicle}.pem", pki / "vehicles" / f"{vehicle}.key")
    for said in (b"", b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x"):  # nothing, or a client id that is not the certificate's
        plain = socket.create_connection(("localhost", broker.port), 10)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        secure = context.wrap_socket(plain, server_hostname="localhost")
        if said:
            secure.sendall(said)
        secure.close()
    with broker.client(pki, vehicle) as car:
        assert not car.refused
    assert "Traceback" not in broker.server.log_text


def test_a_broker_key_of_another_fleet_is_named(tmp_path: Path, pki: Path) -> None:
    init(tmp_path / "other")
    (pki / "broker.key").unlink()
    (tmp_path / "other" / "broker.key").rename(pki / "broker.key")

    async def run() -> None:
        async with EmbeddedBroker(pki, "127.0.0.1", servers.free_port()):
            pass

    with pytest.raises(CloudError, match=r"broker.pem and .*broker.key: are not a certificate and its key"):
        asyncio.run(run())


def test_mosquittos_settings_say_what_is_missing(tmp_path: Path, pki: Path) -> None:
    (pki / "broker.key").unlink()
    with pytest.raises(CloudError, match=r"broker\.key: cannot be read; `cansight pki init"):
        mosquitto_config(pki, tmp_path, "127.0.0.1", 8883)
