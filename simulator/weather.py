"""The air, the sun and the rain around each car: seasons by date and place, days and nights, passing weather."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from simulator.cast import Cast
from simulator.dice import Dice, Numbers
from simulator.errors import ScenarioError
from simulator.individual import Individuals
from simulator.moment import Moment, relax
from simulator.parameters import KELVIN
from simulator.state import Array, Mask, State

__all__ = ["PLACES", "Place", "Weather"]

DAY_S, YEAR_D = 86_400.0, 365.25
EPOCH_DAY_OF_YEAR = 0.0  # 1970-01-01
GAS_CONSTANT = 287.05  # of dry air, J/(kg K)
COLD_JANUARY_C = 3.0
WINTER_FROM_D, WINTER_TO_D = 304, 90  # days of the year
OFTEN_S = 60.0  # how often the passing weather is looked at


@dataclass(frozen=True, slots=True)
class Place:
    """Climate normals, rounded: WMO 1991-2020 for temperature and rain; particles: annual means of WHO's air quality database 2022."""

    latitude: float
    longitude: float
    zone_h: float  # of local time
    altitude_m: float
    mean_c: float
    season_c: float  # half of the difference of July and January
    day_c: float  # half of the difference of afternoon and night under a clear sky
    rain_share: float  # of the time
    cloud: float  # mean cover
    humidity: float
    particles: float  # PM2.5, ug/m3


PLACES: Mapping[str, Place] = {
    "shanghai": Place(31.23, 121.47, 8, 10, 17.1, 12.2, 4.0, 0.11, 0.62, 0.73, 32),
    "beijing": Place(39.90, 116.40, 8, 45, 12.9, 15.2, 5.5, 0.05, 0.45, 0.55, 38),
    "shenzhen": Place(22.54, 114.06, 8, 20, 23.3, 7.0, 3.5, 0.12, 0.62, 0.75, 20),
    "berlin": Place(52.52, 13.40, 1, 40, 10.1, 9.6, 4.5, 0.10, 0.66, 0.73, 14),
    "munich": Place(48.14, 11.58, 1, 520, 9.7, 9.8, 4.8, 0.13, 0.62, 0.74, 11),
    "oslo": Place(59.91, 10.75, 1, 60, 6.9, 10.9, 4.0, 0.11, 0.64, 0.74, 8),
}


class Weather:
    """Temperature: mean, season, day and a passing anomaly of some days. Slow quantities relax to it with small unrest.

    Height of the sun: Duffie and Beckman, "Solar Engineering of Thermal Processes", chapter 1. Irradiance: Kasten and Czeplak, "Solar and
    terrestrial radiation dependent on the amount and type of cloud", Solar Energy 24 (1980). Unrest: Ornstein and Uhlenbeck, Physical
    Review 36 (1930), by its exact solution, so that any step is right. Vehicles of one place and seed share the passing weather.
    """

    def __init__(self, cast: Cast, dice: Dice, who: Individuals, state: State) -> None:
        if cast.place != "any" and cast.place not in PLACES:
            raise ScenarioError(f"place: expected one of {', '.join(PLACES)} or any, found {cast.place!r}")
        names = list(PLACES)
        n = state.vehicles
        if cast.place == "any":
            index = dice.choice("place", range(len(names))).astype(np.intp)
        else:
            index = np.full(n, names.index(cast.place), np.intp)
        rows = [PLACES[name] for name in names]
        self.place = {part: np.array([getattr(row, part) for row in rows], np.float64)[index] for part in Place.__slots__}
        self.dice = Dice(cast.seed, [int(place) + 1_000_000_007 for place in index])  # the place's, not the vehicle's
        self.zone_s = self.place["zone_h"] * 3600
        self.start_s = np.full(n, cast.start_ns / 1e9)
        self.sky_s = self.start_s.copy()  # of the weather: another day of the year where the season is drawn
        if cast.season == "any":
            whole_day = np.floor(dice.uniform("season", 0, YEAR_D)) * DAY_S
            hour = dice.uniform("hour", 5.5, 22.5) * 3600
            self.sky_s = np.floor(self.start_s / DAY_S) * DAY_S + whole_day + hour - self.zone_s
        self.fixed_c, self.fixed_rain = who["ambient_c"], who["rain"]
        self.state = state
        self.goal = {name: np.zeros(n) for name in ("ambient", "solar", "rain", "humidity", "particles", "wind")}
        self.seen_s = np.full(n, -np.inf)
        for name in ("latitude", "longitude", "altitude_m"):
            spread = 25.0 if name == "altitude_m" else 0.2
            state[f"world.{name}"][:] = self.place[name] + spread * (dice.uniform(name) - (0.2 if name == "altitude_m" else 0.5))
        state["world.heading_deg"][:] = dice.uniform("heading", 0, 360)
        self.look(np.arange(n))
        for name, goal in (("ambient_c", "ambient"), ("filtered_ambient_c", "ambient"), ("solar", "solar"), ("rain", "rain")):
            state[f"world.{name}"][:] = self.goal[goal]
        state["world.humidity"][:], state["world.particles"][:] = self.goal["humidity"], self.goal["particles"]

    def look(self, of: Numbers) -> None:
        """What the sky is like now, for these vehicles."""
        place = {name: column[of] for name, column in self.place.items()}
        now = self.sky_s[of] + self.state["time_s"][of]
        days = now / DAY_S
        year = 2 * np.pi * (days - EPOCH_DAY_OF_YEAR) / YEAR_D
        local_h = ((now + self.zone_s[of]) % DAY_S) / 3600
        anomaly, cloudy = self._passing("anomaly", days / 2.5, of), self._passing("cloud", days * 2, of)
        wet, dusty = self._passing("rain", days * 5, of), self._passing("dust", days, of)
        cloud = np.clip(place["cloud"] + 0.35 * cloudy, 0, 1)
        level = 1.1 * np.sqrt(-2 * np.log(2 * place["rain_share"]))  # the unrest's values above it are this share of the time, roughly
        rain = np.clip(0.25 * (wet + 0.5 * cloudy - level) + 0.0, 0, 1)
        cloud = np.maximum(cloud, np.minimum(1.0, 0.8 + rain))
        cloud = np.where(rain > 0, cloud, np.clip(place["cloud"] + 0.35 * cloudy, 0, 1))
        height = self._height(year, now, place)
        clear = np.maximum(0.0, 910 * np.sin(height) - 30)
        season = -np.cos(year - 2 * np.pi * 25 / YEAR_D)  # coldest near 25 January
        day = np.cos(2 * np.pi * (local_h - 15) / 24) * (1 - 0.6 * cloud)
        ambient = place["mean_c"] + place["season_c"] * season + place["day_c"] * day + 3.2 * anomaly - 2.5 * rain
        fixed, dry = self.fixed_c[of], self.fixed_rain[of]
        self.goal["ambient"][of] = np.where(np.isnan(fixed), ambient, fixed)
        self.goal["rain"][of] = np.where(np.isnan(dry), rain, dry)
        self.goal["solar"][of] = clear * (1 - 0.75 * cloud**3.4)
        self.goal["humidity"][of] = np.clip(place["humidity"] + 0.25 * rain - 0.12 * day + 0.06 * cloudy, 0.15, 0.99)
        self.goal["particles"][of] = place["particles"] * np.exp(0.45 * dusty - 0.25 * season) * (1 - 0.5 * rain)
        self.goal["wind"][of] = np.abs(2.5 + 1.8 * anomaly + 1.5 * wet)
        self.state["world.sun_deg"][of] = np.degrees(height)
        self.seen_s[of] = self.state["time_s"][of]

    def winter(self) -> Mask:
        """(n,) from November to March, where January is colder than 3 °C (the rule of thumb "from October to Easter")."""
        day = ((self.sky_s + self.state["time_s"]) / DAY_S) % YEAR_D
        cold = self.place["mean_c"] - self.place["season_c"] < COLD_JANUARY_C
        result: Mask = cold & ((day > WINTER_FROM_D) | (day < WINTER_TO_D))
        return result

    def _passing(self, name: str, place: Array, of: Numbers) -> Array:
        """Smooth unrest of standard deviation 0.8 or so: normal numbers at whole places, a cosine between."""
        before = np.floor(place)
        share = 0.5 - 0.5 * np.cos(np.pi * (place - before))
        first = self.dice.normals(name, 1, before.astype(np.int64), of)[0]
        second = self.dice.normals(name, 1, before.astype(np.int64) + 1, of)[0]
        result: Array = first + (second - first) * share
        return result

    @staticmethod
    def _height(year: Array, now: Array, place: dict[str, Array]) -> Array:
        declination = np.radians(-23.44) * np.cos(year + 2 * np.pi * 10 / YEAR_D)
        hour = 2 * np.pi * (((now / 3600 + place["longitude"] / 15) % 24) - 12) / 24
        north = np.radians(place["latitude"])
        result: Array = np.arcsin(np.sin(north) * np.sin(declination) + np.cos(north) * np.cos(declination) * np.cos(hour))
        return result

    def step(self, m: Moment, gusts: Array) -> None:
        """gusts: (8, n), of which the first four and the last are the weather's."""
        s, goal = self.state, self.goal
        due = np.flatnonzero(s["time_s"] - self.seen_s >= OFTEN_S)
        if len(due):
            self.look(due)
        self._unrest(s["world.ambient_c"], goal["ambient"], 0.12, 200.0, m, gusts[0])
        relax(s["world.filtered_ambient_c"], s["world.ambient_c"], m.keep(60.0))
        self._unrest(s["world.solar"], goal["solar"], 0.077 * goal["solar"], 30.0, m, gusts[1])
        np.maximum(s["world.solar"], 0.0, out=s["world.solar"])
        rain = s["world.rain"]
        self._unrest(rain, goal["rain"], 0.27 * np.minimum(1.0, 3 * goal["rain"]), 40.0, m, gusts[2])
        np.minimum(np.maximum(rain, 0.0, out=rain), 1.0, out=rain)
        particles = s["world.particles"]
        around = goal["particles"] * (1.3 - 0.3 * s["world.kind"])
        self._unrest(particles, around, 0.15 * goal["particles"], 50.0, m, gusts[3])
        np.maximum(particles, 1.0, out=particles)
        relax(s["world.humidity"], goal["humidity"], m.keep(300.0))
        self._unrest(s["world.wind_m_s"], goal["wind"] * np.cos(np.radians(s["world.heading_deg"] - 240)), 0.8, 20.0, m, gusts[7])
        s["world.pressure_kpa"][:] = 101.325 - 0.0118 * s["world.altitude_m"]  # near the ground, ICAO standard atmosphere
        np.divide(s["world.pressure_kpa"] * (1000 / GAS_CONSTANT), s["world.ambient_c"] + KELVIN, out=s["world.density_kg_m3"])
        np.add(110 * s["world.solar"], 40.0 + 0.0, out=s["world.lux"])

    @staticmethod
    def _unrest(value: Array, goal: Array, deviation: float | Array, time_s: float, m: Moment, gust: Array) -> None:
        keep = m.keep(time_s)
        relax(value, goal, keep)
        value += deviation * np.sqrt(1 - keep * keep) * gust
