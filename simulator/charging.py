"""AC and DC charging: what socket, station, charger and battery let through."""

from __future__ import annotations

import numpy as np

from simulator.dice import Dice
from simulator.individual import Individuals
from simulator.moment import Moment, relax
from simulator.parameters import CarParameters
from simulator.state import Array, State

__all__ = ["Charging", "taper_w"]

# Power that the battery takes at 25 °C and more, by state of charge, kW: the shape that 400 V cars of 75 to 80 kWh show at 150 to 170 kW
# stations (Fastned's published charging curves, 2019-2024): full power to about 30 %, then falling, 80 % after half an hour.
TAPER_CHARGE = np.array([0.0, 0.05, 0.30, 0.45, 0.60, 0.70, 0.80, 0.90, 0.97, 1.0])
TAPER_KW = np.array([90.0, 150.0, 150.0, 118.0, 92.0, 76.0, 54.0, 30.0, 10.0, 2.0])
COLD_C, WARM_C, LEAST = 0.0, 24.0, 0.12  # power rises from LEAST at COLD_C to all at WARM_C (Motoaki, Energies 11 (2018): cold halves it)
OLD_CURVE = (0.86, 0.95, 1.0)  # by software version
PHASE_V = 230.0
HANDSHAKE_S = 12.0  # from the plug to the first current
PORT_K_PER_SUN = 0.004  # an unplugged port's warming, K by W/m²
STATION_W = (60e3, 120e3, 150e3, 150e3)


def taper_w(charge: Array, temperature_c: Array) -> Array:
    """What a new battery of this car may be charged with, W."""
    power = np.interp(charge, TAPER_CHARGE, TAPER_KW) * 1e3
    warm = np.minimum(1.0, np.maximum(LEAST, LEAST + (1 - LEAST) * (temperature_c - COLD_C) / (WARM_C - COLD_C)))
    hot = np.minimum(1.0, np.maximum(0.0, (56 - temperature_c) / 10))
    result: Array = power * warm * hot
    return result


class Charging:
    """AC: the on-board charger with 91 to 94 %, constant and linear losses (Sevdari et al., Energy Conversion and Management 2023, measure
    88 to 95 %). DC: the station gives what the battery asks for, within its own limit. Control pilot: IEC 61851-1.
    """

    def __init__(self, car: CarParameters, dice: Dice, who: Individuals, state: State) -> None:
        self.car, self.dice, self.who, self.state = car, dice, who, state
        self.loss_w = np.zeros(who.vehicles)
        self.curve = np.array(OLD_CURVE)[who["software"].astype(np.intp) - 1]
        self.into_w = np.zeros(who.vehicles)
        self.refused = np.zeros(who.vehicles, np.bool_)  # the battery may not be charged
        state["charging.port_c"][:] = state["world.ambient_c"]

    def step(self, load_w: Array, m: Moment) -> Array:
        """load_w: what the car itself takes from the high voltage. Returns the power into the high-voltage system, W."""
        s = self.state
        alternating, direct = s["mode"] == 2, s["mode"] == 3
        plugged = alternating | direct
        if not plugged.any():
            self._idle(m)
            return self.into_w
        s["charging.session_s"][:] = (s["charging.session_s"] + m.dt_s) * plugged
        running = plugged & (s["charging.session_s"] > HANDSHAKE_S)
        charge, temperature = s["battery.charge"], s["loop.battery_c"]
        full = np.minimum(1.0, np.maximum(0.0, (s["charging.target"] + 0.004 - charge) / 0.004))
        accepts = taper_w(charge, temperature) * self.curve / np.sqrt(s["battery.resistance_growth"]) * ~self.refused
        station = np.asarray(STATION_W)[(self.dice.uniform("station", 0, 4, s["battery.fast_charges"].astype(np.int64))).astype(np.intp)]
        wallbox = self.who["wallbox_w"]
        most_ac = np.minimum(wallbox, self.car.charger_w)
        gross = most_ac - 60.0 - 0.055 * most_ac
        goal_ac = np.minimum(gross, accepts * full + load_w)
        goal_dc = np.minimum(np.minimum(station, self.car.fast_charge_w), accepts * np.maximum(full, 0.2) + load_w)
        goal = np.where(direct, goal_dc, goal_ac) * running
        relax(self.into_w, goal, np.where(running, m.keep(6.0), 0.0))
        into = self.into_w
        self.loss_w = np.where(alternating & running, 60.0 + 0.0585 * into, 0.0)
        s["charging.power_w"][:] = into
        np.divide(into, np.maximum(s["battery.voltage"], 200.0), out=s["charging.current_a"])
        s["charging.grid_w"][:] = np.where(direct, into / 0.95, into + self.loss_w)
        phases = np.where(wallbox > 8000, 3.0, np.where(wallbox > 4000, 2.0, 1.0))
        s["charging.limit_a"][:] = np.where(alternating, wallbox / (phases * PHASE_V), np.where(direct, station / 400, 0.0))
        s["charging.grid_v"][:] = np.where(alternating, PHASE_V - 0.0004 * into, 0.0)
        s["charging.kind"][:] = alternating + 2.0 * direct
        s["charging.state"][:] = np.where(running, np.where(into > 100, 2.0, 3.0), 1.0 * plugged)
        s["charging.pilot"][:] = np.where(running, 2.0, 1.0 * plugged)
        s["charging.lid"][:] = plugged
        contact = np.where(direct, 2.6e-4, 1.2e-3) * np.where(direct, s["charging.current_a"] ** 2, (into / (phases * PHASE_V)) ** 2)
        warmer = np.where(plugged, contact * np.where(direct, 1.0, 6.0), PORT_K_PER_SUN * s["world.solar"])
        relax(s["charging.port_c"], s["world.ambient_c"] + warmer, m.keep(240.0))
        s["charging.session_kwh"][:] += np.maximum(0.0, into - load_w) * plugged * (m.dt_s / 3.6e6)
        left = np.maximum(0.0, s["charging.target"] - charge) * s["battery.capacity_a_h"] * s["battery.voltage"] * 3600
        s["charging.remaining_s"][:] = np.where(running, left / np.maximum(500.0, 0.85 * (into - load_w)), 0.0)
        return into

    def _idle(self, m: Moment) -> None:
        s = self.state
        relax(s["charging.port_c"], s["world.ambient_c"] + PORT_K_PER_SUN * s["world.solar"], m.keep(240.0))
        if not s["charging.state"].any():
            return
        self.into_w[:] = 0.0
        self.loss_w = np.zeros_like(self.into_w)
        for name in ("power_w", "current_a", "grid_w", "limit_a", "grid_v", "kind", "state", "pilot", "lid", "remaining_s", "session_s"):
            s[f"charging.{name}"][:] = 0.0
