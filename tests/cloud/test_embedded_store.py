"""The embedded store's own promises: its blocks, its files, and several threads at once."""

import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest
from cloud_samples import START_MS, VEHICLE, make_rows, make_schema
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cloud.errors import CloudError
from cloud.store import StoreUnavailable
from cloud.stores import blocks
from cloud.stores.embedded import EmbeddedStore
from cloud.stores.schemas import dump_schema, load_schema
from dbc.compiler import load_compiled

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=70)


@given(st.data(), SHAPES, st.sampled_from([1, 3, 64, 1 << 20]))
def test_a_block_gives_back_every_bit(data: st.DataObject, shape: tuple[int, int], group: int) -> None:
    ticks, columns = shape
    raw = data.draw(hnp.arrays(np.int64, shape, fill=st.integers(-3, 3), elements=st.integers(-(2**63), 2**63 - 1)))
    reason = data.draw(hnp.arrays(np.uint8, shape, fill=st.just(0)))
    tick_ms = data.draw(hnp.arrays(np.int64, ticks, elements=st.integers(-(2**53), 2**53)))
    block = blocks.encode(tick_ms, raw, reason, group)
    for wanted in (None, np.array([columns - 1, 0])):
        found = blocks.decode(block, wanted)
        which = slice(None) if wanted is None else wanted
        assert np.array_equal(found[0], tick_ms)
        assert np.array_equal(found[1], raw[:, which])
        assert np.array_equal(found[2], reason[:, which])


def test_a_block_of_one_column_leaves_what_it_is_given_as_it_is() -> None:
    raw, reason = np.array([[4], [2]], np.int64), np.array([[1], [0]], np.uint8)
    blocks.encode(np.array([0, 1000]), raw, reason)
    assert (raw.tolist(), reason.tolist()) == ([[4], [2]], [[1], [0]])


def test_a_damaged_block_is_an_error_and_not_a_value() -> None:
    rows = make_rows(range(60))
    block = blocks.encode(rows.tick_ms, rows.raw, rows.reason)
    with pytest.raises(ValueError, match="section"):
        blocks.decode(block[:-3])


def test_a_real_schema_reads_back_the_same(tmp_path: Path) -> None:
    folder = Path(__file__).parents[2] / "dbc" / "vehicles" / "cansight_ev"
    schema = load_compiled([f"{folder / 'drive.dbc'}@can0", f"{folder / 'body.dbc'}@can1"], tmp_path).schema
    assert load_schema(dump_schema(schema)) == schema


def test_minutes_are_merged_and_what_comes_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    batches = [make_rows(range(start, start + 2), sequence=start) for start in range(0, 600, 2)]
    with EmbeddedStore(path) as store:
        for batch in batches:
            store.write([batch])
        store.flush()
    with EmbeddedStore(path) as store:
        for batch in batches[::7]:
            store.write([batch])
        store.write(batches)
        found = store.series(VEHICLE, ["M0.S0"], START_MS, START_MS + 600_000, 10_000)
        assert found.tick_ms.tolist() == [START_MS + 1000 * tick for tick in range(600)]
        assert found.values["M0.S0"].tolist() == make_rows(range(600)).value[:, 0].tolist()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM batches").fetchone()[0] < 100
        assert connection.execute("SELECT count(*) FROM blocks").fetchone()[0] >= 9


def test_two_layouts_of_one_vehicle_are_read_as_one(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path / "store.db") as store:
        store.write([make_rows(range(4), columns=[0, 1]), make_rows(range(2, 6), columns=[1, 2], sequence=2)])
        found = store.series(VEHICLE, ["M0.S0", "M0.S1", "M0.S2"], START_MS, START_MS + 10_000, 100)
        assert found.tick_ms.tolist() == [START_MS + 1000 * tick for tick in range(6)]
        assert np.isnan(found.values["M0.S0"]).tolist() == [False] * 4 + [True] * 2
        assert not np.isnan(found.values["M0.S1"]).any()
        assert np.isnan(found.values["M0.S2"]).tolist() == [True] * 2 + [False] * 4


def test_readers_see_whole_batches_while_another_thread_writes(tmp_path: Path) -> None:
    problems: list[str] = []
    done = threading.Event()
    with EmbeddedStore(tmp_path / "store.db") as store:
        store.write([make_rows(range(2))])

        def read() -> None:
            while not done.is_set():
                found = store.series(VEHICLE, ["M0.S0"], START_MS, START_MS + 1_000_000, 10_000)
                newest = store.newest(VEHICLE)
                if len(found.tick_ms) % 2 or newest is None or newest < found.tick_ms[-1] or not len(store.signals(VEHICLE)):
                    problems.append(f"{len(found.tick_ms)} ticks, newest {newest}")

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for start in range(2, 400, 2):
            store.write([make_rows(range(start, start + 2), sequence=start)])
        done.set()
        for thread in threads:
            thread.join()
    assert not problems


def test_a_full_disk_is_worth_trying_again_and_loses_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    schema = make_schema(500)
    with EmbeddedStore(tmp_path / "store.db") as store:
        store.write([make_rows([0], schema=schema)])
        rows = make_rows(range(1, 60), schema=schema, sequence=2)
        rows.raw[:] = rng.integers(0, 1 << 40, rows.raw.shape)
        assert store._writer is not None
        pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
        store._writer.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreUnavailable, match="full"):
            store.write([rows])
        assert store.newest(VEHICLE) == START_MS
        store._writer.execute("PRAGMA max_page_count = 1000000")
        store.write([rows])
        assert store.newest(VEHICLE) == START_MS + 59_000


def test_what_is_not_a_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"this is not a database" * 100)
    with (
        pytest.raises(CloudError, match=r"store\.db: the embedded store cannot be opened: file is not a database"),
        EmbeddedStore(tmp_path / "store.db"),
    ):
        pass
