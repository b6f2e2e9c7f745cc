"""A pack over recordings whose faults are known: scored as the vehicle scores, counted drive by drive."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dbc.catalogue import Catalogue
from models.alarm import Transition
from models.drives import Level
from models.errors import PackSchemaError, TrainingDataError
from models.evaluation.batch import BatchJudge
from models.evaluation.events import DriveCounts, Event, Judged, block_maxima, count, healthy_scores
from models.evaluation.figures import Evaluation, evaluate
from models.evaluation.truth import Recording, labelled_events, read_truth
from models.fit import MARGIN, MARGIN_PCA
from models.manifest import Manifest
from models.pack import Pack
from models.runtime import PackRuntime
from models.scoring import read_for, score_drive_ticks
from models.table_files import PLAIN, Layout
from models.tables import Drive, Progress, Table, is_table, read_columns, read_tables
from models.train import Options, train_pca
from models.vehicle import VehicleJudgement

Each = Callable[[Judged, list[Event], DriveCounts], None]

__all__ = ["Request", "Result", "judge", "run"]

VUS_WINDOW = 100
"""Ticks of the widest slope; what the published figures have where a series shows no period of its own."""


@dataclass(frozen=True)
class Request:
    """What to evaluate and how.

    labels: a column of the tables that is not 0 where the machine is faulty. healthy: nothing in the data is faulty. With neither, each
    recording has a truth file. rows: of each recording, which count; the runtime sees those before them. rebase: learn the baseline anew on
    so many first rows of each recording, with the pack's settings; these rows count nothing.
    """

    pack: Pack
    recordings: Sequence[Recording]
    dbc_files: Sequence[str] = ()
    labels: str | None = None
    healthy: bool = False
    first_row: int = 0
    last_row: int | None = None
    rebase: int | None = None
    vus_window: int = VUS_WINDOW
    month_hours: float = 100.0
    spare_s: float = 0.0
    layout: Layout = PLAIN
    catalogue: Catalogue | None = None
    """whose counters and checksums are checked in logs"""


@dataclass(frozen=True)
class Result:
    """The figures, and what each drive counted."""

    evaluation: Evaluation
    drives: tuple[DriveCounts, ...]


def run(request: Request, progress: Progress | None = None, each: Each | None = None) -> Result:
    """Evaluate. each: is shown every judged drive with its events and counts.

    Raises ModelsError, and dbc's errors for data that cannot be read.
    """
    counts: list[DriveCounts] = []
    healthy: list[NDArray[np.float32]] = []
    runtime = None if request.rebase else PackRuntime(request.pack)
    batch = BatchJudge(runtime) if runtime is not None else None
    for drive, events in _drives(request, progress):
        first = max(request.first_row, request.rebase or 0)
        if len(drive.tick_ms) <= first:
            raise TrainingDataError(f"{drive.source}: {len(drive.tick_ms)} rows, none of them after row {first}; give a longer recording")
        used = runtime or _rebased(request.pack, drive, request.rebase or 0)
        names = request.pack.manifest.names  # of which a new baseline may have left some out
        judged = judge(used, drive.choose([names.index(name) for name in used.names]), batch or BatchJudge(used))
        counts.append(count(judged, events, request.pack.manifest.fault_code, request.vus_window, first))
        # Only an event's score is ever compared with them, and two thousand vehicle-months of them are gigabytes.
        healthy.append(np.zeros(0, np.float32) if request.healthy else healthy_scores(judged, events, first))
        if each:
            each(judged, events, counts[-1])
    lengths = [ticks for one in counts for ticks in one.event_ticks]
    usual = int(np.median(lengths)) if lengths else 0
    blocks = [block_maxima(scores, usual) if usual else np.zeros(0) for scores in healthy]
    return Result(evaluate(counts, blocks, request.month_hours, request.spare_s), tuple(counts))


def judge(runtime: PackRuntime, drive: Drive, batch: BatchJudge | None = None) -> Judged:
    """Score a drive of the columns of `runtime.names`, from its first tick on. batch: does so at once where it can."""
    manifest = runtime.pack.manifest
    at_once = batch.judge(drive) if batch is not None else None
    if batch is not None and at_once is not None:
        shares = [batch.at(drive, one.raised, _own(at_once, one.raised)).contributions.tolist() for one in at_once.findings]
        return Judged(
            source=drive.source,
            tick_ms=drive.tick_ms,
            score=at_once.score,
            alarm=at_once.active,
            raised=np.array([one.raised for one in at_once.findings], np.int64),
            ticket=np.array([-1 if one.ticket is None else one.ticket for one in at_once.findings], np.int64),
            contributions=tuple(dict(zip(runtime.names, share, strict=True)) for share in shares),
            outside=_outside(manifest, drive),
            raise_at=manifest.threshold.raise_at,
        )
    ticks = len(drive.tick_ms)
    score, alarm = np.full(ticks, np.nan), np.zeros(ticks, bool)
    raised: list[int] = []
    ticket: list[int] = []
    contributions: list[dict[str, float]] = []
    for row, tick in enumerate(score_drive_ticks(runtime, drive)):
        if tick.score.judged is not None:
            score[row] = tick.score.judged
        alarm[row] = tick.alarm
        if tick.transition is Transition.RAISED:
            raised.append(row)
            ticket.append(row if tick.level is Level.TICKET else -1)
            contributions.append(dict(zip(runtime.names, tick.score.contributions.tolist(), strict=True)))
        elif tick.transition is Transition.CONFIRMED:
            ticket[-1] = row
    return Judged(
        source=drive.source,
        tick_ms=drive.tick_ms,
        score=score,
        alarm=alarm,
        raised=np.array(raised, np.int64),
        ticket=np.array(ticket, np.int64),
        contributions=tuple(contributions),
        outside=_outside(manifest, drive),
        raise_at=manifest.threshold.raise_at,
    )


def _own(judged: VehicleJudgement, row: int) -> NDArray[np.float64] | None:
    """(m,) the vehicle's own baseline in force at this judged row."""
    if judged.baselines is None:
        return None
    own = judged.baselines[np.searchsorted(judged.drives, row, side="right") - 1]
    return own if np.isfinite(own).all() else None


def _outside(manifest: Manifest, drive: Drive) -> dict[str, int]:
    """Signals that decide whether a tick is known, with the ticks at which they were out of the trained range and its margin."""
    if manifest.rung in ("limits", "following"):
        return {}
    context = any(signal.role == "context" for signal in manifest.signals)
    margin = MARGIN if context else MARGIN_PCA
    ticks: dict[str, int] = {}
    for signal, column in zip(manifest.signals, drive.values.T, strict=True):
        if signal.role == "context" or not context:
            room = margin * (signal.maximum - signal.minimum)
            out = int(((column < signal.minimum - room) | (column > signal.maximum + room)).sum())
            if out:
                ticks[signal.name] = out
    return ticks


def _drives(request: Request, progress: Progress | None) -> Iterator[tuple[Drive, list[Event]]]:
    names = request.pack.manifest.names
    for recording in request.recordings:
        path = recording.path
        if request.labels is not None:
            if not is_table(path):
                raise TrainingDataError(f"{path}: is no table by its name, so it has no column {request.labels!r}; give its --truth")
            table = read_tables([path], (), progress, request.layout)
            if request.labels not in table.names:
                raise TrainingDataError(
                    f"{path}: has no column {request.labels!r} of labels; its columns are {', '.join(table.names[:20])}"
                )
            (drive,) = _of_pack(request.pack, table, path).drives
            label = table.drives[0].values[:, table.names.index(request.labels)]
            events = labelled_events(path, request.labels, drive.tick_ms, label)
        else:
            if is_table(path):
                (drive,) = _of_pack(request.pack, read_columns([path], names, progress, request.layout), path).drives
            else:
                (drive,) = read_for(request.pack, [path], request.dbc_files, progress, request.layout, request.catalogue).drives
            events = []
            if not request.healthy:
                if recording.truth is None:
                    raise TrainingDataError(
                        f"{path}: nothing says what is faulty in it; give --labels COLUMN, --truth FILE, or --healthy if nothing is"
                    )
                events = read_truth(recording.truth)
        yield _upto(drive, request.last_row), events


def _of_pack(pack: Pack, table: Table, path: str) -> Table:
    missing = [name for name in pack.manifest.names if name not in table.names]
    if missing:
        raise PackSchemaError(f"pack {pack.folder}: {path} has no column {missing[0]!r}")
    return table.choose([table.names.index(name) for name in pack.manifest.names])


def _upto(drive: Drive, row: int | None) -> Drive:
    return Drive(drive.source, drive.tick_ms[:row], drive.values[:row])


def _rebased(pack: Pack, drive: Drive, rows: int) -> PackRuntime:
    """The pack's settings, its baseline learned on the first rows of this recording. For tables of runs that have nothing in common."""
    manifest = pack.manifest
    table = Table(
        tuple(manifest.names), tuple(signal.unit for signal in manifest.signals), (_upto(drive, rows),), schema=None, columns=None
    )
    with tempfile.TemporaryDirectory(prefix="cansight-rebase-") as folder:
        return PackRuntime(train_pca(table, _settings(manifest), Path(folder) / manifest.pack_id))


def _settings(manifest: Manifest) -> Options:
    return Options(
        pack_id=manifest.pack_id,
        fault_code=manifest.fault_code,
        version=manifest.version,
        rung=manifest.rung,
        context=[signal.name.replace("[", "[[]") for signal in manifest.signals if signal.role == "context"],
        average=manifest.average,
        window=manifest.window,
        seed=manifest.training.seed,
        need=manifest.persistence.need,
        of=manifest.persistence.of,
        warmup=manifest.persistence.warmup_ticks,
        gap_s=manifest.persistence.gap_s,
        budget=manifest.alarm_budget.per_drive,
    )
