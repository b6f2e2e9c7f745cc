"""The traction battery's electrics."""

from __future__ import annotations

import math

from simulator.old.parameters import CELLS, KELVIN, CarParameters

__all__ = ["OPEN_CIRCUIT_V", "Battery", "open_circuit_voltage"]

# Of one NMC/graphite cell at 0, 10 .. 100 % charge; the shape of figure 2.3 in Plett, "Battery Management Systems", vol. 1.
OPEN_CIRCUIT_V = (3.10, 3.44, 3.53, 3.58, 3.62, 3.67, 3.74, 3.84, 3.94, 4.06, 4.18)
ACTIVATION_K = 1800.0  # resistance rises by three quarters from 25 °C to 0 °C


def open_circuit_voltage(charge: float) -> float:
    """Of one cell, V, at a state of charge 0..1."""
    place = min(9.999, max(0.0, charge * 10))
    number = int(place)
    return OPEN_CIRCUIT_V[number] + (OPEN_CIRCUIT_V[number + 1] - OPEN_CIRCUIT_V[number]) * (place - number)


class Battery:
    """Open-circuit voltage, ohmic resistance (Arrhenius) and one polarisation branch; heat as the losses of both.

    Plett, "Battery Management Systems", vol. 1 (2015), sections 2.3 to 2.7; heat: the irreversible part of Bernardi, Pawlikowski and
    Newman, "A general energy balance for battery systems", J. Electrochem. Soc. 132 (1985).
    """

    def __init__(self, car: CarParameters, state_of_charge: float, state_of_health: float) -> None:
        self.car = car
        self.charge, self.health = state_of_charge, state_of_health
        self.capacity_a_h = car.capacity_a_h * state_of_health
        self.ageing = 1 + 2.2 * (1 - state_of_health)  # resistance grows about twice as fast as capacity falls
        self.current = self.polarisation_v = self.heat_w = 0.0
        self.resistance = self._resistance(25.0)
        self.open_circuit_v = CELLS * open_circuit_voltage(self.charge)
        self.voltage = self.open_circuit_v
        self.charged_a_h = self.discharged_a_h = self.charged_kwh = self.discharged_kwh = 0.0  # of this drive
        self.discharge_limit_w = self.charge_limit_w = 0.0
        self._limits(25.0)

    def _resistance(self, temperature_c: float) -> float:
        factor = math.exp(ACTIVATION_K * (1 / (temperature_c + KELVIN) - 1 / (25 + KELVIN)))
        return self.car.pack_resistance_ohm * self.ageing * factor

    def step(self, power_w: float, temperature_c: float, dt: float) -> None:
        """power_w at the terminals, positive: discharging. The current solves P = (E - I R) I, E including the polarisation."""
        self.resistance = self._resistance(temperature_c)
        self.open_circuit_v = CELLS * open_circuit_voltage(self.charge)
        electromotive = self.open_circuit_v - self.polarisation_v
        inside = max(0.0, electromotive**2 - 4 * self.resistance * power_w)
        self.current = (electromotive - math.sqrt(inside)) / (2 * self.resistance)
        self.voltage = electromotive - self.current * self.resistance
        goal = self.current * self.car.polarisation_resistance_ohm * self.ageing
        self.polarisation_v += (goal - self.polarisation_v) * (1 - math.exp(-dt / self.car.polarisation_time_s))
        self.heat_w = self.current**2 * self.resistance + abs(self.current * self.polarisation_v)
        moved_a_h = self.current * dt / 3600
        moved_kwh = self.current * self.voltage * dt / 3.6e6
        self.charge -= moved_a_h / self.capacity_a_h
        if moved_a_h > 0:
            self.discharged_a_h += moved_a_h
            self.discharged_kwh += moved_kwh
        else:
            self.charged_a_h -= moved_a_h
            self.charged_kwh -= moved_kwh
        self._limits(temperature_c)

    def _limits(self, temperature_c: float) -> None:
        """Power allowed falls with cold, heat and the ends of the charge window."""
        cold = min(1.0, max(0.1, (temperature_c + 20) / 30))
        hot = min(1.0, max(0.0, (58 - temperature_c) / 8))
        self.discharge_limit_w = 210e3 * cold * hot * min(1.0, max(0.0, self.charge / 0.12))
        self.charge_limit_w = 130e3 * min(1.0, max(0.0, (temperature_c + 2) / 22)) * hot * min(1.0, max(0.0, (0.99 - self.charge) / 0.12))
