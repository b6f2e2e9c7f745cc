"""The uplink on a real broker: its limits are kept, what it says is acted on, and what it does not say is found out."""

import logging
import ssl
from pathlib import Path

import pytest
from edge_helpers import until
from outbox_writer import VEHICLE
from uplink_parts import Answering, ScriptedBroker, connack, disconnect, vehicle

import servers
from edge.config import UploadConfig
from edge.outbox import Lane
from edge.reconnect import Ending, Pauses
from link_proxy import LinkProxy
from wire.topics import WILL, will


def with_settings(broker: servers.Server, **settings: object) -> None:
    """Start the broker again with other settings."""
    broker.stop()
    config = broker.folder / "mosquitto.conf"
    lines = [line for line in config.read_text().splitlines() if line.split()[0] not in settings]
    config.write_text("\n".join([*lines, *(f"{key} {value}" for key, value in settings.items())]) + "\n")
    broker.start()


def test_no_more_is_sent_at_a_time_than_the_broker_takes(pki: Path, mosquitto: servers.Server) -> None:
    with_settings(mosquitto, max_inflight_messages=2)
    with vehicle(pki, mosquitto.port, cloud=mosquitto.port) as car:
        car.rows(60)
        until(lambda: not car.held, "receipts")
        assert sorted(set(car.arrived)) == list(range(61))
    assert "Receive Maximum" not in mosquitto.log_text
    assert mosquitto.log_text.count(f"as {VEHICLE}") == 1, "one connection"


def test_a_batch_that_the_broker_does_not_take_holds_nothing_up(
    pki: Path, mosquitto: servers.Server, caplog: pytest.LogCaptureFixture
) -> None:
    with_settings(mosquitto, max_packet_size=3000)
    with vehicle(pki, mosquitto.port, cloud=mosquitto.port) as car:
        car.rows(1, 5000)
        car.rows(20)
        until(lambda: len(set(car.arrived)) == 21, "the others")
        until(lambda: car.held == 1, "their receipts")
    assert sum("takes at most 3000 bytes" in record.message for record in caplog.records) == 1
    assert mosquitto.log_text.count(f"as {VEHICLE}") == 1


def test_a_packet_size_that_the_broker_does_not_tell_is_learned(pki: Path) -> None:
    """It hangs up on a large one, and everything else would wait behind it for ever."""
    seen: list[int] = []

    def script(sock: ssl.SSLSocket, _number: int) -> None:
        sock.sendall(connack())
        acknowledged = False
        while data := sock.recv(65536):
            if not acknowledged:
                acknowledged = True
                sock.sendall(bytes([0x90, 5]) + data[2:4] + bytes([0, 1, 1]))
                continue
            seen.append(len(data))
            if len(data) > 4000:
                sock.sendall(disconnect(0x95))
                return

    broker = ScriptedBroker(pki, script)
    try:
        with vehicle(pki, broker.port) as car:
            car.rows(1, 5000)
            until(lambda: any(size > 4000 for size in seen), "the large one")
            until(lambda: len(broker.connects) == 2, "the next connection")
            before = len(seen)
            car.rows(3)
            until(lambda: sum(seen[before:]) > 300, "the small ones")
            assert all(size < 4000 for size in seen[before:])
    finally:
        broker.close()


def test_batches_that_the_broker_refuses_stay_and_that_is_said_once(
    pki: Path, mosquitto: servers.Server, caplog: pytest.LogCaptureFixture
) -> None:
    rules = mosquitto.folder / "acl.conf"
    allowed = rules.read_text()
    rules.write_text("".join(line + "\n" for line in allowed.splitlines() if line != "pattern write cansight/1/%u/up"))
    with_settings(mosquitto)
    with vehicle(pki, mosquitto.port) as car:
        car.rows(3)
        until(lambda: any("does not take batches (Not authorized)" in record.message for record in caplog.records), "a word")
        until(lambda: mosquitto.log_text.count("Denied PUBLISH") >= 2, "a second try")
        assert car.held == 4
        rules.write_text(allowed)
        mosquitto.stop()
        mosquitto.start()
        cloud = Answering(pki, mosquitto.port, car)
        until(lambda: not car.held, "receipts")
        cloud.close()
    assert sum("does not take batches" in record.message for record in caplog.records) == 1


def test_a_broker_whose_rules_know_no_last_will_is_connected_to_without(
    pki: Path, mosquitto: servers.Server, caplog: pytest.LogCaptureFixture
) -> None:
    rules = mosquitto.folder / "acl.conf"
    rules.write_text("".join(line + "\n" for line in rules.read_text().splitlines() if "/will" not in line))
    with_settings(mosquitto)
    caplog.set_level(logging.INFO)
    with vehicle(pki, mosquitto.port, cloud=mosquitto.port) as car:
        car.rows(3)
        until(lambda: not car.held, "receipts")
    assert not any("is away" in record.message for record in caplog.records)


def test_a_vehicle_that_goes_away_without_a_word_leaves_a_last_will(
    pki: Path, mosquitto: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.session.WILL_DELAY_S", 2)
    with vehicle(pki, mosquitto.port) as first:
        until(lambda: first.uplink.connected, "the first start")
    with LinkProxy(mosquitto.port) as link, vehicle(pki, link.port, cloud=mosquitto.port) as car:
        until(lambda: not car.held, "receipts")
        assert car.cloud is not None
        car.uplink._pauses = Pauses(lambda _: 0.0)
        link.reset()
        until(lambda: link.connections >= 2 and car.uplink.connected, "its return, within the delay")
        link.refuse()
        until(lambda: car.cloud and car.cloud.wills, "the will")
        assert car.cloud.wills == [(will(VEHICLE), WILL)]


def test_a_session_that_is_taken_over_is_not_taken_back_at_once(pki: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert said_by(pki, connack() + disconnect(0x8E)) == "TAKEN"
    assert "another client has this vehicle's certificate" in caplog.text


def test_a_broker_that_is_busy_is_left_alone(pki: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert said_by(pki, connack(0x89)) == "BUSY"
    assert "Server busy" in caplog.text


def said_by(pki: Path, answer: bytes) -> str:
    """What the uplink makes of a broker that answers CONNECT with these bytes."""
    broker = ScriptedBroker(pki, lambda sock, _: sock.sendall(answer))
    endings: list[str] = []
    try:
        with vehicle(pki, broker.port) as car:
            ask = car.uplink._pauses.next_s

            def note(ending: Ending, held_s: float) -> float:
                endings.append(ending.name)
                return ask(ending, held_s)

            car.uplink._pauses.next_s = note  # type: ignore[method-assign]
            until(lambda: endings, "the end of the connection")
    finally:
        broker.close()
    return endings[0]


def test_a_packet_that_would_fill_the_memory_ends_the_connection(pki: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert said_by(pki, connack() + b"\x30\xff\xff\xff\x7f" + bytes(100)) == "REJECTED"
    assert "a packet of more than 65536 bytes" in caplog.text


def test_two_agents_with_one_certificate_are_named(pki: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As mosquitto does it: without a word."""

    def script(sock: ssl.SSLSocket, _number: int) -> None:
        sock.sendall(connack())
        sock.sendall(bytes([0x90, 5]) + sock.recv(4096)[2:4] + bytes([0, 1, 1]))
        sock.close()

    broker = ScriptedBroker(pki, script)
    try:
        with vehicle(pki, broker.port) as car:
            car.uplink._pauses = Pauses(lambda _: 0.0)
            until(lambda: "another agent with this vehicle's certificate" in caplog.text, "a word")
    finally:
        broker.close()


def test_a_hang_up_of_a_broker_that_spoke_mqtt_5_is_no_reason_to_speak_3_1_1(pki: Path) -> None:
    def script(sock: ssl.SSLSocket, number: int) -> None:
        if number == 0:
            sock.sendall(connack())
            sock.sendall(bytes([0x90, 5]) + sock.recv(4096)[2:4] + bytes([0, 1, 1]))
        sock.unwrap() if number > 1 else sock.close()

    broker = ScriptedBroker(pki, script)
    try:
        with vehicle(pki, broker.port):
            until(lambda: len(broker.connects) >= 3, "three attempts")
    finally:
        broker.close()
    versions = [data[data.index(b"MQTT") + 4] for data in broker.connects if b"MQTT" in data]
    assert set(versions) == {5}
    first = broker.connects[0]
    assert b"\x21\x00\x40" in first, "receive maximum"
    assert b"\x27\x00\x01\x00\x00" in first, "maximum packet size"


def test_only_what_the_conditions_allow_goes_over_the_link(pki: Path, mosquitto: servers.Server, tmp_path: Path) -> None:
    said = tmp_path / "link.json"

    def say(words: str) -> None:
        beside = tmp_path / "link.json.new"
        beside.write_text(words)
        beside.rename(said)

    say('{"metered": true}')
    upload = UploadConfig(conditions=str(said), metered="findings", ignition_off="nothing")
    with vehicle(pki, mosquitto.port, upload, cloud=mosquitto.port) as car:
        car.rows(5)
        car.record(car.writer.finding())
        until(lambda: 6 in car.arrived and car.lanes() == [Lane.BULK] * 5, "the finding and its receipt")
        assert set(car.arrived) == {0, 6}
        say('{"metered": true, "ignition": false}')
        until(lambda: not car.uplink.connected, "the end of the connection")
        car.record(car.writer.finding())
        say('{"metered": tru')  # a writer that does not rename: what was known stays
        say('{"metered": false}')
        until(lambda: not car.held, "everything")
    assert sorted(set(car.arrived)) == list(range(8))


def test_the_end_is_not_held_up_by_a_broker_that_does_not_answer(pki: Path) -> None:
    def script(sock: ssl.SSLSocket, _number: int) -> None:
        """Says nothing."""

    broker = ScriptedBroker(pki, script)
    try:
        with vehicle(pki, broker.port) as car:
            until(lambda: broker.connects, "the connection")
            thread = car.uplink._thread
            car.uplink.stop(4.0)
            assert thread is not None
            assert not thread.is_alive()
    finally:
        broker.close()
