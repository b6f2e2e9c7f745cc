"""`cansight sim`: drives of the simulated vehicle, with the truth beside them."""

import contextlib
import datetime
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import click

from cansight.commands.sim_inject import inject
from cansight.errors import UsageError, WorkFailed

FIRST_YEAR, LAST_YEAR = 1971, 2262  # stamps are int64 nanoseconds since 1970
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def duration(text: str) -> int:
    """`90s`, `30m`, `2h`, `7d` -> seconds."""
    match = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if not match or int(match[1]) == 0:
        raise click.BadParameter(f"expected a duration like 90s, 30m, 2h or 7d, found {text!r}")
    return int(match[1]) * SECONDS[match[2]]


def start(text: str) -> int:
    """`now` or an ISO 8601 instant (UTC unless it says otherwise) -> ns since 1970."""
    if text == "now":
        return time.time_ns()
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"expected `now` or a time like 2026-01-05T08:00:00, found {text!r}") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    if not FIRST_YEAR <= moment.year < LAST_YEAR:
        raise click.BadParameter(f"expected a year from {FIRST_YEAR} to {LAST_YEAR - 1}, found {text!r}")
    return round(moment.timestamp()) * 10**9


@click.group()
def sim() -> None:
    """Drives of the simulated vehicle, with the truth beside them."""


sim.add_command(inject)


@sim.command()
@click.option("--scenario", "name", required=True, help="What happens: healthy, coolant_leak.")
@click.option("--seed", type=int, default=1, show_default=True, help="Draws the car, the road, the driver and the weather.")
@click.option(
    "--duration",
    "duration_s",
    type=duration,
    metavar="DURATION",
    default="5m",
    show_default=True,
    help="Simulated time, like 90s, 30m, 2h, 7d.",
)
@click.option(
    "--start",
    "start_ns",
    type=start,
    metavar="TIME",
    help="When the drive begins: `now` or ISO 8601 in UTC.  [default: 2026-01-05T08:00:00]",
)
@click.option("-o", "--output", required=True, help="The candump log to write: a file, a FIFO, or - for standard output.")
@click.option("--truth", "truth_path", type=click.Path(dir_okay=False, path_type=Path), help="Write what is true about the drive, as JSON.")
@click.option("--speed", type=float, help="Write at this multiple of real time instead of as fast as possible.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def drive(
    name: str,
    seed: int,
    duration_s: int,
    start_ns: int | None,
    output: str,
    truth_path: Path | None,
    speed: float | None,
    as_json: bool,
) -> None:
    """One drive as a candump log of two buses, can0 and can1. The same seed gives the same bytes."""
    import simulator
    from dbc.logs import write_candump

    start_ns = simulator.START_NS if start_ns is None else start_ns
    what = simulator.scenario(name)
    blocks = simulator.drive(what, seed, duration_s, start_ns)
    if speed is not None:
        blocks = simulator.pace(blocks, speed)
    if truth_path:
        _write(truth_path, simulator.truth(what, seed, duration_s, start_ns).to_json())
    frames, began, last_ns = 0, time.monotonic(), start_ns
    quiet = output == "-" or not sys.stderr.isatty()
    with contextlib.suppress(KeyboardInterrupt), _opened(output) as stream:
        try:
            with click.progressbar(length=duration_s, label=name, file=sys.stderr, hidden=quiet) as bar:
                for block in blocks:
                    write_candump(stream, block)
                    stream.flush()
                    frames += len(block)
                    now_ns = int(block.timestamp_ns[-1])
                    bar.update((now_ns - start_ns) // 10**9 + 1 - bar.pos)
                    last_ns = now_ns
        except BrokenPipeError:  # the reader has seen enough; what is still buffered has nowhere to go
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            return
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            raise WorkFailed(f"{output}: cannot be written: {error.strerror or error}; it ends after {frames:,} frames") from error
    if output == "-":
        return
    took_s = time.monotonic() - began
    simulated_s = -(-(last_ns - start_ns) // 10**9)
    if as_json:
        click.echo(json.dumps({"scenario": name, "seed": seed, "seconds": simulated_s, "frames": frames, "took_s": round(took_s, 3)}))
    else:
        click.echo(f"{output}: {simulated_s} s, {frames:,} frames, {simulated_s / max(took_s, 1e-9):,.0f} times real time")


@contextlib.contextmanager
def _opened(output: str) -> Iterator[BinaryIO]:
    if output == "-":
        yield sys.stdout.buffer
        return
    try:
        stream = Path(output).open("wb")  # noqa: SIM115 -- closed below; a FIFO waits here for its reader
    except OSError as error:
        raise UsageError(f"{output}: cannot be written: {error.strerror or error}") from error
    with stream:
        yield stream


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error
