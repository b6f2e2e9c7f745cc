"""Attributes of a DBC that is being repaired: periods, long names, frame formats.

cantools refuses a whole file for one value that does not fit its attribute's definition; here that attribute is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from dbc.load_report import LoadReport
from dbc.repair_entries import Entry
from dbc.repair_grammar import ATTRIBUTE, BOUNDS, DEFAULT, DEFINITION, NUMBER, STRING, WORDS, excerpt, leading_zero, plain_name, whole

__all__ = ["Attributes"]


class Attributes:
    """Entries BA_DEF_, BA_DEF_DEF_ and BA_, in this order.

    known: of an identifier as it is written and a signal, the identifier as it is meant; None where there is no such thing.
    """

    def __init__(self, report: LoadReport, known: Callable[[str, str | None], int | None]) -> None:
        self.report, self._known = report, known
        self.definitions: dict[str, tuple[str, list[str]]] = {}  # name -> type, words of an enumeration

    def definition(self, entry: Entry) -> str | None:
        found = DEFINITION.fullmatch(entry.body)
        kind = found[3] if found else ""
        values = found[4].strip() if found else ""
        if kind in ("INT", "HEX", "FLOAT") and (not values or BOUNDS.fullmatch(values)):
            values = " ".join(map(leading_zero, values.split()))
        elif not (kind == "ENUM" and WORDS.fullmatch(values)) and not (kind == "STRING" and not values):
            found = None
        if found is None:
            self._refuse(entry)
            return None
        self.definitions[found[2]] = (kind, re.findall(STRING, values, re.DOTALL))
        return f"BA_DEF_ {found[1] or ''}{found[2]} {kind} {values};"

    def default(self, entry: Entry) -> str | None:
        found = DEFAULT.fullmatch(entry.body)
        value = self._value(found[1], found[2], default=True) if found else None
        if not found or value is None:
            self._refuse(entry)
            return None
        return f"BA_DEF_DEF_ {found[1]} {value};"

    def attribute(self, entry: Entry) -> str | None:
        """None without a word where it is of a node, or of what is left out anyway."""
        found = ATTRIBUTE.fullmatch(entry.body)
        value = self._value(found[1], found["value"]) if found else None
        if not found or value is None:
            self._refuse(entry)
            return None
        if found["kind"] in ("BU_", "EV_"):
            return None
        if found["kind"]:
            identifier = self._known(found["of"], None)
            return None if identifier is None else f"BA_ {found[1]} BO_ {identifier} {value};"
        if found["about"]:
            signal = plain_name(found["signal"])
            identifier = self._known(found["message"], signal)
            return None if identifier is None else f"BA_ {found[1]} SG_ {identifier} {signal} {value};"
        return f"BA_ {found[1]} {value};"

    def _value(self, name: str, value: str, default: bool = False) -> str | None:
        """The value as cantools reads it: a number where the definition is of numbers; an enumeration's default is a word."""
        kind, words = self.definitions.get(name, ("", []))
        is_text = value.startswith('"')
        if kind == "ENUM":
            if default:
                return value
            at = words.index(value) if value in words else None if is_text else whole(value)
            return str(at) if at is not None and 0 <= at < len(words) else None
        if kind in ("INT", "HEX"):
            number = whole(value.strip('"'))
            return None if number is None else str(number)
        if kind == "FLOAT":
            return leading_zero(value.strip('"')) if re.fullmatch(NUMBER, value.strip('"')) else None
        if kind == "STRING":
            return value if is_text else f'"{value}"'
        return None

    def _refuse(self, entry: Entry) -> None:
        what = "cannot be read, or does not fit its definition: the attribute is not used"
        self.report.repair(entry.line, f"{excerpt(entry.text)!r} {what}")
