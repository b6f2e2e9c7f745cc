"""What a broken sensor makes of a signal's values: the same code for recorded frames, simulated frames and ticks.

Every fault sees all samples of its signal in order, with the time since its onset; it changes those from 0 to `for_s` and remembers what
it needs of those before.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Drift", "Dropout", "Noise", "Offset", "Stuck", "Timed", "ValueFault", "Values"]

Values = NDArray[np.float64]


class ValueFault(Protocol):
    """Changes values over time. elapsed_s: (m,) since the onset, negative before it. value: (m,) physical, NaN = no value."""

    def apply(self, elapsed_s: Values, value: Values) -> Values:
        """(m,) what the signal says now; NaN = no value. Values that are not inside the fault's time are given back as they are."""
        ...


class Timed:
    """A fault that lasts `for_s` seconds from its onset."""

    def __init__(self, for_s: float) -> None:
        self.for_s = for_s

    def inside(self, elapsed_s: Values) -> NDArray[np.bool_]:
        return (elapsed_s >= 0) & (elapsed_s < self.for_s)


class Stuck(Timed):
    """The last value before the onset stays; the first one, where there was none before."""

    def __init__(self, for_s: float) -> None:
        super().__init__(for_s)
        self._last = float("nan")

    def apply(self, elapsed_s: Values, value: Values) -> Values:
        inside, known = self.inside(elapsed_s), ~np.isnan(value)
        before = np.flatnonzero(known & (elapsed_s < 0))
        if len(before):
            self._last = float(value[before[-1]])
        elif np.isnan(self._last) and (inside & known).any():
            self._last = float(value[inside & known][0])
        return np.where(inside, self._last, value)


class Drift(Timed):
    """The value moves away from the true one by `rate` a second."""

    def __init__(self, for_s: float, rate: float) -> None:
        super().__init__(for_s)
        self.rate = rate

    def apply(self, elapsed_s: Values, value: Values) -> Values:
        return np.where(self.inside(elapsed_s), value + self.rate * elapsed_s, value)


class Noise(Timed):
    """White noise of standard deviation `deviation` is added."""

    def __init__(self, for_s: float, deviation: float, rng: np.random.Generator) -> None:
        super().__init__(for_s)
        self.deviation, self._rng = deviation, rng

    def apply(self, elapsed_s: Values, value: Values) -> Values:
        inside, changed = self.inside(elapsed_s), value.copy()
        changed[inside] += self.deviation * self._rng.standard_normal(int(np.count_nonzero(inside)))
        return changed


class Offset(Timed):
    """The value is off by `amount`."""

    def __init__(self, for_s: float, amount: float) -> None:
        super().__init__(for_s)
        self.amount = amount

    def apply(self, elapsed_s: Values, value: Values) -> Values:
        return np.where(self.inside(elapsed_s), value + self.amount, value)


class Dropout(Timed):
    """A loose contact: gaps of `gap_s` on average, which together take `share` of the time; lengths are exponential."""

    def __init__(self, for_s: float, share: float, gap_s: float, rng: np.random.Generator) -> None:
        super().__init__(for_s)
        self.share, self.gap_s, self._rng = share, gap_s, rng
        self._edges = [0.0]  # begin of a gap, its end, begin of the next ...

    def apply(self, elapsed_s: Values, value: Values) -> Values:
        inside = self.inside(elapsed_s)
        if self.share >= 1 or not inside.any():
            return np.where(inside, np.nan, value)
        latest = float(elapsed_s[inside].max())
        whole_s = self.gap_s * (1 - self.share) / self.share
        while self._edges[-1] <= latest:
            mean = self.gap_s if len(self._edges) % 2 else whole_s
            self._edges.append(self._edges[-1] + float(self._rng.exponential(mean)))
        lost = np.searchsorted(np.array(self._edges), elapsed_s, side="right") % 2 == 1
        return np.where(inside & lost, np.nan, value)
