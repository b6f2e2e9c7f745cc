"""Damage to one message of a DBC: the others come out as they were, or the report says what became of them.

CANSIGHT_SOAK=1: 20,000 inputs (and as many damaged anywhere, in test_loading.py).
"""

from __future__ import annotations

import os
import random
import re
from pathlib import Path
from typing import Any

import pytest
from test_fuzz_readers import no_hang

from dbc.dbc_file import DbcFile
from dbc.errors import DbcFileError
from dbc.frames import EFF_FLAG
from dbc.planner import load_database

SOAK = bool(os.environ.get("CANSIGHT_SOAK"))
INPUTS = 20_000 if SOAK else 200
TOKENS = (
    *(b"SG_ ", b"BO_ ", b":", b"|", b"@1+", b"@0-", b"(1,0)", b"[0|0]", b'"', b";", b" M ", b" m0 ", b" m1M ", b"//", b"\xff", b"\0", b"-"),
    *(b"0", b"9", b"64", b"65", b"4294967295", b"99999999999", b"1e400", b"0x10", b".5", b","),
)


def made(rng: random.Random) -> tuple[list[bytes], dict[int, range]]:
    """Lines of a DBC, and which of them are of which message."""
    lines = [b'VERSION ""', b"", b"BU_: ECU", b""]
    places: dict[int, range] = {}
    for number in range(rng.randrange(2, 7)):
        identifier = 0x100 + number if rng.random() < 0.6 else rng.randrange(0x800, 1 << 29) | EFF_FLAG
        first = len(lines)
        lines.append(b"BO_ %d Message%d: 8 ECU" % (identifier, number))
        for place in range(rng.randrange(1, 6)):
            mark = b" M" if place == 0 and rng.random() < 0.3 else b""
            sign = rng.choice(b"+-")
            lines.append(b' SG_ S%d%s : %d|8@1%c (%s,0) [0|0] "u" ECU' % (place, mark, 8 * place, sign, rng.choice((b"1", b"0.5", b"-2"))))
        places[identifier] = range(first, len(lines))
        lines.append(b"")
    for identifier in places:
        if rng.random() < 0.5:
            lines.append(b'VAL_ %d S0 0 "off" 1 "on" ;' % identifier)
        if rng.random() < 0.3:
            lines.append(b'CM_ SG_ %d S0 "what it is; and more";' % identifier)
    return lines, places


def damaged(rng: random.Random, line: bytes) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, size = rng.randrange(len(line) + 1), rng.choice((1, 1, 2, 5, 15))
        match rng.randrange(4):
            case 0:
                line = line[:at] + rng.choice(TOKENS) + line[at:]
            case 1:
                line = line[:at] + line[at + size :]
            case 2:
                line = line[:at] + rng.choice(TOKENS) + line[at + size :]
            case _:
                line = line[:at] + bytes([rng.randrange(32, 256)]) + line[at + 1 :]
    return line


def layouts(database: Any) -> dict[int, Any]:
    return {
        message.frame_id | EFF_FLAG * message.is_extended_frame: (
            message.name,
            message.length,
            [
                (
                    *(signal.name, signal.start, signal.length, signal.byte_order, signal.is_signed, signal.is_float, signal.scale),
                    *(signal.offset, signal.is_multiplexer, signal.multiplexer_ids, signal.multiplexer_signal),
                )
                for signal in message.signals
            ],
        )
        for message in database.messages
    }


@pytest.mark.timeout(3600 if SOAK else 120)
def test_damage_to_one_message_leaves_the_others(tmp_path: Path) -> None:
    rng = random.Random(9)
    file = DbcFile("damaged", "can0")
    kept = 0
    for number in range(INPUTS):
        lines, places = made(rng)
        whole = layouts(load_database(file, b"\n".join(lines))[0])
        assert whole.keys() == places.keys()
        victim = rng.choice(list(places))
        at = rng.choice(places[victim])
        changed = [*lines[:at], damaged(rng, lines[at]), *lines[at + 1 :]]
        with no_hang():
            try:
                database, report = load_database(file, b"\n".join(changed))
            except DbcFileError as error:
                assert "\n" not in str(error)  # noqa: PT017
                continue
        found = layouts(database)
        told = " ".join(report.notes())
        for identifier, layout in whole.items():
            if identifier == victim:
                continue
            # A damaged identifier may be another message's: the last one counts, and the report says so.
            assert found.get(identifier) == layout or re.search(rf"\b{layout[0]}\b", told), (number, changed, report.notes())
            kept += found.get(identifier) == layout
        extra = found.keys() - whole.keys()
        assert len(extra) <= 1, (number, changed)
    assert kept > INPUTS
