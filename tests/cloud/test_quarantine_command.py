"""`cansight cloud quarantine`, without a cloud and beside a running one: a missing DBC is added, and everything is in the store."""

import contextlib
import io
import json
import signal
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from cloud_vehicle import Vehicle
from test_aggregator import aggregator
from test_cloud_run import DBC, CloudProcess, make_vehicle

import processes
import servers
from cansight.main import main
from cloud.database import Database
from cloud.quarantine import Kept, Source
from dbc.compiler import load_compiled

OTHER_DBC = [DBC[1]]


def command(settings: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr, as of a process of its own, in a tenth of the time."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stop:
        main(["cloud", "quarantine", arguments[0], "-c", str(settings), *arguments[1:]])
    assert isinstance(stop.value.code, int)
    return stop.value.code, out.getvalue(), err.getvalue()


def give_models(process: CloudProcess, models: list[dict[str, Any]]) -> None:
    document = tomllib.loads(process.settings.read_text())
    process.settings.write_text(tomli_w.dumps(document | {"vehicle_model": models}))


def test_a_dbc_that_was_missing_is_added_and_everything_is_in_the_store(tmp_path: Path, pki: Path, mosquitto: servers.Server) -> None:
    schema = load_compiled(DBC, tmp_path / "dbc").schema
    vehicle, boot_ms = make_vehicle(pki, schema)
    process = CloudProcess(tmp_path, pki, mosquitto.port, {"kind": "embedded"})
    give_models(process, [{"name": "body", "dbc": OTHER_DBC}])
    for asked in (["replay"], ["list"], ["list", "--refused"], ["show", "1"]):
        code, said, wrong = command(process.settings, *asked)
        assert (code, said, wrong.count("\n")) == (2, "", 1)
        assert "has the cloud ever run?" in wrong
    fill(process, pki, vehicle)
    code, said, _ = command(process.settings, "list", "--json")
    listed = json.loads(said)
    assert (code, listed["held"], [item["sequence"] for item in listed["items"]]) == (0, 5, [1, 2, 7, 7, 7])
    for wrong_drop in ([], ["99"], ["--reason", "something else"], ["1", "--vehicle", "nobody", "--yes"]):
        code, said, wrong = command(process.settings, "drop", *wrong_drop)
        assert (code, said, wrong.count("\n")) == (2, "", 1)
    assert command(process.settings, "drop", "--reason", "GONE for good", "--yes")[:2] == (0, "1 dropped by this command\n")
    code, said, _ = command(process.settings, "show", "1")
    assert f"vehicle      {vehicle.id}\n" in said
    assert "today        cannot be used: schema" in said
    assert "add its DBC files" in said
    assert command(process.settings, "list", "--vehicle", "nobody")[1] == "nothing of vehicle nobody is there\n"
    code, said, wrong = command(process.settings, "show", "99")
    assert (code, wrong.count("\n")) == (2, 1)
    code, said, wrong = command(process.settings, "replay", "0", "1", "--json")
    assert (code, json.loads(said)["released"], sum(json.loads(said)["still"].values())) == (1, 0, 2)
    give_models(process, [{"name": "body", "dbc": OTHER_DBC}, {"name": "cansight_ev", "dbc": DBC}])
    process.start()
    try:
        processes.until(lambda: process.stats()["replayed"] == 2, "the replay at the start")
        processes.until(lambda: (process.get(f"/api/vehicles/{vehicle.id}/newest") or {}).get("tick_ms") == boot_ms + 3000, "the last tick")
        name = schema.names[5]
        found = process.get(f"/api/vehicles/{vehicle.id}/series?signal={name}&from_ms={boot_ms}&to_ms={boot_ms + 10_000}")
        assert found["tick_ms"] == [boot_ms + 1000 * tick for tick in range(4)]
        # beside the running cloud
        code, said, _ = command(process.settings, "list")
        assert "\x1b" not in said
        assert "2 held" in said
        code, said, _ = command(process.settings, "drop", "--reason", "sink quality", "--vehicle", vehicle.id, "--yes", "--json")
        assert (code, json.loads(said)) == (0, {"dropped": 1, "by": "the running cloud"})
        code, said, _ = command(process.settings, "replay", "--json")
        assert json.loads(said) == {"released": 1, "still": {}, "missing": [], "by": "the running cloud"}
        assert code == 0
        assert command(process.settings, "list")[1] == "the quarantine is empty\n"
        assert process.stats()["held"] == 0
    finally:
        assert process.end(signal.SIGTERM) == 0
    assert "Traceback" not in process.words()


def fill(process: CloudProcess, pki: Path, vehicle: Vehicle) -> None:
    """As a cloud without the vehicle's DBC leaves it: two batches of rows, and a finding that a sink has choked on."""
    folder = process.folder / "cloud"
    with aggregator(folder, pki, None) as place:
        place.give(vehicle.announcement, vehicle.rows(range(2)), vehicle.rows(range(2, 4)))
        for _ in range(4):
            vehicle.rows(range(9))
        finding = vehicle.finding(2)
        place.give(finding)
        for reason in ("sink store: ValueError: \x1b[31m", "sink lake: gone for good", "sink quality: TypeError"):
            place.quarantine.put(Kept(Source.SINK, place.now_ms, reason, finding.data))
        place.aggregator.save(place.now_ms)
    with Database(f"sqlite:///{folder / 'cansight.db'}") as database:
        assert database.asked_replays() == []
