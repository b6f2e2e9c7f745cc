"""`cansight models score`: what a pack says of recorded drives."""

import json
import math
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import click

from cansight.commands.models_options import (
    checks_option,
    data_argument,
    dbc_option,
    json_option,
    layout_of,
    layout_options,
    pack_argument,
    reading,
    rows_of,
    rows_option,
    tell,
)
from cansight.errors import UsageError

if TYPE_CHECKING:
    from models.runtime import PackRuntime
    from models.scoring import ScoredTick, Scores
    from models.tables import Drive

SUFFIXES = (".csv", ".parquet")


@click.command()
@pack_argument
@data_argument
@dbc_option
@checks_option
@layout_options
@rows_option
@click.option(
    "-o",
    "--output",
    "scores",
    metavar="SCORES",
    default="-",
    show_default=True,
    help="One row for each row of DATA (each second of a log), as .csv or .parquet; - is standard output.",
)
@json_option
def score(
    pack_dir: Path,
    data: tuple[str, ...],
    dbc_files: tuple[str, ...],
    catalogue: str | None,
    time_column: str,
    separator: str,
    ignore: tuple[str, ...],
    period: float | None,
    rows: str,
    scores: str,
    as_json: bool,
) -> None:
    """Score drives as the vehicle would. With --json: the alarms, and rows only with -o."""
    from dbc.catalogue import Catalogue
    from models.alarm import Transition
    from models.pack import Pack
    from models.runtime import PackRuntime
    from models.scoring import read_for, score_drive_ticks

    if scores != "-" and Path(scores).suffix not in SUFFIXES:
        raise UsageError(f"-o {scores}: scores are written as .csv or .parquet")
    first, last = rows_of(rows)
    layout = layout_of(time_column, separator, ignore, period)
    pack = Pack.load(pack_dir)
    runtime = PackRuntime(pack)
    signal_catalogue = Catalogue.load(catalogue) if catalogue is not None else None
    table = read_for(pack, data, dbc_files, reading(len(data)), layout, signal_catalogue).rows(first, last)
    tell(table.notes)
    summary: dict[str, Any] = {"pack": pack.manifest.pack_id, "ticks": 0, "scored": 0, "unknown": 0, "alarms": []}
    reasons: Counter[str] = Counter()
    with ExitStack() as stack:
        sink = None if scores == "-" and as_json else _sink(scores, stack)
        for drive in table.drives:
            for tick in score_drive_ticks(runtime, drive):
                summary["ticks"] += 1
                summary["scored"] += tick.score.score is not None
                if tick.score.score is None:
                    reasons[tick.score.reason] += 1
                summary["unknown"] += tick.score.score is not None and not tick.score.known
                if sink is not None:
                    sink.write(pack.manifest.names, tick)
                if tick.transition is Transition.RAISED:
                    summary["alarms"].append(_alarm(runtime, drive, tick))
                elif tick.transition is Transition.CONFIRMED:
                    summary["alarms"][-1]["level"] = tick.level
    if as_json:
        click.echo(json.dumps(summary, indent=2))
    else:
        counts = f"{summary['ticks']} ticks, {summary['scored']} scored, {summary['unknown']} outside the trained range"
        click.echo(f"{counts}, {len(summary['alarms'])} alarm{'' if len(summary['alarms']) == 1 else 's'}", err=True)
        if reasons and not summary["scored"]:
            reason, count = reasons.most_common(1)[0]
            click.echo(f"nothing could be scored: {reason} ({count} of {summary['ticks']} ticks)", err=True)


def _sink(scores: str, stack: ExitStack) -> "Scores":
    from models.scoring import CsvScores, ParquetScores

    if scores.endswith(".parquet"):
        sink = ParquetScores(Path(scores))
        stack.callback(sink.close)
        return sink
    return CsvScores(cast(TextIO, stack.enter_context(click.open_file(scores, "w", encoding="utf-8"))))


def _alarm(runtime: "PackRuntime", drive: "Drive", tick: "ScoredTick") -> dict[str, Any]:
    from models.scoring import contributors

    pack, evidence = runtime.pack, runtime.evidence(tick.score)
    contributions = []
    for name, share in contributors(pack.manifest.names, tick.score):
        at = pack.manifest.names.index(name)
        margin = float(evidence.margin[at])
        contributions.append(
            {
                "signal": name,
                "unit": pack.manifest.signals[at].unit,
                "share": share,
                "expected": float(evidence.expected[at]),
                "margin": None if math.isnan(margin) else margin,
                "seen": float(evidence.seen[at]),
            }
        )
    return {
        "source": drive.source,
        "fault_code": pack.manifest.fault_code,
        "tick_ms": tick.tick_ms,
        "since_ms": tick.since_ms,
        "level": tick.level,
        "score": tick.score.score,
        "p_value": tick.score.p_value,
        "contributions": contributions,
    }
