"""A real car's recording through the whole loop: edge, mosquitto with mutual TLS, aggregator, InfluxDB; every value against cantools."""

import json
import math
import urllib.parse
import urllib.request
from pathlib import Path

import cantools
import pytest

import processes
import servers

NO_DATA = ("No_Data_Exists",)


def expected_points(log: Path, dbc: Path) -> dict[int, dict[str, float]]:
    """{tick in ms: {"Message.Signal": value}} by cantools and the definition of a tick alone: the last value seen before it.

    All ones that the DBC's own value table calls "no data" is no value.
    """
    database = cantools.database.load_file(dbc, strict=False)
    known = {message.frame_id: message for message in database.messages}
    last: dict[str, float] = {}
    points: dict[int, dict[str, float]] = {}

    tick_ms = None
    for line in log.read_text().splitlines():
        stamp, _, frame = line.split()
        stamp_ms = round(float(stamp.strip("()")) * 1000)
        if tick_ms is None:
            tick_ms = (stamp_ms // 1000 + 1) * 1000
        while stamp_ms >= tick_ms:
            points[tick_ms] = dict(last)
            tick_ms += 1000
        identifier, _, payload = frame.partition("#")
        message = known.get(int(identifier, 16))
        if message is None:
            continue
        decoded = message.decode(bytes.fromhex(payload), decode_choices=False)
        no_data = {
            signal.name
            for signal in message.signals
            if signal.choices and decoded[signal.name] == (ones := 2**signal.length - 1) and str(signal.choices.get(ones)) in NO_DATA
        }
        last |= {f"{message.name}.{name}": float(value) for name, value in decoded.items()}
        for name in no_data:
            del last[f"{message.name}.{name}"]
    assert tick_ms is not None
    points[tick_ms] = dict(last)
    return {tick: values for tick, values in points.items() if values}


def stored_points(url: str, vehicle: str) -> dict[int, dict[str, float]]:
    query = {"db": "cansight_replay", "epoch": "ms", "q": f"SELECT * FROM signals WHERE vehicle = '{vehicle}'"}
    with urllib.request.urlopen(f"{url}/query?{urllib.parse.urlencode(query)}", timeout=60) as answer:
        series = json.load(answer)["results"][0]["series"]
    assert len(series) == 1
    columns = series[0]["columns"]
    points: dict[int, dict[str, float]] = {}
    for row in series[0]["values"]:
        values = dict(zip(columns, row, strict=True))
        tags = {values.pop("vehicle"), values.pop("model"), values.pop("bus")}
        assert tags == {vehicle, "mustang", "can0"}
        tick = values.pop("time")
        assert tick not in points, "one point per bus and tick"
        points[tick] = {name: float(value) for name, value in values.items() if value is not None}
    return points


@pytest.mark.timeout(300)
def test_every_value_of_a_real_drive_is_stored_as_cantools_decodes_it(
    tmp_path: Path, pki: Path, mosquitto: servers.Server, influxdb: servers.HttpServer, data_dir: Path
) -> None:
    from cloud.pki import vehicle as enrol

    folder = data_dir / "logs" / "mustang_s550"
    log, dbc = folder / "mustang_s550.log", folder / "ford_lincoln_base_pt.dbc"
    vehicle = enrol(pki)
    cloud, api = processes.cloud_settings(
        tmp_path, pki, mosquitto.port, [f"{dbc}@can0"], {"kind": "influx", "influx": {"url": influxdb.url, "version": "1"}}
    )
    edge = processes.edge_settings(tmp_path, pki, mosquitto.port, vehicle, log, [f"{dbc}@can0"])
    aggregator = processes.cansight("cloud", "run", "-c", cloud, log=tmp_path / "cloud.log")
    agent = processes.cansight("edge", "run", "-c", edge, log=tmp_path / "edge.log")
    try:
        assert agent.wait(processes.WAIT_S) == 0, (tmp_path / "edge.log").read_text()
        expected = expected_points(log, dbc)
        processes.until(
            lambda: (processes.get(f"{api}/api/vehicles/{vehicle}/newest") or {}).get("tick_ms") == max(expected), "the last tick"
        )
        stored = stored_points(influxdb.url, vehicle)
    finally:
        for process in (agent, aggregator):
            process.terminate()
        codes = [process.wait(20) for process in (agent, aggregator)]
    assert codes == [0, 0]

    assert len({name for values in expected.values() for name in values}) == 604 - 1  # the light sensor says for 70 s that it has no data
    assert sorted(stored) == sorted(expected)
    for tick, values in expected.items():
        assert stored[tick].keys() == values.keys(), tick
        different = {
            name: (stored[tick][name], value) for name, value in values.items() if stored[tick][name] != value and not math.isnan(value)
        }
        assert not different, tick
    status = json.loads((tmp_path / vehicle / "status.json").read_text())
    assert status["batches_recorded"] == status["batches_receipted"] > 0
    assert status["samples"] == sum(map(len, expected.values()))
