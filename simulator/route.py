"""The road ahead of each car: segments of one class, limit, gradient and curvature, drawn as the car comes to them."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from simulator.dice import Dice, Numbers
from simulator.individual import Individuals
from simulator.state import Array

__all__ = ["AHEAD", "ARRIVAL_S", "Road", "RoadClass"]

AHEAD = 4  # segments that the driver sees, the present one included
ARRIVAL_S = 1e9  # a halt of this length is the journey's end
LATERAL_COMFORT = 2.2  # m/s²: what drivers accept in a bend (Reymond et al., Human Factors 43 (2001): 2 to 4 at low, 1 to 2 at high speed)
LENGTH, LIMIT, GRADIENT, CURVATURE, STOP_S, LEAD, KIND, PACE = range(8)


class RoadClass(IntEnum):
    """Of a segment: row KIND of `Road.segments`."""

    URBAN = 0
    RURAL = 1
    MOTORWAY = 2


class Road:
    """segments (8, 4, n): rows LENGTH m, LIMIT m/s, GRADIENT, CURVATURE 1/m, STOP_S (a halt at the end), LEAD (-1: nobody ahead, else how
    dense the traffic is, 0..1), KIND, PACE (the driver's speed for it, m/s). position_m (n,): within the first.

    Limits: urban 30 to 60 km/h, rural 70 to 100, motorway 100 to 130. Halts: 35 % of urban crossings, 4 to 22 s each, so that the mean
    urban speed is the 19 to 25 km/h of WLTC's low phase and of city traces (André, Science of the Total Environment 334 (2004)).
    """

    def __init__(self, dice: Dice, who: Individuals) -> None:
        n = who.vehicles
        self.dice, self.who = dice, who
        self.segments = np.zeros((8, AHEAD, n))
        self.position_m = np.zeros(n)
        self.planned_m = np.zeros(n)  # of this journey, up to the end of what is drawn
        self.journey_m = np.full(n, np.inf)
        self.mix = np.zeros((3, n))  # of urban, rural, motorway stretches
        self.crowd = np.full(n, 0.3)  # how full the roads are, 0..1
        self.kind = np.zeros(n)
        self.left = np.zeros(n)  # segments of this class still to come
        self.drawn = np.zeros(n, np.int64)
        self.height_m = np.zeros(n)

    def begin(self, of: Numbers, journey_m: Array, urban: Array, motorway: Array) -> None:
        """A new journey of these vehicles. urban: share of stretches; motorway: share of the others."""
        self.mix[:, of] = np.array([urban, (1 - urban) * (1 - motorway), (1 - urban) * motorway])
        self.journey_m[of], self.planned_m[of], self.position_m[of] = journey_m, 0.0, 0.0
        self.kind[of], self.left[of] = RoadClass.URBAN, 3.0
        for place in range(AHEAD):
            self.segments[:, place, of] = self._draw(of)

    def advance(self, moved_m: Array) -> None:
        """Move on; who leaves a segment gets a new one at the far end."""
        self.position_m += moved_m
        length = self.segments[LENGTH, 0]
        if (self.position_m < length).all():
            return
        passed = np.flatnonzero(self.position_m >= length)
        while len(passed):
            self.position_m[passed] -= length[passed]
            self.segments[:, :-1, passed] = self.segments[:, 1:, passed]
            self.segments[:, -1, passed] = self._draw(passed)
            passed = passed[self.position_m[passed] >= length[passed]]

    def divert(self, of: Numbers, distance_m: float) -> Array:
        """End the journey soon after what is already drawn (to charge). Returns what is left of it, m."""
        left = self.journey_m[of] - self.planned_m[of] - distance_m
        self.journey_m[of] = self.planned_m[of] + distance_m
        result: Array = np.maximum(left, 500.0)
        return result

    def _draw(self, of: Numbers) -> Array:
        """(8, k) the next segment of these k vehicles."""
        u = self.dice.uniforms("segment", 12, self.drawn[of], of)
        self.drawn[of] += 1
        new = self.left[of] <= 0
        mix = self.mix[:, of]
        drawn_kind = (u[0] >= mix[0]).astype(np.float64) + (u[0] >= mix[0] + mix[1])
        kind = np.where(new, drawn_kind, self.kind[of])
        self.left[of] = np.where(new, np.floor(4 + 6 * u[1]), self.left[of]) - 1
        self.kind[of] = kind
        urban, rural = kind == RoadClass.URBAN, kind == RoadClass.RURAL
        side = np.where(u[2] < 0.5, 1.0, -1.0)
        corner = urban & (u[3] < 0.2)
        radius = np.where(
            urban,
            np.where(corner, 12 + 18 * u[4], 150 + 1850 * u[4]),
            np.where(rural, 120 + 1380 * u[4], 800 + 4200 * u[4]),
        )
        length = np.where(
            urban,
            np.where(corner, 15 + 15 * u[5], 90 + 290 * u[5]),
            np.where(rural, 200 + 700 * u[5], 500 + 1300 * u[5]),
        )
        limit = np.where(
            urban,
            np.array([30.0, 40.0, 50.0, 50.0, 60.0])[(5 * u[6]).astype(np.intp)],
            np.where(
                rural,
                np.array([70.0, 80.0, 90.0, 100.0])[(4 * u[6]).astype(np.intp)],
                np.array([100.0, 120.0, 120.0, 130.0])[(4 * u[6]).astype(np.intp)],
            ),
        )
        stops = np.where(urban, ~corner & (u[7] >= 0.65), rural & (u[7] >= 0.9))
        stop = np.where(stops, 4 + np.where(urban, 18.0, 11.0) * u[8], 0.0)
        crowd = self.crowd[of]
        lead = np.where(u[9] < 0.4 + 0.5 * crowd, np.minimum(1.0, u[10] * (0.35 + 0.8 * crowd)), -1.0)
        hill = np.sqrt(-2 * np.log1p(-u[11])) * np.cos(2 * np.pi * u[10])  # normal (Box and Muller)
        gradient = -self.height_m[of] / 2500 + 0.012 * self.who["hilliness"][of] * np.where(rural, 1.6, 1.0) * hill
        gradient = np.minimum(np.maximum(gradient, -0.11), 0.11)
        ends = self.planned_m[of] + length >= self.journey_m[of]
        length = np.where(ends, np.maximum(40.0, self.journey_m[of] - self.planned_m[of]), length)
        stop = np.where(ends, ARRIVAL_S, stop)
        self.planned_m[of] += length
        self.height_m[of] += gradient * length  # what went up comes down: hills, not a mountain range
        limit = limit / 3.6
        pace = np.minimum(limit * self.who.style_eagerness[of], np.sqrt(LATERAL_COMFORT * radius))
        return np.array([length, limit, gradient, side / radius, stop, lead, kind, pace])
