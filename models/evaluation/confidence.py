"""Confidence intervals of what an evaluation counts.

Exact ones where a count is small or zero, which is where products promise most: Clopper and Pearson (1934, Biometrika 26) of a share,
Garwood (1936, Biometrika 28) of a rate. They take each trial for independent. Faults and false findings of one vehicle are not: one odd
car makes many. So where several counts come from the same drive, drives are drawn anew with replacement, whole (the cluster bootstrap:
Davison and Hinkley 1997, section 3.8; Field and Welsh 2007, J. R. Statist. Soc. B 69), and the wider of the two intervals counts.
A bootstrap alone would give a detector without a false finding the interval [0, 0].
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVEL", "Figure", "binomial", "bootstrap", "poisson", "quantile", "rate", "share", "statistic"]

LEVEL = 0.95
RESAMPLES = 2000
"""Of the bootstrap: its own noise in a 95 % bound is then a fiftieth of the interval's width."""
SEED = 20260101
_HALVINGS = 80

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its two-sided 95 % confidence interval.

    value: None where there is nothing to take it from. low, high: None where the data allow no interval (one drive alone, say).
    of: the trials, drives or events behind it. method: how the interval was made.
    """

    value: float | None
    low: float | None
    high: float | None
    of: int
    method: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"value": self.value, "low": self.low, "high": self.high, "of": self.of, "method": self.method}


def binomial(successes: int, trials: int, level: float = LEVEL) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share; [0, 1] without trials."""
    if not trials:
        return 0.0, 1.0
    tail = (1 - level) / 2
    logs = _log_factorials(trials)
    counts = np.arange(trials + 1)
    ways = logs[trials] - logs - logs[::-1]

    def at_least(p: float) -> float:
        return float(np.exp(ways[successes:] + counts[successes:] * np.log(p) + (trials - counts[successes:]) * np.log1p(-p)).sum())

    def at_most(p: float) -> float:
        some = slice(0, successes + 1)
        return float(np.exp(ways[some] + counts[some] * np.log(p) + (trials - counts[some]) * np.log1p(-p)).sum())

    low = 0.0 if successes == 0 else _root(lambda p: at_least(p) - tail, 0.0, 1.0)
    high = 1.0 if successes == trials else _root(lambda p: tail - at_most(p), 0.0, 1.0)
    return low, high


def poisson(count: int, exposure: float, level: float = LEVEL) -> tuple[float, float]:
    """Garwood's interval of the rate of events of which `count` were seen in `exposure`, in events per unit of exposure."""
    if exposure <= 0:
        return 0.0, math.inf
    tail = (1 - level) / 2
    counts = np.arange(count + 1)
    logs = _log_factorials(count)

    def at_most(mean: float, most: int) -> float:
        some = slice(0, most + 1)
        return float(np.exp(counts[some] * np.log(mean) - mean - logs[some]).sum())

    largest = count + 20 * math.sqrt(count + 1) + 20
    low = 0.0 if count == 0 else _root(lambda mean: (1 - at_most(mean, count - 1)) - tail, 0.0, largest)
    high = _root(lambda mean: tail - at_most(mean, count), 0.0, largest)
    return low / exposure, high / exposure


def bootstrap(counts: NDArray[np.float64], of: Statistic, level: float = LEVEL) -> tuple[float, float] | None:
    """Percentile interval of a statistic of sums over drives, drives drawn anew with replacement.

    counts: (g, k) what each drive counted. of: takes (b, k) sums to (b,) values, NaN where it has none. None with fewer than two drives, or
    where half of the draws have no value. The same counts give the same interval.
    """
    if len(counts) < 2:
        return None
    random = np.random.default_rng(SEED)
    drawn = random.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=RESAMPLES).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = of(drawn @ counts)
    values = values[np.isfinite(values)]
    if len(values) < RESAMPLES / 2:
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def share(successes: NDArray[np.float64], trials: NDArray[np.float64]) -> Figure:
    """A share, from what each drive (g,) counted: exact, or the wider of exact and bootstrap where a drive has more than one trial."""
    hits, total = int(successes.sum()), int(trials.sum())
    if not total:
        return Figure(None, None, None, 0, "no trials")
    low, high = binomial(hits, total)
    if trials.max() <= 1:
        return Figure(hits / total, low, high, total, "Clopper-Pearson")
    drawn = bootstrap(np.stack([successes, trials], axis=1), lambda sums: sums[:, 0] / sums[:, 1])
    return _wider(hits / total, (low, high), drawn, total, "Clopper-Pearson")


def rate(counts: NDArray[np.float64], exposure: NDArray[np.float64]) -> Figure:
    """A rate per unit of exposure, from what each drive (g,) counted in its exposure; `of` is the number of events."""
    seen, whole = int(counts.sum()), float(exposure.sum())
    if whole <= 0:
        return Figure(None, None, None, 0, "no exposure")
    low, high = poisson(seen, whole)
    if counts.max(initial=0) <= 1:
        return Figure(seen / whole, low, high, seen, "Garwood")
    drawn = bootstrap(np.stack([counts, exposure], axis=1), lambda sums: sums[:, 0] / sums[:, 1])
    return _wider(seen / whole, (low, high), drawn, seen, "Garwood")


def statistic(counts: NDArray[np.float64], of: Statistic, proportion: bool = True) -> Figure:
    """Any statistic of sums over drives (g, k), with its bootstrap interval.

    proportion: it lies between 0 and 1. Where every drive gives 0, or every drive 1, drawing them anew shows no doubt: the exact interval
    of none of g drives stands in, which errs to the wide side (a drive that is not all 0 need not be all 1).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(of(counts.sum(axis=0, keepdims=True))[0]) if len(counts) else np.nan
    if not np.isfinite(value):
        return Figure(None, None, None, len(counts), "nothing to take it from")
    drawn = bootstrap(counts, of)
    if drawn is None:
        return Figure(value, None, None, len(counts), "too few drives for an interval")
    if proportion and drawn[0] == drawn[1] and value in (0.0, 1.0):
        return Figure(value, *binomial(round(value * len(counts)), len(counts)), len(counts), "Clopper-Pearson of drives: all are alike")
    return Figure(value, drawn[0], drawn[1], len(counts), "bootstrap over drives")


def quantile(values: NDArray[np.float64], at: float) -> Figure:
    """A quantile of (n,) independent values; interval by order statistics (Conover 1999, section 3.2), None where n does not reach it."""
    if not len(values):
        return Figure(None, None, None, 0, "no values")
    ordered = np.sort(values)
    count = len(ordered)
    logs = _log_factorials(count)
    below = np.arange(count + 1)
    chance = np.cumsum(np.exp(logs[count] - logs - logs[::-1] + below * np.log(at) + (count - below) * np.log1p(-at)))
    tail = (1 - LEVEL) / 2
    first = int(np.searchsorted(chance, tail, side="right"))  # P(at most first - 1 values lie under the quantile) <= tail
    last = int(np.searchsorted(chance, 1 - tail))  # P(at most last lie under it) >= 1 - tail
    low = float(ordered[first - 1]) if first >= 1 else None
    high = float(ordered[last]) if last < count else None
    return Figure(float(np.quantile(ordered, at)), low, high, count, "order statistics")


def _wider(value: float, exact: tuple[float, float], drawn: tuple[float, float] | None, of: int, name: str) -> Figure:
    if drawn is None:
        return Figure(value, *exact, of, f"{name}; one drive alone says nothing of others")
    return Figure(value, min(exact[0], drawn[0]), max(exact[1], drawn[1]), of, f"wider of {name} and bootstrap over drives")


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function crosses zero."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if rising(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _log_factorials(most: int) -> NDArray[np.float64]:
    """(most + 1,) log n!"""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, most + 1, dtype=np.float64)))])
