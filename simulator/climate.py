"""Cabin, refrigerant circuit and air filter."""

from __future__ import annotations

import numpy as np

from simulator.individual import Individuals
from simulator.moment import Moment, relax
from simulator.parameters import KELVIN
from simulator.state import Array, State

__all__ = ["Climate", "saturation_pressure_bar"]

CABIN_J_K = 75e3  # air, seats and panels that follow it
CABIN_M3 = 3.2
LOSS_W_K, LOSS_W_K_SPEED = 38.0, 0.35
SOLAR_M2 = 0.75  # glazing times transmission
PERSON_W = 90.0
FILTER_DAYS = 365.0  # until it is full, of usual air
FILTER_CHANGE = 0.95  # the workshop changes it at this load


def saturation_pressure_bar(temperature_c: Array) -> Array:
    """Of R1234yf: Clausius-Clapeyron through 3.16 bar at 0 °C and 13.0 bar at 50 °C (NIST REFPROP); 0.5 % off between."""
    result: Array = np.exp(10.289 - 2496.0 / (temperature_c + KELVIN))
    return result


class Climate:
    """One-node cabin with a proportional controller, heat pump-less: a compressor cools, a resistance heater heats.

    Heat balance of cabin air: Fayazbakhsh and Bahrami, "Comprehensive modeling of vehicle air conditioning loads using heat balance
    method", SAE 2013-01-1507. CO2: mass balance with 0.005 L/s for each person (ASHRAE Standard 62.1). Filter: pressure drop proportional
    to the flow (Darcy), load to the dust that went through (Thomas et al., J. Aerosol Science 32 (2001)).
    """

    def __init__(self, who: Individuals, state: State) -> None:
        self.who, self.state = who, state
        ambient, setpoint = state["world.ambient_c"], who["setpoint_c"]
        state["climate.setpoint_c"][:] = setpoint
        state["climate.cabin_c"][:] = setpoint + 0.5 * (ambient - setpoint) + 0.006 * state["world.solar"]  # the car stood for a while
        state["climate.humidity"][:] = state["world.humidity"]
        state["climate.co2_ppm"][:] = 600.0
        state["climate.vent_c"][:] = state["climate.evaporator_c"][:] = ambient
        state["climate.high_bar"][:] = state["climate.low_bar"][:] = saturation_pressure_bar(ambient)
        state["climate.particles"][:] = 20.0
        state["climate.recirculation"][:] = 0.2
        self.load = who["filter_load"].copy()  # by dust
        state["climate.filter_days"][:] = self.load * FILTER_DAYS
        self.cooling_w = np.zeros(who.vehicles)
        self._filter(np.zeros(who.vehicles))

    def step(self, on: Array, m: Moment, clogging: Array) -> None:
        """on (n,): 0 or 1, the car is used and the driver wants it. clogging: severity of `cabin_filter_clogged`."""
        s = self.state
        ambient, cabin, speed = s["world.ambient_c"], s["climate.cabin_c"], s["drive.speed"]
        people = s["body.occupants"] * (s["key"] > 0)
        conductance = LOSS_W_K + LOSS_W_K_SPEED * speed + 45 * s["body.window"] * 0.01 * speed
        gains = SOLAR_M2 * s["world.solar"] + PERSON_W * people
        chiller = s["loop.chiller_w"]
        setpoint = s["climate.setpoint_c"]
        wanted = 320 * (setpoint - cabin) - conductance * (ambient - cabin) - gains
        wanted = np.minimum(5000.0, np.maximum(-5500.0, wanted)) * on  # positive: heat
        heating, cooling = wanted > 250, wanted < -250
        s["climate.mode"][:] = np.where(heating, 3.0, np.where(cooling, 2.0, on))
        effort = np.minimum(1.0, np.abs(wanted) * (1 / 4000))
        relax(s["climate.blower"], (0.22 + 0.65 * effort) * on, m.keep(3.0))
        load = s["climate.filter_load"]
        beyond = np.maximum(0.0, clogging - 1)
        np.add(380 * s["climate.blower"] * (1 - 0.25 * load) / (1 + 0.12 * clogging + 0.7 * beyond), 0.6 * speed, out=s["climate.air_m3_h"])
        relax(s["climate.recirculation"], np.where(cooling & (effort > 0.4), 0.75, 0.15), m.keep(4.0))
        relax(s["climate.blend"], np.where(heating, effort, 0.05), m.keep(3.0))
        heater = s["climate.heater_w"]
        relax(heater, np.where(heating, wanted, 0.0), m.keep(5.0))
        asked = np.where(cooling, -wanted, 0.0) + chiller
        rpm = s["climate.compressor_rpm"]
        relax(rpm, np.where(asked < 50, 0.0, np.minimum(7800.0, 900 + 1.25 * asked)), m.keep(4.0))
        delivered = np.maximum(0.0, (rpm - 900) * (1 / 1.25))
        cabin_cooling = np.maximum(0.0, delivered - chiller) * cooling
        self.cooling_w = cabin_cooling
        # Coefficient of performance 2.6 at 25 °C, less in heat: the lift between evaporator and condenser grows.
        performance = np.maximum(1.4, 2.6 - 0.035 * (ambient - 25))
        np.multiply(60 + delivered / performance, np.minimum(1.0, rpm * (1 / 900)), out=s["climate.compressor_w"])
        np.add(heater * (1 / 0.97), s["climate.compressor_w"], out=s["climate_w"])
        self._refrigerant(ambient, rpm, delivered, m)
        steady = ambient + (gains + heater - cabin_cooling) / conductance
        relax(cabin, steady, np.exp(conductance * (-m.dt_s / CABIN_J_K)))
        flow_w_k = np.maximum(20.0, s["climate.air_m3_h"] * (1.2 * 1006 / 3600))
        mixed = ambient + s["climate.recirculation"] * (cabin - ambient)
        vent = np.minimum(75.0, np.maximum(3.0, mixed + (heater - cabin_cooling) / flow_w_k))
        relax(s["climate.vent_c"], np.where(on > 0, vent, cabin), m.keep(6.0))
        self._air(people, m)
        self.load += s["climate.air_m3_h"] * s["world.particles"] * (m.dt_s * (0.8 / 3600 / 170e3 / 20))
        np.copyto(self.load, 0.02, where=(self.load > FILTER_CHANGE) & (s["key"] == 0))
        s["climate.filter_days"][:] = np.where(self.load <= 0.02, 0.0, s["climate.filter_days"] + m.dt_s / 86_400)
        self._filter(clogging)

    def _refrigerant(self, ambient: Array, rpm: Array, delivered: Array, m: Moment) -> None:
        s = self.state
        running = np.minimum(1.0, rpm * (1 / 3000))
        slow = m.keep(10.0)
        relax(s["climate.high_bar"], saturation_pressure_bar(ambient + running * (10 + delivered * (1 / 250))), slow)
        relax(s["climate.low_bar"], saturation_pressure_bar(ambient + running * (3 - ambient)), slow)
        relax(s["climate.evaporator_c"], ambient + running * (5 - ambient), m.keep(12.0))

    def _air(self, people: Array, m: Moment) -> None:
        s = self.state
        changes = s["climate.air_m3_h"] * (1 - s["climate.recirculation"]) * (1 / 3600 / CABIN_M3) + 3e-5  # of the cabin's air, a second
        # The same water in air of another temperature: saturation doubles every 11 K (Magnus).
        dry = np.where(self.cooling_w > 200, 0.7, 1.0)
        inside = (s["world.humidity"] + 0.03 * people) * np.exp2((s["world.ambient_c"] - s["climate.cabin_c"]) * (1 / 11)) * dry
        relax(s["climate.humidity"], np.minimum(0.98, inside), m.keep(60.0))
        renewed = np.exp(changes * -m.dt_s)
        relax(s["climate.co2_ppm"], 420 + people * (5.0 / CABIN_M3) / changes, renewed)
        settling = changes + 0.004
        outside = s["world.particles"] * (1 - s["climate.filter_efficiency"])
        relax(s["climate.particles"], changes * outside / settling, np.exp(settling * -m.dt_s))

    def _filter(self, clogging: Array) -> None:
        """clogging 1: efficiency down by a fifth, pressure drop doubled."""
        s = self.state
        load = np.minimum(1.0, self.load + 0.35 * clogging, out=s["climate.filter_load"])
        sound = 0.96 - 0.22 * self.load
        np.multiply(sound, 1 - 0.20 * clogging - 0.3 * np.maximum(0.0, clogging - 1), out=s["climate.filter_efficiency"])
        np.multiply(0.28 * s["climate.air_m3_h"], (1 + 1.6 * self.load) * (1 + 1.12 * clogging), out=s["climate.filter_drop_pa"])
        del load
