"""Options that several of `cansight models` take: which data, and what a table does not say of itself."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cansight.errors import UsageError

if TYPE_CHECKING:
    from models.tables import Layout

Command = TypeVar("Command", bound=Callable[..., Any])

pack_argument = click.argument("pack_dir", metavar="PACK_DIR", type=click.Path(path_type=Path))
data_argument = click.argument("data", metavar="DATA...", nargs=-1, required=True)
dbc_option = click.option(
    "--dbc",
    "dbc_files",
    metavar="FILE[@CHANNEL]",
    multiple=True,
    help="DATA are CAN logs, decoded by this DBC, or tables of its signals; may be repeated.",
)
checks_option = click.option(
    "--catalogue", metavar="FILE", help="A signal catalogue, for the counters and checksums that it declares, as the vehicle has it."
)
rows_option = click.option("--rows", metavar="A:B", default=":", help="Of each recording, only these rows, counted from 0.  [default: all]")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
labels_option = click.option("--labels", metavar="COLUMN", help="Column of the tables that is not 0 where the machine is faulty.")
truth_option = click.option(
    "--truth", "truths", metavar="FILE", multiple=True, help="Truth of the simulator, one for each DATA.  [default: beside it]"
)
report_option = click.option(
    "--report", metavar="FILE.html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with plots, too."
)
lang_option = click.option(
    "--lang",
    "language",
    type=click.Choice(["en", "zh"]),
    default="en",
    show_default=True,
    help="Language of the report: English or Chinese.",
)
SPLITS = ("training", "calibration", "test", "all")  # of a data set's manifest, and all of them


def split_option(default: str) -> Callable[[Command], Command]:
    """Adds --split."""
    return click.option(
        "--split", default=default, show_default=True, type=click.Choice(SPLITS), help="Of a data set's folder: these vehicles."
    )


def layout_options(command: Command) -> Command:
    """Adds --time-column, --separator, --ignore and --period."""
    for option in reversed(
        [
            click.option(
                "--time-column",
                metavar="N",
                default="",
                help="Where a table has its times: a column's name, or its number from 0.  [default: timestamp, datetime or time]",
            ),
            click.option(
                "--separator", metavar="C", default="", help="What separates a CSV table's columns.  [default: comma, semicolon or tab]"
            ),
            click.option("--ignore", metavar="A,B", multiple=True, help="Columns (globs) that are left out, as labels and remarks."),
            click.option(
                "--period",
                metavar="S",
                type=click.FloatRange(1e-3, 1e6),
                help="A table's rows are S seconds apart, and each is a tick.  [default: a second]",
            ),
        ]
    ):
        command = option(command)
    return command


def layout_of(time_column: str, separator: str, ignore: Sequence[str], period: float | None) -> "Layout":
    """What the options say. Raises UsageError."""
    from models.tables import Layout

    separator = {"tab": "\t", "\\t": "\t"}.get(separator, separator)
    if separator and (len(separator) != 1 or separator in '"\r\n' or separator.isalnum()):
        raise UsageError(f"--separator {separator}: expected one character, as ';' or tab")
    return Layout(time_column=time_column, separator=separator, ignore=tuple(split_globs(ignore)), period_s=period)


def split_globs(globs: Sequence[str]) -> list[str]:
    """`A,B` and repeated options as one list."""
    return [glob.strip() for text in globs for glob in text.split(",") if glob.strip()]


def rows_of(text: str) -> tuple[int, int | None]:
    """`A:B`: first row, and the one before which it ends (None: to the end)."""
    first, colon, last = text.partition(":")
    if not colon or not all(part == "" or (part.isascii() and part.isdigit()) for part in (first, last)):
        raise UsageError(f"--rows {text}: expected A:B, like 400: or :1000, counted from 0")
    if last and int(last) <= int(first or 0):
        raise UsageError(f"--rows {text}: expected A under B")
    return int(first or 0), int(last) if last else None


def tell(notes: Sequence[str]) -> None:
    """On stderr: what is odd about the data, and no error."""
    if notes and sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
    for note in notes:
        click.echo(f"cansight: {note}", err=True)


def reading(count: int) -> Callable[[str], None] | None:
    """Progress of reading on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        return None
    done = iter(range(1, count + 1))
    return lambda path: click.echo(f"\r\x1b[Kreading {next(done)}/{count} {path}", nl=False, err=True)
