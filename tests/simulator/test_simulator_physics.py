"""The car obeys physics: energy is balanced, temperatures and speeds are a real car's."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from simulator.old.chassis import Tyres
from simulator.old.climate import saturation_pressure_bar
from simulator.faults import CoolantLeak
from simulator.old.vehicle import COLUMNS, STEPS_PER_S, Vehicle

SECONDS = 600
SEEDS = range(6)

State = dict[str, NDArray[np.float64]]


@pytest.fixture(scope="module")
def drives() -> list[tuple[Vehicle, State]]:
    cars = [Vehicle(np.random.default_rng(seed)) for seed in SEEDS]
    return [(car, dict(zip(COLUMNS, car.record(SECONDS * STEPS_PER_S).T, strict=True))) for car in cars]


def test_every_state_is_finite(drives: list[tuple[Vehicle, State]]) -> None:
    for _, state in drives:
        assert all(np.isfinite(column).all() for column in state.values())


def test_the_cars_drive_like_cars(drives: list[tuple[Vehicle, State]]) -> None:
    for _, state in drives:
        speed, acceleration = state["drive.speed"] * 3.6, state["drive.acceleration"]
        assert 2 < state["drive.distance_m"][-1] / 1000 < 22
        assert 35 < speed.max() < 150
        assert -5 < acceleration.min() < acceleration.max() < 4
        assert np.abs(state["steering.lateral_m_s2"]).max() < 4.5
    assert len({round(state["drive.distance_m"][-1]) for _, state in drives}) == len(drives)


def test_consumption_is_that_of_an_electric_car(drives: list[tuple[Vehicle, State]]) -> None:
    for _, state in drives:
        used_kwh = (state["battery.discharged_kwh"] - state["battery.charged_kwh"])[-1]
        assert 9 < used_kwh / state["drive.distance_m"][-1] * 1e5 < 35


def test_the_batterys_energy_is_the_consumers(drives: list[tuple[Vehicle, State]]) -> None:
    for _, state in drives:
        terminals = state["battery.voltage"] * state["battery.current"]
        assert np.allclose(terminals, state["pack_w"], atol=0.5)
        consumers = state["drive.electric_w"] * state["ready"] + state["auxiliary_w"] + state["climate_w"] + state["loop.heater_w"]
        assert np.allclose(state["pack_w"], consumers)


def test_the_motor_never_gives_more_than_it_takes(drives: list[tuple[Vehicle, State]]) -> None:
    for _, state in drives:
        assert (state["drive.electric_w"] >= state["drive.mechanical_w"]).all()
        assert (state["battery.heat_w"] >= 0).all()


def test_the_coolant_loop_balances_heat(drives: list[tuple[Vehicle, State]]) -> None:
    """What the coolant stores is what the battery gives minus what radiator and chiller take."""
    for car, state in drives:
        outlet = state["loop.flow_l_min"] / 60 * 3620 * (state["loop.outlet_c"] - state["loop.coolant_c"])
        taken = outlet - state["loop.radiator_w"] - state["loop.chiller_w"] + state["loop.heater_w"]
        stored = np.diff(state["loop.coolant_c"]) * car.car.coolant_heat_capacity_j_k
        gained = taken[1:] / STEPS_PER_S
        assert abs(stored.sum() - gained.sum()) < 0.1 * np.abs(gained).sum() + 500


def test_temperatures_are_plausible(drives: list[tuple[Vehicle, State]]) -> None:
    for _, state in drives:
        ambient = state["world.ambient_c"]
        assert (state["loop.coolant_c"] > ambient - 0.5).all()
        assert (state["loop.coolant_c"] < state["loop.battery_c"]).all()  # the battery is cooled
        assert state["loop.battery_c"].max() < 50
        assert state["drive_loop.stator_c"].max() < 140
        assert (state["drive_loop.return_c"] >= state["drive_loop.coolant_c"] - 0.01).all()
        assert 10 < state["climate.cabin_c"][-1] < 32
        assert state["brakes.front_c"].max() < 400
        assert 13.0 < state["low.voltage"].min() < state["low.voltage"].max() < 14.6
        assert (state["climate.high_bar"] >= state["climate.low_bar"] - 0.05).all()


def test_the_affinity_law_holds_for_the_pump(drives: list[tuple[Vehicle, State]]) -> None:
    _, state = drives[0]
    ratio = state["loop.flow_l_min"] / state["loop.pump_rpm"] / (1 + 0.002 * (state["loop.coolant_c"] - 30))
    assert ratio.std() / ratio.mean() < 0.01


def test_the_leak_leaves_the_motion_alone() -> None:
    healthy, leaking = Vehicle(np.random.default_rng(3)), Vehicle(np.random.default_rng(3), CoolantLeak(onset_s=5, development_s=5))
    columns = [COLUMNS.index(name) for name in ("drive.speed", "drive.torque", "steering.angle_deg", "brakes.front_c", "world.latitude")]
    assert (healthy.record(300)[:, columns] == leaking.record(300)[:, columns]).all()


def test_material_laws_meet_their_tables() -> None:
    assert saturation_pressure_bar(0) == pytest.approx(3.16, rel=0.01)  # R1234yf
    assert saturation_pressure_bar(50) == pytest.approx(13.0, rel=0.01)
    cold, warm = Tyres.pressure_kpa(250.0, np.array([20.0, 50.0]))
    assert cold == pytest.approx(250)
    assert warm - cold == pytest.approx(36, abs=1)  # a tenth of the absolute pressure for 30 K
