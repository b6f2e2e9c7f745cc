"""Steering: the single-track model in the steady state, hands, assistance."""

from __future__ import annotations

import numpy as np

from simulator.moment import Moment, relax
from simulator.parameters import CarParameters
from simulator.state import Array, Mask, State

__all__ = ["Steering"]

STEERING_RATIO = 14.8
UNDERSTEER_S2_M = 0.0022


class Steering:
    """angle = ratio · curvature · (wheelbase + K v²): Riekert and Schunck, "Zur Fahrmechanik des gummibereiften Kraftfahrzeugs",
    Ingenieur-Archiv 11 (1940). Assist current grows with the rack's load and falls with speed (Badawy et al., SAE 1999-01-0399)."""

    def __init__(self, car: CarParameters, state: State) -> None:
        self.car, self.state = car, state
        state["steering.motor_c"][:] = state["world.ambient_c"] + 5

    def step(self, weave: Array, m: Moment, moving: Mask) -> None:
        """weave: the driver's own small corrections, 1/m."""
        s = self.state
        speed, curvature, angle = s["drive.speed"], s["steering.curvature"], s["steering.angle_deg"]
        relax(curvature, (s["world.curvature"] + weave) * (speed > 0.05) + curvature * (speed <= 0.05), m.keep(0.7))
        goal = (57.29578 * STEERING_RATIO) * curvature * (self.car.wheelbase_m + UNDERSTEER_S2_M * speed * speed)
        goal = np.minimum(560.0, np.maximum(-560.0, goal))
        np.divide(goal - angle, np.maximum(m.dt_s, 1.0), out=s["steering.rate_deg_s"])
        angle[:] = goal
        np.multiply(speed * speed, curvature, out=s["steering.lateral_m_s2"])
        np.multiply(57.29578 * speed, curvature, out=s["steering.yaw_deg_s"])
        slow = np.exp(-0.25 * speed)
        rate = s["steering.rate_deg_s"]
        rack = 1.1 * s["steering.lateral_m_s2"] + 0.004 * rate + np.minimum(2.2, np.maximum(-2.2, 0.011 * angle)) * slow
        rack *= moving
        np.copyto(s["steering.hand_n_m"], np.minimum(9.0, np.maximum(-9.0, rack)))
        assist = 0.8 + 5.5 * np.abs(rack) * (0.35 + 0.65 * np.exp(speed * (-1 / 12))) + 0.02 * np.abs(rate)
        np.multiply(np.minimum(95.0, assist), s["key"] > 1, out=s["steering.assist_a"])
        relax(s["steering.motor_c"], s["world.ambient_c"] + (0.02 / 1.2) * s["steering.assist_a"] ** 2, m.keep(333.0))
