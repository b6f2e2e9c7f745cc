"""From the model's state to the quantities that control units send."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulator.old.parameters import CarParameters, Individual
from simulator.old.vehicle import State

__all__ = ["Array", "Context", "Noise"]

Array = NDArray[np.float64]

NOISE_COLUMNS = 96


class Noise:
    """Sensor noise of one stretch. Each call gives the next column: a seed gives every sensor the same noise in every scenario."""

    def __init__(self, rng: np.random.Generator, rows: int) -> None:
        self.numbers = rng.standard_normal((NOISE_COLUMNS, rows))
        self.used = 0

    def __call__(self, deviation: float) -> Array:
        """(n,) with this standard deviation."""
        self.used += 1
        column: Array = self.numbers[self.used - 1] * deviation
        return column


class Context:
    """What the signals need besides the state: the individual car, sensor noise, the time."""

    def __init__(
        self, state: State, who: Individual, car: CarParameters, mass_kg: float, noise: Noise, cells: Array, start_ns: int
    ) -> None:
        self.state, self.who, self.car, self.mass_kg, self.noise, self.start_ns = state, who, car, mass_kg, noise, start_ns
        self.cell_noise = cells  # (n, 96) standard normal
        self.rows = len(state["time_s"])

    def constant(self, value: float) -> Array:
        return np.full(self.rows, value)
