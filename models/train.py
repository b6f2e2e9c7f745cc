"""Healthy drives in, a pack out. Everything is decided by the data and the seed; the same input gives the same bytes.

screen -> split by drive -> fit (fit.py) -> calibrate on the held-out drives (calibrate.py) -> graph (graph.py) -> check the graph -> write.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dbc.catalogue import Catalogue
from models import manifest as manifests
from models.baseline import Baselines
from models.calibrate import Calibrated, Knots, bounds, calibrate, p_value
from models.errors import TrainingDataError, TrainingFailed
from models.fit import Detector, Scored, fit, rounded, score_drive
from models.graph import build
from models.manifest import (
    Baseline,
    Confirm,
    DriveRule,
    Evaluation,
    Manifest,
    ModelFile,
    OwnSignal,
    Persistence,
    RungName,
    SignalSpec,
    Training,
)
from models.pack import Pack, signals_fingerprint, write
from models.runtime import PackRuntime
from models.screening import screen
from models.tables import Drive, Table, check_pace, fingerprint
from models.trained import Trained
from models.vehicle import judge_vehicle

__all__ = [
    "Options",
    "check_equal",
    "check_size",
    "evaluation_of",
    "figure",
    "signals_of",
    "split_drives",
    "split_recording",
    "train",
    "train_pca",
    "training_of",
]

HELD_OUT = 0.35
"""Share of the drives that calibrate; thresholds are tails and need many drives, coefficients need fewer."""
LEAST_TICKS = 60
"""A minute: less shows no correlation that would last."""
BLOCKS = 3
"""A single recording is cut into this many stretches of time, the last of which calibrates."""
AGREEMENT = 1e-9
"""Relative; what the graph and NumPy may differ by in double precision."""
SIDE = 1e-7
"""Relative; within it a score counts as equal to a healthy one."""


@dataclass(frozen=True)
class Options:
    """What a training may be told. context: globs of the signals that describe the operating point; none: plain PCA."""

    pack_id: str
    fault_code: str
    version: str = "1.0.0"
    rung: RungName | None = None
    """None: expected with context, pca without; autoencoder: either"""
    context: Sequence[str] = ()
    average: int = 1
    """ticks over which a score averages"""
    window: int = 1
    """ticks of context that it looks back on; at least `average`"""
    seed: int = 0
    need: int = 10
    of: int = 12
    warmup: int = 10
    gap_s: int = 5
    budget: float = 1e-4
    """Probability that a healthy drive raises an alarm."""
    margin: tuple[float, float] = (1.0, 1.0)
    """The threshold is so many times what the budget asks for, and so many times while a vehicle's baseline is being learned"""
    catalogue: Catalogue | None = None
    """says which signals are of the class identity, which no pack may look at"""
    twins: Sequence[str] = ()
    """globs of the signals of parts that ought to be alike, as four tyres: what parts them is the fault"""
    baseline: tuple[int, int] | None = None
    """Each recording is all drives of one vehicle, which is judged against its own baseline: from so many healthy drives on, frozen after
    so many; None: every vehicle is judged as the fleet is"""
    gains: Sequence[str] = ()
    """globs of the monitored signals whose baseline is in proportion to the expected value"""
    confirm: tuple[int, int] = (1, 1)
    """a finding has ticket level when so many of the last so many drives raise the alarm"""
    at_once: float | None = None
    """or when a persistent score reaches so many times the threshold"""
    drive_gap_s: int = 600
    """a longer pause between judged ticks ends a drive"""
    drive_ticks: int = 300
    """judged ticks of the shortest drive that counts for confirmation and baseline"""


def train_pca(table: Table, options: Options, folder: str | Path) -> Pack:
    """Train on healthy drives and write an unsigned pack into `folder`. Raises TrainingDataError or TrainingFailed."""
    return train(table, options, folder).pack


def train(table: Table, options: Options, folder: str | Path) -> Trained:
    """As `train_pca`, with what its report needs."""
    if options.rung not in (None, "autoencoder") and (options.rung == "expected") != bool(options.context):
        raise TrainingDataError(
            f"the rung {options.rung} {'needs' if options.rung == 'expected' else 'takes no'} context signals; "
            f"{'name them' if options.rung == 'expected' else 'leave them out, or choose the rung expected'}"
        )
    check_size(table)
    check_pace(table, max(options.average, options.window), options.gap_s)
    if options.rung == "following":
        from models.train_following import train_follower  # which needs what is in here

        return train_follower(table, options, folder)
    if len(table.drives) > 1:
        return _train(table, *split_drives(table.drives, options.seed), options, folder)
    for block in reversed(range(1, BLOCKS)):
        # The last stretch is the honest one: what comes later is what the detector is for. Of a minute's drive, though, it may lie
        # where the others have not been.
        try:
            return _train(table, *split_recording(table.drives[0], block), options, folder)
        except TrainingDataError:
            if block == 1:
                raise
    raise AssertionError("unreachable: a recording has at least two stretches")


def _train(table: Table, fitted: list[Drive], held: list[Drive], options: Options, folder: str | Path) -> Trained:
    described = {at for at, name in enumerate(table.names) if any(fnmatchcase(name, glob) for glob in options.context)}
    twins = {at for at, name in enumerate(table.names) if any(fnmatchcase(name, glob) for glob in options.twins)}
    keep, dropped = screen(table, fitted, described, options.catalogue, twins)
    usable = table.choose(keep)
    fitted, held = [drive.choose(keep) for drive in fitted], [drive.choose(keep) for drive in held]
    context = [at for at, column in enumerate(keep) if column in described]
    monitored = [at for at in range(len(usable.names)) if at not in set(context)]
    _check_roles(table, usable, dropped, options, monitored)
    rung: RungName = options.rung or ("expected" if context else "pca")
    gains = {at for at in monitored if any(fnmatchcase(usable.names[at], glob) for glob in options.gains)}
    _check_gains(usable, fitted, gains, options)
    average, window = options.average, max(options.average, options.window)
    detector = fit(fitted, monitored, context, average, window, rung, options.seed, bool(twins), options.baseline is not None, gains)
    persistence = Persistence(need=options.need, of=options.of, warmup_ticks=options.warmup, gap_s=options.gap_s)
    rule = DriveRule(gap_s=options.drive_gap_s, least_ticks=options.drive_ticks)
    baselines = None
    if options.baseline is not None:
        baselines = Baselines(*options.baseline, bounds(detector, fitted, rule))
    least = 1.0 if twins else 1e-6
    calibrated = calibrate(
        detector, held, rule, persistence, baselines, options.budget, least, options.confirm, options.at_once, options.margin
    )
    detector = replace(detector, learning=calibrated.learning)
    model = build(detector, calibrated.knots, calibrated.learning_knots)
    judged = calibrated.judged
    manifest = Manifest(
        format=manifests.FORMAT,
        pack_id=options.pack_id,
        version=options.version,
        fault_code=options.fault_code,
        rung=rung,
        signals=signals_of(usable, fitted, set(context)),
        schema_id=usable.schema.schema_id.hex() if usable.schema is not None else "",
        signals_id=signals_fingerprint(usable.schema, usable.columns) if usable.schema is not None and usable.columns is not None else "",
        window=detector.window,
        average=detector.average,
        threshold=calibrated.threshold,
        persistence=persistence,
        calibration=calibrated.calibration,
        alarm_budget=calibrated.budget,
        training=training_of(
            table,
            fitted,
            options.seed,
            ridge={usable.names[monitored[at]]: penalty for at, penalty in detector.ridge.items()},
            dropped=dropped,
        ),
        evaluation=evaluation_of(
            np.concatenate(judged), {usable.names[monitored[at]]: figure(share) for at, share in enumerate(detector.explained)}
        ),
        model=ModelFile(sha256=manifests.sha256(model), bytes=len(model)),
        drives=rule,
        confirm=Confirm(
            drives=options.confirm[0],
            of=options.confirm[1],
            at_once=None if options.at_once is None else figure(options.at_once * calibrated.threshold.raise_at),
        ),
        baseline=_baseline(detector, baselines, [usable.names[at] for at in monitored]),
    )
    write(folder, manifest, model)
    pack = Pack.load(folder)
    _check_agreement(pack, detector, held[0], calibrated)
    _check_silent(pack, detector, held)
    return Trained(
        pack=pack,
        detector=detector,
        table=usable,
        fitted=tuple(fitted),
        held=tuple(held),
        scored=calibrated.every,
        judged=tuple(judged),
        judged_drives=calibrated.drives,
        judged_scored=calibrated.scored,
        judged_baselines=calibrated.baselines,
    )


def _baseline(detector: Detector, rule: Baselines | None, names: Sequence[str]) -> Baseline | None:
    if rule is None:
        return None
    signals = {
        name: OwnSignal(bound=bound, kind="gain" if gain else "offset")
        for name, bound, gain in zip(names, rule.bound.tolist(), detector.slope.tolist(), strict=True)
    }
    return Baseline(least=rule.least, most=rule.most, learning=detector.learning, signals=signals)


def _check_gains(usable: Table, fitted: Sequence[Drive], gains: set[int], options: Options) -> None:
    if options.gains and options.baseline is None:
        raise TrainingDataError("a gain is a kind of baseline; give a baseline, too")
    for glob in options.gains:
        if not any(fnmatchcase(usable.names[at], glob) for at in gains):
            raise TrainingDataError(f"no monitored signal fits the gain {glob!r}; it must be among the signals of the training")
    for at in gains:
        if not all(np.nanmin(drive.values[:, at]) > 0 for drive in fitted if np.isfinite(drive.values[:, at]).any()):
            raise TrainingDataError(
                f"{usable.names[at]} is not over zero throughout, so that no gain can be told of it; leave it an offset"
            )


def check_size(table: Table) -> None:
    """Raises TrainingDataError for a drive of fewer than LEAST_TICKS ticks."""
    for drive in table.drives:
        if (ticks := len(drive.tick_ms)) < LEAST_TICKS:
            one_or_more = "1 tick" if ticks == 1 else f"{ticks} ticks"
            raise TrainingDataError(f"{drive.source}: {one_or_more} of a second, expected at least {LEAST_TICKS}; give a longer recording")


def _check_roles(table: Table, usable: Table, dropped: dict[str, str], options: Options, monitored: Sequence[int]) -> None:
    for glob in options.context:
        if not any(fnmatchcase(name, glob) for name in table.names):
            raise TrainingDataError(f"no chosen signal fits the context {glob!r}; it must be among the signals of the training")
    least = 1 if options.context or options.rung == "limits" else 2
    if len(monitored) < least:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(dropped.items())[:3])
        raise TrainingDataError(
            f"{len(usable.names)} of {len(table.names)} signals are usable and {len(monitored)} of them would be monitored, "
            f"expected at least {least} ({reasons or 'none was dropped'})"
            + ("; --rung limits takes one" if least > 1 and monitored else "")
        )


def split_drives(drives: Sequence[Drive], seed: int) -> tuple[list[Drive], list[Drive]]:
    """Drives to fit on and drives to calibrate on; a drive is never on both sides. A single recording is cut in time."""
    if len(drives) < 2:
        return split_recording(drives[0], BLOCKS - 1)
    order = np.random.default_rng(seed).permutation(len(drives))
    held = max(1, round(HELD_OUT * len(drives)))
    return [drives[at] for at in sorted(order[held:])], [drives[at] for at in sorted(order[:held])]


def split_recording(drive: Drive, block: int) -> tuple[list[Drive], list[Drive]]:
    """One recording in BLOCKS stretches of time, of which `block` calibrates."""
    ends = np.linspace(0, len(drive.tick_ms), BLOCKS + 1).astype(np.int64)
    parts = [Drive(drive.source, drive.tick_ms[a:b], drive.values[a:b]) for a, b in pairwise(ends)]
    return parts[:block] + parts[block + 1 :], [parts[block]]


def signals_of(usable: Table, fitted: Sequence[Drive], context: set[int]) -> list[SignalSpec]:
    """The manifest's: role and trained range of each column, in its unit."""
    values = np.concatenate([drive.values for drive in fitted])
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    return [
        SignalSpec(
            name=name, unit=unit, role="context" if at in context else "monitored", minimum=figure(low[at]), maximum=figure(high[at])
        )
        for at, (name, unit) in enumerate(zip(usable.names, usable.units, strict=True))
    ]


def training_of(
    table: Table, fitted: Sequence[Drive], seed: int, ridge: Mapping[str, float] | None = None, dropped: Mapping[str, str] | None = None
) -> Training:
    """What the manifest says of the data; dropped: why a signal of the table is not used."""
    ticks = sum(len(drive.tick_ms) for drive in fitted)
    return Training(fingerprint(table), len(fitted), ticks, seed, dict(ridge or {}), dict(dropped or {}))


def evaluation_of(scores: NDArray[np.float64], explained: Mapping[str, float] | None = None) -> Evaluation:
    """What the manifest says of the calibration drives' scores (n,), none of which raised an alarm."""
    p50, p99 = (figure(np.quantile(scores, share)) for share in (0.5, 0.99))
    return Evaluation(calibration_alarms=0, score_p50=p50, score_p99=p99, explained=dict(explained or {}))


def figure(value: float | np.floating) -> float:
    """As a manifest has it: to as many significant digits as the graph's constants."""
    return float(rounded(np.array([float(value)]))[0])


def _check_agreement(pack: Pack, detector: Detector, drive: Drive, calibrated: Calibrated) -> None:
    """The written pack, run as the vehicle runs it, must say what NumPy said: with the fleet's baseline and a vehicle's own."""
    own = pack.manifest.baselines()
    check_equal(pack, drive, score_drive(detector, drive), calibrated.learning_knots or calibrated.knots, None)
    if own is not None:
        check_equal(pack, drive, score_drive(detector, drive, baseline=own.bound / 2), calibrated.knots, own.bound / 2)


def check_equal(pack: Pack, drive: Drive, scored: Scored, knots: Knots, baseline: NDArray[np.float64] | None) -> None:
    """The written pack over the drive's first 300 ticks, with this baseline (m,). Raises TrainingFailed where it says otherwise."""
    # A healthy score stands beside itself among the knots, and the last digits decide on which side.
    least, most = (p_value(knots, scored.score * (1 + side * SIDE)) for side in (1, -1))
    runtime = PackRuntime(pack)
    runtime.set_baseline(baseline)
    for at in range(min(len(drive.tick_ms), 300)):
        result = runtime.score(drive.values[at], int(drive.tick_ms[at]))
        expected = scored.score[at]
        if (result.score is None) != bool(np.isnan(expected)):
            raise TrainingFailed(f"pack {pack.folder}: the graph and the training disagree whether tick {at} of {drive.source} has a score")
        if result.score is None or result.p_value is None:
            continue
        if abs(result.score - expected) > AGREEMENT * max(1.0, abs(expected)) or not (
            least[at] - AGREEMENT <= result.p_value <= most[at] + AGREEMENT
        ):
            raise TrainingFailed(
                f"pack {pack.folder}: the graph scores tick {at} of {drive.source} {result.score!r}, the training {expected!r}"
            )
        if result.known != bool(scored.known[at]):
            raise TrainingFailed(f"pack {pack.folder}: the graph and the training disagree whether tick {at} of {drive.source} is known")


def _check_silent(pack: Pack, detector: Detector, drives: Sequence[Drive]) -> None:
    """The alarm itself, as the vehicle runs it, over every calibration drive: it was calibrated to stay silent there."""
    for drive in drives:
        for finding in judge_vehicle(pack.manifest, detector, drive, fast=False).findings:
            at = int(drive.tick_ms[finding.raised])
            raise TrainingFailed(f"pack {pack.folder}: the alarm rises on its own calibration drive {drive.source} at {at} ms")
