"""The faults that the car's physics can have: each by its code, with what a severity means.

A severity is 0 in a healthy car, 1 when the fault is fully developed as the product words it, and 2 when the part fails. Between, the
effect grows steadily. A car takes severities from outside before each step (`Cars.severity`); how they grow is the scenario's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["DEFECTS", "FAILURE", "Defect"]

FAILURE = 2.0  # severity at which the part has failed


@dataclass(frozen=True, slots=True)
class Defect:
    """code: in the fault catalogue. developed: the effect at severity 1. failed: at severity 2. columns: of the state, directly changed."""

    code: str
    developed: str
    failed: str
    columns: tuple[str, ...]


DEFECTS: Mapping[str, Defect] = {
    defect.code: defect
    for defect in (
        Defect(
            "coolant_leak",
            "battery coolant flow -3 %, coolant +1.2 C, level -9 points",
            "air reaches the pump: flow -60 %, the battery protects itself",
            ("loop.flow_l_min", "loop.coolant_c", "loop.outlet_c", "loop.pressure_kpa", "loop.level", "loop.pump_w", "loop.radiator_w"),
        ),
        Defect(
            "pump_degradation",
            "the battery loop's pump turns 12 % slower than asked and takes 15 % more power",
            "the pump turns at a fifth of what is asked; the battery protects itself",
            ("loop.pump_rpm", "loop.flow_l_min", "loop.pressure_kpa", "loop.pump_w", "loop.pump_c"),
        ),
        Defect(
            "fan_degradation",
            "the radiator fan turns 20 % slower than asked and takes 20 % more current for its speed",
            "the fan stands",
            ("front.fan_rpm", "front.fan_current_a", "front.air_m_s"),
        ),
        Defect(
            "cell_imbalance",
            "one cell group has 6 % less capacity, 35 % more resistance and 2 points less charge",
            "15 % less capacity, 120 % more resistance, 10 points less charge; the battery protects itself",
            ("cells.voltage", "cells.charge", "cells.resistance"),
        ),
        Defect(
            "battery_resistance",
            "ohmic resistance +25 %",
            "ohmic resistance +100 %",
            ("battery.resistance", "battery.voltage", "battery.heat_w", "battery.resistance_growth"),
        ),
        Defect(
            "battery_ageing",
            "6 points of capacity lost beyond the law, resistance with them",
            "15 points of capacity lost beyond the law",
            ("battery.capacity_a_h", "battery.health", "battery.resistance_growth", "battery.resistance"),
        ),
        Defect(
            "insulation_loss",
            "insulation resistance a quarter of the car's own",
            "below 100 ohm/V of ISO 6469-3 (about 35 kohm): the battery protects itself",
            ("battery.insulation_kohm",),
        ),
        Defect(
            "brake_drag",
            "a front caliper does not release: 6 N m at one wheel",
            "40 N m at one wheel, its disc glows on the motorway",
            ("brakes.torque_n_m", "brakes.disc_c", "brakes.pad_mm", "drive.rolling_n"),
        ),
        Defect(
            "brake_pad_worn",
            "the front pads are at 30 % of their lining",
            "the front pads are at their wear limit of 2 mm",
            ("brakes.pad_mm", "brakes.fluid_level"),
        ),
        Defect(
            "tyre_pressure_low",
            "slow puncture: one tyre has lost a tenth of its air",
            "the tyre has lost half of its air",
            ("tyres.air", "tyres.pressure_kpa", "tyres.temperature_c", "drive.rolling_n"),
        ),
        Defect(
            "cabin_filter_clogged",
            "filter efficiency down by a fifth, its resistance doubled",
            "efficiency down by a half, the air flow halved",
            ("climate.filter_load", "climate.filter_efficiency", "climate.filter_drop_pa", "climate.air_m3_h"),
        ),
        Defect(
            "low_voltage_battery_weak",
            "12 V battery at 60 % of its own health, its resistance doubled",
            "the 12 V battery cannot wake the car",
            ("low.health", "low.resistance_m_ohm", "low.crank_v"),
        ),
        Defect(
            "motor_bearing",
            "bearing vibration +0.35 g at 5,000 rpm, 0.9 N m of friction, the bearing 8 C warmer",
            "vibration +3 g, 8 N m of friction",
            ("drive.vibration_g", "drive_loop.bearing_c", "drive.motor_loss_w"),
        ),
    )
}
