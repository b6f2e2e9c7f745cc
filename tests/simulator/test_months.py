"""Months of a few signals are the same cars as all of their ticks; and which weeks of which cars are looked at."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from dbc.compiler import compile_dbc
from dbc.vehicles import DBC_FILES
from simulator import scenario
from simulator.bus_changes import AFTER_S, BEFORE_S, BusChanges
from simulator.errors import DatasetError, ScenarioError
from simulator.lives import BEGINS_S, FIRST_DRIVES, WEEK_S, first_drives, lives
from simulator.months import Lane, Months
from simulator.play import Play
from simulator.ticks import Ticks

PACKS = Path(__file__).parents[2] / "models" / "packs"
DAY_S = 86_400.0
SIGNALS = (
    "GW_Vehicle.IgnitionState",
    "BMS_CellStatistics.CellVoltageSpread",
    "ESP_DiscTemperature.DiscTemperatureFrontLeft",
    "BMS_PackDetail.BatteryHumidity",
    "TMS_BatteryLoop.BatteryCoolantFlow",
    "BRK_PadWear.PadThicknessRearRight",
    "TMS_Radiator.FanSpeed",
    "BMS_ModuleVoltage.ModuleVoltage07",
)


def test_a_few_signals_are_those_of_the_whole_car() -> None:
    what = scenario(str(PACKS / "months.toml"))
    lanes = [Lane(vehicle, day * DAY_S, (day + 1) * DAY_S) for vehicle, day in ((0, 30), (0, 90), (5, 30))]
    months = Months(what, 3, lanes, SIGNALS)
    schema = compile_dbc(DBC_FILES).schema
    play = Play(what, 3, [lane.vehicle for lane in lanes], None, [lane.from_s for lane in lanes])
    whole = Ticks(play, schema, months.start_ns, (3,), np.float64, noise=0)
    out = np.empty((len(schema), len(lanes)))
    room = (6.5 * whole._signals.traits.deviation + 1.01 * schema.scale)[months.columns][:, None]
    ticks, watch, drives = 0, BusChanges(len(lanes)), 0
    for rows in months.stretches():
        watch.see(rows)
        drives += int((~rows.ready[:-1] & rows.ready[1:]).sum())
        for at in range(len(rows.time_s)):
            play.advance()
            np.testing.assert_array_equal(rows.time_s[at], play.state["time_s"])
            if at % 16 == 0:
                whole.now(out)
                off = np.abs(rows.values[at] - out[months.columns])
                assert (off <= room)[:, rows.tick[at]].all()
                np.testing.assert_array_equal(rows.ready[at], rows.tick[at] & (out[schema.names.index(SIGNALS[0])] == 3))
        ticks = months.ticks
        if ticks > 2000:
            break
    assert months.driving_s.sum() > 1000
    assert ticks >= rows.ready.sum() > 0
    changes = watch.changes()
    wakes = [one for one in changes if (one.awake[BEFORE_S - 1], one.awake[BEFORE_S]) == (0, 7)]
    assert len(wakes) >= drives > 0
    assert all(len(one.awake) == BEFORE_S + AFTER_S and one.awake[BEFORE_S] != one.awake[BEFORE_S - 1] for one in changes)
    assert all(one.until_s > one.time_s for one in changes)
    with pytest.raises(DatasetError, match=r"no signal 'TMS\.Nothing'"):
        Months(what, 3, lanes, ["TMS.Nothing"])


def test_weeks_that_count_come_after_the_first_drives(tmp_path: Path) -> None:
    healthy = lives(scenario(str(PACKS / "months.toml")), 4, [7, 8], 24)
    assert [car.fault for car in healthy] == [None, None]
    edges = [(lane.from_s, lane.until_s) for lane in healthy[0].lanes]
    assert len(edges) == 24
    assert edges[0][0] == BEGINS_S
    assert all(until <= after for (_, until), (after, _) in pairwise(edges))
    assert edges[-1][1] <= 365 * DAY_S
    first = first_drives([7, 8])
    assert len(first) == 2 * FIRST_DRIVES
    assert max(lane.until_s for lane in first) <= BEGINS_S
    faults = scenario(str(PACKS / "faults.toml"))
    (leak,) = lives(faults, 4, [0], 24)
    assert leak.fault is not None
    assert (leak.fault.code, leak.lanes[0].from_s) == ("coolant_leak", leak.fault.onset_s)
    assert all(lane.until_s - lane.from_s <= WEEK_S for lane in leak.lanes)
    assert leak.lanes[-1].until_s >= leak.fault.failed_s
    early = tmp_path / "early.toml"
    early.write_text((PACKS / "faults.toml").read_text().replace('["29d", "43d"]', '["2d", "3d"]'))
    with pytest.raises(ScenarioError, match="expected one fault, from day 28 on"):
        lives(scenario(str(early)), 4, [0], 24)


def test_months_are_of_cars_whose_sensors_work() -> None:
    with pytest.raises(ScenarioError, match="months are of faults of the car alone"):
        Months(scenario("fleet_year"), 1, [Lane(140, 0.0, DAY_S)], SIGNALS)
