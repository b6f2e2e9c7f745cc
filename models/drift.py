"""What changes around a detector: software, service, and the operating points that it is used at.

- A **recorded change** (another software version, a service) makes a vehicle new to its packs: their baselines of it are learned again.
- **Drift** of the inputs that say how the car is used (a season, another driver, other roads) changes no baseline and no threshold: a
  fault must not be learned away because the weather changed with it. A pack is marked "relearning" until so many healthy drives have shown
  the new ground.

Pure: no clock, no state of its own. Drives with an alarm never enter.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEARN", "RECENT", "Changes", "Drift", "DriftState"]

LEARN = 30
"""Healthy drives that make a reference, as many as make a baseline."""
RECENT = 5
"""Drives in a row, their median, that must lie apart: a single trip into the mountains is no drift."""
SPREADS = 4.0
"""Standard deviations of one drive's mean: of the median of five less than one in a thousand lies so far off."""
LEAST = 0.05
"""Of the trained range; less is not worth a word, however steady an input was."""
JUMP = 0.05
"""Of a countdown's declared range, upward: a service was done. 3,000 km and 100 days in the car that comes with the project."""


@dataclass(frozen=True, slots=True)
class DriftState:
    """learned: healthy drives in the reference; mean, squares: of them (k,), squares the sum of squared deviations.

    recent: (k,) means of the newest drives, RECENT at most. drifted: columns that have drifted, until the new reference is whole.
    """

    learned: int = 0
    mean: tuple[float, ...] = ()
    squares: tuple[float, ...] = ()
    recent: tuple[tuple[float, ...], ...] = ()
    drifted: tuple[int, ...] = ()


@dataclass(frozen=True)
class Drift:
    """The rule for k inputs. span: (k,) widths of their trained ranges."""

    span: NDArray[np.float64]

    def add(self, state: DriftState, mean: NDArray[np.float64]) -> DriftState:
        """Take a healthy drive: mean (k,) of each input over it."""
        if not np.isfinite(mean).all():
            return state
        if state.learned < LEARN:
            learned, before = state.learned + 1, np.array(state.mean or mean)
            now = before + (mean - before) / learned
            squares = np.array(state.squares or np.zeros(len(mean))) + (mean - before) * (mean - now)
            drifted = state.drifted if learned < LEARN else ()
            return DriftState(learned, _floats(now), _floats(squares), (), drifted)
        recent = (*state.recent, _floats(mean))[-RECENT:]
        if len(recent) == RECENT:
            apart = np.abs(np.median(np.array(recent), axis=0) - np.array(state.mean))
            spread = np.sqrt(np.array(state.squares) / (LEARN - 1))
            if columns := np.flatnonzero(apart > np.maximum(SPREADS * spread, LEAST * self.span)).tolist():
                return DriftState(drifted=tuple(columns))
        return DriftState(state.learned, state.mean, state.squares, recent)


@dataclass(frozen=True)
class Changes:
    """Signals that record a change. software: another value is another version. service: countdowns, signal -> declared range."""

    software: tuple[str, ...]
    service: Mapping[str, float]

    def since(self, before: Mapping[str, float], now: Mapping[str, float]) -> str:
        """What has changed between two sets of valid values, in words; "" = nothing. A signal that only one of them has says nothing."""
        for name in self.software:
            if name in before and name in now and before[name] != now[name]:
                return f"software: {name} {before[name]:g} -> {now[name]:g}"
        for name, span in self.service.items():
            if name in before and name in now and now[name] - before[name] > JUMP * span:
                return f"service: {name} {before[name]:g} -> {now[name]:g}"
        return ""


def _floats(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
