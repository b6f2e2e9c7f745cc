"""UDS answers described by a DBC, overheard and reassembled; trouble codes of UDS."""

from pathlib import Path

import numpy as np
import pytest
from bus_frames import Frame, block_of, decoded, isotp_frames, one_by_one

from dbc.compiler import compile_dbc
from dbc.frames import EFF_FLAG
from dbc.protocols import Reassembler
from dbc.protocols.dtc import Dtc, Kind, from_answer
from dbc.protocols.trouble import TroubleCodes
from dbc.protocols.uds import answers

HEAD = 'VERSION ""\nNS_ :\nBS_:\nBU_:\n'


@pytest.fixture
def tp_uds(data_dir: Path) -> str:
    return f"{data_dir}/logs/css_electronics/tp_uds.dbc@bus0"


def battery(charge: int) -> bytes:
    """A Kona's answer to DID 0101: 59 bytes of which the fifth is the state of charge, half a per cent a step."""
    return bytes([0x62, 0x01, 0x01]) + bytes([0xFF, 0xF7, 0xE7, 0xFF, charge]) + bytes(51)


def test_a_did_of_several_frames_is_decoded_through_its_multiplexers(tp_uds: str) -> None:
    temperature = bytes([0x62, 0x01, 0x00]) + bytes(5) + bytes([0x80, 0x70]) + bytes(40)
    frames: list[Frame] = []
    pairs = [(0x7EC, frame) for frame in isotp_frames(battery(150))], [(0x7BB, frame) for frame in isotp_frames(temperature)]
    for row in zip(*pairs, strict=False):  # two ECUs answer at once
        frames += [(len(frames), identifier, frame) for identifier, frame in row]
    frames += [(len(frames), 0x7EC, frame) for frame in isotp_frames(battery(150))[len(pairs[1]) :]]
    for blocks in ([block_of(frames)], one_by_one(block_of(frames))):
        series, reassembler = decoded([tp_uds], blocks)
        assert series["Battery.M_SID_0x220101_StateOfChargeBMS"][1].tolist() == [75.0]
        assert series["Battery.service"][1].tolist() == [0x62]
        assert series["Battery.response"][1].tolist() == [0x101]
        assert "Temperature.M_SID_0x220100_IndoorTemp" not in series  # the file puts it under service 256, which a byte cannot be
        assert series["Temperature.M_SID_0x220100_OutdoorTemp"][1].tolist() == [0x70 / 2 - 40]
        assert reassembler.counts.messages == 2


def test_another_did_gives_no_value_of_this_one(tp_uds: str) -> None:
    other = bytes([0x62, 0x01, 0x05]) + bytes([200] * 50)
    frames: list[Frame] = [(at, 0x7EC, frame) for at, frame in enumerate(isotp_frames(other))]
    series, _ = decoded([tp_uds], [block_of(frames)])
    assert "Battery.M_SID_0x220101_StateOfChargeBMS" not in series
    assert series["Battery.response"][1].tolist() == [0x105]


def test_a_lost_frame_gives_no_value_at_all(tp_uds: str) -> None:
    frames: list[Frame] = [(at, 0x7EC, frame) for at, frame in enumerate(isotp_frames(battery(150)))]
    del frames[4]
    series, reassembler = decoded([tp_uds], [block_of(frames)])
    assert series == {}
    assert reassembler.counts.lost == 1


def test_a_single_frame_has_no_value_in_its_padding(tp_uds: str) -> None:
    frames: list[Frame] = [(0, 0x7EC, bytes.fromhex("0462010164ffffff")), (1, 0x7EC, bytes.fromhex("037f2278aaaaaaaa"))]
    series, _ = decoded([tp_uds], [block_of(frames)])
    assert series["Battery.response"][1].tolist() == [0x101]
    assert np.isnan(series["Battery.M_SID_0x220101_StateOfChargeBMS"][1]).all()
    assert series["Battery.service"][1].tolist() == [0x62, 0x7F]  # the second: a negative answer, "response pending"


def test_which_messages_are_answers(tp_uds: str, tmp_path: Path) -> None:
    found = answers(compile_dbc([tp_uds]).plan)
    assert set(found) == {0x7EC, 0x7BB}
    assert not any(answer.extended for answer in found.values())
    ordinary = tmp_path / "ordinary.dbc"
    ordinary.write_text(
        f'{HEAD}BO_ 100 Multiplexed: 8 X\n SG_ Page M : 8|8@1+ (1,0) [0|0] "" X\n SG_ A m98 : 16|8@1+ (1,0) [0|0] "" X\n'
        f'BO_ 101 Wide: 64 X\n SG_ Page M : 8|8@1+ (1,0) [0|0] "" X\n SG_ A m1 : 16|8@1+ (1,0) [0|0] "" X\n'
    )
    assert answers(compile_dbc([str(ordinary)]).plan) == {}


def test_extended_addressing_is_one_byte_further_on(tmp_path: Path) -> None:
    path = tmp_path / "extended.dbc"
    path.write_text(
        f"{HEAD}BO_ 1554 Gearbox: 40 X\n"
        ' SG_ Target : 0|8@1+ (1,0) [0|0] "" X\n SG_ Service M : 23|8@0+ (1,0) [0|0] "" X\n'
        ' SG_ Did m98M : 31|16@0+ (1,0) [0|0] "" X\n SG_ OilTemperature m17408 : 79|8@0+ (1,-40) [0|0] "degC" X\n'
        "SG_MUL_VAL_ 1554 Did Service 98-98;\nSG_MUL_VAL_ 1554 OilTemperature Did 17408-17408;\n"
    )
    answer = bytes([0x62, 0x44, 0x00]) + bytes(4) + bytes([130]) + bytes(12)
    frames: list[Frame] = [(at, 1554, frame) for at, frame in enumerate(isotp_frames(answer, b"\xf1"))]
    series, _ = decoded([f"{path}@bus0"], [block_of(frames)])
    assert series["Gearbox.OilTemperature"][1].tolist() == [90]
    assert series["Gearbox.Target"][1].tolist() == [0xF1]
    single: list[Frame] = [(0, 1554, bytes.fromhex("f103624400aaaaaa"))]
    series, _ = decoded([f"{path}@bus0"], [block_of(single)])
    assert series["Gearbox.Did"][1].tolist() == [0x4400]
    assert np.isnan(series["Gearbox.OilTemperature"][1]).all()


def test_ordinary_frames_of_the_bus_pass_unchanged(tp_uds: str) -> None:
    reassembler = Reassembler(compile_dbc([tp_uds]))
    block = block_of([(0, 0x123, bytes(8)), (1, 0x7EC | EFF_FLAG, bytes(8))])
    assert reassembler.feed(block) is block


def test_trouble_codes_of_uds_have_a_failure_type_and_a_status() -> None:
    report = from_answer(bytes.fromhex("5902ff 030111 2f c10000 04 900a1c 50".replace(" ", "")))
    assert report is not None
    assert report.codes == (
        Dtc("P0301-11", Kind.STORED, 0x2F),
        Dtc("U0100-00", Kind.PENDING, 0x04),
        Dtc("B100A-1C", Kind.PREVIOUS, 0x50),
    )
    assert not report.truncated
    cut = from_answer(bytes.fromhex("5902ff0301"))
    assert cut is not None
    assert cut.truncated


def test_trouble_codes_of_uds_are_overheard(tmp_path: Path) -> None:
    answer = bytes([0x59, 0x02, 0xFF]) + bytes.fromhex("0301112f") * 5
    frames: list[Frame] = [(at, 0x7EC, frame) for at, frame in enumerate(isotp_frames(answer))]
    events = list(TroubleCodes().feed(block_of(frames)))
    assert [str(code) for code in events[0].report.codes] == ["P0301-11"] * 5
    assert (events[0].identifier, events[0].channel) == (0x7EC, "bus0")


def test_padding_within_the_frame_is_no_value_either(tmp_path: Path) -> None:
    path = tmp_path / "short.dbc"
    path.write_text(
        f'{HEAD}BO_ 2024 Answer: 12 X\n SG_ Service M : 15|8@0+ (1,0) [0|0] "" X\n'
        ' SG_ First m98 : 39|8@0+ (1,0) [0|0] "" X\n SG_ Second m98 : 47|8@0+ (1,0) [0|0] "" X\n'
    )
    frames: list[Frame] = [(0, 0x7E8, bytes.fromhex("0462010107aaaaaa")), (1, 0x7E8, bytes.fromhex("056201010708aaaa"))]
    series, _ = decoded([f"{path}@bus0"], [block_of(frames)])
    assert series["Answer.First"][1].tolist() == [7, 7]
    assert np.array_equal(series["Answer.Second"][1], [np.nan, 8], equal_nan=True)
