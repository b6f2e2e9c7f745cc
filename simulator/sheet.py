"""The signals of n vehicles at an instant, as an array that the signal functions fill by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbc.schema import Schema
from simulator.individual import Individuals
from simulator.parameters import CarParameters
from simulator.state import Array, State

__all__ = ["Context", "Sheet"]

Rows = slice | NDArray[np.intp]


class Sheet:
    """values: (signals, n) of floats, physical, in the schema's order. `sheet["Message.Signal"] = (n,)` writes a row."""

    def __init__(self, schema: Schema, values: NDArray[Any]) -> None:
        self.row = {name: number for number, name in enumerate(schema.names)}
        self.values = values
        self._blocks: dict[str, Rows] = {}

    def __setitem__(self, name: str, value: NDArray[Any] | float) -> None:
        self.values[self.row[name]] = value

    def __getitem__(self, name: str) -> Array:
        row: Array = self.values[self.row[name]]
        return row

    def rows(self, prefix: str, count: int) -> Rows:
        """Where PREFIX01 .. PREFIXcount are; a slice where they lie one below the other."""
        if prefix not in self._blocks:
            digits = len(str(count))
            at = np.array([self.row[f"{prefix}{number:0{digits}d}"] for number in range(1, count + 1)], np.intp)
            whole = (np.diff(at) == 1).all()
            self._blocks[prefix] = slice(int(at[0]), int(at[-1]) + 1) if whole else at
        return self._blocks[prefix]

    def wheels(self, prefix: str, values: Array) -> None:
        """values: (4, n) front left, front right, rear left, rear right."""
        for wheel, value in zip(("FrontLeft", "FrontRight", "RearLeft", "RearRight"), values, strict=True):
            self[prefix + wheel] = value


@dataclass(frozen=True)
class Context:
    """What the signals are made of: the model's state, the individual cars with their sensors, the car as built, the time."""

    state: State
    who: Individuals
    start_ns: int  # UTC at which the state's time_s is 0
    car: CarParameters = field(default_factory=CarParameters)

    @property
    def slosh(self) -> Array:
        """(n,) percent of a reservoir: its float moves with the slope and the car's acceleration."""
        slosh: Array = 0.5 * self.state["drive.acceleration"] + 20 * self.state["world.gradient"]
        return slosh
