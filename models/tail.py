"""How often a healthy drive will reach a threshold that few or none of the calibration drives reached: peaks over a threshold.

Above a high place the excesses of any law follow a generalised Pareto law (Pickands 1975, Ann. Statist. 3; Coles 2001, chapter 4). Its
shape is what decides far out, and 50 excesses hardly show it, so no single shape is taken: all of them are, each as likely as the excesses
make it (Bayes, on a grid). The chance of the next drive is the mean over them, and the bound is their 95 % quantile: what is not known of
the tail counts against the promise.

Two limits keep it honest. Drives of one vehicle are alike, so they count for fewer (Kish's design effect). And nothing is promised beyond a
tenth of what counting alone shows: a kind of drive that comes once in ten thousand is in no tail that five hundred drives have.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST_DRIVES", "Chance", "Tail", "counted", "effective_drives", "fit_tail"]

LEAST_DRIVES = 500
"""Fewer drives do not show a tail."""
EXCESSES = 50
"""The least that a law is fitted to."""
SHARE = 0.05
"""Of the drives, where that is more: their highest scores are the tail."""
BEYOND = 10.0
"""Times what counting shows: the most that a tail is believed."""
LEVEL = 0.95
SHAPE_MEAN, SHAPE_SPREAD = 0.1, 0.25
"""Of the shapes, before any data: squared, averaged and maximised noise lies between an exponential tail and a slightly heavier one."""
SHAPES = np.linspace(-0.6, 1.0, 81)
SCALES = np.exp(np.linspace(-1.5, 1.5, 81))
"""Times the mean excess."""
FEW_VEHICLES = 20
_SHARE_QUANTILES = 21


@dataclass(frozen=True)
class Chance:
    """That a healthy drive reaches a threshold. expected: of the next drive; upper: 95 % sure that it is no more."""

    expected: float
    upper: float


@dataclass(frozen=True)
class Tail:
    """The scores over `over`. shape, scale (g,): generalised Pareto laws; weight (g,): how likely each is, sums to 1.

    drives: that the fit counts as independent. over_count: of them, those over `over`.
    """

    over: float
    drives: float
    over_count: float
    shape: NDArray[np.float64]
    scale: NDArray[np.float64]
    weight: NDArray[np.float64]

    def chance(self, score: float) -> Chance:
        """Of reaching `score`, which is not under `over`; no less than a tenth of what counting shows."""
        far = survival(score - self.over, self.shape, self.scale)
        expected = (self.over_count + 0.5) / (self.drives + 1) * float(far @ self.weight)
        shares = _beta_quantiles(self.over_count + 0.5, self.drives - self.over_count + 0.5)
        every = (far[:, None] * shares[None, :]).ravel()
        likely = np.repeat(self.weight / len(shares), len(shares))
        order = np.argsort(every)
        place = int(np.searchsorted(np.cumsum(likely[order]), LEVEL))
        least = counted(self.drives)
        return Chance(
            max(expected, least.expected / BEYOND), max(float(every[order[min(place, len(order) - 1)]]), expected, least.upper / BEYOND)
        )

    def threshold(self, chance: float) -> float:
        """The score that a healthy drive reaches with this chance, by the laws alone, however far out that is."""
        low, high = self.over, self.over + float(self.scale.max())
        rate = (self.over_count + 0.5) / (self.drives + 1)

        def expected(score: float) -> float:
            return rate * float(survival(score - self.over, self.shape, self.scale) @ self.weight)

        while expected(high) > chance and high < 1e9 * (1 + abs(self.over)):
            high = self.over + 2 * (high - self.over)
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if expected(middle) > chance else (low, middle)
        return high

    @property
    def typical(self) -> tuple[float, float]:
        """Mean shape and scale, to draw."""
        return float(self.shape @ self.weight), float(self.scale @ self.weight)


def counted(drives: float) -> Chance:
    """Of reaching a score that none of so many independent drives reached, whatever the law: the next highest is any of them.

    The chance over the highest of n has the law Beta(1, n): its mean, and its 95 % quantile.
    """
    return Chance(1 / (drives + 1), float(-np.expm1(np.log(1 - LEVEL) / drives)))


def effective_drives(highest: NDArray[np.float64], vehicle: NDArray[np.int64]) -> float:
    """How many independent drives these (n,), of vehicles (n,), are worth: n over the design effect (Kish 1965) on being a highest tenth.

    Of fewer than 20 vehicles, what they differ by is not seen: as many as there are vehicles.
    """
    names, of = np.unique(vehicle, return_inverse=True)
    count = len(highest)
    if len(names) == count:
        return float(count)
    if len(names) < FEW_VEHICLES:
        return float(len(names))
    over = (highest > np.quantile(highest, 0.9)).astype(np.float64)
    share = float(over.mean())
    if share == 0:
        return float(len(names))
    each, sizes = np.bincount(of, over), np.bincount(of)
    effect = float(((each - share * sizes) ** 2).sum()) * len(names) / (len(names) - 1) / (count * share * (1 - share))
    return float(count / min(max(effect, 1.0), count / len(names)))


def fit_tail(highest: NDArray[np.float64], drives: float) -> Tail | None:
    """The tail of healthy drives' highest scores (n,), which are worth `drives` independent ones; None: too few, or all alike."""
    count = len(highest)
    if drives < LEAST_DRIVES:
        return None
    most = max(EXCESSES, round(SHARE * count))
    ordered = np.sort(highest)
    over = float(ordered[-most - 1])
    excess = ordered[ordered > over] - over
    if len(excess) < EXCESSES / 2:
        return None
    worth = drives / count
    shape, scale = (one.ravel() for one in np.meshgrid(SHAPES, SCALES * float(excess.mean()), indexing="ij"))
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = 1 + shape[:, None] * excess[None, :] / scale[:, None]
        steep = np.where(np.abs(shape) < 1e-9, 1e-9, shape)
        logs = -(1 + 1 / steep[:, None]) * np.log1p(steep[:, None] * excess[None, :] / scale[:, None])
        likely = np.where((inside > 0).all(axis=1), logs.sum(axis=1) - len(excess) * np.log(scale), -np.inf)
    likely = worth * likely - ((shape - SHAPE_MEAN) / SHAPE_SPREAD) ** 2 / 2
    weight = np.exp(likely - likely.max())
    keep = weight > 1e-9
    weight = weight[keep] / weight[keep].sum()
    return Tail(over, drives, len(excess) * worth, steep[keep], scale[keep], weight)


def survival(excess: float | NDArray[np.float64], shape: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """(g,) chance that an excess is over this one, by each law; 0 beyond the end of one that has an end."""
    inside = np.maximum(1 + shape * np.maximum(excess, 0.0) / scale, 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray(np.where(inside > 0, np.exp(-np.log(inside) / shape), 0.0), np.float64)


def _beta_quantiles(a: float, b: float) -> NDArray[np.float64]:
    """Of the law Beta(a, b) at evenly spaced middles, by its density on a fine grid."""
    mean, spread = a / (a + b), np.sqrt(a * b / (a + b) ** 2 / (a + b + 1))
    grid = np.linspace(max(1e-12, mean - 8 * spread), min(1 - 1e-12, mean + 12 * spread), 2001)
    logs = (a - 1) * np.log(grid) + (b - 1) * np.log1p(-grid)
    mass = np.cumsum(np.exp(logs - logs.max()))
    at = (np.arange(_SHARE_QUANTILES) + 0.5) / _SHARE_QUANTILES
    return np.asarray(grid[np.searchsorted(mass / mass[-1], at)], np.float64)
