"""Training of the rung following (models/following.py), and which recordings ask for it.

All of a single recording, or of two, is learned from and calibrates, too: of a few minutes nothing can be spared, and a level that follows
has not seen the tick that it is held against. Its threshold promises less than that of drives that were held back: a fifth over the highest
score of the baseline, and never under one.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models import manifest as manifests
from models.alarm import AlarmState, Transition
from models.calibrate import FEW_MARGIN, GUMBEL_DRIVES, p_value_knots, thresholds
from models.errors import TrainingDataError, TrainingFailed
from models.fit import Detector, Scored, each_alone, rounded
from models.following import CLEAR, Follower, fit_follower, follow
from models.following_graph import build_follower
from models.manifest import AlarmBudget, Calibration, Manifest, ModelFile, Persistence, Threshold
from models.pack import Pack, signals_fingerprint, write
from models.screening import screen
from models.tables import Drive, Table
from models.train import Options, check_equal, check_size, evaluation_of, signals_of, split_drives, training_of
from models.trained import Trained

__all__ = ["LEAST_TICKS", "SHORT_TICKS", "suits", "train_follower"]

LEAST_TICKS = 200
"""Valid ones of a recording: less does not show how far a signal wanders within two minutes."""
SHORT_TICKS = 1800
"""Half an hour: a longer recording shows a PCA where the healthy machine goes to, a shorter one does not."""
MARGIN = 1.2
"""Times the highest score of a few recordings. Twice, as for other rungs, would be what one odd minute of a baseline asks for: the score
grows with the logarithm of how far off a signal is."""


def suits(table: Table, options: Options) -> bool:
    """Whether the rung following is the one to take where none is named: a single short recording, and nothing asked that it cannot do."""
    asked = options.context or options.twins or options.baseline is not None or max(options.average, options.window) > 1
    return len(table.drives) == 1 and not asked and LEAST_TICKS <= len(table.drives[0].tick_ms) <= SHORT_TICKS


def train_follower(table: Table, options: Options, folder: str | Path) -> Trained:
    """Train and write an unsigned pack into `folder`. Raises TrainingDataError or TrainingFailed."""
    if options.window > 1 or options.average > 1 or options.twins or options.baseline is not None:
        raise TrainingDataError(
            "the rung following averages by itself and knows neither twins nor vehicles' baselines; leave out window, average, twins "
            "and baseline"
        )
    check_size(table)
    apart = len(table.drives) > 2
    fitted, held = split_drives(table.drives, options.seed) if apart else ([*table.drives], [*table.drives])
    keep, dropped = screen(table, fitted, (), options.catalogue)
    usable = table.choose(keep)
    if not keep:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(dropped.items())[:3])
        raise TrainingDataError(f"none of {len(table.names)} signals is usable ({reasons})")
    fitted = [drive.choose(keep) for drive in fitted]
    held = [drive.choose(keep) for drive in held] if apart else fitted
    for drive in [*fitted, *held]:
        if _valid(drive) < LEAST_TICKS:
            raise TrainingDataError(
                f"{drive.source}: {_valid(drive)} ticks of it have a value of every signal, expected at least {LEAST_TICKS} to show how "
                f"far a signal wanders; give a longer recording, or leave out signals that are often missing"
            )
    persistence = Persistence(need=options.need, of=options.of, warmup_ticks=options.warmup, gap_s=options.gap_s)
    follower = fit_follower(fitted)
    free = [_judged(follower, drive) for drive in held]
    threshold, _, _ = _thresholds(free, persistence, options.budget)
    follower = replace(follower, freeze=threshold.raise_at)
    scored = [_scored(follower, drive) for drive in held]
    judged = [one.score[one.known] for one in scored]
    _, calibration, budget = _thresholds(judged, persistence, options.budget)
    knots = p_value_knots(np.concatenate(judged))
    model = build_follower(follower, knots)
    manifest = Manifest(
        format=manifests.FORMAT,
        pack_id=options.pack_id,
        version=options.version,
        fault_code=options.fault_code,
        rung="following",
        signals=signals_of(usable, fitted, set()),
        schema_id=usable.schema.schema_id.hex() if usable.schema is not None else "",
        signals_id=signals_fingerprint(usable.schema, usable.columns) if usable.schema is not None and usable.columns is not None else "",
        window=1,
        average=1,
        threshold=threshold,
        persistence=persistence,
        calibration=calibration,
        alarm_budget=budget,
        training=training_of(table, fitted, options.seed, dropped=dropped),
        evaluation=evaluation_of(np.concatenate(judged)),
        model=ModelFile(sha256=manifests.sha256(model), bytes=len(model)),
    )
    write(folder, manifest, model)
    pack = Pack.load(folder)
    check_equal(pack, held[0], scored[0], knots, None)
    _check_silent(pack, held, scored)
    return Trained(
        pack=pack,
        detector=_as_detector(follower),
        table=usable,
        fitted=tuple(fitted),
        held=tuple(held),
        scored=tuple(scored),
        judged=tuple(judged),
        judged_drives=tuple(held),
        judged_scored=tuple(scored),
        judged_baselines=(None,) * len(held),
        parts=tuple(follow(follower, drive.values)[1][one.known] for drive, one in zip(held, scored, strict=True)),
    )


def _thresholds(
    drives: Sequence[NDArray[np.float64]], persistence: Persistence, budget: float
) -> tuple[Threshold, Calibration, AlarmBudget]:
    margin = MARGIN / FEW_MARGIN if len(drives) < GUMBEL_DRIVES else 1.0
    threshold, calibration, promise = thresholds(drives, persistence, budget, 1.0 / margin, margin=margin)
    clear_below = float(rounded(np.array([CLEAR * threshold.raise_at]))[0])
    return Threshold(raise_at=threshold.raise_at, clear_below=clear_below), calibration, promise


def _valid(drive: Drive) -> int:
    return int(np.isfinite(drive.values).all(axis=1).sum())


def _scored(follower: Follower, drive: Drive) -> Scored:
    score, _ = follow(follower, drive.values)
    return Scored(score, np.isfinite(score))


def _judged(follower: Follower, drive: Drive) -> NDArray[np.float64]:
    score, _ = follow(follower, drive.values)
    return score[np.isfinite(score)]


def _check_silent(pack: Pack, drives: Sequence[Drive], scored: Sequence[Scored]) -> None:
    alarm = pack.manifest.alarm()
    for drive, one in zip(drives, scored, strict=True):
        state = AlarmState()
        for tick, score in zip(drive.tick_ms.tolist(), one.score.tolist(), strict=True):
            state, transition = alarm.step(state, score if np.isfinite(score) else None, tick)
            if transition is Transition.RAISED:
                raise TrainingFailed(f"pack {pack.folder}: the alarm rises on its own calibration drive {drive.source} at {tick} ms")


def _as_detector(follower: Follower) -> Detector:
    """What the training's report asks a detector: its signals and what remains of each."""
    return each_alone(follower.start, follower.deviation, np.eye(len(follower.start)) / len(follower.start))
