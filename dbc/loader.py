"""A database file to cantools' Database: as it is where cantools takes it, else repaired, else message by message.

Whatever the file, the result is a database of its usable messages and a report, or one DbcFileError. Only the compiler imports this.
"""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cantools.database

from dbc.dbc_file import DbcFile, parse_file_argument
from dbc.errors import DbcFileError
from dbc.frames import EFF_FLAG
from dbc.load_report import LoadReport
from dbc.repair import RepairedText, repair_dbc
from dbc.repair_grammar import is_monstrous
from dbc.repair_text import database_format, decode_text

__all__ = ["load_database", "message_identifier", "unreachable", "unusable"]

MAX_BITS = 64  # a raw value is an int64
MAX_FILE_BYTES = 64 << 20  # the largest real ARXML system descriptions are some ten MB
DEEPEST = 200  # elements in elements: a real ARXML has some 25


def load_database(file: DbcFile | str | Path, data: bytes | None = None) -> tuple[Any, LoadReport]:
    """The usable messages of one file as a cantools Database, and what was done to get them.

    data: the file's content where it has been read already. Raises DbcFileError with file and line where nothing is usable.
    """
    named = file if isinstance(file, DbcFile) else parse_file_argument(str(file))
    data = named.read() if data is None else data
    if len(data) > MAX_FILE_BYTES:
        raise DbcFileError(named.path, f"has {len(data)} bytes; a database of more than {MAX_FILE_BYTES} is not read")
    report = LoadReport(named.path, "")
    text = decode_text(data, report).replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    form = None if "\0" in text else database_format(text)
    if form is None:
        raise DbcFileError(named.path, "is not a DBC file (expected a VERSION, BU_ or BO_ line), nor ARXML, KCD or SYM")
    report.format = form
    with _quiet():
        if form == "dbc":
            database, lines = _load_dbc(named.path, text, report)
        else:
            database, lines = _load_other(named.path, text, form), _Lines({}, {})
    _declare_protocol(database)
    _join_multiplexers(database, lines, report)
    _tell_apart(database, lines, report)
    _look_at(database, lines, report)
    if not database.messages and report.skipped:
        first = min(report.skipped)
        more = f" ({len(report.skipped)} messages and signals are unusable)" if len(report.skipped) > 1 else ""
        raise DbcFileError(named.path, f"{first.message or 'an entry'}: {first.why}{more}", first.line or None)
    return database, report


def message_identifier(message: Any) -> int:
    """The identifier with EFF_FLAG where it is of 29 bits."""
    return int(message.frame_id) | (EFF_FLAG if message.is_extended_frame else 0)


def unusable(signal: Any) -> str | None:
    """Why no value can be read by this signal's description; None where one can."""
    if signal.is_float and signal.length not in (16, 32, 64):
        return f"a float of {signal.length} bits"
    if not 1 <= signal.length <= MAX_BITS:
        return f"{signal.length} bits; 1 to {MAX_BITS} are possible"
    return None


class _Lines:
    """Where messages and signals stand in the file; 0 = unknown."""

    def __init__(self, messages: dict[int, list[int]], signals: dict[tuple[int, str], int]) -> None:
        self._messages, self._signals = messages, signals

    def message(self, identifier: int, number: int = -1) -> int:
        """Of the message with this identifier; where the file has several, of the one of this number, or the last."""
        lines = self._messages.get(identifier, [])
        return lines[number] if -len(lines) <= number < len(lines) else 0

    def signal(self, identifier: int, name: str) -> int:
        return self._signals.get((identifier, name), self.message(identifier))

    @classmethod
    def of_text(cls, text: str) -> _Lines:
        """For text that cantools has accepted."""
        messages: dict[int, list[int]] = {}
        signals: dict[tuple[int, str], int] = {}
        identifier = 0
        for number, line in enumerate(text.split("\n"), 1):
            if found := re.match(r"\s*BO_\s+(\d{1,10})\s", line):
                identifier = int(found[1])
                messages.setdefault(identifier, []).append(number)
            elif found := re.match(r"\s*SG_\s+(\w+)", line):
                signals[identifier, found[1]] = number
        return cls(messages, signals)


def _load_dbc(path: str, text: str, report: LoadReport) -> tuple[Any, _Lines]:
    complaint: Exception | None = None
    if not is_monstrous(text):
        try:
            return _parse(text), _Lines.of_text(text)
        except Exception as error:  # noqa: BLE001  cantools raises its own, textparser's and plain KeyError, ValueError, AssertionError
            complaint = error
    repairs = len(report.repaired) + len(report.skipped)
    repaired = repair_dbc(text, report)
    _judge_identifiers(path, repaired, report)
    lines = _Lines(repaired.message_lines, repaired.signal_lines)
    try:
        database = _parse(repaired.text)
    except Exception as error:  # noqa: BLE001
        database = _message_by_message(path, repaired, report, error)
    if complaint is not None and len(report.repaired) + len(report.skipped) == repairs:
        # The fault was in an entry that decoding does not need and that nobody looked at.
        reason, line = _reason(text, complaint)
        report.repair(line or 0, f"{reason}: not needed for decoding, not read")
    if not database.messages and complaint is not None and not report.skipped:
        reason, line = _reason(text, complaint)
        raise DbcFileError(path, reason, line)
    return database, lines


def _judge_identifiers(path: str, repaired: RepairedText, report: LoadReport) -> None:
    """Of a file none of whose identifiers is valid as written. One rule may explain them all: that bit 31 is left out throughout, as some
    tools do it; the file is then used, and said to be wrong. With an identifier that the rule does not explain, nothing supports it.

    Raises DbcFileError.
    """
    if repaired.proper or not repaired.unmarked:
        return
    count, first = len(repaired.unmarked), min(repaired.unmarked)
    if repaired.impossible:
        line, name, identifier = min(repaired.impossible)
        at = f"{count} others have more than 11 bits without bit 31, the first in line {first}"
        reason = f"{name}: identifier {identifier} ({identifier:#x}) is none: expected 0 to 2047, or 2147483648 and up to 29 bits; {at}"
        raise DbcFileError(path, f"{reason}: no identifier of the file is valid, so none is trusted", line)
    report.wrong_throughout = (
        f"{path}:{first}: no identifier of the file is valid: expected 0 to 2047, or bit 31 and up to 29 bits; found more than 11 bits "
        f"without bit 31 in each of the {count} messages; they are used as 29-bit ones"
    )


def _message_by_message(path: str, repaired: RepairedText, report: LoadReport, complaint: Exception) -> Any:
    """Each message on its own: those that cantools does not take are left out, each with its reason."""
    report.repair(0, f"the attributes are not used: {_reason(repaired.text, complaint)[0]}")
    with contextlib.suppress(Exception):  # the attributes alone were at fault
        return _parse("\n".join(entry for block in repaired.blocks.values() for entry in block))
    messages: list[Any] = []
    for identifier, block in repaired.blocks.items():
        try:
            messages += _parse("\n".join(block)).messages
        except Exception as error:  # noqa: BLE001
            report.skip(repaired.message_lines[identifier][-1], repaired.names[identifier], _reason(repaired.text, error)[0])
    return cantools.database.Database(messages=messages, strict=False, sort_signals=None)


def _parse(text: str) -> Any:
    # An empty VERSION: the grammar wants at least one entry.
    return cantools.database.load_string(f'VERSION "" {text}' if not text.strip() else text, "dbc", strict=False, sort_signals=None)


def _load_other(path: str, text: str, form: str) -> Any:
    if form == "cdd":
        raise DbcFileError(path, "is a CANdela diagnostic description, which has no messages; expected DBC, ARXML, KCD or SYM")
    try:
        if form != "sym":
            _check_xml(path, text)
        return cantools.database.load_string(text, form, strict=False, sort_signals=None)
    except DbcFileError:
        raise
    except Exception as error:
        reason, line = _reason(text, error, form)
        if form == "sym" and "Only SYM version 6.0" in reason:
            reason += "; open and save it with a newer PCAN Symbol Editor"
        raise DbcFileError(path, f"cannot be read as {form.upper()}: {reason}", line) from error


def _check_xml(path: str, text: str) -> None:
    """A document type may define entities that expand without end, and deep nesting overruns the parser's callers."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DbcFileError(path, "has a document type definition, which no ARXML or KCD file needs", _line_of(text, "<!(?:DOCTYPE|ENTITY)"))
    depth = 0
    for tag in re.finditer(r"<(/?)[A-Za-z][^<>]*?(/?)>", text):
        depth += 0 if tag[2] else -1 if tag[1] else 1
        if depth > DEEPEST:
            raise DbcFileError(path, f"has more than {DEEPEST} elements in each other", text.count("\n", 0, tag.start()) + 1)


def _declare_protocol(database: Any) -> None:
    """`message.protocol` = "j1939" where the file says so, in any of the ways in which files do.

    cantools goes by VFrameFormat alone. Its default is J1939PG in files of other protocols too (ProtocolType GMLAN), and J1939 files exist
    that set ProtocolType and leave VFrameFormat at ExtendedCAN.
    """
    attributes = getattr(database.dbc, "attributes", None) or {}
    definitions = getattr(database.dbc, "attribute_definitions", None) or {}
    declared = ""
    for name in ("ProtocolType", "BusType"):
        if name in attributes and str(attributes[name].value).strip():
            declared = declared or str(attributes[name].value)
        elif name in definitions and definitions[name].default_value:
            declared = declared or str(definitions[name].default_value)
    declared = declared.strip().upper()
    for message in database.messages:
        own = getattr(message.dbc, "attributes", None) or {}
        by_format = message.protocol == "j1939" and ("VFrameFormat" in own or declared in ("", "CAN") or declared.startswith("J1939"))
        by_file = declared.startswith("J1939") and message.is_extended_frame
        message.protocol = "j1939" if message.is_extended_frame and (by_format or by_file) else None


def _tell_apart(database: Any, lines: _Lines, report: LoadReport) -> None:
    """Signals of one name in one message: the second is NAME#2, or one would hide the other."""
    for message in database.messages:
        seen: Counter[str] = Counter()
        for signal in message.signals:
            seen[signal.name] += 1
            if seen[signal.name] > 1:
                at = lines.signal(message_identifier(message), signal.name)
                report.repair(
                    at,
                    f"{message.name}.{signal.name} is there {seen[signal.name]} times: the last one is {signal.name}#{seen[signal.name]}",
                )
                signal.name += f"#{seen[signal.name]}"
        if max(seen.values(), default=0) > 1:
            message.refresh(strict=False)


def _join_multiplexers(database: Any, lines: _Lines, report: LoadReport) -> None:
    """Signals to the multiplexers that SG_MUL_VAL_ names for them, where cantools does not find those and would never decode the signals.

    It renames a signal to its SystemSignalLongSymbol, but not where SG_MUL_VAL_ names it: the short name is the long one's first 32
    characters. And it takes for a multiplexer what is marked M; files exist that mark it m, or not at all.
    """
    for message in database.messages:
        known = {signal.name: signal for signal in message.signals}
        changed = False
        for signal in message.signals:
            name, at = signal.multiplexer_signal, lines.signal(message_identifier(message), signal.name)
            if name is None:
                continue
            if name not in known:
                long = [other for other in message.signals if other.is_multiplexer and other.name.startswith(name)]
                if len(long) != 1:
                    continue
                signal.multiplexer_signal, changed = long[0].name, True
                report.repair(at, f"{message.name}.{signal.name}: its multiplexer {name} is {long[0].name} by its long name")
            elif not known[name].is_multiplexer:
                known[name].is_multiplexer, changed = True, True
                place = lines.signal(message_identifier(message), name)
                report.repair(place, f"{message.name}.{name} is not marked M, but SG_MUL_VAL_ names it as a multiplexer: taken as one")
        if changed:
            message.refresh(strict=False)


def _look_at(database: Any, lines: _Lines, report: LoadReport) -> None:
    """Counts what is usable and names what is not, or only in part."""
    last = {message_identifier(message): message for message in database.messages}
    seen: Counter[int] = Counter()
    for message in database.messages:
        identifier = message_identifier(message)
        line = lines.message(identifier, seen[identifier])
        seen[identifier] += 1
        if message.is_container:
            report.skip(line, message.name, "a container: its contained messages have no identifiers of their own on the bus")
            continue
        if last[identifier] is not message:
            report.skip(
                line, message.name, f"{last[identifier].name} further down has the same identifier {message.frame_id:#x} and replaces it"
            )
            continue
        report.messages += 1
        known = {signal.name: signal for signal in message.signals}
        for signal in message.signals:
            name, at = f"{message.name}.{signal.name}", lines.signal(identifier, signal.name)
            if why := unusable(signal) or unreachable(signal, known):
                report.skip(at, name, why)
                continue
            report.signals += 1
            big = signal.byte_order == "big_endian"
            first = 8 * (signal.start // 8) + 7 - signal.start % 8 if big else signal.start
            need = (first + signal.length - 1) // 8 + 1
            if need > message.length:
                report.repair(at, f"{name} needs {need} bytes, but {message.name} has {message.length}: read from longer frames only")


def unreachable(signal: Any, known: dict[str, Any]) -> str | None:
    """Why the way up through the multiplexers does not end at one that is always there; None where it does."""
    passed = {signal.name}
    while (name := signal.multiplexer_signal) is not None:
        if name in passed:
            return f"its multiplexer {name} selects itself"
        if name not in known:
            return f"its multiplexer {name} is not there"
        if unusable(known[name]):
            return f"its multiplexer {name} is left out"
        passed.add(name)
        signal = known[name]
    return None


def _reason(text: str, error: Exception, form: str = "dbc") -> tuple[str, int | None]:
    """The parser's complaint in one line, and its line in the text. Some name a message or an entry instead of a place."""
    complaint = str(getattr(error, f"e_{form}", None) or error) or type(error).__name__
    place = re.search(r"Invalid syntax at line (\d+), column (\d+): \"?(.*)", complaint, re.DOTALL)
    if place:
        excerpt = (place[3].strip().strip('"').splitlines() or [""])[0]
        return f"invalid syntax at >>!<<: {excerpt[:200]}", int(place[1])
    reason = " ".join(complaint.removeprefix(f"{form.upper()}: ").strip('"').split())[:300]
    if xml := re.search(r"line (\d+), column \d+", reason):
        return reason, int(xml[1])
    line = None
    if message := re.search(r"in message (\w+)", reason):
        line = _line_of(text, rf"^[ \t]*BO_\s+\d+\s+{message[1]}\s*:")
    elif entry := re.search(r"unused (?:VAL_|SIG_VALTYPE_) entries in DBC: (?:VAL_|SIG_VALTYPE_)?\s*(\d+) (\w+)", reason):
        line = _line_of(text, rf"^[ \t]*(?:VAL_|SIG_VALTYPE_)\s+{entry[1]}\s+{entry[2]}\b")
    return reason, line


def _line_of(text: str, pattern: str) -> int | None:
    found = re.search(pattern, text, re.MULTILINE)
    return None if found is None else text.count("\n", 0, found.start()) + 1


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """cantools logs a warning for every repeated identifier; the report has them, with their lines."""
    loggers: Iterable[logging.Logger] = [logging.getLogger("cantools.database.can.database")]
    before = [logger.disabled for logger in loggers]
    try:
        for logger in loggers:
            logger.disabled = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled
