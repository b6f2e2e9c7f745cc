"""From scores of healthy drives that nothing was fitted on to p-values, thresholds and what they promise.

The p-value of a tick is conformal: (1 + healthy ticks that scored at least as high) / (1 + healthy ticks). Ticks of a drive follow one
another, so an alarm's threshold is not taken from ticks: it is taken from each drive's highest *persistent* score, the largest threshold at
which N of M ticks would have raised the alarm in that drive. Those are block maxima, whose tail is a Gumbel law (Coles 2001, chapter 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from models.fit import rounded
from models.manifest import AlarmBudget, Calibration, Persistence, Threshold

__all__ = ["Knots", "highest_persistent", "p_value", "p_value_knots", "thresholds"]

EXACT_TAIL = 1000
"""Highest healthy scores that are kept one by one; below them, groups are kept, so that the graph stays small."""
GROUPS = 500
GUMBEL_DRIVES = 8
"""Fewer maxima than this do not show a tail."""
FEW_MARGIN = 2.0
HEAVY_MARGIN = 1.2
"""Over the highest of all, where that lies beyond the Gumbel law's own tail."""
CLEAR = 0.6
"""Of the raising threshold: clears it."""
EULER = 0.5772156649015329


@dataclass(frozen=True)
class Knots:
    """Healthy scores, ascending, each for `weight` ticks. A group stands at its highest score, so p-values err to the large side."""

    score: NDArray[np.float64]
    weight: NDArray[np.float64]

    @property
    def ticks(self) -> int:
        """All ticks that the knots stand for."""
        return int(self.weight.sum())


def p_value_knots(scores: NDArray[np.float64]) -> Knots:
    """Condense healthy scores (n,) for the graph."""
    ordered = rounded(np.sort(scores))
    bulk, tail = ordered[:-EXACT_TAIL], ordered[-EXACT_TAIL:]
    ends = np.unique(np.linspace(0, len(bulk), GROUPS + 1).round().astype(np.int64))[1:] if len(bulk) else np.zeros(0, np.int64)
    return Knots(
        np.concatenate([bulk[ends - 1], tail]),
        np.concatenate([np.diff(ends, prepend=0).astype(np.float64), np.ones(len(tail))]),
    )


def p_value(knots: Knots, score: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) p-values of scores (n,), as the graph gives them."""
    return np.asarray((1 + (knots.score[None, :] >= score[:, None]) @ knots.weight) / (1 + knots.ticks), np.float64)


def highest_persistent(score: NDArray[np.float64], persistence: Persistence) -> float:
    """The largest threshold at which these scored ticks (n,) of one drive would have raised an alarm; 0 if there are too few of them."""
    judged = score[persistence.warmup_ticks :]
    if len(judged) < persistence.need:
        return 0.0
    padded = np.concatenate([np.full(persistence.of - 1, -np.inf), judged])
    windows = sliding_window_view(padded, persistence.of)
    return float(np.partition(windows, persistence.of - persistence.need, axis=1)[:, persistence.of - persistence.need].max())


def thresholds(
    drives: Sequence[NDArray[np.float64]], persistence: Persistence, budget: float, least: float = 1e-6
) -> tuple[Threshold, Calibration, AlarmBudget]:
    """Thresholds that a healthy drive crosses with probability `budget`, and never under what a calibration drive reached.

    drives: the scored, known ticks of each calibration drive. least: raises nothing, be healthy drives never so still.
    """
    highest = np.array([highest_persistent(score, persistence) for score in drives])
    reached = float(highest.max())
    if len(highest) >= GUMBEL_DRIVES:
        spread = float(highest.std(ddof=1)) * np.sqrt(6) / np.pi
        tail = float(highest.mean()) - EULER * spread - spread * float(np.log(-np.log1p(-budget)))
        raise_at, kind = tail if tail > reached else HEAVY_MARGIN * reached, "gumbel"
    else:
        raise_at, kind = FEW_MARGIN * reached, "highest"
    raise_at = float(rounded(np.array([max(raise_at, least)]))[0])
    ticks = sum(map(len, drives))
    return (
        Threshold(raise_at=raise_at, clear_below=float(rounded(np.array([CLEAR * raise_at]))[0])),
        Calibration(drives=len(drives), ticks=ticks, highest=float(rounded(np.array([reached]))[0])),
        AlarmBudget(per_drive=budget, tail="gumbel" if kind == "gumbel" else "highest"),
    )
