"""`cansight dbc`: look into and check DBC files."""

import json
import math
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from dbc.compiler import CompiledDbc

NOTES_SHOWN = 10

files_argument = click.argument("files", metavar="FILE[@CHANNEL]...", nargs=-1, required=True)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def dbc() -> None:
    """Look into and check DBC files."""


@dbc.command()
@files_argument
@click.option("--signals", "list_signals", is_flag=True, help="List every signal.")
@json_option
def info(files: tuple[str, ...], list_signals: bool, as_json: bool) -> None:
    """What the files define together: messages, signals, units, periods.

    A FILE is a DBC, ARXML, KCD or SYM file, or opendbc:NAME. Without @CHANNEL it is for can0; files of one channel are taken together.
    """
    from dbc.compiler import compile_dbc

    compiled = compile_dbc(files)
    if as_json:
        click.echo(json.dumps(_summary(compiled) | {"signals": _signals(compiled)}, ensure_ascii=False, indent=2))
        return
    summary = _summary(compiled)
    click.echo(f"channels      {', '.join(summary['channels'])}")
    click.echo(
        f"messages      {summary['messages']} ({summary['messages_multiplexed']} multiplexed, {summary['messages_fd']} over 8 bytes)"
    )
    click.echo(f"signals       {summary['signal_count']} ({summary['signals_with_period']} with a declared period)")
    click.echo(f"schema        {summary['schema_id']}")
    for note in compiled.notes[:NOTES_SHOWN]:
        click.echo(f"note          {note}")
    if len(compiled.notes) > NOTES_SHOWN:
        click.echo(f"note          and {len(compiled.notes) - NOTES_SHOWN} more; `cansight dbc check` lists them")
    if list_signals:
        width = max(map(len, compiled.schema.names), default=0)
        for row in _signals(compiled):
            period = "" if row["period_ms"] is None else f"every {row['period_ms']:g} ms"
            scaling = f"x {row['scale']:g} + {row['offset']:g}"
            click.echo(f"{row['name']:{width}}  {row['kind']:7} {scaling:24} {row['unit']:10} {period}".rstrip())


@dbc.command()
@files_argument
@click.option("--strict", is_flag=True, help="A file that needs repair or loses a message counts as one that does not load.")
@click.option("--summary", is_flag=True, help="A table of counts, without the reasons.")
@json_option
def check(files: tuple[str, ...], strict: bool, summary: bool, as_json: bool) -> int:
    """What of each file is usable, what is repaired, what is left out and why, and what is doubtful.

    Exit code 0: everything is usable; 1: some messages or signals are left out, or their identifiers are wrong and were guessed;
    2: a file does not load, or no identifier in it is valid.
    """
    from dbc.check import check_file

    report = [check_file(file) for file in files]
    for entry in report:
        flaws = [*entry["skipped"], *entry["repaired"]]
        if strict and entry["loads"] and flaws:
            first = min(flaws, key=lambda flaw: flaw["line"] or 0)
            what = first.get("what") or f"{first['message'] or 'an entry'} is left out: {first['why']}"
            entry |= {
                "loads": False,
                "line": first["line"],
                "error": f"{_place(entry['file'], first['line'])}: {what} (and {len(flaws) - 1} more)",
            }
    if as_json:
        click.echo(json.dumps(report, ensure_ascii=False, indent=2))
    elif summary:
        _echo_table(report)
    else:
        for entry in report:
            _echo_check(entry)
    if any(entry["error"] for entry in report):
        return 2
    guessed = any(flaw["level"] == "error" for entry in report for flaw in entry["repaired"])
    return 1 if guessed or any(entry["skipped"] for entry in report) else 0


def _echo_check(entry: dict[str, Any]) -> None:
    file = entry["file"]
    words = {"warning": "repaired", "error": "error"}
    lines = [(flaw["line"] or 0, f"{words[flaw['level']]}: {flaw['what']}") for flaw in entry["repaired"]]
    lines += [(flaw["line"] or 0, f"left out: {flaw['message'] or 'an entry'}: {flaw['why']}") for flaw in entry["skipped"]]
    for line, text in sorted(lines):
        click.echo(f"{_place(file, line)}: {text}")
    for doubt in entry["doubts"]:
        click.echo(f"{file}: doubtful: {doubt}")
    usable = (
        f"{entry['messages']} messages, {entry['signals']} signals; {len(entry['repaired'])} repaired, {len(entry['skipped'])} left out"
    )
    if entry["loads"]:
        click.echo(f"{file}: {usable}, {len(entry['doubts'])} doubtful")
    if entry["error"]:
        click.echo(entry["error"] if not entry["loads"] else entry["error"].replace(": ", ": error: ", 1))


def _echo_table(report: list[dict[str, Any]]) -> None:
    rows: list[tuple[str, int, int, int, int, str]] = [
        (
            entry["file"],
            entry["messages"],
            entry["signals"],
            len(entry["repaired"]),
            len(entry["skipped"]),
            entry["error"] or "",
        )
        for entry in report
    ]
    total = [sum(counts) for counts in zip(*(row[1:5] for row in rows), strict=True)]
    width = max(len(row[0]) for row in rows)
    click.echo(f"{'file':{width}} messages signals repaired left out")
    for file, messages, signals, repaired, skipped, error in [*rows, (f"{len(rows)} files", total[0], total[1], total[2], total[3], "")]:
        click.echo(f"{file:{width}} {messages:8} {signals:7} {repaired:8} {skipped:8} {error}".rstrip())


def _place(file: str, line: int | None) -> str:
    return f"{file}:{line}" if line else file


def _summary(compiled: "CompiledDbc") -> dict[str, Any]:
    schema, plan = compiled.schema, compiled.plan
    multiplexed = {int(message) for message, slots in zip(plan.node_message, plan.node_slot_count, strict=True) if slots}
    return {
        "channels": list(schema.channels),
        "messages": len(plan.message_names),
        "messages_multiplexed": len(multiplexed),
        "messages_fd": int((plan.message_length > 8).sum()),
        "signal_count": len(schema),
        "signals_with_period": sum(not math.isnan(period) for period in schema.period_ms),
        "schema_id": schema.schema_id.hex(),
        "notes": list(compiled.notes),
    }


def _signals(compiled: "CompiledDbc") -> list[dict[str, Any]]:
    from dbc.schema import Kind

    schema = compiled.schema

    def number(value: float) -> float | None:
        return None if math.isnan(value) else float(value)

    return [
        {
            "name": name,
            "channel": schema.channels[schema.channel[at]],
            "unit": schema.units[at],
            "kind": Kind(schema.kind[at]).name.lower(),
            "scale": float(schema.scale[at]),
            "offset": float(schema.offset[at]),
            "minimum": number(schema.minimum[at]),
            "maximum": number(schema.maximum[at]),
            "period_ms": number(schema.period_ms[at]),
            "choices": schema.choices[at],
        }
        for at, name in enumerate(schema.names)
    ]
