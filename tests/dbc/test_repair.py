"""Repairing DBC text: each fault that cantools refuses a file for, one at a time, and that nothing else is changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cantools.database
import pytest

from dbc.dbc_file import DbcFile
from dbc.errors import DbcFileError
from dbc.load_report import LoadReport
from dbc.planner import load_database
from dbc.repair import repair_dbc
from dbc.repair_entries import cut_entries
from dbc.repair_text import database_format, decode_text

HEAD = 'VERSION ""\n\nBU_: ECU\n\n'
ENGINE = 'BO_ 256 Engine: 8 ECU\n SG_ Speed : 0|16@1+ (0.25,0) [0|8000] "rpm" ECU\n SG_ Torque : 16|16@1- (1,-500) [0|0] "Nm" ECU\n'
GEAR = 'BO_ 257 Gear: 8 ECU\n SG_ Now : 0|4@1+ (1,0) [0|15] "" ECU\n SG_ Next : 4|4@1+ (1,0) [0|15] "" ECU\n'
# A message of which cantools says that its identifier has more than 11 bits: the file is refused, whatever else is in it.
SPOILT = 'BO_ 2048 Spoilt: 8 ECU\n SG_ S : 0|8@1+ (1,0) [0|0] "" ECU\n'


def load(text: str | bytes) -> tuple[dict[str, Any], LoadReport]:
    """Messages by name, and the report."""
    data = text if isinstance(text, bytes) else text.encode()
    database, report = load_database(DbcFile("made.dbc", "can0"), data)
    return {message.name: message for message in database.messages}, report


def signals(message: Any) -> list[str]:
    return [signal.name for signal in message.signals]


def refused(text: str) -> bool:
    try:
        cantools.database.load_string(text, "dbc", strict=False)
    except Exception:  # noqa: BLE001  cantools raises many kinds
        return True
    return False


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        pytest.param('VERSION ""\n\nNS_ :\n  NS_DESC_\n\n' + ENGINE, 3, "NS_ is not followed by BS_", id="NS_ without BS_"),
        pytest.param(HEAD + ENGINE + 'CM_ SG_ 256 "no signal named";\n', 8, "names none: taken as about the message 256", id="CM_ SG_"),
        pytest.param(HEAD + ENGINE + 'CM_ 256 "no kind";\n', 8, "does not say what it is about", id="CM_ number"),
        pytest.param(HEAD + 'CM_ "no semicolon"\n' + ENGINE, 5, 'without ";"', id="CM_ without ;"),
        pytest.param(HEAD + ENGINE + 'CM_ BO_ 256 "never closed\n' + GEAR, 8, "CM_ cannot be read", id="CM_ never closed"),
        pytest.param(HEAD + ENGINE + 'VAL_ 256 Lever 1 "first" ;\n', 8, "there is no signal Lever in a message 256", id="unused VAL_"),
        pytest.param(HEAD + ENGINE + "SIG_VALTYPE_ 256 Lever : 1;\n", 8, "unused SIG_VALTYPE_", id="unused SIG_VALTYPE_"),
        pytest.param(HEAD + ENGINE + 'VAL_ 256 Speed 1 "first" 2 second ;\n', 8, "1 words of it are read", id="VAL_ damaged"),
        pytest.param(HEAD + ENGINE + 'VAL_ 256 Speed 1.5 "half" 2 "two" ;\n', 8, "1.5 is no whole number", id="VAL_ of a fraction"),
        pytest.param(HEAD + ENGINE.replace("256", "0x100"), 5, "identifier 0x100 is 256", id="hexadecimal identifier"),
        pytest.param(HEAD + ENGINE.replace("(0.25", "(.25"), 6, ".25 is read as 0.25", id="number without its zero"),
        pytest.param(HEAD + ENGINE.replace("[0|8000]", "[0|1.#INF]"), 6, "its range cannot be read", id="range"),
        pytest.param(HEAD + ENGINE.replace('"rpm" ECU', '"rpm"'), 6, "has no receiver", id="no receiver"),
        pytest.param(HEAD + ENGINE.replace('"rpm" ECU', '"rpm" ECU,,A-B'), 6, "its receivers cannot be read", id="receivers"),
        pytest.param(HEAD + ENGINE.replace('"rpm"', '"rpm'), 6, "its unit cannot be read", id="unit never closed"),
        pytest.param(HEAD + ENGINE.replace("8 ECU", "8"), 5, "has no sender", id="no sender"),
        pytest.param(HEAD + ENGINE + "what is this?\nand this\n", 8, "is no entry of a DBC", id="stray text"),
        pytest.param(HEAD + ENGINE + 'BA_ "Nothing" BO_ 256 5;\n', 8, "the attribute is not used", id="undefined attribute"),
        pytest.param(
            HEAD + ENGINE + 'BA_DEF_ BO_ "N" INT 0 9;\nBA_DEF_DEF_ "N" "x";\n', 9, "the attribute is not used", id="attribute's type"
        ),
        pytest.param(HEAD + ENGINE + "EV_ Broken 5;\n", 8, "not needed for decoding", id="environment variable"),
    ],
)
def test_what_is_not_needed_or_can_be_read_in_one_way_only_is_repaired(text: str, line: int, says: str) -> None:
    assert refused(text)
    messages, report = load(text)
    assert signals(messages["Engine"]) == ["Speed", "Torque"]
    assert messages["Engine"].frame_id == 256
    assert messages["Engine"].signals[0].scale == 0.25
    assert not report.skipped
    assert any(entry.line == line and says in entry.what for entry in report.repaired), report.repaired


@pytest.mark.parametrize(
    ("text", "line", "name", "says"),
    [
        pytest.param(ENGINE.replace("@1+", "@1"), 6, "Engine.Speed", "invalid syntax", id="no sign"),
        pytest.param(ENGINE.replace("0|16@", "0|x@"), 6, "Engine.Speed", "invalid syntax", id="no length"),
        pytest.param(ENGINE.replace("(0.25,0)", "(0.25)"), 6, "Engine.Speed", "invalid syntax", id="no offset"),
        pytest.param(ENGINE.replace("0|16@", "0|99999999@"), 6, "Engine.Speed", "no message has such a signal", id="monstrous"),
        pytest.param(ENGINE.replace("Speed :", "Speed mx :"), 6, "Engine.Speed", "is no multiplexer mark", id="mark"),
        pytest.param(ENGINE + "SIG_VALTYPE_ 256 Speed : x;\n", 8, "Engine.Speed", "SIG_VALTYPE_ entry cannot be read", id="float or not"),
        pytest.param(ENGINE + "SG_MUL_VAL_ 256 Speed Torque 1_3;\n", 8, "Engine.Speed", "SG_MUL_VAL_ entry cannot be read", id="selectors"),
    ],
)
def test_a_signal_that_cannot_be_read_for_certain_is_left_out_alone(text: str, line: int, name: str, says: str) -> None:
    assert refused(HEAD + text + GEAR + SPOILT)
    messages, report = load(HEAD + text + GEAR + SPOILT)
    assert signals(messages["Engine"]) == ["Torque"]
    assert signals(messages["Gear"]) == ["Now", "Next"]
    (skipped,) = report.skipped
    assert (skipped.line, skipped.message) == (line, name)
    assert says in skipped.why


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GEAR.replace("257 Gear:", "257 Gear"), "invalid syntax"),
        (GEAR.replace("257", "3221225473"), "has more than 29 bits"),
        (GEAR.replace("257", "1075054137"), "identifier 0x40140639 has more than 29 bits"),
        (GEAR.replace("257", "many"), "its identifier 'many' is not a number"),
        (GEAR.replace(": 8", ": -8"), "its length '-8'"),
        (GEAR.replace(": 8", ": 99999999"), "its length '99999999'"),
    ],
)
def test_a_message_that_cannot_be_read_is_left_out_alone(text: str, says: str) -> None:
    messages, report = load(HEAD + ENGINE + text + 'VAL_ 257 Now 1 "first" ;\n' + SPOILT)
    assert set(messages) == {"Engine", "Spoilt"}
    (skipped,) = report.skipped
    assert (skipped.line, skipped.message) == (8, "Gear")
    assert says in skipped.why


def test_an_identifier_over_11_bits_is_a_29_bit_one_and_its_entries_go_with_it() -> None:
    text = HEAD + ENGINE.replace("256", "419360256") + 'VAL_ 419360256 Speed 0 "still" ;\nSIG_VALTYPE_ 419360256 Torque : 0;\n'
    messages, report = load(text)
    assert (messages["Engine"].frame_id, messages["Engine"].is_extended_frame) == (419360256, True)
    assert str(messages["Engine"].signals[0].choices[0]) == "still"
    assert [(entry.line, "not bit 31" in entry.what) for entry in report.repaired] == [(5, True)]


def test_names_that_are_none_get_an_underscore_everywhere() -> None:
    text = HEAD + 'BO_ 1 2017_5: 8 X\n SG_ 0_COUNT : 0|8@1+ (1,0) [0|0] "" X\nVAL_ 1 0_COUNT 0 "none" ;\n'
    messages, report = load(text)
    assert signals(messages["_2017_5"]) == ["_0_COUNT"]
    assert str(messages["_2017_5"].signals[0].choices[0]) == "none"
    assert len(report.repaired) == 2


def test_signals_go_with_their_multiplexer() -> None:
    """Read without it they would be there in every frame, on top of each other."""
    mux = (
        'BO_ 300 Mux: 8 ECU\n SG_ Page M : 0|8@1 (1,0) [0|0] "" ECU\n SG_ A m0 : 8|8@1+ (1,0) [0|0] "" ECU\n'
        ' SG_ B m1 : 8|8@1+ (1,0) [0|0] "" ECU\n SG_ C : 16|8@1+ (1,0) [0|0] "" ECU\n'
    )
    messages, report = load(HEAD + mux)
    assert signals(messages["Mux"]) == ["C"]
    assert [entry.message for entry in sorted(report.skipped)] == ["Mux.Page", "Mux.A", "Mux.B"]
    later = mux.replace("@1 ", "@1+ ") + "SIG_VALTYPE_ 300 Page : ?;\n"
    assert signals(load(HEAD + later)[0]["Mux"]) == ["C"]


def test_ranges_of_selectors_are_bounded_by_the_multiplexer() -> None:
    mux = 'BO_ 300 Mux: 8 ECU\n SG_ Page M : 0|8@1+ (1,0) [0|0] "" ECU\n SG_ A m0 : 8|8@1+ (1,0) [0|0] "" ECU\n'
    messages, _ = load(HEAD + mux + "SG_MUL_VAL_ 300 A Page 3-4294967295;\n")
    assert sorted(messages["Mux"].get_signal_by_name("A").multiplexer_ids) == [0, *range(3, 256)]
    wide = mux.replace("0|8@", "0|32@").replace("8|8@", "32|8@")
    messages, report = load(HEAD + wide + ENGINE + "SG_MUL_VAL_ 300 A Page 3-4294967295;\n")
    assert signals(messages["Mux"]) == ["Page"]
    assert "at most 65536" in report.skipped[0].why


def test_a_message_that_cantools_refuses_for_a_reason_of_its_own_is_isolated() -> None:
    """Two multiplexers and a mark that cantools' arithmetic does not take: nothing that the entries show one by one."""
    text = HEAD + ENGINE + GEAR + 'BA_DEF_ "VFrameFormat" INT 0 3;\nBA_DEF_ BO_ "GenMsgCycleTime" INT 0 9;\n'
    text += 'BA_DEF_DEF_ "GenMsgCycleTime" 7;\nBA_ "VFrameFormat" 3;\n' + SPOILT
    messages, report = load(text)
    assert set(messages) == {"Engine", "Gear", "Spoilt"}
    assert any("the attributes are not used" in entry.what for entry in report.repaired)


def test_two_signals_of_one_name_are_told_apart() -> None:
    messages, report = load(HEAD + ENGINE.replace("Torque", "Speed"))
    assert signals(messages["Engine"]) == ["Speed", "Speed#2"]
    assert messages["Engine"].decode(bytes([4, 0, 1, 0, 0, 0, 0, 0])) == {"Speed": 1.0, "Speed#2": -499}
    assert "2 times" in report.repaired[0].what


def test_a_file_without_a_usable_message_is_one_line() -> None:
    with pytest.raises(DbcFileError, match=r"^made\.dbc:5: Engine: invalid syntax.*\(1 messages|^made\.dbc:5: Engine: invalid") as raised:
        load(HEAD + ENGINE.replace("Engine:", "Engine"))
    assert raised.value.line == 5


@pytest.mark.parametrize(
    ("encoding", "text", "said"),
    [
        ("utf-8", "°C 温度", 0),
        ("utf-8-sig", "°C 温度", 0),
        ("cp1252", "°C µ", 0),
        ("gb18030", "温度 转速", 1),
        ("utf-16", "°C 温度", 1),
        ("utf-16-le", "°C", 1),
    ],
)
def test_encodings(encoding: str, text: str, said: int) -> None:
    messages, report = load((HEAD + ENGINE.replace("rpm", text)).encode(encoding))
    assert messages["Engine"].signals[0].unit == text
    assert len(report.repaired) == said
    assert set(load((HEAD + ENGINE).replace("\n", "\r").encode(encoding))[0]) == {"Engine"}


def test_nul_padding_and_bytes_of_no_encoding() -> None:
    assert set(load((HEAD + ENGINE).encode() + bytes(300))[0]) == {"Engine"}
    messages, report = load((HEAD + ENGINE).encode().replace(b"rpm", b"\x81\xb0"))
    assert messages["Engine"].signals[0].unit == "�°"
    assert (report.repaired[0].line, "CP1252" in report.repaired[0].what) == (6, True)


def test_entries_are_cut_at_keywords_that_are_no_words_of_a_text() -> None:
    text = (
        'CM_ BO_ 1 "over\nBO_ 5 X: two lines";\nVAL_ 1 A 0 "a;b" 1 "c" ; VAL_ 1 B 0 "d" ;\n// BO_ 7 no\nCM_ "never\n'
        ' SG_ A : 0|8@1+ (1,0) [0|0] "" X\nNS_ :\n CM_\n BA_\n\nBS_:\n'
    )
    entries = [(entry.line, entry.keyword, entry.body) for entry in cut_entries(text)]
    assert entries == [
        (1, "CM_", 'CM_ BO_ 1 "over\nBO_ 5 X: two lines"'),
        (3, "VAL_", 'VAL_ 1 A 0 "a;b" 1 "c"'),
        (3, "VAL_", 'VAL_ 1 B 0 "d"'),
        (5, "CM_", 'CM_ "never'),
        (6, "SG_", 'SG_ A : 0|8@1+ (1,0) [0|0] "" X'),
        (7, "NS_", "NS_ :\n CM_\n BA_"),
        (11, "BS_", "BS_:"),
    ]


def test_repairing_changes_nothing_of_a_file_that_needs_none(data_dir: Path) -> None:
    """Every file that cantools takes, through the repair: the same messages and signals, to the last attribute that decoding needs."""
    compared = 0
    for path in sorted(data_dir.glob("**/*.dbc")):
        report = LoadReport(str(path), "dbc")
        text = decode_text(path.read_bytes(), report).replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
        try:
            before = described(cantools.database.load_string(text, "dbc", strict=False, sort_signals=None))
        except Exception:  # noqa: BLE001, S112  cantools raises many kinds; which files it refuses is another test's
            continue
        after = described(cantools.database.load_string(repair_dbc(text, report).text, "dbc", strict=False, sort_signals=None))
        assert after == before, path.name
        assert not report.skipped, path.name
        compared += len(before)
    assert compared > 3000


def described(database: Any) -> list[Any]:
    return [
        (
            *(
                message.frame_id,
                message.is_extended_frame,
                message.name,
                message.length,
                message.cycle_time,
                message.protocol,
                message.is_fd,
            ),
            [
                (
                    *(signal.name, signal.start, signal.length, signal.byte_order, signal.is_signed, signal.is_float, signal.scale),
                    *(signal.offset, signal.minimum, signal.maximum, signal.unit, signal.is_multiplexer, signal.multiplexer_ids),
                    *(signal.multiplexer_signal, signal.choices and {raw: str(word) for raw, word in signal.choices.items()}),
                )
                for signal in message.signals
            ],
        )
        for message in database.messages
    ]


def test_formats_are_told_by_their_content() -> None:
    assert database_format(HEAD) == "dbc"
    assert database_format('CM_ "IMPORT _common.dbc";\n') == "dbc"
    assert database_format('<?xml version="1.0"?>\n<!-- a --><AUTOSAR xmlns="x">') == "arxml"
    assert database_format('<NetworkDefinition xmlns="x">') == "kcd"
    assert database_format("// made by hand\nFormatVersion=6.0 // Do not edit this line!\n") == "sym"
    for other in ("", "hello\n", "<html>", "BOAT\n", "<"):
        assert database_format(other) is None
