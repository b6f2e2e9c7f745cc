"""Healthy drives in, a pack out. Everything is decided by the data and the seed; the same input gives the same bytes.

screen -> split by drive -> fit (fit.py) -> calibrate on the held-out drives (calibrate.py) -> graph (graph.py) -> check the graph -> write.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path

import numpy as np

from dbc.catalogue import Catalogue
from models import manifest as manifests
from models.alarm import AlarmState, Transition
from models.calibrate import Knots, p_value, p_value_knots, thresholds
from models.errors import TrainingDataError, TrainingFailed
from models.fit import Scored, fit, rounded, score_drive
from models.graph import build
from models.manifest import Evaluation, Manifest, ModelFile, Persistence, RungName, SignalSpec, Training
from models.pack import Pack, signals_fingerprint, write
from models.runtime import PackRuntime
from models.screening import screen
from models.tables import Drive, Table, check_pace, fingerprint
from models.trained import Trained

__all__ = ["Options", "split_drives", "split_recording", "train", "train_pca"]

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
    catalogue: Catalogue | None = None
    """says which signals are of the class identity, which no pack may look at"""
    twins: Sequence[str] = ()
    """globs of the signals of parts that ought to be alike, as four tyres: what parts them is the fault"""


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
    _check_size(table)
    check_pace(table, max(options.average, options.window), options.gap_s)
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
    detector = fit(fitted, monitored, context, options.average, max(options.average, options.window), rung, options.seed, bool(twins))
    persistence = Persistence(need=options.need, of=options.of, warmup_ticks=options.warmup, gap_s=options.gap_s)
    scored = [score_drive(detector, drive) for drive in held]
    judged = [one.score[one.known & np.isfinite(one.score)] for one in scored]
    least = options.warmup + options.of
    if 2 * sum(len(one) > least for one in judged) <= len(judged):  # half of the drives that were held back say nothing
        short = held[int(np.argmin([len(one) for one in judged]))]
        raise TrainingDataError(
            f"{short.source}: {min(map(len, judged))} ticks of it can be scored, expected over {least}; "
            f"give longer drives, or drives that cover the same operating range"
        )
    enough = [at for at, one in enumerate(judged) if len(one) >= options.warmup + options.need]  # these could have raised the alarm
    judged = [judged[at] for at in enough]
    threshold, calibration, budget = thresholds(judged, persistence, options.budget, 1.0 if twins else 1e-6)
    knots = p_value_knots(np.concatenate(judged))
    model = build(detector, knots)
    manifest = Manifest(
        format=manifests.FORMAT,
        pack_id=options.pack_id,
        version=options.version,
        fault_code=options.fault_code,
        rung=rung,
        signals=_signals(usable, fitted, set(context)),
        schema_id=usable.schema.schema_id.hex() if usable.schema is not None else "",
        signals_id=signals_fingerprint(usable.schema, usable.columns) if usable.schema is not None and usable.columns is not None else "",
        window=detector.window,
        average=detector.average,
        threshold=threshold,
        persistence=persistence,
        calibration=calibration,
        alarm_budget=budget,
        training=Training(
            data_sha256=fingerprint(table),
            drives=len(fitted),
            ticks=sum(len(drive.tick_ms) for drive in fitted),
            seed=options.seed,
            ridge={usable.names[monitored[at]]: penalty for at, penalty in detector.ridge.items()},
            dropped=dropped,
        ),
        evaluation=Evaluation(
            calibration_alarms=0,
            score_p50=_figure(np.quantile(np.concatenate(judged), 0.5)),
            score_p99=_figure(np.quantile(np.concatenate(judged), 0.99)),
            explained={usable.names[monitored[at]]: _figure(share) for at, share in enumerate(detector.explained)},
        ),
        model=ModelFile(sha256=manifests.sha256(model), bytes=len(model)),
    )
    write(folder, manifest, model)
    pack = Pack.load(folder)
    _check_agreement(pack, held[0], scored[0], knots)
    _check_silent(pack, held, scored)
    return Trained(
        pack=pack,
        detector=detector,
        table=usable,
        fitted=tuple(fitted),
        held=tuple(held),
        scored=tuple(scored),
        judged=tuple(judged),
        judged_drives=tuple(held[at] for at in enough),
        judged_scored=tuple(scored[at] for at in enough),
    )


def _check_size(table: Table) -> None:
    for drive in table.drives:
        if len(drive.tick_ms) < LEAST_TICKS:
            raise TrainingDataError(
                f"{drive.source}: {len(drive.tick_ms)} ticks of a second, expected at least {LEAST_TICKS}; give a longer recording"
            )


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


def _signals(usable: Table, fitted: Sequence[Drive], context: set[int]) -> list[SignalSpec]:
    values = np.concatenate([drive.values for drive in fitted])
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    return [
        SignalSpec(
            name=name, unit=unit, role="context" if at in context else "monitored", minimum=_figure(low[at]), maximum=_figure(high[at])
        )
        for at, (name, unit) in enumerate(zip(usable.names, usable.units, strict=True))
    ]


def _figure(value: float | np.floating) -> float:
    return float(rounded(np.array([float(value)]))[0])


def _check_agreement(pack: Pack, drive: Drive, scored: Scored, knots: Knots) -> None:
    """The written pack, run as the vehicle runs it, must say what NumPy said."""
    # A healthy score stands beside itself among the knots, and the last digits decide on which side.
    least, most = (p_value(knots, scored.score * (1 + side * SIDE)) for side in (1, -1))
    runtime = PackRuntime(pack)
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


def _check_silent(pack: Pack, drives: Sequence[Drive], scored: Sequence[Scored]) -> None:
    """The alarm itself, as the vehicle runs it, over every calibration drive: it was calibrated to stay silent there."""
    alarm = pack.manifest.alarm()
    for drive, one in zip(drives, scored, strict=True):
        state = AlarmState()
        for tick, score, known in zip(drive.tick_ms, one.score, one.known, strict=True):
            state, transition = alarm.step(state, float(score) if known and np.isfinite(score) else None, int(tick))
            if transition is Transition.RAISED:
                raise TrainingFailed(f"pack {pack.folder}: the alarm rises on its own calibration drive {drive.source} at {int(tick)} ms")
