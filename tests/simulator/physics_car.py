"""Recordings of the model's cars, for the tests of its physics."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from simulator.cars import Cars
from simulator.cast import Cast
from simulator.state import COLUMNS, Array

Fixed = float | tuple[float, float]


class Recording:
    """Of every second: `recording["drive.speed"]` is (seconds + 1, n), of cells and wheels (seconds + 1, width, n); row 0 is the start."""

    def __init__(self, cars: Cars, seconds: int, severity: Callable[[int], Mapping[str, float]] | None = None) -> None:
        self.cars = cars
        self.blocks = np.empty((seconds + 1, *cars.state.block.shape))
        self.blocks[0] = cars.state.block
        for second in range(seconds):
            for code, value in (severity(second) if severity else {}).items():
                cars.severity[code][:] = value
            cars.step()
            self.blocks[second + 1] = cars.state.block

    def __getitem__(self, name: str) -> Array:
        rows = self.cars.state.rows[name]
        return self.blocks[:, rows.start] if COLUMNS[name].width == 1 else self.blocks[:, rows]


def drive(
    seconds: int,
    vehicles: int = 8,
    severity: Callable[[int], Mapping[str, float]] | None = None,
    plan: str = "drive",
    seed: int = 1,
    place: Mapping[str, Array] | None = None,
    **fixed: Fixed,
) -> Recording:
    cast = Cast(seed=seed, vehicles=tuple(range(vehicles)), plan=plan, fixed=fixed)
    return Recording(Cars(cast, dict(place or {})), seconds, severity)
