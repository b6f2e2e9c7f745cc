"""Training of the rung joint (models/joint.py): many signals, each judged by all others and its own past.

What is monitored are the quantities that move within a drive; whatever else can be used (states, switches, what is constant in a drive) is
context: it helps to say what a signal ought to be, and it decides what is known here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dbc.catalogue import Catalogue
from models import manifest as manifests
from models.calibrate import p_value_knots, thresholds
from models.drives import first_ticks
from models.errors import TrainingDataError
from models.fit import Scored
from models.joint import JUDGES, Joint, JudgeName, fit_joint, score_joint
from models.joint_graph import build_joint
from models.manifest import Confirm, DriveRule, Manifest, ModelFile, Persistence
from models.pack import Pack, signals_fingerprint, write
from models.screening import screen
from models.tables import Drive, Table
from models.train import check_equal, check_size, evaluation_of, figure, signals_of, split_drives, training_of

__all__ = ["JointOptions", "late", "train_joint"]

MOVES = 0.02
"""Of its standard deviation over all drives: a signal that moves less within a drive says which car or day it is, and is context."""
STEPS = 2.0
"""Of the smallest steps that it makes: less is the last digit."""
STATES = ("switch", "enumeration", "enumeration by its behaviour")
LATENESS = 1.2
"""Of its period: what a bus last said of a signal is between nothing and a period old, and a little more where it waited."""
LEAST_DRIVES = 20
RARE_DRIVES, USUAL_SHARE = 20, 0.8
STATE_STEPS = 16
"""A signal of which the DBC declares fewer raw steps is a state, and not between two of them."""


@dataclass(frozen=True)
class JointOptions:
    """What a training may be told.

    judge: models/joint.py. monitor: globs; none: whatever moves within a drive. gates: globs of signals that must be as in training.
    late: the rows are instants, as simulated ticks are: make each message as late as a bus would. margin: the threshold is so many times
    what the budget asks for.
    """

    pack_id: str
    fault_code: str
    version: str = "1.0.0"
    judge: JudgeName = "apart"
    monitor: Sequence[str] = ()
    gates: Sequence[str] = ()
    late: bool = False
    seed: int = 0
    need: int = 10
    of: int = 12
    warmup: int = 0
    gap_s: int = 5
    budget: float = 1e-4
    confirm: tuple[int, int] = (1, 1)
    margin: float = 1.0
    catalogue: Catalogue | None = None


def train_joint(table: Table, options: JointOptions, folder: str | Path) -> Pack:
    """Train on healthy drives and write an unsigned pack into `folder`. Raises TrainingDataError or TrainingFailed.

    A recording with pauses is several drives of one vehicle, which all are fitted on, or all calibrate.
    """
    check_size(table)
    if len(table.drives) < LEAST_DRIVES:
        raise TrainingDataError(
            f"{len(table.drives)} drives, expected at least {LEAST_DRIVES}: hundreds of coefficients must hold elsewhere, too"
        )
    fitted, held = ([piece for drive in side for piece in _pieces(drive)] for side in split_drives(table.drives, options.seed))
    if options.late:
        table = late(Table(table.names, table.units, (*fitted, *held), table.schema, table.columns), options.seed)
        fitted, held = list(table.drives[: len(fitted)]), list(table.drives[len(fitted) :])
    gates = {at for at, name in enumerate(table.names) if _fits(name, options.gates)}
    keep, context, dropped = _roles(table, fitted, gates, options)
    fitted = _usual(fitted, sorted(context - gates))
    usable = table.choose(keep)
    fitted, held = [drive.choose(keep) for drive in fitted], [drive.choose(keep) for drive in held]
    monitored = [at for at, column in enumerate(keep) if column not in context]
    if not monitored:
        raise TrainingDataError(f"none of {len(table.names)} signals moves within a drive; choose other --monitor, or other drives")
    try:
        joint = fit_joint(fitted, monitored, options.judge, [at for at, column in enumerate(keep) if column in context])
    except ValueError as error:
        raise TrainingDataError(f"{fitted[0].source}: {error}; give longer drives, or drives with fewer missing values") from error
    joint, keep_still = _without_idle(joint)
    if keep_still is not None:
        usable, dropped = usable.choose(keep_still), dropped | _idle(usable, keep_still)
        fitted, held = [drive.choose(keep_still) for drive in fitted], [drive.choose(keep_still) for drive in held]
    persistence = Persistence(need=options.need, of=options.of, warmup_ticks=options.warmup, gap_s=options.gap_s)
    scored = [score_joint(joint, drive) for drive in held]
    judged = [one.score[one.known] for one in scored]
    if sum(len(one) >= options.warmup + options.of for one in judged) < len(judged) / 2:
        raise TrainingDataError(f"{held[0].source}: too few of its ticks can be judged; give drives of over {joint.window + options.of} s")
    vehicle = np.unique([drive.source for drive in held], return_inverse=True)[1]
    threshold, calibration, budget = thresholds(judged, persistence, options.budget, 1.0, vehicle, options.confirm, margin=options.margin)
    knots = p_value_knots(np.concatenate(judged))
    model = build_joint(joint, knots)
    names = [usable.names[at] for at in joint.monitored]
    manifest = Manifest(
        format=manifests.FORMAT,
        pack_id=options.pack_id,
        version=options.version,
        fault_code=options.fault_code,
        rung="joint",
        signals=signals_of(usable, fitted, set(range(len(usable.names))) - set(joint.monitored.tolist())),
        schema_id=usable.schema.schema_id.hex() if usable.schema is not None else "",
        signals_id=signals_fingerprint(usable.schema, usable.columns) if usable.schema is not None and usable.columns is not None else "",
        window=joint.window,
        average=1,
        threshold=threshold,
        persistence=persistence,
        calibration=calibration,
        alarm_budget=budget,
        training=training_of(table, fitted, options.seed, dropped=dropped),
        evaluation=evaluation_of(
            np.concatenate(judged), {name: figure(share) for name, share in zip(names, joint.explained, strict=bool(len(joint.explained)))}
        ),
        model=ModelFile(sha256=manifests.sha256(model), bytes=len(model)),
        drives=DriveRule(),
        confirm=Confirm(drives=options.confirm[0], of=options.confirm[1]),
    )
    write(folder, manifest, model)
    pack = Pack.load(folder)
    check_equal(pack, held[0], _first(joint, held[0]), knots, None)
    return pack


def _pieces(recording: Drive) -> list[Drive]:
    """Its drives: runs of rows without a pause."""
    first = first_ticks(recording.tick_ms, 1000 * DriveRule().gap_s)
    return [recording.rows(a, b) for a, b in pairwise([*first.tolist(), len(recording.tick_ms)])]


def late(table: Table, seed: int) -> Table:
    """The table as a bus would have said it: of each drive, each message late by a share of its period, drawn anew.

    Of quantities, in the DBC's raw steps: states do not lie between two of theirs. A table without a DBC has no periods and stays as it is.
    """
    if table.schema is None or table.columns is None:
        return table
    period_s = np.nan_to_num(table.schema.period_ms[table.columns], nan=0.0) / 1000
    message = [name.partition(".")[0] for name in table.names]
    number = np.unique(message, return_inverse=True)[1]
    scale, offset = table.schema.scale[table.columns], table.schema.offset[table.columns]
    steps = (table.schema.maximum[table.columns] - table.schema.minimum[table.columns]) / scale
    states = (steps > 0) & (steps < STATE_STEPS)
    dice = np.random.default_rng(seed)
    drives = []
    for drive in table.drives:
        share = dice.uniform(0, LATENESS, number.max() + 1)[number]
        back = np.where(states, 0.0, np.minimum(share * period_s, 1.0))
        values = drive.values.copy()
        values[1:] -= np.diff(drive.values, axis=0) * back
        values = np.rint((values - offset) / scale) * scale + offset
        drives.append(Drive(drive.source, drive.tick_ms, values, drive.stamp_ms))
    return Table(table.names, table.units, tuple(drives), table.schema, table.columns)


def _roles(table: Table, fitted: Sequence[Drive], gates: set[int], options: JointOptions) -> tuple[list[int], set[int], dict[str, str]]:
    """Columns that are used, which of them are context, and why the others are not."""
    everything = set(range(len(table.names)))
    keep, dropped = screen(table, fitted, gates, options.catalogue, everything)
    named = {name: at for at, name in enumerate(table.names)}
    context = gates & set(keep)
    for name, reason in list(dropped.items()):
        if reason in STATES:
            context.add(named[name])
            del dropped[name]
    overall = np.nanstd(np.concatenate([drive.values for drive in fitted]), axis=0)
    within = np.mean([np.nanstd(drive.values, axis=0) for drive in fitted], axis=0)
    for at in keep:
        name = table.names[at]
        if options.monitor:
            if not _fits(name, options.monitor):
                context.add(at)
        elif within[at] < max(MOVES * overall[at], STEPS * _step([drive.values[:, at] for drive in fitted[:LEAST_DRIVES]])):
            context.add(at)
    if options.judge == "still":  # which looks at each signal alone: its context are gates
        dropped |= {table.names[at]: "context, which this judge does not need" for at in context - gates}
        context &= gates
    keep = [at for at in sorted({*keep, *context}) if table.names[at] not in dropped]
    return keep, context, dropped


def _usual(drives: list[Drive], context: Sequence[int]) -> list[Drive]:
    """Those in which no context is as in fewer than RARE_DRIVES: what so few show holds for none, so it is to be not known here."""
    first = np.concatenate([drive.values[:, context] for drive in drives[::10]])
    usual = np.nanmedian(first, axis=0) if len(context) else np.zeros(0)
    with np.errstate(invalid="ignore"):
        other = np.array([(drive.values[:, context] != usual).any(axis=0) for drive in drives])
    rare = (other.sum(axis=0) < RARE_DRIVES) & other.any(axis=0)
    left = [drive for drive, odd in zip(drives, (other & rare).any(axis=1), strict=True) if not odd]
    return left if len(left) >= USUAL_SHARE * len(drives) else drives


def _step(columns: Sequence[NDArray[np.float64]]) -> float:
    """The smallest difference between two values that occur."""
    gaps = np.diff(np.unique(np.concatenate(columns)))
    gaps = gaps[np.isfinite(gaps) & (gaps > 1e-9)]
    return float(gaps.min()) if len(gaps) else np.inf


def _without_idle(joint: Joint) -> tuple[Joint, list[int] | None]:
    """Of the judge still, without the signals that stand still when they are healthy; and the columns that are left, where some are not."""
    idle = joint.limits[0] <= 0
    if joint.judge != "still" or not idle.any():
        return joint, None
    if idle.all():
        raise TrainingDataError("every signal stands still at times in healthy drives; none can be told to be stuck")
    gone = set(joint.monitored[idle].tolist())
    keep = [at for at in range(len(joint.centre)) if at not in gone]
    place = {column: at for at, column in enumerate(keep)}
    return (
        Joint(
            judge=joint.judge,
            monitored=np.array([place[at] for at in joint.monitored[~idle].tolist()], np.int64),
            centre=joint.centre[keep],
            spread=joint.spread[keep],
            pairs=joint.pairs,
            spans=joint.spans,
            weights=np.zeros((0, int((~idle).sum()))),
            bias=joint.bias[~idle],
            limits=joint.limits[:, ~idle],
            low=joint.low[keep],
            high=joint.high[keep],
        ),
        keep,
    )


def _idle(table: Table, keep: Sequence[int]) -> dict[str, str]:
    left = set(keep)
    return {name: "stands still at times when it is healthy" for at, name in enumerate(table.names) if at not in left}


def _first(joint: Joint, drive: Drive) -> Scored:
    """Of the ticks that are compared with the graph."""
    return score_joint(joint, drive.rows(0, 300 + max(lag for lag, _ in JUDGES[joint.judge])))


def _fits(name: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)
