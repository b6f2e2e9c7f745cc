"""The truth beside a data set against what its signals do: each car beside its twin, the same in everything but the fault."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from dbc.compiler import compile_dbc
from dbc.vehicles import DBC_FILES
from simulator.dataset import DatasetRequest, make_dataset
from simulator.fault_kinds import DEVELOPED, FAILED, KINDS
from simulator.scenario import Scenario
from simulator.scenario_file import FaultTable, ScenarioTable, seconds

PHYSICAL = [kind.code for kind in KINDS.values() if kind.group == "physical"]
SENSORS = ["sensor_stuck", "sensor_drift", "sensor_noise", "sensor_offset", "sensor_dropout"]
ONSET_S, DEVELOPED_S, FAILED_S, SECONDS = 40, 120, 180, 220
SIGNAL, MESSAGE = "TMS_State.OutsideTemperature", "CLIM_Filter"
FOR_S = 60
# What no fault of the car changes as long as the driver can drive as he wants.
UNTOUCHED = ("GNSS_Position.*", "GNSS_Motion.Altitude", "TMS_State.OutsideTemperature", "BCM_Doors.*", "BCM_Wipers.*", "ESP_Motion.YawRate")
Columns = dict[str, NDArray[np.float64]]


def scenario(faults: list[FaultTable]) -> Scenario:
    count = len(PHYSICAL) + len(SENSORS) + 1
    return Scenario("twins", ScenarioTable(words="x", vehicles={"count": float(count)}, drivers={"urban": 0.7}, faults=faults))


def all_faults() -> list[FaultTable]:
    times = {"onset": f"{ONSET_S}s", "development": f"{DEVELOPED_S - ONSET_S}s", "failure": f"{FAILED_S - DEVELOPED_S}s"}
    faults = [FaultTable(code=code, vehicles=[number], **times) for number, code in enumerate(PHYSICAL)]  # type: ignore[arg-type]
    for number, code in enumerate(SENSORS, len(PHYSICAL)):
        faults.append(FaultTable(code=code, vehicles=[number], signal=SIGNAL, onset=f"{ONSET_S}s", for_=f"{FOR_S}s"))
    silent = FaultTable(
        code="control_unit_silent", vehicles=[len(PHYSICAL) + len(SENSORS)], message=MESSAGE, onset=f"{ONSET_S}s", for_=f"{FOR_S}s"
    )
    return [*faults, silent]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    made = []
    for name, faults in (("faulty", all_faults()), ("healthy", [])):
        what, folder = scenario(faults), tmp_path_factory.mktemp(name)
        make_dataset(DatasetRequest(what, 2, what.vehicles, SECONDS, folder))
        made.append(folder)
    return made[0], made[1]


def read(folder: Path, number: int) -> Columns:
    table = pq.read_table(folder / f"vehicle-{number:04d}.parquet")
    return {name: table[name].to_numpy().astype(np.float64) for name in table.column_names if name != "timestamp"}


def truth(folder: Path, number: int) -> dict[str, object]:
    (fault,) = json.loads((folder / f"vehicle-{number:04d}.truth.json").read_text())["faults"]
    assert isinstance(fault, dict)
    return fault


def changed(faulty: Columns, healthy: Columns, rows: slice) -> set[str]:
    return {name for name, value in faulty.items() if not np.array_equal(value[rows], healthy[name][rows], equal_nan=True)}


@pytest.mark.parametrize("number", range(len(PHYSICAL)), ids=PHYSICAL)
def test_a_fault_of_the_car_shows_from_its_onset_in_the_signals_that_the_truth_names(folders: tuple[Path, Path], number: int) -> None:
    faulty, healthy = (read(folder, number) for folder in folders)
    fault = truth(folders[0], number)
    assert (fault["fault_code"], fault["onset_s"], fault["failed_s"]) == (PHYSICAL[number], ONSET_S, FAILED_S)
    severity = fault["severity"]
    assert isinstance(severity, list)
    assert (severity[ONSET_S - 1], severity[DEVELOPED_S - 1], severity[FAILED_S - 1]) == pytest.approx((0, DEVELOPED, FAILED))
    assert not changed(faulty, healthy, slice(0, ONSET_S - 1))
    schema = compile_dbc(DBC_FILES).schema
    signals = fault["affected_signals"]
    assert isinstance(signals, list)
    apart = {name: np.abs(faulty[name] - healthy[name])[-30:].max() / schema.scale[schema.index(name)] for name in signals}
    assert max(apart.values()) >= 2, apart
    developing = changed(faulty, healthy, slice(ONSET_S, DEVELOPED_S))
    assert not [name for name in developing if any(fnmatchcase(name, glob) for glob in UNTOUCHED)]
    speed = "ESP_Motion.VehicleSpeed"
    assert np.abs(faulty[speed] - healthy[speed])[:DEVELOPED_S].max() < 1


@pytest.mark.parametrize("number", range(len(PHYSICAL), len(PHYSICAL) + len(SENSORS)), ids=SENSORS)
def test_a_broken_sensor_changes_its_own_signal_for_the_time_that_the_truth_names(folders: tuple[Path, Path], number: int) -> None:
    faulty, healthy = (read(folder, number) for folder in folders)
    fault = truth(folders[0], number)
    assert (fault["affected_signals"], fault["onset_s"], fault["ended_s"]) == ([SIGNAL], ONSET_S, ONSET_S + FOR_S)
    inside = slice(ONSET_S - 1, ONSET_S + FOR_S - 1)  # the first row is at 1 s
    assert changed(faulty, healthy, inside) == {SIGNAL}
    assert not changed(faulty, healthy, slice(0, inside.start))
    assert not changed(faulty, healthy, slice(inside.stop, None))


def test_a_silent_message_is_missing_for_the_time_that_the_truth_names(folders: tuple[Path, Path]) -> None:
    number = len(PHYSICAL) + len(SENSORS)
    faulty, healthy = (read(folder, number) for folder in folders)
    inside = slice(ONSET_S - 1, ONSET_S + FOR_S - 1)
    assert truth(folders[0], number)["message"] == MESSAGE
    assert changed(faulty, healthy, slice(None)) == {name for name in faulty if name.startswith(f"{MESSAGE}.")}
    for name in changed(faulty, healthy, slice(None)):
        missing = np.isnan(faulty[name])
        assert missing[inside].all()
        assert np.count_nonzero(missing) == FOR_S


def test_the_mix_of_the_fleets_year_gives_each_fault_to_each_split() -> None:
    """`fleet_year`: six of ten cars of a fault train, two calibrate, two test; and no sensor fault crosses a fortnight."""
    from simulator import scenario as named
    from simulator.dataset_minutes import SLICE_S
    from simulator.dataset_plan import members

    what = named("fleet_year")
    split = {member.number: member.split for member in members(1, what.vehicles)}
    codes = {fault.code for fault in what.table.faults}
    assert set(PHYSICAL) | set(SENSORS) <= codes
    seen: set[int] = set()
    for fault in what.table.faults:
        assert fault.vehicles is not None
        assert {split[number] for number in fault.vehicles} == {"training", "calibration", "test"}, fault.code
        assert not seen & set(fault.vehicles)
        seen |= set(fault.vehicles)
        if fault.for_ is not None:
            assert isinstance(fault.onset, list)
            assert isinstance(fault.for_, list)
            last_s = seconds(fault.onset[1]) + seconds(fault.for_[1])
            assert seconds(fault.onset[0]) // SLICE_S == last_s // SLICE_S, fault.code
    assert what.vehicles - len(seen) == 30
