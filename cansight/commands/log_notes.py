"""What the commands about logs say in the same words."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from dbc.logs import LogReader

__all__ = ["tell_damage", "utc"]


def tell_damage(reader: "LogReader") -> None:
    """On stderr: broken lines, and what a damaged file has lost."""
    if reader.skipped:
        click.echo(f"cansight: {reader.path}: {reader.skipped} lines are no frames, the first is line {reader.first_skipped}", err=True)
    if reader.damage:
        click.echo(f"cansight: {reader.path}: damaged: {reader.damage}; the rest is read", err=True)


def utc(timestamp_ns: int) -> str:
    """ISO 8601; the plain number of seconds where a calendar has no such date."""
    try:
        return datetime.fromtimestamp(timestamp_ns / 1e9, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{timestamp_ns / 1e9:.3f}"
