"""`cansight log`: look into recorded CAN logs."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cansight.commands.log_dtc import dtc
from cansight.commands.log_notes import utc

if TYPE_CHECKING:
    from dbc.compiler import CompiledDbc
    from dbc.logs import LogReader
    from dbc.logs.info import LogInfo

UNKNOWN_SHOWN = 10
IDENTIFIERS_SHOWN = 10
BUS_BITS = 500_000  # a second, of the usual classic bus


@click.group()
def log() -> None:
    """Look into recorded CAN logs."""


log.add_command(dtc)


@log.command()
@click.argument("logs", metavar="LOG...", nargs=-1, required=True)
@click.option("--dbc", "dbc_files", metavar="FILE[@CHANNEL]", multiple=True, help="Say how much of the log it explains; may be repeated.")
@click.option("--known", "folders", metavar="FOLDER", multiple=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(logs: tuple[str, ...], dbc_files: tuple[str, ...], folders: tuple[Path, ...], as_json: bool) -> None:
    """Format, frames, time, buses and their load, identifiers; with --dbc also the signals. "-" is standard input.

    Without --dbc it says which known DBCs fit: of our own vehicle, of the folders named by --known, of the package opendbc.
    """
    from cansight.commands.log_files import compiled_cache, placed
    from dbc.compiler import load_compiled
    from dbc.logs import open_log
    from dbc.logs.info import survey
    from dbc.logs.suggest import known_files, suggest

    report, cache = [], compiled_cache()
    for path in logs:
        files = placed(dbc_files, path, cache)
        found = survey(open_log(path), load_compiled(files, cache) if files else None)
        shares = [survey(open_log(path), load_compiled([file], cache)).coverage for file in files] if len(files) > 1 and path != "-" else []
        suggestions = suggest(found, known_files(folders)) if not files or folders else []
        entry = asdict(found) | {
            "dbc": [
                {"file": file, "frames_decoded": one.frames_decoded}
                for file, one in zip(files, shares or [found.coverage], strict=False)
                if one
            ],
            "suggestions": [asdict(one) for one in suggestions],
        }
        report.append(entry)
        if not as_json:
            if len(report) > 1:
                click.echo()
            _print(found, entry)
    if as_json:
        click.echo(json.dumps(report, ensure_ascii=False, indent=2))


@log.command()
@click.argument("logs", metavar="LOG...", nargs=-1, required=True)
@click.option("--dbc", "dbc_files", metavar="FILE[@CHANNEL]", multiple=True, required=True, help="May be repeated.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="OUT.parquet, .csv or .mf4; without it LOG.parquet here."
)
@click.option("--wide", "period_s", type=click.FloatRange(0.001, 86400), metavar="PERIOD_S", help="A row a period, a column a signal.")
@click.option("--catalogue", metavar="FILE", help="A signal catalogue, for the counters and checksums that it declares ([checks.MESSAGE]).")
@click.option("--strict", is_flag=True, help="Stop at the first broken line or damage, with exit code 2, instead of counting it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def decode(
    logs: tuple[str, ...],
    dbc_files: tuple[str, ...],
    output: Path | None,
    period_s: float | None,
    catalogue: str | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Logs, one after the other, to a table of their signals. A file without @CHANNEL is for the channel that it fits best."""
    from cansight.commands.log_files import compiled_cache, placed
    from dbc.catalogue import Catalogue
    from dbc.compiler import load_compiled
    from dbc.integrity import with_checks
    from dbc.logs.decode import decode_logs
    from dbc.table_files import open_table

    path = output or Path(f"{Path(logs[0]).name if logs[0] != '-' else 'log'}.parquet")
    cache = compiled_cache()
    files = placed(dbc_files, logs[0], cache)
    compiled = load_compiled(files, cache)
    if sources := _several_sources(compiled, logs):
        compiled = load_compiled(files, cache, sources)
    if catalogue is not None:
        compiled = with_checks(compiled, Catalogue.load(catalogue).checks)
    table = open_table(path, compiled.schema, wide=period_s is not None)
    with _progress(logs) as progress, table:
        done = decode_logs(
            logs,
            compiled,
            table,
            wide_period_ns=None if period_s is None else round(period_s * 1e9),
            strict=strict,
            progress=progress,
        )
    for entry in done.skipped:
        click.echo(f"cansight: {entry['log']}: {entry['lines']} lines are no frames, the first is line {entry['first']}", err=True)
    for entry in done.damaged:
        click.echo(f"cansight: {entry['log']}: damaged: {entry['what']}; the rest is read", err=True)
    if done.frames and not done.frames_decoded:
        where, there = ", ".join(compiled.schema.channels), ", ".join(done.channels)
        click.echo(f"cansight: no frame is of a message of the DBC; it is for {where}, the log has {there}; write FILE@CHANNEL", err=True)
    if as_json:
        click.echo(json.dumps({"output": str(path), "dbc": list(files), **asdict(done)}, ensure_ascii=False, indent=2))
        return
    invalid = f", {done.rows_invalid} of them not valid" if done.rows_invalid else ""
    click.echo(f"frames        {done.frames}, {done.frames_decoded} decoded")
    click.echo(f"table         {path}: {done.rows} rows{invalid}")


def _several_sources(compiled: "CompiledDbc", logs: Sequence[str]) -> dict[int, tuple[int, ...]]:
    """The sources of each J1939 group of the DBC, by a first pass over the logs; nothing where no group has two, or the log is a pipe."""
    from dbc.logs import open_log
    from dbc.protocols import SourceSurvey

    survey = SourceSurvey(compiled)
    if not survey.needed or not all(Path(path).is_file() for path in logs):
        return {}
    for path in logs:
        for block in open_log(path):
            survey.feed(block)
    return survey.sources if any(len(addresses) > 1 for addresses in survey.sources.values()) else {}


@contextmanager
def _progress(logs: Sequence[str]) -> Iterator[Callable[["LogReader"], None] | None]:
    """A bar over the logs' bytes, when stderr is a terminal."""
    if not sys.stderr.isatty() or "-" in logs:
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    sizes = {path: Path(path).stat().st_size if Path(path).is_file() else 0 for path in logs}
    before = {path: sum(sizes[earlier] for earlier in logs[:number]) for number, path in enumerate(logs)}
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("decoding", total=sum(sizes.values()) or None)
        yield lambda reader: bar.update(task, completed=before[reader.path] + reader.position)


def _print(info: "LogInfo", entry: dict[str, Any]) -> None:
    click.echo(f"log           {info.path}")
    click.echo(f"format        {info.format}")
    kinds = [
        f"{count} {kind}"
        for kind, count in (("extended", info.extended), ("remote", info.remote), ("error", info.error), ("FD", info.fd))
        if count
    ]
    among = f" ({', '.join(kinds)})" if kinds else ""
    click.echo(f"frames        {info.frames}{among}, longest {info.longest} bytes")
    if info.first_ns is not None and info.last_ns is not None:
        click.echo(f"time          {utc(info.first_ns)} to {utc(info.last_ns)}, {info.span_s:.3f} s")
    if info.backwards:
        click.echo(f"order         {info.backwards} frames are stamped earlier than the frame before them")
    if info.skipped:
        click.echo(f"skipped       {info.skipped} lines that are no frame, the first is line {info.first_skipped}")
    if info.damage:
        click.echo(f"damaged       {info.damage}")
    fast = " (FD payloads at 2 Mbit/s)" if info.longest > 8 else ""
    for name, channel in info.channels.items():
        load = f", load {channel.bits_per_s / BUS_BITS:.0%} of 500 kbit/s{fast}, at most {channel.peak_bits_per_s / BUS_BITS:.0%}"
        click.echo(f"channel       {name}: {channel.frames} frames, {channel.frames_per_s:.0f} a second{load if info.span_s >= 1 else ''}")
    click.echo(f"identifiers   {len(info.identifiers)}")
    for one in info.identifiers[:IDENTIFIERS_SHOWN]:
        period = "" if one.period_ms is None else f", every {one.period_ms:.4g} ms"
        click.echo(f"              {one.channel} {one.identifier}: {one.frames} frames{period}{f', {one.message}' if one.message else ''}")
    if len(info.identifiers) > IDENTIFIERS_SHOWN:
        click.echo(f"              and {len(info.identifiers) - IDENTIFIERS_SHOWN} more")
    _print_coverage(info, entry)
    for suggestion in entry["suggestions"]:
        share, identifiers = suggestion["frames_share"], suggestion["identifiers"]
        click.echo(
            f"fits          {suggestion['channel']}: {suggestion['dbc']} has {identifiers} of its identifiers, {share:.1%} of its frames"
        )


def _print_coverage(info: "LogInfo", entry: dict[str, Any]) -> None:
    coverage = info.coverage
    if coverage is None:
        return
    for one in entry["dbc"]:
        share = one["frames_decoded"] / info.frames if info.frames else 0.0
        click.echo(f"decoded by    {one['file']}: {one['frames_decoded']} frames ({share:.1%})")
    share = 100 * coverage.frames_decoded / info.frames if info.frames else 0.0
    click.echo(f"decoded       {coverage.frames_decoded} frames ({share:.1f} %), {coverage.frames_short} of them short")
    click.echo(f"signals       {coverage.seen} of {coverage.signals} seen, {coverage.changing} of them changing")
    for channel, identifier, frames in info.unknown[:UNKNOWN_SHOWN]:
        click.echo(f"unknown       {channel} {identifier}: {frames} frames")
    if len(info.unknown) > UNKNOWN_SHOWN:
        click.echo(f"unknown       and {len(info.unknown) - UNKNOWN_SHOWN} more identifiers")
