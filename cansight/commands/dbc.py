"""`cansight dbc`: look into and check DBC files."""

import json
import math
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from dbc.compiler import CompiledDbc

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
    """What the files define together: messages, signals, units, periods. A file without @CHANNEL is for can0."""
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
    for note in compiled.notes:
        click.echo(f"note          {note}")
    if list_signals:
        width = max(map(len, compiled.schema.names), default=0)
        for row in _signals(compiled):
            period = "" if row["period_ms"] is None else f"every {row['period_ms']:g} ms"
            scaling = f"x {row['scale']:g} + {row['offset']:g}"
            click.echo(f"{row['name']:{width}}  {row['kind']:7} {scaling:24} {row['unit']:10} {period}".rstrip())


@dbc.command()
@files_argument
@json_option
def check(files: tuple[str, ...], as_json: bool) -> int:
    """Whether each file loads, and what in it is doubtful. Exit code 2 when one does not load."""
    from dbc.check import doubts
    from dbc.compiler import compile_dbc
    from dbc.errors import DbcFileError

    report: list[dict[str, Any]] = []
    for file in files:
        try:
            compiled = compile_dbc([file])
        except DbcFileError as error:
            report.append({"file": file, "loads": False, "line": error.line, "column": error.column, "error": str(error), "doubts": []})
        else:
            signals = len(compiled.schema)
            report.append({"file": file, "loads": True, "signals": signals, "error": None, "doubts": doubts(compiled)})
    if as_json:
        click.echo(json.dumps(report, ensure_ascii=False, indent=2))
    else:
        for entry in report:
            for doubt in entry["doubts"]:
                click.echo(f"{entry['file']}: {doubt}")
            click.echo(entry["error"] or f"{entry['file']}: loads, {entry['signals']} signals, {len(entry['doubts'])} doubts")
    return 0 if all(entry["loads"] for entry in report) else 2


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
