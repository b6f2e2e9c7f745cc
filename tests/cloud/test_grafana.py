"""Grafana's dashboards: each is what Grafana's own schema knows, and each InfluxQL query of them answers on a real InfluxDB.

Grafana is in no Debian package, so it does not run here; the test fills its macros and variables as it does. Flux has no server here.
"""

import dataclasses
import json
import re
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from cloud_samples import VEHICLE, make_rows
from test_operator_queries import finding

import servers
from cloud.config import InfluxConfig
from cloud.events import GapEvent
from cloud.stores.downsampled import HOUR_MS
from cloud.stores.influx import InfluxStore
from cloud.stores.influx_http import InfluxServer
from wire.messages import Gap

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
BOARDS = sorted(GRAFANA.rglob("dashboards/*.json"))
SIGNAL = "M0.S1"
BUILT_IN = {"__interval", "timeFilter", "__from", "__to", "__data"}


def board(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def sources(path: Path) -> dict[str, dict[str, Any]]:
    """By uid, the data sources that stand beside a dashboard."""
    files = (path.parents[1] / "provisioning" / "datasources").glob("*.yaml")
    return {one["uid"]: one for file in files for one in yaml.safe_load(file.read_text(encoding="utf-8"))["datasources"]}


def asked(document: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(what it is for, the data source's uid, query) of every panel and variable."""
    for panel in document["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["datasource"]["uid"], target["query"]
    for variable in document["templating"]["list"]:
        yield f"the variable {variable['name']}", variable["datasource"]["uid"], variable["query"]


def filled(query: str, now_ms: int) -> str:
    """As Grafana fills it, of the last two hours."""
    for macro, value in (
        ("$timeFilter", f"time >= {now_ms - 2 * HOUR_MS}ms and time <= {now_ms}ms"),
        ("$__interval", "1m"),
        ("${model:regex}", "(sample|other)"),
        ("${signal:raw}", SIGNAL),
        ("$vehicle", VEHICLE),
    ):
        query = query.replace(macro, value)
    assert "$" not in query.replace("$/", ""), query
    return query


def test_every_query_of_the_dashboards_has_an_answer(influxdb: servers.HttpServer, tmp_path: Path) -> None:
    now_ms = time.time_ns() // 1_000_000
    config = InfluxConfig(url=influxdb.url)
    with InfluxStore(config, {}, quarantine=tmp_path / "q") as store:
        rows = make_rows(range(60))
        rows.reason[:6, 0] = 2
        ticks = rows.tick_ms - rows.tick_ms[-1] + now_ms - 1000
        store.write([dataclasses.replace(rows, tick_ms=ticks, received_ms=int(ticks[-1]) + 1500)])
        silent = dataclasses.replace(make_rows(range(60), vehicle="b" * 16), tick_ms=ticks - 2 * 24 * HOUR_MS)
        store.write([dataclasses.replace(silent, received_ms=int(silent.tick_ms[-1]) + 1500)])
        store.write_findings([finding(VEHICLE, 1, now_ms)])
        gap = Gap(stream=b"s" * 16, first=3, last=9, reason="outbox full")
        store.write_gaps([GapEvent(VEHICLE, "sample", b"s" * 16, 10, now_ms - 500, False, gap)])
        for hour_ms in sorted({int(tick) // HOUR_MS * HOUR_MS for tick in (ticks[0], ticks[-1])}):
            store.downsample(VEHICLE, "sample", hour_ms)
    silently = []
    with InfluxServer(config) as server:
        for path in BOARDS:
            there = sources(path)
            for what, uid, query in asked(board(path)):
                if there[uid]["jsonData"]["version"] == "Flux":
                    continue
                found = server.query(there[uid]["jsonData"]["dbName"], filled(query, now_ms + 1000))
                if not any(value is not None for series in found for row in series.rows for value in row[1:]):
                    silently.append(f"{path.name}: {what}: {query}")
        (row,) = server.query("cansight", filled(next(q for w, _, q in asked(board(BOARDS[0])) if w == "Silent vehicles"), now_ms))[0].rows
    assert not silently
    assert row[1] >= 1  # two at the turn of an hour


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: str(path.relative_to(GRAFANA)))
def test_a_dashboard_is_whole(path: Path) -> None:
    document, there = board(path), sources(path)
    panels = document["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart_x or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert max(one["x"] + one["w"], other["x"] + other["w"]) <= 24
    variables = {variable["name"] for variable in document["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", " ".join(f"{what} {query}" for what, _, query in asked(document))))
    assert used - BUILT_IN == variables
    flux = path.parent.parent.name == "flux"
    for panel in panels:
        for target in panel.get("targets", ()):
            assert target["datasource"] == panel["datasource"]
            source = there[target["datasource"]["uid"]]
            assert (source["type"], source["jsonData"]["version"]) == ("influxdb", "Flux" if flux else "InfluxQL")
            assert flux or target["rawQuery"]
    assert not flux or "NOT RUN" in document["description"]
    for link in re.findall(r"/d/([\w-]+)", path.read_text(encoding="utf-8")):
        assert link in {board(one)["uid"] for one in path.parent.glob("*.json")}


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: str(path.relative_to(GRAFANA)))
def test_grafanas_schema_knows_all_of_a_dashboard(path: Path) -> None:
    from grafana_foundation_sdk.cog import encoder
    from grafana_foundation_sdk.models import dashboard as schema

    document = board(path)
    assert not list(_unknown(document, json.loads(json.dumps(schema.Dashboard.from_json(document), cls=encoder.JSONEncoder))))


def _unknown(ours: Any, read: Any, where: str = "") -> Iterator[str]:
    """What of ours is not in what was read."""
    if isinstance(ours, dict):
        for name, value in ours.items():
            yield from _unknown(value, read[name], f"{where}.{name}") if name in read else [f"{where}.{name}"]
    elif isinstance(ours, list):
        for number, (value, its) in enumerate(zip(ours, read, strict=True)):
            yield from _unknown(value, its, f"{where}[{number}]")
    elif ours != read:
        yield where
