"""`cansight sim drive` and `cansight sim scenario`: what a scenario is, and one vehicle's drive of it as a log with its truth."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cansight.commands.sim_times import duration, length, start, utc
from cansight.errors import UsageError, WorkFailed

if TYPE_CHECKING:
    from dbc.frames import FrameBlock
    from simulator import Scenario

LONG_S = 2 * 3600  # of frames, some 3 GB
OTHER_FORMATS = (".asc", ".blf", ".mf4")
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--scenario", "name", metavar="NAME|FILE", required=True, help="`cansight sim scenario` lists the names; a file is TOML.")
@click.option("--seed", type=int, default=1, show_default=True, help="Draws the car, the road, the driver and the weather.")
@click.option("--vehicle", type=click.IntRange(0), default=0, show_default=True, help="Which of the scenario's vehicles.")
@click.option(
    "--duration", "duration_s", type=duration, metavar="DURATION", help="Simulated time, like 90s, 30m, 2h, 7d.  [default: the scenario's]"
)
@click.option(
    "--start",
    "start_ns",
    type=start,
    metavar="TIME",
    help="When the drive begins: `now` or ISO 8601 in UTC.  [default: the scenario's, or 2026-01-05T08:00:00]",
)
@click.option(
    "--after", "after_s", type=duration, metavar="DURATION", help="Begin the log so much later, in the scenario's third week say."
)
@click.option("-o", "--output", help="The log: candump, or ASC, BLF, MF4 by a name in .asc, .blf, .mf4; a FIFO, or - for standard output.")
@click.option("--truth", "truth_path", type=_FILE, help="Write what is true about the drive, as JSON.")
@click.option("--plot", "plot_path", type=_FILE, help="Draw speed, power, temperatures and the faults' course: .png, .svg or .pdf.")
@click.option("--speed", type=float, help="Write at this multiple of real time instead of as fast as possible.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def drive(
    name: str,
    seed: int,
    vehicle: int,
    duration_s: int | None,
    start_ns: int | None,
    after_s: int | None,
    output: str | None,
    truth_path: Path | None,
    plot_path: Path | None,
    speed: float | None,
    as_json: bool,
) -> None:
    """One vehicle's drive as a log of three buses: can0, can1 and can2 (CAN FD). The same seed gives the same bytes.

    With --plot and without -o no frames are made, which is many times faster.
    """
    import simulator

    if output is None and plot_path is None:
        raise UsageError("-o: is missing; expected the log's name, or --plot for a picture alone")
    what = simulator.scenario(name)
    if vehicle >= what.vehicles:
        raise UsageError(f"--vehicle: expected a number from 0 to {what.vehicles - 1}, found {vehicle}: {what.name} has {what.vehicles}")
    if duration_s is None:
        duration_s = what.duration_s
        if output is not None and duration_s > LONG_S:
            raise UsageError(
                f"--duration: {what.name} is {length(duration_s)} long, gigabytes of frames; say how much of it, like --duration 1d"
            )
    trip = simulator.Trip(what, seed, start_ns, vehicle=vehicle)
    start_ns = trip.start_ns
    after_s = after_s or 0
    truth = simulator.truth(what, seed, after_s + duration_s, start_ns, vehicle)
    if truth_path:
        _write(truth_path, truth.to_json())
    film = _film(trip, truth, plot_path)
    if after_s:
        trip.pass_over(after_s, film.look if film is not None and output is None else None)
    if output is None:
        assert film is not None
        trip.pass_over(duration_s, film.look)
        _draw(film, plot_path)
        click.echo(f"{plot_path}: {what.name}, {length(after_s + duration_s)}")
        return
    blocks = trip.blocks(duration_s, film.look if film is not None else None)
    if speed is not None:
        blocks = simulator.pace(blocks, speed)
    begin_ns = start_ns + after_s * 10**9
    frames, began, last_ns = 0, time.monotonic(), begin_ns
    quiet = output == "-" or not sys.stderr.isatty()
    with contextlib.suppress(KeyboardInterrupt), _opened(output) as write:
        try:
            with click.progressbar(length=duration_s, label=what.name, file=sys.stderr, hidden=quiet) as bar:
                for block in blocks:
                    if not len(block):
                        continue
                    write(block)
                    frames += len(block)
                    last_ns = int(block.timestamp_ns[-1])
                    bar.update((last_ns - begin_ns) // 10**9 + 1 - bar.pos)
        except BrokenPipeError:  # the reader has seen enough; what is still buffered has nowhere to go
            _forget(write)
            return
        except OSError as error:
            _forget(write)
            raise WorkFailed(f"{output}: cannot be written: {error.strerror or error}; it ends after {frames:,} frames") from error
    if truth_path and trip.disturbances:
        _write(truth_path, truth.to_json(trip.disturbances.truths()))
    if film is not None and plot_path is not None:
        _draw(film, plot_path)
    if output == "-":
        return
    took_s = time.monotonic() - began
    simulated_s = -(-(last_ns - begin_ns) // 10**9)
    if as_json:
        click.echo(json.dumps({"scenario": what.name, "seed": seed, "seconds": simulated_s, "frames": frames, "took_s": round(took_s, 3)}))
    else:
        click.echo(f"{output}: {simulated_s} s, {frames:,} frames, {simulated_s / max(took_s, 1e-9):,.0f} times real time")


@click.command()
@click.argument("name", metavar="[NAME|FILE]", required=False)
@click.option("--seed", type=int, default=1, show_default=True, help="Draws who has which fault, and when.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def scenario(name: str | None, seed: int, as_json: bool) -> None:
    """What a scenario is, with the times that this seed draws; without a name: which there are."""
    import simulator

    if name is None:
        found = [(one, simulator.scenario(one).words) for one in simulator.SCENARIOS]
        if as_json:
            click.echo(json.dumps([{"scenario": one, "words": words} for one, words in found], ensure_ascii=False, indent=2))
            return
        width = max(len(one) for one, _ in found)
        for one, words in found:
            click.echo(f"{one:{width}}  {words}")
        return
    what = simulator.scenario(name)
    described = _described(what, seed)
    if as_json:
        click.echo(json.dumps(described, ensure_ascii=False, indent=2))
        return
    click.echo(f"scenario      {what.name}: {what.words}")
    click.echo(f"starts        {utc(described['start_ns'])}, {length(what.duration_s)} unless --duration says otherwise")
    table = what.table
    click.echo(f"vehicles      {what.vehicles}; {described['plan_words']}")
    for group in ("vehicles", "drivers", "weather"):
        if described[group]:
            click.echo(f"{group:13} {', '.join(f'{key} {_shown(value)}' for key, value in described[group].items())}")
    if table.connectivity.outages or table.connectivity.coverage < 1:
        outages = ", ".join(f"{begin} for {lasting}" for begin, lasting in table.connectivity.outages)
        click.echo(f"connectivity  {f'offline at {outages}; ' if outages else ''}covered {table.connectivity.coverage:.0%} of the time")
    if not described["faults"]:
        click.echo("faults        none")
    shown = described["faults"][:FAULTS_SHOWN]
    for fault in shown:
        click.echo(f"fault         vehicle {fault['vehicle']}: {fault['fault_code']}{_when(fault)}")
    if len(shown) < len(described["faults"]):
        click.echo(f"              and {len(described['faults']) - len(shown)} more; --json shows them all")


FAULTS_SHOWN = 20
VEHICLES_LOOKED_AT = 1000


def _described(what: "Scenario", seed: int) -> dict[str, Any]:
    import simulator
    from simulator.cast import PLANS

    table = what.table
    faults = []
    for vehicle in range(min(what.vehicles, VEHICLES_LOOKED_AT)):
        drawn = simulator.truth(what, seed, FOREVER_S, None, vehicle, severities=False)
        faults += [{"vehicle": vehicle, **fault} for fault in drawn.faults]
    weather = {
        "place": table.weather.place,
        "season": table.weather.season,
        "ambient_c": table.weather.ambient_c,
        "rain": table.weather.rain,
    }
    return {
        "scenario": what.name,
        "words": what.words,
        "seed": seed,
        "start_ns": what.start_ns,
        "duration_s": what.duration_s,
        "plan": table.plan,
        "plan_words": PLANS[table.plan],
        "vehicle_count": what.vehicles,
        "vehicles": {key: value for key, value in table.vehicles.items() if key != "count"},
        "drivers": dict(table.drivers),
        "weather": {key: value for key, value in weather.items() if value is not None},
        "faults": faults,
    }


FOREVER_S = 10**10


def _when(fault: dict[str, Any]) -> str:
    place = f" at {fault['place']}" if fault.get("place") is not None else ""
    where = f" of {', '.join(fault['affected_signals']) or fault['message']}" if fault["group"] != "physical" else ""
    said = f"{place}{where} from {length(fault['onset_s'])}"
    if fault["group"] != "physical":
        return f"{said} for {length(fault['ended_s'] - fault['onset_s'])}"
    said += f", developed at {length(fault['developed_s'])}"
    said += f", failed at {length(fault['failed_s'])}: {fault['failure']}" if fault["failed_s"] is not None else ", does not fail"
    return said + (f", repaired at {length(fault['repaired_s'])}" if fault["repaired_s"] is not None else "")


def _shown(value: Any) -> str:
    return f"{value[0]:g} to {value[1]:g}" if isinstance(value, list) else f"{value:g}" if isinstance(value, float | int) else str(value)


def _film(trip: Any, truth: Any, plot_path: Path | None) -> Any:
    """What is drawn; None where nothing is."""
    if plot_path is None:
        return None
    from simulator.film import Film
    from simulator.plot import check_plot_path

    check_plot_path(plot_path)
    return Film(trip, truth)


def _draw(film: Any, path: Path | None) -> None:
    from simulator.plot import draw

    assert path is not None
    draw(film, path)


class _Stream:
    """Candump as it comes, for whoever reads along."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __call__(self, block: "FrameBlock") -> None:
        from dbc.logs import write_candump

        write_candump(self.stream, block)
        self.stream.flush()


@contextlib.contextmanager
def _opened(output: str) -> "Iterator[Callable[[FrameBlock], None]]":
    from dbc.logs.writers import open_log_writer

    if output == "-":
        yield _Stream(sys.stdout.buffer)
        return
    path = Path(output)
    suffix = path.suffix.lower()
    if suffix in OTHER_FORMATS and not path.is_fifo():
        with open_log_writer(path) as writer:
            yield writer.write
        return
    if suffix not in ("", ".log") and not (path.exists() and not path.is_file()):
        raise UsageError(f"{output}: is no kind of log that can be written; expected a name in .log, {', '.join(OTHER_FORMATS)}")
    try:
        stream = path.open("wb")  # closed below; a FIFO waits here for its reader
    except OSError as error:
        raise UsageError(f"{output}: cannot be written: {error.strerror or error}") from error
    with stream:
        yield _Stream(stream)


def _forget(write: "Callable[[FrameBlock], None]") -> None:
    """What a broken output still has in its buffer goes nowhere."""
    if isinstance(write, _Stream):
        os.dup2(os.open(os.devnull, os.O_WRONLY), write.stream.fileno())


def _write(path: Path, text: str) -> None:
    """A file whole or not at all; a pipe as it is."""
    partial = path if path.exists() and not path.is_file() else path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        if partial != path:
            partial.replace(path)
    except OSError as error:
        if partial != path:
            partial.unlink(missing_ok=True)
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error
