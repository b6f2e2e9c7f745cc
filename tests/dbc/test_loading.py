"""Loading: every database file that is there, in every format, and by every name that a user may give."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cantools.database
import pytest
from dbc_mutations import mutate
from example_arxml import ARXML

from dbc.check import check_file
from dbc.compiler import compile_dbc, load_compiled
from dbc.dbc_file import DbcFile, absolute_argument, parse_file_argument
from dbc.decoder import Decoder
from dbc.errors import DbcFileError
from dbc.frames import EFF_FLAG, FrameBlock
from dbc.plan import ANY_SOURCE, NOT_PGN, dump
from dbc.planner import load_database, plan_databases, plan_files

SOAK = bool(os.environ.get("CANSIGHT_SOAK"))
FUZZ_INPUTS = 20_000 if SOAK else 300
FUZZ_SECONDS = 20  # for one input: a hang, not a slow machine


def loads_in_cantools(path: Path) -> bool:
    try:
        cantools.database.load_file(path, strict=False)
    except Exception:  # noqa: BLE001  cantools raises many kinds
        return False
    return True


def opendbc_files() -> list[Path]:
    package = importlib.util.find_spec("opendbc")
    if package is None or not package.submodule_search_locations:
        pytest.skip("the package opendbc is not installed")
    return sorted(file for folder in package.submodule_search_locations for file in Path(folder).rglob("*.dbc"))


def test_every_dbc_gives_its_messages(data_dir: Path) -> None:
    """All messages but those that no frame can have, or that another one of the file replaces."""
    files = sorted(data_dir.glob("**/*.dbc"))
    repaired_files = messages = 0
    left_out: dict[str, int] = {}
    for path in files:
        if path.name == "issue_199_extended.dbc":  # broken on purpose, see below
            continue
        file = parse_file_argument(str(path))
        database, report = load_database(file)
        compiled = plan_databases([(file, database, report)])
        declared = sum(
            line.lstrip().startswith("BO_ ") and "VECTOR__INDEPENDENT" not in line for line in path.read_text("latin-1").splitlines()
        )
        skipped = [entry for entry in report.skipped if "." not in entry.message]
        assert len(compiled.plan.message_names) == report.messages == declared - len(skipped), path.name
        assert all(entry.line > 0 and entry.why for entry in report.skipped), path.name
        assert all(entry.line > 0 and entry.what for entry in report.repaired), path.name
        messages += report.messages
        if skipped:
            left_out[path.name] = len(skipped)
        if not loads_in_cantools(path):
            repaired_files += 1
            assert report.repaired or report.skipped, path.name
    assert repaired_files == 13
    assert messages > 3000
    assert left_out["toyota_2017_ref_pt.dbc"] == 32


def test_every_dbc_of_opendbc_gives_its_messages() -> None:
    files = opendbc_files()
    assert len(files) >= 115
    messages = refused = 0
    for path in files:
        database, report = load_database(str(path))
        messages += report.messages
        if report.repaired or report.skipped:
            refused += not loads_in_cantools(path)
        assert report.messages or "IMPORT" in path.read_text(), path.name  # some only put others together
        assert len(database.messages) >= report.messages
    assert messages > 3500
    assert refused >= 20


@pytest.mark.parametrize(
    ("name", "loads", "says"),
    [
        ("cantools/issue_199_extended", False, "45: DriverDoorStatus: identifier 4294967295 (0xffffffff) is none: expected 0 to 2047, or"),
        ("cantools/issue_199", True, "45: no identifier of the file is valid: expected 0 to 2047, or bit 31 and up to 29 bits; found more"),
        ("opendbc/gm_global_a_lowspeed", True, "45: no identifier of the file is valid: expected 0 to 2047, or bit 31 and"),
    ],
)
def test_a_file_without_a_valid_identifier_is_an_error_with_its_line(data_dir: Path, name: str, loads: bool, says: str) -> None:
    """One rule (bit 31 is left out) explains all identifiers of the last two, the first of which is an earlier state of the last, a file in
    use: they are wrong, and used. The first has one that no rule explains.
    """
    path = data_dir / "dbc" / f"{name}.dbc"
    done = subprocess.run([sys.executable, "-m", "cansight", "dbc", "check", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    last = done.stdout.splitlines()[-1]
    assert last.replace(" error: ", " ").startswith(f"{path}:{says}")
    errors = [entry for entry in check_file(str(path))["repaired"] if entry["level"] == "error"]
    if loads:
        _, report = load_database(str(path))
        assert report.messages == len(errors)
        assert [entry["line"] for entry in errors][:11] == [45, 48, 55, 60, 63, 66, 72, 76, 82, 86, 89]
        assert compile_dbc([str(path)]).notes[0].startswith(f"{path}:{says}")
    else:
        with pytest.raises(DbcFileError) as raised:
            compile_dbc([str(path)])
        assert raised.value.line == 45
        assert str(raised.value) == last


def test_a_valid_identifier_beside_wrong_ones_is_enough_to_use_a_file(tmp_path: Path) -> None:
    """As in real files: the wrong message is an error of its own, the impossible one is left out."""
    file = tmp_path / "mixed.dbc"
    lines = [f'BO_ {number} M{number}: 8 X\n SG_ S : 0|8@1+ (1,0) [0|0] "" X\n' for number in (256, 419360256, 4294967295)]
    file.write_text("BU_: X\n\n" + "\n".join(lines))
    found = check_file(str(file))
    assert (found["loads"], found["error"], found["messages"]) == (True, None, 2)
    assert [(entry["line"], entry["level"]) for entry in found["repaired"]] == [(6, "error")]
    assert [entry["line"] for entry in found["skipped"]] == [9]
    done = subprocess.run([sys.executable, "-m", "cansight", "dbc", "check", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 1


def test_signals_under_a_multiplexer_that_no_raw_value_holds_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "wide.dbc"
    signals = (
        ' SG_ Which M : 0|72@1+ (1,0) [0|0] "" X',
        ' SG_ Of m1 : 72|8@1+ (1,0) [0|0] "" X',
        ' SG_ Always : 80|8@1+ (1,0) [0|0] "" X',
    )
    file.write_text("BU_: X\n\nBO_ 5 Wide: 16 X\n" + "\n".join(signals) + "\n")
    _, report = load_database(file)
    assert [entry.message for entry in sorted(report.skipped)] == ["Wide.Which", "Wide.Of"]
    assert "its multiplexer Which is left out" in sorted(report.skipped)[1].why
    assert report.signals == len(compile_dbc([str(file)]).schema.names) == 1


@pytest.mark.parametrize("form", ["kcd", "sym"])
@pytest.mark.parametrize("name", ["motohawk.dbc", "multiplex.dbc", "signed.dbc", "floating_point.dbc", "foobar.dbc"])
def test_kcd_and_sym_files_load_as_cantools_reads_them(data_dir: Path, tmp_path: Path, form: str, name: str) -> None:
    original = cantools.database.load_file(data_dir / "dbc" / "cantools" / name, strict=False)
    text = original.as_kcd_string() if form == "kcd" else original.as_sym_string()
    file = tmp_path / "named.after.nothing"  # the content decides
    file.write_bytes(text.encode("utf-8" if form == "kcd" else "cp1252"))
    read = cantools.database.load_string(text, form, strict=False)
    compiled = compile_dbc([str(file)])
    assert load_database(str(file))[1].format == form
    assert {str(name).split("@")[0] for name in compiled.plan.message_names} == {message.name for message in read.messages}
    assert len(compiled.schema) == sum(len(message.signals) for message in read.messages)
    for message in read.messages:
        for one in message.signals:
            at = compiled.schema.index(f"{message.name}.{one.name}")
            assert (compiled.schema.scale[at], compiled.schema.offset[at]) == (one.scale, one.offset)


def test_arxml_decodes(tmp_path: Path) -> None:
    file = tmp_path / "system.arxml"
    file.write_text(ARXML)
    compiled = load_compiled([f"{file}@drive"], tmp_path / "cache")
    payload = (4000 | (2**12 - 7) << 16 | 1 << 28).to_bytes(8, "little")
    signals = Decoder(compiled, ("drive",)).decode(one_frame("drive", 419360256 | EFF_FLAG, payload))
    values = dict(zip(compiled.schema.names, compiled.schema.physical(signals.raw, signals.signal), strict=True))
    assert values == {"Engine.Speed": 1000.0, "Engine.Torque": -507.0, "Engine.Ready": -499.0}


def one_frame(channel: str, identifier: int, payload: bytes) -> FrameBlock:
    import numpy as np

    return FrameBlock(
        channels=(channel,),
        timestamp_ns=np.zeros(1, np.int64),
        frame_id=np.array([identifier], np.uint32),
        channel=np.zeros(1, np.uint8),
        length=np.array([len(payload)], np.uint8),
        data=np.frombuffer(payload.ljust(8, b"\0"), np.uint8).reshape(1, 8).copy(),
        entered_ns=0,
    )


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("<AUTOSAR>", 1, "cannot be read as ARXML"),
        ('<?xml version="1.0"?>\n<AUTOSAR xmlns="http://autosar.org/schema/r4.0">\n<AR-PACKAGES>\n', 4, "cannot be read as ARXML"),
        ('<!DOCTYPE x [<!ENTITY a "aaaa">]>\n<NetworkDefinition>&a;</NetworkDefinition>', 1, "document type definition"),
        ("<NetworkDefinition>\n" + "<a>\n" * 5000, 201, "more than 200 elements"),
        ("<CANDELA></CANDELA>", None, "diagnostic description"),
        ('FormatVersion=5.0 // x\nTitle="t"\n', None, "Only SYM version 6.0"),
        ('FormatVersion=6.0 // x\nTitle="t"\n{SENDRECEIVE}\n["A"]\nID=zz\n', 5, "cannot be read as SYM: invalid syntax"),
        ("<html></html>", None, "is not a DBC file"),
        ("", None, "is not a DBC file"),
        ("hello\n", None, "is not a DBC file"),
        ('VERSION "\0"\nBU_: A\n', None, "is not a DBC file"),
    ],
)
def test_what_is_no_database_is_one_line(tmp_path: Path, text: str, line: int | None, says: str) -> None:
    file = tmp_path / "given"
    file.write_text(text)
    with pytest.raises(DbcFileError, match=says) as raised:
        compile_dbc([str(file)])
    assert raised.value.line == line
    assert str(raised.value).startswith(str(file))
    assert "\n" not in str(raised.value)


def test_opendbc_names() -> None:
    opendbc_files()
    compiled = compile_dbc(["opendbc:toyota_adas@left", "opendbc:toyota_nodsu_pt_generated@right"])
    assert compiled.schema.channels == ("left", "right")
    assert len(compiled.plan.message_names) > 80  # the generated one with the files that it imports
    with pytest.raises(DbcFileError, match=r"^opendbc:toyta_adas: .*did you mean toyota_adas"):
        compile_dbc(["opendbc:toyta_adas"])
    with pytest.raises(DbcFileError, match=r"^opendbc:/etc/passwd: .*no DBC of this name"):
        compile_dbc(["opendbc:/etc/passwd"])


def test_without_the_package_opendbc_a_name_of_it_is_one_line(tmp_path: Path) -> None:
    code = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'opendbc' else find(name, *more)\n"
        "from dbc.compiler import compile_dbc\ncompile_dbc(['opendbc:toyota_adas'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "opendbc:toyota_adas: the package opendbc is not installed; install it with `pip install opendbc`" in done.stderr


def test_loading_compiled_imports_neither_cantools_nor_opendbc(tmp_path: Path) -> None:
    opendbc_files()
    code = (
        "import sys, pathlib; from dbc.compiler import load_compiled\n"
        f"c = load_compiled(['opendbc:toyota_adas'], pathlib.Path({str(tmp_path)!r}))\n"
        "print(len(c.plan.message_names), 'cantools' in sys.modules, 'opendbc' in sys.modules)"
    )
    outputs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout for _ in range(2)]
    assert outputs == ["32 False False\n"] * 2
    assert len(list(tmp_path.iterdir())) == 1


def test_notes_of_the_report_are_in_the_cache_too(data_dir: Path, tmp_path: Path) -> None:
    file = data_dir / "dbc" / "kona-ev" / "pcan.dbc"
    for _ in range(2):
        (note,) = load_compiled([str(file)], tmp_path).notes
        assert note == f"{file}:3: NS_ is not followed by BS_: its symbols are not read"


# J1939


def test_j1939_is_told_by_the_file_not_by_a_default_alone(data_dir: Path) -> None:
    """GMLAN files have J1939PG as the default of VFrameFormat, and are none."""
    folder = data_dir / "logs" / "css_electronics"
    groups = {
        "CSS-Electronics-SAE-J1939-DEMO.dbc": [0xF004, 0xFEF1],
        "tp_j1939.dbc": [0xFEE3],
        "tp_nmea.dbc": [0x1F805],
        "tp_uds.dbc": [NOT_PGN, NOT_PGN],
    }
    for name, expected in groups.items():
        assert compile_dbc([str(folder / name)]).plan.message_pgn.tolist() == expected, name
    gmlan = compile_dbc([str(data_dir / "dbc" / "opendbc" / "gm_global_a_lowspeed.dbc")])
    assert set(gmlan.plan.message_pgn.tolist()) == {NOT_PGN}


def test_a_group_with_several_sources_is_several_messages(data_dir: Path, tmp_path: Path) -> None:
    file = str(data_dir / "logs" / "css_electronics" / "CSS-Electronics-SAE-J1939-DEMO.dbc")
    for compiled in (
        compile_dbc([file], {0xF004: [11, 0, 0], 0xFEF1: [3]}),
        load_compiled([file], tmp_path, {0xF004: [0, 11], 0xFEF1: [3]}),
    ):
        assert compiled.schema.names == ("EEC1.EngineSpeed@00", "EEC1.EngineSpeed@0B", "CCVS1.WheelBasedVehicleSpeed")
        assert compiled.plan.message_source.tolist() == [0, 11, 3]
        assert [key & 0xFF for key in compiled.plan.message_key.tolist()] == [0, 11, 3]
    plain = load_compiled([file], tmp_path)
    assert plain.schema.names == ("EEC1.EngineSpeed", "CCVS1.WheelBasedVehicleSpeed")
    assert plain.plan.message_source.tolist() == [ANY_SOURCE] * 2


# fuzzing


@pytest.fixture
def time_limit() -> Iterator[Any]:
    """Calls must end: the alarm interrupts even a regular expression that does not."""

    def ring(*_: object) -> None:
        raise AssertionError("an input takes too long")

    before = signal.signal(signal.SIGALRM, ring)
    yield lambda seconds: signal.alarm(seconds)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.timeout(7200 if SOAK else 300)
def test_damaged_files_give_a_database_or_one_line(data_dir: Path, tmp_path: Path, time_limit: Any) -> None:
    small = [path for path in sorted(data_dir.glob("**/*.dbc")) if path.stat().st_size < 20_000]
    good = [path.read_bytes() for path in small] + [ARXML.encode()] * 5
    for path in small[:40:8]:
        if loads_in_cantools(path):
            database: Any = cantools.database.load_file(path, strict=False)
            good += [database.as_kcd_string().encode(), database.as_sym_string().encode("cp1252", "replace")]
    seed = time.time_ns() if SOAK else 1
    rng = random.Random(seed)
    usable = 0
    for number in range(FUZZ_INPUTS):
        data = mutate(rng.choice(good), rng)
        time_limit(FUZZ_SECONDS)
        try:
            compiled = plan_files([(DbcFile("damaged", "can0"), data)])
            dump(compiled)
            assert not any("\n" in note for note in compiled.notes)
            usable += 1
        except DbcFileError as error:
            assert "\n" not in str(error)  # noqa: PT017
        except BaseException:
            kept = tmp_path / "damaged.dbc"
            kept.write_bytes(data)
            print(f"seed {seed}, input {number}, kept in {kept}")
            raise
        finally:
            time_limit(0)
    assert usable > FUZZ_INPUTS // 2


@pytest.mark.parametrize(
    "text",
    [
        "BO_ 1 A: 8 X\n" + "VAL_ 1 A " + '11 "x" ' * 4000 + "broken",
        "BO_ 1 A: 8 X\n" + "VAL_ 1 A " + '1"\\"' * 4000,
        'BO_ 1 A: 8 X\n SG_ A M : 0|8@1+ (1,0) [0|0] "" X\nSG_MUL_VAL_ 1 A A ' + "1-1" * 8000 + ";",
        'BO_ 1 A: 8 X\n SG_ A M : 0|8@1+ (1,0) [0|0] "" X\nSG_MUL_VAL_ 1 A A 0-99999999999999;\n',
        'BO_ 1 A: 99999999999 X\n SG_ A : 0|8@1+ (1,0) [0|0] "" X\n',
        'BO_ 1 A: 8 X\n SG_ A : 99999999999|99999999999@1+ (1,0) [0|0] "" X\n',
        'BO_ 1 A: 8 X\nBA_DEF_ "a" ENUM ' + " " * 60_000 + "x",
        "BO_ 1 A: 8 X\n" + 'CM_ "' * 20_000,
        "BO_ 1 A: 8 X\n" + "SG_ " + "A " * 50_000,
        "BO_ " * 50_000,
        "VERSION " + '"\\' * 50_000,
    ],
)
def test_texts_made_to_take_for_ever_or_all_memory_do_not(time_limit: Any, text: str) -> None:
    time_limit(FUZZ_SECONDS)
    try:
        plan_files([(DbcFile("made", "can0"), text.encode())])
    except DbcFileError as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_relative_paths_of_settings_are_of_their_folder_and_other_names_stay(tmp_path: Path) -> None:
    found = [absolute_argument(text, tmp_path) for text in ("a.dbc", "a.dbc@can1", "/b.dbc@x", "builtin:obd2@can0", "opendbc:toyota_adas")]
    assert found == [f"{tmp_path}/a.dbc", f"{tmp_path}/a.dbc@can1", "/b.dbc@x", "builtin:obd2@can0", "opendbc:toyota_adas"]
