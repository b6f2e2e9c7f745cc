"""What the agent says of itself: over HTTP, to the cloud, and when it stops."""

import json
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from edge_helpers import Aggregator, MakeCar, until, write_log
from prometheus_client.parser import text_string_to_metric_families

import servers
from edge.config import OutboxConfig
from edge.errors import ConfigError
from edge.health import STATUS_FILE, Status, StatusFile, troubles
from edge.health_server import HealthServer
from edge.heartbeat import beat_pause_s, heartbeat
from edge.metrics import exposition
from edge.outbox_store import RESERVED_SHARE
from edge.sources.channel import ChannelStatus, State
from wire.envelope import StreamSealer
from wire.messages import Kind, StatusMessage, encode_message


def ask(port: int, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_agent_is_alive_at_once_and_ready_when_the_broker_is_there(
    tmp_path: Path, make_car: MakeCar, aggregator: Aggregator, mosquitto: servers.Server
) -> None:
    mosquitto.stop()
    port = servers.free_port()
    log = write_log(tmp_path / "drive.log", 5)
    car = make_car(log, health={"listen": f"127.0.0.1:{port}"}, run={"stop_when_drained": False})
    car.start()
    until(lambda: car.status.get("source_finished"), "the end of the log")
    code, body = ask(port, "/healthz")
    assert (code, json.loads(body)) == (200, {"ok": True, "problems": []})
    code, body = ask(port, "/readyz")
    assert code == 503
    assert json.loads(body)["problems"] == ["the broker is away; batches stay in the outbox"]
    mosquitto.start()
    until(lambda: ask(port, "/readyz")[0] == 200, "the broker")
    until(lambda: car.status["drained"], "the receipts")
    code, body = ask(port, "/metrics")
    assert code == 200
    found = {sample.name: sample.value for family in text_string_to_metric_families(body.decode()) for sample in family.samples}
    status = car.status
    assert found["cansight_edge_frames_total"] == status["frames"] == 5 * 22
    assert found["cansight_edge_batches_receipted_total"] == status["batches_receipted"] == len(aggregator.landed)
    assert found["cansight_edge_connected"] == 1
    assert ask(port, "/")[0] == 404
    car.end(signal.SIGTERM)


def test_the_cloud_hears_what_runs_and_when_it_stops(tmp_path: Path, make_car: MakeCar, aggregator: Aggregator) -> None:
    car = make_car(str(write_log(tmp_path / "drive.log", 40)), source={"speed": 10.0}, health={"heartbeat_s": 1.0})
    car.start()
    until(lambda: car.status.get("ticks", 0) >= 15, "ticks")
    assert car.end(signal.SIGTERM)[0] == 0
    car.start()  # what the first run sealed at its end is sent by the second
    assert car.end()[0] == 0
    said = [message for message in aggregator.messages(Kind.STATUS) if isinstance(message, StatusMessage)]
    assert [one.state for one in said].count("stopping") == 1
    first = said[0]
    assert first.state == "running"
    assert first.facts["agent"].startswith("cansight ")
    assert len(first.facts["schema"]) == 32
    assert {"frames", "outbox_bytes", "outbox_limit_bytes", "clock_offset_s", "batches_lost"} <= first.counters.keys()
    assert first.counters["certificate_days"] in (823, 824)  # of 825, and the day it was made on has begun
    ticks = [one.tick_ms for one in said]
    assert ticks[0] < ticks[1]


def test_a_loop_that_hangs_is_not_alive_and_a_bus_that_is_down_is_not_ready() -> None:
    status = Status("0123456789abcdef", connected=True, channels={"can0": ChannelStatus(state=State.DOWN)})
    dead, unready = troubles(status, 3.0, 10.0)
    assert (dead, unready) == ([], ["can0: down"])
    dead, unready = troubles(status, 11.0, 10.0)
    assert dead == ["the loop has not come round for 11 s"]
    assert unready == [*dead, "can0: down"]


def test_what_the_agent_says_of_itself_in_90_days_without_a_network_leaves_findings_their_room() -> None:
    status = Status("0123456789abcdef", packs=[f"pack {number}" for number in range(23)], channels={"can0": ChannelStatus(frames=10**10)})
    message = heartbeat(status, 1_800_000_000_000)
    sealed = StreamSealer.start("0123456789abcdef").seal(*encode_message(message)).data
    said = 90 * 86_400 / beat_pause_s(60.0, connected=False)
    assert said * len(sealed) < 0.1 * RESERVED_SHARE * OutboxConfig().bytes
    assert beat_pause_s(60.0, connected=True) == 60.0


def test_sleeping_buses_are_a_state_of_the_heartbeat_and_many_buses_fit_in_it() -> None:
    channels = {f"can{number}": ChannelStatus(frames=number, frames_dropped=2) for number in range(40)}
    said = heartbeat(Status("0123456789abcdef", packs=[f"pack {number}" for number in range(99)], channels=channels), 7)
    assert said.state == "bus_asleep"
    assert said.counters["can3.frames_dropped"] == 2
    assert said.facts["channel.can3"] == "asleep"
    encode_message(said)  # raises when it has become too long


def test_every_metric_is_the_field_of_its_name() -> None:
    named = {name: name for name in ("frames", "frames_unknown", "ticks", "samples", "findings", "gaps", "receipts_forged")}
    named |= {f"batches_{what}": f"batches_{what}" for what in ("recorded", "receipted", "quarantined", "refused", "lost")}
    named |= {"sealed_bytes": "bytes_sealed"}
    gauges = {name: name for name in ("signals", "signals_seen", "outbox_bytes", "outbox_limit_bytes", "in_flight")}
    values = {field: 100 + number for number, field in enumerate([*named.values(), *gauges.values()])}
    lines = exposition(Status("x", **values)).decode().splitlines()
    expected = {f"cansight_edge_{name}_total {values[field]}.0" for name, field in named.items()}
    expected |= {f"cansight_edge_{name} {values[field]}.0" for name, field in gauges.items()}
    assert expected <= set(lines), expected - set(lines)


def test_a_port_in_use_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(ConfigError, match=rf"^health\.listen: {address}: cannot listen: Address already in use$"),
            HealthServer(address, Status("x")),
        ):
            pass


def test_on_the_flash_the_status_is_written_for_news_and_now_and_then(tmp_path: Path) -> None:
    file, status, written = StatusFile(tmp_path, None, 60.0), Status("0123456789abcdef"), []
    for now_s, ticks, connected in ((0.0, 0, False), (1.0, 1, False), (2.0, 2, True), (61.0, 61, True), (62.0, 62, True), (63.0, 63, True)):
        status.ticks, status.connected = ticks, connected
        file.write(status, now_s)
        written.append(json.loads((tmp_path / STATUS_FILE).read_bytes())["ticks"])
    assert written == [0, 0, 2, 2, 62, 62]


def test_in_memory_it_is_written_every_time_and_found_beside_the_outbox(tmp_path: Path) -> None:
    state, runtime = tmp_path / "state", tmp_path / "run"
    state.mkdir()
    runtime.mkdir()
    (state / STATUS_FILE).write_text("of an earlier run, on the flash")
    file, status = StatusFile(state, runtime, 60.0), Status("0123456789abcdef")
    for ticks in range(3):
        status.ticks = ticks
        file.write(status, float(ticks))
        assert json.loads((state / STATUS_FILE).read_bytes())["ticks"] == ticks
    assert not any(path.is_file() and not path.is_symlink() for path in state.iterdir())
    (runtime / STATUS_FILE).unlink()  # the computer was started anew
    StatusFile(state, None, 60.0).write(status, 0.0)
    assert (state / STATUS_FILE).is_file()
