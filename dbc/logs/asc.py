"""Vector ASC: CANalyzer's and CANoe's text log.

    date Sat Sep 30 15:06:13.191 2017
    base hex  timestamps absolute
       0.015991 1  18EBFF00x       Rx   d 8 01 A0 0F A6 60 3B D1 40  Length = 273910 BitCount = 141
       2.510001 2  100             Tx   r
       2.501000 1  ErrorFrame
      30.005021 CANFD   1 Rx        300  Generic_Name  1 0 8  8 11 c2 03 04 05 06 07 08  102203  133 ...

Source: files of several tools, and python-can's reader, to which the tests hold this one. Stamps count from the header's date, which has
no time zone: it is taken as this machine's local time, as python-can does, unless it says GMT.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from dbc.logs.lines import Broken, Frame, LineParser, fd_flags, fixed_point_ns, frame_id, payload, whole_number

__all__ = ["AscParser", "is_asc"]

FD_LENGTHS = (*range(9), 12, 16, 20, 24, 32, 48, 64)
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
OTHER_MONTHS = {"mär": 3, "mrz": 3, "mai": 5, "okt": 10, "dez": 12}
HEADER = re.compile(rb"date\s|base\s+(hex|dec)|begin\s+triggerblock|(no\s+)?internal\s+events\s+logged", re.IGNORECASE)
STAMPED = re.compile(rb"-?\d+\.\d+\s")
MESSAGE = re.compile(rb"-?\d+\.\d+\s+(\d+\s+(\w+\s+(Tx|Rx)\b|ErrorFrame)|CANFD\b)", re.IGNORECASE)
PLAIN = re.compile(  # a classic data frame in hexadecimal: nearly every line of nearly every file
    rb"(\d+)\.(\d{1,9})\s+(\d{1,3})\s+([0-9A-Fa-f]{1,8})([xX]?)\s+[RT]x\s+d\s+([0-8])((?:\s+[0-9A-Fa-f]{2}){0,8})(?:\s.*)?"
)
DATE = re.compile(
    r"\w+\.?,?\s+(?:(?P<day1>\d{1,2})\s+(?P<month1>\w{3,})\s+(?P<year1>\d{4})\s+|(?P<month2>\w{3,})\s+(?P<day2>\d{1,2})\s+)"
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2}):(?P<second>\d{2})(?:\.(?P<fraction>\d{1,6}))?(?:\s+(?P<half>[ap]m))?(?:\s+(?P<year2>\d{4}))?(?P<zone>\s+GMT|\s+UTC)?",
    re.IGNORECASE,
)


def is_asc(lines: list[bytes]) -> bool:
    """Whether the first lines of a log are an ASC file's."""
    return any(HEADER.match(line) for line in lines[:20]) or any(
        MESSAGE.match(line) and (b" d " in line or b" r" in line) for line in lines
    )


class AscParser(LineParser):
    def __init__(self, head: list[bytes]) -> None:
        """head: the log's first lines. Tools other than Vector's number channels from 0: then channel 0 is in them."""
        super().__init__()
        found = (re.match(rb"-?\d+\.\d+\s+(?:CANFD\s+)?(\d+)\s", line) for line in head)
        self._first_channel = 0 if any(match and int(match[1][:4]) == 0 for match in found) else 1
        self._base = 16
        self._relative = False
        self._start_ns = self._last_ns = 0

    def frame(self, line: bytes) -> Frame | None:
        if self._base == 16 and (plain := PLAIN.fullmatch(line)):
            return self._plain(plain)
        if not STAMPED.match(line):
            self._header(line)
            return None
        if not MESSAGE.match(line):
            return None  # a statistic, the chip's state, a J1939 transport note
        stamp, channel, *words = line.split()
        fd = channel.lower() == b"canfd"
        if fd:
            channel, direction, *words = words
            words = [words[0], direction, *words[1:]] if words else []
        if not channel.isdigit() or len(channel) > 3:
            raise Broken("no channel")
        name = self._name(channel)
        time_ns = self._time_ns(fixed_point_ns(stamp, 1_000_000_000))
        if not words:
            raise Broken("ends after its channel")
        if words[0].lower().startswith(b"errorframe"):
            return Frame(time_ns, frame_id(0, False, error=True), name, b"", 0)
        if len(words) < 3:
            raise Broken("ends after its identifier")
        extended = words[0][-1:] in b"xX"
        identifier = whole_number(words[0][:-1] if extended else words[0], self._base)
        return self._fd(words, time_ns, name, identifier, extended) if fd else self._classic(words, time_ns, name, identifier, extended)

    def _name(self, channel: bytes) -> str:
        return f"can{max(int(channel) - self._first_channel, 0)}"

    def _time_ns(self, since_ns: int) -> int:
        self._last_ns = since_ns + self._last_ns if self._relative else since_ns
        return self._start_ns + self._last_ns

    def _plain(self, found: re.Match[bytes]) -> Frame:
        whole, fraction, channel, digits, mark, dlc, words = found.groups()
        length = int(dlc)
        data = bytes.fromhex(words.decode("ascii"))
        if len(data) < length or len(whole) > 12:
            raise Broken(f"{len(data)} bytes of {length}")
        time_ns = self._time_ns(int(whole) * 1_000_000_000 + int(fraction.ljust(9, b"0")))
        return Frame(time_ns, frame_id(int(digits, 16), bool(mark)), self._name(channel), data[:length], length)

    def _classic(self, words: list[bytes], time_ns: int, name: str, identifier: int, extended: bool) -> Frame:
        kind = words[2].lower()
        if kind == b"r":
            length = int(words[3], self._base) if len(words) > 3 and words[3].isdigit() else 0
            return Frame(time_ns, frame_id(identifier, extended, remote=True), name, b"", min(length, 8))
        if kind != b"d" or len(words) < 4:
            raise Broken("neither data nor remote frame")
        code = whole_number(words[3], self._base)
        length = min(code, 8)
        if code > 64:
            raise Broken(f"length {code}")
        return Frame(time_ns, frame_id(identifier, extended), name, payload(words[4:], length, self._base), length)

    def _fd(self, words: list[bytes], time_ns: int, name: str, identifier: int, extended: bool) -> Frame:
        rest = words[2:]
        if rest and not (rest[0].isdigit() and len(rest) > 3 and rest[1].isdigit() and len(rest[1]) == 1):
            rest = rest[1:]  # the message's name in the database
        if len(rest) < 4:
            raise Broken("ends before its data")
        code, length = whole_number(rest[2], 16), whole_number(rest[3], 10)
        if not 0 <= code <= 15 or length not in FD_LENGTHS:
            raise Broken(f"length {length}")
        if length == 0 and code:
            return Frame(time_ns, frame_id(identifier, extended, remote=True), name, b"", min(code, 8))
        flags = fd_flags(rest[0] == b"1", rest[1] == b"1")
        return Frame(time_ns, frame_id(identifier, extended), name, payload(rest[4:], length, self._base), length, flags)

    def _header(self, line: bytes) -> None:
        """Takes in a line without a time stamp. Raises Broken where it is none of the format's."""
        lower = line.lower()
        if found := re.match(rb"base\s+(hex|dec)(?:\s+timestamps\s+(absolute|relative))?", lower):
            self._base = 16 if found[1] == b"hex" else 10
            self._relative = found[2] == b"relative"
        elif found := re.match(rb"(?:date|begin\s+triggerblock)\b\s*(.*)", lower):
            start_ns = _date_ns(found[1].decode("utf-8", errors="replace"))
            if start_ns is not None:
                self._start_ns = start_ns
        elif not lower.startswith((b"//", b"end triggerblock", b"internal events", b"no internal", b"previous log", b"next log")):
            raise Broken("no line of an ASC file")


def _date_ns(text: str) -> int | None:
    """UTC of a header's date; None where it is none: stamps then count from 0."""
    found = DATE.match(text.strip())
    if found is None:
        return None
    word = (found["month1"] or found["month2"])[:3].lower()
    month = OTHER_MONTHS.get(word) or (MONTHS.index(word) + 1 if word in MONTHS else 0)
    year = int(found["year1"] or found["year2"] or 0)
    hour = int(found["hour"])
    if found["half"]:
        hour = hour % 12 + (12 if found["half"].lower() == "pm" else 0)
    try:
        day = int(found["day1"] or found["day2"])
        moment = datetime(year, month, day, hour, int(found["minute"]), int(found["second"]), tzinfo=UTC if found["zone"] else None)
        fraction_ns = int((found["fraction"] or "0").ljust(9, "0"))
        return round(moment.timestamp()) * 1_000_000_000 + fraction_ns
    except (ValueError, OverflowError, OSError):  # the 31st of February
        return None
