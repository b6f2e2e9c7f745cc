"""Small logs of each text format from the same random frames, and their damage: for the readers' fuzzing."""

from __future__ import annotations

import base64
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from dbc.frames import EFF_FLAG, FrameBlock

FRAMES = 5  # of a log
JOINTS = b" \t\r\n,;:.#()[]-+xX0123456789abcdefABCDEF'_/*=RTsd\x00\xff\xc3"
ALMOST = (b"\xd9\xa3", b"9" * 400, b"0x", b"-", b"1e5", b"nan", b"_", b" 00", b"00", b"FF", b"##1", b"R8", b"x", b"  ", b"\t")

Row = tuple[int, int, str, int, bytes]  # stamp in ns, identifier with flags, channel, length, payload


class Sample(NamedTuple):
    us: int
    bus: int
    identifier: int
    extended: bool
    data: bytes


def _spaced(sample: Sample) -> str:
    return sample.data.hex(" ").upper()


def _candump(sample: Sample) -> str:
    mark = "##1" if len(sample.data) > 8 else "#"
    name = f"{sample.identifier:0{8 if sample.extended else 3}X}"
    return f"({1_700_000_000 + sample.us // 1_000_000}.{sample.us % 1_000_000:06d}) can{sample.bus} {name}{mark}{sample.data.hex()}"


def _asc(sample: Sample) -> str:
    name, time = f"{sample.identifier:X}{'x' * sample.extended}", f"{sample.us // 1_000_000}.{sample.us % 1_000_000:06d}"
    if len(sample.data) > 8:
        return f"   {time} CANFD   {sample.bus + 1} Rx {name} 1 0 d {len(sample.data)} {_spaced(sample)}"
    return f"   {time} {sample.bus + 1}  {name} Rx d {len(sample.data)} {_spaced(sample)}"


def _trc2(sample: Sample) -> str:
    name = f"{sample.identifier:0{8 if sample.extended else 4}X}"
    return f"     1 {sample.us / 1000:13.3f} DT {sample.bus + 1} {name} Rx -  {len(sample.data)}    {_spaced(sample)}"


def _trc1(sample: Sample) -> str:
    name = f"{sample.identifier:0{8 if sample.extended else 4}X}"
    return f"     1) {sample.us / 1000:10.1f}  Rx  {name}  {len(sample.data)}  {_spaced(sample)}"


def _canhacker(sample: Sample) -> str:
    name = f"{sample.identifier:0{8 if sample.extended else 3}X}"
    return f"{sample.us // 1000 / 1000:06.3f} {name} {len(sample.data)} {_spaced(sample)}"


def _gvret(sample: Sample) -> str:
    flag = "true" if sample.extended else "false"
    return f"{sample.us},{sample.identifier:08X},{flag},Rx,{sample.bus},{len(sample.data)},{sample.data.hex(',').upper()},"


def _generic(sample: Sample) -> str:
    return f"{sample.identifier:08X},{_spaced(sample)}"


def _python_can(sample: Sample) -> str:
    content = base64.b64encode(sample.data).decode()
    return f"{sample.us / 1e6:.6f},{sample.identifier:#x},{int(sample.extended)},0,0,{len(sample.data)},{content}"


def _crtd(sample: Sample) -> str:
    bits, bus = ("29" if sample.extended else "11"), sample.bus + 1
    return f"{sample.us // 1_000_000}.{sample.us % 1_000_000:06d} {bus}R{bits} {sample.identifier:08X} {_spaced(sample)}"


def _busmaster(sample: Sample) -> str:
    time = f"22:20:{10 + sample.us // 1_000_000:02d}:{sample.us // 1000 % 1000:03d}"
    kind = "x" if sample.extended else "s"
    return f"{time} Rx {sample.bus + 1} {sample.identifier:08X} {kind} {len(sample.data)} {_spaced(sample)} "


def _microchip(sample: Sample) -> str:
    words = ";".join(f"0x{byte:02X}" for byte in sample.data)
    return f"{sample.us // 1000};RX;0x{sample.identifier:08X}{'x' * sample.extended};{len(sample.data)};{words};"


@dataclass(frozen=True)
class Form:
    format: str
    header: bytes
    line: Callable[[Sample], str]
    stamp: re.Pattern[bytes] | None  # where a line's own stamp stands; None = frames depend on others for it
    unit_ns: int = 0
    longest: int = 8


FORMS = {
    "candump": Form("candump", b"", _candump, re.compile(rb"\s*\((-?\d+\.\d+)\)"), 10**9, 64),
    "asc": Form(
        *("asc", b"date Mon Sep 28 10:06:13.000 2015 UTC\nbase hex  timestamps absolute\ninternal events logged\n", _asc),
        *(re.compile(rb"\s*(-?\d+\.\d+)\s"), 10**9, 64),
    ),
    "trc": Form(
        *("trc", b";$FILEVERSION=2.1\n;$STARTTIME=43008.92\n;$COLUMNS=N,O,T,B,I,d,R,L,D\n", _trc2),
        *(re.compile(rb"\s*\S+\s+(-?[\d.,]+)\s"), 10**6),
    ),
    "trc 1.1": Form("trc", b";$FILEVERSION=1.1\n;$STARTTIME=43008.92\n", _trc1, re.compile(rb"\s*\d+\)\s+(-?[\d.]+)\s"), 10**6),
    "canhacker": Form("canhacker", b"Time   ID     DLC Data                    Comment\n", _canhacker, None),
    "gvret": Form(
        *("gvret", b"Time Stamp,ID,Extended,Dir,Bus,LEN,D1,D2,D3,D4,D5,D6,D7,D8\n", _gvret),
        *(re.compile(rb"\s*(-?[\d.]+)\s*,"), 1000),
    ),
    "generic-csv": Form("generic-csv", b"ID,Data Bytes\n", _generic, None),
    "csv": Form(
        "csv", b"timestamp,arbitration_id,extended,remote,error,dlc,data\n", _python_can, re.compile(rb"\s*([-+\d.eE]+)\s*,"), 10**9
    ),
    "crtd": Form("crtd", b"0.000000 CXX made by hand\n", _crtd, re.compile(rb"\s*(-?[\d.,]+)\s"), 10**9),
    "busmaster": Form(
        *("busmaster", b"***BUSMASTER Ver 2.4.0***\n***START DATE AND TIME 23:9:2015 22:17:28:928***\n***HEX***\n***SYSTEM MODE***\n"),
        *(_busmaster, None),
    ),
    "microchip": Form("microchip", b"Microchip Technology Inc.\nCAN BUS Analyzer\n", _microchip, re.compile(rb"\s*(-?[\d.]+);"), 10**6),
}


@dataclass(frozen=True)
class Log:
    """A whole log, and what each of its frame lines says."""

    form: Form
    head: bytes
    lines: list[bytes]
    rows: list[Row]

    @property
    def text(self) -> bytes:
        return self.head + b"\n".join(self.lines) + b"\n"


def random_samples(rng: random.Random, longest: int) -> list[Sample]:
    samples, us = [], rng.randrange(1, 5_000_000)
    for _ in range(FRAMES):
        us += rng.choice((1000, 2000, 10_000, 1_000_000)) * rng.randrange(1, 4)
        extended = rng.random() < 0.4
        identifier = rng.randrange(0x800, 1 << 29) if extended else rng.randrange(1, 0x800)
        size = rng.choice((0, 1, 4, 8, 8, 8, 8)) if longest == 8 or rng.random() < 0.8 else rng.choice((12, 32, 64))
        samples.append(Sample(us // 1000 * 1000, rng.randrange(3), identifier, extended, rng.randbytes(size)))
    return samples


def rows_of(block: FrameBlock) -> list[Row]:
    names = block.channels
    return [
        (stamp, identifier, names[channel], length, data[:length])
        for stamp, identifier, channel, length, data in zip(
            block.timestamp_ns.tolist(),
            block.frame_id.tolist(),
            block.channel.tolist(),
            block.length.tolist(),
            map(bytes, block.data.tolist()),
            strict=True,
        )
    ]


def damaged_line(rng: random.Random, line: bytes, others: list[bytes]) -> bytes:
    """Another line, without a line's end in it."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at, size = rng.randrange(len(line) + 1), rng.randint(1, 6)
        match rng.randrange(8):
            case 0:
                line = line[:at] + bytes(rng.choices(JOINTS, k=size)) + line[at + size :]
            case 1:
                line = line[:at] + line[at + size :]
            case 2:
                line = line[:at]
            case 3:
                line = line[:at] + rng.choice(ALMOST) + line[at:]
            case 4:
                line = line[:at] + bytes([rng.choice(JOINTS)]) + line[at + 1 :]
            case 5:  # two lines that were written over each other
                other = rng.choice(others)
                line = line[:at] + other[rng.randrange(len(other) + 1) :]
            case 6:
                line = line[:at] + line[at : at + size] * rng.choice((2, 3, 20)) + line[at + size :]
            case _:
                line = line[:at] + bytes([rng.randrange(256)]) + line[at:]
    return line.replace(b"\n", b" ")


def damaged_text(rng: random.Random, text: bytes) -> bytes:
    """A few bytes of a log changed, taken out, put in or moved; line ends too."""
    data = bytearray(text)
    for _ in range(rng.randint(1, 4)):
        at, size = rng.randrange(len(data) + 1), rng.randint(1, 6)
        match rng.randrange(6):
            case 0:
                data[at : at + size] = rng.choices(JOINTS, k=size)
            case 1:
                del data[at : at + size]
            case 2:
                data[at:at] = data[at // 2 : at // 2 + size]
            case 3:
                data[at:at] = rng.choice(ALMOST)
            case 4:
                data = data[:at]
            case _:
                data[at:at] = rng.choices(JOINTS, k=size)
    return bytes(data)


NUMBER = re.compile(rb"[0-9A-Za-z]+")


def contradiction(form: Form, line: bytes, row: Row, start_ns: int) -> str | None:
    """What a frame says that does not stand in the line that it was read from; None = all of it does. Knows nothing of the parsers."""
    stamp_ns, identifier, _, length, data = row
    words = NUMBER.findall(line)
    number = identifier & 0x1FFF_FFFF
    if not identifier & 0x2000_0000 and not any(_is(word.rstrip(b"xX") or word, number) for word in words):
        return f"identifier {number:#x}"
    if data and not identifier & 0x4000_0000:
        if form.format == "csv":
            here = base64.b64encode(data) in line
        elif form.format == "candump":
            here = data.hex() in line.replace(b".", b"").replace(b" ", b"").lower().decode("latin-1")
        else:
            values = [int(word, 16) if len(word) <= 4 and _is_hex(word) else -1 for word in words]
            here = any(values[at : at + length] == list(data) for at in range(len(values)))
        if not here:
            return f"payload {data.hex()}"
    if form.stamp is not None:
        found = form.stamp.match(line)
        try:
            expected = None if found is None else start_ns + int(Decimal(found[1].decode().replace(",", ".")) * form.unit_ns)
        except InvalidOperation:
            expected = None
        if expected is None or abs(expected - stamp_ns) > 1:
            return f"stamp {stamp_ns}, not {expected}"
    return None


def _is_hex(word: bytes) -> bool:
    try:
        int(word, 16)
    except ValueError:
        return False
    return True


def _is(word: bytes, number: int) -> bool:
    return _is_hex(word) and int(word, 16) in (number, number | EFF_FLAG)
