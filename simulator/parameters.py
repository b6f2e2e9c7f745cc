"""The car as built (`CarParameters`): what every car of the model has in common."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.state import CELLS

__all__ = ["CELLS", "KELVIN", "CarParameters"]

KELVIN = 273.15


@dataclass(frozen=True, slots=True)
class CarParameters:
    """A mid-size electric car with a rear motor (D segment, 75 kWh); figures of the order that such cars' data sheets give."""

    mass_kg: float = 1880.0  # empty
    drag_area_m2: float = 0.55  # cd 0.235 x 2.34 m²
    rolling_resistance: float = 0.0092  # class B summer tyre (EU 2020/740: 6.6 to 7.7 N/kN on a drum; rough road and toe add a fifth)
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
    charger_w: float = 11e3  # on board, three phases of 16 A
    fast_charge_w: float = 150e3
