"""`cansight sim replay`: recorded frames onto a bus, in time."""

import contextlib
import itertools
import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING

import click

from cansight.commands.sim_times import seconds
from cansight.errors import UsageError

if TYPE_CHECKING:
    from simulator.replay import Report
    from simulator.replay_routes import Routes
    from simulator.replay_timetable import Instant, Timetable

BAR_S = 0.25  # between two looks of the progress bar: drawing it takes 0.1 ms from the frames
INTERRUPTED = 130
NOTABLE_NS = 2_000_000


def instant(text: str) -> "Instant":
    """`12.5`, `90s`, `2m` -> from the log's first frame; ISO 8601, UTC unless it says otherwise -> that instant."""
    from simulator.replay_timetable import Instant

    with contextlib.suppress(click.BadParameter):  # a bare number is seconds
        return Instant(round(seconds(text if text[-1:].isalpha() else f"{text}s") * 1e9))
    try:
        moment = datetime.fromisoformat(text)
        return Instant(round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1e6) * 1000, is_utc=True)
    except (ValueError, OverflowError) as error:
        expected = "seconds from the log's first frame (12.5, 90s, 2m) or a time like 2026-01-05T08:00:00"
        raise click.BadParameter(f"expected {expected}, found {text!r}") from error


@click.command()
@click.argument("logs", metavar="LOG...", nargs=-1, required=True)
@click.option("--to", "to", metavar="[CHANNEL=]INTERFACE:CHANNEL", multiple=True, required=True, help="The bus; may be repeated.")
@click.option("--speed", type=float, metavar="X", help="Times real time.  [default: 1]")
@click.option("--fast", is_flag=True, help="As fast as the bus takes frames.")
@click.option("--loop", is_flag=True, help="Again and again, until Ctrl-C.")
@click.option("--from", "since", type=instant, metavar="T", help="Seconds from the log's first frame (12.5, 90s, 2m), or ISO 8601.")
@click.option("--until", type=instant, metavar="T", help="The same; the frames before it are sent.")
@click.option("--align", is_flag=True, help="Of several logs: let each begin when the first does, whatever their dates.")
@click.option("--error-frames", is_flag=True, help="Send recorded error frames too; on a virtual bus only.")
@click.option("--i-am-on-a-bench", "on_a_bench", is_flag=True, help="Allow interfaces with hardware behind them.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def replay(
    logs: tuple[str, ...],
    to: tuple[str, ...],
    speed: float | None,
    fast: bool,
    loop: bool,
    since: "Instant | None",
    until: "Instant | None",
    align: bool,
    error_frames: bool,
    on_a_bench: bool,
    as_json: bool,
) -> int:
    """Play recorded logs onto a CAN bus, each frame when it was recorded. "-" is standard input.

    --to socketcan:vcan0 sends every channel there; --to can0=socketcan:vcan0 --to can1=virtual:x sends them one by one; 2/can0=... is that
    of the second log.
    """
    from simulator.replay import Ahead, play
    from simulator.replay_routes import Routes, missing
    from simulator.replay_sinks import is_virtual, make_sink
    from simulator.replay_timetable import FAST_FRAMES, PACED_FRAMES, Timetable

    logging.getLogger("can").setLevel(logging.ERROR)  # its drivers warn of packages that only they miss
    _check(logs, speed, fast, loop, since, until)
    routes = Routes(to, len(logs))
    sinks = [make_sink(target, on_a_bench=on_a_bench) for target in routes.targets]
    if error_frames and (real := [target.name for target in routes.targets if not is_virtual(target)]):
        raise UsageError(f"--error-frames: {real[0]} is no virtual bus; an error frame is what a controller reports, not what one can send")
    routes.check(logs)
    timetable = Timetable(
        logs, routes.route, since=since, until=until, align=align, loop=loop, error_frames=error_frames,
        block_frames=FAST_FRAMES if fast else PACED_FRAMES,
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        ahead = stack.enter_context(Ahead(timetable))
        ahead.wait()  # what is wrong with a log is known before a bus is opened
        for sink in sinks:
            stack.enter_context(sink)
        stop = stack.enter_context(_stopped_by_interrupt())
        watch = stack.enter_context(_progress(timetable, _window_ns(since, until), loop))
        report = play(ahead, sinks, speed=None if fast else speed or 1.0, stop=stop.is_set, watch=watch, real_time=True)
    _tell(report, timetable, routes, as_json)
    if not report.stopped and (unseen := routes.unseen()):
        raise UsageError(missing(unseen, logs, [channel for note in timetable.notes for channel in note.channels]))
    return INTERRUPTED if report.stopped and not loop else 0


def _window_ns(since: "Instant | None", until: "Instant | None") -> int | None:
    """How long the window is, where that is known beforehand."""
    if until is None or until.is_utc or (since is not None and since.is_utc):
        return None
    return until.ns - (since.ns if since is not None else 0)


def _check(logs: tuple[str, ...], speed: float | None, fast: bool, loop: bool, since: "Instant | None", until: "Instant | None") -> None:
    if speed is not None and not 0 < speed < float("inf"):
        raise UsageError(f"--speed: expected a number above 0, found {speed:g}")
    if speed is not None and fast:
        raise UsageError("--speed and --fast: give one of them")
    if loop and "-" in logs:
        raise UsageError("--loop: standard input cannot be read again; give a file")
    if logs.count("-") > 1:
        raise UsageError("-: standard input is one log")
    if since and until and since.is_utc == until.is_utc and until.ns <= since.ns:
        raise UsageError("--until: expected a time after --from")


@contextlib.contextmanager
def _stopped_by_interrupt() -> Iterator[threading.Event]:
    """Ctrl-C ends the replay between two frames; a second one ends the program."""
    stop = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, end)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _progress(timetable: "Timetable", until_ns: int | None, loop: bool) -> Iterator[Callable[["Report"], None]]:
    """A bar when stderr is a terminal: over the log's time where that is known (until_ns), else over the logs' bytes."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    drawn_s = 0.0
    length = (timetable.size if until_ns is None else until_ns) if not loop else 0
    endless = None if length else itertools.repeat("")
    with click.progressbar(
        endless, length=length or None, label="replay", file=sys.stderr, show_eta=bool(length), item_show_func=lambda text: text or ""
    ) as bar:

        def move(position: int, text: str) -> None:
            bar.current_item = text
            bar.make_step(min(position, length) - bar.pos if length else 1)
            bar.render_progress()

        def draw(report: "Report") -> None:
            nonlocal drawn_s
            if time.monotonic() - drawn_s < BAR_S:
                return
            drawn_s = time.monotonic()
            again = f", round {report.rounds}" if loop else ""
            # The reader is ahead: the last byte is read before the last frame is sent.
            position = min(timetable.position if until_ns is None else report.span_ns, length - 1)
            move(position, f"{report.span_ns / 1e9:.1f} s, {report.frames:,} frames{again}")

        yield draw
        if length and timetable.position >= timetable.size:
            move(length, "")


def _tell(report: "Report", timetable: "Timetable", routes: "Routes", as_json: bool) -> None:
    late = report.lateness
    for note in timetable.notes:
        if note.skipped:
            click.echo(f"cansight: {note.path}: {note.skipped} lines are no frames, the first is line {note.first_skipped}", err=True)
    if as_json:
        found = {
            "logs": [note.path for note in timetable.notes],
            "frames": report.frames,
            "buses": {target.name: sent for target, sent in zip(routes.targets, report.sent, strict=True)},
            "left_out": {"other_channels": report.left_out.get("channel", 0), "error_frames": report.left_out.get("error", 0)},
            "rounds": report.rounds,
            "log_s": round(report.span_ns / 1e9, 6),
            "took_s": round(report.took_ns / 1e9, 6),
            "lateness_ms": {
                "p50": late.percentile_ns(0.5) / 1e6,
                "p99": late.percentile_ns(0.99) / 1e6,
                "max": late.most_ns / 1e6,
            }
            if late.frames
            else None,
            "real_time": report.real_time,
            "queue_full": report.waited,
            "stray": sum(note.stray for note in timetable.notes),
            "clock_set_back": sum(note.set_back for note in timetable.notes),
            "gaps_cut": sum(note.gaps_cut for note in timetable.notes),
            "interrupted": report.stopped,
        }
        click.echo(json.dumps(found))
        return
    for target, sent in zip(routes.targets, report.sent, strict=True):
        click.echo(f"sent          {target.name}: {sent:,} frames")
    took_s = report.took_ns / 1e9
    rounds = f", {report.rounds} rounds" if report.rounds > 1 else ""
    click.echo(
        f"time          {report.span_ns / 1e9:.3f} s of log in {took_s:.3f} s, {report.frames / max(took_s, 1e-9):,.0f} frames/s{rounds}"
    )
    if late.frames:
        middle, most = late.percentile_ns(0.5) / 1e6, late.percentile_ns(0.99) / 1e6
        click.echo(f"late          {middle:.3f} ms for half of the frames, {most:.3f} ms for 99 %, {late.most_ns / 1e6:.3f} ms at most")
        if not report.real_time and late.percentile_ns(0.99) > NOTABLE_NS:
            click.echo(
                "              by ordinary scheduling; root, CAP_SYS_NICE or `ulimit -r 1` lets a replay wake in time on a busy computer"
            )
    if report.waited:
        click.echo(f"queue full    {report.waited:,} times; the frames were sent when there was room")
    if report.left_out.get("channel"):
        click.echo(f"left out      {report.left_out['channel']:,} frames of channels that no --to names")
    if report.left_out.get("error"):
        click.echo(f"left out      {report.left_out['error']:,} error frames; --error-frames sends them to a virtual bus")
    for note in timetable.notes:
        odd = (note.stray, "stray"), (note.set_back, "set back"), (note.gaps_cut, "gaps of more than a day cut")
        if said := ", ".join(f"{count} {what}" for count, what in odd if count):
            click.echo(f"stamps        {note.path}: {said}")
    if report.stopped:
        click.echo("stopped       by Ctrl-C")
