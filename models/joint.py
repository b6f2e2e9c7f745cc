"""Many signals at once: what each one ought to be by all the others and by its own recent past.

Each monitored signal is predicted by ridge regression from every other input: its value now, the means of the monitored ones over the
last `spans` ticks, and the products of some; never from anything that it is part of itself, so that a forged value does not vouch for
itself. All regressions come from one inverse: with P the inverse of the features' covariance and B the features that a signal is part of,
what remains of the signal given all features outside B is the first entry of P_BB^-1 P_B f (Lauritzen 1996, Graphical Models, section
5.1.3).

What remains is averaged over boxes of ticks and judged in one of four ways:

apart  tests of the averages: the level over 3 and over 30 ticks, and how far the newest averages have moved from those just before and a
       minute before. A forged value leaves what the others say (level) or leaves it suddenly (moved), whatever its vehicle's own
       tolerance is.
level  the level over 30 ticks alone: a sensor that is off.
noise  the mean square of its steps from tick to tick: a noisy sensor.
still  of the signal itself, how little it moves from tick to tick, against the least that it ever does: a sensor that is stuck.

    score = max over signals and tests of (test / limit)²

A limit is what the test reaches in a healthy two minutes about once in a thousand, by an exponential tail of the two minutes' highest
values, and never far under the highest of all, so that signals that are hard to predict, or that jump once a week, do not drown the others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.fit import MARGIN, STEP_MS, Scored, rounded
from models.tables import Drive

__all__ = ["JUDGES", "Joint", "JudgeName", "fit_joint", "remains", "score_joint", "strengths"]

JudgeName = Literal["apart", "level", "noise", "still"]
Box = tuple[int, int]  # how many ticks back its newest one is, and how many it has
JUDGES: dict[JudgeName, tuple[Box, ...]] = {
    "apart": ((0, 3), (0, 30), (0, 1), (1, 20), (0, 10), (10, 30), (60, 30)),
    "level": ((0, 30),),
    "noise": tuple((lag, 1) for lag in range(20)),
    "still": tuple((lag, 1) for lag in range(60)),
}
"""The boxes of each; the first says what is expected now."""
TESTS: dict[JudgeName, NDArray[np.float64]] = {
    "apart": np.array(
        [
            [1, 0, 0, 0, 0, 0, 0],
            [0, 1, 0, 0, 0, 0, 0],
            [0, 0, 1, -1, 0, 0, 0],
            [0, 0, 0, 0, 1, -1, 0],
            [0, 0, 0, 0, 1, 0, -1],
        ],
        np.float64,
    ),
    "level": np.ones((1, 1)),
}
"""(tests, boxes) of those that judge averages."""
SPANS = (10, 60)
PRODUCTS = 18
"""Signals of which every pair is multiplied: those that together explain most of all others."""
CLIP = 20.0
"""Standard deviations; a forged value may be anything, and must not blind the rest."""
RIDGE = 1e-4
LEAST_DEVIATION = 1e-2
"""Of a feature, in spreads: what hardly ever moved where it was fitted on says nothing of what it means when it does."""
STRIDE = 2
"""Every second tick is fitted on: neighbours say the same."""
BLOCK = 120
TAIL_FROM = 0.95
TAIL = 4.0
"""Mean excesses over the quantile TAIL_FROM: with an exponential tail 0.05 e^-4, once in a thousand blocks."""
HIGHEST = 0.8
"""Of the highest in training: what jumps once a week has no tail to fit."""
LEAST_LIMIT = 1e-3
"""Of a signal's spread: what is exactly the same in training need not be so on every bus."""
STILL_SHARE = 0.01
STILL_LEAST = 0.2
"""Of the mean step: a signal that has ever stood as still as this cannot be called stuck."""
STILL_TINY = 1e-9
PIECE = 20_000


@dataclass(frozen=True)
class Joint:
    """Every constant of the graph. k inputs, m monitored, p products, f = k + len(spans) m + p features, b boxes, t tests."""

    judge: JudgeName
    monitored: NDArray[np.int64]
    """(m,) input columns"""
    centre: NDArray[np.float64]
    """(k,) and `spread`, to scale the inputs"""
    spread: NDArray[np.float64]
    pairs: NDArray[np.int64]
    """(p, 2) input columns whose product is a feature"""
    spans: tuple[int, ...]
    weights: NDArray[np.float64]
    """(f, m) of what remains, every value a float32; (0, m) of the judge still"""
    bias: NDArray[np.float64]
    """(m,)"""
    limits: NDArray[np.float64]
    """(t, m); of noise and still (1, m)"""
    low: NDArray[np.float64]
    """(k,) and `high`: outside, the answer is "not known here" """
    high: NDArray[np.float64]
    explained: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """(m,) share of the variance that the others explain"""

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Over which what remains is averaged."""
        return JUDGES[self.judge]

    @property
    def back(self) -> int:
        """Ticks before a tick that its features look back on."""
        return max(self.spans, default=0)

    @property
    def window(self) -> int:
        """Ticks that a score looks back on."""
        return self.back + max(lag + size for lag, size in self.boxes)


def fit_joint(
    drives: Sequence[Drive], monitored: Sequence[int], judge: JudgeName, known_by: Sequence[int], spans: tuple[int, ...] = SPANS
) -> Joint:
    """Fit on healthy drives of k columns. known_by: columns whose trained range decides what is known.

    Raises ValueError where no drive has a whole window.
    """
    columns = drives[0].values.shape[1]
    everything = np.concatenate([drive.values for drive in drives])
    everything = everything[np.isfinite(everything).all(axis=1)]
    low, high = np.full(columns, -np.inf), np.full(columns, np.inf)
    least, most = everything.min(axis=0), everything.max(axis=0)
    margin = MARGIN * (most - least)
    low[list(known_by)], high[list(known_by)] = (least - margin)[list(known_by)], (most + margin)[list(known_by)]
    spread = everything.std(axis=0)
    m = np.array(monitored, np.int64)
    base = Joint(
        judge=judge,
        monitored=m,
        centre=rounded(everything.mean(axis=0)),
        spread=rounded(np.where(spread > 0, spread, 1.0)),
        pairs=np.zeros((0, 2), np.int64),
        spans=spans if judge in TESTS else (),
        weights=np.zeros((0, len(m))),
        bias=np.zeros(len(m)),
        limits=np.ones((len(TESTS.get(judge, [1])), len(m))),
        low=np.where(np.isfinite(low), rounded(low), low),
        high=np.where(np.isfinite(high), rounded(high), high),
    )
    if judge == "still":
        return _with(base, limits=rounded(_still_limits(base, drives)))
    with np.errstate(invalid="ignore"):  # of what stood still there
        correlation = np.corrcoef(everything[:: 4 * STRIDE, m].T)
    drivers = _drivers(correlation, min(PRODUCTS, len(m)))
    pairs = np.array([(m[i], m[j]) for at, i in enumerate(drivers) for j in drivers[at:]], np.int64).reshape(-1, 2)
    base = _with(base, pairs=pairs)
    weights, bias, explained = _regress(base, drives)
    base = _with(base, weights=weights, bias=bias, explained=explained)
    return _with(base, limits=rounded(_limits(base, drives)))


def score_joint(joint: Joint, drive: Drive) -> Scored:
    """The reference that the ONNX graph must agree with: score and `known` of each tick of a drive."""
    ticks = len(drive.tick_ms)
    score, known = np.full(ticks, np.nan), np.zeros(ticks, bool)
    inside: NDArray[np.bool_] = np.all((drive.values >= joint.low) & (drive.values <= joint.high), axis=1)
    for rows, part in strengths(joint, drive):
        score[rows] = part.max(axis=1)
        total = np.concatenate([[0], np.cumsum(inside)])
        known[rows] = total[rows + 1] - total[rows + 1 - joint.window] == joint.window
    return Scored(score, known)


def strengths(joint: Joint, drive: Drive) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Piece by piece: the ticks (n,) of a drive that have a whole window, and (n, m) the score of each monitored signal by itself."""
    for rows, tests in _tests(joint, drive):
        if joint.judge == "still":
            yield rows, np.asarray(joint.limits[0] / (tests[0] + STILL_SHARE * joint.limits[0] + STILL_TINY), np.float64)
        elif joint.judge == "noise":
            yield rows, np.asarray(tests[0] / joint.limits[0] ** 2, np.float64)
        else:
            yield rows, np.asarray(((tests / joint.limits[:, None, :]) ** 2).max(axis=0), np.float64)


def remains(joint: Joint, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n - back, m) what remains of the monitored signals, in spreads, from row `back` on of rows (n, k) that follow one another."""
    scaled = np.clip((values - joint.centre) / joint.spread, -CLIP, CLIP)
    if not len(joint.weights):
        return scaled[joint.back :, joint.monitored]
    return np.asarray(_features(joint, scaled) @ joint.weights - joint.bias, np.float64)


def _tests(joint: Joint, drive: Drive) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Ticks (n,) and the tests there: (t, n, m) averages told apart; (1, n, m) mean square or mean size of the steps."""
    size = joint.window
    for first, last in _runs(drive):
        for begin in range(first, last - size + 1, PIECE):
            end = min(begin + PIECE + size - 1, last)
            left = remains(joint, drive.values[begin:end])
            rows = np.arange(begin + size - 1, end)
            at = np.arange(len(left) - len(rows), len(left))
            total = np.zeros((len(left) + 1, left.shape[1]))
            np.cumsum(left, axis=0, out=total[1:])
            if joint.judge in TESTS:
                means = np.stack([(total[at + 1 - lag] - total[at + 1 - lag - length]) / length for lag, length in joint.boxes])
                yield rows, np.einsum("tb,bnm->tnm", TESTS[joint.judge], means)
                continue
            steps = np.diff(left, axis=0)
            sizes = np.abs(steps) if joint.judge == "still" else steps**2
            np.cumsum(sizes, axis=0, out=total[1:-1])
            count = len(joint.boxes) - 1
            yield rows, np.maximum(total[at] - total[at - count], 0.0)[None] / count


def _runs(drive: Drive) -> Iterator[tuple[int, int]]:
    """First row, and the one behind the last, of runs of valid ticks a second apart."""
    whole: NDArray[np.bool_] = np.asarray(np.isfinite(drive.values).all(axis=1))
    step = np.diff(drive.tick_ms)
    starts = whole.copy()
    starts[1:] &= ~(whole[:-1] & (step >= STEP_MS[0]) & (step <= STEP_MS[1]))
    begins = np.flatnonzero(starts)
    for number, begin in enumerate(begins.tolist()):
        limit = int(begins[number + 1]) if number + 1 < len(begins) else len(whole)
        broken = np.flatnonzero(~whole[begin:limit])
        yield begin, begin + int(broken[0]) if len(broken) else limit


def _features(joint: Joint, scaled: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n - back, f) of scaled rows (n, k) that follow one another."""
    back, own = joint.back, scaled[:, joint.monitored]
    total = np.zeros((len(own) + 1, own.shape[1]))
    np.cumsum(own, axis=0, out=total[1:])
    at = np.arange(back, len(own))
    now = scaled[back:]
    return np.concatenate(
        [now, *((total[at] - total[at - span]) / span for span in joint.spans), now[:, joint.pairs[:, 0]] * now[:, joint.pairs[:, 1]]],
        axis=1,
    )


def _regress(joint: Joint, drives: Sequence[Drive]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Weights (f, m), bias (m,), and the share (m,) of each signal's variance that the others explain."""
    k, m = len(joint.centre), len(joint.monitored)
    count = k + len(joint.spans) * m + len(joint.pairs)
    gram, total, rows = np.zeros((count, count)), np.zeros(count), 0
    for drive in drives:
        for first, last in _runs(drive):
            scaled = np.clip((drive.values[first:last] - joint.centre) / joint.spread, -CLIP, CLIP)
            if len(scaled) <= joint.back:
                continue
            part = _features(joint, scaled)[::STRIDE].astype(np.float32)  # twice the speed; sums of one drive lose nothing that counts
            gram += part.T @ part
            total += part.sum(axis=0, dtype=np.float64)
            rows += len(part)
    if not rows:
        raise ValueError(f"no drive has {joint.window} valid ticks a second apart")
    mean = total / rows
    covariance = gram / rows - np.outer(mean, mean)
    deviation = np.sqrt(np.maximum(np.diag(covariance), 1e-12))
    idle = deviation < LEAST_DEVIATION
    covariance[idle], covariance[:, idle], deviation[idle] = 0.0, 0.0, 1.0
    inverse = np.linalg.inv(covariance / deviation / deviation[:, None] + RIDGE * np.eye(count))
    weights, left = np.zeros((count, m)), np.zeros(m)
    for at, column in enumerate(joint.monitored.tolist()):
        part_of = [column, *(k + span * m + at for span in range(len(joint.spans)))]
        part_of += (k + len(joint.spans) * m + np.flatnonzero((joint.pairs == column).any(axis=1))).tolist()
        block = inverse[np.ix_(part_of, part_of)]
        weights[:, at] = np.linalg.solve(block, inverse[part_of])[0] / deviation * deviation[column]
        left[at] = np.linalg.inv(block)[0, 0]
    weights[idle] = 0.0
    weights = rounded(weights).astype(np.float32).astype(np.float64)
    return weights, rounded(mean @ weights), 1 - np.minimum(left, 1.0)


def _limits(joint: Joint, drives: Sequence[Drive]) -> NDArray[np.float64]:
    """(t, m)"""
    blocks = [block for drive in drives for block in _blocks(joint, drive)]
    if not blocks:
        raise ValueError(f"no drive has {joint.window + BLOCK} valid ticks a second apart")
    highest = np.concatenate(blocks, axis=1)
    over = np.quantile(highest, TAIL_FROM, axis=1)
    excess = np.maximum(highest - over[:, None, :], 0.0)
    mean = excess.sum(axis=1) / np.maximum((excess > 0).sum(axis=1), 1)
    return np.asarray(np.maximum(np.maximum(over + TAIL * mean, HIGHEST * highest.max(axis=1)), LEAST_LIMIT), np.float64)


def _blocks(joint: Joint, drive: Drive) -> Iterator[NDArray[np.float64]]:
    """(t, blocks, m) the largest tests of each whole two minutes."""
    for _, tests in _tests(joint, drive):
        count = tests.shape[1] // BLOCK
        if count:
            size = np.sqrt(tests) if joint.judge == "noise" else np.abs(tests)
            yield size[:, : count * BLOCK].reshape(len(size), count, BLOCK, -1).max(axis=2)


def _still_limits(joint: Joint, drives: Sequence[Drive]) -> NDArray[np.float64]:
    """(1, m) the least mean step of any window; 0 for signals that stand still when they are healthy."""
    least, total, count = np.full(len(joint.monitored), np.inf), np.zeros(len(joint.monitored)), 0
    for drive in drives:
        for _, tests in _tests(joint, drive):
            least = np.minimum(least, tests[0].min(axis=0, initial=np.inf))
            total += tests[0].sum(axis=0)
            count += tests.shape[1]
    if not count:
        raise ValueError(f"no drive has {joint.window} valid ticks a second apart")
    return np.where(least >= STILL_LEAST * total / count, least, 0.0)[None]


def _drivers(correlation: NDArray[np.float64], count: int) -> list[int]:
    """The signals that one after the other take most off what is left of all others' variance: a Cholesky factor with pivots."""
    left = np.nan_to_num(correlation.copy())
    chosen: list[int] = []
    for _ in range(count):
        diagonal = np.diag(left).copy()
        gain = np.where(diagonal > 0.05, (left**2).sum(axis=0) / np.maximum(diagonal, 1e-9), -1.0)
        gain[chosen] = -1.0
        best = int(np.argmax(gain))
        if gain[best] <= 0:
            break
        chosen.append(best)
        left = left - np.outer(left[:, best], left[best]) / diagonal[best]
    return sorted(chosen)


def _with(joint: Joint, **changes: object) -> Joint:
    return Joint(**{**{name: getattr(joint, name) for name in joint.__dataclass_fields__}, **changes})
