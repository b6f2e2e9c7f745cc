"""The road ahead and the driver who follows it."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

__all__ = ["Driver", "Road", "RoadClass", "Segment"]

GRAVITY = 9.81
LATERAL_COMFORT = 2.2  # m/s²: what drivers accept in a bend


class RoadClass(IntEnum):
    URBAN = 0
    RURAL = 1
    MOTORWAY = 2


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of road of one limit, gradient and curvature; stop_s > 0: a halt at its end."""

    kind: RoadClass
    length_m: float
    limit_m_s: float
    gradient: float  # rise over run
    curvature: float  # 1/m, left positive
    stop_s: float
    lead: bool  # there is a vehicle ahead


class Road:
    """An endless road, drawn segment by segment. `position_m` is the place within the first segment of `ahead`."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.mix = rng.dirichlet((2.2, 1.6, 1.0))  # of urban, rural and motorway stretches
        self.kind, self.left = RoadClass.URBAN, 4
        self.ahead: deque[Segment] = deque()
        self.position_m = 0.0
        self.height_m = 0.0  # of the road drawn so far, above its start
        while len(self.ahead) < 4:
            self.ahead.append(self._draw())

    def advance(self, distance_m: float) -> Segment | None:
        """Move on; returns the segment that was finished by this step, if one was."""
        self.position_m += distance_m
        if self.position_m < self.ahead[0].length_m:
            return None
        self.position_m -= self.ahead[0].length_m
        self.ahead.append(self._draw())
        return self.ahead.popleft()

    def _draw(self) -> Segment:
        segment = self._draw_segment()
        self.height_m += segment.gradient * segment.length_m
        return segment

    def _draw_segment(self) -> Segment:
        rng = self.rng
        if self.left == 0:
            self.kind = RoadClass(int(rng.choice(3, p=self.mix)))
            self.left = int(rng.integers(4, 10))
        self.left -= 1
        downhill = -self.height_m / 2500  # what went up comes down: hills, not a mountain range
        gradient, lead = float(rng.normal(downhill, 0.012)), bool(rng.random() < 0.6)
        side = 1.0 if rng.random() < 0.5 else -1.0
        if self.kind is RoadClass.URBAN:
            corner = rng.random() < 0.2
            curvature = side / float(rng.uniform(12, 30)) if corner else side / float(rng.uniform(150, 2000))
            length = float(rng.uniform(15, 30) if corner else rng.uniform(90, 380))
            stop = 0.0 if corner or rng.random() < 0.65 else float(rng.uniform(4, 22))
            return Segment(self.kind, length, float(rng.choice([30, 40, 50, 50, 60])) / 3.6, gradient, curvature, stop, lead)
        if self.kind is RoadClass.RURAL:
            curvature = side / float(rng.uniform(120, 1500))
            stop = 0.0 if rng.random() < 0.9 else float(rng.uniform(4, 15))
            limit = float(rng.choice([70, 80, 90, 100])) / 3.6
            return Segment(self.kind, float(rng.uniform(200, 900)), limit, gradient * 1.6, curvature, stop, lead)
        limit = float(rng.choice([100, 120, 120, 130])) / 3.6
        return Segment(self.kind, float(rng.uniform(500, 1800)), limit, gradient, side / float(rng.uniform(800, 5000)), 0.0, lead)


class Driver:
    """Follows the limits with a safe speed and a comfortable acceleration.

    The allowed speed is the greatest from which the next slower place can be met with a comfortable deceleration, as in Gipps, "A
    behavioural car-following model for computer simulation", Transportation Research B 15 (1981); the approach to it relaxes
    exponentially, and the acceleration dies out towards the wanted speed with the fourth power, as in Treiber, Hennecke and Helbing,
    "Congested traffic states in empirical observations and microscopic simulations", Physical Review E 62 (2000).
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.acceleration = float(rng.uniform(1.1, 2.6))  # m/s², comfortable
        self.deceleration = float(rng.uniform(1.0, 2.2))
        self.eagerness = float(rng.uniform(0.92, 1.08))  # of the limit
        self.time_gap_s = float(rng.uniform(1.2, 2.4))
        self.waiting_s = 0.0
        self.demand = 0.0  # m/s², what was asked last

    def step(self, road: Road, speed: float, dt: float) -> float:
        """The acceleration asked for, m/s²."""
        if self.waiting_s > 0:
            self.waiting_s -= dt
            self.demand = -1.0
            return self.demand
        wanted = self._pace(road.ahead[0])
        allowed, distance = wanted, -road.position_m
        for segment, after in zip(list(road.ahead)[:-1], list(road.ahead)[1:], strict=True):
            distance += segment.length_m
            goal = 0.0 if segment.stop_s > 0 else self._pace(after)
            room = max(0.0, distance - (1.0 if segment.stop_s > 0 else 0.0))
            allowed = min(allowed, math.sqrt(goal * goal + 2 * self.deceleration * room))
            if segment.stop_s > 0:
                if segment is road.ahead[0] and room < 0.8 and speed < 0.6:
                    self.waiting_s = segment.stop_s
                    road.position_m = segment.length_m  # the halt is made; the next step starts the next segment
                break
        if allowed >= speed:
            free = self.acceleration * (1 - (speed / max(wanted, 0.1)) ** 4)
            asked = min(free, (allowed - speed) / 0.8)
        else:
            asked = max((allowed - speed) / 0.5, -1.9 * self.deceleration)
        self.demand += (asked - self.demand) * min(1.0, dt / 0.35)  # the foot needs a third of a second
        return self.demand

    def _pace(self, segment: Segment) -> float:
        bend = math.sqrt(LATERAL_COMFORT / max(abs(segment.curvature), 1e-6))
        return min(segment.limit_m_s * self.eagerness, bend)
