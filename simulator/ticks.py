"""Ticks: the signals of many vehicles once a second, with noise, as their telematics would decode them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from dbc.schema import Schema
from simulator.individual import Individuals
from simulator.sheet import Context
from simulator.signals import Signals, flashing
from simulator.state import Array, State

__all__ = ["BUS_COLUMNS", "Model", "Ticks"]

BUS_COLUMNS = ("bus.drive", "bus.body", "bus.energy")  # of the state, in the order of the schema's channels
BLOCK_ROWS = 64  # that are worked on while they are in the cache
POOL = 1 << 21  # standard normal numbers
NOISE = 2  # purpose of random numbers; `simulator.frames` has 0 and 1


class Model(Protocol):
    """What moves: n vehicles, at one second a step (`simulator.cars.Cars`)."""

    @property
    def state(self) -> State: ...
    @property
    def who(self) -> Individuals: ...
    def step(self, dt_s: float = 1.0) -> None: ...


class Ticks:
    """One tick of all vehicles after the other. The same model and seed give the same values.

    Noise is white and normal. Drawing it anew for each value would take a third of the time, so it is taken from a pool of two million
    numbers: at each tick each signal begins at a place of its own, drawn by (seed, second), and one number after the other goes to one
    vehicle after the other. A vehicle's truth does not depend on who else is simulated; its noise does.
    """

    def __init__(self, model: Model, schema: Schema, start_ns: int, seed: Sequence[int]) -> None:
        """start_ns: UTC at which the model's time is 0. seed: what noise is drawn by."""
        self.model, self.schema = model, schema
        self.seconds = 0
        self._seed = tuple(seed)
        self._signals = Signals(schema, Context(model.state, model.who, start_ns))
        self._true = self._signals.start()
        traits = self._signals.traits
        self._noisy = np.flatnonzero(traits.deviation > 0)
        self._deviation = (traits.deviation / schema.scale)[self._noisy].astype(np.float32)[:, None]  # in raw steps
        self._pulses = np.flatnonzero(traits.pulses[self._noisy])
        self._flashing = np.flatnonzero(traits.flashing)
        pool = np.random.default_rng((*seed, NOISE)).standard_normal(POOL, np.float32)
        self._pool = np.lib.stride_tricks.sliding_window_view(pool, model.state.vehicles)
        scale, offset = schema.scale[:, None], schema.offset[:, None]
        self._rows = []
        for first in range(0, len(schema), BLOCK_ROWS):
            rows = slice(first, first + BLOCK_ROWS)
            noise = slice(*np.searchsorted(self._noisy, [first, first + BLOCK_ROWS]).tolist())
            moved = bool(schema.offset[rows].any())
            self._rows.append((rows, noise, self._noisy[noise] - first, offset[rows] if moved else None))
        self._scale, self._steps = scale, 1 / scale
        self._lowest, self._highest = traits.lowest[:, None], traits.highest[:, None]

    @property
    def names(self) -> tuple[str, ...]:
        return self.schema.names

    @property
    def true(self) -> Array:
        """(signals, n) of the last tick, without noise and not rounded; overwritten by the next one."""
        return self._true

    def next(self, k: int = 1, out: Array | None = None) -> Array:
        """The next k ticks: (k, signals, n) float64, physical, in the steps that the DBC's integers have.

        NaN where the signal's bus is asleep. Counters, checksums and multiplexers are 0. out: filled and returned where it is given.
        """
        values = np.empty((k, len(self.schema), self.model.state.vehicles)) if out is None else out
        for number in range(k):
            self.model.step(1.0)
            self.seconds += 1
            self._signals.write(self._true)
            self._measure(values[number])
        return values

    def _measure(self, out: Array) -> None:
        """Noise, raw steps, limits, sleep."""
        state = self.model.state
        starts = np.random.default_rng((*self._seed, NOISE, self.seconds)).integers(0, len(self._pool), len(self._noisy))
        noise = self._pool[starts]
        noise *= self._deviation
        noise[self._pulses] *= self._true[self._noisy[self._pulses]] > 0
        for rows, of_noise, noisy, offset in self._rows:
            part = out[rows]
            if offset is None:
                np.multiply(self._true[rows], self._steps[rows], out=part)
            else:
                np.subtract(self._true[rows], offset, out=part)
                part *= self._steps[rows]
            if len(noisy):
                part[noisy] += noise[of_noise]
            np.rint(part, out=part)
            np.clip(part, self._lowest[rows], self._highest[rows], out=part)
            part *= self._scale[rows]
            if offset is not None:
                part += offset
        out[self._flashing] *= flashing(state["time_s"])
        for channel, column in enumerate(BUS_COLUMNS[: len(self.schema.channels)]):
            asleep = state[column] < 1
            if asleep.any():
                out[np.ix_(np.flatnonzero(self.schema.channel == channel), asleep)] = np.nan
