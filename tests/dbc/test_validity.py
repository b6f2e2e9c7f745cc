"""Patterns that say "no value"."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from dbc.compiler import compile_dbc
from dbc.decoder import Decoder
from dbc.frames import EFF_FLAG, FrameBlock
from dbc.validity import Reason


def reason_of(tmp_path: Path, signal: str, raw: int, more: str = "", *, j1939: bool = False) -> int:
    """Of one value of the signal `signal` (its place, sign, scale and range), in the first bytes."""
    key = 0x18FEF100 | EFF_FLAG if j1939 else 256
    file = tmp_path / "made.dbc"
    head = f'VERSION ""\n\nBU_: ECU\n\nBO_ {key} Made: 8 ECU\n SG_ One : {signal} "" ECU\n\n'
    if j1939:
        more += f'BA_DEF_ BO_ "VFrameFormat" ENUM "StandardCAN","ExtendedCAN","reserved","J1939PG";\nBA_ "VFrameFormat" BO_ {key} 3;\n'
    file.write_text(head + more.replace("KEY", str(key)))
    compiled = compile_dbc([str(file)])
    data = np.frombuffer(struct.pack("<Q", raw), np.uint8).reshape(1, 8)
    block = FrameBlock(
        ("can0",), np.zeros(1, np.int64), np.array([key], np.uint32), np.zeros(1, np.uint8), np.full(1, 8, np.uint8), data, 0
    )
    signals = Decoder(compiled, ("can0",)).decode(block)
    assert np.isnan(signals.value[0]) == (signals.reason[0] != Reason.VALID)
    return int(signals.reason[0])


NO, OK = int(Reason.NOT_AVAILABLE), int(Reason.VALID)


@pytest.mark.parametrize("word", ["SNA", "Not available", "Signal_Not_Available", "SignalNotAvailable", "Invalid", "n/a", "No_Data_Exists"])
def test_all_ones_that_the_value_table_calls_so(tmp_path: Path, word: str) -> None:
    table = f'VAL_ KEY One 255 "{word}" 254 "{word}" 3 "{word}" ;\n'
    assert [reason_of(tmp_path, "0|8@1+ (1,0) [0|0]", raw, table) for raw in (255, 254, 253, 3)] == [NO, NO, OK, OK]


@pytest.mark.parametrize("word", ["On", "Innovation", "Valid", "Available", "Snap"])
def test_all_ones_with_another_meaning_is_a_value(tmp_path: Path, word: str) -> None:
    assert reason_of(tmp_path, "0|2@1+ (1,0) [0|2]", 3, f'VAL_ KEY One 3 "{word}" 0 "Off" ;\n') == OK


def test_all_ones_beyond_the_declared_range(tmp_path: Path) -> None:
    assert reason_of(tmp_path, "0|8@1+ (1,0) [0|250]", 255) == NO
    assert reason_of(tmp_path, "0|8@1+ (1,0) [0|250]", 254) == OK  # out of range, which is a flag
    assert reason_of(tmp_path, "0|8@1+ (1,0) [0|255]", 255) == OK
    assert reason_of(tmp_path, "0|8@1+ (1,0) [0|0]", 255) == OK  # no range
    assert reason_of(tmp_path, "0|8@1- (1,0) [0|100]", 255) == OK  # minus one
    assert reason_of(tmp_path, "0|1@1+ (1,0) [0|0.5]", 1) == OK  # one bit has no room for it
    assert reason_of(tmp_path, "0|64@1+ (1,0) [0|1000]", 2**64 - 1) == NO


def test_j1939_keeps_the_top_of_each_signal_free(tmp_path: Path) -> None:
    def found(signal: str, *raws: int, more: str = "") -> list[int]:
        return [reason_of(tmp_path, signal, raw, more, j1939=True) for raw in raws]

    assert found("0|8@1+ (1,0) [0|255]", 0xFA, 0xFD, 0xFE, 0xFF) == [OK, OK, NO, NO]
    assert found("0|16@1+ (1,0) [0|0]", 0xFDFF, 0xFE00, 0xFFFF) == [OK, NO, NO]
    assert found("0|32@1+ (1,0) [0|0]", 0xFDFFFFFF, 0xFE000000) == [OK, NO]
    assert found("0|2@1+ (1,0) [0|3]", 0, 1, 2, 3) == [OK, OK, NO, NO]
    assert found("0|4@1+ (1,0) [0|15]", 13, 14, 15) == [OK, NO, NO]
    assert found("0|4@1+ (1,0) [0|15]", 14, 15, more='VAL_ KEY One 14 "Other" 15 "Not available" ;\n') == [OK, NO]
    assert found("0|1@1+ (1,0) [0|1]", 1) == [OK]
    assert reason_of(tmp_path, "0|8@1+ (1,0) [0|255]", 0xFE) == OK  # not J1939


@pytest.mark.parametrize(("bits", "form", "kind"), [(16, "<e", 1), (32, "<f", 1), (64, "<d", 2)])
def test_not_a_number_is_not_available(tmp_path: Path, bits: int, form: str, kind: int) -> None:
    more = f"SIG_VALTYPE_ KEY One : {kind};\n"
    for value, reason in ((float("nan"), NO), (-float("nan"), NO), (float("inf"), OK), (-1.5, OK)):
        raw = int.from_bytes(struct.pack(form, value), "little")
        assert reason_of(tmp_path, f"0|{bits}@1- (1,0) [0|0]", raw, more) == reason, value
