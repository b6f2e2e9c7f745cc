"""The driver: the acceleration asked for, from the road ahead, the traffic and the style."""

from __future__ import annotations

import numpy as np

from simulator.dice import Numbers
from simulator.individual import Individuals
from simulator.route import AHEAD, ARRIVAL_S, LENGTH, PACE, STOP_S, Road
from simulator.state import Array, Mask

__all__ = ["Driver"]

STANDING_M_S = 0.3
AT_LINE_M = 1.2
EMERGENCY = 1.9  # times the comfortable deceleration
PRESS = 1.5  # m/s² that the acceleration may rise by within a second; it falls as fast as it must


class Driver:
    """Follows the limits with a safe speed and a comfortable acceleration.

    The allowed speed at the end of a second is the greatest from which the next slower place is met with the comfortable deceleration,
    the way of the second itself included, as in Gipps, "A behavioural car-following model for computer simulation", Transportation
    Research B 15 (1981), equation 9; the acceleration dies out towards the wanted speed with the fourth power, as in Treiber, Hennecke and
    Helbing, "Congested traffic states in empirical observations and microscopic simulations", Physical Review E 62 (2000).
    """

    def __init__(self, who: Individuals, road: Road) -> None:
        self.who, self.road = who, road
        n = who.vehicles
        self.waiting_s = np.zeros(n)
        self.demand = np.zeros(n)  # m/s², what was asked last
        self.arrived = np.zeros(n, np.bool_)

    def begin(self, of: Numbers) -> None:
        self.waiting_s[of], self.demand[of], self.arrived[of] = 0.0, 0.0, False

    def step(self, speed: Array, follow: Array, wave: Array, moving: Mask) -> Array:
        """The acceleration asked for over the next second, m/s². follow: greatest speed behind the vehicle ahead. wave: of the human foot,
        standard deviation 1. moving: (n,) bool, may drive."""
        road, who = self.road, self.who
        segments = road.segments
        comfort = who.style_deceleration
        wanted = segments[PACE, 0] * (1 + 0.015 * wave)
        ends = np.add.accumulate(segments[LENGTH, : AHEAD - 1], axis=0)  # (3, n) m, to the ends of the segments seen
        ends -= road.position_m
        stops = segments[STOP_S, : AHEAD - 1] > 0
        goal = np.where(stops, 0.0, segments[PACE, 1:])
        room = np.maximum(0.0, ends - stops)  # stop a metre before the line
        inside = goal * goal + comfort * (2 * room - speed) + 0.25 * comfort * comfort
        allowed = (np.sqrt(np.maximum(inside, 0.0)) - 0.5 * comfort).min(axis=0)
        allowed = np.maximum(0.0, np.minimum(np.minimum(allowed, wanted), follow))
        at_line = stops[0] & (room[0] < AT_LINE_M) & (speed < STANDING_M_S) & moving & (self.waiting_s <= 0)
        if at_line.any():
            self.waiting_s = np.where(at_line, segments[STOP_S, 0], self.waiting_s)
            self.arrived |= at_line & (segments[STOP_S, 0] >= ARRIVAL_S)
            road.position_m = np.where(at_line, segments[LENGTH, 0], road.position_m)  # the halt is made; the next step starts the next
        free = who.style_acceleration * (1 - (speed / np.maximum(wanted, 0.1)) ** 4)
        gas = np.minimum(np.minimum(free, allowed - speed), np.maximum(self.demand, 0.0) + PRESS)
        brake = np.maximum(allowed - speed, -EMERGENCY * comfort)
        asked = np.where(allowed >= speed, gas, brake)
        waiting = (self.waiting_s > 0) | ~moving
        self.demand = np.where(waiting, -1.0, asked)
        self.waiting_s = np.where(moving & (self.waiting_s > 0), self.waiting_s - 1.0, self.waiting_s)
        return self.demand
