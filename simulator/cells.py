"""Each cell group around the pack's mean, and each temperature sensor around the battery's."""

from __future__ import annotations

import numpy as np

from simulator.dice import Numbers
from simulator.individual import Individuals
from simulator.state import CELLS, Array, State

__all__ = ["OPEN_CIRCUIT_V", "Cells", "open_circuit_voltage"]

# Of one NMC/graphite cell at 0, 5 .. 100 % charge; the shape of figure 2.3 in Plett, "Battery Management Systems", vol. 1.
OPEN_CIRCUIT_V = np.array(
    [3.10, 3.34, 3.44, 3.49, 3.53, 3.56, 3.58, 3.60, 3.62, 3.645, 3.67, 3.70, 3.74, 3.79, 3.84, 3.89, 3.94, 4.00, 4.06, 4.12, 4.18]
)
STEPS = len(OPEN_CIRCUIT_V) - 1
SLOPES = np.append(np.diff(OPEN_CIRCUIT_V), OPEN_CIRCUIT_V[-1] - OPEN_CIRCUIT_V[-2]) * STEPS
WEAK_CAPACITY = 0.08  # less, at severity 1
WEAK_RESISTANCE = 0.40  # more, at severity 1
WEAK_CHARGE = 0.012  # behind, at severity 1: the cell leaks more than balancing gives back


def open_circuit_voltage(charge: Array) -> tuple[Array, Array]:
    """Of one cell at 25 °C, V, and its slope, V for a charge of 1; charge (n,) 0..1, linear between the table's places."""
    place = np.minimum(np.maximum(charge * STEPS, 0.0), STEPS - 1e-9)
    number = place.astype(np.intp)
    slope = SLOPES[number]
    return OPEN_CIRCUIT_V[number] + slope * ((place - number) / STEPS), slope


class Cells:
    """Voltages as linear deviations from the mean cell: exact in resistance (R0 and RC of a cell scale alike), first order in charge.

    A group of relative capacity c that was balanced when full has the charge 1 - (1 - z) / c at the pack's z (Plett, "Battery Management
    Systems", vol. 2, chapter 5). A weak cell also has a leakage that leaves it behind, and more resistance.
    """

    def __init__(self, who: Individuals, state: State, place: Array) -> None:
        """place (n,): the number 0..95 of the cell group that a fault weakens."""
        self.who, self.state, self.place = who, state, place
        n = who.vehicles
        self.offset = np.ascontiguousarray(who.cell_charge.T)  # (96, n) charge when the pack is full
        self.swing = np.ascontiguousarray(1 / who.cell_capacity.T - 1)  # (96, n) further down than the mean, for each 1 of discharge
        self.swing -= self.swing.mean(axis=0)
        self.resistance = np.ascontiguousarray(who.cell_resistance.T)
        self.sensor = np.ascontiguousarray(who.sensor_place_c.T)  # (24, n)
        self._healthy = self.offset.copy(), self.swing.copy(), self.resistance.copy()
        self._weak: Numbers = np.arange(0)  # vehicles with a weak group
        self.weakness = np.zeros(n)  # severity that the arrays have
        self.lowest = self.offset.min(axis=0) - self.swing.max(axis=0) * 0.5  # (n,) about the weakest group's charge, from the mean
        self._work = np.empty((CELLS, n))
        self._write()

    def _write(self) -> None:
        self.state.block[self.state.rows["cells.resistance"]] = self.resistance
        self.state.block[self.state.rows["cells.charge"]] = self.offset

    def weaken(self, severity: Array) -> None:
        """Take over the fault's severity (n,) where it has changed by more than a thousandth."""
        changed = np.flatnonzero(np.abs(severity - self.weakness) > 1e-3)
        if len(changed):
            self._weaken(changed, severity[changed])

    def _weaken(self, of: Numbers, severity: Array) -> None:
        cell = self.place[of].astype(np.intp)
        offset, swing, resistance = self._healthy
        beyond = np.maximum(0.0, severity - 1)
        self.offset[cell, of] = offset[cell, of] - WEAK_CHARGE * severity - 0.10 * beyond
        self.swing[cell, of] = swing[cell, of] + 1 / (1 - WEAK_CAPACITY * severity - 0.05 * beyond) - 1
        self.resistance[cell, of] = resistance[cell, of] * (1 + WEAK_RESISTANCE * severity + 0.6 * beyond)
        self.weakness[of] = severity
        self._weak = np.flatnonzero(self.weakness)
        self.lowest[of] = self.offset[:, of].min(axis=0) - self.swing[:, of].max(axis=0) * 0.5
        self._write()

    def step(self, cell_v: Array, slope: Array, drop_v: Array, heat_w: Array, battery_c: Array) -> None:
        """cell_v: open-circuit voltage of the mean cell; slope: of it; drop_v: of the mean cell, ohmic and polarisation."""
        state = self.state
        rows = state.rows
        voltage = state.block[rows["cells.voltage"]]
        charge = state.block[rows["cells.charge"]]
        np.multiply(self.swing, state["battery.charge"] - 1, out=charge)
        charge += self.offset
        np.multiply(self.resistance, -drop_v, out=voltage)
        np.multiply(charge, slope, out=self._work)
        voltage += self._work
        voltage += cell_v
        if len(self._weak):
            self._bend(self._weak, slope[self._weak])
        temperature = state.block[rows["cells.temperature_c"]]
        np.multiply(self.sensor, 1.2 + heat_w * 1e-3, out=temperature)
        temperature += battery_c

    def _bend(self, of: Numbers, slope: Array) -> None:
        """A weak group is far from the mean: what sets it apart from its healthy self follows the curve of open-circuit voltage, not its
        slope at the pack's charge; below empty, its steepest part."""
        state, cell = self.state, self.place[of].astype(np.intp)
        offset, swing, _ = self._healthy
        pack = state["battery.charge"][of]
        sound = offset[cell, of] + swing[cell, of] * (pack - 1)
        weak = state.block[state.rows["cells.charge"]][cell, of]
        empty = np.minimum(0.0, pack + weak)
        apart = open_circuit_voltage(pack + weak)[0] + SLOPES[0] * empty - open_circuit_voltage(pack + sound)[0]
        state.block[state.rows["cells.voltage"].start + cell, of] += apart - (weak - sound) * slope
