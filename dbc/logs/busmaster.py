"""Logs of two bus tools: RBEI's BusMaster, and Microchip's CAN BUS Analyzer.

    ***BUSMASTER Ver 2.4.0***
    ***START DATE AND TIME 23:9:2015 22:17:28:928***
    ***HEX***
    ***SYSTEM MODE***                                       time of day; ABSOLUTE: since the start; RELATIVE: since the frame before
    22:20:14:992 Rx 0 0000021A s 8 FE 36 12 FE 69 05 07 AD  s, x: standard, extended; sr, xr: remote

    Microchip Technology Inc.
    CAN BUS Analyzer
    Logging Started: 23/9/2015 22:17:43
    166064;RX;0x0000021A;8;0xFE;0x36;...                    milliseconds; an x after the identifier: extended

Source: BusMaster's sources (log file header) and files that SavvyCAN writes. Dates are taken as UTC; Microchip's stamps do not count
from its date.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from dbc.logs.lines import Broken, Frame, LineParser, fixed_point_ns, frame_id, payload, whole_number

__all__ = ["BusMasterParser", "MicrochipParser", "is_busmaster", "is_microchip"]

DAY_NS = 86_400_000_000_000
START = re.compile(rb"\*\*\*START DATE AND TIME (\d{1,2}):(\d{1,2}):(\d{4}) (\d{1,2}):(\d{1,2}):(\d{1,2}):(\d{1,4})", re.IGNORECASE)
TIME = re.compile(rb"(\d{1,4}):(\d{1,2}):(\d{1,2}):(\d{1,4})")
KINDS = {b"s": (False, False), b"x": (True, False), b"sr": (False, True), b"xr": (True, True)}
MICROCHIP_LINE = re.compile(rb"-?\d+(?:\.\d+)?;[RT]X;", re.IGNORECASE)


def is_busmaster(lines: list[bytes]) -> bool:
    return any(line.upper().startswith(b"***BUSMASTER") for line in lines)


def is_microchip(lines: list[bytes]) -> bool:
    return any(line.startswith(b"Microchip Technology") or MICROCHIP_LINE.match(line) for line in lines)


class BusMasterParser(LineParser):
    def __init__(self, head: list[bytes]) -> None:
        """head: the log's first lines. BusMaster numbers channels from 1, SavvyCAN from 0: then channel 0 is in them."""
        super().__init__()
        self._first_channel = 0 if any(re.match(rb"[\d:]+ [RT]x 0 ", line, re.IGNORECASE) for line in head) else 1
        self._base, self._mode = 16, b"SYSTEM"
        self._start_ns = self._day_ns = self._last_ns = 0

    def frame(self, line: bytes) -> Frame | None:
        if line.startswith(b"***"):
            self._header(line)
            return None
        words = line.split()
        stamp = TIME.fullmatch(words[0])
        if stamp is None or len(words) < 6 or words[4].lower() not in KINDS or not words[2].isdigit() or len(words[2]) > 3:
            raise Broken("no frame")
        extended, remote = KINDS[words[4].lower()]
        identifier = words[3].lower().removeprefix(b"0x")
        if len(identifier) > 10 or not words[5].isdigit() or len(words[5]) > 2:
            raise Broken("no identifier or length")
        number = frame_id(whole_number(identifier, self._base), extended, remote=remote)
        length = int(words[5])
        data = b"" if remote else payload(words[6:], length, self._base)
        time_ns = self._time_ns(stamp)
        name = f"can{max(int(words[2]) - self._first_channel, 0)}"
        return Frame(time_ns, number, name, data, min(length, 8) if remote else len(data))

    def _time_ns(self, stamp: re.Match[bytes]) -> int:
        hours, minutes, seconds = (int(stamp[part]) for part in (1, 2, 3))
        digits = stamp[4]  # milliseconds, or with four digits tenths of them
        unit = 100_000 if len(digits) == 4 else 1_000_000
        time_ns = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000_000 + int(digits) * unit
        if self._mode == b"RELATIVE":
            self._last_ns += time_ns
            return self._start_ns + self._last_ns
        if self._mode == b"ABSOLUTE":
            return self._start_ns + time_ns
        if time_ns < self._last_ns - DAY_NS // 2:  # past midnight
            self._day_ns += DAY_NS
        self._last_ns = time_ns
        return self._day_ns + time_ns

    def _header(self, line: bytes) -> None:
        upper = line.upper()
        if found := START.match(line):
            day, month, year, hour, minute, second, fraction = map(int, found.groups())
            unit = 100_000 if len(found[7]) == 4 else 1_000_000
            moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)  # ValueError: counted as a broken line
            self._start_ns = int(moment.timestamp()) * 1_000_000_000 + fraction * unit
            self._day_ns, self._last_ns = self._start_ns // DAY_NS * DAY_NS, 0
        elif upper in (b"***HEX***", b"***DEC***"):
            self._base = 16 if upper == b"***HEX***" else 10
        elif mode := re.fullmatch(rb"\*\*\*(SYSTEM|ABSOLUTE|RELATIVE) MODE\*\*\*", upper):
            self._mode = mode[1]


class MicrochipParser(LineParser):
    def frame(self, line: bytes) -> Frame | None:
        if not MICROCHIP_LINE.match(line):
            if line[:1].isdigit():
                raise Broken("no frame")
            return None  # the header
        stamp, _, identifier, dlc, *words = line.rstrip(b";").split(b";")
        marked = identifier[-1:] in b"xX" and len(identifier) > 2
        digits = identifier.rstrip(b"xX").lower().removeprefix(b"0x")
        if len(digits) > 8 or not dlc.strip().isdigit() or len(dlc) > 2:
            raise Broken("no identifier or length")
        number, length = whole_number(digits), int(dlc)
        data = payload([word.strip().lower().removeprefix(b"0x") for word in words], length)
        return Frame(fixed_point_ns(stamp, 1_000_000), frame_id(number, marked or number > 0x7FF), "can0", data, length)
