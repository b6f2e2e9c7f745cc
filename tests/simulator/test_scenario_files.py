"""Scenario files: the ready ones, and what is said about bad ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dbc.catalogue import Catalogue
from dbc.compiler import compile_dbc
from dbc.vehicles import CATALOGUE, DBC_FILES
from simulator import SCENARIOS, ScenarioError, scenario, truth
from simulator.cars import PHYSICAL_FAULTS
from simulator.fault_kinds import KINDS, LAWS
from simulator.play import Disturbances

PRODUCT = (
    *("healthy", "coolant_leak", "health_manager", "driving_report", "battery_ageing"),
    *("recommendation", "twin", "partner_data", "privacy"),
)


def test_the_library_has_each_scenario_of_the_product_and_one_for_each_physical_fault() -> None:
    assert set(PRODUCT) <= set(SCENARIOS)
    assert {code for code, kind in KINDS.items() if kind.group == "physical"} == set(PHYSICAL_FAULTS) <= set(SCENARIOS)


def test_every_fault_code_and_signal_is_in_the_catalogue_and_the_dbc() -> None:
    catalogue, names = Catalogue.load(CATALOGUE), set(compile_dbc(DBC_FILES).schema.names)
    for kind in KINDS.values():
        assert catalogue.fault(kind.code).words.en
        assert set(kind.signals) <= names, kind.code
        assert kind.law in LAWS
        assert kind.group != "physical" or (kind.source and kind.failure and kind.signals)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_ready_scenario_draws_the_same_faults_whoever_else_takes_part(name: str) -> None:
    what = scenario(name)
    everyone = range(min(what.vehicles, 12))
    together = what.courses(5, everyone)
    for vehicle in everyone:
        alone = what.courses(5, (vehicle,))
        for one, many in zip(alone, together, strict=True):
            assert one.onset_s[0] == many.onset_s[vehicle]
            assert one.failed_s[0] == many.failed_s[vehicle]
            assert one.place[0] == many.place[vehicle]
    assert (
        truth(what, 5, 10**9, vehicle=everyone[-1], severities=False).to_json()
        == truth(what, 5, 10**9, vehicle=everyone[-1], severities=False).to_json()
    )


@pytest.mark.parametrize("name", ["sensor_faults", "network_faults", "attacks"])
def test_what_is_disturbed_is_in_the_cars_dbc(name: str) -> None:
    compiled = compile_dbc(DBC_FILES)
    what = scenario(name)
    assert len(Disturbances(what, 1, 0, what.start_ns, compiled).injections) == len(what.table.faults)


def test_ranges_are_drawn_by_vehicle_within_their_bounds() -> None:
    (course, *_) = scenario("mixed_fleet").courses(1, range(200))
    has = np.isfinite(course.onset_s)
    assert 5 < np.count_nonzero(has) < 35  # 8 % of 200
    days = course.onset_s[has] / 86_400
    assert 14 <= days.min() < days.max() <= 300
    assert (course.repaired_s[has] > course.failed_s[has]).all()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("plan = 'drive'", "words: is missing; expected text"),
        ("words = 3", "words: expected str, found int"),
        ("words = 'x'\nduratoin = '5m'", "duratoin: is no key; did you mean duration?"),
        ("words = 'x'\nduration = '5 minutes'", "duration: expected a time like 90s, 30m, 2h, 7d or 3w, found '5 minutes'"),
        ("words = 'x'\nplan = 'fly'", "plan: expected one of drive, calendar, charge_ac, charge_dc, park; found 'fly'"),
        ("words = 'x'\nstart = 'monday'", "start: Invalid RFC3339 encoded datetime, found 'monday'"),
        ("words = 'x'\n[vehicles]\ncount = 0", "vehicles.count: expected a whole number from 1 to 1000000, found 0"),
        ("words = 'x'\n[vehicles]\ncolour = 3", "vehicles.colour: is no key; expected one of odometer_km"),
        ("words = 'x'\n[vehicles]\nodometer = 3", "vehicles.odometer: is no key; did you mean odometer_km?"),
        ("words = 'x'\n[vehicles]\nsoftware = [3, 1]", "vehicles.software: expected a number or [low, high] within 1 to 3, found [3"),
        ("words = 'x'\n[drivers]\nstyle = 'sporty'", "expected float | array, found str"),
        ("words = 'x'\n[drivers]\nstyle = 9", "drivers.style: expected a number or [low, high] within 0 to 2, found 9"),
        ("words = 'x'\n[weather]\nplace = 'atlantis'", "weather.place: expected one of shanghai"),
        ("words = 'x'\n[weather]\nseason = 'autumn'", "weather.season: "),
        ("words = 'x'\n[weather]\nsnow = 1", "weather.snow: is no key; "),
        ("words = 'x'\n[weather]\nrain = 2", "weather.rain: expected a number or [low, high] within 0 to 1, found 2"),
        ("words = 'x'\n[connectivity]\noutages = [['5m']]", "connectivity.outages[0]: expected its begin and its length, found ['5m']"),
        ("words = 'x'\n[connectivity]\ncoverage = 3", "connectivity.coverage: expected a share from 0 to 1, found 3"),
        ("words = 'x'\n[[faults]]\ncode = 'rust'", "faults[0].code: expected one of coolant_leak"),
        ("words = 'x'\n[[faults]]\nonset = '5s'", "faults[0].code: is missing"),
        ("words = 'x'\n[[faults]]\ncode = 'coolant_leak'\nonset = 5", "faults[0].onset: expected str | array, found int"),
        ("words = 'x'\n[[faults]]\ncode = 'coolant_leak'\nonset = ['9d', '5d']", "two of which the earlier is first, found ['9d', '5d']"),
        ("words = 'x'\n[[faults]]\ncode = 'coolant_leak'\nsize = 1", "faults[0].size: is no key; "),
        ("words = 'x'\n[[faults]]\ncode = 'coolant_leak'\nsignal = 'A.B'", "faults[0].signal: is no key of coolant_leak"),
        ("words = 'x'\n[[faults]]\ncode = 'coolant_leak'\nplace = 1", "faults[0].place: expected no place, found 1"),
        ("words = 'x'\n[[faults]]\ncode = 'brake_drag'\nplace = 'left'", "faults[0].place: expected one of front_left"),
        ("words = 'x'\n[[faults]]\ncode = 'cell_imbalance'\nplace = 96", "faults[0].place: expected a number from 0 to 95, found 96"),
        (
            "words = 'x'\n[[faults]]\ncode = 'coolant_leak'\nvehicles = [1]",
            "faults[0].vehicles: expected numbers from 0 and below vehicles.count, 1",
        ),
        ("words = 'x'\n[[faults]]\ncode = 'coolant_leak'\nshare = 1.5", "faults[0].share: expected a share from 0 to 1, found 1.5"),
        ("words = 'x'\n[[faults]]\ncode = 'sensor_stuck'\nfor = '5s'", "faults[0].signal: expected a signal or a message, found neither"),
        ("words = 'x'\n[[faults]]\ncode = 'sensor_stuck'\nsignal = 'A.B'", "faults[0].for: is missing"),
        ("words = 'x'\n[[faults]]\ncode = 'sensor_drift'\nsignal = 'A.B'\nfor = '5s'\nparameters = {speed = 3}", "faults[0].parameters: "),
        ("words = 'x'\n[[faults]]\ncode = 'sensor_stuck'\nsignal = 'A.B'\nfor = '5s'\nfailure = '3d'", "faults[0].failure: is no key of"),
        ("words = ", "is not TOML"),
    ],
)
def test_a_bad_file_is_told_with_its_key_what_was_expected_and_what_was_found(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ScenarioError) as raised:
        scenario(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert complaint in message
    assert "\n" not in message.replace("\nwords", "")


def test_a_file_that_is_not_there_and_a_name_that_is_none_are_told() -> None:
    with pytest.raises(ScenarioError, match=r"/nowhere/x\.toml: cannot be read: No such file"):
        scenario("/nowhere/x.toml")
    with pytest.raises(ScenarioError, match="no scenario 'coolant_leek'; did you mean coolant_leak"):
        scenario("coolant_leek")


def test_a_start_with_a_zone_is_that_instant(tmp_path: Path) -> None:
    path = tmp_path / "start.toml"
    path.write_text("words = 'x'\nstart = 2026-03-01T09:00:00+08:00")
    assert scenario(path).start_ns == 1_772_326_800 * 10**9
