"""Ticks: the signals of many vehicles once a second, with noise, as their telematics would decode them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dbc.schema import Schema
from simulator.individual import Individuals
from simulator.sheet import Context
from simulator.signals import Signals, flashing
from simulator.state import State

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


@dataclass(frozen=True)
class _Block:
    """Rows that are worked on together."""

    rows: slice
    offset: NDArray[Any] | None  # (rows, 1); None: all are 0
    noise: slice  # of these rows among all that have noise
    noisy: tuple[tuple[slice, slice], ...]  # runs of signals with noise: where in the block, where among the block's that have noise
    quiet: NDArray[np.intp]  # among the block's that have noise: those that are silent while the signal is 0
    quiet_rows: NDArray[np.intp]  # the same, where in the block


class Ticks:
    """One tick of all vehicles after the other. The same model and seed give the same values.

    Noise is white and normal. Drawing it anew for each value would take a third of the time, so it is taken from a pool of two million
    numbers: at each tick each signal begins at a place of its own, drawn by (seed, second), and one number after the other goes to one
    vehicle after the other. A vehicle's truth does not depend on who else is simulated; its noise does.
    """

    def __init__(
        self, model: Model, schema: Schema, start_ns: int, seed: Sequence[int], dtype: DTypeLike = np.float64, noise: float = 1.0
    ) -> None:
        """start_ns: UTC at which the model's time is 0. seed: what noise is drawn by.

        dtype: of the values. float32 takes half the space and two thirds of the time, and keeps every signal to a raw step but the position
        (to a metre). noise: gain of the sensors' noise; 0: the model's own values, not even rounded to raw steps.
        """
        self.model, self.schema, self.dtype = model, schema, np.dtype(dtype)
        self.seconds = 0
        self._seed, self._measured = tuple(seed), noise > 0
        self._signals = Signals(schema, Context(model.state, model.who, start_ns))
        traits = self._signals.traits
        blank = self._signals.start().astype(dtype)
        probe = np.full_like(blank, np.nan)
        self._signals.write(probe)
        self._constant = np.flatnonzero(np.isnan(probe[:, 0]))  # that `write` leaves as they are
        self._constants = blank[self._constant]
        noisy = np.flatnonzero(traits.deviation > 0)
        self._noisy = len(noisy)
        self._deviation = (noise * traits.deviation / schema.scale)[noisy].astype(np.float32)[:, None]  # in raw steps
        self._flashing = np.flatnonzero(traits.flashing)
        pool = np.random.default_rng((*seed, NOISE)).standard_normal(POOL, np.float32)
        self._pool = np.lib.stride_tricks.sliding_window_view(pool, model.state.vehicles)
        self._scale = schema.scale[:, None].astype(dtype)
        self._steps = (1 / schema.scale)[:, None].astype(dtype)
        self._lowest, self._highest = (bound[:, None].astype(dtype) for bound in (traits.lowest, traits.highest))
        self._blocks = [self._block(first, noisy, traits.quiet) for first in range(0, len(schema), BLOCK_ROWS)]

    def _block(self, first: int, noisy: NDArray[np.intp], silent: NDArray[np.bool_]) -> _Block:
        rows = slice(first, min(first + BLOCK_ROWS, len(self.schema)))
        offset = self.schema.offset[rows]
        start, end = begin, _ = np.searchsorted(noisy, [rows.start, rows.stop]).tolist()
        quiet = np.flatnonzero(silent[noisy[start:end]])
        runs = []
        while begin < end:  # of noisy signals one after the other
            last = begin
            while last + 1 < end and noisy[last + 1] == noisy[last] + 1:
                last += 1
            runs.append((slice(int(noisy[begin]) - first, int(noisy[last]) + 1 - first), slice(begin - start, last + 1 - start)))
            begin = last + 1
        zero = offset[:, None].astype(self.dtype) if offset.any() else None
        return _Block(rows, zero, slice(start, end), tuple(runs), quiet, noisy[start:end][quiet] - first)

    @property
    def names(self) -> tuple[str, ...]:
        return self.schema.names

    def next(self, k: int = 1, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The next k ticks: (k, signals, n), physical, in the steps that the DBC's integers have.

        NaN where the signal's bus is asleep. Counters, checksums and multiplexers are 0. out: filled and returned where it is given.
        """
        values = np.empty((k, len(self.schema), self.model.state.vehicles), self.dtype) if out is None else out
        for number in range(k):
            self.model.step(1.0)
            self.seconds += 1
            self.now(values[number])
        return values

    def renew(self, of: Ticks, vehicles: NDArray[np.intp]) -> None:
        """The vehicles are now these ones of another run: what stays the same for a run is theirs."""
        np.take(of._constants, vehicles, axis=1, out=self._constants)

    def now(self, out: NDArray[Any]) -> None:
        """The signals (signals, n) of the model as it is, without moving it."""
        out[self._constant] = self._constants
        self._signals.write(out)
        if self._measured:
            self._measure(out)

    def _measure(self, out: NDArray[Any]) -> None:
        """Noise, raw steps, limits, sleep; in place."""
        state = self.model.state
        starts = np.random.default_rng((*self._seed, NOISE, self.seconds)).integers(0, len(self._pool), self._noisy)
        for block in self._blocks:
            rows, part = block.rows, out[block.rows]
            noise = self._pool[starts[block.noise]]
            noise *= self._deviation[block.noise]
            if len(block.quiet):
                noise[block.quiet] *= part[block.quiet_rows] > 0
            if block.offset is not None:
                part -= block.offset
            part *= self._steps[rows]
            for here, there in block.noisy:
                part[here] += noise[there]
            np.rint(part, out=part)
            np.maximum(part, self._lowest[rows], out=part)  # np.clip takes twice the time
            np.minimum(part, self._highest[rows], out=part)
            part *= self._scale[rows]
            if block.offset is not None:
                part += block.offset
        out[self._flashing] *= flashing(state["time_s"])
        for channel, column in enumerate(BUS_COLUMNS[: len(self.schema.channels)]):
            asleep = state[column] < 1
            if asleep.any():
                out[np.ix_(np.flatnonzero(self.schema.channel == channel), asleep)] = np.nan
