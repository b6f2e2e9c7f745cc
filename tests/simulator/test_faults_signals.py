"""Faults do to the signals what their truth says, and nothing before their onset."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

import simulator
import simulator.fault_kinds
from dbc.compiler import CompiledDbc, compile_dbc
from dbc.decoder import Decoder
from dbc.frames import FrameBlock
from dbc.validity import Reason
from dbc.vehicles import DBC_FILES
from simulator.courses import Course
from simulator.fault_kinds import KINDS
from simulator.play import Play, TickDisturbances
from simulator.scenario import Scenario
from simulator.scenario_file import FaultTable, ScenarioTable
from simulator.sheet import Context
from simulator.signals import Signals
from simulator.ticks import Ticks

SECONDS = 300
FLOW = "TMS_BatteryLoop.BatteryCoolantFlow"
INLET = "TMS_BatteryLoop.BatteryCoolantInletTemperature"
PHYSICAL = [kind for kind in KINDS.values() if kind.group == "physical"]
HEALTHY = Scenario("healthy", ScenarioTable(words="x"))


@pytest.fixture(scope="module")
def compiled() -> CompiledDbc:
    return compile_dbc(DBC_FILES)


def values(what: Scenario, vehicles: range, compiled: CompiledDbc, seconds: int = SECONDS) -> NDArray[np.float64]:
    """(seconds, signals, vehicles) at the end of each second, without noise."""
    play = Play(what, 1, vehicles)
    signals = Signals(compiled.schema, Context(play.state, play.who, play.cars.cast.start_ns))
    now = signals.start()
    found = np.empty((seconds, *now.shape))
    for second in range(seconds):
        play.step()
        signals.write(now)
        found[second] = now
    return found


@pytest.fixture(scope="module")
def pair(compiled: CompiledDbc) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    cars = range(6)
    return values(HEALTHY, cars, compiled), values(simulator.scenario("coolant_leak"), cars, compiled)


Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


def test_a_leak_takes_three_percent_of_the_flow_and_warms_the_coolant_by_a_degree_and_a_fifth(pair: Pair, compiled: CompiledDbc) -> None:
    healthy, leak = pair
    flow, inlet = compiled.schema.index(FLOW), compiled.schema.index(INLET)
    assert leak[-30:, flow].mean(axis=0) / healthy[-30:, flow].mean(axis=0) - 1 == pytest.approx(-0.03, abs=0.003)
    # Where the chiller cools it holds the coolant, and shows the leak in its heat instead.
    chilled = leak[-30:, compiled.schema.index("TMS_State.ChillerHeat")].max(axis=0) > 0.05
    rise = (leak - healthy)[-5:, inlet].mean(axis=0)
    assert np.count_nonzero(~chilled) >= 3
    assert rise[~chilled] == pytest.approx(1.2, abs=0.2)
    assert (rise[chilled] > 0.2).all()


def test_the_flow_follows_the_severity_of_the_truth(pair: Pair, compiled: CompiledDbc) -> None:
    healthy, leak = pair
    severity = np.array(simulator.truth(simulator.scenario("coolant_leak"), 1, SECONDS).faults[0]["severity"])
    assert (severity[:120] == 0).all()
    assert severity[239] == 1
    flow = compiled.schema.index(FLOW)
    change = leak[10:, flow] / healthy[10:, flow] - 1
    assert np.abs(change + 0.03 * severity[10:, None]).max() < 0.004


def test_before_the_onset_nothing_differs_and_after_it_the_drive_is_the_same(pair: Pair, compiled: CompiledDbc) -> None:
    healthy, leak = pair
    assert (healthy[:120] == leak[:120]).all()
    schema = compiled.schema
    step = (np.abs(healthy - leak) / schema.scale[:, None]).max(axis=(0, 2))
    changed = {schema.names[number] for number in np.flatnonzero(step > 0.5)}
    assert set(KINDS["coolant_leak"].signals) <= changed
    for moving in ("ESP_Motion.VehicleSpeed", "MCU_Motor.MotorTorque", "MCU_Motor.MotorSpeed", "GNSS_Position.Latitude"):
        assert moving not in changed


def test_each_physical_fault_shows_in_the_signals_that_it_names(compiled: CompiledDbc) -> None:
    """Thirteen cars, each with one fault, beside the same cars without."""
    faults = [
        FaultTable(code=kind.code, vehicles=[number], onset="30s", development="90s", failure="90s") for number, kind in enumerate(PHYSICAL)
    ]
    cars, seconds = range(len(PHYSICAL)), 240
    table = {"drivers": {"urban": 0.7}, "vehicles": {"count": float(len(PHYSICAL))}}
    healthy = values(Scenario("x", ScenarioTable(words="x", **table)), cars, compiled, seconds)  # type: ignore[arg-type]
    faulty = values(Scenario("x", ScenarioTable(words="x", faults=faults, **table)), cars, compiled, seconds)  # type: ignore[arg-type]
    schema = compiled.schema
    assert (healthy[:29] == faulty[:29]).all()
    for number, kind in enumerate(PHYSICAL):
        step = np.abs(healthy - faulty)[:, :, number].max(axis=0) / schema.scale
        shown = {name for name in kind.signals if step[schema.index(name)] > 0.5}
        wheels = kind.places == 4
        missing = set(kind.signals) - shown
        assert len(shown) >= (1 if wheels else len(kind.signals) / 2), f"{kind.code}: {missing} do not change"


@pytest.mark.parametrize("kind", PHYSICAL, ids=lambda kind: kind.code)
def test_a_course_grows_from_its_onset_to_its_failure_and_ends_with_the_repair(kind: simulator.fault_kinds.FaultKind) -> None:
    times = [np.array([value, np.inf]) for value in (100.0, 300.0, 500.0, 700.0)]
    course = Course(kind, *times, np.zeros(2, np.intp))
    severity = np.array([course.severity(float(at)) for at in range(0, 900, 5)])
    assert (severity[:, 1] == 0).all()
    mine = severity[:, 0]
    assert (mine[:20] == 0).all()
    assert (np.diff(mine[:140]) >= 0).all()
    assert course.severity(300.0)[0] == pytest.approx(1.0)
    assert course.severity(500.0)[0] == course.severity(650.0)[0] == 2.0
    assert (mine[140:] == 0).all()
    assert course.severity(np.array([200.0, 200.0]))[0] == course.severity_at(0, np.array([200.0]))[0]


def test_a_course_whose_times_contradict_each_other_is_refused() -> None:
    with pytest.raises(simulator.ScenarioError, match="expected 0 <= onset <= developed <= failed, found 5 s, 3 s, 9 s"):
        Course(KINDS["brake_drag"], *(np.array([value]) for value in (5.0, 3.0, 9.0, np.inf)), np.zeros(1, np.intp))


def test_the_truth_is_json_and_a_drive_that_ends_before_the_onset_has_no_fault() -> None:
    what = simulator.scenario("coolant_leak")
    document = json.loads(simulator.truth(what, 5, SECONDS, 7 * 10**9).to_json())
    (fault,) = document["faults"]
    assert (document["scenario"], document["seed"], document["duration_s"]) == ("coolant_leak", 5, SECONDS)
    assert (fault["fault_code"], fault["onset_ns"], len(fault["severity"])) == ("coolant_leak", 127 * 10**9, SECONDS)
    assert simulator.truth(what, 1, 100, 0).faults == ()
    assert json.loads(simulator.truth(simulator.scenario("healthy"), 5, SECONDS, 0).to_json())["faults"] == []


def disturbed(code: str, **more: object) -> Scenario:
    fault = FaultTable(code=code, onset="4s", for_="4s", **more)  # type: ignore[arg-type]
    return Scenario("x", ScenarioTable(words="x", faults=[fault]))


def blocks(what: Scenario, compiled: CompiledDbc, seconds: int = 10) -> FrameBlock:
    parts = list(simulator.drive(what, 3, seconds, compiled=compiled))
    width = max(part.data.shape[1] for part in parts)
    data = [np.pad(part.data, ((0, 0), (0, width - part.data.shape[1]))) for part in parts]
    columns = [np.concatenate([getattr(part, name) for part in parts]) for name in ("timestamp_ns", "frame_id", "channel", "length")]
    return FrameBlock(parts[0].channels, *columns, np.ascontiguousarray(np.concatenate(data)), 0)


@pytest.fixture(scope="module")
def undisturbed(compiled: CompiledDbc) -> FrameBlock:
    return blocks(HEALTHY, compiled)


def test_an_attack_in_the_car_keeps_counters_and_checksums_and_touches_nothing_else(compiled: CompiledDbc, undisturbed: FrameBlock) -> None:
    name = "ESP_Motion.VehicleSpeed"
    frames = blocks(disturbed("attack_plateau", signal=name, parameters={"value": 88.0}), compiled)
    assert (frames.timestamp_ns == undisturbed.timestamp_ns).all()
    different = (frames.data != undisturbed.data).any(axis=1)
    assert len(set(frames.frame_id[different].tolist())) == 1
    signals = Decoder(compiled).decode(frames)
    assert (signals.reason < Reason.COUNTER).all()
    mine = signals.signal == compiled.schema.index(name)
    since = (signals.timestamp_ns[mine] - simulator.START_NS) / 1e9
    inside = (since >= 4) & (since < 8)
    assert signals.value[mine][inside] == pytest.approx(88.0, abs=compiled.schema.scale[compiled.schema.index(name)])
    assert signals.value[mine][~inside].max() < 80


@pytest.mark.parametrize(("code", "reason"), [("counter_error", Reason.COUNTER), ("checksum_error", Reason.CHECKSUM)])
def test_damaged_counters_and_checksums_are_seen_by_the_decoder(compiled: CompiledDbc, code: str, reason: Reason) -> None:
    frames = blocks(disturbed(code, message="BMS_Pack"), compiled)
    signals = Decoder(compiled).decode(frames)
    bad = signals.reason == reason
    names = {compiled.schema.names[number].partition(".")[0] for number in signals.signal[bad].tolist()}
    assert names == {"BMS_Pack"}
    since = (signals.timestamp_ns[bad] - simulator.START_NS) / 1e9
    assert 4 <= since.min() < 4.1
    assert 7.9 < since.max() < 8.2


def test_a_silent_unit_is_silent_and_a_babbling_one_fills_the_bus(compiled: CompiledDbc, undisturbed: FrameBlock) -> None:
    silent = blocks(disturbed("control_unit_silent", message="BMS_Pack"), compiled)
    babbling = blocks(disturbed("control_unit_babbling", message="BMS_Pack", parameters={"rate_hz": 1000}), compiled)
    lost, more = len(undisturbed) - len(silent), len(babbling) - len(undisturbed)
    assert lost > 100
    assert more == pytest.approx(4000, abs=2)
    assert (np.diff(babbling.timestamp_ns) >= 0).all()


def test_ticks_have_the_same_disturbances_as_frames(compiled: CompiledDbc) -> None:
    schema, name = compiled.schema, "TMS_State.OutsideTemperature"
    what = disturbed("sensor_offset", signal=name, parameters={"amount": -12.0})
    parts = []
    for scenario in (HEALTHY, what):
        play = Play(scenario, 3, (0, 1))
        ticks = Ticks(play, schema, play.cars.cast.start_ns, (3,)).next(10)
        TickDisturbances(scenario, 3, (0, 1), compiled).apply(
            ticks, np.broadcast_to(1.0 + np.arange(len(ticks))[:, None], (len(ticks), ticks.shape[2]))
        )
        parts.append(ticks)
    change = parts[1] - parts[0]
    number = schema.index(name)
    moved = np.zeros_like(change, bool)
    moved[3:7, number] = True  # the ticks at 4 to 7 s
    assert change[moved] == pytest.approx(-12.0)
    assert (np.nan_to_num(change[~moved]) == 0).all()
    sent = Decoder(compiled).decode(blocks(what, compiled))
    mine = sent.signal == number
    assert np.ptp(sent.value[mine]) == pytest.approx(12, abs=1.5)
