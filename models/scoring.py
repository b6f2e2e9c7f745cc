"""Scoring recorded drives as the vehicle would: the same runtime, the same alarm, tick after tick."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np

from dbc.catalogue import Catalogue
from models.alarm import Transition
from models.drives import Level
from models.errors import PackSchemaError, TrainingDataError
from models.judge import PackJudge
from models.pack import Pack
from models.runtime import PackRuntime, Score
from models.table_files import PLAIN, Layout
from models.tables import Drive, Progress, Table, check_pace, compiled_for, is_table, read_columns, sample_logs

__all__ = ["HEADER", "CsvScores", "ParquetScores", "ScoredTick", "Scores", "read_for", "score_drive_ticks"]

HEADER = ("timestamp", "score", "p_value", "alarm", "contributors")
CONTRIBUTORS = 3
ROWS_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True)
class ScoredTick:
    """One row of the scores. alarm: whether the alarm is active after this tick; transition: what the tick did to it.

    tick_ms, since_ms: times of the recording, ms UTC.
    """

    tick_ms: int
    score: Score
    alarm: bool
    since_ms: int | None
    transition: Transition | None
    level: Level | None = None
    """of the finding that is active, or that this tick has ended"""


def read_for(
    pack: Pack,
    paths: Sequence[str],
    dbc_files: Sequence[str],
    progress: Progress | None = None,
    layout: Layout = PLAIN,
    catalogue: Catalogue | None = None,
) -> Table:
    """The pack's inputs, in its order, out of tables (by their names, or without DBC files) or logs. catalogue: as `read_table`.

    Raises PackSchemaError if one of them is missing, TrainingDataError where a file cannot be read.
    """
    tables = [path for path in paths if is_table(path)]
    columns = None
    if dbc_files:
        compiled = compiled_for(dbc_files, catalogue)
        columns = pack.columns(compiled.schema)
        if not tables:
            layout.check_log(paths[0])
            return sample_logs(paths, compiled, columns, progress)
        if len(tables) < len(paths):
            log = next(path for path in paths if path not in tables)
            raise TrainingDataError(f"{log}: is no table by its name, but {tables[0]} is; expected all tables or all CAN logs")
    table = read_columns(paths, pack.manifest.names, progress, layout)
    missing = [name for name in pack.manifest.names if name not in table.names]
    if missing:
        hint = "" if tables else "; for a CAN log give its --dbc"
        raise PackSchemaError(f"pack {pack.folder}: {paths[0]} has no column {missing[0]!r}{hint}")
    check_pace(table, pack.manifest.window, pack.manifest.persistence.gap_s)
    return table.choose([table.names.index(name) for name in pack.manifest.names])


def score_drive_ticks(runtime: PackRuntime, drive: Drive) -> Iterator[ScoredTick]:
    """Score a recording from its first tick on, of a vehicle that the pack has not seen before: runtime, alarm and baseline begin anew."""
    runtime.reset()
    judge = PackJudge(runtime)
    stamps = (drive.tick_ms if drive.stamp_ms is None else drive.stamp_ms).tolist()
    ticks: list[int] = drive.tick_ms.tolist()
    stamp_of = dict(zip(ticks, stamps, strict=True)) if drive.stamp_ms is not None else None
    for tick, stamp, values in zip(ticks, stamps, drive.values, strict=True):
        said = judge.step(values, tick)
        since = said.since_ms if said.transition is not Transition.CLEARED else None
        since = since if stamp_of is None or since is None else stamp_of[since]
        yield ScoredTick(stamp, said.score, judge.active, since, said.transition, said.level)


def contributors(names: Sequence[str], score: Score) -> list[tuple[str, float]]:
    """The signals that explain the score, most first, with their shares."""
    order = np.argsort(-score.contributions, kind="stable")[:CONTRIBUTORS]
    return [(names[at], float(score.contributions[at])) for at in order if score.contributions[at] > 0]


class Scores(Protocol):
    """Where rows go: the columns of HEADER, one row for each row of the input."""

    def write(self, names: Sequence[str], tick: ScoredTick) -> None: ...

    def close(self) -> None: ...


class CsvScores:
    """As text; score and p-value are empty where a tick has none, and written so that they read back as the same doubles."""

    def __init__(self, stream: TextIO) -> None:
        self._writer = csv.writer(stream, lineterminator="\n")
        self._writer.writerow(HEADER)

    def write(self, names: Sequence[str], tick: ScoredTick) -> None:
        timestamp, score, p_value, alarm, why = _row(names, tick)
        self._writer.writerow(
            (repr(timestamp), "" if score is None else repr(score), "" if p_value is None else repr(p_value), int(alarm), why)
        )

    def close(self) -> None:
        """The stream is its owner's."""


class ParquetScores:
    """As Parquet: timestamp, score, p_value float64, alarm bool, contributors string; null where a tick has no score."""

    def __init__(self, path: Path) -> None:
        """Raises TrainingDataError where pyarrow is missing or the file cannot be written."""
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise TrainingDataError(f"{path}: writing Parquet needs pyarrow; pip install 'cansight[log]', or write .csv") from error
        number = pyarrow.float64()
        self._schema: Any = pyarrow.schema(list(zip(HEADER, (number, number, number, pyarrow.bool_(), pyarrow.string()), strict=True)))
        try:
            self._writer: Any = pyarrow.parquet.ParquetWriter(path, self._schema)
        except OSError as error:
            raise TrainingDataError(f"{path}: cannot be written: {error.strerror or error}") from error
        self._rows: list[tuple[Any, ...]] = []

    def write(self, names: Sequence[str], tick: ScoredTick) -> None:
        self._rows.append(_row(names, tick))
        if len(self._rows) >= ROWS_AT_ONCE:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow

        columns = list(zip(*self._rows, strict=True)) or [()] * len(HEADER)
        arrays = [pyarrow.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._writer.write_table(pyarrow.Table.from_arrays(arrays, schema=self._schema))
        self._rows.clear()


def _row(names: Sequence[str], tick: ScoredTick) -> tuple[float, float | None, float | None, bool, str]:
    score = tick.score
    why = " ".join(f"{name}={share:.3f}" for name, share in contributors(names, score)) or score.reason
    return tick.tick_ms / 1000, score.score, score.p_value, tick.alarm, why
