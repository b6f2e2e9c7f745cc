"""What `cansight cloud init` makes of a server, and the minutes and hours that are kept in it."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cloud_samples import START_MS, VEHICLE, make_rows, make_schema
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import servers
from cloud.config import InfluxConfig
from cloud.database import Database
from cloud.errors import CloudError
from cloud.sinks import StoreSink
from cloud.stores.downsampled import HOUR_MS, MINUTE_MS, downsampled
from cloud.stores.influx import InfluxStore
from cloud.stores.influx_admin import admin
from cloud.stores.influx_databases import prepare
from cloud.stores.influx_http import InfluxServer
from cloud.windows import QUIET_MS, StaleWindows

HOUR = START_MS // HOUR_MS * HOUR_MS


@pytest.fixture
def config(influxdb: servers.HttpServer) -> InfluxConfig:
    return InfluxConfig(url=influxdb.url)


@pytest.fixture
def store(config: InfluxConfig, tmp_path: Path) -> Iterator[InfluxStore]:
    with InfluxStore(config, {}, quarantine=tmp_path / "refused.lp") as made:
        yield made


def test_init_makes_the_databases_with_their_retention_and_never_shortens_one_unasked(config: InfluxConfig) -> None:
    with InfluxServer(config) as server:
        said = list(prepare(admin(server), config))
        assert [line.split(":")[0] for line in said] == ["cansight", "cansight_replay", "cansight_1m", "cansight_1h"]
        day = 86_400
        assert admin(server).databases() == {"cansight": 90 * day, "cansight_replay": 0, "cansight_1m": 800 * day, "cansight_1h": 0}
        assert all("is there" in line for line in prepare(admin(server), config))
        shorter = InfluxConfig(url=config.url, keep_ticks="30d", keep_hours="400d")
        with pytest.raises(CloudError, match=r"cansight keeps its points 90 days, the settings say 30 days.*--shorten"):
            list(prepare(admin(server), shorter))
        assert admin(server).databases()["cansight_1h"] == 0
        list(prepare(admin(server), shorter, shorten=True))
        assert admin(server).databases()["cansight"] == 30 * day


def test_minutes_and_hours_are_those_of_the_server_and_late_ticks_are_in_them(store: InfluxStore, tmp_path: Path) -> None:
    now = [HOUR + HOUR_MS]
    first = (START_MS - HOUR) // 1000
    whole = range(-first + 5, -first + 185, 1)
    with Database(f"sqlite:///{tmp_path / 'tables.db'}") as database:
        windows = StaleWindows(database, store, lambda: now[0])
        sink = StoreSink(store, windows)
        sink.take([make_rows([tick for tick in whole if tick % 3])])
        assert windows.work(10) == 0  # not quiet yet
        now[0] += QUIET_MS
        assert windows.work(10) == 1
        assert windows.waiting == 0
        sink.take([make_rows([tick for tick in whole if tick % 3 == 0], sequence=2)])
        now[0] += QUIET_MS
        assert windows.work(10) == 1
    for suffix, width in (("_1m", "1m"), ("_1h", "1h")):
        for column in (0, 1, 5):
            name = f"M{column // 4}.S{column}"
            select = f'SELECT mean("{name}"), min("{name}"), max("{name}"), count("{name}") FROM signals'
            group = f"WHERE time >= {HOUR}ms AND time < {HOUR + HOUR_MS}ms GROUP BY time({width}) fill(none)"
            (theirs,) = store._server.query("cansight", f"{select} {group}")
            (ours,) = store._server.query("cansight" + suffix, f'SELECT "{name}", "{name}.min", "{name}.max", "{name}.count" FROM signals')
            assert np.allclose(ours.rows, theirs.rows, rtol=1e-12, atol=0)
            assert len(ours.rows) == (4 if width == "1m" else 1)


def test_a_window_that_another_cloud_notes_meanwhile_is_made_again(store: InfluxStore, tmp_path: Path) -> None:
    now = [START_MS]
    with Database(f"sqlite:///{tmp_path / 'tables.db'}") as database:
        one, other = (StaleWindows(database, store, lambda: now[0]) for _ in range(2))
        rows = make_rows(range(3))
        one.note([rows])
        now[0] += QUIET_MS
        seen = database.quiet_windows(now[0] - QUIET_MS, 10)
        assert len(seen) == 1
        other.note([rows])
        assert not database.claim_window(*(seen[0][0], seen[0][2], seen[0][3]), now[0])
        assert one.work(10) == 0
        now[0] += QUIET_MS
        assert one.work(10) == 1
        assert other.work(10) == 0


def test_a_replayed_log_has_no_windows(store: InfluxStore, tmp_path: Path) -> None:
    with Database(f"sqlite:///{tmp_path / 'tables.db'}") as database:
        windows = StaleWindows(database, store, lambda: START_MS)
        windows.note([make_rows(range(3), replay=True)])
        assert windows.waiting == 0


@given(st.integers(1, 40).flatmap(lambda n: arrays(np.float64, (n, 3), elements=st.floats(-1e6, 1e6) | st.just(np.nan))), st.data())
def test_windows_hold_exactly_their_valid_ticks(values: np.ndarray, data: st.DataObject) -> None:
    steps = data.draw(st.lists(st.integers(1, 90), min_size=len(values), max_size=len(values)))
    tick_ms = START_MS + 1000 * np.cumsum(steps)
    found = downsampled(tick_ms, values, MINUTE_MS)
    assert found.start_ms.tolist() == sorted(set((tick_ms // MINUTE_MS * MINUTE_MS).tolist()))
    for place, start in enumerate(found.start_ms.tolist()):
        inside = values[(tick_ms >= start) & (tick_ms < start + MINUTE_MS)]
        for column in range(3):
            valid = inside[np.isfinite(inside[:, column]), column]
            assert found.count[place, column] == len(valid)
            if len(valid):
                assert found.least[place, column] == valid.min()
                assert found.greatest[place, column] == valid.max()
                assert np.isclose(found.mean[place, column], valid.mean(), atol=1e-6)
            else:
                assert np.isnan([found.mean[place, column], found.least[place, column]]).all()


def test_the_fields_of_a_model_are_asked_for_by_bus(config: InfluxConfig, tmp_path: Path) -> None:
    class Model:
        schema = make_schema()

    with InfluxStore(config, {"sample": Model()}, quarantine=tmp_path / "q") as store:  # type: ignore[dict-item]
        old = dataclasses.replace(make_schema(2), names=("Old.One", "Old.Two"))
        store.write([make_rows(range(2)), make_rows(range(2), schema=old, sequence=2)])
        assert {bus: set(names) for bus, names in store._fields("cansight", "sample").items()} == {
            "can0": {"M0.S0", "M0.S2", "M1.S4", "Old.One", "Old.Two"},
            "can1": {"M0.S1", "M0.S3", "M1.S5", "Old.One", "Old.Two"},
        }
        assert store.downsample(VEHICLE, "sample", HOUR) == 4
