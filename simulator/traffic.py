"""The vehicle ahead: how fast the others are, and how close."""

from __future__ import annotations

import numpy as np

from simulator.individual import Individuals
from simulator.moment import Moment, relax
from simulator.route import LEAD, LENGTH, LIMIT, STOP_S, Road
from simulator.state import Array, Mask, State

__all__ = ["Traffic"]

FREE_M = 200.0  # nobody ahead
STANDING_M = 2.5
CALM = 0.4  # of what the gap asks for, taken up within a second
JAM = 0.8  # density from which traffic stops and goes


class Traffic:
    """One vehicle ahead, at the pace of its traffic; the denser, the slower (Greenshields 1935: speed falls linearly with density), and
    beyond a density in waves (Sugiyama et al., New J. Physics 10 (2008): jams without a bottleneck). It turns off before a halt."""

    def __init__(self, who: Individuals, road: Road, state: State) -> None:
        self.who, self.road, self.state = who, road, state
        n = who.vehicles
        self.speed = np.zeros(n)  # of the vehicle ahead
        self.wave = np.zeros(n)  # unrest of its speed, standard deviation 1
        state["world.gap_m"][:] = FREE_M

    def step(self, m: Moment, speed: Array, moving: Mask, gust: Array) -> Array:
        """The greatest speed after this step that keeps the driver's distance. speed: of the car, m/s. moving: (n,) bool."""
        s, segments = self.state, self.road.segments
        keep = m.keep(8.0)
        self.wave *= keep
        self.wave += np.sqrt(1 - keep * keep) * gust
        density = segments[LEAD, 0]
        halt = (segments[STOP_S, 0] > 0) & (segments[LENGTH, 0] - self.road.position_m < 80)
        lead = (density >= 0) & ~halt & moving
        pace = segments[LIMIT, 0] * (1.02 - 0.5 * density + 0.08 * self.wave)
        jam = np.minimum(1.0, np.maximum(0.0, 0.5 + 0.9 * self.wave))
        goal = np.where(density > JAM, pace * jam, pace)
        gap, before = s["world.gap_m"], s["world.lead"] > 0
        fresh = lead & ~before
        self.speed = np.where(fresh, np.maximum(goal, speed), self.speed)
        relax(self.speed, goal, m.keep(4.0))
        np.copyto(gap, 25 + 2.2 * speed + 8 * self.wave, where=fresh)
        np.copyto(gap, FREE_M, where=~lead)
        time_gap = self.who.style_gap_s
        goal = self.speed + (gap - STANDING_M - time_gap * speed) / (time_gap + 0.5)
        follow = speed + CALM * (goal - speed)
        room = np.maximum(0.0, gap - STANDING_M)
        safe = np.sqrt(self.speed**2 + 2 * self.who.style_deceleration * room)
        s["world.lead"][:] = lead
        result: Array = np.where(lead, np.maximum(0.0, np.minimum(follow, safe)), np.inf)
        return result

    def move(self, m: Moment, moved_m: Array) -> None:
        """The gap after both have moved."""
        s = self.state
        gap, lead = s["world.gap_m"], s["world.lead"]
        change = (self.speed * m.dt_s - moved_m) * lead
        before = gap.copy()
        gap += change
        np.minimum(np.maximum(gap, 1.0, out=gap), FREE_M, out=gap)
        np.divide(gap - before, m.dt_s, out=s["world.gap_rate"])
