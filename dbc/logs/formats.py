"""Which format a log is of: by what is in it, never by its name."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable

from dbc.logs.asc import AscParser, is_asc
from dbc.logs.busmaster import BusMasterParser, MicrochipParser, is_busmaster, is_microchip
from dbc.logs.candump import CandumpParser, is_candump
from dbc.logs.crtd import CrtdParser, is_crtd
from dbc.logs.csv_logs import GenericCsvParser, GvretParser, PythonCanCsvParser, is_generic_csv, is_gvret, is_python_can_csv
from dbc.logs.lines import TextParser
from dbc.logs.trc import CanHackerParser, TrcParser, is_canhacker, is_trc

__all__ = ["FORMATS", "TEXT_FORMATS", "format_of", "text_parser"]

Lines = list[bytes]

MAGIC = ((b"LOGG", "blf"), (b"MDF     ", "mf4"), (b"UnFinMF ", "mf4"), (b"SQLite format 3\0", "sqlite"))

# Name -> (whether the first lines are of it, its parser from these lines). Formats with an unmistakable header stand first.
TEXT_FORMATS: dict[str, tuple[Callable[[Lines], bool], Callable[[Lines], TextParser]]] = {
    "gvret": (is_gvret, lambda head: GvretParser()),
    "csv": (is_python_can_csv, lambda head: PythonCanCsvParser()),
    "generic-csv": (is_generic_csv, lambda head: GenericCsvParser()),
    "busmaster": (is_busmaster, BusMasterParser),
    "microchip": (is_microchip, lambda head: MicrochipParser()),
    "canhacker": (is_canhacker, lambda head: CanHackerParser()),
    "trc": (is_trc, lambda head: TrcParser()),
    "candump": (is_candump, lambda head: CandumpParser()),
    "crtd": (is_crtd, lambda head: CrtdParser()),
    "asc": (is_asc, AscParser),
}
FORMATS = (
    "candump, Vector ASC or BLF, PEAK or CanHacker TRC, MF4, GVRET or SavvyCAN CSV, CRTD, BusMaster, Microchip, python-can's CSV or SQLite"
)


def format_of(head: bytes) -> str | None:
    """The format of a log that begins with `head`; None = none that is known."""
    for magic, form in MAGIC:
        if head.startswith(magic):
            return form
    lines = head_lines(head)
    return next((form for form, (is_it, _) in TEXT_FORMATS.items() if is_it(lines)), None)


def text_parser(form: str, head: bytes) -> TextParser:
    return TEXT_FORMATS[form][1](head_lines(head))


def head_lines(head: bytes) -> Lines:
    """The lines of a log's beginning, without blank ones, byte order mark and padding."""
    text = head.removeprefix(codecs.BOM_UTF8).replace(b"\0", b"")
    return [line.strip() for line in re.split(rb"[\r\n]+", text) if line.strip()]
