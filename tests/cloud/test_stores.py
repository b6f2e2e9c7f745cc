"""What every store must do: the embedded one and a real InfluxDB, by the same tests."""

import contextlib
import dataclasses
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from cloud_samples import START_MS, VEHICLE, make_rows, make_schema
from influxdb_client.rest import ApiException

from cloud.config import InfluxConfig
from cloud.errors import CloudError
from cloud.events import GapEvent, TickRows
from cloud.store import Store, thinned
from cloud.stores.embedded import EmbeddedStore
from cloud.stores.influx import InfluxStore
from cloud.stores.influx_admin import admin
from cloud.stores.influx_databases import prepare, wanted
from cloud.stores.influx_http import InfluxServer, identifier
from wire.messages import Gap


@contextlib.contextmanager
def foreign_server(url: str, folder: Path) -> Iterator[InfluxConfig]:
    """New databases (2.x: buckets) on the InfluxDB that CANSIGHT_INFLUX_URL names, of any version; they go with the test.

    CANSIGHT_INFLUX_BUCKET begins their names; CANSIGHT_INFLUX_ORG and CANSIGHT_INFLUX_TOKEN (or _TOKEN_FILE) where the server wants them.
    """
    name = f"{os.environ.get('CANSIGHT_INFLUX_BUCKET', 'cansight_test')}_{secrets.token_hex(6)}"
    file = os.environ.get("CANSIGHT_INFLUX_TOKEN_FILE", "")
    if token := os.environ.get("CANSIGHT_INFLUX_TOKEN"):
        (folder / "token").write_text(token)
        file = str(folder / "token")
    config = InfluxConfig(
        url=url, database=name, organisation=os.environ.get("CANSIGHT_INFLUX_ORG", ""), token_file=file, keep_ticks="forever"
    )
    with InfluxServer(config) as server:
        with contextlib.suppress(CloudError):  # 3 Core makes them by the first write, and has no call for it
            list(prepare(admin(server), config))
        try:
            yield config
        finally:
            drop(server, [one.name for one in wanted(config)])


def drop(server: InfluxServer, names: list[str]) -> None:
    if server.version() == "1":
        for name in names:
            server.query(name, f"DROP DATABASE {identifier(name)}")
        return
    with contextlib.suppress(ApiException):  # 3 Core again
        buckets = server.client().buckets_api()
        for bucket in [one for one in buckets.find_buckets_iter() if one.name in names]:
            buckets.delete_bucket(bucket)


@pytest.fixture(params=["embedded", "influx"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "embedded":
        with EmbeddedStore(tmp_path / "store.db") as embedded:
            yield embedded
        return
    with contextlib.ExitStack() as stack:
        if url := os.environ.get("CANSIGHT_INFLUX_URL"):
            config = stack.enter_context(foreign_server(url, tmp_path))
        else:
            config = InfluxConfig(url=request.getfixturevalue("influxdb").url)
        yield stack.enter_context(InfluxStore(config, {}, quarantine=tmp_path / "influx.lp"))


def everything(store: Store, signals: list[str], points: int = 1_000_000) -> tuple[list[int], dict[str, list[float]]]:
    found = store.series(VEHICLE, signals, START_MS, START_MS + 1_000_000, points)
    return found.tick_ms.tolist(), {name: value.tolist() for name, value in found.values.items()}


def batches(ticks: int, size: int = 2) -> list[TickRows]:
    return [make_rows(range(start, min(start + size, ticks)), sequence=1 + start // size) for start in range(0, ticks, size)]


def test_what_was_written_is_read_back_exactly(store: Store) -> None:
    rows = make_rows(range(7))
    store.write([rows])
    ticks, values = everything(store, list(rows.schema.names))
    assert ticks == rows.tick_ms.tolist()
    for column, name in enumerate(rows.schema.names):
        assert values[name] == rows.value[:, column].tolist()
    assert store.newest(VEHICLE) == rows.tick_ms[-1]
    assert [(v.vehicle, v.model, v.last_tick_ms) for v in store.vehicles()] == [(VEHICLE, "sample", rows.tick_ms[-1])]


def test_writing_twice_changes_nothing(store: Store) -> None:
    written = batches(200)
    store.write(written)
    before = everything(store, ["M0.S0", "M1.S5"])
    for batch in reversed(written):
        store.write([batch])
    store.write(written)
    assert everything(store, ["M0.S0", "M1.S5"]) == before
    assert before[0] == [START_MS + 1000 * tick for tick in range(200)]


def test_batches_in_any_order_make_one_series(store: Store) -> None:
    written = batches(300)
    order = np.random.default_rng(3).permutation(len(written))
    for start in range(0, len(order), 20):
        store.write([written[number] for number in order[start : start + 20]])
    whole = make_rows(range(300))
    ticks, values = everything(store, ["M0.S3"])
    assert ticks == whole.tick_ms.tolist()
    assert values["M0.S3"] == whole.value[:, 3].tolist()


def test_what_is_not_valid_is_missing_and_never_zero(store: Store) -> None:
    rows = make_rows(range(4))
    reason = rows.reason.copy()
    reason[1, 0] = 2  # stale
    reason[2, :] = 1  # a tick without any value
    raw = rows.raw.copy()
    raw[3, 5] = np.array(np.inf).view(np.int64)
    store.write([dataclasses.replace(rows, reason=reason, raw=raw)])
    ticks, values = everything(store, ["M0.S0", "M1.S5"])
    assert ticks == [START_MS, START_MS + 1000, START_MS + 3000]
    assert np.isnan(values["M0.S0"]).tolist() == [False, True, False]
    assert np.isnan(values["M1.S5"]).tolist() == [False, False, True]


def test_the_newest_values_are_those_of_the_last_ten_seconds(store: Store) -> None:
    old, new = make_rows([0], columns=[0, 1]), make_rows([60, 61], columns=[1, 2], sequence=2, consent_class="driving")
    late = make_rows([59], columns=[4], sequence=3)
    store.write([old, new])
    store.write([late])
    found = {value.signal: (value.tick_ms, value.value) for value in store.signals(VEHICLE)}
    assert found == {
        "M0.S1": (START_MS + 61_000, new.value[1, 0]),
        "M0.S2": (START_MS + 61_000, new.value[1, 1]),
        "M1.S4": (START_MS + 59_000, late.value[0, 0]),
    }


def test_a_long_range_is_thinned_without_losing_a_spike(store: Store) -> None:
    written = batches(400, 10)
    store.write(written)
    whole = make_rows(range(400))
    found = store.series(VEHICLE, ["M0.S0", "M0.S1"], START_MS, START_MS + 400_000, 40)
    raw = store.series(VEHICLE, ["M0.S0", "M0.S1"], START_MS, START_MS + 400_000, 400)
    assert len(raw.tick_ms) == 400
    expected = thinned(raw, 20_000)
    assert found.tick_ms.tolist() == expected.tick_ms.tolist()
    for column, name in enumerate(["M0.S0", "M0.S1"]):
        assert found.values[name].tolist() == expected.values[name].tolist()
        assert found.values[name].max() == whole.value[:, column].max()
        assert found.values[name].min() == whole.value[:, column].min()


def test_the_range_is_half_open_and_unknown_names_are_empty(store: Store) -> None:
    store.write([make_rows(range(10))])
    found = store.series(VEHICLE, ["M0.S0"], START_MS + 2000, START_MS + 5000, 100)
    assert found.tick_ms.tolist() == [START_MS + 2000, START_MS + 3000, START_MS + 4000]
    assert store.series(VEHICLE, ["No.Such", "M0.S0"], START_MS, START_MS + 2000, 10).values["No.Such"].tolist() == pytest.approx(
        [np.nan, np.nan], nan_ok=True
    )
    hostile = "x' OR vehicle =~ /.*/ --\\"
    assert store.newest(hostile) is None
    assert store.signals(hostile) == []
    assert len(store.series(hostile, ["M0.S0", 'a" FROM findings --'], START_MS, START_MS + 5000, 10).tick_ms) == 0


def test_replayed_and_live_vehicles_are_both_found(store: Store) -> None:
    store.write([make_rows(range(3)), make_rows(range(5), vehicle="f" * 16, stream=b"r" * 16, replay=True)])
    assert [vehicle.vehicle for vehicle in store.vehicles()] == [VEHICLE, "f" * 16]
    assert store.newest("f" * 16) == START_MS + 4000
    assert len(store.signals("f" * 16)) == 6


def test_names_that_need_escaping_survive(store: Store) -> None:
    schema = dataclasses.replace(make_schema(4), names=("can 0:A.b", "A,x.b=c", 'Q"uote.d', "Ünï.ß"), channels=("can 0,x", "b=1"))
    rows = make_rows(range(2), schema=schema)
    store.write([rows])
    _, values = everything(store, list(schema.names))
    for column, name in enumerate(schema.names):
        assert values[name] == rows.value[:, column].tolist()
    assert [value.signal for value in store.signals(VEHICLE)] == sorted(schema.names)


def test_gaps_are_kept_once(store: Store) -> None:
    gap = GapEvent(VEHICLE, "sample", b"s" * 16, 9, START_MS, False, Gap(stream=b"t" * 16, first=3, last=7, reason='full: "flash"\\'))
    other = dataclasses.replace(
        gap, sequence=10, gap=Gap(stream=b"t" * 16, first=12, last=20, reason="full")
    )  # said in the same millisecond
    store.write_gaps([gap, other])
    store.write_gaps([gap])
    if isinstance(store, EmbeddedStore):
        with store._reader() as connection:
            found = [msgspec.msgpack.decode(body, type=Gap) for (body,) in connection.execute("SELECT body FROM gaps ORDER BY sequence")]
        assert found == [gap.gap, other.gap]
    elif isinstance(store, InfluxStore):
        (series,) = store._server.query(store._databases[False], "SELECT first, last, reason FROM gaps")
        assert sorted(series.rows) == [[START_MS, 3, 7, 'full: "flash"\\'], [START_MS, 12, 20, "full"]]


def test_a_vehicle_is_deleted_whole_or_for_a_period_and_nothing_else_is(store: Store) -> None:
    other = "f" * 16
    store.write([*batches(200), make_rows(range(50), vehicle=other, stream=b"o" * 16)])
    store.write_gaps(
        [GapEvent(VEHICLE, "sample", b"s" * 16, 9, START_MS + 90_500, False, Gap(stream=b"t" * 16, first=1, last=2, reason="full"))]
    )
    counted = store.delete(VEHICLE, START_MS + 70_000, START_MS + 130_000)
    assert 60 in counted.values()  # ticks
    assert 1 in counted.values()  # the gap
    left = [*range(70), *range(130, 200)]
    ticks, values = everything(store, ["M0.S0", "M1.S5"])
    assert ticks == [START_MS + 1000 * tick for tick in left]
    whole = make_rows(range(200))
    assert values["M1.S5"] == whole.value[left, 5].tolist()
    assert 60 not in store.delete(VEHICLE, START_MS + 70_000, START_MS + 130_000).values()
    store.delete(VEHICLE, 0, 9_000_000_000_000)
    assert everything(store, ["M0.S0"])[0] == []
    assert [one.vehicle for one in store.vehicles()] == [other]
    assert len(store.series(other, ["M0.S0"], START_MS, START_MS + 50_000, 1000).tick_ms) == 50
    store.write([make_rows(range(3))])
    assert everything(store, ["M0.S0"])[0] == [START_MS, START_MS + 1000, START_MS + 2000]
