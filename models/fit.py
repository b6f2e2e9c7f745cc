"""Fitting a detector, in NumPy: what the ONNX graph then does, number for number.

Two rungs of one model. Each monitored signal, averaged over `average` ticks, gets an expected value from the operating point: ridge over
the context signals and their products, averaged over that time, twice, four times ... up to the window, so that what follows the operating
point with a lag (a temperature) is expected with it. Without context signals the expected value is the mean. What remains, scaled, goes
through a PCA:

    score = T²/t + Q/q    the combined index of Yue and Qin, 2001 (Ind. Eng. Chem. Res. 40); t and q: 99 % quantiles of healthy data

which is one quadratic form r'Mr, so the graph needs M alone. A signal's contribution is reconstruction-based (Alcala and Qin, 2009,
Automatica 45): (Mr)_i²/M_ii, how much the score falls when that signal takes the value most in keeping with the rest; that value is its
expected value.

The rung below both, limits, is the same without context and without correlations: M is diagonal, and the score is its largest term instead
of their sum, so that each signal is judged by itself. It knows no operating point, so every tick is known to it. The rung above takes off
what an autoencoder (models/autoencoder.py) gives back of what remains, and judges the leftover in the same way.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from models.autoencoder import Layer, leftover, train_layers
from models.manifest import RungName
from models.ridge import regress
from models.tables import Drive

__all__ = ["Detector", "Deviations", "Scored", "deviations", "fit", "known_ticks", "remainders", "rounded", "score_drive", "scores"]

EXPLAINED = 0.9
"""Share of the variance of what remains that the PCA's retained components carry; the rest is judged by Q."""
LIMIT = 0.99
TWIN_SPREAD = 0.1
"""Of the signals' own spread: the least by which healthy twins are taken to differ, however equal they were in training."""
DIGITS = 9
"""Significant digits of every constant of the graph: linear algebra's last bits differ between machines, and a pack should not."""
MARGIN = 0.1
"""Of the trained range of a context signal, on either side, still counts as known."""
MARGIN_PCA = 1.0
"""The same without context, where every signal says what is known and a fault must not be mistaken for a new operating point."""
LEAST_BASIS = 0.1
"""Of a baseline, at least, whatever the expected value: an offset is divided by it."""
ROWS = 1_000_000
"""Windows that coefficients are fitted to, at most; of more, every second, third ...: neighbouring windows say the same."""
STEP_MS = (500, 1500)
"""Ticks this far apart follow one another; anything else begins a window anew."""


@dataclass(frozen=True)
class Detector:
    """Every constant of the graph. k inputs, m monitored, c context signals, f features."""

    average: int
    """ticks over which the monitored signals are averaged"""
    kernel: NDArray[np.float64]
    """(h, window) weights of the ticks in each of the h averages of the context; h = 0 without context"""
    window: int
    monitored: NDArray[np.int64]
    """(m,) input columns"""
    context: NDArray[np.int64]
    """(c,) input columns; those that never moved in training are only in `low` and `high`"""
    centre: NDArray[np.float64]
    """(c,) and `spread`, to scale the context signals"""
    spread: NDArray[np.float64]
    pairs: NDArray[np.int64]
    """(p, 2) context signals whose product is a feature"""
    weights: NDArray[np.float64]
    """(f, m) in the monitored signals' units"""
    bias: NDArray[np.float64]
    """(m,)"""
    scale: NDArray[np.float64]
    """(m,) standard deviation of what remains, on drives that were not fitted on"""
    form: NDArray[np.float64]
    """(m, m) M"""
    low: NDArray[np.float64]
    """(k,) and `high`: outside, the answer is "not known here" """
    high: NDArray[np.float64]
    separate: bool = False
    """the score is the largest term of r'Mr, M being diagonal, and not their sum: the rung limits"""
    layers: tuple[Layer, ...] = ()
    """of the autoencoder; none on the other rungs"""
    own: bool = False
    """whether each vehicle is judged against its own baseline b (m,), in the signals' units: expected value + b (fixed + slope expected)"""
    fixed: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """(m,) and `slope`: 1 and 0 for an offset, 0 and 1 over the mean for a gain"""
    slope: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    learning: float = 1.0
    """scores of a vehicle that has no baseline yet are divided by it"""
    ridge: dict[int, float] = field(default_factory=dict)
    explained: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """(m,) share of the variance that the expected value explains, on drives that were not fitted on"""

    def weight(self, learned: float) -> float:
        """What a score is multiplied by; learned: 1 where the vehicle has a baseline of its own, else 0. In the graph's own words."""
        return float(1 / self.learning + (1 - 1 / self.learning) * learned)

    @property
    def inputs(self) -> int:
        """k"""
        return len(self.low)


def each_alone(expected: NDArray[np.float64], scale: NDArray[np.float64], form: NDArray[np.float64], *, separate: bool = False) -> Detector:
    """A detector of m signals without context: each is held against one expected value (m,), and none is out of its trained range."""
    count, none = len(expected), np.zeros(0)
    return Detector(
        average=1,
        kernel=np.zeros((0, 1)),
        window=1,
        monitored=np.arange(count),
        context=np.zeros(0, np.int64),
        centre=none,
        spread=none,
        pairs=np.zeros((0, 2), np.int64),
        weights=np.zeros((0, count)),
        bias=expected,
        scale=scale,
        form=form,
        low=np.full(count, -np.inf),
        high=np.full(count, np.inf),
        separate=separate,
    )


@dataclass(frozen=True)
class Scored:
    """What a detector says of a drive's ticks: n scores, NaN where a tick has none."""

    score: NDArray[np.float64]
    known: NDArray[np.bool_]


def fit(
    drives: Sequence[Drive],
    monitored: Sequence[int],
    context: Sequence[int],
    average: int,
    window: int,
    rung: RungName | None = None,
    seed: int = 0,
    twins: bool = False,
    own: bool = False,
    gains: Collection[int] = (),
) -> Detector:
    """Fit a detector on healthy drives of k columns.

    monitored, context: the columns of each role, every column in one of them. average <= window, in ticks; without context the detector
    looks back no further than it averages. rung: None: expected with context, pca without. seed: of the autoencoder's first weights.
    twins: some of the signals ought to be alike, and what parts them is judged by how little they differ when healthy.
    own: each drive is all drives of one vehicle, which is judged against its own baseline; gains: columns where that is in proportion to
    the expected value.
    """
    separate = rung == "limits"
    columns = drives[0].values.shape[1]
    known_by = np.array([] if separate else context if len(context) else monitored, np.int64)
    everything = np.concatenate([drive.values for drive in drives])
    lowest, highest = np.nanmin(everything, axis=0), np.nanmax(everything, axis=0)
    # A fault may drive a monitored signal anywhere; only what describes the operating point decides whether that point is known. Without
    # context every signal does.
    margin = (MARGIN if len(context) else MARGIN_PCA) * (highest - lowest)
    low, high = np.full(columns, -np.inf), np.full(columns, np.inf)
    low[known_by], high[known_by] = (lowest - margin)[known_by], (highest + margin)[known_by]

    context = [at for at in context if highest[at] > lowest[at]]  # a constant one is a gate and no feature
    centre = np.nanmean(everything[:, context], axis=0)
    spread = np.nanstd(everything[:, context], axis=0)
    count = len(context)
    pairs = np.array([(i, j) for i in range(count) for j in range(i, count)], np.int64).reshape(-1, 2)
    base = Detector(
        average=average,
        kernel=_kernel(average, window) if count else np.zeros((0, average)),
        window=window if count else average,
        monitored=np.array(monitored, np.int64),
        context=np.array(context, np.int64),
        centre=rounded(centre),
        spread=rounded(spread),
        pairs=pairs,
        weights=np.zeros((0, len(monitored))),
        bias=np.zeros(len(monitored)),
        scale=np.ones(len(monitored)),
        form=np.eye(len(monitored)),
        low=low,
        high=high,
    )
    apart = -(-sum(len(drive.tick_ms) for drive in drives) // ROWS)
    features, targets = [], []
    for drive in drives:
        some, wanted, _ = _windows(base, drive)
        features.append(some[::apart])
        targets.append(wanted[::apart])
    weights, bias, remains, ridge = regress(features, targets)
    explained = remains.var(axis=0)
    fixed, slope = np.ones(len(monitored)), np.zeros(len(monitored))
    if own:
        for at in (at for at, column in enumerate(monitored) if column in gains):
            fixed[at], slope[at] = 0.0, 1 / np.concatenate(targets)[:, at].mean()
        fixed, slope = rounded(fixed), rounded(slope)
        remains = _within(remains, targets, fixed, slope)
    scale = remains.std(axis=0)
    variance = np.concatenate(targets).var(axis=0)
    variance = np.where(variance > 0, variance, 1.0)
    # A signal that the operating point gives exactly would turn its last bit into an alarm.
    scale = np.maximum(scale, (TWIN_SPREAD if twins else 1e-6) * np.sqrt(variance))
    layers: tuple[Layer, ...] = ()
    left = remains / scale
    if rung == "autoencoder":
        layers = tuple((rounded(one), rounded(bias_of)) for one, bias_of in train_layers(left, seed))
        left = leftover(layers, left)
    return Detector(
        **{
            **{name: getattr(base, name) for name in base.__dataclass_fields__},
            "weights": rounded(weights),
            "bias": rounded(bias),
            "scale": rounded(scale),
            "form": rounded(_separate_limits(left) if separate else _scaled_index(left) if layers else _combined_index(left, twins)),
            "layers": layers,
            "separate": separate,
            "low": np.where(np.isfinite(low), rounded(low), low),
            "high": np.where(np.isfinite(high), rounded(high), high),
            "ridge": ridge,
            "own": own,
            "fixed": fixed,
            "slope": slope,
            "explained": 1 - explained / variance,
        }
    )


def score_drive(detector: Detector, drive: Drive, fast: bool = False, baseline: NDArray[np.float64] | None = None) -> Scored:
    """The reference that the ONNX graph must agree with: score and `known` of each tick of a drive.

    fast: means by running sums, which differ in the last digits; six times the speed with a long window. baseline: (m,) the vehicle's own;
    None: the fleet's.
    """
    deviation, ends = deviations(detector, drive, fast)
    score = np.full(len(drive.tick_ms), np.nan)
    score[ends] = deviation.scores(detector, baseline)
    return Scored(score, known_ticks(detector, drive, ends))


def known_ticks(detector: Detector, drive: Drive, ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,) whether each tick of a drive has a score (it is one of `ends`) and lies in the trained range."""
    known = np.zeros(len(drive.tick_ms), bool)
    inside: NDArray[np.bool_] = np.all((drive.values >= detector.low) & (drive.values <= detector.high), axis=1)
    if len(ends):
        known[ends] = _whole(inside, detector.window)[ends - (detector.window - 1)]
    return known


def scores(detector: Detector, remains: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) scores of what remains (n, m)."""
    if detector.separate:
        return np.asarray((remains**2 * np.diag(detector.form)).max(axis=1, initial=0.0), np.float64)
    return np.asarray(np.einsum("ni,ij,nj->n", remains, detector.form, remains), np.float64)


def remainders(
    detector: Detector, drive: Drive, fast: bool = False, baseline: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """What remains of the monitored signals (n, m), scaled, and the ticks (n,) of the drive that have it.

    With an autoencoder: what it does not give back of that. baseline: (m,) the vehicle's own.
    """
    deviation, ends = deviations(detector, drive, fast)
    return deviation.remainders(detector, baseline), ends


@dataclass(frozen=True)
class Deviations:
    """How far the monitored signals are from what the fleet would show, at each scored tick: computed once, judged against any baseline.

    units: (n, m) window mean minus expected value, in the signals' units. basis: (n, m) what a baseline of 1 comes to; (1, 1) if always 1.
    """

    units: NDArray[np.float64]
    basis: NDArray[np.float64]

    def rows(self, at: NDArray[Any] | slice) -> "Deviations":
        """Of these rows alone."""
        return Deviations(self.units[at], self.basis if len(self.basis) != len(self.units) else self.basis[at])

    def whole_basis(self) -> NDArray[np.float64]:
        """(n, m) `basis`, written out."""
        return np.broadcast_to(self.basis, self.units.shape)

    def offsets(self) -> NDArray[np.float64]:
        """(n, m) the baseline at which each tick would be as expected, in the signals' units."""
        return np.asarray(self.units / self.basis, np.float64)

    def remainders(self, detector: Detector, baseline: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """(n, m) as `remainders`. baseline: (m,), or (n, m) for each tick its own; None: the fleet's."""
        left = self.units if baseline is None else self.units - baseline * self.basis
        return leftover(detector.layers, left / detector.scale)

    def scores(self, detector: Detector, baseline: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """(n,) scores. baseline: as `remainders`; None, or NaN at a tick: the fleet's, the vehicle having none of its own yet."""
        if baseline is None:
            return scores(detector, self.remainders(detector)) * detector.weight(0.0)
        learned = np.isfinite(baseline).all(axis=-1)
        found = scores(detector, self.remainders(detector, np.nan_to_num(baseline, nan=0.0)))
        return np.asarray(found * np.where(learned, detector.weight(1.0), detector.weight(0.0)), np.float64)


def deviations(detector: Detector, drive: Drive, fast: bool = False) -> tuple[Deviations, NDArray[np.int64]]:
    """Those of a drive, and the ticks (n,) that have them."""
    features, target, ends = _windows(detector, drive, fast)
    expected = features @ detector.weights + detector.bias
    basis = np.ones((1, 1))
    if detector.own and detector.slope.any():
        basis = np.maximum(detector.fixed + detector.slope * expected, LEAST_BASIS)
    return Deviations(target - expected, basis), ends


def _within(
    remains: NDArray[np.float64], targets: Sequence[NDArray[np.float64]], fixed: NDArray[np.float64], slope: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What remains (n, m) within each vehicle, its own offset taken off. targets: (n_v, m) of each vehicle, in the order of `remains`."""
    left = remains.copy()
    start = 0
    for target in targets:
        rows = slice(start, start + len(target))
        start = rows.stop
        if len(target):
            basis = np.maximum(fixed + slope * (target - remains[rows]), LEAST_BASIS)
            left[rows] -= basis * (remains[rows] / basis).mean(axis=0)
    return left


def rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`values`, of any shape, to DIGITS significant digits."""
    return np.array([float(f"{value:.{DIGITS - 1}e}") for value in values.ravel()], np.float64).reshape(values.shape)


def _windows(detector: Detector, drive: Drive, fast: bool = False) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Features (n, f), window means of the monitored signals (n, m), and the tick (n,) at which each complete, valid window ends."""
    size = detector.window
    ticks = len(drive.tick_ms)
    if ticks < size:
        return np.zeros((0, detector.weights.shape[0])), np.zeros((0, len(detector.monitored))), np.zeros(0, np.int64)
    follows = np.ones(ticks, bool)
    step = np.diff(drive.tick_ms)
    follows[1:] = (step >= STEP_MS[0]) & (step <= STEP_MS[1])
    usable = _whole(np.asarray(np.isfinite(drive.values).all(axis=1)), size)
    if size > 1:
        usable &= _whole(follows[1:], size - 1)
    ends = np.flatnonzero(usable) + size - 1

    scaled = (drive.values[:, detector.context] - detector.centre) / detector.spread
    terms = np.concatenate([scaled, scaled[:, detector.pairs[:, 0]] * scaled[:, detector.pairs[:, 1]]], axis=1)
    spans = [int(np.count_nonzero(row)) for row in detector.kernel]
    means = np.concatenate([np.zeros((len(ends), 0)), *(_means(terms, span, ends, fast) for span in spans)], axis=1)
    return means, _means(drive.values[:, detector.monitored], detector.average, ends, fast), ends


def _whole(fine: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """(n - size + 1,) whether `fine` (n,) holds throughout each window."""
    total = np.concatenate([[0], np.cumsum(fine)])
    return np.asarray(total[size:] - total[:-size] == size)


def _kernel(average: int, window: int) -> NDArray[np.float64]:
    """(h, window): uniform weights over the last `average`, twice, four times ... and `window` ticks."""
    spans = [average]
    while spans[-1] < window:
        spans.append(min(2 * spans[-1], window))
    kernel = np.zeros((len(spans), window))
    for row, span in enumerate(spans):
        kernel[row, window - span :] = 1 / span
    return kernel


def _means(values: NDArray[np.float64], size: int, ends: NDArray[np.int64], fast: bool = False) -> NDArray[np.float64]:
    """(n, f) means over the `size` ticks up to each of `ends` (n,)."""
    if size == 1:
        return values[ends]
    if fast:
        total = np.zeros((len(values) + 1, values.shape[1]))
        np.cumsum(np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0), axis=0, out=total[1:])
        return np.asarray((total[ends + 1] - total[ends + 1 - size]) / size, np.float64)
    windows = sliding_window_view(values, size, axis=0)
    return np.asarray(windows.mean(axis=2)[ends - (size - 1)], np.float64)


def _combined_index(remains: NDArray[np.float64], twins: bool = False) -> NDArray[np.float64]:
    """M (m, m) of the combined index of standardised remainders (n, m).

    twins: all components are retained (Mahalanobis' distance), as Q would drown a small difference of twins in what else is left over.
    """
    count = remains.shape[1]
    values, vectors = np.linalg.eigh(remains.T @ remains / len(remains))
    values, vectors = np.maximum(values[::-1], 1e-12), vectors[:, ::-1]
    kept = count if twins else min(int(np.searchsorted(np.cumsum(values) / values.sum(), EXPLAINED)) + 1, count)
    if twins:
        values = np.maximum(values, TWIN_SPREAD**2 * max(float(values.sum()) / count, 1.0))
    scores = remains @ vectors
    t2 = (scores[:, :kept] ** 2 / values[:kept]).sum(axis=1)
    limit = max(float(np.quantile(t2, LIMIT)), kept if twins else 0.0)  # `kept` is the mean of its law: twins without any spread have none
    form = (vectors[:, :kept] / values[:kept]) @ vectors[:, :kept].T / limit
    if kept < count:
        q = (scores[:, kept:] ** 2).sum(axis=1)
        form = form + vectors[:, kept:] @ vectors[:, kept:].T / max(float(np.quantile(q, LIMIT)), 1e-12)
    return np.asarray((form + form.T) / 2, np.float64)


def _scaled_index(left: NDArray[np.float64]) -> NDArray[np.float64]:
    """M (m, m) of what an autoencoder leaves, each signal by its own standard deviation first."""
    spread = np.maximum(left.std(axis=0), 1e-6)
    return _combined_index(left / spread) / np.outer(spread, spread)


def _separate_limits(remains: NDArray[np.float64]) -> NDArray[np.float64]:
    """Diagonal M (m, m): 1 over each signal's own squared limit, so far out that all of them together keep LIMIT (Bonferroni)."""
    share = 1 - (1 - LIMIT) / remains.shape[1]
    return np.diag(1 / np.maximum(np.quantile(remains**2, share, axis=0), 1e-12))
