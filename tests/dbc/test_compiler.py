"""Compiling: the cache, the subprocess, names and ids, and one line for every DBC that does not parse."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dbc.check import doubts
from dbc.compiler import compile_dbc, load_compiled
from dbc.dbc_file import parse_file_argument
from dbc.errors import DbcFileError, SignalUnknown
from dbc.plan import dump, parse

HEAD = 'VERSION ""\n\nBU_: ECU\n\n'
MESSAGE = 'BO_ 256 Engine: 8 ECU\n SG_ Speed : 0|16@1+ (0.25,0) [0|8000] "rpm" ECU\n SG_ Torque : 16|16@1- (1,-500) [0|0] "Nm" ECU\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "made.dbc"
    path.write_text(HEAD + MESSAGE)
    return path


def test_arguments() -> None:
    assert parse_file_argument("a.dbc").channel == "can0"
    assert parse_file_argument("a.dbc@can3").channel == "can3"
    assert parse_file_argument("dir@x/a.dbc").path == "dir@x/a.dbc"


def test_a_cached_dbc_is_read_without_cantools(file: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    code = (
        "import sys, pathlib; from dbc.compiler import load_compiled; from dbc.decoder import Decoder; from dbc.sampler import Sampler;"
        f"c = load_compiled([{str(file)!r}], pathlib.Path({str(cache)!r})); Decoder(c, ('can0',)); Sampler(c.schema);"
        "print(c.schema.schema_id.hex(), 'cantools' in sys.modules)"
    )
    outputs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout for _ in range(2)]
    assert outputs[0] == outputs[1] == f"{compile_dbc([str(file)]).schema.schema_id.hex()} False\n"
    assert len(list(cache.iterdir())) == 1


def test_the_cache_goes_by_content_and_channel_not_by_path(file: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    load_compiled([str(file)], cache)
    moved = file.rename(tmp_path / "moved.dbc")
    load_compiled([str(moved)], cache)
    assert len(list(cache.iterdir())) == 1
    load_compiled([f"{moved}@can1"], cache)
    moved.write_text(HEAD + MESSAGE.replace("0.25", "0.5"))
    assert load_compiled([str(moved)], cache).schema.scale[0] == 0.5
    assert len(list(cache.iterdir())) == 3


def test_the_cache_keeps_what_was_compiled_last(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbc.compiler.MOST_ENTRIES", 2)
    cache = tmp_path / "cache"
    made = []
    for channel in ("can0", "can1", "can2"):
        load_compiled([f"{file}@{channel}"], cache)
        (new,) = {*cache.iterdir()} - {*made}
        made.append(new)
    assert {*cache.iterdir()} == {*made[1:]}
    for entry in made[1:]:
        os.utime(entry, (4e9, 4e9))  # as if the vehicle's clock had gone back since
    load_compiled([f"{file}@can3"], cache)
    assert len({*cache.iterdir()} - {*made}) == 1, "what was compiled just now stays"
    assert len(list(cache.iterdir())) == 2


def test_a_damaged_cache_entry_is_compiled_anew(file: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    compiled = load_compiled([str(file)], cache)
    (entry,) = cache.iterdir()
    good = entry.read_bytes()
    for damaged in (b"", b"junk", good[: len(good) // 2], good[:200] + b"\0\0\0\0" + good[204:]):
        entry.write_bytes(damaged)
        assert load_compiled([str(file)], cache).schema == compiled.schema


def test_the_compiled_form_survives_the_disk(data_dir: Path) -> None:
    compiled = compile_dbc([str(data_dir / "logs" / "kuksa" / "Model3CAN.dbc")])
    again = parse(dump(compiled))
    assert again.schema == compiled.schema
    assert again.schema.choices == compiled.schema.choices
    for name in compiled.plan.__dataclass_fields__:
        left, right = getattr(compiled.plan, name), getattr(again.plan, name)
        assert np.array_equal(left, right)
        assert getattr(left, "dtype", None) == getattr(right, "dtype", None)


def test_the_schema_id_covers_what_changes_a_value(file: Path) -> None:
    ids = {compile_dbc([str(file)]).schema.schema_id}
    for old, new in (("rpm", "1/min"), ("-500", "-499"), ("@1-", "@1+"), ("Torque", "Moment"), ("8000", "9000")):
        file.write_text(HEAD + MESSAGE.replace(old, new))
        ids.add(compile_dbc([str(file)]).schema.schema_id)
    assert len(ids) == 6
    assert all(len(one) == 16 for one in ids)


def test_names_carry_the_channel_only_where_the_short_name_is_not_unique(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.dbc"
    other.write_text(HEAD + MESSAGE.replace("Torque", "Power"))
    names = compile_dbc([f"{file}@can0", f"{other}@can1"]).schema.names
    assert names == ("can0:Engine.Speed", "Engine.Torque", "can1:Engine.Speed", "Engine.Power")


def test_an_unknown_signal_names_the_closest(file: Path) -> None:
    schema = compile_dbc([str(file)]).schema
    assert schema.index("Engine.Torque") == 1
    with pytest.raises(SignalUnknown, match=r"did you mean Engine\.Speed"):
        schema.index("Engine.Sped")


def test_utf8_and_cp1252_units_are_both_read(file: Path) -> None:
    for encoding in ("utf-8", "utf-8-sig", "cp1252"):
        file.write_bytes((HEAD + MESSAGE.replace("rpm", "°C")).encode(encoding))
        assert compile_dbc([str(file)]).schema.units[0] == "°C"


def test_repeated_identifiers_and_what_does_not_fit_are_noted(file: Path) -> None:
    wide = 'BO_ 256 Again: 64 ECU\n SG_ Text : 0|128@1+ (1,0) [0|0] "" ECU\n SG_ One : 130|8@1+ (1,0) [0|0] "" ECU\n'
    overlap = (
        'BO_ 257 Tight: 1 ECU\n SG_ A : 0|8@1+ (1,0) [0|0] "" ECU\n SG_ B : 7|4@0+ (1,0) [0|0] "" ECU\n SG_ C : 8|8@1+ (1,0) [0|0] "" ECU\n'
    )
    file.write_text(HEAD + MESSAGE + wide + overlap)
    compiled = compile_dbc([str(file)])
    assert compiled.schema.names == ("Again.One", "Tight.A", "Tight.B", "Tight.C")
    found = doubts(compiled)
    assert found == ["Tight.B overlaps Tight.A"]
    for line, note in (
        (5, "Engine is left out: Again further down has the same identifier 0x100 and replaces it"),
        (9, "Again.Text is left out: 128 bits; 1 to 64 are possible"),
        (14, "Tight.C needs 2 bytes, but Tight has 1: read from longer frames only"),
    ):
        assert f"{file}:{line}: {note}" in compiled.notes


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (HEAD + "BO_ 256 Engine 8 ECU\n", 5, "invalid syntax"),
        (HEAD + MESSAGE.replace("256", "4294967295"), 5, "more than 29 bits"),
        ("", None, "is not a DBC"),
        ("hello\n", None, "is not a DBC"),
        ('VERSION "\0"\n', None, "is not a DBC"),
    ],
)
def test_a_file_with_nothing_usable_is_one_line_with_file_and_line(file: Path, text: str, line: int | None, says: str) -> None:
    file.write_text(text)
    for load in (compile_dbc, lambda files: load_compiled(files, None)):
        with pytest.raises(DbcFileError, match=says) as raised:
            load([str(file)])
        assert raised.value.line == line
        assert str(raised.value).startswith(f"{file}:{line}" if line else str(file))
        assert "\n" not in str(raised.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    for load in (compile_dbc, lambda files: load_compiled(files, tmp_path / "cache")):
        with pytest.raises(DbcFileError, match="No such file"):
            load([str(tmp_path / "none.dbc")])
