"""The car as built (`CarParameters`); this one car (`Individual`) and the world around it (`Surroundings`), both drawn by seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CELLS", "TEMPERATURE_SENSORS", "CarParameters", "Individual", "Surroundings"]

CELLS = 96  # in series
TEMPERATURE_SENSORS = 24
KELVIN = 273.15


@dataclass(frozen=True, slots=True)
class CarParameters:
    """A mid-size electric car with a rear motor; figures of the order that such cars' data sheets give."""

    mass_kg: float = 1880.0  # empty
    drag_area_m2: float = 0.55  # cd 0.235 x 2.34 m²
    rolling_resistance: float = 0.0092  # class B tyre
    rotating_mass: float = 1.05  # inertia of wheels and motor as a share of the mass
    wheel_radius_m: float = 0.345
    wheelbase_m: float = 2.85
    gear_ratio: float = 9.6
    gear_efficiency: float = 0.975
    motor_torque_n_m: float = 330.0
    motor_power_w: float = 160e3
    motor_pole_pairs: int = 4
    regeneration_torque_n_m: float = 190.0
    capacity_a_h: float = 210.0  # new; x 96 x 3.7 V = 75 kWh
    pack_resistance_ohm: float = 0.095  # ohmic, at 25 °C, new
    polarisation_resistance_ohm: float = 0.030
    polarisation_time_s: float = 40.0
    battery_heat_capacity_j_k: float = 350e3  # 340 kg of cells at 1030 J/(kg K)
    coolant_heat_capacity_j_k: float = 10e3  # 2.8 L of 50 % glycol in the battery's loop
    pump_reference_rpm: float = 3500.0
    pump_reference_flow_l_min: float = 12.0
    cold_plate_w_k: float = 300.0  # battery to coolant, at the reference flow
    radiator_w_k: float = 110.0  # coolant to air, at the reference flow and 4 m/s


@dataclass(frozen=True, slots=True)
class Individual:
    """One car: tolerances of its sensors, its wear and its age. Drawn once per seed."""

    vin: str
    odometer_km: float
    age_days: float
    state_of_health: float
    state_of_charge: float
    flow_gain: float  # of the coolant flow sensor
    inlet_error_c: float
    outlet_error_c: float
    outside_error_c: float
    coolant_level: float
    drive_coolant_level: float
    cell_charge: NDArray[np.float64]  # (96,) offset of each cell's state of charge
    cell_resistance: NDArray[np.float64]  # (96,) relative to the mean
    sensor_place_c: NDArray[np.float64]  # (24,) of cell temperature sensors: from the mean, per 1 kW of heat
    wheel_gain: NDArray[np.float64]  # (4,) of wheel radii
    cold_pressure_kpa: NDArray[np.float64]  # (4,)
    pad_mm: NDArray[np.float64]  # (4,)
    occupants: int
    drive_mode: int
    regeneration_level: int
    setpoint_c: float
    seat_heater: int
    filter_load: float  # 0 new .. 1 full
    low_voltage_health: float
    washer_level: float
    insulation_kohm: float

    @staticmethod
    def draw(rng: np.random.Generator) -> Individual:
        odometer = float(rng.uniform(2_000, 90_000))
        wear = odometer / 150_000
        characters = np.array(list("ABCDEFGHJKLMNPRSTUVWXYZ0123456789"))  # ISO 3779: no I, O, Q
        return Individual(
            vin="LCS" + "".join(rng.choice(characters, 8)) + f"{int(rng.integers(0, 999_999)):06d}",
            odometer_km=odometer,
            age_days=odometer / float(rng.uniform(30, 60)),
            state_of_health=1.0 - 0.11 * wear - float(rng.uniform(0, 0.02)),
            state_of_charge=float(rng.uniform(0.55, 0.92)),
            flow_gain=1.0 + float(np.clip(rng.normal(0, 0.004), -0.009, 0.009)),
            inlet_error_c=float(np.clip(rng.normal(0, 0.12), -0.3, 0.3)),
            outlet_error_c=float(np.clip(rng.normal(0, 0.12), -0.3, 0.3)),
            outside_error_c=float(np.clip(rng.normal(0, 0.15), -0.4, 0.4)),
            coolant_level=float(rng.uniform(78, 97)),
            drive_coolant_level=float(rng.uniform(75, 97)),
            cell_charge=rng.normal(0, 0.0025, CELLS),
            cell_resistance=1 + rng.normal(0, 0.02, CELLS),
            sensor_place_c=np.sort(rng.uniform(-0.8, 0.9, TEMPERATURE_SENSORS)),
            wheel_gain=1 + rng.normal(0, 0.0008, 4),
            cold_pressure_kpa=250 + rng.normal(0, 4, 4),
            pad_mm=np.array([12, 12, 11, 11]) - (10 * wear * 0.55) * rng.uniform(0.8, 1.2, 4),
            occupants=int(rng.choice([1, 1, 1, 2, 2, 4])),
            drive_mode=int(rng.choice([0, 1, 1, 2])),
            regeneration_level=int(rng.choice([0, 1, 2, 2])),
            setpoint_c=float(rng.choice([20.0, 21.0, 21.5, 22.0, 23.0])),
            seat_heater=int(rng.integers(1, 4)),
            filter_load=float(rng.uniform(0.05, 0.7)),
            low_voltage_health=float(rng.uniform(0.7, 0.98)),
            washer_level=float(rng.uniform(25, 98)),
            insulation_kohm=float(rng.uniform(2200, 5200)),
        )


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The world during one drive. Drawn once per seed."""

    ambient_c: float
    battery_above_ambient_c: float  # at the start: the car was driven or charged before
    humidity: float
    solar_w_m2: float
    rain: float  # 0..1, mean
    particles_ug_m3: float
    latitude: float
    longitude: float
    altitude_m: float
    heading_deg: float

    @staticmethod
    def draw(rng: np.random.Generator) -> Surroundings:
        ambient = float(rng.uniform(4, 30))
        rain = max(0.0, float(rng.uniform(-1.5, 0.8)))
        return Surroundings(
            ambient_c=ambient,
            battery_above_ambient_c=float(rng.uniform(9, 14)),
            humidity=0.45 + 0.4 * min(1.0, rain * 2) + float(rng.uniform(-0.1, 0.1)),
            solar_w_m2=0.0 if rng.random() < 0.2 else float(rng.uniform(50, 750)) * (0.3 if rain > 0 else 1.0),
            rain=rain,
            particles_ug_m3=float(rng.uniform(8, 90)),
            latitude=31.23 + float(rng.uniform(-0.2, 0.2)),
            longitude=121.47 + float(rng.uniform(-0.2, 0.2)),
            altitude_m=float(rng.uniform(3, 60)),
            heading_deg=float(rng.uniform(0, 360)),
        )
