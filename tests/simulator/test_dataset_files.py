"""Data sets: which vehicles, which bytes, which columns."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import simulator
from cansight.commands.sim_dataset import dataset
from dbc.compiler import CompiledDbc, compile_dbc
from dbc.vehicles import DBC_FILES
from models.tables import read_table
from simulator.dataset import MANIFEST, MINUTES, DatasetRequest, make_dataset
from simulator.dataset_plan import SPLITS, members
from simulator.errors import DatasetError, ScenarioError
from simulator.minutes import Minutes
from simulator.signals import Traits
from simulator.spool import Spool

SECONDS, VEHICLES = 20, 5


@pytest.fixture(scope="module")
def compiled() -> CompiledDbc:
    return compile_dbc(DBC_FILES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset") / "one"
    make_dataset(DatasetRequest(simulator.scenario("coolant_leak"), 4, VEHICLES, SECONDS, folder))
    return folder


@pytest.mark.parametrize(("vehicles", "counts"), [(200, (120, 40, 40)), (5, (3, 1, 1)), (2, (2, 0, 0))])
def test_training_calibration_and_test_vehicles_never_share_a_seed(vehicles: int, counts: tuple[int, ...]) -> None:
    found = [member for seed in range(20) for member in members(seed, vehicles)]
    seeds = {split: {member.seed for member in found if member.split == split} for split in SPLITS}
    assert not seeds["training"] & seeds["calibration"]
    assert not seeds["training"] & seeds["test"]
    assert not seeds["calibration"] & seeds["test"]
    assert tuple(sum(member.split == split for member in members(1, vehicles)) for split in SPLITS) == counts
    assert len({(member.seed, member.number) for member in found}) == len(found)  # nor are two data sets made of the same cars


def test_the_manifest_names_every_file_with_its_digest_and_the_split(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    named = {MANIFEST}
    for entry in manifest["vehicles"]:
        assert entry["split"] == next(split for split, numbers in manifest["split"].items() if entry["vehicle"] in numbers)
        truth = json.loads((folder / f"vehicle-{entry['vehicle']:04d}.truth.json").read_text())
        assert (truth["seed"], truth["vehicle"]) == (entry["seed"], entry["vehicle"])
        for name, file in entry["files"].items():
            named.add(name)
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == file["sha256"]
    assert {path.name for path in folder.iterdir()} == named


def test_two_processes_make_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    make_dataset(DatasetRequest(simulator.scenario("coolant_leak"), 4, VEHICLES, SECONDS, tmp_path), workers=2)
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_two_processes_make_the_same_minutes(tmp_path: Path) -> None:
    what, folders = simulator.scenario("coolant_leak"), [tmp_path / "one", tmp_path / "two"]
    for workers, folder in enumerate(folders, 1):
        make_dataset(DatasetRequest(what, 4, VEHICLES, 90, folder, MINUTES), workers=workers)
    made = sorted(folders[0].iterdir())
    assert [path.name for path in made] == sorted(path.name for path in folders[1].iterdir())
    assert len([path for path in made if path.name.endswith((".minutes.parquet", ".ticks.parquet"))]) == 2 * VEHICLES
    for path in made:
        assert path.read_bytes() == (folders[1] / path.name).read_bytes(), path.name


def test_columns_are_signals_with_their_units_on_the_dbcs_steps(folder: Path, compiled: CompiledDbc) -> None:
    schema = compiled.schema
    table = pq.read_table(folder / "vehicle-0003.parquet")
    names = table.column_names
    assert names[0] == "timestamp"
    assert table.schema.field("timestamp").type == pa.float64()
    assert np.diff(table["timestamp"].to_numpy()) == pytest.approx(1)
    assert not [name for name in names if name.endswith((".Checksum", ".AliveCounter")) or name.startswith("GW_Vin")]
    assert len(names) > 600
    for name in names[1:]:
        field, number = table.schema.field(name), schema.index(name)
        assert field.type == pa.float32()
        assert (field.metadata or {}).get(b"unit", b"").decode() == schema.units[number]
    flow = table["TMS_BatteryLoop.BatteryCoolantFlow"].to_numpy()
    steps = flow / schema.scale[schema.index("TMS_BatteryLoop.BatteryCoolantFlow")]
    assert np.abs(steps - np.rint(steps)).max() < 1e-3
    assert np.ptp(flow) > 0


def test_training_reads_them_as_it_reads_logs(folder: Path) -> None:
    files = [str(path) for path in sorted(folder.glob("*.parquet"))]
    table = read_table(files, DBC_FILES, ["TMS_BatteryLoop.*"])
    assert len(table.drives) == VEHICLES
    assert table.schema is not None
    assert all(drive.values.shape == (SECONDS, len(table.names)) for drive in table.drives)


def test_what_cannot_be_made_is_told(tmp_path: Path) -> None:
    healthy = simulator.scenario("healthy")
    with pytest.raises(DatasetError, match=r"no signal fits 'Nothing\.\*'"):
        make_dataset(DatasetRequest(healthy, 1, 1, 5, tmp_path / "x", signals=("Nothing.*",)))
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="cannot be written"):
        make_dataset(DatasetRequest(healthy, 1, 1, 5, tmp_path / "file"))
    with pytest.raises(ScenarioError, match="no scenario"):
        simulator.scenario("fleet_yaer")
    told = CliRunner().invoke(dataset, ["--scenario", "healthy", "--minutes", "-o", str(tmp_path / "y")])
    assert "is for scenarios of days" in str(told.exception)


def test_minutes_are_the_means_of_their_samples(compiled: CompiledDbc, tmp_path: Path) -> None:
    """Against one sample after the other: lanes at their own times, buses that sleep, values that are missing."""
    rng = np.random.default_rng(5)
    channel = np.array([0, 0, 1, 1, 2], np.uint8)
    held = np.array([False, True, False, True, False])
    step, lanes = np.array([0.5, 1.0, 0.01, 1.0, 0.1]), 7
    minutes = Minutes(lanes, channel, held, np.array([0, 4]), step)
    fed: dict[tuple[int, int], list[np.ndarray]] = {}
    rows: dict[tuple[int, float], np.ndarray] = {}
    time_s = rng.integers(0, 50, lanes).astype(float)
    for _ in range(60):
        count = int(rng.integers(1, 25))
        lane = rng.integers(0, lanes, count)
        stamps = np.empty(count)
        for at, mine in enumerate(lane):
            time_s[mine] += rng.choice([1, 10, 10, 60, 3600])
            stamps[at] = time_s[mine]
        value = rng.normal(1000, 50, (count, 5)).astype(np.float32)
        asleep = rng.random((count, 3)) < 0.2
        value[asleep[:, channel]] = np.nan
        value[rng.random(count) < 0.02, 0] = np.nan  # missing for another reason
        for at in range(count):
            fed.setdefault((int(lane[at]), int(np.ceil(stamps[at] / 60)) - 1), []).append(value[at].copy())
            asleep[at] = np.isnan(value[at][[1, 2, 4]])  # whatever bus 0 says, its second signal knows
        for whole in minutes.feed(lane, stamps, value, asleep):
            rows |= {(int(one), float(begin)): row for one, begin, row in zip(whole.lane, whole.begin_s, whole.value, strict=True)}
    last = minutes.finish()
    rows |= {(int(one), float(begin)): row for one, begin, row in zip(last.lane, last.begin_s, last.value, strict=True)}
    assert {(lane, begin / 60) for lane, begin in rows} == set(fed)
    for (lane, minute), samples in fed.items():
        values, row = np.array(samples, np.float64), rows[lane, minute * 60.0]
        for signal in range(5):
            bus = [1, 1, 2, 2, 4][signal]
            awake = values[~np.isnan(values[:, bus]), signal]
            expected = np.nan if not len(awake) else awake[-1] if held[signal] else awake.mean()
            assert row[signal] == pytest.approx(expected, abs=0.51 * step[signal] + 1e-3, nan_ok=True)
        known = values[:, 4][~np.isnan(values[:, 4])]
        assert row[[6, 8]] == pytest.approx([known.min(), known.max()] if len(known) else [np.nan] * 2, nan_ok=True)
    assert Traits(compiled.schema).held.any()


def test_a_spool_gives_back_each_vehicles_rows_in_the_order_of_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.spool.POOL_BYTES", 4 * 3 * 50)  # 50 rows
    rng = np.random.default_rng(1)
    whose, time_s = rng.integers(0, 4, 700), rng.permutation(700).astype(float)
    value = np.stack([time_s, whose.astype(float), rng.random(700)], axis=1).astype(np.float32)
    with Spool(tmp_path, 3) as spool:
        for first in range(0, 700, 33):
            part = slice(first, first + 33)
            spool.add(whose[part], time_s[part], value[part])
        for one in range(4):
            times, rows = spool.rows(one)
            assert (times == np.sort(time_s[whose == one])).all()
            assert (rows[:, 0] == times).all()
            assert (rows[:, 1] == one).all()
        assert len(spool.rows(9)[0]) == 0
