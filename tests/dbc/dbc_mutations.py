"""Damaged database files, made from good ones; for the loader's fuzzing."""

from __future__ import annotations

import random

TOKENS = (
    *(b"BO_ ", b" SG_ ", b"VAL_ ", b"CM_ ", b"BA_ ", b"BA_DEF_ ", b"SG_MUL_VAL_ ", b"SIG_VALTYPE_ ", b"NS_ :\n", b"BS_:\n", b"BU_: A B\n"),
    *(
        b'"',
        b";",
        b":",
        b"|",
        b"@1+",
        b"@0-",
        b"(1,0)",
        b"[0|0]",
        b"//",
        b"\\",
        b"\n",
        b"\r",
        b"\0",
        b"\xff",
        b"\xe6\xb8\xa9",
        b"M",
        b"m0",
        b"m1M",
    ),
    *(
        b"-",
        b"0",
        b"99999999999999999999",
        b"4294967295",
        b"1e400",
        b"-1",
        b"0x10",
        b"nan",
        b".5",
        b"64",
        b"65",
        b"1-4294967295",
        b"<",
        b"/>",
    ),
    *(b'BO_ 5 X: 8 Y\n SG_ Z : 0|8@1+ (1,0) [0|0] "" Q\n', b"BO_ 3221225472 VECTOR__INDEPENDENT_SIG_MSG: 0 V\n", b"<!DOCTYPE x>", b"&a;"),
)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to a dozen changes: bytes, slices, lines, tokens, numbers."""
    for _ in range(rng.choice((1, 1, 2, 3, 6, 12))):
        at = rng.randrange(len(data) + 1)
        span = at + rng.choice((1, 2, 5, 20, 200))
        match rng.randrange(8):
            case 0:
                data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
            case 1:
                data = data[:at] + data[span:]
            case 2:
                data = data[:at] + rng.choice(TOKENS) + data[at:]
            case 3:
                data = data[:at] + rng.choice(TOKENS) + data[span:]
            case 4:
                data = data[:at] + data[at:span] * rng.choice((2, 3, 30)) + data[span:]
            case 5:
                lines = data.split(b"\n")
                one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
                lines[one], lines[other] = lines[other], lines[one]
                data = b"\n".join(lines)
            case 6:
                digits = [place for place in range(at, min(at + 200, len(data))) if data[place : place + 1].isdigit()]
                if digits:
                    place = rng.choice(digits)
                    data = data[:place] + rng.choice((b"0", b"9", b"77", b"123456789012", b"-", b"")) + data[place + 1 :]
            case _:
                data = data[: rng.choice((at, len(data)))] + rng.choice((b"", data[:at]))
    return data[: 1 << 20]
