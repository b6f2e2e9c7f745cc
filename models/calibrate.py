"""From scores of healthy drives that nothing was fitted on to p-values, thresholds and what they promise.

The p-value of a tick is conformal: (1 + healthy ticks that scored at least as high) / (1 + healthy ticks). Ticks of a drive follow one
another, so an alarm's threshold is not taken from ticks: it is taken from each drive's highest *persistent* score, the largest threshold at
which N of M ticks would have raised the alarm in that drive. What their tail promises: models/tail.py. Fewer than 500 drives have none to
show; there a Gumbel law of the maxima (Coles 2001, chapter 3) places the threshold, and no more is promised than counting shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from models.baseline import Baselines, in_force
from models.drives import first_ticks
from models.errors import TrainingDataError
from models.fit import Detector, Scored, rounded, score_drive
from models.manifest import AlarmBudget, Calibration, DriveRule, Persistence, Promise, TailLaw, Threshold
from models.tables import Drive
from models.tail import Chance, Tail, counted, effective_drives, fit_tail
from models.vehicle import judged_ticks

__all__ = [
    "Calibrated",
    "Knots",
    "bounds",
    "calibrate",
    "highest_persistent",
    "p_value",
    "p_value_knots",
    "thresholds",
    "thresholds_of_peaks",
]

EXACT_TAIL = 1000
"""Highest healthy scores that are kept one by one; below them, groups are kept, so that the graph stays small."""
GROUPS = 500
GUMBEL_DRIVES = 8
"""Fewer maxima than this do not show a tail."""
FEW_MARGIN = 2.0
HIGHEST_MARGIN = 1.0 + 1e-6
"""Over the highest of all, at least: none of them alarms."""
HEAVY_MARGIN = 1.2
"""Over the highest of all, where that lies beyond the Gumbel law's own tail."""
CLEAR = 0.6
"""Of the raising threshold: clears it."""
BOUND = 3.0
"""Robust standard deviations of vehicles of the training: what is farther out is not taken for a vehicle's own."""
MAD = 1.4826
"""Median absolute deviation of a normal law to its standard deviation."""
FEW_VEHICLES = 20
LEAST_BOUND = 1e-3
"""Of a signal's scale: vehicles that do not differ have a baseline of nothing."""
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
    drives: Sequence[NDArray[np.float64]],
    persistence: Persistence,
    budget: float,
    least: float = 1e-6,
    vehicle: NDArray[np.int64] | None = None,
    confirm: tuple[int, int] = (1, 1),
    at_once: float | None = None,
    margin: float = 1.0,
) -> tuple[Threshold, Calibration, AlarmBudget]:
    """Thresholds that a healthy drive crosses with probability `budget`, and never under what a calibration drive reached.

    drives: the scored, known ticks of each calibration drive. least: raises nothing, be healthy drives never so still. vehicle: (n,) of
    each drive, the drives of one in their order; None: each is of another. confirm, at_once: as the manifest's, `at_once` times the
    threshold. margin: the threshold is so many times what the budget asks for; the promise is that of the threshold.
    """
    highest = np.array([highest_persistent(score, persistence) for score in drives])
    return thresholds_of_peaks(highest, sum(map(len, drives)), budget, least, vehicle, confirm, at_once, margin)


def thresholds_of_peaks(
    highest: NDArray[np.float64],
    ticks: int,
    budget: float,
    least: float = 1e-6,
    vehicle: NDArray[np.int64] | None = None,
    confirm: tuple[int, int] = (1, 1),
    at_once: float | None = None,
    margin: float = 1.0,
) -> tuple[Threshold, Calibration, AlarmBudget]:
    """`thresholds` of each drive's highest persistent score (n,) alone. ticks: judged, of all drives."""
    whose = np.arange(len(highest)) if vehicle is None else vehicle
    reached = float(highest.max())
    worth = effective_drives(highest, whose)
    tail = fit_tail(highest, worth)
    kind: Literal["pareto", "gumbel", "highest"] = (
        "pareto" if tail is not None else "gumbel" if len(highest) >= GUMBEL_DRIVES else "highest"
    )
    if tail is not None:
        raise_at = max(tail.threshold(budget), HIGHEST_MARGIN * reached)
    elif kind == "gumbel":
        spread = float(highest.std(ddof=1)) * np.sqrt(6) / np.pi
        law = float(highest.mean()) - EULER * spread - spread * float(np.log(-np.log1p(-budget)))
        raise_at = law if law > reached else HEAVY_MARGIN * reached
    else:
        raise_at = FEW_MARGIN * reached
    raise_at = _figure(margin * max(raise_at, least))
    finding = ticket = _chance(tail, worth, raise_at)
    if confirm[1] > 1:
        agreed = _in_drives(highest, whose, *confirm)
        ticket = _chance(fit_tail(agreed, worth), worth, raise_at)
        if at_once is not None:
            alone = _chance(tail, worth, at_once * raise_at)
            ticket = Chance(min(ticket.expected + alone.expected, finding.expected), min(ticket.upper + alone.upper, finding.upper))
    law_seen = None
    if tail is not None:
        shape, scale = tail.typical
        law_seen = TailLaw(over=_figure(tail.over), share=_figure(tail.over_count / worth), shape=_figure(shape), scale=_figure(scale))
    return (
        Threshold(raise_at=raise_at, clear_below=_figure(CLEAR * raise_at)),
        Calibration(drives=len(highest), ticks=ticks, highest=_figure(reached)),
        AlarmBudget(per_drive=budget, tail=kind, drives=_figure(worth), finding=_promise(finding), ticket=_promise(ticket), law=law_seen),
    )


def _chance(tail: Tail | None, worth: float, score: float) -> Chance:
    """Of reaching a score that no calibration drive reached; without a tail, what counting shows."""
    return counted(worth) if tail is None else tail.chance(max(score, tail.over))


def _promise(chance: Chance) -> Promise:
    return Promise(expected=_figure(chance.expected), upper=_figure(chance.upper))


def _in_drives(highest: NDArray[np.float64], whose: NDArray[np.int64], need: int, of: int) -> NDArray[np.float64]:
    """(n,) the largest threshold that `need` of the last `of` drives of the same vehicle reach, at each drive."""
    before = np.zeros((len(highest), of))
    for back in range(of):
        before[back:, back] = np.where(whose[back:] == whose[: len(whose) - back], highest[: len(highest) - back], 0.0)
    return np.asarray(np.sort(before, axis=1)[:, of - need], np.float64)


def _figure(value: float) -> float:
    return float(rounded(np.array([value]))[0])


@dataclass(frozen=True)
class Calibrated:
    """What the drives that were held back say of a detector.

    learning, learning_knots: of vehicles without a baseline of their own yet; 1 and None for a pack without baselines. every: the scores of
    all drives, by the fleet's baseline.
    drives, scored, judged, baselines: the calibration drives that had enough ticks, the scores of all and of the known ticks, and the
    vehicle's own (m,) in each; those of vehicles that have learned theirs alone, where the pack has baselines.
    """

    threshold: Threshold
    calibration: Calibration
    budget: AlarmBudget
    knots: Knots
    learning: float
    learning_knots: Knots | None
    every: tuple[Scored, ...]
    drives: tuple[Drive, ...]
    scored: tuple[Scored, ...]
    judged: tuple[NDArray[np.float64], ...]
    baselines: tuple[NDArray[np.float64] | None, ...]


def calibrate(
    detector: Detector,
    held: Sequence[Drive],
    rule: DriveRule,
    persistence: Persistence,
    baselines: Baselines | None,
    budget: float,
    least: float = 1e-6,
    confirm: tuple[int, int] = (1, 1),
    at_once: float | None = None,
    margin: tuple[float, float] = (1.0, 1.0),
) -> Calibrated:
    """Thresholds and p-values from recordings that nothing was fitted on, each of them of one vehicle, all healthy.

    baselines: every drive is judged against what the vehicle has learned in the drives before it, and, by all of them, what a vehicle is
    judged by until it has. margin: as `thresholds`, and of the second
    one. Raises TrainingDataError where too little of them can be judged.
    """
    enough = persistence.warmup_ticks + persistence.need
    whole = [_drives(detector, recording, rule, at) for at, recording in enumerate(held)]
    fleet = [drive for vehicle in whole for drive in vehicle if len(drive.judged) >= enough]
    _check_judged(held, [drive.judged for vehicle in whole for drive in vehicle], persistence)
    every = tuple(drive.scored for vehicle in whole for drive in vehicle)
    set_for = _SetFor(persistence, budget, least, confirm, at_once, margin[0])
    if baselines is None:
        return _calibrated(fleet, fleet, every, set_for)
    own = []
    for vehicle in whole:
        values = in_force(baselines, np.stack([drive.mean for drive in vehicle]), [len(one.judged) >= rule.least_ticks for one in vehicle])
        for drive, value in zip(vehicle, values, strict=True):
            if np.isfinite(value).all() and len(drive.judged) >= enough:
                own.append(_of_drive(detector, drive.drive, drive.vehicle, value))
    if not own:
        raise TrainingDataError(
            f"{held[0].source}: none of {len(held)} calibration recordings has over {baselines.least} drives of {rule.least_ticks} judged "
            f"ticks with pauses over {rule.gap_s} s between them; with a baseline each DATA file is all drives of one vehicle"
        )
    return _calibrated(own, fleet, every, set_for, margin[1])


def bounds(detector: Detector, fitted: Sequence[Drive], rule: DriveRule) -> NDArray[np.float64]:
    """(m,) in the signals' units: how far vehicles of the training lie from the fleet, BOUND robust standard deviations of it."""
    means = []
    for recording in fitted:
        rows, deviation = judged_ticks(detector, recording)
        if len(rows):
            means.append(deviation.offsets().mean(axis=0))
    if len(means) < 2:
        raise TrainingDataError(f"{len(means)} recordings have judged ticks, expected two at least: a baseline is what vehicles differ by")
    offsets = np.array(means)
    spread = MAD * np.median(np.abs(offsets - np.median(offsets, axis=0)), axis=0)
    if len(means) < FEW_VEHICLES:
        spread = np.maximum(spread, offsets.std(axis=0, ddof=1))
    return rounded(np.maximum(BOUND * spread, LEAST_BOUND * detector.scale))


@dataclass(frozen=True)
class _SetFor:
    persistence: Persistence
    budget: float
    least: float
    confirm: tuple[int, int]
    at_once: float | None
    margin: float

    def thresholds(self, drives: Sequence["_OfDrive"]) -> tuple[Threshold, Calibration, AlarmBudget]:
        vehicle = np.array([one.vehicle for one in drives], np.int64)
        scores = [one.judged for one in drives]
        return thresholds(scores, self.persistence, self.budget, self.least, vehicle, self.confirm, self.at_once, self.margin)


@dataclass(frozen=True)
class _OfDrive:
    vehicle: int
    drive: Drive
    scored: Scored
    judged: NDArray[np.float64]
    mean: NDArray[np.float64]
    baseline: NDArray[np.float64] | None


def _drives(detector: Detector, recording: Drive, rule: DriveRule, vehicle: int) -> list[_OfDrive]:
    """The drives of a recording, judged by the fleet's baseline."""
    rows, deviation = judged_ticks(detector, recording, fast=False)
    first = first_ticks(recording.tick_ms[rows], rule.gap_s * 1000)
    if len(first) <= 1:
        return [replace(_of_drive(detector, recording, vehicle), mean=deviation.offsets().mean(axis=0) if len(rows) else _none(detector))]
    # A drive's own rows, with those before it that its first window looks back on.
    starts = [0, *(max(int(rows[at]) - detector.window + 1, int(rows[at - 1]) + 1) for at in first[1:]), len(recording.tick_ms)]
    means = np.add.reduceat(deviation.offsets(), first, axis=0) / np.diff(first, append=len(rows))[:, None]
    return [
        replace(_of_drive(detector, recording.rows(a, b), vehicle), mean=mean) for (a, b), mean in zip(pairwise(starts), means, strict=True)
    ]


def _of_drive(detector: Detector, drive: Drive, vehicle: int, baseline: NDArray[np.float64] | None = None) -> _OfDrive:
    scored = score_drive(detector, drive, baseline=baseline)
    return _OfDrive(vehicle, drive, scored, scored.score[scored.known & np.isfinite(scored.score)], _none(detector), baseline)


def _none(detector: Detector) -> NDArray[np.float64]:
    return np.full(len(detector.monitored), np.nan)


def _check_judged(held: Sequence[Drive], judged: Sequence[NDArray[np.float64]], persistence: Persistence) -> None:
    least = persistence.warmup_ticks + persistence.of
    if 2 * sum(len(one) > least for one in judged) <= len(held):  # half of what was held back says nothing
        short = held[0] if len(judged) != len(held) else held[int(np.argmin([len(one) for one in judged]))]
        raise TrainingDataError(
            f"{short.source}: {min(map(len, judged))} ticks of it can be scored, expected over {least}; "
            f"give longer drives, or drives that cover the same operating range"
        )


def _calibrated(
    own: list[_OfDrive], fleet: list[_OfDrive], every: tuple[Scored, ...], set_for: _SetFor, learning_margin: float = 1.0
) -> Calibrated:
    """own: judged as a vehicle is that has learned; fleet: as one that has not. The same drives where the pack has no baselines."""
    threshold, calibration, promise = set_for.thresholds(own)
    knots = p_value_knots(np.concatenate([one.judged for one in own]))
    learning, learning_knots = 1.0, None
    if own is not fleet:
        before, _, _ = replace(set_for, margin=learning_margin).thresholds(fleet)
        learning = _figure(max(1.0, before.raise_at / threshold.raise_at))
        learning_knots = p_value_knots(np.concatenate([one.judged for one in fleet]) / learning)
    return Calibrated(
        threshold=threshold,
        calibration=calibration,
        budget=promise,
        knots=knots,
        learning=learning,
        learning_knots=learning_knots,
        every=every,
        drives=tuple(one.drive for one in own),
        scored=tuple(one.scored for one in own),
        judged=tuple(one.judged for one in own),
        baselines=tuple(one.baseline for one in own),
    )
