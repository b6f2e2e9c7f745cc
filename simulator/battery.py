"""The traction battery's electrics."""

from __future__ import annotations

import numpy as np

from simulator.ageing import Ageing
from simulator.cells import Cells, open_circuit_voltage
from simulator.dice import Numbers
from simulator.individual import Individuals
from simulator.moment import Moment, relax
from simulator.parameters import KELVIN, CarParameters
from simulator.state import CELLS, Array, Mask, State

__all__ = ["Battery"]

ACTIVATION_K = 1800.0  # resistance rises by three quarters from 25 °C to 0 °C
LOW_CHARGE_RISE = 0.35  # of the resistance towards empty (Plett, vol. 1, figure 2.13)
ENTROPIC_V_K = -0.00015  # dU/dT of a cell, its mean over charge (Viswanathan et al., J. Power Sources 195 (2010))
INSULATION_END = 1.35  # decades that severity 2 takes beyond the first
CUT_OFF_V = 2.9  # of the weakest group: protection
LEAST_V = 3.0  # of the weakest group: the discharge limit keeps it there
MOST_A = 800.0
STUCK_W = 4e3  # less does not move the car beside what its consumers take
LIMP_W = 25e3


class Battery:
    """Open-circuit voltage, ohmic resistance (Arrhenius) and one polarisation branch; heat as the losses of both plus the entropic part.

    Plett, "Battery Management Systems", vol. 1 (2015), sections 2.3 to 2.7; heat: Bernardi, Pawlikowski and Newman, "A general energy
    balance for battery systems", J. Electrochem. Soc. 132 (1985).
    """

    def __init__(self, car: CarParameters, who: Individuals, state: State, weak_cell: Array, mean_c: Array) -> None:
        self.car, self.who, self.state = car, who, state
        n = who.vehicles
        state["battery.charge"][:] = who["state_of_charge"]
        self.ageing = Ageing(car, who, state, mean_c)
        self.cells = Cells(who, state, weak_cell)
        self.r0 = car.pack_resistance_ohm * who["resistance_gain"]
        self.dry_kohm = who["insulation_kohm"]
        self.insulation = np.zeros(n)
        self.contactor_cycles = np.round(who["odometer_km"] / 12)
        state["battery.contactor_cycles"][:] = self.contactor_cycles
        state["battery.contactor_c"][:] = state["battery.busbar_c"][:] = state["loop.battery_c"]
        self._closed = np.zeros(n)
        self.empty: Mask = np.zeros(n, np.bool_)  # a weak group is, so that the car stands

    def settle(self) -> None:
        """So that the first state is consistent: nothing flows."""
        self.step(np.zeros(self.who.vehicles), Moment(0.0), np.zeros(self.who.vehicles))

    def step(self, power_w: Array, m: Moment, insulation: Array) -> None:
        """power_w at the terminals, positive: discharging. The current solves P = (E - I R) I, E including the polarisation.

        insulation: severity of `insulation_low`.
        """
        s, car = self.state, self.car
        temperature = s["loop.battery_c"]
        charge = s["battery.charge"]
        kelvin = temperature + KELVIN
        arrhenius = np.exp(ACTIVATION_K / kelvin - ACTIVATION_K / (25 + KELVIN))
        growth = s["battery.resistance_growth"]
        resistance = s["battery.resistance"]
        empty = np.maximum(0.0, 0.25 - charge)
        np.multiply(self.r0 * growth, arrhenius * (1 + LOW_CHARGE_RISE * 16 * empty * empty), out=resistance)
        cell_v, slope = open_circuit_voltage(charge)
        cell_v += ENTROPIC_V_K * (temperature - 25)
        open_v = np.multiply(cell_v, CELLS, out=s["battery.open_circuit_v"])
        polarisation = s["battery.polarisation_v"]
        electromotive = open_v - polarisation
        inside = np.maximum(0.0, electromotive * electromotive - 4 * resistance * power_w)
        current = s["battery.current"]
        np.divide(electromotive - np.sqrt(inside), 2 * resistance, out=current)
        ohmic = current * resistance
        np.subtract(electromotive, ohmic, out=s["battery.voltage"])
        goal = current * (car.polarisation_resistance_ohm * growth * np.sqrt(arrhenius))
        heat = s["battery.heat_w"]
        np.multiply(current, ohmic, out=heat)
        heat += np.abs(current * polarisation)
        heat -= current * kelvin * (CELLS * ENTROPIC_V_K)
        relax(polarisation, goal, m.keep(car.polarisation_time_s))
        self._count(current, m)
        self.cells.step(cell_v, slope, (ohmic + polarisation) * (1 / CELLS), heat, temperature)
        self._limits(temperature, charge)
        self._health(heat, m, insulation)

    def _count(self, current: Array, m: Moment) -> None:
        s = self.state
        moved = current * (m.dt_s / 3600)
        out, into = np.maximum(moved, 0.0), np.maximum(-moved, 0.0)
        charge = s["battery.charge"]
        charge -= moved / s["battery.capacity_a_h"]
        np.minimum(np.maximum(charge, 0.0, out=charge), 1.0, out=charge)
        kilovolts = s["battery.voltage"] * 1e-3
        for name, change in (("discharged", out), ("charged", into)):
            s[f"battery.{name}_a_h"][:] += change
            energy = change * kilovolts
            s[f"battery.{name}_kwh"][:] += energy
            s[f"battery.trip_{name}_kwh"][:] += energy

    def _limits(self, temperature: Array, charge: Array) -> None:
        """Power allowed falls with cold, heat and the ends of the charge window of the weakest cell group."""
        s = self.state
        weakest = charge + np.minimum(0.0, self.cells.lowest + 0.006)
        cold = np.minimum(1.0, np.maximum(0.1, (temperature + 20) / 30))
        hot = np.minimum(1.0, np.maximum(0.0, (58 - temperature) / 8))
        discharge = 210e3 * cold * hot * np.minimum(1.0, np.maximum(0.02, weakest / 0.12))
        strong = np.sqrt(1 / s["battery.resistance_growth"])
        discharge *= strong
        weak = np.flatnonzero(self.cells.weakness)
        self.empty[:] = False
        if len(weak):
            spared = self._sparing(weak)
            discharge[weak] = np.minimum(discharge[weak], spared)
            self.empty[weak] = spared < STUCK_W
        np.copyto(s["battery.discharge_limit_w"], np.where(s["protection"] > 0, np.minimum(discharge, LIMP_W), discharge))
        full = np.minimum(1.0, np.maximum(0.0, (1.0 - charge) / 0.12))
        np.multiply(
            130e3 * strong * np.minimum(1.0, np.maximum(0.0, (temperature + 12) * (1 / 30))), hot * full, out=s["battery.charge_limit_w"]
        )

    def _sparing(self, of: Numbers) -> Array:
        """(k,) W at which a weak cell group has LEAST_V left: the voltage-based power limit of Plett, vol. 2, section 6.2."""
        s = self.state
        cell = self.cells.place[of].astype(np.intp)
        gain = self.cells.resistance[cell, of] / CELLS  # of the group's resistance to the pack's
        pack, polarisation = s["battery.resistance"][of], s["battery.polarisation_v"][of]
        loaded = s.block[s.rows["cells.voltage"].start + cell, of]
        spare_v = loaded + s["battery.current"][of] * pack * gain - LEAST_V
        current = np.minimum(MOST_A, np.maximum(0.0, spare_v / (pack * gain)))
        result: Array = current * np.maximum(0.0, s["battery.open_circuit_v"][of] - polarisation - current * pack)
        return result

    def _health(self, heat: Array, m: Moment, insulation: Array) -> None:
        """Contactors, busbars, insulation, ageing."""
        s = self.state
        warmth = heat * (1 / 400)
        relax(s["battery.contactor_c"], s["loop.battery_c"] + 3 * self._closed + 1.5 * warmth, m.keep(90.0))
        relax(s["battery.busbar_c"], s["loop.battery_c"] + self._closed + 2.0 * warmth, m.keep(60.0))
        decades = insulation + (INSULATION_END - 1) * np.maximum(0.0, insulation - 1)
        wet = 1 - 0.15 * s["world.rain"] - 0.2 * np.maximum(0.0, s["world.humidity"] - 0.6)
        np.multiply(self.dry_kohm * wet, 10.0**-decades, out=s["battery.insulation_kohm"])
        closed = (s["mode"] > 0) & ((s["ready"] > 0) | (s["mode"] >= 2))
        self.contactor_cycles += closed & (self._closed == 0)
        self._closed = closed.astype(np.float64)
        s["battery.contactor"][:] = np.where(closed, 2.0, np.where((s["key"] == 2) & (s["trip_s"] > 3), 1.0, 0.0))
        s["battery.contactor_cycles"][:] = self.contactor_cycles
        resting = (np.abs(s["battery.current"]) < 3) & (s["mode"] > 0)
        s["battery.balancing"][:] = resting | ((s["mode"] == 2) & (s["battery.charge"] > 0.75))

    def weakest_v(self) -> Array:
        """(n,) V of the lowest cell group."""
        lowest: Array = self.state.block[self.state.rows["cells.voltage"]].min(axis=0)
        return lowest
