"""DBC text cut into its entries, whatever is wrong inside them.

An entry begins with a keyword at the start of a line, or after the ";" of another one, and ends where the next begins. A string may go
over lines and may have keywords in it; one that is never closed ends with its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["KEYWORDS", "Entry", "cut_entries"]

# The longest first, for the expression below.
KEYWORDS = (
    *(
        "BA_DEF_DEF_REL_",
        "SIGTYPE_VALTYPE_",
        "BA_DEF_SGTYPE_",
        "ENVVAR_DATA_",
        "SIG_TYPE_REF_",
        "BA_DEF_DEF_",
        "BA_DEF_REL_",
        "SGTYPE_VAL_",
    ),
    *("SIG_VALTYPE_", "BA_SGTYPE_", "BU_BO_REL_", "BU_EV_REL_", "BU_SG_REL_", "SG_MUL_VAL_", "SIG_GROUP_", "VAL_TABLE_", "BO_TX_BU_"),
    *("CAT_DEF_", "EV_DATA_", "NS_DESC_", "BA_DEF_", "BA_REL_", "SGTYPE_", "VERSION", "FILTER", "CAT_", "VAL_"),
    *("BA_", "BO_", "BS_", "BU_", "CM_", "EV_", "NS_", "SG_"),
)
SYMBOL_LINE = re.compile(r"[ \t]*\w+[ \t]*\n?")  # of the NS_ block: one symbol

# A keyword that begins an entry, and enough of what must follow it that it is not a word of a text.
_START = re.compile(rf"[ \t]*({'|'.join(KEYWORDS)})(?![A-Za-z0-9_])")
_CERTAIN_START = re.compile(
    r"[ \t]*(?:BO_\s+\d+\s+\w+\s*:|SG_\s+\w+(?:\s+[mM]\w*)?\s*:\s*\d+\s*\||CM_\s+(?:(?:SG_|BO_|BU_|EV_)\s+\w+.*)?\"|VAL_\s+\d+\s+\w+\s|"
    r"BA_(?:DEF_|DEF_DEF_)?\s+(?:(?:SG_|BO_|BU_|EV_)\s+)?\"|SIG_VALTYPE_\s+\d|SG_MUL_VAL_\s+\d|VAL_TABLE_\s+\w+\s+-?\d)"
)
# A message's first line and a signal have no ";" at their end.
_ENDS = re.compile(r"\s*+(?:BO_[^:]*+:\s*+\S++\s++\S++|SG_[^\"]*+\"[^\"]*+\".*[^,\"\s])", re.DOTALL)


@dataclass
class Entry:
    """One entry. `text` begins with the keyword (keyword "": no entry at all) and reaches up to the next entry."""

    line: int  # from 1
    keyword: str
    text: str

    @property
    def body(self) -> str:
        """Without the space around it and the ";" at its end."""
        return self.text.strip().removesuffix(";").rstrip()

    @property
    def ended(self) -> bool:
        return self.text.rstrip().endswith(";")


def cut_entries(text: str) -> list[Entry]:
    """The entries of a text whose lines end with "\\n". Comments (//) are left out."""
    entries: list[Entry] = []
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    closing = _Closing(lines)
    in_string = in_symbols = complete = False
    for number, line in enumerate(lines, 1):
        if not in_string:
            if not line.strip() or line.lstrip().startswith("//") or (in_symbols and SYMBOL_LINE.fullmatch(line)):
                if entries:
                    entries[-1].text += "\n" if "//" in line else line
                continue
            start = _START.match(line)
            if start or not entries or complete or in_symbols:
                entries.append(Entry(number, start[1] if start else "", ""))
                in_symbols, complete = bool(start and start[1] == "NS_"), False
        for piece, ends, still_open in list(_pieces(line, in_string, entries[-1].keyword == "SG_")):
            in_string = still_open
            if complete and piece.strip():  # after a ";" on the same line
                start = _START.match(piece)
                entries.append(Entry(number, start[1] if start else "", ""))
                complete = False
            entries[-1].text += piece
            complete = complete or ends
        if in_string and closing.never(number):
            in_string = False
        complete = complete or (not in_string and _ENDS.fullmatch(entries[-1].text.rstrip()) is not None)
    return entries


class _Closing:
    """Whether a string that is open at the end of a line is closed further down."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._decided = 0  # up to this line the string is known to go on

    def never(self, number: int) -> bool:
        """The string open at the end of line `number`: True where an entry begins before its quotation mark does."""
        if number <= self._decided:
            return False
        suspicious = False
        for at in range(number, len(self._lines)):
            line = self._lines[at]
            suspicious = suspicious or _CERTAIN_START.match(line) is not None
            quote = re.search(r'(?<!\\)"', line)
            if quote:
                if suspicious and not re.match(r"\s*;", line[quote.end() :]):
                    return True
                self._decided = at  # lines up to the one that closes it; that one is looked at again
                return False
        return True


def _pieces(line: str, in_string: bool, one_line_only: bool) -> Iterator[tuple[str, bool, bool]]:
    """The line cut after each ";" outside strings: (piece, ends with ";", a string is open after it). A // comment is left out."""
    begin = 0
    for mark in re.finditer(r'\\"|"|;|//', line):
        if mark[0] == '"':
            in_string = not in_string
        elif in_string or mark[0] == '\\"':
            continue
        elif mark[0] == ";":
            yield line[begin : mark.end()], True, False
            begin = mark.end()
        elif mark[0] == "//":
            yield line[begin : mark.start()] + "\n", False, False
            return
    if begin < len(line):
        yield line[begin:], False, in_string and not one_line_only
