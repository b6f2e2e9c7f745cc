"""`cansight sim dataset`: the ticks of many simulated vehicles as Parquet, with the truth beside them."""

import json
import sys
import time
from pathlib import Path

import click

from cansight import __version__
from cansight.commands.sim_times import duration, length
from cansight.errors import UsageError


@click.command()
@click.option("--scenario", "name", metavar="NAME|FILE", required=True, help="`cansight sim scenario` lists the names; a file is TOML.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Draws everything; each split has seeds of its own.")
@click.option("--vehicles", type=click.IntRange(1, 100_000), help="How many.  [default: the scenario's]")
@click.option(
    "--duration", "duration_s", type=duration, metavar="DURATION", help="Simulated time, like 10m, 2h, 30d.  [default: the scenario's]"
)
@click.option("--signals", metavar="GLOB,...", multiple=True, help="Only these signals, e.g. 'TMS_*,BMS_Thermal.*'.  [default: all]")
@click.option(
    "--ticks/--minutes",
    "ticks",
    default=None,
    help="Every second; or every minute, and every second of faults and of one healthy drive a week."
    "  [default: minutes for scenarios of days, ticks for others]",
)
@click.option("--drives", is_flag=True, help="A part of every drive of some days, evenly over the duration; for scenarios of days.")
@click.option(
    "--cut",
    default="240/900",
    show_default=True,
    metavar="S/LATEST",
    help="With --drives: the seconds of each drive, which begin within its first LATEST seconds.",
)
@click.option("--days", type=click.IntRange(1), default=30, show_default=True, help="With --drives: of each vehicle.")
@click.option("--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes; the bytes do not depend on it.")
@click.option("-o", "--output", "folder", required=True, type=click.Path(file_okay=False, path_type=Path), help="The folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def dataset(
    name: str,
    seed: int,
    vehicles: int | None,
    duration_s: int | None,
    signals: tuple[str, ...],
    ticks: bool | None,
    drives: bool,
    cut: str,
    days: int,
    workers: int,
    folder: Path,
    as_json: bool,
) -> None:
    """Vehicles of a scenario as Parquet, with the truth of each and manifest.json. The same seed gives the same bytes.

    While a car sleeps there is no row; while it charges there is one a minute. Three of five vehicles are for training, one is for
    calibration, one for tests.
    """
    import simulator

    try:
        from simulator.dataset import DRIVES, MINUTES, TICKS, DatasetRequest, make_dataset
    except ModuleNotFoundError as error:
        raise UsageError(f"Parquet needs the {error.name} package: install cansight[log]") from error
    what = simulator.scenario(name)
    globs = tuple(part.strip() for text in signals for part in text.split(",") if part.strip())
    if drives and ticks is not None:
        raise UsageError("--drives: is a form of its own; leave out --ticks and --minutes")
    if ticks is None:
        ticks = what.table.plan != "calendar"
    if (drives or not ticks) and what.table.plan != "calendar":
        option = "--drives" if drives else "--minutes"
        raise UsageError(f'{option}: is for scenarios of days (plan = "calendar"), and {what.name} is none; leave it out, or give --ticks')
    form = DRIVES if drives else TICKS if ticks else MINUTES
    request = DatasetRequest(
        what, seed, vehicles or what.vehicles, duration_s or what.duration_s, folder, form, globs, __version__, None, days, *_cut(cut)
    )
    began = time.monotonic()
    with click.progressbar(length=request.vehicles, label=what.name, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        manifest = make_dataset(request, workers, bar.update)
    took_s = time.monotonic() - began
    rows = {kind: sum(vehicle["rows"].get(kind, 0) for vehicle in manifest["vehicles"]) for kind in (TICKS, MINUTES)}
    size = sum(file["bytes"] for vehicle in manifest["vehicles"] for file in vehicle["files"].values())
    if as_json:
        summary = {
            "scenario": what.name,
            "seed": seed,
            "vehicles": request.vehicles,
            "rows": rows,
            "bytes": size,
            "took_s": round(took_s, 3),
        }
        click.echo(json.dumps(summary))
        return
    click.echo(
        f"{folder}: {request.vehicles} vehicles, {length(request.duration_s)}, {_counted(rows)}, {size / 1e6:,.1f} MB, {took_s:,.0f} s"
    )


def _cut(text: str) -> tuple[int, int]:
    length_s, _, latest_s = text.partition("/")
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in (length_s, latest_s)):
        raise UsageError(f"--cut {text}: expected S/LATEST, both whole seconds, e.g. 240/900")
    return int(length_s), int(latest_s)


def _counted(rows: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in rows.items() if count)
