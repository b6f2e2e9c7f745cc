"""How the traction battery ages: capacity lost and resistance gained, by time and by use."""

from __future__ import annotations

import numpy as np

from simulator.dice import Numbers
from simulator.individual import Individuals
from simulator.parameters import KELVIN, CarParameters
from simulator.state import CELLS, Array, State

__all__ = ["Ageing", "calendar_rate", "cycle_rate"]

DAY_S = 86_400.0
PAPER_CELL_A_H = 2.15  # Sanyo UR18650E: throughput is counted for one such cell
FADE = 0.06  # capacity lost beyond the law at severity 1 of `battery_ageing`
RESISTANCE_RISE = 0.30  # at severity 1 of `battery_resistance_high`
USUAL_DEPTH = 0.35
OFTEN_S = 60.0


def calendar_rate(cell_v: Array, temperature_c: Array) -> tuple[Array, Array]:
    """(capacity, resistance) losses 1 - C and R - 1 after one day, of which time makes day^0.75."""
    kelvin = temperature_c + KELVIN
    capacity = np.maximum(0.0, 7.543 * cell_v - 23.75) * 1e6 * np.exp(-6976 / kelvin)
    resistance = np.maximum(0.0, 5.270 * cell_v - 16.32) * 1e5 * np.exp(-5986 / kelvin)
    return capacity, resistance


def cycle_rate(mean_v: Array, depth: Array) -> tuple[Array, Array]:
    """(capacity, resistance): capacity loss is this times the root of the throughput in A h of the paper's cell, resistance is linear."""
    capacity = 7.348e-3 * (mean_v - 3.667) ** 2 + 7.600e-4 + 4.081e-3 * depth
    resistance = np.maximum(0.0, 2.153e-4 * (mean_v - 3.725) ** 2 - 1.521e-5 + 2.798e-4 * depth)
    return capacity, resistance


class Ageing:
    """The holistic law of Schmalstieg, Käbitz, Ecker and Sauer, "A holistic aging model for Li(NiMnCo)O2 based 18650 lithium-ion
    batteries", J. Power Sources 257 (2014), equations 18 to 24, in differential form: with L = a t^0.75 the quantity L^(4/3) grows at the
    rate a^(4/3), with L = b Q^0.5 the quantity L² at the rate b², whatever a and b have been before. Cold charging beyond the law (lithium
    plating) is left out. Fleets lose 1.8 to 2.3 % a year (Geotab 2024 and 2020, of 10,000 and 6,000 cars); cars of this class lie there.
    """

    # Large automotive cells last longer than the 18650 of 2014: gains that put the mean car of this model at 2 % a year over eight years.
    CALENDAR, CYCLE, CALENDAR_RESISTANCE, CYCLE_RESISTANCE = 0.85, 0.55, 0.7, 0.45

    def __init__(self, car: CarParameters, who: Individuals, state: State, mean_c: Array) -> None:
        """mean_c (n,): temperature that the car has lived at so far."""
        self.car, self.who, self.state = car, who, state
        n = who.vehicles
        self.depth = np.full(n, USUAL_DEPTH)
        self.mean_v = np.full(n, 3.75)
        throughput = (
            who["odometer_km"] * 0.18 / 0.355
        )  # A h out and in are about equal; 18 kWh/100 km at 355 V, a fifth more with what is recuperated
        state["battery.discharged_a_h"][:], state["battery.charged_a_h"][:] = 1.1 * throughput, 1.13 * throughput
        state["battery.discharged_kwh"][:] = who["odometer_km"] * 0.18 * 1.1
        state["battery.charged_kwh"][:] = who["odometer_km"] * 0.18 * 1.17
        capacity, resistance = calendar_rate(np.full(n, 3.80), mean_c)
        days = who.age_days**0.75
        gain = who["ageing_gain"]
        self.calendar_power = (capacity * self.CALENDAR * gain * days) ** (4 / 3)
        self.calendar_resistance_power = (resistance * self.CALENDAR_RESISTANCE * gain * days) ** (4 / 3)
        cycle, cycle_resistance = cycle_rate(self.mean_v, self.depth)
        used = 2.2 * throughput * (PAPER_CELL_A_H / car.capacity_a_h)
        self.cycle_square = (cycle * self.CYCLE * gain) ** 2 * used
        self.cycle_resistance = cycle_resistance * self.CYCLE_RESISTANCE * gain * used
        self.seen_s = state["time_s"].copy()
        self.seen_a_h = self._throughput()
        self.charge_high = state["battery.charge"].copy()
        state["battery.fast_charges"][:] = np.round(who["odometer_km"] / 900)
        state["battery.charges"][:] = np.round(who["odometer_km"] / 130)
        self.fade = np.zeros(n)
        self.rise = np.zeros(n)
        self._publish(np.arange(n))

    def _throughput(self) -> Array:
        result: Array = self.state["battery.charged_a_h"] + self.state["battery.discharged_a_h"]
        return result

    def step(self, fade: Array, rise: Array) -> None:
        """Once a minute of each car's time. fade, rise: severities of `battery_ageing` and `battery_resistance_high`."""
        now = self.state["time_s"]
        due = np.flatnonzero((now - self.seen_s >= OFTEN_S) | (np.abs(fade - self.fade) > 1e-3) | (np.abs(rise - self.rise) > 1e-3))
        if len(due):
            self.fade[due], self.rise[due] = fade[due], rise[due]
            self._age(due)

    def _age(self, of: Numbers) -> None:
        s = self.state
        days = (s["time_s"][of] - self.seen_s[of]) / DAY_S
        throughput = self._throughput()[of]
        moved = (throughput - self.seen_a_h[of]) * (PAPER_CELL_A_H / self.car.capacity_a_h)
        gain = self.who["ageing_gain"][of]
        cell_v = s["battery.open_circuit_v"][of] / CELLS
        capacity, resistance = calendar_rate(cell_v, s["loop.battery_c"][of])
        self.calendar_power[of] += (capacity * self.CALENDAR * gain) ** (4 / 3) * days
        self.calendar_resistance_power[of] += (resistance * self.CALENDAR_RESISTANCE * gain) ** (4 / 3) * days
        charge = s["battery.charge"][of]
        charging = s["mode"][of] >= 2
        swing = np.maximum(0.0, self.charge_high[of] - charge)
        fresh = charging & (swing > 0.02)  # a charge begins: the depth of the discharge before it is known
        self.depth[of] = np.where(fresh, self.depth[of] + 0.2 * (swing - self.depth[of]), self.depth[of])
        self.charge_high[of] = np.where(charging, charge, np.maximum(self.charge_high[of], charge))
        self.mean_v[of] += (cell_v - self.mean_v[of]) * np.minimum(1.0, days / 5)
        cycle, cycle_resistance = cycle_rate(self.mean_v[of], self.depth[of])
        self.cycle_square[of] += (cycle * self.CYCLE * gain) ** 2 * moved
        self.cycle_resistance[of] += cycle_resistance * self.CYCLE_RESISTANCE * gain * moved
        self.seen_s[of], self.seen_a_h[of] = s["time_s"][of], throughput
        self._publish(of)

    def _publish(self, of: Numbers) -> None:
        s = self.state
        calendar, cycle = self.calendar_power[of] ** 0.75, np.sqrt(self.cycle_square[of])
        fade = FADE * self.fade[of] + 0.10 * np.maximum(0.0, self.fade[of] - 1)
        s["battery.calendar_loss"][of], s["battery.cycle_loss"][of] = calendar, cycle
        health = np.maximum(0.3, self.who["capacity_gain"][of] * (1 - calendar - cycle - fade))
        s["battery.health"][of] = health
        s["battery.capacity_a_h"][of] = self.car.capacity_a_h * health
        growth = 1 + self.calendar_resistance_power[of] ** 0.75 + self.cycle_resistance[of]
        rise = RESISTANCE_RISE * self.rise[of] + 0.7 * np.maximum(0.0, self.rise[of] - 1)
        s["battery.resistance_growth"][of] = growth * (1 + rise) * (1 + 1.5 * fade)
        s["battery.cycles"][of] = 0.5 * self._throughput()[of] / self.car.capacity_a_h
