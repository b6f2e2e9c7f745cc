"""What is particular to each car and its driver: build tolerances, age, wear, sensors, habits. All drawn by seed and vehicle number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from simulator.cast import Cast
from simulator.dice import Dice
from simulator.errors import ScenarioError
from simulator.state import CELLS, SENSORS, WHEELS, Array

__all__ = ["DRAWS", "Draw", "Individuals"]

LETTERS = np.array(list("ABCDEFGHJKLMNPRSTUVWXYZ0123456789"))  # ISO 3779: no I, O, Q


@dataclass(frozen=True, slots=True)
class Draw:
    """One number for each vehicle. values: each as likely. Otherwise uniform in [low, high], or normal around their middle with
    `deviation`, cut at both. least, most: what a scenario may fix it to."""

    low: float = 0.0
    high: float = 1.0
    deviation: float = 0.0
    values: tuple[float, ...] = ()
    least: float = -np.inf
    most: float = np.inf
    words: str = ""

    def of(self, dice: Dice, name: str) -> Array:
        if self.values:
            return dice.choice(name, self.values)
        if self.deviation:
            return dice.normal(name, (self.low + self.high) / 2, self.deviation, (self.high - self.low) / 2)
        return dice.uniform(name, self.low, self.high)


DRAWS: Mapping[str, Draw] = {
    # age and wear
    "odometer_km": Draw(2_000, 90_000, least=0, most=1e6, words="driven so far"),
    "km_per_day": Draw(30, 60, least=5, most=500, words="so far; the age follows from it"),
    "state_of_charge": Draw(0.55, 0.92, least=0.05, most=1.0, words="at the start"),
    "capacity_gain": Draw(0.985, 1.015, 0.006, least=0.7, most=1.1, words="of the battery when it was new"),
    "ageing_gain": Draw(0.75, 1.25, 0.10, least=0, most=5, words="speed of the battery's ageing"),
    "resistance_gain": Draw(0.94, 1.06, 0.025, least=0.5, most=3, words="of the pack when it was new"),
    "coolant_level": Draw(78, 97, least=20, most=100, words="of the battery loop, %"),
    "drive_coolant_level": Draw(75, 97, least=20, most=100, words="of the drive loop, %"),
    "filter_load": Draw(0.05, 0.7, least=0, most=1, words="of the cabin filter at the start"),
    "low_voltage_health": Draw(0.7, 0.98, least=0.2, most=1, words="of the 12 V battery"),
    "low_voltage_charge": Draw(0.85, 0.97, least=0.1, most=1, words="of the 12 V battery at the start"),
    "washer_level": Draw(25, 98, least=0, most=100, words="%"),
    "filled_warmer": Draw(-2, 2, 1.0, least=-5, most=5, words="how much warmer it was when the tyres were filled, in standard deviations"),
    "insulation_kohm": Draw(2200, 5200, least=100, most=20_000, words="of the dry car"),
    # tolerances of the build
    "drag_gain": Draw(0.97, 1.05, 0.015, least=0.8, most=2, words="of the drag area: roof racks, panels"),
    "rolling_gain": Draw(0.92, 1.10, 0.03, least=0.7, most=2, words="of the rolling resistance: tyre make"),
    "motor_loss_gain": Draw(0.96, 1.04, 0.015, least=0.7, most=1.5),
    "plate_gain": Draw(0.96, 1.04, 0.012, least=0.5, most=1.5, words="of the cold plate's heat transfer"),
    "radiator_gain": Draw(0.95, 1.05, 0.015, least=0.3, most=1.5, words="of the radiators' heat transfer: dirt"),
    "pump_gain": Draw(0.985, 1.015, 0.005, least=0.5, most=1.5, words="of the coolant pump's flow"),
    "tyre_set": Draw(values=(0, 0, 1, 2), least=0, most=2, words="0 summer, in cold winters 1; 1 winter; 2 all-season"),
    "software": Draw(values=(1, 2, 2, 3, 3, 3), least=1, most=3, words="of the drive: regeneration map, pump curve, charging curve"),
    # tolerances of sensors, for the signals
    "flow_gain": Draw(0.991, 1.009, 0.004, least=0.8, most=1.2),
    "inlet_error_c": Draw(-0.3, 0.3, 0.12, least=-5, most=5),
    "outlet_error_c": Draw(-0.3, 0.3, 0.12, least=-5, most=5),
    "outside_error_c": Draw(-0.4, 0.4, 0.15, least=-5, most=5),
    "stator_error_c": Draw(-1.5, 1.5, 0.6, least=-10, most=10),
    "current_gain": Draw(0.995, 1.005, 0.002, least=0.9, most=1.1),
    "current_error_a": Draw(-0.25, 0.25, 0.1, least=-5, most=5),
    "voltage_gain": Draw(0.999, 1.001, 0.0004, least=0.97, most=1.03),
    "charge_error": Draw(-0.015, 0.015, 0.006, least=-0.1, most=0.1, words="of the state of charge as the BMS estimates it"),
    "health_error": Draw(-0.012, 0.012, 0.005, least=-0.1, most=0.1, words="of the state of health as the BMS estimates it"),
    "level_error": Draw(-2, 2, 0.8, least=-20, most=20, words="of the coolant level sensors, points"),
    "gradient_error": Draw(-0.006, 0.006, 0.002, least=-0.05, most=0.05, words="of the inclination sensor"),
    "torque_gain": Draw(0.98, 1.02, 0.008, least=0.8, most=1.2, words="of the torque estimate"),
    "low_voltage_error_v": Draw(-0.04, 0.04, 0.015, least=-1, most=1),
    # the driver
    "style": Draw(values=(0, 1, 1, 2), least=0, most=2, words="0 calm, 1 usual, 2 sporty"),
    "acceleration": Draw(0.85, 1.15, least=0.3, most=3, words="gain of the style's acceleration"),
    "deceleration": Draw(0.85, 1.15, least=0.3, most=3, words="gain of the style's deceleration"),
    "eagerness": Draw(0.94, 1.06, least=0.5, most=1.5, words="gain of the style's speed over the limit"),
    "time_gap_s": Draw(0.85, 1.2, least=0.3, most=5, words="gain of the style's time gap"),
    "occupants": Draw(values=(1, 1, 1, 2, 2, 4), least=1, most=5, words="usual"),
    "load_kg": Draw(0, 60, least=0, most=600, words="usual, beside the people"),
    "trailer_kg": Draw(values=(0,) * 23 + (600, 1100), least=0, most=1800, words="of the driver's trailer; 0: has none"),
    "trailer_share": Draw(values=(0.15,), least=0, most=1, words="of the trips made with it"),
    "drive_mode": Draw(values=(0, 1, 1, 2), least=0, most=2, words="0 eco, 1 normal, 2 sport"),
    "regeneration_level": Draw(values=(0, 1, 2, 2), least=0, most=2),
    "setpoint_c": Draw(values=(20.0, 21.0, 21.5, 22.0, 23.0), least=16, most=28),
    "seat_heater": Draw(values=(1, 2, 3), least=0, most=3),
    "climate_on": Draw(values=(1,), least=0, most=1, words="0: the driver leaves the climate control off"),
    # where and when they drive
    "urban": Draw(0.15, 0.75, least=0, most=1, words="share of urban stretches in errands"),
    "motorway": Draw(0.05, 0.6, least=0, most=1, words="of what is not urban, the share of motorway"),
    "hilliness": Draw(0.4, 1.8, least=0, most=5, words="gain of the gradients"),
    "commute_km": Draw(7, 36, least=1, most=200, words="one way"),
    "works": Draw(values=(1, 1, 1, 1, 0), least=0, most=1, words="commutes on working days"),
    "leaves_h": Draw(6.5, 9.0, least=0, most=23, words="for work, local time"),
    "works_h": Draw(7.5, 9.5, least=1, most=14, words="hours at work"),
    "errands": Draw(0.9, 2.1, least=0, most=4, words="a day"),
    "journeys": Draw(0.5, 2.5, least=0, most=15, words="long ones a month"),
    # charging
    "wallbox_w": Draw(values=(3700.0, 3700.0, 7400.0, 11_000.0), least=1400, most=22_000),
    "plugs_below": Draw(0.45, 0.85, least=0.1, most=1, words="state of charge at which the driver plugs in at home"),
    "charge_target": Draw(values=(0.8, 0.8, 0.9, 1.0), least=0.4, most=1, words="at home"),
    "night_charging": Draw(values=(0, 0, 1), least=0, most=1, words="1: charging waits for 23:00"),
    # the weather of scenarios that fix it
    "ambient_c": Draw(values=(np.nan,), least=-30, most=50, words="constant instead of the place's weather"),
    "rain": Draw(values=(np.nan,), least=0, most=1, words="constant instead of the place's weather"),
    "battery_above_ambient_c": Draw(9, 14, least=-10, most=30, words="at the start of a drive: the car was used before"),
}

# By style: calm, usual, sporty.
STYLE_ACCELERATION = np.array([1.2, 1.75, 2.6])  # m/s², comfortable
STYLE_DECELERATION = np.array([1.2, 1.6, 2.3])
STYLE_EAGERNESS = np.array([0.95, 1.0, 1.07])
STYLE_GAP_S = np.array([2.1, 1.7, 1.2])
REGENERATION = np.array([0.45, 0.7, 1.0])


class Individuals:
    """Every draw as an attribute `(n,)`, by its name in DRAWS; besides these:

    vin                 tuple of n strings of 17 characters
    age_days            (n,)
    cell_charge         (n, 96) offset of each cell group's charge when the pack is full
    cell_capacity       (n, 96) relative to the mean
    cell_resistance     (n, 96) relative to the mean
    cell_voltage_error  (n, 96) V, of the cell voltage sensors
    cell_temperature_error (n, 24) C
    sensor_place_c      (n, 24) of cell temperature sensors: from the mean, for 1 kW of heat
    wheel_gain          (n, 4) of wheel radii
    cold_air            (n, 4) mass of air over that of the placard's pressure
    pressure_error_kpa  (n, 4)
    pad_mm, tread_mm    (n, 4) at the start
    Arrays over cells, sensors and wheels are views whose `.T` is contiguous.
    """

    def __init__(self, cast: Cast, dice: Dice) -> None:
        unknown = [name for name in cast.fixed if name not in DRAWS]
        if unknown:
            raise ScenarioError(f"fixed: expected names of draws ({', '.join(DRAWS)}), found {unknown[0]!r}")
        self.vehicles = len(cast.vehicles)
        for name, draw in DRAWS.items():
            value = cast.chosen(dice, name, draw.of(dice, name))
            if (value < draw.least).any() or (value > draw.most).any():
                raise ScenarioError(f"fixed.{name}: expected {draw.least:g} to {draw.most:g}, found {cast.fixed[name]}")
            setattr(self, name, value)
        style = self["style"].astype(np.intp)
        self.style_acceleration = STYLE_ACCELERATION[style] * self["acceleration"]
        self.style_deceleration = STYLE_DECELERATION[style] * self["deceleration"]
        self.style_eagerness = STYLE_EAGERNESS[style] * self["eagerness"]
        self.style_gap_s = STYLE_GAP_S[style] * self["time_gap_s"]
        self.regeneration_share = REGENERATION[self["regeneration_level"].astype(np.intp)]
        self.age_days = self["odometer_km"] / self["km_per_day"]
        if cast.later_s:
            days = np.asarray(cast.later_s) / 86_400
            self.age_days = self.age_days + days
            self.odometer_km: Array = self["odometer_km"] + days * self.daily_km()
            self.filter_load: Array = (self["filter_load"] + days * 0.9 / 365) % 0.95
        self._arrays(dice)
        self.vin = tuple(self._vins(dice))

    def __getitem__(self, name: str) -> Array:
        value: Array = getattr(self, name)
        return value

    def daily_km(self) -> Array:
        """What the habits make of a mean day in the calendar (`simulator.journeys`)."""
        commute = self["works"] * (5 / 7 * 0.92 * 2.03) * self["commute_km"]
        errands = 13.3 * np.minimum(1.0, self["errands"]) * (0.3 + 0.7 * (1 - 0.7 * self["works"]))
        result: Array = commute + errands + self["journeys"] * (2 * 135 / 30)
        return result

    def _arrays(self, dice: Dice) -> None:
        wear = self["odometer_km"] / 150_000
        self.cell_charge = (0.0025 * dice.normals("cell charge", CELLS)).T
        self.cell_capacity = (1 + 0.004 * dice.normals("cell capacity", CELLS)).T
        self.cell_resistance = (1 + 0.02 * dice.normals("cell resistance", CELLS)).T
        self.cell_voltage_error = (0.0006 * dice.normals("cell voltage error", CELLS)).T
        self.cell_temperature_error = (0.15 * dice.normals("cell temperature error", SENSORS)).T
        self.sensor_place_c = np.sort(-0.8 + 1.7 * dice.uniforms("sensor place", SENSORS), axis=0).T
        self.wheel_gain = (1 + 0.0008 * dice.normals("wheel gain", WHEELS)).T
        self.cold_air = (1 + 0.012 * dice.normals("cold air", WHEELS)).T
        self.pressure_error_kpa = (1.0 * dice.normals("pressure error", WHEELS)).T
        used = (10 * 0.55 * wear) * (0.8 + 0.4 * dice.uniforms("pads", WHEELS))
        self.pad_mm = (np.array([12.0, 12.0, 11.0, 11.0])[:, None] - used % 9.0).T  # beyond nine millimetres they were changed
        self.tread_mm = (8.0 - (6.0 * (self["odometer_km"] % 45_000) / 45_000) * (0.9 + 0.2 * dice.uniforms("tread", WHEELS))).T

    def _vins(self, dice: Dice) -> list[str]:
        letters = LETTERS[(dice.uniforms("vin", 8) * len(LETTERS)).astype(np.intp)]  # (8, n)
        numbers = (dice.uniform("vin number") * 999_999).astype(np.int64)
        return [f"LCS{''.join(letters[:, k])}{int(numbers[k]):06d}" for k in range(self.vehicles)]
