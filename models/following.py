"""The rung for a machine's run whose baseline drifts: the level and the scatter of each signal are followed, and what leaves them is judged
by how far they wander when healthy. In NumPy: what the ONNX graph (models/following_graph.py) then does, number for number.

A few minutes of a healthy run say how much a signal scatters and how much it wanders, and nothing about where it will be in half an hour:
a loop goes on warming up. A detector with fixed limits, or a PCA with a fixed mean, alarms on that. Here each monitored signal is two
features: its value, in units of its scatter, and the logarithm of its scatter over the last SPREAD ticks (a valve that flutters and a
sensor that is stuck change the scatter and not the level). Each feature is looked at on three scales, TICKS: quick, middling, slow. On each

    recent    what it shows now: an exponential mean (Roberts 1959, Technometrics 1)
    level     what it shows when healthy: follows `recent`, RATIO times slower, the slower the higher the score, and stands still in an
              alarm, so that no fault becomes the new normal while it lasts
    variance  of recent - level in the healthy run: measured, where the run is long enough to show it; on the slow scale by how
              differences grow with their lag, a/2 + b lag (scatter and a random walk, Matheron's variogram of 1963). As the level stands
              still, it grows by b a tick

    evidence = (FREEDOM + 1)/2 log(1 + (recent - level)²/variance/FREEDOM) - PENALTY, where that is over 0
    score = sum over features of the greatest evidence of the scales, over limit

A variance that a few minutes have shown is not known well, so the evidence is that of Student's t and not of a normal law: one signal
alone must be far off, several together less. On the quick scale a sharp change is seen in a signal that wanders, on the slow one a small
change in a signal that does not.

An alarm lasts as long as what it rose for, however far all has drifted meanwhile. `change` is recent - level when it rose, or farther out;
`back`, how much of that is still there, in units of the variance. Where back is RETURN or more, the score does not fall below what it was
held at, which is forgotten within HOLD ticks. Where it is less, it counts as the drift of the time in which the level stood still, and is
taken off; after the alarm within FORGET ticks less and less of it, while the level follows again.

One is the score from which on a healthy signal's wandering does not explain it. Levels start at the mean of the training. A change that is
slower than the slow level follows is not seen: for that, a pack has to know the operating point (the rung `expected`).

Nothing is known of any absolute time, row number or length: the state forgets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.fit import rounded
from models.tables import Drive

__all__ = ["CLEAR", "PERSISTENCE", "STATE_SCALARS", "Follower", "fit_follower", "follow", "initial"]

TICKS = (4.0, 10.0, 20.0)
"""Time constants of what a value shows now."""
SPREAD = 15.0
"""Ticks: time constant of a signal's scatter, squared steps from tick to tick."""
SPREAD_TICKS = (2.0, 2.5, 12.5)
"""Time constants of what a scatter, averaged so, shows now."""
RATIO = 20.0
"""Times slower is the level."""
MEASURED = (True, True, False)
"""Scales whose variance some hundred ticks show."""
INFLATED = 1.75
"""Times what they show: they are what the level was fitted to."""
FLOOR = 1.3
"""Times the variance that scatter alone leaves in `recent`: a few minutes do not show that a signal wanders less."""
FREEDOM = 5.0
PENALTY = 2.4
"""Of each feature: from 2.5 deviations on it is evidence at all."""
LIMIT, LIMIT_SIGNAL = 4.0, 0.15
"""Of the sum, and more for each signal: many that scatter are evidence by chance."""
STILL = 600.0
"""Ticks: what a level that stands still longer may have wandered is not more than in these; else a fault that stays would be forgiven."""
RETURN = 0.55
"""Of the change: what is less is drift."""
GROWS = 0.1
"""Share of the way that `change` goes to what is farther out, at a tick."""
HELD, HOLD = 1.4, 1000.0
"""Times the score at which the alarm rose, and ticks."""
FORGET = 200.0
"""Ticks after an alarm."""
LARGEST_STEP = 25.0
"""Times the scatter, squared: one wild tick is not a change of scatter."""
LEAST_SPREAD = 0.02
"""Of the scatter: a signal that stands still has a logarithm, too."""
SPAN = 400
"""Ticks of a baseline of which the wandering is learned as of one piece; longer ones are cut."""
LAGS = (0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Of such a piece."""
SETTLED, LEVELLED = 4.0, 100
"""Times the time constant, and ticks, after which `recent` and `level` have forgotten enough of where they began."""
PERSISTENCE = (5, 6)
"""`need` of `of` ticks; recent itself averages."""
CLEAR = 0.9
"""Of the threshold: `of` ticks under it end an alarm. Whether what it rose for is gone is in the score."""
NOTHING = 1e-12
"""Squared deviations of a change: there is none."""
STATE_SCALARS = ("over", "under", "alarm", "memory", "held")


@dataclass(frozen=True)
class Follower:
    """Every constant of the graph; m signals, all monitored; 2 m features: values, then logarithms of scatter; s scales."""

    start: NDArray[np.float64]
    """(m,) levels at the first tick: means of the training"""
    unit: NDArray[np.float64]
    """(m,) scatter from tick to tick, in the signals' units"""
    centre: NDArray[np.float64]
    """(m,) means of the logarithms of scatter"""
    variance: NDArray[np.float64]
    """(s, 2 m) of recent - level, healthy"""
    walk: NDArray[np.float64]
    """(s, 2 m) what a tick of standing still adds to it"""
    freeze: float = 1.0
    """score from which on the level stands still: that which raises the alarm"""

    @property
    def size(self) -> int:
        """Numbers in the state: twenty for each signal, one for each scale, and five."""
        return 2 * len(self.start) + 3 * self.variance.size + len(TICKS) + len(STATE_SCALARS)

    @property
    def limit(self) -> float:
        """The sum over features at which the score is one."""
        return LIMIT + LIMIT_SIGNAL * len(self.start)

    @property
    def ticks(self) -> NDArray[np.float64]:
        """(s, 2 m) time constants of what a feature shows now"""
        return np.repeat(np.array([TICKS, SPREAD_TICKS]).T, len(self.start), axis=1)

    @property
    def follow(self) -> NDArray[np.float64]:
        """(s, 1) ticks: time constants of the levels"""
        return RATIO * np.array(TICKS)[:, None]

    @property
    def deviation(self) -> NDArray[np.float64]:
        """(m,) of the values on the middling scale, in the signals' units"""
        return np.asarray(self.unit * np.sqrt(self.variance[1, : len(self.unit)]), np.float64)


def fit_follower(drives: Sequence[Drive]) -> Follower:
    """Learn scatter and wandering of healthy drives of m columns, each at least SPAN / 2 valid ticks long.

    A tick with a missing value is left out, as it is when running.
    """
    rows = [drive.values[np.isfinite(drive.values).all(axis=1)] for drive in drives]
    start = rounded(np.concatenate(rows).mean(axis=0))
    unit = rounded(np.sqrt(np.maximum(np.concatenate([np.diff(values, axis=0) for values in rows]).var(axis=0) / 2, 1e-24)))
    spreads = [_spreads((values - start) / unit) for values in rows]
    centre = rounded(np.concatenate(spreads).mean(axis=0))
    features = [np.hstack([(values - start) / unit, spread - centre]) for values, spread in zip(rows, spreads, strict=True)]
    count = len(start)
    blank = Follower(start, unit, centre, np.ones((len(TICKS), 2 * count)), np.zeros((len(TICKS), 2 * count)))
    means = [_means(one, blank.ticks) for one in features]
    scatter = np.concatenate([np.diff(one, axis=0) for one in features]).var(axis=0) / 2
    variance, walk = np.empty_like(blank.variance), np.empty_like(blank.walk)
    for scale, (ticks, follow) in enumerate(zip(blank.ticks, blank.follow[:, 0], strict=True)):
        pieces = [piece for mean in means for piece in _pieces(mean[int(SETTLED * ticks[0]) + 5 :, scale])]
        at_once, walk[scale] = _wandering(pieces)
        if MEASURED[scale]:
            off = np.concatenate(
                [(mean[:, scale] - _means(mean[:, scale], np.full((1, 2 * count), follow))[:, 0])[LEVELLED:] for mean in means]
            )
            variance[scale] = INFLATED * (off**2).mean(axis=0)
        else:
            within = np.mean([piece.var(axis=0) for piece in pieces], axis=0)
            variance[scale] = np.maximum(at_once / 2 + walk[scale] * follow, within)
        variance[scale] = np.maximum(variance[scale], FLOOR * scatter / np.maximum(2 * ticks - 1, 1))
    return Follower(start, unit, centre, rounded(np.maximum(variance, 1e-12)), rounded(walk))


def _spreads(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, m) logarithms of the scatter of values (n, m) in its units."""
    out = np.empty_like(values)
    last, spread = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for at, row in enumerate(values):
        spread = spread + (np.minimum((row - last) ** 2 / 2, LARGEST_STEP) - 1 - spread) / SPREAD
        last = row
        out[at] = np.log(1 + LEAST_SPREAD + spread)
    return out


def _means(features: NDArray[np.float64], ticks: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, s, f) exponential means of features (n, f), with time constants (s, f)."""
    out = np.empty((len(features), *ticks.shape))
    mean = np.zeros(ticks.shape)
    for at, row in enumerate(features):
        mean = mean + (row - mean) / ticks
        out[at] = mean
    return out


def _wandering(pieces: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(f,) and (f,): the line through the squared differences over the lags, of pieces (n, f): at once, and with each tick."""
    lags = np.array(sorted({max(1, int(share * min(map(len, pieces)))) for share in LAGS}))
    squares = np.stack([np.mean([((piece[lag:] - piece[:-lag]) ** 2).mean(axis=0) for piece in pieces], axis=0) for lag in lags])
    off = lags - lags.mean()
    walk = np.maximum((squares * off[:, None]).sum(axis=0) / (off**2).sum(), 0)
    return np.maximum(squares.mean(axis=0) - walk * lags.mean(), 0), walk


def _pieces(values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    return np.array_split(values, max(1, round(len(values) / SPAN)))


def initial(follower: Follower) -> NDArray[np.float64]:
    """State before the first tick. Of each signal the newest value and its scatter; of each scale's features recent, level and change; of
    each scale ticks of standing still; then ticks over the threshold, ticks under that which ends an alarm, whether there is one, how much
    of `change` is remembered, and the score that is held. All as distances from the healthy run's means."""
    return np.zeros(follower.size)


def follow(
    follower: Follower, values: NDArray[np.float64], state: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores (n,) of valid and invalid ticks (n, m) in a row, NaN where a value is missing, and what each signal has in them (n, m).

    These sum to the score, but while an alarm is held: then to less.
    """
    count, shape = len(follower.start), follower.variance.shape
    state = initial(follower) if state is None else state
    last, spread = state[: 2 * count].reshape(2, count)
    recent, level, change = state[2 * count : 2 * count + 3 * follower.variance.size].reshape(3, *shape)
    still = state[-len(STATE_SCALARS) - len(TICKS) : -len(STATE_SCALARS)][:, None]
    over, under, alarm, memory, held = state[-len(STATE_SCALARS) :].tolist()
    score, parts = np.full(len(values), np.nan), np.zeros(values.shape)
    need, of = PERSISTENCE
    for at in np.flatnonzero(np.isfinite(values).all(axis=1)):
        now = (values[at] - follower.start) / follower.unit
        spread = spread + (np.minimum((now - last) ** 2 / 2, LARGEST_STEP) - 1 - spread) / SPREAD
        last = now
        features = np.concatenate([now, np.log(1 + LEAST_SPREAD + spread) - follower.centre])
        recent = recent + (features - recent) / follower.ticks
        off = recent - level
        variance = follower.variance + follower.walk * still
        back = float((off * change / variance).sum() / max((change * change / variance).sum(), NOTHING))
        rest = off - (memory * max(back, 0.0) if back < RETURN else 0.0) * change
        evidence = (FREEDOM + 1) / 2 * np.log(1 + rest * rest / variance / FREEDOM) - PENALTY
        both = np.maximum(evidence.max(axis=0), 0).reshape(2, count)
        parts[at] = both.sum(axis=0) / follower.limit
        held *= 1 - 1 / HOLD
        score[at] = max(parts[at].sum(), held if alarm and back >= RETURN else 0.0)

        over = min(over + 1, need) if score[at] >= follower.freeze else max(over - 1, 0)
        under = min(under + 1, of) if score[at] < CLEAR * follower.freeze else 0
        rises, ends = alarm == 0 and over >= need, alarm == 1 and under >= of
        if rises:
            change, held = off, HELD * score[at]
        elif alarm and not ends and back > 1:
            change = change + GROWS * (off - change)
        alarm = 1.0 if rises else 0.0 if ends else alarm
        over = 0.0 if ends else over
        memory = 1.0 if alarm else memory * (1 - 1 / FORGET)
        pace = 0.0 if alarm else min(max(1 - score[at] / follower.freeze, 0.0), 1.0)
        level = level + pace / follower.follow * off
        still = np.minimum(still + 1 - pace - still * (pace / follower.follow), STILL)
    return score, parts
