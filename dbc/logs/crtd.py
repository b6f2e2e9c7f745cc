"""CRTD: the log of the Open Vehicle Monitoring System.

    166.064000 R11 0000021A FE 36 12 FE 69 05 07 AD      received, 11-bit identifier
    1542473901.020305 2T29 18DB33F1 02 01 00             sent on the second bus, 29 bits
    166.064000 CXX GVRET-PC Reverse Engineering Tool     comments, events, status: C..

Source: OVMS manual, "CRTD CAN Log Format".
"""

from __future__ import annotations

import re

from dbc.logs.lines import Broken, Frame, LineParser, fixed_point_ns, frame_id, payload, whole_number

__all__ = ["CrtdParser", "is_crtd"]

RECORD = re.compile(rb"(?P<bus>\d?)(?:(?P<frame>[RT])(?P<bits>11|29)|(?P<other>[A-Z]{3}))", re.IGNORECASE)
LINE = re.compile(rb"-?\d+\.\d+\s+\d?(?:[RT](?:11|29)\s+[0-9A-Fa-f]{1,8}\b|C(?:XX|EV|BC|VR|ST)\b)")


def is_crtd(lines: list[bytes]) -> bool:
    return any(LINE.match(line) for line in lines)


class CrtdParser(LineParser):
    def frame(self, line: bytes) -> Frame | None:
        stamp, kind, *words = line.split()
        found = RECORD.fullmatch(kind)
        if found is None:
            raise Broken("no record type")
        time_ns = fixed_point_ns(stamp, 1_000_000_000)
        if found["other"]:
            return None
        if not words or len(words[0]) > 8:
            raise Broken("no identifier")
        extended, length = found["bits"] == b"29", len(words) - 1
        name = f"can{max(int(found['bus'] or 1) - 1, 0)}"
        return Frame(time_ns, frame_id(whole_number(words[0]), extended), name, payload(words[1:], length), length)
