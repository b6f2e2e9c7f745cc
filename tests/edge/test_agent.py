"""The agent as a process, on a real broker: what it sends is what was on the bus, and nothing is lost whoever dies."""

import gzip
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from edge_helpers import OWNER, PATIENCE_S, SECRET, START_S, VEHICLE, Aggregator, Car, MakeCar, until, write_log

import servers
from dbc.compiler import load_compiled
from dbc.decoder import Decoder
from dbc.logs import open_log
from dbc.sampler import Sampler
from wire.messages import Gap, Kind
from wire.receipts import Status


def expected_rows(car: Car, log: Path) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """tick_ms -> (raw, reason) of all signals, straight from decoder and sampler."""
    compiled = load_compiled([str(car.folder / "car.dbc")], None)
    decoder, sampler = Decoder(compiled, ()), Sampler(compiled.schema)
    snapshots = []
    for block in open_log(log):
        snapshots += sampler.feed(block, decoder.decode(block))
    snapshots += sampler.finish()
    return {snapshot.tick_ns // 1_000_000: (snapshot.raw, snapshot.reason) for snapshot in snapshots}


def test_what_arrives_is_what_was_on_the_bus(tmp_path: Path, make_car: MakeCar, aggregator: Aggregator) -> None:
    log = write_log(tmp_path / "drive.log", 30)
    car = make_car(log)
    car.start()
    code, said = car.end()
    assert (code, "connected to broker" in said) == (0, True)
    assert aggregator.missing() == []
    expected = expected_rows(car, log)
    schema = load_compiled([str(car.folder / "car.dbc")], None).schema
    classes = {opened.announcement.consent_class: opened for opened in aggregator.streams.values()}
    assert set(classes) == {"technical", "driving"}
    recorded = [schema.names[column] for opened in classes.values() for column in opened.columns]
    assert sorted(recorded) == ["Cabin.Temperature", "Motor.SecretValue", "Motor.Speed", "Motor.Torque", "Never.Sent"]
    for consent_class, opened in classes.items():
        assert opened.header.vehicle == VEHICLE
        assert opened.announcement.schema_id == schema.schema_id
        rows = Aggregator.rows(_only(aggregator, opened.header.stream))
        assert rows.keys() == expected.keys()
        for tick_ms, (raw, reason) in rows.items():
            np.testing.assert_array_equal(raw, expected[tick_ms][0][opened.columns], err_msg=consent_class)
            np.testing.assert_array_equal(reason, expected[tick_ms][1][opened.columns], err_msg=consent_class)
    status = car.status
    assert status["drained"]
    assert status["source_finished"]
    assert status["ticks"] == 30
    assert status["batches_recorded"] == status["batches_receipted"] == len(aggregator.landed)
    assert (status["frames"], status["frames_unknown"]) == (30 * 22, 30)
    assert (status["signals"], status["signals_seen"]) == (6, 5)
    assert status["samples"] == 30 * 4
    assert not any((car.state / "outbox" / "streams").iterdir())


def _only(aggregator: Aggregator, stream: bytes) -> Aggregator:
    """The aggregator as it would be with this stream alone."""
    one = Aggregator(aggregator.pki, aggregator.port)
    one.streams = aggregator.streams
    one.bodies = {key: value for key, value in aggregator.bodies.items() if key[0] == stream}
    return one


def test_neither_the_outbox_nor_the_broker_sees_a_value_or_a_name(
    tmp_path: Path, make_car: MakeCar, aggregator: Aggregator, mosquitto: servers.Server
) -> None:
    aggregator.silent = True
    car = make_car(write_log(tmp_path / "drive.log", 20))
    car.start()
    until(lambda: len(aggregator.landed) >= 16, "as many batches as are in flight at once")
    code, _ = car.end(signal.SIGTERM)
    assert code == 0
    files = {path: path.read_bytes() for path in (car.state / "outbox").rglob("*") if path.is_file()}
    assert sum(map(len, files.values())) > 2000
    payloads = [*files.values(), *aggregator.landed.values(), mosquitto.log.read_bytes()]
    secrets = [number.to_bytes(size, order) for number, size in ((SECRET, 4), (OWNER, 3)) for order in ("little", "big")]
    for clear in (b"Torque", b"Motor", b"SecretValue", b"Temperature", b"rpm", *secrets):
        assert not any(clear in payload for payload in payloads), clear


def test_a_broker_that_is_killed_in_mid_stream_loses_nothing(
    tmp_path: Path, make_car: MakeCar, aggregator: Aggregator, mosquitto: servers.Server
) -> None:
    car = make_car(write_log(tmp_path / "drive.log", 60), source={"speed": 20.0})
    car.start()
    until(lambda: len(aggregator.landed) >= 8, "the first batches")
    mosquitto.kill()
    until(lambda: car.status.get("connected") is False, "the agent to notice")
    mosquitto.start()
    code, said = car.end()
    assert code == 0
    assert said.count("is away") == 1
    assert said.count("connected to broker") == 2
    assert aggregator.missing() == []
    status = car.status
    assert status["batches_recorded"] == status["batches_receipted"] == len(aggregator.landed)
    assert len({tick for (tick, _) in _ticks(aggregator)}) == 60


def _ticks(aggregator: Aggregator) -> set[tuple[int, bytes]]:
    return {(tick_ms, b"") for tick_ms in aggregator.rows()}


def test_a_puback_is_not_custody_and_withheld_receipts_mean_sending_again(
    tmp_path: Path, make_car: MakeCar, aggregator: Aggregator
) -> None:
    aggregator.silent = True
    car = make_car(write_log(tmp_path / "drive.log", 6))
    car.start()
    until(lambda: len(aggregator.arrivals) >= 8, "the first batches")  # 2 announcements, 2 x 3 batches: fewer than are in flight at once
    until(lambda: car.status.get("source_finished"), "the end of the log")
    assert car.status["batches_receipted"] == 0
    aggregator.silent = False
    code, _ = car.end()
    assert code == 0
    assert len(aggregator.arrivals) > len(aggregator.landed) == 9
    assert car.status["batches_receipted"] == 9


def test_forged_receipts_and_nonsense_are_left_aside(tmp_path: Path, make_car: MakeCar, aggregator: Aggregator) -> None:
    aggregator.forge = aggregator.silent = True
    car = make_car(write_log(tmp_path / "drive.log", 6))
    car.start()
    until(lambda: car.status.get("receipts_forged", 0) >= 9, "forged receipts")
    assert car.status["batches_receipted"] == 0
    aggregator.silent = False
    code, said = car.end()
    assert code == 0
    assert said.count("is no receipt") == 1
    assert aggregator.missing() == []


@pytest.mark.parametrize("status", [Status.QUARANTINED, Status.REFUSED])
def test_the_cloud_may_take_custody_without_storing(status: Status, tmp_path: Path, make_car: MakeCar, aggregator: Aggregator) -> None:
    aggregator.status = status
    car = make_car(write_log(tmp_path / "drive.log", 6))
    car.start()
    assert car.end()[0] == 0
    assert car.status[f"batches_{status.name.lower()}"] == car.status["batches_receipted"] == 9


def test_an_announcement_that_the_cloud_lost_is_sent_again_on_request(tmp_path: Path, make_car: MakeCar, aggregator: Aggregator) -> None:
    aggregator.forget_announcements = True
    car = make_car(write_log(tmp_path / "drive.log", 20), source={"speed": 10.0})
    car.start()
    assert car.end()[0] == 0
    assert aggregator.missing() == []
    assert max(aggregator.arrivals.count((stream, 0)) for stream in aggregator.streams) >= 2


def test_an_agent_that_is_killed_loses_nothing_that_it_has_recorded(tmp_path: Path, make_car: MakeCar, aggregator: Aggregator) -> None:
    log = write_log(tmp_path / "drive.log", 60)
    car = make_car(log, source={"speed": 20.0})
    aggregator.silent = True
    car.start()
    until(lambda: len(aggregator.landed) >= 10, "the first batches")
    recorded = set(aggregator.landed)
    car.end(signal.SIGKILL)
    aggregator.landed.clear()
    aggregator.silent = False
    car.start()
    code, _ = car.end()
    assert code == 0
    assert recorded <= set(aggregator.landed)
    assert aggregator.missing() == []
    assert set(aggregator.rows()) == set(expected_rows(car, log))
    assert car.status["batches_recorded"] == car.status["batches_receipted"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_silent_source_does_not_keep_the_agent_from_sealing_and_stopping(
    number: signal.Signals, tmp_path: Path, make_car: MakeCar, aggregator: Aggregator
) -> None:
    fifo = tmp_path / "frames.fifo"
    os.mkfifo(fifo)
    car = make_car(fifo)
    car.start()
    with fifo.open("w") as writer:
        writer.write(write_log(tmp_path / "drive.log", 4).read_text())
        writer.flush()
        until(lambda: car.status.get("ticks") == 3, "ticks")  # the fourth is open, and no frame will end it
        until(lambda: {START_S * 1000 + 1000 * second for second in (1, 2, 3)} == set(aggregator.rows()), "the batch that is not full")
        code, said = car.end(number)
    assert code == 0, said
    assert car.status["batches_recorded"] > 0


def test_without_a_broker_it_records_says_so_once_and_stops_in_order(
    tmp_path: Path, make_car: MakeCar, aggregator: Aggregator, mosquitto: servers.Server
) -> None:
    mosquitto.stop()
    car = make_car(write_log(tmp_path / "drive.log", 20))
    car.start()
    until(lambda: car.status.get("source_finished"), "the end of the log")
    until(lambda: car.status["batches_recorded"] == 23, "batches")
    code, said = car.end(signal.SIGTERM)
    assert code == 0
    assert said.count("is away") == 1
    mosquitto.start()
    (tmp_path / "empty.log").write_text("(1.000000) can0 7FF#\n")
    car.log = str(tmp_path / "empty.log")
    car.start()
    assert car.end()[0] == 0
    until(lambda: len(aggregator.rows()) >= 20, "what the first run recorded")
    assert aggregator.missing() == []


def test_standard_input_is_a_source(tmp_path: Path, make_car: MakeCar, aggregator: Aggregator) -> None:
    log = write_log(tmp_path / "drive.log", 10)
    car = make_car("-")
    command = [sys.executable, "-m", "cansight", "edge", "run", "-c", str(car.settings())]
    subprocess.run(command, input=log.read_bytes(), capture_output=True, timeout=PATIENCE_S, check=True)
    assert set(aggregator.rows()) == set(expected_rows(car, log))


def test_what_was_read_of_a_source_that_breaks_is_recorded_and_sent(tmp_path: Path, make_car: MakeCar, aggregator: Aggregator) -> None:
    packed = gzip.compress(write_log(tmp_path / "drive.log", 2000).read_bytes())
    log = tmp_path / "drive.log.gz"
    log.write_bytes(packed[: len(packed) // 2])
    car = make_car(log)
    car.start()
    code, said = car.end()
    assert code == 2
    assert said.strip().splitlines()[-1].startswith(f"cansight: {log}: damaged: the gzip file is cut off")
    assert len(aggregator.rows()) == car.status["ticks"] > 100
    assert aggregator.missing() == []


def test_a_full_outbox_says_which_batches_are_lost(
    tmp_path: Path, make_car: MakeCar, aggregator: Aggregator, mosquitto: servers.Server
) -> None:
    mosquitto.stop()
    car = make_car(write_log(tmp_path / "drive.log", 8000, 2), outbox={"bytes": 1 << 20}, batch={"ticks": 1})
    car.start()
    until(lambda: car.status.get("gaps"), "a full outbox")
    mosquitto.start()
    code, _ = car.end()
    assert code == 0
    gaps = [gap for gap in aggregator.messages(Kind.GAP) if isinstance(gap, Gap)]
    lost = {(gap.stream, sequence) for gap in gaps for sequence in range(gap.first, gap.last + 1)}
    assert aggregator.missing()
    # Of those that were in flight when their segment was dropped some arrive all the same: up to sixteen a segment.
    assert set(aggregator.missing()) <= lost
    assert car.status["batches_lost"] == len(lost)
    assert car.status["batches_recorded"] == car.status["batches_receipted"] + len(lost)


def test_a_broker_that_speaks_only_3_1_1_is_spoken_to_in_3_1_1(tmp_path: Path, pki: Path, embedded_broker: servers.Server) -> None:
    from paho.mqtt.enums import MQTTProtocolVersion

    aggregator = Aggregator(pki, embedded_broker.port, protocol=MQTTProtocolVersion.MQTTv311)
    aggregator.start()
    car = Car(tmp_path / "car", pki, embedded_broker.port, str(write_log(tmp_path / "drive.log", 10)))
    try:
        car.start()
        code, said = car.end()
    finally:
        car.stop()
        aggregator.stop()
    assert code == 0
    assert "MQTT 3.1.1" in said
    assert "is away" not in said
    assert aggregator.missing() == []


def test_the_running_agent_does_not_import_what_a_telematics_unit_does_not_have(
    tmp_path: Path, make_car: MakeCar, aggregator: Aggregator
) -> None:
    car = make_car(write_log(tmp_path / "drive.log", 4))
    program = (
        "import sys; from cansight.main import main\n"
        f"try: main(['edge', 'run', '-c', {str(car.settings())!r}])\n"
        "finally: print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    loaded = set(done.stdout.split())
    assert "paho" in loaded
    assert loaded.isdisjoint({"cantools", "pandas", "onnx", "sqlalchemy", "aiohttp", "can", "influxdb_client", "amqtt", "asyncio_mqtt"})
    assert loaded.isdisjoint({"cloud", "simulator"})
