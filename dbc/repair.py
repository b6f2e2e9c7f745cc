"""DBC text that cantools refuses, made into text that it accepts: entry by entry, every change reported with its line.

What an entry says is kept where it can be read in one way only; an entry that decoding needs and that cannot be read takes its signal or
its message with it, so that nothing is decoded to a wrong value. Entries that decoding does not need (nodes, environment variables, signal
groups, relations) are not handed on. Lines keep their numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from dbc.load_report import LoadReport
from dbc.repair_attributes import Attributes
from dbc.repair_entries import Entry, cut_entries
from dbc.repair_grammar import (
    ABOUT_SIGNAL,
    BIT_31,
    DAMAGED_VALUES,
    EXTENDED,
    FLOAT,
    LONGEST_MESSAGE,
    MESSAGE,
    MOST_SELECTORS,
    NO_NODE,
    NUMBERED_COMMENT,
    PAIR,
    PLAIN_COMMENT,
    RANGE,
    RECEIVERS,
    SELECTORS,
    SIGNAL,
    STANDARD,
    UNASSIGNED,
    UNIT,
    VALUE_RANGE,
    VALUES,
    WIDEST_SIGNAL,
    excerpt,
    is_word,
    leading_zero,
    plain_name,
    whole,
)

__all__ = ["RepairedText", "repair_dbc"]


@dataclass
class RepairedText:
    """Text for cantools, and where its messages and signals are. Identifiers are those of the text, with bit 31."""

    text: str
    message_lines: dict[int, list[int]] = field(default_factory=dict)  # identifier -> its lines: a file may have it twice
    signal_lines: dict[tuple[int, str], int] = field(default_factory=dict)
    blocks: dict[int, list[str]] = field(default_factory=dict)  # identifier -> the entries that its messages are made of, for isolation
    names: dict[int, str] = field(default_factory=dict)
    attributes: list[str] = field(default_factory=list)  # entries of attributes: decoding goes without them at need
    unmarked: list[int] = field(default_factory=list)  # lines of the messages of 29 bits whose identifiers lack bit 31
    impossible: list[tuple[int, str, int]] = field(default_factory=list)  # line, name, identifier of messages over 29 bits
    proper: int = 0  # messages whose identifiers are as the format has them


def repair_dbc(text: str, report: LoadReport) -> RepairedText:
    """Text whose lines end with "\\n". What was changed and what was left out goes to the report."""
    return _Repair(cut_entries(text), report).run()


class _Repair:
    def __init__(self, entries: list[Entry], report: LoadReport) -> None:
        self.entries, self.report = entries, report
        self.out = RepairedText("")
        self.identifiers: dict[int, int] = {}  # as the file writes it -> as it is meant
        self.sizes: dict[tuple[int, str], int] = {}  # bits of a signal
        self.dropped: set[tuple[int, str]] = set()  # signals that must not be decoded
        self.selectors: dict[int, int] = {}  # values written out so far, by message
        self.current: int | None = None  # message that SG_ lines belong to; None = none, or one that is left out
        self.orphans = False  # whether the SG_ lines to come are of a message that is left out
        self.texts: dict[int, str] = {}  # number of the entry -> its text, as cantools accepts it
        self.owner: dict[int, int] = {}  # number of the entry -> identifier
        self.signal_of: dict[int, str] = {}  # number of the entry -> signal it belongs to
        self.marks: dict[tuple[int, str], str] = {}  # multiplexer marks of signals
        self.lost_multiplexers: dict[int, str] = {}  # message -> why its multiplexed signals cannot be told apart
        self.lost_messages: set[int] = set()  # identifiers, as written, of messages that are left out

    def run(self) -> RepairedText:
        attributes = Attributes(self.report, self._known)
        rules: dict[str, Callable[[int, Entry], str | None]] = {
            "BO_": self._message,
            "SG_": self._signal,
            "SIG_VALTYPE_": self._float,
            "SG_MUL_VAL_": self._selectors,
            "VAL_": self._values,
            "CM_": self._comment,
            "BA_DEF_": lambda _, entry: attributes.definition(entry),
            "BA_DEF_DEF_": lambda _, entry: attributes.default(entry),
            "BA_": lambda _, entry: attributes.attribute(entry),
        }
        self._symbols()
        # Messages and signals first: the other entries refer to them, and may stand before them.
        for keywords in (("BO_", "SG_"), ("SIG_VALTYPE_", "SG_MUL_VAL_"), ("BA_DEF_",), ("BA_DEF_DEF_", "BA_", "VAL_", "CM_", "")):
            for number, entry in enumerate(self.entries):
                if entry.keyword not in keywords:
                    continue
                if not entry.keyword:
                    self._stray(entry)
                elif (text := rules[entry.keyword](number, entry)) is not None:
                    self.texts[number] = text
        self._drop_multiplexed()
        self._assemble()
        return self.out

    def _assemble(self) -> None:
        lines: list[str] = []
        at = 1
        for number, entry in enumerate(self.entries):
            text = self.texts.get(number)
            if text is None or (number in self.owner and self._is_dropped(number, entry)):
                continue
            if entry.line > at:
                lines.append("\n" * (entry.line - at))
                at = entry.line
            lines.append(text.rstrip() + " ")
            at += text.rstrip().count("\n")
            owner = self.owner.get(number)
            if owner is not None:
                self.out.blocks.setdefault(owner, []).append(text.rstrip())
            elif entry.keyword in ("BA_DEF_", "BA_DEF_DEF_", "BA_"):
                self.out.attributes.append(text.rstrip())
        self.out.text = 'VERSION "" ' + "".join(lines) + "\n"

    def _is_dropped(self, number: int, entry: Entry) -> bool:
        """Entries of a signal that turned out to be unusable once all entries had been seen."""
        name = self.signal_of.get(number)
        return name is not None and (self.owner[number], name) in self.dropped

    def _symbols(self) -> None:
        for number, entry in enumerate(self.entries):
            if entry.keyword == "NS_" and not any(later.keyword == "BS_" for later in self.entries[number + 1 : number + 2]):
                self.report.repair(entry.line, "NS_ is not followed by BS_: its symbols are not read")

    def _stray(self, entry: Entry) -> None:
        lines = entry.text.strip().count("\n")
        also = f" and the {lines} lines after it" if lines else ""
        self.report.repair(entry.line, f"{excerpt(entry.text)!r}{also} is no entry of a DBC: not read")

    # messages and signals

    def _message(self, number: int, entry: Entry) -> str | None:
        report, line = self.report, entry.line
        self.current, self.orphans = None, True
        found = MESSAGE.fullmatch(entry.body)
        if not found:
            named = re.match(r"\s*BO_\s+\S+\s+([^\s:]+)", entry.text)
            report.skip(
                line, named[1] if named else "", f"invalid syntax: {excerpt(entry.text)}; expected BO_ IDENTIFIER NAME : LENGTH SENDER"
            )
            return None
        written, raw_name, raw_length, sender, rest = found.groups()
        name = self._name(line, raw_name, "message")
        identifier, length = whole(written), whole(raw_length)
        if identifier is None:
            report.skip(line, name, f"its identifier {written!r} is not a number")
            return None
        self.lost_messages.add(identifier)
        if length is None or not 0 <= length <= LONGEST_MESSAGE:
            report.skip(line, name, f"its length {raw_length!r} is not a number of bytes")
            return None
        if not written.isdigit():
            report.repair(line, f"{name}: identifier {written} is {identifier}")
        meant = self._identifier(line, name, identifier)
        if meant is None:
            return None
        if not raw_length.isdigit():
            report.repair(line, f"{name}: length {raw_length} is {length} bytes")
        if rest.strip():
            report.repair(line, f"{name}: {excerpt(rest)!r} after the sender is not read")
        if sender is None:
            report.repair(line, f"{name} has no sender: none is needed")
        self.lost_messages.discard(identifier)
        self.identifiers[identifier] = meant
        self.out.message_lines.setdefault(meant, []).append(line)
        self.out.names[meant] = name
        self.current, self.owner[number] = meant, meant
        return f"BO_ {meant} {name}: {length} {sender if sender and is_word(sender) else NO_NODE}"

    def _identifier(self, line: int, name: str, identifier: int) -> int | None:
        """The identifier with bit 31 where it is a 29-bit one; None where no frame can have it."""
        marked = bool(identifier & BIT_31) and identifier <= 0xFFFF_FFFF
        bits = identifier ^ BIT_31 if marked else identifier
        if bits <= STANDARD or (marked and bits <= EXTENDED):
            self.out.proper += 1
            return identifier
        if bits <= EXTENDED:
            what = f"{name}: identifier {bits:#x} has more than 11 bits, but not bit 31 that marks 29-bit ones: taken as a 29-bit one"
            self.report.repair(line, what, is_error=True)
            self.out.unmarked.append(line)
            return identifier | BIT_31
        if name != UNASSIGNED:
            self.out.impossible.append((line, name, identifier))
            self.report.skip(line, name, f"identifier {bits:#x} has more than 29 bits")
        return None

    def _signal(self, number: int, entry: Entry) -> str | None:
        report, line, message = self.report, entry.line, self.current
        if message is None:
            if not self.orphans:
                report.skip(line, "", f"{excerpt(entry.text)} is a signal outside of any message")
            return None
        found = SIGNAL.fullmatch(entry.body)
        if not found:
            named = re.match(r"\s*SG_\s+([^\s:]+)", entry.text)
            of = f"{self.out.names[message]}.{named[1] if named else '?'}"
            expected = "SG_ NAME : START|BITS@ORDER SIGN (SCALE,OFFSET) [MINIMUM|MAXIMUM] UNIT RECEIVERS"
            report.skip(line, of, f"invalid syntax: {excerpt(entry.text)}; expected {expected}")
            if named:
                self.dropped.add((message, plain_name(named[1])))
            if named and re.match(r"\s*SG_\s+\S+\s+(?:M|m[0-9]*M)\b", entry.text):
                self.lost_multiplexers.setdefault(message, named[1])
            return None
        name = self._name(line, found["name"], "signal")
        of = f"{self.out.names[message]}.{name}"
        mux = found["mux"] or ""
        if mux == "m":
            report.repair(line, f"{of}: the multiplexer mark m has no number: taken as always there")
            mux = ""
        if mux and not re.fullmatch(r"M|m[0-9]+M?", mux):
            report.skip(line, of, f"{mux!r} is no multiplexer mark; expected M, m NUMBER or m NUMBER M")
            self.dropped.add((message, name))
            if "M" in mux:
                self.lost_multiplexers.setdefault(message, name)
            return None
        size, start = int(found["size"][:9]), int(found["start"][:9])
        if size > WIDEST_SIGNAL or start >= 8 * LONGEST_MESSAGE:
            report.skip(line, of, f"{size} bits from bit {start} on: no message has such a signal")
            self.dropped.add((message, name))
            if mux.endswith("M"):
                self.lost_multiplexers.setdefault(message, name)
            return None
        scale, offset = (self._number(line, of, found[key]) for key in ("scale", "offset"))
        rest = found["rest"]
        bounds = RANGE.match(rest)
        if bounds:
            low, high = (self._number(line, of, bound) for bound in bounds.groups())
            rest = rest[bounds.end() :]
        else:
            report.repair(line, f"{of}: its range cannot be read: {excerpt(rest)!r}: taken as none")
            low = high = "0"
            rest = re.sub(r"^[^\"]*", "", rest)
        unit = UNIT.match(rest)
        if unit:
            rest = rest[unit.end() :]
        else:
            report.repair(line, f"{of}: its unit cannot be read: {excerpt(rest)!r}: taken as none")
            rest = ""
        receivers = RECEIVERS.fullmatch(rest)
        if receivers is None:
            report.repair(line, f"{of}: its receivers cannot be read: {excerpt(rest)!r}: not needed")
        elif not rest.strip():
            report.repair(line, f"{of} has no receiver: none is needed")
        self.dropped.discard((message, name))  # an earlier one of this name could not be read
        self.sizes[message, name] = size
        self.marks[message, name] = mux
        self.out.signal_lines[message, name] = line
        self.owner[number], self.signal_of[number] = message, name
        mark = f" {mux}" if mux else ""
        text = unit[1].replace("\n", " ") if unit else '""'
        return f"SG_ {name}{mark} : {start}|{size}@{found['order']}{found['sign']} ({scale},{offset}) [{low}|{high}] {text} {NO_NODE}"

    def _drop_multiplexed(self) -> None:
        """Signals whose multiplexer is left out: nothing tells when they are there."""
        for (message, name), mark in self.marks.items():
            if mark.endswith("M") and (message, name) in self.dropped:
                self.lost_multiplexers.setdefault(message, name)
        for (message, name), mark in self.marks.items():
            if message in self.lost_multiplexers and mark.startswith("m") and (message, name) not in self.dropped:
                self.dropped.add((message, name))
                why = f"its multiplexer {self.lost_multiplexers[message]} is left out"
                self.report.skip(self.out.signal_lines[message, name], f"{self.out.names[message]}.{name}", why)

    # what changes the meaning of a signal

    def _float(self, number: int, entry: Entry) -> str | None:
        found = FLOAT.fullmatch(entry.body)
        if not found or (identifier := self._known(found[1], plain_name(found[2]))) is None:
            self._lose(entry, found is not None)
            return None
        self.owner[number], name = identifier, plain_name(found[2])
        self.signal_of[number] = name
        self._ended(entry)
        return f"SIG_VALTYPE_ {identifier} {name} : {found[3]};"

    def _selectors(self, number: int, entry: Entry) -> str | None:
        found = SELECTORS.fullmatch(entry.body)
        identifier = self._known(found[1], plain_name(found[2])) if found else None
        if not found or identifier is None or (identifier, plain_name(found[3])) not in self.sizes:
            self._lose(entry, found is not None and identifier is None)
            return None
        name, multiplexer = plain_name(found[2]), plain_name(found[3])
        highest = 2 ** min(self.sizes[identifier, multiplexer], 64) - 1
        ranges = [(int(low[:40]), min(int(high[:40]), highest)) for low, high in VALUE_RANGE.findall(found[4])]
        ranges = [(low, high) for low, high in ranges if low <= high]
        total = sum(high - low + 1 for low, high in ranges)
        self.selectors[identifier] = self.selectors.get(identifier, 0) + total
        if self.selectors[identifier] > MOST_SELECTORS or not ranges:
            why = f"{total} values of the multiplexer {multiplexer} select it; at most {MOST_SELECTORS} in a message are possible"
            self.report.skip(
                entry.line, f"{self.out.names[identifier]}.{name}", why if ranges else "no value of its multiplexer selects it"
            )
            self.dropped.add((identifier, name))
            return None
        self.owner[number], self.signal_of[number] = identifier, name
        self._ended(entry)
        return f"SG_MUL_VAL_ {identifier} {name} {multiplexer} {', '.join(f'{low}-{high}' for low, high in ranges)};"

    def _lose(self, entry: Entry, unused: bool) -> None:
        """An entry without which its signal would be decoded to a wrong value: the signal goes with it."""
        about = ABOUT_SIGNAL.match(entry.body)
        name = plain_name(about[2]) if about else ""
        identifier = self._known(about[1], name) if about else None
        if about and self._is_lost(about[1], name):
            return
        if identifier is not None:
            self.dropped.add((identifier, name))
            why = f"its {entry.keyword} entry cannot be read: {excerpt(entry.text)}"
            self.report.skip(entry.line, f"{self.out.names[identifier]}.{name}", why)
        elif unused and about:
            self.report.repair(entry.line, f"unused {entry.keyword}: there is no signal {about[2]} in a message {about[1]}: not read")
        else:
            self.report.repair(entry.line, f"{excerpt(entry.text)!r} cannot be read: not used")

    # words and comments

    def _values(self, number: int, entry: Entry) -> str | None:
        report, line = self.report, entry.line
        found = VALUES.fullmatch(entry.body)
        if not found:
            about = DAMAGED_VALUES.fullmatch(entry.body)
            pairs = PAIR.findall(about[3]) if about else []
            if not about or not pairs:
                report.repair(line, f"VAL_ cannot be read: {excerpt(entry.text)!r}: not used")
                return None
            written, raw_name = about[1], about[2]
            report.repair(line, f"VAL_ {written} {raw_name} is damaged: {len(pairs)} words of it are read")
        else:
            written, raw_name = found["id"] or "", found["name"]
            pairs = PAIR.findall(found["pairs"])
        if not written:
            return None  # of an environment variable
        name = plain_name(raw_name)
        identifier = self._known(written, name)
        if self._is_lost(written, name):
            return None
        if identifier is None:
            report.repair(line, f"unused VAL_: there is no signal {raw_name} in a message {written}: not read")
            return None
        self._ended(entry)
        words = [(whole(value), text) for value, text in pairs]
        for (value, _), (written_value, _) in zip(words, pairs, strict=True):
            if value is None:
                report.repair(line, f"VAL_ of {raw_name}: {written_value} is no whole number: its word is not read")
        self.owner[number], self.signal_of[number] = identifier, name
        return f"VAL_ {identifier} {name} " + " ".join(f"{value} {text}" for value, text in words if value is not None) + " ;"

    def _comment(self, number: int, entry: Entry) -> None:
        """Comments are no part of the compiled form: whether they can be read is reported, and that is all."""
        if found := NUMBERED_COMMENT.fullmatch(entry.body):
            if found[1] != "BO_":
                what = "is about a signal, but names none" if found[1] else "does not say what it is about"
                self.report.repair(entry.line, f"CM_ {what}: taken as about the message {found[2]}")
            else:
                self._ended(entry)
        elif found := PLAIN_COMMENT.fullmatch(entry.body):
            self._ended(entry)
        else:
            self.report.repair(entry.line, f"CM_ cannot be read: {excerpt(entry.text)!r}: a comment is not needed")

    # small parts

    def _ended(self, entry: Entry) -> None:
        if not entry.ended:
            self.report.repair(entry.line, f'{entry.keyword} entry without ";" at its end: read as if it had one')

    def _known(self, identifier: str, signal: str | None = None) -> int | None:
        """The identifier as it is meant; None where there is no such message, or the message has no such signal."""
        number = whole(identifier)
        meant = None if number is None else self.identifiers.get(number)
        if meant is None or (signal is not None and (meant, signal) not in self.sizes):
            return None
        return meant

    def _is_lost(self, identifier: str, signal: str) -> bool:
        """Whether the entry is of something that is left out anyway, and that the report names already."""
        number = whole(identifier)
        return number in self.lost_messages or (self.identifiers.get(-1 if number is None else number, -1), signal) in self.dropped

    def _name(self, line: int, name: str, of: str) -> str:
        plain = plain_name(name)
        if plain != name:
            self.report.repair(line, f"{of} {name}: is no name in the format: called {plain}")
        return plain

    def _number(self, line: int, of: str, text: str) -> str:
        written = leading_zero(text)
        if written != text:
            self.report.repair(line, f"{of}: {text} is read as {written}")
        return written
