"""Where the car is, what its sensors of the road see, and the small unrest of a human hand."""

from __future__ import annotations

import numpy as np

from simulator.moment import Moment, relax
from simulator.route import CURVATURE, GRADIENT, KIND, LIMIT, Road
from simulator.state import Array, State

__all__ = ["Surroundings"]

EARTH_M_PER_DEGREE = 111_320.0  # of latitude


class Surroundings:
    """Unrest: Ornstein and Uhlenbeck, Physical Review 36 (1930), by its exact solution."""

    def __init__(self, road: Road, state: State) -> None:
        self.road, self.state = road, state
        n = state.vehicles
        self.weave = np.zeros(n)  # the driver's own small corrections, 1/m
        self.wander = np.zeros(n)  # of what satellites are seen
        state["world.lane_quality"][:] = 85.0
        state["world.satellites"][:], state["world.dilution"][:] = 14.0, 0.9

    def step(self, m: Moment, moved_m: Array, gusts: Array) -> None:
        """gusts: (8, n), of which number 4, 5 and 7 are used here."""
        s, segments = self.state, self.road.segments
        speed, kind = s["drive.speed"], s["world.kind"]
        kind[:], s["world.limit_m_s"][:] = segments[KIND, 0], segments[LIMIT, 0]
        gradient = s["world.gradient"]
        gradient += (segments[GRADIENT, 0] - gradient) * -np.expm1(moved_m * (-1 / 40))
        s["world.curvature"][:] = segments[CURVATURE, 0]
        keep = m.keep(1.5)
        self.weave *= keep
        self.weave += 0.00039 * np.sqrt(1 - keep * keep) / (1 + speed * (1 / 15)) * gusts[4]
        keep = m.keep(6.0)
        lane = s["world.lane_m"]
        lane *= keep
        lane += 0.277 * np.sqrt(1 - keep * keep) * np.minimum(1.0, speed * 0.125) * gusts[5]
        keep = m.keep(25.0)
        self.wander *= keep
        self.wander += 1.2 * np.sqrt(1 - keep * keep) * gusts[7]
        relax(s["world.grip"], (9 + 9000 * np.abs(self.weave)) * s["ready"], m.keep(2.0))
        urban = kind == 0
        relax(s["world.lane_quality"], 92 - 30 * s["world.rain"] - 25.0 * urban, m.keep(5.0))
        relax(s["world.satellites"], 16 - 5.0 * urban + self.wander, m.keep(20.0))
        np.divide(12.0, np.maximum(4.0, s["world.satellites"]), out=s["world.dilution"])
        self._move(m, moved_m)

    def _move(self, m: Moment, moved_m: Array) -> None:
        s = self.state
        heading = s["world.heading_deg"]
        heading -= s["steering.yaw_deg_s"] * np.minimum(m.dt_s, 1.0)  # compass: clockwise; yaw: counter-clockwise
        heading %= 360
        angle = heading * (np.pi / 180)
        latitude = s["world.latitude"]
        latitude += moved_m * np.cos(angle) * (1 / EARTH_M_PER_DEGREE)
        s["world.longitude"][:] += moved_m * np.sin(angle) / (EARTH_M_PER_DEGREE * np.cos(latitude * (np.pi / 180)))
        altitude = s["world.altitude_m"]
        altitude += moved_m * s["world.gradient"]
