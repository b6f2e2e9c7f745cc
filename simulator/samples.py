"""Instants of vehicles that run beside each other, collected until it pays to make signals of them as if each were a vehicle."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dbc.schema import Schema
from simulator.individual import Individuals
from simulator.state import State
from simulator.ticks import Model, Ticks

__all__ = ["Samples"]

Numbers = NDArray[np.intp]


class _Whose:
    """Stands for `Individuals`: of each instant its vehicle's. What nobody asks for is not gathered."""

    def __init__(self, of: Individuals, capacity: int) -> None:
        self.of, self._lanes = of, np.zeros(capacity, np.intp)
        self.vehicles = capacity
        self.vin = of.vin[:1] * capacity  # constant; see `Ticks.renew`
        self._own = set(vars(self))

    def take(self, lanes: Numbers) -> None:
        self._lanes[:] = lanes
        for name in set(vars(self)) - self._own - {"_own"}:
            delattr(self, name)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.of, name)
        if isinstance(value, np.ndarray) and value.ndim:
            # What has a column for each cell or sensor is a view whose transpose is contiguous, as the signals want it.
            value = value[self._lanes] if value.ndim == 1 else value.T[:, self._lanes].T
            setattr(self, name, value)
        return value

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


class _Instants:
    """Stands for `simulator.ticks.Model`: as many vehicles as instants fit."""

    def __init__(self, model: Model, capacity: int) -> None:
        self.state = State(capacity)
        self.state.block[:] = model.state.block[:, :1]  # what is not filled yet is some car too
        self.whose = _Whose(model.who, capacity)
        self.who = cast(Individuals, self.whose)

    def step(self, dt_s: float = 1.0) -> None:
        raise NotImplementedError("instants do not move")


class Samples:
    """Signals of some of the model's vehicles at some instants, with noise, in raw steps: `add` them, `read` when it is full.

    One call for thousands of instants costs a tenth of one call for every second of every vehicle, most of which nobody asked for.
    """

    def __init__(self, model: Model, schema: Schema, start_ns: int, seed: tuple[int, ...], capacity: int) -> None:
        self.model, self.capacity = model, capacity
        self._made_of = (schema, start_ns, seed, np.float32)
        self.filled = 0
        self.lane = np.zeros(capacity, np.intp)
        self.time_s = np.zeros(capacity)
        self._instants = _Instants(model, capacity)
        self._lanes = Ticks(model, *self._made_of)
        self._ticks = Ticks(self._instants, *self._made_of)
        self._values = np.zeros((len(schema), capacity), np.float32)

    def go_on(self, model: Model) -> None:
        """With these vehicles. What was added must have been read."""
        self.model = model
        self._lanes = Ticks(model, *self._made_of)
        self._instants.whose.of = model.who
        self.lane[:] = 0

    def room(self, instants: int) -> bool:
        return self.filled + instants <= self.capacity

    def add(self, lanes: Numbers) -> slice:
        """The present instant of these vehicles; where they are in what `read` gives."""
        at = slice(self.filled, self.filled + len(lanes))
        block = self._instants.state.block
        block[:, at] = self.model.state.block[:, lanes]
        self.lane[at] = lanes
        self.time_s[at] = self.model.state["time_s"][lanes]
        self.filled = at.stop
        return at

    def read(self) -> NDArray[np.float32]:
        """(signals, filled) of what was added since the last call; overwritten by the next one."""
        self._instants.whose.take(self.lane)
        self._ticks.renew(self._lanes, self.lane)
        self._ticks.seconds += 1  # numbers the noise
        self._ticks.now(self._values)
        values = self._values[:, : self.filled]
        self.filled = 0
        return values
