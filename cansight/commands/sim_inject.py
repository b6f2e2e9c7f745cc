"""`cansight sim inject`: a fault or an attack in a recorded log, through its DBC, with the truth beside it."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cansight.commands.sim_times import seconds
from cansight.errors import UsageError

if TYPE_CHECKING:
    from dbc.integrity import Protection
    from dbc.logs import LogReader
    from dbc.plan import CompiledDbc
    from simulator.target import Target


def setting(text: str) -> tuple[str, float]:
    """`KEY=NUMBER`."""
    key, separator, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if not separator or not key or value != value:
        raise click.BadParameter(f"expected KEY=NUMBER like rate=0.5, found {text!r}")
    return key.strip(), value


@click.command()
@click.argument("log", metavar="LOG")
@click.option("--dbc", "dbc_files", metavar="FILE[@CHANNEL]", multiple=True, required=True, help="May be repeated.")
@click.option(
    "--fault",
    "fault",
    metavar="KIND",
    required=True,
    help="Sensor: stuck, drift, noise, offset, dropout. Network: silent_ecu, babbling_ecu, counter_errors, checksum_errors. "
    "Attack: plateau, continuous_drift, playback, suppression, flooding.",
)
@click.option("--signal", metavar="NAME", help="Message.Signal that is changed; for a network fault its message is meant.")
@click.option("--message", metavar="NAME", help="The message, for network faults, suppression and flooding.")
@click.option("--node", metavar="NAME", help="All messages of this sender of the DBC: silent_ecu and suppression.")
@click.option("--from", "from_s", type=seconds, metavar="T", required=True, help="After the log's earliest frame, like 20s or 1.5s.")
@click.option("--for", "for_s", type=seconds, metavar="D", required=True, help="How long, like 10s.")
@click.option("--set", "settings", type=setting, metavar="KEY=NUMBER", multiple=True, help="rate, deviation, amount, share, value ...")
@click.option(
    "--check",
    "checks",
    metavar="MESSAGE:KEY=VALUE,...",
    multiple=True,
    help="counter=SIGNAL, checksum=SIGNAL, profile=NAME, data_id=HEX, where the DBC does not say it.",
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Draws noise, gaps and damage.")
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="LOG.log (candump), .asc, .blf or .mf4."
)
@click.option("--truth", type=click.Path(dir_okay=False, path_type=Path), help="Write what was done, frame by frame, as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def inject(
    log: str,
    dbc_files: tuple[str, ...],
    fault: str,
    signal: str | None,
    message: str | None,
    node: str | None,
    from_s: float,
    for_s: float,
    settings: tuple[tuple[str, float], ...],
    checks: tuple[str, ...],
    seed: int,
    output: Path,
    truth: Path | None,
    as_json: bool,
) -> None:
    """A fault in a recorded log. Only the bits of the signal change; counters and checksums stay right where their sender keeps them.

    LOG may be of any format that can be read; the output's is named by its suffix. A checksum that the DBC does not declare is looked for
    in the log, and kept right if one rule explains every frame.
    """
    from cansight.commands.log_files import compiled_cache, placed
    from dbc.compiler import load_compiled
    from dbc.integrity import with_checks
    from simulator.inject import InjectOrder, inject_log
    from simulator.injection import injection_kind

    if for_s <= 0:
        raise UsageError("--for: expected more than 0s, found 0s")
    kind = injection_kind(fault)
    cache = compiled_cache()
    files = placed(dbc_files, log, cache)
    compiled = with_checks(load_compiled(files, cache), dict(map(_check, checks)))
    order = InjectOrder(kind, _targets(compiled, files, signal, message, node), from_s, for_s, seed, dict(settings))
    with _progress(log) as progress:
        done = inject_log(log, compiled, order, output, truth, progress)
    if done.skipped:
        click.echo(f"cansight: {log}: {done.skipped} lines are no frames and are not in {output}", err=True)
    if as_json:
        click.echo(json.dumps({"output": str(output), **done.truth}, ensure_ascii=False, indent=2))
        return
    _print(done.truth, output)


def _targets(
    compiled: "CompiledDbc", files: Sequence[str], signal: str | None, message: str | None, node: str | None
) -> "tuple[Target, ...]":
    from simulator.target import message_target, signal_target

    given = [name for name in (signal, message, node) if name is not None]
    if len(given) != 1:
        raise UsageError(f"expected one of --signal, --message and --node, found {len(given)}")
    if signal is not None:
        return (signal_target(compiled, signal),)
    if message is not None:
        return (message_target(compiled, message),)
    assert node is not None
    return tuple(message_target(compiled, name) for name in _sent_by(files, node))


def _sent_by(files: Sequence[str], node: str) -> list[str]:
    """Messages, with their channel, of a sender. The compiled DBC has no senders."""
    from dbc.dbc_file import parse_file_argument
    from dbc.loader import load_database

    found, nodes = [], set()
    for text in files:
        file = parse_file_argument(text)
        database, _ = load_database(file)
        for message in database.messages:
            nodes.update(message.senders)
            if node in message.senders and message.signals:
                found.append(f"{file.channel}:{message.name}")
    if not found:
        raise UsageError(f"--node: no message of the DBC is sent by {node!r}; senders are: {', '.join(sorted(nodes)) or 'not declared'}")
    return found


def _check(text: str) -> "tuple[str, Protection]":
    from dbc.integrity import declared

    message, separator, rest = text.partition(":")
    pairs = dict(part.partition("=")[::2] for part in rest.split(","))
    unknown = set(pairs) - {"counter", "checksum", "profile", "data_id"}
    if not separator or not all(pairs.values()) or unknown:
        raise UsageError(
            f"--check: expected MESSAGE:counter=SIGNAL,checksum=SIGNAL,profile=NAME,data_id=HEX or some of these, found {text!r}"
        )
    try:
        found = declared(message, pairs.get("counter"), pairs.get("checksum"), pairs.get("profile", ""), pairs.get("data_id", ""))
    except ValueError as error:
        raise UsageError(f"--check: {error}") from error
    if found is None:
        raise UsageError(f"--check: expected a counter, or a checksum with its profile, found {text!r}")
    return message, found


def _print(truth: dict[str, Any], output: Path) -> None:
    frames = truth["frames"]
    click.echo(f"log           {output}: {frames['out']} frames, of {frames['in']}")
    click.echo(f"fault         {truth['kind']}: {truth['words']}")
    where = truth["signal"] or ", ".join(message["name"] for message in truth["messages"])
    ids = ", ".join(f"{message['frame_id']} on {message['channel']}" for message in truth["messages"][:4])
    click.echo(f"in            {where} ({ids}{' and more' if len(truth['messages']) > 4 else ''})")
    begin = (truth["from_ns"] - truth["log_first_ns"]) / 1e9
    click.echo(f"time          {begin:g} s to {begin + (truth['to_ns'] - truth['from_ns']) / 1e9:g} s of the log")
    if truth["parameters"]:
        click.echo(f"with          {', '.join(f'{key} {value:.6g}' for key, value in truth['parameters'].items())}")
    kinds = [f"{frames[kind]} {kind}" for kind in ("changed", "added", "removed", "clipped") if frames[kind]]
    click.echo(f"frames        {', '.join(kinds)}")
    for when in ("before", "after"):
        if truth.get(when, {}).get("frames"):
            spread = truth[when]
            click.echo(f"{when:14}{spread['minimum']:.6g} to {spread['maximum']:.6g} {truth['unit']}, mean {spread['mean']:.6g}".rstrip())
    checks = truth.get("checks")
    if checks:
        rules = {rule["signal"]: rule["known_from"] for rule in checks["checksums"]}
        kept = ", ".join(f"{name} ({rules[name]})" for name in checks["kept_right"])
        click.echo(f"checksums     {'kept right: ' + kept if kept else 'damaged' if checks['damaged'] == 'checksums' else 'none known'}")
        if checks["counter"]:
            state = "stands still" if checks["damaged"] == "counter" else "goes on"
            click.echo(f"counter       {checks['counter']['signal']} {state} ({checks['counter']['known_from']})")


@contextmanager
def _progress(log: str) -> "Iterator[Callable[[LogReader], None] | None]":
    """A bar over the log's bytes, when stderr is a terminal."""
    if not sys.stderr.isatty() or not Path(log).is_file():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("injecting", total=Path(log).stat().st_size)
        yield lambda reader: bar.update(task, completed=reader.position)
