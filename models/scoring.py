"""Scoring recorded drives as the vehicle would: the same runtime, the same alarm, tick after tick."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

import numpy as np

from dbc.compiler import compile_dbc
from models.alarm import AlarmState, Transition
from models.errors import PackSchemaError
from models.pack import Pack
from models.runtime import PackRuntime, Score
from models.tables import Drive, Progress, Table, read_tables, sample_logs

__all__ = ["HEADER", "ScoredTick", "read_for", "score_drive_ticks", "write_header", "write_tick"]

HEADER = ("timestamp", "score", "p_value", "alarm", "contributors")
CONTRIBUTORS = 3


@dataclass(frozen=True, slots=True)
class ScoredTick:
    """One row of the scores. alarm: whether the alarm is active after this tick; transition: what the tick did to it."""

    tick_ms: int
    score: Score
    alarm: bool
    since_ms: int | None
    transition: Transition | None


def read_for(pack: Pack, paths: Sequence[str], dbc_files: Sequence[str], progress: Progress | None = None) -> Table:
    """The pack's inputs, in its order, out of logs (with DBC files) or tables. Raises PackSchemaError if one of them is missing."""
    if dbc_files:
        compiled = compile_dbc(dbc_files)
        return sample_logs(paths, compiled, pack.columns(compiled.schema), progress)
    table = read_tables(paths, (), progress)
    missing = [name for name in pack.manifest.names if name not in table.names]
    if missing:
        raise PackSchemaError(f"pack {pack.folder}: the table has no column {missing[0]!r}; for a CAN log give its --dbc")
    return table.choose([table.names.index(name) for name in pack.manifest.names])


def score_drive_ticks(runtime: PackRuntime, drive: Drive) -> Iterator[ScoredTick]:
    """Score a drive from its first tick on; runtime and alarm begin anew."""
    runtime.reset()
    alarm, state = runtime.pack.manifest.alarm(), AlarmState()
    for tick, values in zip(drive.tick_ms.tolist(), drive.values, strict=True):
        score = runtime.score(values, tick)
        state, transition = alarm.step(state, score.judged, tick)
        yield ScoredTick(tick, score, state.active, state.since_ms, transition)


def contributors(names: Sequence[str], score: Score) -> list[tuple[str, float]]:
    """The signals that explain the score, most first, with their shares."""
    order = np.argsort(-score.contributions, kind="stable")[:CONTRIBUTORS]
    return [(names[at], float(score.contributions[at])) for at in order if score.contributions[at] > 0]


def write_header(stream: TextIO) -> None:
    """The header of a CSV file of scores."""
    csv.writer(stream, lineterminator="\n").writerow(HEADER)


def write_tick(stream: TextIO, names: Sequence[str], tick: ScoredTick) -> None:
    """One row; score and p-value are empty where a tick has none, and written so that they read back as the same doubles."""
    score = tick.score
    csv.writer(stream, lineterminator="\n").writerow(
        (
            repr(tick.tick_ms / 1000),
            "" if score.score is None else repr(score.score),
            "" if score.p_value is None else repr(score.p_value),
            int(tick.alarm),
            " ".join(f"{name}={share:.3f}" for name, share in contributors(names, score)) or score.reason,
        )
    )
