"""How well a pack tells forged values from healthy driving: attacks on single signals of drives that nothing was trained on.

An attack's score is the highest of its ticks; it is held against the highest score of healthy stretches of the same length, of other drives
of the same kind (event AUROC). A tick without a judgement scores 0. Intervals are bootstraps that draw whole drives, attacked and healthy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.alarm import Alarm
from models.evaluation.confidence import LEVEL
from models.tables import Drive
from models.vehicle import lasting, spans

__all__ = ["Auroc", "Scorer", "Trial", "auroc", "highest", "rises", "trials"]

LEAST_EFFECT = 1.0
"""Of the signal's mean standard deviation within a drive: an attack that changes less than this at its height has done nothing yet."""
TRIES = 200
DRAWS = 2000

Scorer = Callable[[Drive], NDArray[np.float64]]
Forge = Callable[[str, int, NDArray[np.float64], int, int, np.random.Generator], NDArray[np.float64]]
"""kind, column, the column's (n,) values of the whole drive, first row, rows, dice -> (rows,) forged values."""


@dataclass(frozen=True, slots=True)
class Trial:
    """An attack on one column of one drive, from row `first` on for `rows` ticks."""

    kind: str
    drive: int
    column: int
    first: int
    forged: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Auroc:
    """Probability that an attack's highest score is over a healthy stretch's, with a 95 % interval. events, stretches: how many of each."""

    value: float
    low: float
    high: float
    events: int
    stretches: int


def trials(
    kind: str,
    drives: Sequence[Drive],
    columns: Sequence[int],
    count: int,
    rows: int,
    warm: int,
    forge: Forge,
    dice: np.random.Generator,
) -> list[Trial]:
    """`count` attacks on columns drawn from `columns`, in drives drawn from all of them.

    rows: ticks that each lasts. warm: rows at a drive's begin that are left alone. What changes its signal by less than LEAST_EFFECT is
    drawn again: a car that stands cannot be told to stand.
    """
    spread = np.mean([np.nanstd(drive.values, axis=0) for drive in drives], axis=0)
    found: list[Trial] = []
    for _ in range(count * TRIES):
        if len(found) == count:
            break
        at, column = int(dice.integers(len(drives))), int(dice.choice(columns))
        values = drives[at].values[:, column]
        if len(values) < warm + rows or not spread[column] > 0:
            continue
        first = int(dice.integers(warm, len(values) - rows + 1))
        forged = forge(kind, column, values, first, rows, dice)
        if np.nanmax(np.abs(forged - values[first : first + rows])) >= LEAST_EFFECT * spread[column]:
            found.append(Trial(kind, at, column, first, forged))
    return found


def highest(score: Scorer, drive: Drive, trial: Trial, back: int, rule: Alarm) -> tuple[float, bool]:
    """The highest score of an attack, and whether the alarm rises in it.

    score: (n,) judged scores of a drive, NaN where it has none. back: ticks before the attack that a score looks back on.
    """
    begin, end = max(0, trial.first - back), trial.first + len(trial.forged)
    part = drive.rows(begin, end)
    values = part.values.copy()
    values[trial.first - begin :, trial.column] = trial.forged
    judged = score(Drive(part.source, part.tick_ms, values))
    inside = trial.first - begin
    return float(np.nan_to_num(judged[inside:], nan=0.0).max()), bool((rises(rule, part.tick_ms, judged) >= inside).any())


def rises(rule: Alarm, tick_ms: NDArray[np.int64], score: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows at which the alarm rises. score: (n,) NaN where there is none."""
    valid = np.flatnonzero(np.isfinite(score))
    raised, _ = spans(rule, tick_ms[valid], score[valid], lasting(rule, tick_ms[valid], score[valid]))
    return valid[raised]


def auroc(events: Sequence[tuple[int, float]], healthy: Sequence[tuple[int, float]], seed: int = 0) -> Auroc:
    """events, healthy: drive and highest score of each attack and each healthy stretch."""
    hits, calm = np.array([score for _, score in events]), np.array([score for _, score in healthy])
    of_hit, of_calm = np.array([drive for drive, _ in events]), np.array([drive for drive, _ in healthy])
    wins = _wins(hits, calm)
    dice = np.random.default_rng(seed)
    drives = int(max(of_hit.max(initial=0), of_calm.max(initial=0))) + 1
    drawn = []
    for _ in range(DRAWS):
        times = np.bincount(dice.integers(0, drives, drives), minlength=drives).astype(np.float64)
        left, right = times[of_hit], times[of_calm]
        if left.any() and right.any():
            drawn.append(float(left @ wins @ right / (left.sum() * right.sum())))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Auroc(float(wins.mean()), float(low), float(high), len(hits), len(calm))


def _wins(hits: NDArray[np.float64], calm: NDArray[np.float64]) -> NDArray[np.float64]:
    """(events, stretches) 1 where the attack is higher, a half where both are the same."""
    return np.asarray((hits[:, None] > calm[None, :]) + 0.5 * (hits[:, None] == calm[None, :]), np.float64)
