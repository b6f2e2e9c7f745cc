"""The coolant leak does what its truth says, and nothing else."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

import simulator
from dbc.catalogue import Catalogue
from dbc.compiler import CompiledDbc, compile_dbc
from dbc.vehicles import CATALOGUE, DBC_FILES

SECONDS = 300
FLOW = "TMS_BatteryLoop.BatteryCoolantFlow"
INLET = "TMS_BatteryLoop.BatteryCoolantInletTemperature"
SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def compiled() -> CompiledDbc:
    return compile_dbc(DBC_FILES)


def values(what: simulator.Scenario, seed: int, compiled: CompiledDbc, seconds: int = SECONDS) -> NDArray[np.float64]:
    """(seconds, signals) at the end of each second."""
    trip = simulator.Trip(what, seed, simulator.START_NS, compiled)
    return np.array([trip.signals()[-1] for _ in range(seconds)])


@pytest.fixture(scope="module")
def pairs(compiled: CompiledDbc) -> dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    healthy, leak = simulator.scenario("healthy"), simulator.scenario("coolant_leak")
    return {seed: (values(healthy, seed, compiled), values(leak, seed, compiled)) for seed in SEEDS}


Pairs = dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]


@pytest.mark.parametrize("seed", SEEDS)
def test_flow_falls_by_three_percent_and_the_coolant_warms_by_a_degree_and_a_fifth(pairs: Pairs, compiled: CompiledDbc, seed: int) -> None:
    healthy, leak = pairs[seed]
    flow, inlet = compiled.schema.index(FLOW), compiled.schema.index(INLET)
    assert leak[-30:, flow].mean() / healthy[-30:, flow].mean() - 1 == pytest.approx(-0.03, abs=0.002)
    assert (leak - healthy)[-5:, inlet].mean() == pytest.approx(1.2, abs=0.2)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_signals_follow_the_severity(pairs: Pairs, compiled: CompiledDbc, seed: int) -> None:
    healthy, leak = pairs[seed]
    fault = simulator.truth(simulator.scenario("coolant_leak"), seed, SECONDS, simulator.START_NS).faults[0]
    severity = np.array(fault["severity"])
    flow = compiled.schema.index(FLOW)
    change = leak[:, flow] / healthy[:, flow] - 1
    assert np.abs(change - fault["flow_change"] * severity).max() < 0.002
    assert (severity[: round(fault["onset_s"])] == 0).all()
    assert severity[round(fault["developed_s"]) - 1] == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_before_the_onset_nothing_differs_and_after_it_only_what_the_truth_names(pairs: Pairs, compiled: CompiledDbc, seed: int) -> None:
    healthy, leak = pairs[seed]
    fault = simulator.truth(simulator.scenario("coolant_leak"), seed, SECONDS, simulator.START_NS).faults[0]
    onset = round(fault["onset_s"])
    assert (healthy[:onset] == leak[:onset]).all()
    schema = compiled.schema
    step = np.abs(np.rint(healthy / schema.scale) - np.rint(leak / schema.scale)).max(axis=0)
    changed = {schema.names[number] for number in np.flatnonzero(step)}
    assert set(fault["affected_signals"]) <= changed
    consequent = set(fault["consequent_messages"])
    assert {name for name in changed if name not in fault["affected_signals"] and name.partition(".")[0] not in consequent} == set()
    for moving in ("ESP_Motion.VehicleSpeed", "MCU_Motor.MotorTorque", "MCU_Motor.MotorSpeed", "GNSS_Position.Latitude"):
        assert moving not in changed


def test_the_truth_is_json_and_its_fault_is_in_the_catalogue(compiled: CompiledDbc) -> None:
    what = simulator.scenario("coolant_leak")
    truth = json.loads(simulator.truth(what, 5, SECONDS, 7 * 10**9).to_json())
    fault = truth["faults"][0]
    assert (truth["scenario"], truth["seed"], truth["duration_s"]) == ("coolant_leak", 5, SECONDS)
    assert fault["onset_ns"] == 127 * 10**9
    assert len(fault["severity"]) == SECONDS
    catalogue = Catalogue.load(CATALOGUE)
    assert catalogue.fault(fault["fault_code"]).subsystem == "thermal"
    assert set(catalogue.fault(fault["fault_code"]).signals) <= set(fault["affected_signals"])
    assert set(fault["affected_signals"]) <= set(compiled.schema.names)
    assert set(fault["consequent_messages"]) <= {name.partition(".")[0] for name in compiled.schema.names}
    assert json.loads(simulator.truth(simulator.scenario("healthy"), 5, SECONDS, 0).to_json())["faults"] == []


def test_a_drive_that_ends_before_the_onset_has_no_fault() -> None:
    assert simulator.truth(simulator.scenario("coolant_leak"), 1, 100, 0).faults == ()


def test_the_development_can_be_compressed(compiled: CompiledDbc) -> None:
    fast = simulator.Scenario("fast", "", simulator.CoolantLeak(onset_s=10, development_s=10))
    flow = compiled.schema.index(FLOW)
    healthy, leak = (values(what, 4, compiled, 40) for what in (simulator.scenario("healthy"), fast))
    assert leak[25:, flow].mean() / healthy[25:, flow].mean() - 1 == pytest.approx(-0.03, abs=0.002)


def test_a_leak_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(simulator.ScenarioError, match="development > 0"):
        simulator.CoolantLeak(development_s=0)
    with pytest.raises(simulator.ScenarioError, match="flow loss"):
        simulator.CoolantLeak(flow_loss=0.9)


def test_healthy_cars_differ_but_flow_and_coolant_follow_from_their_operating_point(compiled: CompiledDbc) -> None:
    """What a detector lives on: over cars the raw values spread widely, and what the operating point does not explain is small."""
    schema = compiled.schema
    inputs = [
        "TMS_BatteryPump.BatteryPumpSpeed",
        "BMS_Thermal.CellTemperatureMean",
        "TMS_State.OutsideTemperature",
        "TMS_Radiator.RadiatorAirSpeed",
        "TMS_State.ChillerHeat",
    ]
    drives = np.concatenate([values(simulator.scenario("healthy"), seed, compiled, 120)[10:] for seed in range(20, 32)])
    known = np.column_stack([np.ones(len(drives)), drives[:, [schema.index(name) for name in inputs]]])
    for name, change in ((FLOW, 0.03 * 11), (INLET, 1.2)):
        seen = drives[:, schema.index(name)]
        unexplained = (seen - known @ np.linalg.lstsq(known, seen, rcond=None)[0]).std()
        assert seen.std() > change  # a limit on the value alone would not see the leak
        assert 2.5 < change / unexplained < 15  # nor is it a step that anyone would see
