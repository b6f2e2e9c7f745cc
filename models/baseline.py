"""A vehicle's own baseline: how far its healthy signals lie from what the fleet would show, learned once and then frozen.

New pumps, sensors and tyres differ from one another by more than a fault in its first days changes them. What a vehicle's first healthy
drives show of that is its baseline, and later drives are judged against it. Each healthy drive gives one mean per signal; the baseline is
their interquartile mean, so that a quarter of odd drives on either side does not move it. It is used from `least` drives on, follows until
there are `most`, and then stays until a recorded service or a change of software.

What this cannot do: a fault that was there from the first drive, is too small to raise the alarm without a baseline, and moves a signal by
less than `bound` is learned as the vehicle's own. `bound` is what healthy vehicles differ by; of a larger fault the part beyond it stays
visible.

Pure: no clock, no state of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["BaselineState", "Baselines", "in_force"]


@dataclass(frozen=True, slots=True)
class BaselineState:
    """Mean offsets (m,) of the healthy drives so far, in the signals' units; `most` of them at most."""

    drives: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Baselines:
    """The rule of a pack. bound: (m,) in the signals' units, the most that is taken for a vehicle's own."""

    least: int
    most: int
    bound: NDArray[np.float64]

    def add(self, state: BaselineState, mean: NDArray[np.float64]) -> BaselineState:
        """Take a healthy drive's mean offsets (m,); nothing changes once the baseline is frozen."""
        if len(state.drives) >= self.most or not np.isfinite(mean).all():
            return state
        return BaselineState((*state.drives, tuple(float(one) for one in mean)))

    def value(self, state: BaselineState) -> NDArray[np.float64] | None:
        """(m,) the baseline in force; None: not learned yet, the fleet's counts."""
        return self.of(np.array(state.drives)) if len(state.drives) >= self.least else None

    def of(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """(m,) the baseline that drives of these mean offsets (n, m) give, n >= 1."""
        cut = len(means) // 4
        middle = np.sort(means, axis=0)[cut : len(means) - cut].mean(axis=0)
        return np.asarray(np.clip(middle, -self.bound, self.bound), np.float64)


def in_force(rule: Baselines, means: NDArray[np.float64], healthy: Sequence[bool] | NDArray[np.bool_]) -> NDArray[np.float64]:
    """(d, m) the baseline in force at each drive of a vehicle, in their order; NaN while there is none.

    means: (d, m) mean offsets of the drives. healthy: (d,) whether each may enter the baseline.
    """
    values = np.full(means.shape, np.nan)
    state, value = BaselineState(), None
    for at, fine in enumerate(healthy):
        if value is not None:
            values[at] = value
        if fine and len(state.drives) < rule.most:
            state = rule.add(state, means[at])
            value = rule.value(state)
    return values
