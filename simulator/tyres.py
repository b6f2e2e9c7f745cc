"""Tyres: temperature, pressure, a slow puncture, tread."""

from __future__ import annotations

import numpy as np

from simulator.individual import Individuals
from simulator.moment import Moment
from simulator.parameters import KELVIN
from simulator.state import WHEELS, Array, Mask, State

__all__ = ["PLACARD_KPA", "Tyres", "pressure_kpa"]

ATMOSPHERE_KPA = 101.3
PLACARD_KPA = 250.0  # with up to three people; 10 more when loaded
HEAT_J_K = 11e3
ROLLING = np.array([0.20, 0.20, 0.21, 0.21])[:, None]  # of the rolling losses, heating this tyre's air in the end
SLIP = np.array([1.0, 1.0, 0.7, 0.7])[:, None]
PLACE = np.array([1.0, 1.02, 0.99, 0.97])[:, None]  # sun, brakes, the battery's warm side
LEAK_PER_MONTH = 0.012  # of the air through sound rubber (ISO 3858; 1 to 3 % a month)
FILL_BELOW, BLEED_ABOVE = 0.95, 1.08  # of the placard, cold, absolute: the driver sets it right at the next service station
SINCE_FILLED_C = 5.0  # by how much the air has changed since the tyres were last filled, standard deviation
PUNCTURE = 0.10  # of the air gone at severity 1
TREAD_MM_KM = 6.0 / 45_000


def pressure_kpa(air: Array, temperature_c: Array) -> Array:
    """Above the atmosphere; air: mass over that at the placard's pressure and 20 °C. Gay-Lussac at constant volume."""
    return air * ((PLACARD_KPA + ATMOSPHERE_KPA) / (20 + KELVIN)) * (temperature_c + KELVIN) - ATMOSPHERE_KPA


class Tyres:
    """Heated by rolling, cooled by wind; the pressure follows the absolute temperature at constant volume.

    Heat: rolling resistance is almost all hysteresis (Gent and Walter, "The Pneumatic Tire", NHTSA 2006); a soft tyre flexes more.
    """

    def __init__(self, who: Individuals, state: State, punctured: Array) -> None:
        """punctured (n,): the wheel, 0..3, that the fault strikes."""
        self.who, self.state = who, state
        rows = state.rows
        self.temperature = state.block[rows["tyres.temperature_c"]]
        self.pressure = state.block[rows["tyres.pressure_kpa"]]
        self.air = state.block[rows["tyres.air"]]
        self.tread = state.block[rows["tyres.tread_mm"]]
        filled_c = state["world.ambient_c"] + SINCE_FILLED_C * who["filled_warmer"]
        self.sound = who.cold_air.T * ((20 + KELVIN) / (filled_c + KELVIN))
        self.tread[:] = who.tread_mm.T
        self.temperature[:] = state["world.ambient_c"] + 2
        self.wheel = (punctured == np.arange(WHEELS)[:, None]).astype(np.float64)
        state["tyres.placard_kpa"][:] = PLACARD_KPA
        self._fill(np.zeros(who.vehicles))

    def _fill(self, puncture: Array) -> None:
        lost = np.minimum(0.98, PUNCTURE * puncture + 0.6 * np.maximum(0.0, puncture - 1))
        np.multiply(self.sound, 1 - self.wheel * lost, out=self.air)
        np.copyto(self.pressure, np.maximum(0.0, pressure_kpa(self.air, self.temperature)))

    def _care(self, asleep: Mask) -> None:
        """Who finds the cold pressure too low or too high sets it right; a punctured tyre loses it again."""
        kelvin = self.state["world.ambient_c"] + KELVIN
        cold = self.sound * (20 + KELVIN) ** -1 * kelvin  # about the share of the placard's absolute pressure
        wrong = ((cold < FILL_BELOW) | (cold > BLEED_ABOVE)) & asleep
        if wrong.any():
            np.copyto(self.sound, np.broadcast_to((20 + KELVIN) / kelvin, self.sound.shape), where=wrong)

    def step(self, puncture: Array, moved_m: Array, m: Moment) -> None:
        """puncture: severity of `tyre_pressure_low`."""
        s = self.state
        speed, lateral = s["drive.speed"], s["steering.lateral_m_s2"]
        rolling = s["drive.rolling_n"] * speed
        soft = np.maximum(0.25, self.air)
        heat = ROLLING * rolling / soft + SLIP * (25 * lateral * lateral)
        cooling = 9 + 0.9 * speed
        steady = s["world.ambient_c"] + (heat / cooling + 0.006 * s["world.solar"]) * PLACE
        keep = np.exp(cooling * (-m.dt_s / HEAT_J_K))
        self.temperature -= steady
        self.temperature *= keep
        self.temperature += steady
        self.sound *= 1 - LEAK_PER_MONTH / (30 * 86_400) * m.dt_s
        asleep = s["bus.body"] == 0
        if asleep.any():
            self._care(asleep)
        self.tread -= moved_m * (TREAD_MM_KM / 1000)
        np.maximum(self.tread, 1.6, out=self.tread)
        s["tyres.placard_kpa"][:] = PLACARD_KPA + 10.0 * (s["body.occupants"] > 3)
        self._fill(puncture)
