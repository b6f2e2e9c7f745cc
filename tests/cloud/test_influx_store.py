"""InfluxDB's own ways: refusals, absence, the second version's write call, and the lines themselves."""

import dataclasses
import re
import struct
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cloud_samples import START_MS, VEHICLE, make_rows, make_schema
from hypothesis import given
from hypothesis import strategies as st

import servers
from cloud.config import InfluxConfig
from cloud.errors import CloudError
from cloud.line_protocol import SignalLines, escape_key, quote
from cloud.store import StoreUnavailable
from cloud.stores import influx
from cloud.stores.influx import InfluxStore
from cloud.stores.influx_http import Refused


@pytest.fixture
def store(influxdb: servers.HttpServer, tmp_path: Path) -> Iterator[InfluxStore]:
    with InfluxStore(InfluxConfig(url=influxdb.url), {}, quarantine=tmp_path / "refused.lp") as made:
        yield made


def spoil(url: str, line: str, database: str = "cansight") -> None:
    """Write a point of our own, for a conflict."""
    query = urllib.parse.urlencode({"q": f'CREATE DATABASE "{database}"'}).encode()
    urllib.request.urlopen(f"{url}/query", data=query, timeout=10).close()
    urllib.request.urlopen(f"{url}/write?db={database}&precision=ms", data=line.encode(), timeout=10).close()


def ticks(store: InfluxStore, signal: str, vehicle: str = VEHICLE) -> list[int]:
    return store.series(vehicle, [signal], START_MS, START_MS + 1_000_000, 10_000).tick_ms.tolist()


def test_lines_of_a_conflicting_type_are_put_aside_and_the_rest_is_stored(
    store: InfluxStore, influxdb: servers.HttpServer, tmp_path: Path
) -> None:
    shard_of_the_bad_one = START_MS + 5000
    spoil(influxdb.url, f'signals,vehicle=x,model=x,bus=can0 M0.S0="a string" {shard_of_the_bad_one}')
    good = make_rows(range(10), columns=[1, 3], vehicle="f" * 16)
    bad = make_rows(range(4), columns=[0])
    store.write([good, bad])
    assert len(ticks(store, "M0.S1", "f" * 16)) == 10
    assert store.quarantined == 4
    text = (tmp_path / "refused.lp").read_text()
    assert text.count(f"vehicle={VEHICLE}") == 4
    assert "field type conflict" in text
    assert "f" * 16 not in text


def test_a_line_that_cannot_be_parsed_is_named_and_put_aside(store: InfluxStore, tmp_path: Path) -> None:
    lines = [f"signals,vehicle={VEHICLE},model=m,bus=b A.a={n}.0 {START_MS + 1000 * n}" for n in range(50)]
    lines[17] = f"signals,vehicle={VEHICLE} broken {START_MS}"
    lines[31] = "no fields"
    store._send(False, lines)
    assert len(ticks(store, "A.a")) == 48
    assert store.quarantined == 2
    refused = [line for line in (tmp_path / "refused.lp").read_text().splitlines() if not line.startswith("#")]
    assert sorted(refused) == sorted([lines[17], lines[31]])
    store.quarantine_bytes = 1
    for _ in range(5):
        store._send(False, ["no fields"])
    assert sorted(one.name for one in tmp_path.glob("refused.lp*")) == ["refused.lp", "refused.lp.1"]
    assert sum(one.read_text().count("no fields\n") for one in tmp_path.glob("refused.lp*")) == 2


@given(st.lists(st.lists(st.integers(1, 300), max_size=40), max_size=40))
def test_a_batchs_ticks_go_in_one_request_unless_it_is_long(sizes: list[list[int]]) -> None:
    """In a hundredth of the size. Nothing is lost or turned round."""
    most = 2250
    batches = [[f"{number}.{at}".ljust(size, "x") for at, size in enumerate(batch)] for number, batch in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(influx, "REQUEST_CHARACTERS", most)
        told = list(influx._requests(batches))
    requests = [lines for lines, _ in told]
    assert [line for request in requests for line in request] == [line for batch in batches for line in batch]
    for request in requests[:-1]:
        assert most <= sum(len(line) + 1 for line in request) <= 2 * most + 301
    where = {line: place for place, request in enumerate(requests) for line in request}
    for batch in batches:
        if sum(len(line) + 1 for line in batch) <= most:
            assert len({where[line] for line in batch}) <= 1
    ends = [end for _, end in told]
    assert ends == sorted(ends)
    assert ends[-1:] == [len(batches)][: len(batches)]
    for place, end in enumerate(ends):  # what is said to be in the requests so far is in them
        assert all(where[line] <= place for batch in batches[:end] for line in batch)


def test_a_server_that_is_away_is_worth_trying_again(store: InfluxStore, influxdb: servers.HttpServer, tmp_path: Path) -> None:
    store.write([make_rows(range(2))])
    influxdb.kill()
    with pytest.raises(StoreUnavailable, match=r"Could not connect"):
        store.write([make_rows(range(2, 4), sequence=2)])
    with pytest.raises(StoreUnavailable):
        store.newest(VEHICLE)
    influxdb.start()
    store.write([make_rows(range(2, 4), sequence=2)])
    assert len(ticks(store, "M0.S0")) == 4
    assert not (tmp_path / "refused.lp").exists()


def test_a_database_that_is_not_there_yet_is_empty_and_made_by_the_first_write(influxdb: servers.HttpServer, tmp_path: Path) -> None:
    with InfluxStore(InfluxConfig(url=influxdb.url, gzip=True), {}, quarantine=tmp_path / "refused.lp") as store:
        assert store.vehicles() == []
        assert store.newest(VEHICLE) is None
        assert ticks(store, "M0.S0") == []
        store.write([make_rows(range(2))])
        assert ticks(store, "M0.S0") == [START_MS, START_MS + 1000]


def test_replayed_logs_lie_in_a_database_of_their_own_and_keep_everything(store: InfluxStore) -> None:
    store.write([make_rows(range(3), replay=True), make_rows(range(2), vehicle="f" * 16)])
    assert [series.tags["vehicle"] for series in store._server.query("cansight", "SELECT last(valid) FROM quality GROUP BY vehicle")] == [
        "f" * 16
    ]
    (policies,) = store._server.query("cansight_replay", 'SHOW RETENTION POLICIES ON "cansight_replay"')
    assert policies.rows[0][:2] == ["autogen", "0s"]
    assert store.newest(VEHICLE) == START_MS + 2000


def test_the_second_versions_write_call_reaches_a_real_server(victoria_metrics: servers.HttpServer, tmp_path: Path) -> None:
    config = InfluxConfig(url=victoria_metrics.url, version="2", organisation="fleet", bucket="cansight", gzip=True)
    rows = make_rows(range(3))
    with InfluxStore(config, {}, quarantine=tmp_path / "refused.lp") as store:
        store.write([rows])
    urllib.request.urlopen(f"{victoria_metrics.url}/internal/force_flush", timeout=10).close()
    query = urllib.parse.urlencode({"match[]": f'{{vehicle="{VEHICLE}",__name__="signals_M0.S1"}}'})
    with urllib.request.urlopen(f"{victoria_metrics.url}/api/v1/export?{query}", timeout=10) as answer:
        text = answer.read().decode()
    found = re.search(r'"values":\[([^\]]*)\],"timestamps":\[([^\]]*)\]', text)
    assert found
    assert [float(value) for value in found[1].split(",")] == rows.value[:, 1].tolist()
    assert [int(tick) for tick in found[2].split(",")] == rows.tick_ms.tolist()


def test_the_second_version_away_or_unfriendly_is_worth_trying_again(victoria_metrics: servers.HttpServer, tmp_path: Path) -> None:
    config = InfluxConfig(url=victoria_metrics.url, version="2", organisation="fleet")
    with InfluxStore(config, {}, quarantine=tmp_path / "refused.lp") as store:
        store.write([make_rows(range(1))])
        victoria_metrics.kill()
        with pytest.raises(StoreUnavailable):
            store.write([make_rows(range(2))])


def test_a_secret_that_is_not_there_is_named_when_opening(tmp_path: Path) -> None:
    config = InfluxConfig(token_file=str(tmp_path / "token"))
    with pytest.raises(CloudError, match=r"token: store\.influx\.token_file cannot be read"), InfluxStore(config, {}, quarantine=tmp_path):
        pass


def test_refusals_of_both_versions_are_understood() -> None:
    lines = ["m,a=b c=1 1", "m broken 2", "m,a=b d=2 3"]
    named = Refused("partial write: unable to parse 'm broken 2': missing fields dropped=0", 400)
    assert named.named(lines) == [1]
    assert named.dropped is None
    assert Refused("partial write: points beyond retention policy dropped=3", 400).dropped == 3
    assert Refused("", 400).named(lines) == []
    assert Refused("unable to parse '': missing measurement", 400).named(lines) == []


# the lines themselves


def parse(line: str) -> tuple[str, dict[str, str], dict[str, str], int]:
    """A plain reading of line protocol, by its documentation."""
    head, fields, tick = re.match(r"((?:\\.|[^ \\])+) (.*) (-?\d+)$", line, re.DOTALL).groups()  # type: ignore[union-attr]
    measurement, *tags = re.split(r"(?<!\\),", head)

    def pairs(parts: list[str]) -> dict[str, str]:
        split = [re.match(r"((?:\\.|[^=\\])+)=(.*)$", part, re.DOTALL).groups() for part in parts]  # type: ignore[union-attr]
        return {re.sub(r"\\(.)", r"\1", key): re.sub(r"\\(.)", r"\1", value) for key, value in split}

    return measurement, pairs(tags), pairs(re.split(r"(?<!\\),", fields)), int(tick)


@given(st.lists(st.lists(st.floats() | st.sampled_from([0.0, -0.0, 1e300]), min_size=5, max_size=5), min_size=1, max_size=4))
def test_every_valid_value_is_written_exactly_and_nothing_else(table: list[list[float]]) -> None:
    schema = dataclasses.replace(make_schema(5), kind=np.full(5, 3, np.uint8), scale=np.ones(5))
    rows = make_rows(range(len(table)), schema=schema)
    raw = np.array(table, np.float64).view(np.int64)
    reason = (np.arange(raw.size).reshape(raw.shape) % 4 == 3).astype(np.uint8)
    rows = dataclasses.replace(rows, raw=raw, reason=reason)
    found: dict[tuple[int, str], float] = {}
    for line in SignalLines().encode(rows):
        measurement, tags, fields, tick = parse(line)
        if measurement == "quality":
            assert float(fields.pop("ticks")) == len(table)
            assert float(fields.pop("latency_ms")) == rows.received_ms - rows.tick_ms[-1]
            values = len(table) * sum(schema.channel == schema.channels.index(tags["bus"]))
            assert float(fields.pop("values")) == values
            assert sum(map(float, fields.values())) == values
            assert all(float(count) > 0 for name, count in fields.items() if name != "valid")
            continue
        assert tags == {"vehicle": VEHICLE, "model": "sample", "bus": tags["bus"]}
        for name, value in fields.items():
            assert schema.channels[schema.channel[schema.index(name)]] == tags["bus"]
            assert (tick, name) not in found
            found[tick, name] = float(value)
    for number, tick in enumerate(rows.tick_ms.tolist()):
        for column, name in enumerate(schema.names):
            value = table[number][column]
            if reason[number, column] == 0 and np.isfinite(value):
                assert struct.pack("<d", found.pop((tick, name))) == struct.pack("<d", value + 0.0)
    assert not found


@given(st.text(min_size=1))
def test_any_name_survives_as_a_key_in_one_line(name: str) -> None:
    escaped = escape_key(name)
    assert "\n" not in escaped
    assert "\r" not in escaped
    assert not escaped.endswith("\\")
    assert not re.search(r"(?<!\\)[ ,=]", escaped)
    assert "\n" not in quote(name)
