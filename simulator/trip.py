"""A drive, second by second: the model moves, the frames come out."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dbc.compiler import compile_dbc
from dbc.frames import FrameBlock
from dbc.plan import CompiledDbc
from dbc.vehicles import DBC_FILES
from simulator.errors import ScenarioError
from simulator.frames import FrameMaker
from simulator.old.parameters import CELLS
from simulator.scenario import Scenario, scenario
from simulator.old.signals import Context, Noise
from simulator.old.signals_body import body_signals
from simulator.old.signals_drive import drive_signals
from simulator.old.vehicle import COLUMNS, STEPS_PER_S, Vehicle

__all__ = ["START_NS", "Trip", "drive"]

START_NS = 1_767_600_000_000_000_000  # 2026-01-05 08:00 UTC: of drives whose start nobody gave, so that they are the same each time
LONGEST_S = 7 * 86_400


class Trip:
    """One car's drive. `second` computes the next second; the same seed gives the same frames."""

    def __init__(self, what: Scenario, seed: int, start_ns: int, compiled: CompiledDbc | None = None) -> None:
        if seed < 0:
            raise ScenarioError(f"seed: expected 0 or more, found {seed}")
        self.start_ns = start_ns
        compiled = compiled or compile_dbc(DBC_FILES)
        # One generator for each purpose: a fault must not shift the noise of anything else.
        model, sensors, bus = (np.random.default_rng(part) for part in np.random.SeedSequence(seed).spawn(3))
        self.vehicle = Vehicle(model, what.leak)
        self._sensors = sensors
        self.frames = FrameMaker(compiled, bus)
        self._column = {name: number for number, name in enumerate(self.frames.names)}
        self.seconds = 0
        self._last = self._signals(np.array([self.vehicle.row(self.vehicle)], np.float64))

    def _signals(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, signals) physical values of n steps, in the schema's order; counters, checksums and multiplexers are 0."""
        vehicle, steps = self.vehicle, len(rows)
        context = Context(
            state=dict(zip(COLUMNS, np.ascontiguousarray(rows.T), strict=True)),
            who=vehicle.who,
            car=vehicle.car,
            mass_kg=vehicle.mass_kg,
            noise=Noise(self._sensors, steps),
            cells=self._sensors.standard_normal((steps, CELLS)),
            start_ns=self.start_ns,
        )
        values = np.zeros((steps, len(self._column)))
        for name, value in (drive_signals(context) | body_signals(context)).items():
            values[:, self._column[name]] = value
        return values

    def signals(self) -> NDArray[np.float64]:
        """Move the model by one second. Returns (STEPS_PER_S + 1, signals): from this second's first instant to the next one's."""
        values = np.concatenate([self._last, self._signals(self.vehicle.record(STEPS_PER_S))])
        self._last = values[-1:]
        return values

    def second(self) -> FrameBlock:
        """The frames of the next second."""
        values = self.signals()
        block = self.frames.block(self.seconds, values, self.start_ns + self.seconds * 10**9, time.time_ns())
        self.seconds += 1
        return block


def drive(
    what: Scenario | str = "healthy",
    seed: int = 1,
    duration_s: int = 300,
    start_ns: int = START_NS,
    compiled: CompiledDbc | None = None,
) -> Iterator[FrameBlock]:
    """A drive of `duration_s` simulated seconds, as a block of frames for each; channels can0 (drive bus) and can1 (body bus).

    start_ns: UTC of the first instant. compiled: the vehicle's DBC files where the caller has compiled them already.
    The same scenario, seed and start give the same frames. Raises ScenarioError.
    """
    if not 0 < duration_s <= LONGEST_S:
        raise ScenarioError(f"duration: expected 1 s to 7 days, found {duration_s} s")
    trip = Trip(scenario(what) if isinstance(what, str) else what, seed, start_ns, compiled)
    return (trip.second() for _ in range(int(duration_s)))
