"""Motion along the road: motor, gear, inverter, friction brake."""

from __future__ import annotations

import numpy as np

from simulator.dice import Numbers
from simulator.individual import Individuals
from simulator.moment import Moment
from simulator.parameters import CarParameters
from simulator.state import Array, Mask, State

__all__ = ["GRAVITY", "Powertrain"]

GRAVITY = 9.81
TORQUE_PER_AMPERE = 0.78  # N*m per A rms of torque-forming current
FIELD_WEAKENING_RAD_S = 480.0  # motor speed from which the field must be weakened
STANDSTILL_M_S = 0.05
HOLDING_N_M = 900.0
OCCUPANT_KG = 78.0
WINTER_TYRE, ALL_SEASON = 1.12, 1.06  # rolling resistance to the summer tyre's (EU tyre label classes B, C/D)
COLD_TYRE = 0.008  # of rolling resistance for each degree under 25 (Michelin, "The tyre: rolling resistance and fuel savings", 2003: 0.6 %)
COLDEST_TYRE = 45.0  # degrees under 25 at which it rises no further
TRAILER_DRAG_M2 = 1.1
TRAILER_ROLLING = 0.012
BEARING_W_10000 = 400.0  # friction of a bearing with severity 1 at 10,000/min


class Powertrain:
    """Longitudinal dynamics with one motor, quasi-static over the step: the forces of its mean speed (Guzzella and Sciarretta, "Vehicle
    Propulsion Systems", chapter 2), so that the work of the wheels is the change of kinetic energy plus what the resistances take.

    Motor losses k_c T² + k_i w + k_w w³ + C: Larminie and Lowry, "Electric Vehicle Technology Explained", chapter 7. Inverter losses
    a + b I + c I², of conduction and switching: Graovac and Pürschel, "IGBT Power Losses Calculation Using the Data-Sheet Parameters",
    Infineon 2009.
    """

    def __init__(self, car: CarParameters, who: Individuals, state: State) -> None:
        self.car, self.who, self.state = car, who, state
        self.rolling = np.zeros(who.vehicles)
        self.drag_m2 = car.drag_area_m2 * who["drag_gain"]
        self.moved_m = np.zeros(who.vehicles)
        state["drive.odometer_km"][:] = who["odometer_km"]
        state["drive.software"][:] = who["software"]
        # The newest software recuperates a little more at low speed; version 1 fades out earlier.
        self.fade_from_m_s = np.where(who["software"] >= 3, 0.8, np.where(who["software"] == 2, 1.0, 1.6))
        self.regeneration_n_m = car.regeneration_torque_n_m * who.regeneration_share * np.where(who["software"] >= 3, 1.0, 0.96)

    def fit(self, winter: Mask, of: Numbers) -> None:
        """Put the tyres on these cars that the season asks for. winter (n,): it is, and winters are cold here."""
        usual = self.who["tyre_set"][of]
        kind = np.where((usual == 0) & winter[of], 1.0, usual)
        tyre = np.where(kind == 1, WINTER_TYRE, np.where(kind == 2, ALL_SEASON, 1.0))
        self.rolling[of] = self.car.rolling_resistance * self.who["rolling_gain"][of] * tyre
        self.state["tyres.set"][of] = kind

    def load(self) -> None:
        """What the car weighs: people, their things, a trailer."""
        s = self.state
        mass = self.car.mass_kg + self.who["load_kg"] + OCCUPANT_KG * s["body.occupants"]
        np.add(mass, s["body.trailer"] * self.who["trailer_kg"], out=s["drive.mass_kg"])

    def step(self, demand: Array, m: Moment, moving: Mask, drag_n_m: Array, bearing: Array, seized: Mask) -> None:
        """demand: acceleration asked for, m/s². moving: (n,) bool, driving. drag_n_m: at the wheels, of what does not turn freely.
        bearing: severity. seized: the motor is switched off."""
        s, car = self.state, self.car
        self.load()
        mass, before, gradient = s["drive.mass_kg"], s["drive.speed"].copy(), s["world.gradient"]
        trailer = s["body.trailer"]
        inertia = mass * car.rotating_mass
        wanted_speed = np.maximum(0.0, before + demand)
        goes = moving & ((before > STANDSTILL_M_S) | (demand > 0))
        middle = 0.5 * (before + wanted_speed)  # of this second
        cold = np.minimum(np.maximum(25 - s["tyres.temperature_c"][:, 0], -25.0), COLDEST_TYRE)
        pressure = s["tyres.pressure_kpa"].T
        soft = 0.25 * (pressure[0] + pressure[1] + pressure[2] + pressure[3]) / s["tyres.placard_kpa"]
        rolling = self.rolling * (1 + COLD_TYRE * cold) * soft**-0.4 * (1 + 0.0025 * middle) + 0.0008 * s["world.rain"]
        wet = GRAVITY * (mass * rolling + trailer * self.who["trailer_kg"] * (TRAILER_ROLLING - self.rolling))
        dragging = drag_n_m / car.wheel_radius_m
        air_speed = middle + s["world.wind_m_s"]
        air = 0.5 * s["world.density_kg_m3"] * (self.drag_m2 + trailer * TRAILER_DRAG_M2) * air_speed * np.abs(air_speed)
        grade = mass * GRAVITY * gradient
        resistance = np.where(goes, wet + dragging + grade + air, 0.0)
        reach = car.gear_ratio / car.wheel_radius_m
        force = inertia * (wanted_speed - before) + resistance
        wanted = force / reach
        wanted = np.where(wanted > 0, wanted / car.gear_efficiency, wanted * car.gear_efficiency)

        turning = np.maximum(middle * reach, 1.0)
        derating = s["derating"]
        curve = np.minimum(car.motor_torque_n_m, car.motor_power_w * (1 - derating) / turning)
        battery = np.maximum(0.0, s["battery.discharge_limit_w"] - 3000.0) * 0.92 / turning
        most = np.minimum(curve, battery)
        fade = np.minimum(1.0, np.maximum(0.0, (middle - self.fade_from_m_s) / 2.5))  # the motor cannot brake to a standstill
        limit = fade * np.minimum(self.regeneration_n_m, s["battery.charge_limit_w"] / turning)
        asked = np.minimum(most, np.maximum(-limit, wanted)) * (goes & ~seized)
        s["drive.regeneration_limit"][:] = limit
        s["drive.torque_request"][:] = asked
        s["drive.torque"][:] = asked
        cause = np.where(curve <= battery, np.where(derating > 0, 3.0, 1.0), 2.0)
        s["drive.limit_cause"][:] = np.where(wanted > most, cause, np.where(wanted < -limit, 4.0, 0.0)) * goes
        push = np.where(asked > 0, asked * car.gear_efficiency, asked / car.gear_efficiency) * reach
        braking = np.maximum(0.0, push - force) * (wanted < -limit)
        held = ~goes & (s["key"] > 0)
        friction = np.where(goes, braking * car.wheel_radius_m, HOLDING_N_M * held)
        net = push - resistance - braking
        speed = np.where(goes, np.maximum(0.0, before + net / inertia), 0.0)
        speed[speed < 1e-3] = 0.0
        s["drive.speed"][:] = speed
        np.subtract(speed, before, out=s["drive.acceleration"])
        np.multiply(0.5 * (before + speed), m.dt_s if isinstance(m.dt_s, float) else 1.0, out=self.moved_m)
        s["drive.distance_m"][:] += self.moved_m
        s["drive.odometer_km"][:] += self.moved_m / 1000
        s["drive.friction_torque"][:] = friction
        s["drive.push_n"][:], s["drive.air_n"][:] = push, air * goes
        s["drive.rolling_n"][:], s["drive.grade_n"][:] = (wet + dragging) * goes, grade * goes
        self._electrics(0.5 * (before + speed) * reach, speed * reach, asked, bearing)

    def _electrics(self, middle_rad_s: Array, rad_s: Array, torque: Array, bearing: Array) -> None:
        """middle_rad_s: mean of the step, for its energy; rad_s: at its end, what is seen."""
        s, car = self.state, self.car
        s["drive.motor_rad_s"][:] = rad_s
        current_q = np.divide(torque, TORQUE_PER_AMPERE, out=s["drive.current_q"])
        weakening = np.maximum(0.0, 1.0 - FIELD_WEAKENING_RAD_S / np.maximum(rad_s, 1.0))
        current_d = s["drive.current_d"]
        current_d[:] = -48.0 / car.motor_torque_n_m * np.abs(torque) - 150.0 * weakening
        square = current_q * current_q + current_d * current_d
        loss = 0.055 * torque * torque + 0.30 * middle_rad_s + 6e-7 * middle_rad_s**3 + 25.0
        rubbing = BEARING_W_10000 / 1047 * bearing * middle_rad_s
        loss *= self.who["motor_loss_gain"]
        loss += rubbing
        ready = s["ready"]
        s["drive.motor_loss_w"][:] = loss * ready
        s["drive.inverter_loss_w"][:] = (45.0 + 1.1 * np.sqrt(square) + 0.0032 * square) * ready
        np.multiply(torque, middle_rad_s, out=s["drive.mechanical_w"])
        electric = s["drive.electric_w"]
        np.add(s["drive.mechanical_w"], s["drive.motor_loss_w"], out=electric)
        electric += s["drive.inverter_loss_w"]
        curve = np.minimum(car.motor_torque_n_m, car.motor_power_w / np.maximum(middle_rad_s, 1.0))
        s["drive.pedal"][:] = np.minimum(1.0, np.maximum(0.0, torque) / curve) ** 0.8
        # ISO 20816 ranges: a sound machine of this size shakes with 0.1 to 0.3 g; a bad bearing adds to it with its speed.
        share = rad_s * (1 / 1047)
        s["drive.vibration_g"][:] = (0.02 + (0.18 + 0.6 * bearing) * share + 0.0004 * np.abs(torque)) * ready
        hours = 1 / 3.6e6
        s["drive.used_kwh"][:] += np.maximum(electric, 0.0) * hours
        s["drive.regenerated_kwh"][:] -= np.minimum(electric, 0.0) * hours
