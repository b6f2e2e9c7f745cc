"""Energy and mass balance in the vectorised car; its course is its own."""

from __future__ import annotations

import numpy as np
import pytest
from physics_car import Recording, drive

from simulator.cars import Cars
from simulator.cast import Cast
from simulator.errors import ScenarioError
from simulator.state import COLUMNS, State

SECONDS = 420


@pytest.fixture(scope="module")
def cars() -> Recording:
    return drive(SECONDS, vehicles=16)


def test_every_column_is_finite_at_every_second(cars: Recording) -> None:
    assert np.isfinite(cars.blocks).all()


def test_the_cars_drive_like_cars(cars: Recording) -> None:
    speed, acceleration = cars["drive.speed"] * 3.6, cars["drive.acceleration"]
    assert (cars["drive.distance_m"][-1] > 800).all()
    assert (speed >= 0).all()
    assert speed.max() < 160
    assert -7 < acceleration.min() < acceleration.max() < 4
    assert np.abs(cars["steering.lateral_m_s2"]).max() < 5
    assert len(set(np.round(cars["drive.distance_m"][-1]))) == 16
    assert (cars["world.gap_m"][cars["world.lead"] > 0] >= 1).all()


def test_the_work_of_the_wheels_is_kinetic_energy_and_resistance(cars: Recording) -> None:
    speed, mass = cars["drive.speed"], cars["drive.mass_kg"]
    mean = 0.5 * (speed[1:] + speed[:-1])
    kinetic = 0.5 * 1.05 * mass[1:] * (speed[1:] ** 2 - speed[:-1] ** 2)
    friction = cars["drive.friction_torque"][1:] / cars.cars.car.wheel_radius_m
    resistance = cars["drive.air_n"][1:] + cars["drive.rolling_n"][1:] + cars["drive.grade_n"][1:]
    work = (cars["drive.push_n"][1:] - friction - resistance) * mean
    moving = (speed[1:] > 0) & (speed[:-1] > 0)
    assert np.abs((work - kinetic)[moving]).max() < 1.0  # J, of some 1e5


def test_the_power_at_the_battery_is_that_of_the_consumers(cars: Recording) -> None:
    terminals = cars["battery.voltage"] * cars["battery.current"]
    assert np.abs(terminals - cars["pack_w"])[1:].max() < 0.5
    consumers = cars["drive.electric_w"] + cars["auxiliary_w"] + cars["climate_w"] + cars["charging.power_w"] * -1
    # The battery's heater moves after the electrics within a step.
    assert np.abs(consumers[1:] + cars["loop.heater_w"][:-1] - cars["pack_w"][1:]).max() < 4000 * 0.35
    quiet = np.abs(np.diff(cars["loop.heater_w"], axis=0)) < 1e-9
    assert quiet.any()


def test_the_charge_is_what_flowed(cars: Recording) -> None:
    moved = cars["battery.current"][1:].sum(axis=0) / 3600
    charge = (cars["battery.charge"][0] - cars["battery.charge"][-1]) * cars["battery.capacity_a_h"][-1]
    assert moved == pytest.approx(charge, abs=1e-3)
    counted = np.diff(cars["battery.discharged_a_h"][[0, -1]], axis=0) - np.diff(cars["battery.charged_a_h"][[0, -1]], axis=0)
    assert moved == pytest.approx(counted[0], abs=1e-6)


def test_losses_are_losses(cars: Recording) -> None:
    assert (cars["drive.electric_w"] >= cars["drive.mechanical_w"] - 1e-6)[1:].all()
    assert (cars["low.converter_input_w"] >= cars["low.voltage"] * cars["low.converter_a"] - 1e-6).all()
    heat = cars["battery.heat_w"] + cars["battery.current"] * (cars["loop.battery_c"] + 273.15) * 96 * -0.00015  # without the entropic part
    assert heat.min() > -1e-6


def test_heat_is_kept_in_the_battery_and_its_coolant(cars: Recording) -> None:
    car = cars.cars.car
    lost = 2.5 * (cars["loop.battery_c"] - cars["world.ambient_c"]) * (1 + 0.02 * cars["drive.speed"])
    gained = (cars["battery.heat_w"] - cars["loop.plate_w"])[1:].sum(axis=0) - lost[1:].sum(axis=0)
    stored = (cars["loop.battery_c"][-1] - cars["loop.battery_c"][0]) * car.battery_heat_capacity_j_k
    assert np.abs(gained - stored).max() < 0.02 * np.abs(stored).max() + 500
    through = cars["loop.plate_w"] + cars["loop.heater_w"] - cars["loop.chiller_w"] - cars["loop.radiator_w"]
    warmed = (cars["loop.coolant_c"][-1] - cars["loop.coolant_c"][0]) * car.coolant_heat_capacity_j_k
    assert np.abs(through[1:].sum(axis=0) - warmed).max() < 1e-3 * np.abs(cars["loop.plate_w"]).sum(axis=0).max() + 1


def test_a_step_of_a_minute_is_sixty_steps_of_a_second() -> None:
    """Asleep, heat and charge relax by exact solutions: what is left of the difference is the weather's unrest."""
    names = (
        "loop.battery_c",
        "loop.coolant_c",
        "drive_loop.stator_c",
        "climate.cabin_c",
        "low.charge",
        "tyres.pressure_kpa",
        "battery.health",
    )
    one, other = (Cars(Cast(seed=4, vehicles=(0, 1, 2), plan="park", fixed={"ambient_c": 3.0, "rain": 0.0})) for _ in range(2))
    for car in (one, other):
        car.state["loop.battery_c"][:] = 30.0
        car.state["climate.cabin_c"][:] = 22.0
    for _ in range(900):
        one.step()
    for _ in range(15):
        other.step(60.0)
    for name in names:
        assert other.state[name] == pytest.approx(one.state[name], abs=0.6), name


def test_the_air_in_a_tyre_is_kept() -> None:
    cars = drive(200, vehicles=4)
    absolute = cars["tyres.pressure_kpa"] + 101.3
    mass = absolute / (cars["tyres.temperature_c"] + 273.15)
    assert mass[-1] / mass[0] == pytest.approx(1.0, abs=1e-5)


def test_a_car_is_the_same_alone_and_in_company() -> None:
    company = Cars(Cast(seed=9, vehicles=tuple(range(40))))
    alone = Cars(Cast(seed=9, vehicles=(23,)))
    for _ in range(150):
        company.step()
        alone.step()
    assert (company.state.block[:, 23] == alone.state.block[:, 0]).all()


def test_a_car_in_its_days_is_the_same_alone_and_in_company() -> None:
    """Each by its own steps: who sleeps beside it does not matter."""
    company = Cars(Cast(seed=9, vehicles=tuple(range(12)), plan="calendar"))
    alone = Cars(Cast(seed=9, vehicles=(7,), plan="calendar"))
    for _ in range(350):
        company.advance()
        alone.advance()
    assert (company.state.block[:, 7] == alone.state.block[:, 0]).all()


def test_the_same_cast_gives_the_same_course_and_another_seed_another() -> None:
    blocks = []
    for seed in (3, 3, 4):
        cars = Cars(Cast(seed=seed, vehicles=(0, 5)))
        for _ in range(60):
            cars.step()
        blocks.append(cars.state.block.copy())
    assert blocks[0].tobytes() == blocks[1].tobytes()
    assert (blocks[0] != blocks[2]).any()


def test_what_is_fixed_is_fixed_and_what_contradicts_is_refused() -> None:
    cars = Cars(Cast(vehicles=tuple(range(5)), fixed={"state_of_charge": 0.4, "odometer_km": (10_000.0, 20_000.0)}))
    assert cars.state["battery.charge"] == pytest.approx(0.4)
    assert ((cars.state["drive.odometer_km"] >= 10_000) & (cars.state["drive.odometer_km"] < 20_000)).all()
    with pytest.raises(ScenarioError, match=r"fixed\.state_of_charge: expected 0\.05 to 1, found 3"):
        Cars(Cast(fixed={"state_of_charge": 3.0}))
    with pytest.raises(ScenarioError, match="names of draws"):
        Cars(Cast(fixed={"colour": 3.0}))
    with pytest.raises(ScenarioError, match="place: expected one of shanghai"):
        Cars(Cast(place="atlantis"))
    driving = drive(10, vehicles=1).cars
    with pytest.raises(ScenarioError, match="expected 1 s while a vehicle is used"):
        driving.step(60.0)


def test_the_state_names_its_columns_and_keeps_its_arrays() -> None:
    state = State(3)
    assert len(state) == len(COLUMNS)
    assert state["cells.voltage"].shape == (3, 96)
    assert state["cells.voltage"].T.flags.c_contiguous
    state["brakes.disc_c"][1, 2] = 7.0
    assert state.block[state.rows["brakes.disc_c"]][2, 1] == 7.0
    assert len(state.smooth) == len(state.block)
