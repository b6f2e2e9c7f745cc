"""The rung for a machine's run whose baseline drifts: the level of each signal is followed, and what leaves it is judged by how far the
healthy signal wanders. In NumPy: what the ONNX graph (models/following_graph.py) then does, number for number.

A few minutes of a healthy run say how much a signal scatters and how much it wanders, and nothing about where it will be in half an hour:
a loop goes on warming up. A detector with fixed limits, or a PCA with a fixed mean, alarms on that. Here each monitored signal has

    recent    what it shows now: an exponential mean (Roberts 1959, Technometrics 1) over some five ticks
    level     what it shows when healthy: follows `recent`, the slower the higher the score, and stands still in an alarm, so that no
              fault becomes the new normal while it lasts. How fast: within `follow` ticks, for each signal by itself
    variance  of recent - level. Differences over a lag grow with it as a/2 + b lag (scatter and a random walk, Matheron's variogram of
              1963); the lag that counts is `follow`, and as many ticks more as the level has stood still

    score = sum over signals of (recent - level)² / variance, over (number of signals + EXCESS)

`follow` is what the signal's own wandering asks for: of a random walk seen through scatter, the best filter (Kalman's, in its steady
state) follows within sqrt(scatter / walk) ticks; SLOWER times that are taken, so that a change of some minutes is not followed away, and
FASTEST at least. A signal that does not wander is held against a level that hardly moves.

One is the score from which on a healthy signal's wandering does not explain it. Levels start at the mean of the training. A change that is
slower than the level follows is not seen: for that, a pack has to know the operating point (the rung `expected`).

Nothing is known of any absolute time, row number or length: the state (3 m numbers) forgets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.fit import rounded
from models.tables import Drive

__all__ = ["PERSISTENCE", "Follower", "fit_follower", "follow", "initial"]

RECENT = 1 / 3
"""Weight of the newest tick in `recent`."""
FASTEST, SLOWEST = 120.0, 1200.0
"""Ticks: time constant of a level."""
SLOWER = 10.0
"""Than what would be best if there were no faults."""
STILL = 600.0
"""Ticks: what a level that stands still longer may have wandered is not more than in these; else a fault that stays would be forgiven."""
EXCESS = 10.0
"""Over the number of signals, which is the mean of the sum: one signal alone must be off by three to four deviations and more."""
FLOOR = 0.7
"""Of the variance from tick to tick: a few minutes do not show that a signal wanders less."""
SPAN = 400
"""Ticks of a baseline of which the wandering is learned as of one piece; longer ones are cut."""
LAGS = (0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Of such a piece."""
SETTLED = 20
"""Ticks after which `recent` has forgotten where it began."""
PERSISTENCE = (5, 6)
"""`need` of `of` ticks; recent itself averages."""


@dataclass(frozen=True)
class Follower:
    """Every constant of the graph; m signals, all monitored."""

    start: NDArray[np.float64]
    """(m,) levels at the first tick: means of the training"""
    variance: NDArray[np.float64]
    """(m,) of recent - level, healthy"""
    walk: NDArray[np.float64]
    """(m,) what a tick of standing still adds to it"""
    follow: NDArray[np.float64]
    """(m,) ticks: time constant of the level"""
    freeze: float = 1.0
    """score from which on the level stands still: that which raises the alarm"""

    @property
    def size(self) -> int:
        """Numbers in the state."""
        return 3 * len(self.start)


def fit_follower(drives: Sequence[Drive]) -> Follower:
    """Learn scatter and wandering of healthy drives of m columns, each at least SPAN / 2 valid ticks long.

    A tick with a missing value is left out, as it is when running.
    """
    rows = [drive.values[np.isfinite(drive.values).all(axis=1)] for drive in drives]
    start = np.concatenate(rows).mean(axis=0)
    scatter = np.concatenate([np.diff(values, axis=0) for values in rows]).var(axis=0) / 2
    pieces = [piece for values in rows for piece in _pieces(_recent(values, start)[SETTLED:])]
    within = np.mean([piece.var(axis=0) for piece in pieces], axis=0)
    lags = np.array(sorted({max(1, int(share * min(map(len, pieces)))) for share in LAGS}))
    squares = np.stack([np.mean([((piece[lag:] - piece[:-lag]) ** 2).mean(axis=0) for piece in pieces], axis=0) for lag in lags])
    off = lags - lags.mean()
    walk = np.maximum((squares * off[:, None]).sum(axis=0) / (off**2).sum(), 0)
    follow = np.clip(SLOWER * np.sqrt(scatter / np.maximum(walk, 1e-300)), FASTEST, SLOWEST)
    variance = np.maximum(squares.mean(axis=0) - walk * lags.mean(), 0) / 2 + walk * follow
    variance = np.maximum(np.maximum(variance, within), FLOOR * scatter)
    return Follower(rounded(start), rounded(np.maximum(variance, 1e-24)), rounded(walk), rounded(follow))


def _recent(values: NDArray[np.float64], start: NDArray[np.float64]) -> NDArray[np.float64]:
    recent = np.empty_like(values)
    mean = start
    for at, row in enumerate(values):
        mean = mean + RECENT * (row - mean)
        recent[at] = mean
    return recent


def _pieces(values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    return np.array_split(values, max(1, round(len(values) / SPAN)))


def initial(follower: Follower) -> NDArray[np.float64]:
    """(3 m,) state before the first tick: recent and level, both as distances from `start`, and ticks of standing still."""
    return np.zeros(follower.size)


def follow(
    follower: Follower, values: NDArray[np.float64], state: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores (n,) of valid and invalid ticks (n, m) in a row, NaN where a value is missing, and the parts (n, m) that sum to them."""
    count = len(follower.start)
    state = initial(follower) if state is None else state
    recent, level, still = state[:count], state[count : 2 * count], state[2 * count :]
    score, parts = np.full(len(values), np.nan), np.zeros(values.shape)
    limit = count + EXCESS
    for at in np.flatnonzero(np.isfinite(values).all(axis=1)):
        recent = recent + RECENT * (values[at] - follower.start - recent)
        off = recent - level
        parts[at] = off * off / (follower.variance + follower.walk * still) / limit
        score[at] = parts[at].sum()
        pace = min(max(1 - score[at] / follower.freeze, 0.0), 1.0)
        level = level + pace / follower.follow * off
        still = np.minimum(still + 1 - pace - still * (pace / follower.follow), STILL)
    return score, parts
