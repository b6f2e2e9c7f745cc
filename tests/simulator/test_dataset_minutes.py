"""Half a day of two cars, by the minute and by the second: both data sets tell of the same cars."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from simulator.dataset import MINUTES, TICKS, DatasetRequest, make_dataset
from simulator.scenario import Scenario
from simulator.scenario_file import FaultTable, ScenarioTable, WeatherTable

HOURS = 14  # from six in the morning
ONSET_S = 3600.0
FAULT = FaultTable(code="coolant_leak", vehicles=[0], onset="1h", development="4h", failure="2h", repair="30d")
SPEED, PUMP = "ESP_Motion.VehicleSpeed", "TMS_BatteryPump.BatteryPumpDuty"
NOISELESS = ("BMS_State.StateOfCharge", "GW_Vehicle.Odometer", PUMP, "VCU_Trip.TripDistance")


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], pa.Table]:
    what = Scenario(
        "half_day",
        ScenarioTable(
            words="x", plan="calendar", drivers={"works": 1.0, "commute_km": 5.0}, weather=WeatherTable(season="date"), faults=[FAULT]
        ),
    )
    start_ns = 1_767_564_000_000_000_000  # 2026-01-04 22:00 UTC, a Monday morning in Shanghai
    found = {}
    for resolution in (TICKS, MINUTES):
        folder = tmp_path_factory.mktemp(resolution)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("simulator.dataset_minutes.FEW", 0)  # as soon as one car is done the other goes on alone
            make_dataset(DatasetRequest(what, 1, 2, HOURS * 3600, folder, resolution, start_ns=start_ns))
        for path in folder.glob("*.parquet"):
            vehicle = int(path.name.split(".")[0].removeprefix("vehicle-"))
            kind = "all" if resolution == TICKS else path.name.split(".")[1]
            table = pq.read_table(path)
            found[vehicle, kind] = table.set_column(0, "timestamp", pa.array(table["timestamp"].to_numpy() - start_ns / 1e9))
    return found


def times(table: pa.Table) -> NDArray[np.float64]:
    stamps: NDArray[np.float64] = table["timestamp"].to_numpy()
    return stamps


def column(table: pa.Table, name: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = table[name].to_numpy().astype(np.float64)
    return values


def test_rows_are_in_order_and_there_are_none_while_the_car_sleeps(tables: dict[tuple[int, str], pa.Table]) -> None:
    for table in tables.values():
        assert (np.diff(times(table)) > 0).all()
        assert times(table)[-1] <= HOURS * 3600
    for vehicle in (0, 1):
        assert np.diff(times(tables[vehicle, "all"])).max() > 3600  # at work
        awake = np.unique(np.ceil(times(tables[vehicle, "all"]) / 60) - 1)
        minutes = times(tables[vehicle, "minutes"]) / 60
        assert set(minutes) <= set(awake)
        assert len(minutes) >= 0.9 * len(awake)  # a minute that is awake for a moment may have no sample


def test_every_second_of_the_fault_is_there_and_says_the_same(tables: dict[tuple[int, str], pa.Table]) -> None:
    whole, some = tables[0, "all"], tables[0, "ticks"]
    faulty = times(whole) > ONSET_S
    assert faulty.sum() > 300
    at = np.searchsorted(times(some), times(whole)[faulty])
    assert (times(some)[at] == times(whole)[faulty]).all()
    for name in NOISELESS:
        assert np.array_equal(column(some, name)[at], column(whole, name)[faulty], equal_nan=True), name
    speed = column(some, SPEED)[at] - column(whole, SPEED)[faulty]
    assert np.nanstd(speed) < 0.2  # the sensors' noise is drawn anew
    assert len([name for name in some.column_names if name.startswith("BMS_CellVoltages")]) == 0


def test_a_healthy_car_has_one_whole_drive_of_the_week(tables: dict[tuple[int, str], pa.Table]) -> None:
    some = tables[1, "ticks"]
    assert (np.diff(times(some)) == 1).all()
    speed = column(some, SPEED)
    speed = speed[~np.isnan(speed)]
    assert speed[0] == 0
    assert speed[-1] == 0
    assert speed.max() > 20
    assert len(some) < 0.7 * len(tables[1, "all"])


def test_a_minute_is_the_mean_of_its_seconds(tables: dict[tuple[int, str], pa.Table]) -> None:
    for vehicle in (0, 1):
        whole, minutes = tables[vehicle, "all"], tables[vehicle, "minutes"]
        minute = np.ceil(times(whole) / 60) - 1
        moving, means, truths = 0, [], []
        for row, begin_s in enumerate(times(minutes)):
            mine = minute == begin_s / 60
            if np.count_nonzero(mine) < 60 or np.isnan(column(whole, SPEED)[mine]).any():
                continue
            moving += 1
            means.append([column(minutes, name)[row] for name in (SPEED, "TMS_State.OutsideTemperature", "BMS_Pack.PackVoltage")])
            truths.append([column(whole, name)[mine].mean() for name in (SPEED, "TMS_State.OutsideTemperature", "BMS_Pack.PackVoltage")])
            least, most = column(minutes, f"{SPEED}.minimum")[row], column(minutes, f"{SPEED}.maximum")[row]
            assert column(whole, SPEED)[mine].min() - 0.3 <= least <= most <= column(whole, SPEED)[mine].max() + 0.3
        assert moving > 5
        apart = np.array(means) - np.array(truths)
        # Six samples of a minute of town traffic; what changes slowly is right to its noise.
        assert abs(apart[:, 0].mean()) < 3
        assert np.abs(apart[:, 1]).max() < 0.3
        assert np.abs(apart[:, 2]).mean() < 1.5
