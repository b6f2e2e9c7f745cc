"""Each physical fault: its effect at severity 1 is what the product words, it grows with the severity, and at 2 the part has failed."""

from __future__ import annotations

import numpy as np
import pytest
from physics_car import Recording, drive

from simulator.cars import PHYSICAL_FAULTS, PLACES_OF_FAULTS, Cars
from simulator.cast import Cast
from simulator.errors import ScenarioError
from simulator.fault_kinds import KINDS

SECONDS = 260
LEVELS = (0.0, 0.5, 1.0, 2.0)
CALM = {"rain": 0.0, "ambient_c": 24.0, "trailer_kg": 0.0, "state_of_charge": 0.6}


def fleet(code: str, seconds: int = SECONDS, **fixed: float) -> Recording:
    """Four times the same two cars: the severities of LEVELS."""
    cast = Cast(seed=1, vehicles=(0, 1) * len(LEVELS), fixed=CALM | fixed)
    cars = Cars(cast, {name: np.array([1.0]) for name in PLACES_OF_FAULTS})
    levels = np.repeat(LEVELS, 2)

    class Levels(dict[str, float]):
        pass

    cars.severity[code][:] = levels
    return Recording(cars, seconds)


def by_level(recording: Recording, name: str, row: int | None = None) -> list[float]:
    """Mean of the last minute, of both cars, for each of LEVELS."""
    values = recording[name][-60:] if row is None else recording[name][-60:, row]
    means = values.mean(axis=0)
    return [float(means[2 * k : 2 * k + 2].mean()) for k in range(len(LEVELS))]


def test_the_physics_knows_every_physical_fault_of_the_registry() -> None:
    assert set(PHYSICAL_FAULTS) == {code for code, kind in KINDS.items() if kind.group == "physical"}
    assert {code: KINDS[code].places for code in PLACES_OF_FAULTS} == PLACES_OF_FAULTS


def test_a_leak_takes_flow_and_warms_the_coolant_until_the_battery_protects_itself() -> None:
    cars = fleet("coolant_leak")
    flow, coolant, level = (by_level(cars, f"loop.{name}") for name in ("flow_l_min", "coolant_c", "level"))
    assert flow[2] / flow[0] - 1 == pytest.approx(-0.03, abs=0.002)
    assert flow[1] / flow[0] - 1 == pytest.approx(-0.015, abs=0.002)
    assert coolant[2] - coolant[0] == pytest.approx(1.2, abs=0.15)
    assert level[2] - level[0] == pytest.approx(-9, abs=0.1)
    assert flow[3] / flow[0] < 0.45
    protection = by_level(cars, "protection")
    assert protection[:3] == [0, 0, 0]
    assert protection[3] == 1
    limits = by_level(cars, "battery.discharge_limit_w")
    assert limits[3] <= 25e3
    assert limits[2] > 100e3


def test_before_a_fault_begins_nothing_differs_and_then_the_motion_stays() -> None:
    leaking = drive(120, 3, severity=lambda second: {"coolant_leak": max(0.0, (second - 40) / 60)})
    healthy = drive(120, 3)
    assert (leaking.blocks[:41] == healthy.blocks[:41]).all()
    for name in ("drive.speed", "drive.torque", "steering.angle_deg", "brakes.disc_c", "world.latitude"):
        assert (leaking[name] == healthy[name]).all(), name


def test_a_worn_pump_moves_less_and_draws_more() -> None:
    cars = fleet("coolant_pump_degraded")
    flow, power, rpm = (by_level(cars, f"loop.{name}") for name in ("flow_l_min", "pump_w", "pump_rpm"))
    assert rpm[2] == pytest.approx(rpm[0], rel=0.03)
    assert flow[2] / rpm[2] / (flow[0] / rpm[0]) == pytest.approx(0.85, abs=0.01)
    assert power[2] > 1.05 * power[0]
    assert flow[3] < 0.5
    assert by_level(cars, "protection") == [0, 0, 0, 1]


def test_a_worn_fan_turns_slower_and_draws_more() -> None:
    cars = fleet("radiator_fan_degraded", ambient_c=36.0)
    rpm, current = by_level(cars, "front.fan_rpm"), by_level(cars, "front.fan_current_a")
    assert rpm[2] / rpm[0] == pytest.approx(0.85, abs=0.02)
    assert current[2] / current[0] == pytest.approx(1.25, abs=0.03)
    assert rpm[3] < 60


def test_a_weak_cell_is_below_the_others_and_sags_more() -> None:
    cars = fleet("cell_imbalance")
    voltage = cars["cells.voltage"][-60:].mean(axis=0)  # (96, 8)
    behind = np.median(voltage, axis=0) - voltage[1]
    assert behind[4:6].mean() > 0.008
    assert behind[6:8].mean() > 0.05
    assert (np.abs(behind[:2]) < 0.012).all()
    resistance = cars["cells.resistance"][-1][1]
    assert resistance[4:6] / resistance[0:2] == pytest.approx(1.4, abs=0.01)
    assert by_level(cars, "protection")[3] == 1
    assert by_level(cars, "protection")[2] == 0


def test_resistance_rises_by_thirty_percent_and_then_doubles() -> None:
    resistance = by_level(fleet("battery_resistance_high", 130), "battery.resistance")
    assert resistance[2] / resistance[0] == pytest.approx(1.30, abs=0.02)
    assert resistance[3] / resistance[0] > 2.0


def test_capacity_fades_by_six_percent() -> None:
    cars = fleet("battery_ageing", 130)
    health = by_level(cars, "battery.health")
    assert health[2] - health[0] == pytest.approx(-0.06, abs=0.002)
    assert health[3] - health[0] < -0.2
    assert by_level(cars, "battery.resistance")[2] > by_level(cars, "battery.resistance")[0]


def test_insulation_falls_by_a_decade_and_then_below_the_standard() -> None:
    cars = fleet("insulation_low", 130)
    insulation = by_level(cars, "battery.insulation_kohm")
    assert insulation[2] / insulation[0] == pytest.approx(0.1, abs=0.01)
    assert insulation[3] * 1000 / 355 < 100  # ohm/V of ISO 6469-3
    assert by_level(cars, "protection")[:3] == [0, 0, 0]
    assert by_level(cars, "battery.contactor") == [2, 2, 2, 0]  # it does not start


def test_a_dragging_brake_heats_its_disc_and_costs_energy() -> None:
    cars = fleet("brake_drag")
    here, other = by_level(cars, "brakes.disc_c", 1), by_level(cars, "brakes.disc_c", 0)
    assert here[2] - here[0] > 15
    assert here[3] > here[2] > here[1] > here[0]
    assert other[2] == pytest.approx(other[0], abs=8)
    assert by_level(cars, "drive.rolling_n")[2] > by_level(cars, "drive.rolling_n")[0] + 50
    used = cars["battery.trip_discharged_kwh"][-1]
    assert used[4:6].sum() > used[0:2].sum()


def test_pads_wear_to_thirty_percent_and_to_the_end() -> None:
    cars = fleet("brake_pad_worn", 100)
    pads = cars["brakes.pad_mm"][-1]
    assert pads[0:2, 4:6] == pytest.approx(5.0, abs=0.02)  # both of the axle
    assert pads[0:2, 6:8] == pytest.approx(2.0, abs=0.02)
    assert (pads[2:4, 4:6] == pads[2:4, 0:2]).all()
    assert (cars["brakes.fluid_level"][-1][4:6] < cars["brakes.fluid_level"][-1][0:2]).all()


def test_a_puncture_takes_a_tenth_of_the_air_and_then_most() -> None:
    cars = fleet("tyre_pressure_low")
    air, pressure = by_level(cars, "tyres.air", 1), by_level(cars, "tyres.pressure_kpa", 1)
    assert air[2] / air[0] == pytest.approx(0.9, abs=0.005)
    assert pressure[2] / pressure[0] < 0.9
    assert pressure[3] < 60
    assert by_level(cars, "tyres.pressure_kpa", 0)[2] == pytest.approx(by_level(cars, "tyres.pressure_kpa", 0)[0], abs=1.5)
    assert by_level(cars, "tyres.temperature_c", 1)[3] > by_level(cars, "tyres.temperature_c", 1)[0] + 0.5


def test_a_clogged_filter_holds_back_less_dust_and_less_air_passes() -> None:
    cars = fleet("cabin_filter_clogged")
    efficiency, air, drop = (by_level(cars, f"climate.{name}") for name in ("filter_efficiency", "air_m3_h", "filter_drop_pa"))
    assert efficiency[2] / efficiency[0] == pytest.approx(0.8, abs=0.005)
    assert 1.7 < drop[2] / drop[0] * air[0] / air[2] < 2.3
    assert air[3] < 0.75 * air[0]
    assert by_level(cars, "climate.particles")[2] > by_level(cars, "climate.particles")[0]


def test_a_weak_small_battery_has_half_its_capacity_and_dips_at_the_wake_up() -> None:
    cars = fleet("low_voltage_battery_weak", 100)
    health, resistance = by_level(cars, "low.health"), by_level(cars, "low.resistance_m_ohm")
    assert health[2] / health[0] == pytest.approx(0.5, abs=0.01)
    assert resistance[2] / resistance[0] == pytest.approx(2.0, abs=0.05)
    dips = by_level(cars, "low.crank_v")
    assert dips[0] > dips[2] > dips[3]
    assert dips[3] < 10.2


def test_a_worn_bearing_shakes_rubs_and_warms() -> None:
    cars = fleet("motor_bearing_worn", urban=0.0, motorway=1.0)
    turning = by_level(cars, "drive.motor_rad_s")[2]
    assert turning > 200
    loss = by_level(cars, "drive.motor_loss_w")
    assert loss[2] - loss[0] == pytest.approx(400 * turning / 1047, rel=0.15)  # 400 W at 10,000/min
    assert by_level(cars, "drive.vibration_g")[2] > 1.5 * by_level(cars, "drive.vibration_g")[0]
    assert by_level(cars, "drive_loop.bearing_c")[2] > by_level(cars, "drive_loop.bearing_c")[0] + 2
    assert turning_and_ready(cars)[3] == (0, 0)


def turning_and_ready(cars: Recording) -> list[tuple[float, float]]:
    return list(zip(by_level(cars, "drive.motor_rad_s"), by_level(cars, "ready"), strict=True))


def test_a_bearing_that_seizes_on_the_way_stops_the_car_and_it_is_not_driven_again() -> None:
    cars = Cars(Cast(seed=1, vehicles=(0,), plan="calendar", fixed=CALM))
    speed: list[float] = []
    while cars.state["time_s"][0] < 2 * 86_400:
        if len(speed) == 100:
            cars.severity["motor_bearing_worn"][:] = 2.0
        cars.advance()
        if cars.state["ready"][0]:
            speed.append(float(cars.state["drive.speed"][0]))
    assert speed[99] > 5
    assert 2 < len(speed) - 100 < 30  # to a standstill
    assert speed[-1] == 0
    assert cars.state["body.trips"][0] > cars.who["odometer_km"][0] // 12 + 1  # he tried again


def test_a_weak_cell_that_runs_empty_stops_the_car_before_it_is_destroyed() -> None:
    cars = Cars(Cast(seed=1, vehicles=(0, 0), fixed=CALM | {"state_of_charge": 0.305}), {"cell_imbalance": np.array([7.0, 7.0])})
    cars.severity["cell_imbalance"][:] = (0.0, 2.0)
    least, on = np.full(2, 9.0), np.zeros(2)
    for _ in range(900):
        cars.step()
        least = np.minimum(least, cars.state["cells.voltage"][:, 7])
        on = cars.state["ready"].copy()
        if cars.state["time_s"][1] > 20 and not on[1]:
            break
    assert on.tolist() == [1, 0]
    assert least[0] > 3.3
    assert 2.85 < least[1] < 3.05
    assert cars.journeys.charge_from_s[1] > cars.state["time_s"][1]  # it is towed to where it is charged


def test_a_place_that_is_none_is_refused() -> None:
    with pytest.raises(ScenarioError, match="place of tyre_pressure_low: expected 0 to 3"):
        Cars(Cast(), {"tyre_pressure_low": np.array([4.0])})
