"""The 12 V system: consumers, converter, battery."""

from __future__ import annotations

import numpy as np

from simulator.individual import Individuals
from simulator.moment import Moment, relax
from simulator.state import Array, Mask, State

__all__ = ["LowVoltage"]

CAPACITY_A_H = 60.0
SLEEP_A = 0.025  # of the sleeping car (VDA and OEM targets: 20 to 30 mA)
RECHARGE_BELOW = 0.72  # a sleeping car wakes its converter to top the battery up
WAKE_A = 55.0  # inrush of contactors and control units
NO_WAKE_V = 9.0  # below it control units reset (ISO 7637-2, ISO 16750-2)


class LowVoltage:
    """Converter with droop and a lead battery with one resistance.

    Battery: open-circuit voltage linear in charge and a charging resistance, as in Ceraolo, "New dynamical models of lead-acid batteries",
    IEEE Trans. Power Systems 15 (2000), reduced to its zeroth order. Converter losses: constant, linear and quadratic in current.
    """

    def __init__(self, who: Individuals, state: State) -> None:
        self.who, self.state = who, state
        n = who.vehicles
        state["low.charge"][:] = who["low_voltage_charge"]
        state["low.battery_c"][:] = state["world.ambient_c"] + 3
        state["low.voltage"][:] = 12.6
        state["low.seat_c"][:] = state["climate.cabin_c"]
        state["low.crank_v"][:] = 11.8
        self.sound_health = who["low_voltage_health"].copy()
        self.topping: Mask = np.zeros(n, np.bool_)
        self._awake: Mask = np.zeros(n, np.bool_)
        self.dead: Mask = np.zeros(n, np.bool_)  # woke up and fell back asleep: too little voltage

    def step(self, weakness: Array, m: Moment) -> None:
        """weakness: severity of `low_voltage_battery_weak`."""
        s = self.state
        awake, ready = s["bus.body"], s["ready"]
        on = s["mode"] > 0
        volts = s["low.voltage"]
        lighting = np.where(s["key"] > 0, 1.2, 0.0) + 5.5 * s["body.low_beam"] + 6.0 * s["body.high_beam"] + 1.4 * s["body.daytime"]
        np.add(lighting, 1.4 * s["body.blink"] + 1.5 * (s["drive.friction_torque"] > 5) * ready, out=s["lighting_a"])
        np.multiply(0.8 + 19.0 * s["climate.blower"] ** 2.2, s["climate.blower"] > 0.01, out=s["blower_a"])
        np.multiply(6.5 + 1.5 * np.minimum(1.5, s["world.lux"] * (1 / 60_000)) + 0.8 * ready, s["key"] > 0, out=s["infotainment_a"])
        np.multiply(1.6, s["body.seat_level"], out=s["seat_a"])
        drive_pump = (5.0 + 14.0 * (s["drive_loop.pump_rpm"] * (1 / 3500)) ** 3) * (s["drive_loop.pump_rpm"] > 300)
        np.add((s["loop.pump_w"] + drive_pump) / np.maximum(volts, 9.0), s["front.fan_current_a"], out=s["pump_a"])
        load = SLEEP_A + awake * 4.0 + 13.0 * (s["key"] > 0) + 9.0 * (s["mode"] >= 2) + 4.0 * ready
        load += s["lighting_a"] + s["blower_a"] + s["infotainment_a"] + s["seat_a"] + s["pump_a"]
        load += s["body.wiper_a"] + s["steering.assist_a"] + 2 * s["body.actuator_a"]
        relax(s["low.load_a"], load, m.keep(0.2))
        beyond = np.maximum(0.0, weakness - 1)
        health = np.multiply(self.sound_health, np.maximum(0.05, 1 - 0.5 * weakness + 0.1 * beyond), out=s["low.health"])
        temperature = s["low.battery_c"]
        resistance = s["low.resistance_m_ohm"]
        np.multiply((4.2 + 5.0 * (1 - self.sound_health)) * (1 + weakness + 12 * beyond), 1 + 0.008 * (25 - temperature), out=resistance)
        self._supply(on, load, health, resistance, m)

    def _supply(self, on: Mask, load: Array, health: Array, resistance: Array, m: Moment) -> None:
        s = self.state
        charge, current, volts = s["low.charge"], s["low.current"], s["low.voltage"]
        low = (charge < RECHARGE_BELOW) & (s["battery.charge"] > 0.2)
        self.topping = (self.topping & (charge < 0.9)) | low
        converter = (on & (s["key"] != 1)) | self.topping
        s["low.converter_on"][:] = converter
        open_v = 11.9 + 1.0 * charge - 0.6 * (1 - health) * (charge < 0.5)
        acceptance = 0.055 + 0.4 * np.maximum(0.0, charge - 0.9) + resistance * 1e-3  # ohm: a full battery takes little
        given = np.minimum(220.0, np.maximum(0.0, s["low.load_a"] + current))
        output = np.multiply(given, converter, out=s["low.converter_a"])
        regulated = 14.1 - 0.004 * (s["low.battery_c"] - 25) - 0.0025 * output
        np.copyto(volts, np.where(converter, regulated, open_v - s["low.load_a"] * resistance * 1e-3))
        goal = np.where(converter, np.maximum(0.0, regulated - open_v - 0.8) / acceptance, -s["low.load_a"])
        relax(current, goal, m.keep(0.8))
        charge += current * (m.dt_s / 3600 / CAPACITY_A_H) / np.maximum(health, 0.05)
        np.minimum(np.maximum(charge, 0.0, out=charge), 1.0, out=charge)
        loss = s["low.converter_loss_w"]
        np.multiply(14 + 0.035 * volts * output + 0.0045 * output * output, converter, out=loss)
        np.add(volts * output, loss, out=s["low.converter_input_w"])
        s["auxiliary_w"][:] = s["low.converter_input_w"]
        warm = s["world.ambient_c"] + 5 * on + current * current * resistance * (1e-3 / 1.5)
        relax(s["low.battery_c"], warm, m.keep(8000.0))
        relax(s["low.seat_c"], s["climate.cabin_c"] + 4.0 * 12 * s["seat_a"] / 12, m.keep(1170.0))
        awake = on
        woken = awake & ~self._awake
        self.dead[:] = False
        if woken.any():
            dip = open_v - WAKE_A * resistance * 1e-3 - 0.25 * (1 - health)
            np.copyto(s["low.crank_v"], dip, where=woken)
            self.dead = woken & (dip < NO_WAKE_V)
        self._awake = awake

    def forget(self) -> None:
        """Of the first, consistent state: the car wakes up in the first step."""
        self._awake[:] = False
