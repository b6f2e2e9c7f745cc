"""One step of time, and what a lag keeps over it."""

from __future__ import annotations

import numpy as np

from simulator.state import Array

__all__ = ["Moment", "relax"]


class Moment:
    """A step of `dt_s`: one number for all vehicles, or (n,) where each takes its own."""

    def __init__(self, dt_s: float | Array) -> None:
        self.dt_s = dt_s
        self._kept: dict[float, float | Array] = {}

    def keep(self, time_constant_s: float) -> float | Array:
        """exp(-dt / time constant): what remains of a difference after this step. Exact for a constant goal, stable for any dt."""
        kept = self._kept.get(time_constant_s)
        if kept is None:
            kept = self._kept[time_constant_s] = np.exp(-self.dt_s / time_constant_s)
        return kept


def relax(value: Array, goal: float | Array, keep: float | Array) -> None:
    """value (n,) moves to the goal, in place; `keep` is the share of the difference that is left."""
    value -= goal
    value *= keep
    value += goal
