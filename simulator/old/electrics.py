"""The 12 V system: consumers, converter, battery."""

from __future__ import annotations

from simulator.old.thermal import approach

__all__ = ["LowVoltage"]


class LowVoltage:
    """Converter with droop and a lead battery with one resistance.

    Battery: open-circuit voltage linear in charge and a charging resistance, as in Ceraolo, "New dynamical models of lead-acid batteries",
    IEEE Trans. Power Systems 15 (2000), reduced to its zeroth order. Converter losses: constant, linear and quadratic in current.
    """

    def __init__(self, ambient_c: float, charge: float, health: float) -> None:
        self.charge, self.health = charge, health
        self.battery_c = ambient_c + 5
        self.voltage, self.current, self.load_a = 13.9, 1.0, 30.0
        self.converter_a = self.converter_input_w = self.converter_loss_w = 0.0
        self.seat_c = ambient_c + 6
        self.resistance_m_ohm = 5.0

    def step(self, load_a: float, ambient_c: float, seat_heat_w: float, cabin_c: float, dt: float) -> None:
        self.load_a = approach(self.load_a, load_a, dt, 0.2)
        self.resistance_m_ohm = (4.2 + 5.0 * (1 - self.health)) * (1 + 0.008 * (25 - self.battery_c))
        open_circuit = 11.9 + 1.0 * self.charge
        self.converter_a = min(220.0, self.load_a + self.current)
        self.voltage = 14.1 - 0.004 * (self.battery_c - 25) - 0.0025 * self.converter_a
        acceptance = 0.055 + 0.4 * max(0.0, self.charge - 0.9)  # ohm: a full battery takes little
        self.current = approach(self.current, (self.voltage - open_circuit - 0.8) / acceptance, dt, 0.8)
        self.charge = min(1.0, self.charge + self.current * dt / 3600 / 60)
        self.converter_loss_w = 14 + 0.035 * self.voltage * self.converter_a + 0.0045 * self.converter_a**2
        self.converter_input_w = self.voltage * self.converter_a + self.converter_loss_w
        self.battery_c += (self.current**2 * self.resistance_m_ohm / 1000 - 1.5 * (self.battery_c - ambient_c - 5)) / 12e3 * dt
        self.seat_c += (seat_heat_w - 3.0 * (self.seat_c - cabin_c)) / 3.5e3 * dt
