"""Logs as comma-separated values: SavvyCAN's two, and python-can's.

    Time Stamp,ID,Extended,Dir,Bus,LEN,D1,D2,D3,D4,D5,D6,D7,D8      GVRET: microseconds; hexadecimal; Dir came later
    22213513,00000111,false,Rx,0,8,00,00,00,00,00,00,00,00,

    ID,Data Bytes                                                    generic: no time, so that frames are put a millisecond apart
    0000021A,FE 36 12 FE 69 05 07 AD

    timestamp,arbitration_id,extended,remote,error,dlc,data          python-can: seconds; data in base64
    1483389946.197,0xdadada,1,0,0,6,WzQyLCA5XQ==

Source: SavvyCAN's manual and files; python-can's CSVWriter.
"""

from __future__ import annotations

import base64
import re

from dbc.logs.lines import Broken, Frame, LineParser, fixed_point_ns, frame_id, payload, whole_number

__all__ = ["GenericCsvParser", "GvretParser", "PythonCanCsvParser", "is_generic_csv", "is_gvret", "is_python_can_csv"]

GVRET_HEADER = re.compile(rb"time\s?stamp\s*,\s*id\s*,\s*extended\s*,", re.IGNORECASE)
GVRET_COLUMNS = (b"time stamp", b"id", b"extended", b"bus", b"len")
GENERIC_HEADER = re.compile(rb"id\s*,\s*data\s*bytes", re.IGNORECASE)
PYTHON_CAN_HEADER = b"timestamp,arbitration_id,extended,remote,error,dlc,data"
TRUTH = {b"true": True, b"1": True, b"false": False, b"0": False}
STEP_NS = 1_000_000


def is_gvret(lines: list[bytes]) -> bool:
    return any(GVRET_HEADER.match(line) for line in lines)


def is_generic_csv(lines: list[bytes]) -> bool:
    return any(GENERIC_HEADER.match(line) for line in lines)


def is_python_can_csv(lines: list[bytes]) -> bool:
    return any(line.lower().startswith(PYTHON_CAN_HEADER) for line in lines)


class GvretParser(LineParser):
    """The columns are where the header says; a file of several recordings may have several headers."""

    def __init__(self) -> None:
        super().__init__()
        self._places: dict[bytes, int] = {}
        self._first_byte = 0

    def frame(self, line: bytes) -> Frame | None:
        words = line.split(b",")
        if GVRET_HEADER.match(line):
            words = [word.strip() for word in words]
            names = [*GVRET_COLUMNS[:3], *(word.lower() for word in words[3:])]  # however the first three are written
            self._places = {name: names.index(name) for name in GVRET_COLUMNS if name in names}
            self._first_byte = names.index(b"d1") if b"d1" in names else max(self._places.values()) + 1
            return None
        place = self._places
        if not place:
            raise Broken("before the header")  # what a terminal printed
        if b" " in line:
            words = [word.strip() for word in words]
        if len(words) < self._first_byte or len(words) <= max(place.values()):
            raise Broken("ends before its data")
        extended, length = TRUTH.get(words[place[b"extended"]].lower()), words[place[b"len"]] if b"len" in place else b""
        bus = words[place[b"bus"]] if b"bus" in place else b"0"
        if extended is None or not length.isdigit() or len(length) > 2 or not bus.isdigit() or len(bus) > 3:
            raise Broken("no frame")
        identifier = _hex(words[place[b"id"]])
        time_ns = fixed_point_ns(words[place[b"time stamp"]], 1000)
        data = payload(words[self._first_byte :], int(length))
        return Frame(time_ns, frame_id(identifier, extended), f"can{int(bus)}", data, len(data))


class GenericCsvParser(LineParser):
    """Identifiers beyond 11 bits are extended; the format does not say."""

    def __init__(self) -> None:
        super().__init__()
        self._frames = 0

    def frame(self, line: bytes) -> Frame | None:
        if GENERIC_HEADER.match(line):
            return None
        identifier, comma, rest = line.partition(b",")
        if not comma:
            raise Broken("no comma")
        words = rest.replace(b",", b" ").split()
        number = _hex(identifier.strip())
        frame = Frame(self._frames * STEP_NS, frame_id(number, number > 0x7FF), "can0", payload(words, len(words)), len(words))
        self._frames += 1
        return frame


class PythonCanCsvParser(LineParser):
    def frame(self, line: bytes) -> Frame | None:
        if line.lower().startswith(PYTHON_CAN_HEADER):
            return None
        stamp, identifier, *flags, dlc, data = line.split(b",", 6)
        extended, remote, error = (TRUTH[flag] if flag in TRUTH else _refuse(flag) for flag in flags)
        if not dlc.isdigit() or len(dlc) > 2:
            raise Broken("no length")
        if remote and error:
            raise Broken("a remote and an error frame at once")
        number = frame_id(_hex(identifier), extended, remote=remote, error=error)
        content = b"" if remote else base64.b64decode(data, validate=True)
        if content and (len(content) != int(dlc) or base64.b64encode(content) != data):
            raise Broken(f"{len(content)} bytes of {int(dlc)}, or bits after the last")
        length = min(int(dlc), 8) if remote else len(content)
        return Frame(fixed_point_ns(_plain(stamp), 1_000_000_000), number, "can0", content, length)


def _refuse(flag: bytes) -> bool:
    raise Broken(f"flag {flag!r}")


def _hex(text: bytes) -> int:
    text = text.removeprefix(b"0x").removeprefix(b"0X")
    if len(text) > 8:
        raise Broken(f"identifier {text!r}")
    return whole_number(text)


def _plain(stamp: bytes) -> bytes:
    """Python writes small floats as 1e-05."""
    return f"{float(stamp):.9f}".encode() if b"e" in stamp.lower() else stamp
