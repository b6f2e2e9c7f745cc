"""`cansight lake`: SQL over every vehicle's ticks as Parquet, what is in it, and putting it in order."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from cansight.commands.cloud_settings import load_config
from cansight.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 40  # printed to a terminal
WIDTH = 60

DEFAULT = Path("cloud.toml")
CONFIG = click.option(
    "-c", "--config", "config_file", type=click.Path(path_type=Path, dir_okay=False), help="the cloud's settings  [default: cloud.toml]"
)
FOLDER = click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help="the lake itself, where there is no cloud.toml")
DAY = click.DateTime(["%Y-%m-%d"])


@click.group()
def lake() -> None:
    """The lake: ticks as Parquet, by day and vehicle."""


@lake.command("query")
@CONFIG
@click.option(
    "--folder",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="the lake itself, where there is no cloud.toml; several times: replicas' lakes together",
)
@click.option("--vehicle", default="", help="of this vehicle alone: fewer files are opened")
@click.option("--from", "since", type=DAY, help="from this day on, UTC")
@click.option("--to", "until", type=DAY, help="up to this day, UTC, included")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="write .parquet or .csv instead of printing")
@click.option("--json", "as_json", is_flag=True, help="print JSON, a list of rows")
@click.argument("sql")
def query(
    config_file: Path | None,
    folders: tuple[Path, ...],
    vehicle: str,
    since: Any,
    until: Any,
    output: Path | None,
    as_json: bool,
    sql: str,
) -> None:
    """Ask SQL (DuckDB's) of the views ticks, replays, findings, gaps, statuses, events and columns.

    A signal is a column of ticks: SELECT time, "BMS_Pack.PackVoltage" FROM ticks.
    """
    roots = [_lake(config_file, folder)[0] for folder in folders or (None,)]
    if output is not None and output.suffix not in (".parquet", ".csv"):
        raise UsageError(f"{output}: expected a name in .parquet or .csv")
    if missing := [root for root in roots if not root.is_dir()]:
        raise UsageError(f"{missing[0]}: there is no lake; `cansight cloud run` makes it")
    from cloud.lake.reading import open_lake

    with open_lake(roots, vehicle, _day(since), _day(until)) as opened:
        table = opened.query(sql)
    if output is not None:
        _write(table, output)
        click.echo(f"{output}: {table.num_rows} rows")
    elif as_json:
        click.echo(json.dumps(table.to_pylist(), ensure_ascii=False, default=str))
    else:
        _print(table)


@lake.command("info")
@CONFIG
@FOLDER
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def info(config_file: Path | None, folder: Path | None, as_json: bool) -> None:
    """What is in it: days, vehicles, files, bytes, and what waits to be compacted."""
    root, keep = _lake(config_file, folder)
    from cloud.lake.folders import EVENTS, KINDS, Folders

    folders = Folders(root)
    told: dict[str, Any] = {"folder": str(root), "keep": keep}
    for kind in KINDS:
        parts = folders.parts(kind)
        files = [file for found in parts.values() for file in found]
        fresh = folders.fresh_files(kind)
        told[kind] = {
            "first_day": min((day for day, _ in parts), default=None),
            "last_day": max((day for day, _ in parts), default=None),
            "files": len(files),
            "bytes": sum(file.stat().st_size for file in [*files, *fresh]),
            "fresh_files": len(fresh),
        } | ({} if kind == EVENTS else {"vehicles": len({vehicle for _, vehicle in parts})})
    told["deletions"] = len(folders.deletions)
    if as_json:
        click.echo(json.dumps(told))
        return
    click.echo(f"{root}: kept {keep}")
    for kind in KINDS:
        of = told[kind]
        days = f"{of['first_day']} to {of['last_day']}" if of["first_day"] else "no day yet"
        vehicles = f", {of['vehicles']} vehicles" if "vehicles" in of else ""
        click.echo(f"{kind:8} {days}{vehicles}, {of['files']} files and {of['fresh_files']} fresh ones, {of['bytes'] / 1e6:.1f} MB")
    if told["deletions"]:
        click.echo(f"{told['deletions']} deletions are noted; what comes of them later is left out, too")


@lake.command("compact")
@CONFIG
@FOLDER
@click.option("--keep", help="drop days that are older, like 730d; default: as cloud.toml says, else for ever")
def compact(config_file: Path | None, folder: Path | None, keep: str | None) -> None:
    """Sort what came last by day and vehicle, make one file of each day that is over, and drop what is too old.

    A running cloud does it once an hour by itself.
    """
    root, configured = _lake(config_file, folder)
    from cloud.config import Kept, kept_days
    from cloud.lake.compaction import compact as put_in_order
    from cloud.lake.folders import Folders

    try:
        keep = msgspec.convert(configured if keep is None else keep, Kept)
    except msgspec.ValidationError as error:
        raise UsageError(f"--keep: expected days like 730d, or forever; found {str(keep)[:20]!r}") from error
    done = put_in_order(Folders(root), kept_days(keep), time.time_ns() // 1_000_000)
    click.echo(
        f"{root}: {done.fresh} fresh files sorted in, {done.days} days of a vehicle made into one file, "
        f"{done.dropped} dropped, {done.removed} deleted rows removed"
    )


def _lake(config_file: Path | None, folder: Path | None) -> tuple[Path, str]:
    """Where it is, and how long it is kept."""
    if config_file is not None and folder is not None:
        raise UsageError("expected one of -c cloud.toml and --folder LAKE, found both")
    if folder is not None:
        return folder, "forever"
    config = load_config(config_file or DEFAULT)
    return config.lake_folder, config.lake.keep


def _day(given: Any) -> str:
    return given.date().isoformat() if given is not None else ""


def _write(table: "pa.Table", output: Path) -> None:
    from pyarrow import csv, parquet

    if output.suffix == ".csv":
        csv.write_csv(table, output)
    else:
        parquet.write_table(table, output, compression="zstd")


def _print(table: "pa.Table") -> None:
    rows = [[_shown(value) for value in row.values()] for row in table.slice(0, ROWS).to_pylist()]
    names = [_cut(name) for name in table.column_names]
    widths = [max([len(name), *(len(row[at]) for row in rows)]) for at, name in enumerate(names)]
    for line in [names, *rows]:
        click.echo("  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip())
    if table.num_rows > ROWS:
        click.echo(f"... {table.num_rows} rows in all; -o FILE writes them")


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if hasattr(value, "isoformat"):
        return str(value.isoformat()).replace("+00:00", "Z")
    return f"{value:g}" if isinstance(value, float) else _cut(str(value))


def _cut(words: str) -> str:
    return words if len(words) <= WIDTH else words[: WIDTH - 1] + "…"
