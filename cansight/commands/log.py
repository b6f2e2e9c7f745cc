"""`cansight log`: look into recorded CAN logs."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from dbc.logs.info import LogInfo

UNKNOWN_SHOWN = 10


@click.group()
def log() -> None:
    """Look into recorded CAN logs."""


@log.command()
@click.argument("logs", metavar="LOG...", nargs=-1, required=True)
@click.option("--dbc", "dbc_files", metavar="FILE[@CHANNEL]", multiple=True, help="Say how much of the log it explains; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(logs: tuple[str, ...], dbc_files: tuple[str, ...], as_json: bool) -> None:
    """Format, frames, time, channels; with --dbc also the signals. "-" is standard input."""
    from dbc.compiler import compile_dbc
    from dbc.logs import open_log
    from dbc.logs.info import survey

    compiled = compile_dbc(dbc_files) if dbc_files else None
    found = [survey(open_log(path), compiled) for path in logs]
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], ensure_ascii=False, indent=2))
        return
    for number, one in enumerate(found):
        if number:
            click.echo()
        _print(one)


def _print(info: "LogInfo") -> None:
    click.echo(f"log           {info.path}")
    click.echo(f"format        {info.format}")
    kinds = [f"{count} {kind}" for kind, count in (("extended", info.extended), ("remote", info.remote), ("error", info.error)) if count]
    among = f" ({', '.join(kinds)})" if kinds else ""
    click.echo(f"frames        {info.frames}{among}, longest {info.longest} bytes")
    if info.first_ns is not None and info.last_ns is not None:
        click.echo(f"time          {_utc(info.first_ns)} to {_utc(info.last_ns)}, {(info.last_ns - info.first_ns) / 1e9:.3f} s")
    if info.backwards:
        click.echo(f"order         {info.backwards} frames are stamped earlier than the frame before them")
    if info.skipped:
        click.echo(f"skipped       {info.skipped} lines that are no frame, the first is line {info.first_skipped}")
    for channel, frames in info.channels.items():
        click.echo(f"channel       {channel}: {frames} frames")
    click.echo(f"identifiers   {info.identifiers}")
    coverage = info.coverage
    if coverage is None:
        return
    share = 100 * coverage.frames_decoded / info.frames if info.frames else 0.0
    click.echo(f"decoded       {coverage.frames_decoded} frames ({share:.1f} %), {coverage.frames_short} of them short")
    click.echo(f"signals       {coverage.seen} of {coverage.signals} seen, {coverage.changing} of them changing")
    for channel, identifier, frames in info.unknown[:UNKNOWN_SHOWN]:
        click.echo(f"unknown       {channel} {identifier}: {frames} frames")
    if len(info.unknown) > UNKNOWN_SHOWN:
        click.echo(f"unknown       and {len(info.unknown) - UNKNOWN_SHOWN} more identifiers")


def _utc(timestamp_ns: int) -> str:
    """ISO 8601; the plain number of seconds where a calendar has no such date."""
    try:
        return datetime.fromtimestamp(timestamp_ns / 1e9, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{timestamp_ns / 1e9:.3f}"
