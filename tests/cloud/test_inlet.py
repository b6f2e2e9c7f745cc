"""The inlet bounds what waits in memory, whoever sends and however often the connection ends."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

import processes
import servers
from cloud.aggregator import Arrival
from cloud.config import BrokerConfig
from cloud.inlet import Inlet

MOST, SENT = 20, 200
SLACK = 5  # packets that are read behind the answer to a CONNECT


@pytest.fixture
def got() -> list[Arrival]:
    return []


@pytest.fixture
def inlet(pki: Path, mosquitto: servers.Server, got: list[Arrival], monkeypatch: pytest.MonkeyPatch) -> Iterator[Inlet]:
    monkeypatch.setattr("cloud.inlet.UNACKNOWLEDGED", MOST)
    monkeypatch.setattr("cloud.inlet.KEEPALIVE_S", 2)
    certificate, key = str(pki / "aggregator.pem"), str(pki / "aggregator.key")
    config = BrokerConfig(host="localhost", port=mosquitto.port, ca=str(pki / "fleet-ca.pem"), certificate=certificate, key=key)
    made = Inlet(config, got.append)
    made.start()
    processes.until(lambda: made.connected, "the connection")
    yield made
    made.stop(5)


def send(pki: Path, port: int, qos: int) -> None:
    """SENT messages of a vehicle."""
    from cloud.pki import vehicle as enrol

    vehicle = enrol(pki)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=vehicle, protocol=mqtt.MQTTv5)
    context = ssl.create_default_context(cafile=str(pki / "fleet-ca.pem"))
    context.load_cert_chain(pki / "vehicles" / f"{vehicle}.pem", pki / "vehicles" / f"{vehicle}.key")
    client.tls_set_context(context)
    client.connect("localhost", port)
    client.loop_start()
    sent = [client.publish(f"cansight/1/{vehicle}/up", b"x" * 100, qos=qos) for _ in range(SENT)]
    for info in sent:
        info.wait_for_publish(30)
    client.disconnect()
    client.loop_stop()


def test_qos_0_cannot_fill_the_memory(pki: Path, mosquitto: servers.Server, inlet: Inlet, got: list[Arrival]) -> None:
    send(pki, mosquitto.port, 0)
    processes.until(lambda: len(got) >= MOST, "as many as may wait")
    assert len(got) <= MOST + SLACK
    inlet.acknowledge(list(got))
    processes.until(lambda: len(got) > MOST + SLACK, "more, now that there is room")


def test_what_is_delivered_again_after_a_lost_connection_does_not_pile_up(
    pki: Path, mosquitto: servers.Server, inlet: Inlet, got: list[Arrival]
) -> None:
    send(pki, mosquitto.port, 1)
    # the connection is not read while nothing may be taken, so no ping comes back and it ends
    processes.until(lambda: mosquitto.log_text.count(" as aggregator (") >= 3, "two new connections")
    assert MOST <= len(got) <= MOST + SLACK
    told = 0
    while told < SENT:
        arrivals = got[told:]
        told += len(arrivals)
        inlet.acknowledge(arrivals)
        processes.until(lambda seen=told: len(got) > seen or seen >= SENT, "the rest")


def test_a_last_will_is_a_state_and_no_data(pki: Path, mosquitto: servers.Server, inlet: Inlet, got: list[Arrival]) -> None:
    from cloud.pki import vehicle as enrol

    vehicle = enrol(pki)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=vehicle, protocol=mqtt.MQTTv5)
    client.tls_set(str(pki / "fleet-ca.pem"), str(pki / "vehicles" / f"{vehicle}.pem"), str(pki / "vehicles" / f"{vehicle}.key"))
    client.will_set(f"cansight/1/{vehicle}/will", b"\1", qos=1)
    client.connect("localhost", mosquitto.port)
    client.loop_start()
    processes.until(client.is_connected, "the vehicle")
    client.loop_stop()
    client._sock_close()  # without a goodbye
    processes.until(lambda: vehicle in inlet.gone_ms, "its last will")
    processes.until(lambda: inlet.waiting == 0, "its acknowledgement")
    assert got == []
