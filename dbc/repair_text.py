"""The bytes of a database file as text: which encoding they are in, and what kind of file it is.

DBC and SYM are cp1252 by their tools' habit; UTF-8, UTF-16 and the Chinese GB 18030 are met too. No file says which it is.
"""

from __future__ import annotations

import codecs
import re

from dbc.load_report import LoadReport

__all__ = ["database_format", "decode_text"]

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Chinese text in GB 18030 is runs of byte pairs, first-level characters (the 3,755 common ones) nearly always. Western text in cp1252 has
# single bytes of that range among ASCII, and hardly ever two such pairs.
HIGH_RUN = re.compile(rb"[\x80-\xff]+")
COMMON_PAIRS = re.compile(rb"(?:[\xb0-\xd7][\xa1-\xfe]|[\xa1-\xa9][\xa1-\xfe]|[\xd8-\xf7][\xa1-\xfe])+")
FEWEST_PAIRS = 2

DBC_LINE = re.compile(
    r"^[ \t]*(?:BO_[ \t]|BU_|VERSION\b|NS_|BS_|CM_[ \t]+(?:(?:BU_|BO_|SG_)[ \t]+\w+[ \t]+)?(?:\w+[ \t]+)?\"|VAL_[ \t]+\d)", re.MULTILINE
)
XML_ROOT = re.compile(r"<(?!\?|!)(?:\w+:)?(\w+)")


def decode_text(data: bytes, report: LoadReport) -> str:
    """The text, with line ends as they are. What had to be guessed or replaced is in the report."""
    for mark, encoding in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            if encoding != "utf-8":
                report.repair(0, f"the file is {encoding.upper()} text: read as such")
            return _replacing(data[len(mark) :], encoding, report)
    if data.endswith(b"\0") and data.rstrip(b"\0").count(b"\0") == 0:
        report.repair(0, f"{len(data) - len(data.rstrip(bytes(1)))} NUL bytes at the end are not read")
        data = data.rstrip(b"\0")
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if data and data[:4096][first::2].count(0) > len(data[:4096]) * 0.4:
            report.repair(0, f"the file is {encoding.upper()} text without a byte-order mark: read as such")
            return _replacing(data, encoding, report)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    if declared := re.match(rb"\s*<\?xml[^>]*encoding=[\"']([\w.-]+)", data):
        try:
            return data.decode(declared[1].decode())
        except (LookupError, UnicodeDecodeError):
            report.repair(1, f"the file is not {declared[1].decode()}, as it says: read as cp1252")
    runs = HIGH_RUN.findall(data)
    if sum(map(len, runs)) >= 2 * FEWEST_PAIRS and all(len(run) % 2 == 0 and COMMON_PAIRS.fullmatch(run) for run in runs):
        try:
            text = data.decode("gb18030")
        except UnicodeDecodeError:
            pass
        else:
            report.repair(0, "the file is GB 18030 text, not cp1252 or UTF-8: read as such")
            return text
    return _replacing(data, "cp1252", report)


def _replacing(data: bytes, encoding: str, report: LoadReport) -> str:
    text = data.decode(encoding, errors="replace")
    if "�" in text:
        line = text.count("\n", 0, text.index("�")) + 1
        report.repair(line, f"bytes that are not {encoding.upper()} are read as \N{REPLACEMENT CHARACTER}, here first")
    return text


def database_format(text: str) -> str | None:
    """ "dbc", "arxml", "kcd", "sym" or "cdd" by what the file says, whatever it is called; None for anything else."""
    start = text.lstrip("﻿ \t\r\n")
    if start.startswith("<"):
        root = XML_ROOT.search(start)
        return {"AUTOSAR": "arxml", "NetworkDefinition": "kcd", "CANDELA": "cdd"}.get(root[1]) if root else None
    if re.search(r"^FormatVersion=", start[:4096], re.MULTILINE):
        return "sym"
    return "dbc" if DBC_LINE.search(text) else None
