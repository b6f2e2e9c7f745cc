"""The shipped queries, run on a real InfluxDB by the command that operators use. Flux has no server here: it is not run."""

import dataclasses
import json
import time
from pathlib import Path

import pytest
from cloud_samples import START_MS, make_rows

import servers
from cansight.main import main
from cloud.config import InfluxConfig
from cloud.errors import CloudError
from cloud.events import FindingEvent, TickRows
from cloud.operator_queries import queries
from cloud.stores.influx import InfluxStore
from wire.messages import FindingMessage, Window

HERE, AWAY, GONE = "a" * 16, "b" * 16, "c" * 16
SETTINGS = """
state = "state"
fleet_ca = "ca.pem"
recipient_keys = ["recipient.key"]
[broker]
ca = "ca.pem"
certificate = "a.pem"
key = "a.key"
[[vehicle_model]]
name = "sample"
dbc = ["sample.dbc"]
[store]
kind = "influx"
[store.influx]
url = "{url}"
"""


def finding(vehicle: str, number: int, now_ms: int) -> FindingEvent:
    message = FindingMessage(
        finding_id=number.to_bytes(16, "big"),
        pack_id="coolant:1",
        fault_code="coolant_leak",
        state="active",
        tick_ms=now_ms - 1000 * number,
        since_ms=now_ms - 1000 * number,
        score=5.0,
        threshold=3.0,
        p_value=1e-4,
        contributions=[],
        window=Window(tick_ms=[], signals=[], values=[]),
    )
    return FindingEvent(vehicle, "sample", b"s" * 16, number, now_ms, False, message)


@pytest.fixture
def settings(influxdb: servers.HttpServer, tmp_path: Path) -> Path:
    """A store with three vehicles: heard now, two hours ago, ten days ago."""
    now_ms = time.time_ns() // 1_000_000
    with InfluxStore(InfluxConfig(url=influxdb.url), {}, quarantine=tmp_path / "q") as store:
        for vehicle, age_s in ((HERE, 0), (AWAY, 7200), (GONE, 864_000)):
            rows: TickRows = make_rows(range(60), vehicle=vehicle)
            rows.reason[:6, 0] = 2
            shifted = rows.tick_ms - START_MS + now_ms - 60_000 - age_s * 1000
            store.write([dataclasses.replace(rows, tick_ms=shifted, received_ms=int(shifted[-1]) + 1500)])
        store.write_findings([finding(AWAY, number, now_ms) for number in range(3)] + [finding(HERE, 7, now_ms)])
    path = tmp_path / "cloud.toml"
    path.write_text(SETTINGS.format(url=influxdb.url))
    return path


def command(settings: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        main(["cloud", "query", "-c", str(settings), *words])
    return int(done.value.code or 0), *capsys.readouterr()


def test_every_influxql_query_answers_its_question(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> list[dict[str, list[list[object]]]]:
        code, said, _ = command(settings, capsys, "--json", *words)
        assert code == 0
        answer: list[dict[str, list[list[object]]]] = json.loads(said)
        return answer

    last = run("last_state", f"vehicle={HERE}")
    assert {column for series in last for column in series["columns"]} >= {"last_M0.S0", "last_M1.S5"}
    (signal,) = run("signal", f"vehicle={HERE}", "signal=M0.S1", "since=24h")
    assert [column for column in signal["columns"] if column != "time"] == ["least", "mean", "greatest"]
    assert all(row[1] <= row[2] <= row[3] for row in signal["rows"])  # type: ignore[operator]
    minute = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(signal["rows"][0][0] / 1000 + late)) for late in (0, 60)]  # type: ignore[operator]
    (raw,) = run("raw_window", f"vehicle={HERE}", "signal=M0.S1", f"from={minute[0]}", f"to={minute[1]}")
    assert min(row[1] for row in raw["rows"]) == signal["rows"][0][1]  # type: ignore[type-var]
    (worst,) = run("worst_vehicles", "number=5")
    assert sorted((row[1:] for row in worst["rows"]), key=str, reverse=True) == [[3, AWAY], [1, HERE]]
    (silent,) = run("silent_vehicles")
    # HERE wrote within the last minute: at the turn of an hour that may have been in the last one
    assert AWAY in [row[1] for row in silent["rows"]]
    assert GONE not in [row[1] for row in silent["rows"]]
    complete = run("completeness")
    (value,) = {round(row[1], 9) for series in complete for row in series["rows"]}  # type: ignore[call-overload]
    assert value == pytest.approx(1 - 6 / 360)
    late = run("latency")
    assert [series["rows"][0][1:] for series in late] == [[1500, 1500, 1500]] * 2


def test_every_query_stands_in_both_languages_with_the_same_parameters() -> None:
    there = queries()
    names = {name for name, _ in there}
    assert len(names) >= 6
    for name in names:
        one, other = there[name, "influxql"], there[name, "flux"]
        assert one.words == other.words
        assert one.parameters == other.parameters
        assert "$bucket" in other.text


def test_a_value_is_never_a_part_of_the_query(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(settings, capsys, "last_state", "vehicle=x' OR vehicle =~ /.*/ --\\") == (0, "nothing\n", "")
    signal = queries()["signal", "influxql"]
    assert r'min("a\"; DROP DATABASE x")' in signal.filled({"vehicle": "v", "signal": 'a"; DROP DATABASE x', "since": "1h"})
    assert r'r.vehicle == "\" or true or \""' in queries()["last_state", "flux"].filled({"vehicle": '" or true or "'}, "b")
    with pytest.raises(CloudError, match=r"signal: since: expected a duration like 24h, found '1h; DROP'"):
        signal.filled({"vehicle": "v", "signal": "s", "since": "1h; DROP"})


def test_a_wrong_question_is_one_line(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, expected in (
        (["nothing"], "there is none named 'nothing'; expected one of completeness, last_state"),
        (["signal", "vehicle=x"], "signal: the parameter signal is missing: name, Message.Signal"),
        (["latency", "vehicle=x"], "'vehicle' is no parameter of it; expected none"),
        (["latency", "24h"], "expected PARAMETER=VALUE, found '24h'"),
    ):
        code, _, complaint = command(settings, capsys, *words)
        assert code == 2
        assert expected in complaint
        assert len(complaint.splitlines()) == 1
