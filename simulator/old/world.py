"""What surrounds the car while it drives: weather, traffic, place, and the small unrest of a human hand."""

from __future__ import annotations

import math

import numpy as np

from simulator.old.parameters import Surroundings
from simulator.old.route import RoadClass, Segment

__all__ = ["World"]

EARTH_M_PER_DEGREE = 111_320.0  # of latitude
UNREST = 7  # random numbers a step


class World:
    """Slow quantities are Ornstein-Uhlenbeck processes (Uhlenbeck and Ornstein, Physical Review 36, 1930)."""

    def __init__(self, around: Surroundings, rng: np.random.Generator, time_gap_s: float) -> None:
        self.around, self.rng = around, rng
        self.ambient_c, self.solar, self.rain = around.ambient_c, around.solar_w_m2, around.rain
        self.humidity, self.particles = around.humidity, around.particles_ug_m3
        self.latitude, self.longitude = around.latitude, around.longitude
        self.altitude_m, self.heading_deg = around.altitude_m, around.heading_deg
        self.weave = self.lane_m = self.grip = 0.0
        self.time_gap_s = time_gap_s
        self.gap_m, self.gap_rate, self.lead = 200.0, 0.0, False
        self.gap_noise = 0.0
        self.lane_quality = 85.0
        self.satellites, self.dilution = 14.0, 0.9
        self.kind, self.limit_m_s, self.gradient, self.curvature = 0, 13.9, 0.0, 0.0
        self.filtered_ambient_c = around.ambient_c
        self._numbers: list[list[float]] = []

    def step(self, speed: float, yaw_deg_s: float, distance_m: float, segment: Segment, dt: float) -> None:
        if not self._numbers:
            self._numbers = self.rng.standard_normal((100, UNREST)).tolist()
        n = self._numbers.pop()
        root = math.sqrt(dt)
        self.kind, self.limit_m_s = int(segment.kind), segment.limit_m_s
        self.gradient += (segment.gradient - self.gradient) * min(1.0, dt * speed / 40)
        self.curvature = segment.curvature
        self.ambient_c += (self.around.ambient_c - self.ambient_c) * dt / 200 + 0.012 * root * n[0]
        self.filtered_ambient_c += (self.ambient_c - self.filtered_ambient_c) * dt / 60
        self.solar = max(0.0, self.solar + (self.around.solar_w_m2 - self.solar) * dt / 30 + 0.02 * self.around.solar_w_m2 * root * n[1])
        self.rain = min(
            1.0, max(0.0, self.rain + (self.around.rain - self.rain) * dt / 40 + 0.06 * min(1.0, self.around.rain * 9) * root * n[2])
        )
        particles = self.around.particles_ug_m3
        self.particles = max(
            1.0, self.particles + (particles * (1.3 - 0.3 * self.kind) - self.particles) * dt / 50 + 0.03 * particles * root * n[3]
        )
        self.weave += -self.weave * dt / 1.5 + 0.00045 * root * n[4] / (1 + speed / 15)
        self.lane_m += -self.lane_m * dt / 6 + 0.16 * root * n[5] * min(1.0, speed / 8)
        self.gap_noise += -self.gap_noise * dt / 8 + 0.10 * root * n[6]
        self.grip += (9 + 6 * abs(self.weave) * 1000 - self.grip) * dt / 2
        self._traffic(speed, segment, dt)
        self._place(distance_m, yaw_deg_s, dt)
        self.lane_quality += ((92 - 30 * self.rain - (25 if self.kind == RoadClass.URBAN else 0)) - self.lane_quality) * dt / 5
        self.satellites += ((11 if self.kind == RoadClass.URBAN else 16) + 3 * self.gap_noise - self.satellites) * dt / 20
        self.dilution = 12.0 / max(4.0, self.satellites)

    def _traffic(self, speed: float, segment: Segment, dt: float) -> None:
        """A vehicle ahead keeps the driver's time gap, more or less."""
        self.lead = segment.lead
        goal = 2.5 + speed * self.time_gap_s * (1 + 0.35 * self.gap_noise) if self.lead else 200.0
        before = self.gap_m
        self.gap_m = min(200.0, max(1.0, before + (goal - before) * dt / 2.5))
        self.gap_rate = (self.gap_m - before) / dt

    def _place(self, distance_m: float, yaw_deg_s: float, dt: float) -> None:
        self.heading_deg = (self.heading_deg - yaw_deg_s * dt) % 360  # compass: clockwise; yaw: counter-clockwise
        east, north = math.sin(math.radians(self.heading_deg)), math.cos(math.radians(self.heading_deg))
        self.latitude += distance_m * north / EARTH_M_PER_DEGREE
        self.longitude += distance_m * east / (EARTH_M_PER_DEGREE * math.cos(math.radians(self.latitude)))
        self.altitude_m += distance_m * self.gradient
