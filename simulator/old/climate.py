"""Cabin, refrigerant circuit and air filter."""

from __future__ import annotations

import math

from simulator.old.parameters import KELVIN
from simulator.old.thermal import approach

__all__ = ["Climate", "saturation_pressure_bar"]


def saturation_pressure_bar(temperature_c: float) -> float:
    """Of R1234yf: Clausius-Clapeyron through 3.16 bar at 0 °C and 13.0 bar at 50 °C (NIST REFPROP); 0.5 % off between."""
    return math.exp(10.289 - 2496.0 / (temperature_c + KELVIN))


class Climate:
    """One-node cabin with a proportional controller, heat pump-less: a compressor cools, a resistance heater heats.

    Heat balance of cabin air: Fayazbakhsh and Bahrami, "Comprehensive modeling of vehicle air conditioning loads using heat balance
    method", SAE 2013-01-1507. CO2: mass balance with 0.005 L/s for each person (ASHRAE Standard 62.1).
    """

    def __init__(self, ambient_c: float, humidity: float, setpoint_c: float, solar_w_m2: float, filter_load: float) -> None:
        self.setpoint_c, self.filter_load = setpoint_c, filter_load
        self.cabin_c = setpoint_c + 0.5 * (ambient_c - setpoint_c) + 0.006 * solar_w_m2  # the car stood for a while
        self.humidity = humidity
        self.co2_ppm = 600.0
        self.power_w = self.heater_w = self.compressor_w = self.compressor_rpm = 0.0
        self.blower, self.recirculation, self.blend = 0.3, 0.2, 0.3  # 0..1
        self.vent_c = self.evaporator_c = ambient_c
        self.high_bar = self.low_bar = saturation_pressure_bar(ambient_c)
        self.air_m3_h = 100.0
        self.particles = 20.0
        self.mode = 1

    def step(
        self, ambient_c: float, solar: float, humidity: float, people: int, particles: float, speed: float, chiller_w: float, dt: float
    ) -> None:
        """chiller_w: heat that the battery's chiller asks the refrigerant to take."""
        loss = (38 + 0.35 * speed) * (ambient_c - self.cabin_c)
        gains = loss + 0.75 * solar + 90 * people
        wanted = min(5000.0, max(-5500.0, 320 * (self.setpoint_c - self.cabin_c) - gains))  # positive: heat
        self.mode = 3 if wanted > 250 else 2 if wanted < -250 else 1
        effort = min(1.0, abs(wanted) / 4000)
        self.blower = approach(self.blower, 0.22 + 0.65 * effort, dt, 3.0)
        self.air_m3_h = 380 * self.blower * (1 - 0.25 * self.filter_load) + 0.6 * speed
        self.recirculation = approach(self.recirculation, 0.75 if self.mode == 2 and effort > 0.4 else 0.15, dt, 4.0)
        self.blend = approach(self.blend, effort if self.mode == 3 else 0.05, dt, 3.0)
        self.heater_w = approach(self.heater_w, max(0.0, wanted) if self.mode == 3 else 0.0, dt, 5.0)
        cooling = (max(0.0, -wanted) if self.mode == 2 else 0.0) + chiller_w
        goal = 0.0 if cooling < 50 else 900 + 1.25 * cooling
        self.compressor_rpm = approach(self.compressor_rpm, min(7800.0, goal), dt, 4.0)
        delivered = max(0.0, (self.compressor_rpm - 900) / 1.25) if self.compressor_rpm > 900 else 0.0
        cabin_cooling = max(0.0, delivered - chiller_w) if self.mode == 2 else 0.0
        self.compressor_w = (60 + delivered / 2.6) * min(1.0, self.compressor_rpm / 900)
        self.power_w = self.heater_w / 0.97 + self.compressor_w
        running = min(1.0, self.compressor_rpm / 3000)
        self.high_bar = approach(self.high_bar, saturation_pressure_bar(ambient_c + running * (10 + delivered / 250)), dt, 10.0)
        self.low_bar = approach(self.low_bar, saturation_pressure_bar(ambient_c + running * (3 - ambient_c)), dt, 10.0)
        self.evaporator_c = approach(self.evaporator_c, ambient_c + running * (5 - ambient_c), dt, 12.0)
        heat = self.heater_w - cabin_cooling
        self.cabin_c += (gains + heat) / 75e3 * dt
        flow_w_k = max(20.0, self.air_m3_h / 3600 * 1.2 * 1006)
        mixed = self.recirculation * self.cabin_c + (1 - self.recirculation) * ambient_c
        self.vent_c = approach(self.vent_c, min(75.0, max(3.0, mixed + heat / flow_w_k)), dt, 6.0)
        self._air(humidity, ambient_c, people, particles, cabin_cooling, dt)

    def _air(self, humidity: float, ambient_c: float, people: int, particles: float, cooling: float, dt: float) -> None:
        fresh = self.air_m3_h * (1 - self.recirculation) / 3600 / 3.2  # air changes per second of 3.2 m³
        # The same water in air of another temperature: saturation doubles every 11 K (Magnus).
        inside = min(0.98, (humidity + 0.03 * people) * 2 ** ((ambient_c - self.cabin_c) / 11) * (0.7 if cooling > 200 else 1.0))
        self.humidity = approach(self.humidity, inside, dt, 60.0)
        self.co2_ppm += (people * 5e-6 / 3.2 * 1e6 - fresh * (self.co2_ppm - 420)) * dt
        passing = 1 - self.filter_efficiency
        self.particles += (fresh * (particles * passing - self.particles) - 0.004 * self.particles) * dt

    @property
    def filter_efficiency(self) -> float:
        return 0.96 - 0.22 * self.filter_load

    @property
    def filter_drop_pa(self) -> float:
        """Laminar through the fibres, so proportional to the flow (Darcy)."""
        return 0.28 * self.air_m3_h * (1 + 1.6 * self.filter_load)
