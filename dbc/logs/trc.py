"""PEAK's TRC (1.0 to 2.1) and CanHacker's TRC.

    ;$FILEVERSION=2.1
    ;$STARTTIME=43008.920986006946         days since 30 December 1899, UTC
    ;$COLUMNS=N,O,T,B,I,d,R,L,D
          1      2501.000 DT 2      00C8 Tx -  8    09 08 07 06 05 04 03 02

    Time   ID     DLC Data                    Comment       CanHacker: seconds of a minute, standard identifiers by their width
    00.000 18EA0003 8 BE FE 00 00 FF FF FF FF

Source: PEAK CAN TRC File Format 3.1 (PEAK-System), python-can's reader (to which the tests hold this one) and files of CanHacker.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from dbc.logs.lines import Broken, Frame, LineParser, fd_flags, fixed_point_ns, frame_id, payload, whole_number

__all__ = ["CanHackerParser", "TrcParser", "is_canhacker", "is_trc"]

MS = 1_000_000
EPOCH_DAYS = 25569  # from 30 December 1899 to 1 January 1970
DAY_US = 86_400_000_000
FD_LENGTHS = (*range(9), 12, 16, 20, 24, 32, 48, 64)
FD_TYPES = {b"FD": fd_flags(False, False), b"FB": fd_flags(True, False), b"FE": fd_flags(False, True), b"BI": fd_flags(True, True)}
DATA_TYPES = {b"DT", b"RR", *FD_TYPES}
V1_LINE = re.compile(rb"\d+\)\s+-?\d+(\.\d+)?\s+")
CANHACKER_HEADER = re.compile(rb"time\s+id\s+dlc\s+data", re.IGNORECASE)
CANHACKER_LINE = re.compile(
    rb"(?P<time>\d{1,9}[.,]\d{1,6})\s+(?P<id>[0-9A-Fa-f]{1,8})\s+(?P<dlc>[0-8])(?P<data>(?:\s+[0-9A-Fa-f]{2}){0,8})(?:\s.*)?"
)


def is_trc(lines: list[bytes]) -> bool:
    return any(line.startswith(b";$FILEVERSION") for line in lines[:50]) or any(V1_LINE.match(line) for line in lines)


def is_canhacker(lines: list[bytes]) -> bool:
    return any(CANHACKER_HEADER.match(line) for line in lines[:50])


class TrcParser(LineParser):
    """PEAK's format, in the version that its header names; without one it is 1.0."""

    def __init__(self) -> None:
        super().__init__()
        self._version = "1.0"
        self._start_ns = 0
        self._columns: dict[str, int] = {}

    def frame(self, line: bytes) -> Frame | None:
        if line.startswith(b";"):
            self._header(line)
            return None
        if self._version.startswith("2"):
            return self._version_2(line.split())
        if not V1_LINE.match(line):
            raise Broken("no line of a TRC file")
        return self._version_1(line.split())

    def _header(self, line: bytes) -> None:
        key, _, value = line.decode("ascii", errors="replace").partition("=")
        if key == ";$FILEVERSION":
            if value.strip() not in ("1.0", "1.1", "1.2", "1.3", "2.0", "2.1"):
                raise Broken(f"version {value!r}")
            self._version = value.strip()
        elif key == ";$STARTTIME":
            try:
                days = Decimal(value.strip())
            except InvalidOperation:
                raise Broken(f"start time {value!r}") from None
            if not days.is_finite() or not 0 <= days < 100_000:
                raise Broken(f"start time {value!r}")
            # As a clock of microseconds: the digits of a float64 carry no more.
            self._start_ns = round((days - EPOCH_DAYS) * DAY_US) * 1000
        elif key == ";$COLUMNS":
            self._columns = {name.strip(): place for place, name in enumerate(value.split(","))}

    def _version_1(self, words: list[bytes]) -> Frame | None:
        """1.0: number, time, identifier, length, data. 1.1: also a type; 1.2, 1.3: also the bus, 1.3 and a reserved column."""
        time_ns = fixed_point_ns(words[1], MS) + (0 if self._version == "1.0" else self._start_ns)
        at, bus = 2, b"1"
        if self._version in ("1.2", "1.3"):
            bus, at = words[at], at + 1
        if self._version != "1.0":
            if at >= len(words):
                raise Broken("ends before its type")
            if words[at] not in (b"Tx", b"Rx"):
                return None  # a warning, an error counter
            at += 1
        identifier = words[at] if at < len(words) else b""
        if identifier == b"FFFFFFFF":
            return None  # the bus's state
        if self._version in ("1.2", "1.3"):
            at += 1  # reserved
        return _frame(time_ns, bus, identifier, words[at + 1 :])

    def _version_2(self, words: list[bytes]) -> Frame | None:
        columns = self._columns
        if not {"O", "T", "I"} <= columns.keys() or not {"l", "L"} & columns.keys():
            raise Broken("its columns are not declared")
        data = columns.get("D", len(words))
        if max(columns["O"], columns["T"], columns["I"], columns.get("B", 0)) >= len(words):
            raise Broken("ends before its identifier")
        kind = words[columns["T"]]
        if kind not in DATA_TYPES:
            return None  # status, errors, events
        time_ns = fixed_point_ns(words[columns["O"]], MS) + self._start_ns
        at = columns["l"] if "l" in columns else columns["L"]
        if at >= len(words) or not words[at].isdigit() or len(words[at]) > 2:
            raise Broken("no length")
        length = int(words[at])
        if "l" not in columns:
            if length > 15:
                raise Broken(f"length code {length}")
            length = FD_LENGTHS[length] if kind in FD_TYPES else min(length, 8)
        bus = words[columns["B"]] if "B" in columns else b"1"
        rest = [b"RTR"] if kind == b"RR" else words[data:]
        return _frame(time_ns, bus, words[columns["I"]], [b"%d" % length, *rest])._replace(flags=FD_TYPES.get(kind))


class CanHackerParser(LineParser):
    def __init__(self) -> None:
        super().__init__()
        self._minute_ns = self._last_ns = 0

    def frame(self, line: bytes) -> Frame | None:
        if CANHACKER_HEADER.match(line):
            return None
        found = CANHACKER_LINE.fullmatch(line)
        if found is None:
            raise Broken("no line of a CanHacker trace")
        time_ns = fixed_point_ns(found["time"], 1_000_000_000)
        if time_ns < self._last_ns - 30_000_000_000 and self._last_ns < 60_000_000_000:
            self._minute_ns += 60_000_000_000  # the adapter's clock (Lawicel) begins again every minute
        self._last_ns = time_ns
        length, identifier = int(found["dlc"]), int(found["id"], 16)
        data = payload(found["data"].split(), length)
        return Frame(time_ns + self._minute_ns, frame_id(identifier, len(found["id"]) > 4 or identifier > 0x7FF), "can0", data, length)


def _frame(time_ns: int, bus: bytes, identifier: bytes, rest: list[bytes]) -> Frame:
    """rest: length, then data or RTR. Identifiers of more than four digits are extended."""
    if not bus.isdigit() or len(bus) > 3 or len(identifier) > 8 or not rest or not rest[0].isdigit() or len(rest[0]) > 2:
        raise Broken("no bus, identifier or length")
    length, number, extended = int(rest[0]), whole_number(identifier), len(identifier) > 4
    name = f"can{max(int(bus) - 1, 0)}"
    if len(rest) > 1 and rest[1] == b"RTR":
        return Frame(time_ns, frame_id(number, extended, remote=True), name, b"", min(length, 8))
    return Frame(time_ns, frame_id(number, extended), name, payload(rest[1:], length), length)
