"""J1939: matched by parameter group, source kept, transport reassembled; on hand-made frames and on two recorded trucks."""

import csv
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from bus_frames import Frame, block_of, decoded, log_blocks, one_by_one, transport_frames

from dbc.compiler import compile_dbc
from dbc.frames import EFF_FLAG
from dbc.protocols import HIDDEN, Reassembler, SourceSurvey
from dbc.protocols.dtc import J1939Dtc, Kind
from dbc.protocols.j1939 import Transport, pgn_of, pgns_of
from dbc.protocols.trouble import TroubleCodes

HEAD = 'VERSION ""\nNS_ :\nBS_:\nBU_:\n'
J1939PG = 'BA_DEF_ BO_ "VFrameFormat" ENUM "StandardCAN","ExtendedCAN","reserved","J1939PG";\nBA_DEF_DEF_ "VFrameFormat" "J1939PG";\n'


@pytest.fixture
def engine_dbc(tmp_path: Path) -> str:
    """EEC1 (PGN F004, PDU2), TSC1 (PGN 0, PDU1) and a group of 20 bytes, for any source address."""
    path = tmp_path / "engine.dbc"
    lines = [
        f"BO_ {0x0CF004FE | EFF_FLAG} EEC1: 8 X",
        ' SG_ EngineSpeed : 24|16@1+ (0.125,0) [0|8031.875] "rpm" X',
        f"BO_ {0x0C0000FE | EFF_FLAG} TSC1: 8 X",
        ' SG_ RequestedSpeed : 8|16@1+ (0.125,0) [0|8031.875] "rpm" X',
        f"BO_ {0x18FEE3FE | EFF_FLAG} EC1: 20 X",
        ' SG_ Last : 152|8@1+ (1,0) [0|255] "" X',
    ]
    path.write_text(HEAD + "\n".join(lines) + "\n" + J1939PG)
    return f"{path}@bus0"


def rpm(value: float) -> bytes:
    return bytes(3) + int(value * 8).to_bytes(2, "little") + bytes(3)


def test_the_group_of_an_identifier_leaves_out_priority_source_and_a_destination() -> None:
    identifiers = [0x0CF00400, 0x18F004FE, 0x0C00EF03, 0x18EBFF00, 0x1DF80523, 0x1CEF1234]
    groups = [0xF004, 0xF004, 0x0000, 0xEB00, 0x1F805, 0xEF00]
    assert [pgn_of(identifier) for identifier in identifiers] == groups
    flagged = np.array(identifiers, np.uint32) | np.uint32(EFF_FLAG)
    assert pgns_of(flagged).tolist() == groups


def test_any_priority_and_destination_match_and_the_first_source_is_kept(engine_dbc: str) -> None:
    frames: list[Frame] = [
        (0, 0x0CF00421 | EFF_FLAG, rpm(800)),
        (10, 0x18F00421 | EFF_FLAG, rpm(801)),
        (20, 0x0CF00400 | EFF_FLAG, rpm(5000)),  # another ECU
        (30, 0x0C001703 | EFF_FLAG, b"\0" + (900 * 8).to_bytes(2, "little") + bytes(5)),
        (40, 0x00F00421, rpm(1)),  # no 29-bit frame
    ]
    for blocks in ([block_of(frames)], list(one_by_one(block_of(frames)))):
        series, reassembler = decoded([engine_dbc], blocks)
        assert series["EEC1.EngineSpeed"][1].tolist() == [800, 801]
        assert series["TSC1.RequestedSpeed"][1].tolist() == [900]
        assert reassembler.sources == {("bus0", 0xF004): 0x21, ("bus0", 0): 3}


def test_a_source_that_the_dbc_names_takes_over_from_the_first_seen(tmp_path: Path) -> None:
    path = tmp_path / "declared.dbc"
    path.write_text(f'{HEAD}BO_ {0x0CF00400 | EFF_FLAG} EEC1: 8 X\n SG_ EngineSpeed : 24|16@1+ (0.125,0) [0|0] "rpm" X\n{J1939PG}')
    frames: list[Frame] = [
        (at, 0x0CF00400 | EFF_FLAG | source, rpm(100 * (at + 1))) for at, source in enumerate((0x21, 0x21, 0x00, 0x21, 0x00))
    ]
    series, _ = decoded([f"{path}@bus0"], one_by_one(block_of(frames)))
    assert series["EEC1.EngineSpeed"][1].tolist() == [100, 200, 300, 500]


def test_two_messages_of_one_group_are_told_apart_by_their_source(tmp_path: Path) -> None:
    path = tmp_path / "two.dbc"
    messages = "".join(
        f'BO_ {0x0CF00400 | EFF_FLAG | source} {name}: 8 X\n SG_ EngineSpeed : 24|16@1+ (0.125,0) [0|0] "rpm" X\n'
        for name, source in (("Main", 0x00), ("Second", 0x01))
    )
    path.write_text(HEAD + messages + J1939PG)
    frames: list[Frame] = [(at, 0x18F00400 | EFF_FLAG | source, rpm(100 * (at + 1))) for at, source in enumerate((0, 1, 2, 1))]
    series, _ = decoded([f"{path}@bus0"], [block_of(frames)])
    assert series["Main.EngineSpeed"][1].tolist() == [100]
    assert series["Second.EngineSpeed"][1].tolist() == [200, 400]


@pytest.mark.parametrize("destination", [0xFF, 0x17])
def test_a_group_of_several_frames_arrives_with_its_last_frame(engine_dbc: str, destination: int) -> None:
    payload = bytes(range(20))
    frames: list[Frame] = [(10 * at, i | EFF_FLAG, data) for at, (i, data) in enumerate(transport_frames(0xFEE3, payload, 5, destination))]
    series, reassembler = decoded([engine_dbc], one_by_one(block_of(frames)))
    stamps, values = series["EC1.Last"]
    assert values.tolist() == [19]
    assert stamps.tolist() == [frames[-1][0] * 1_000_000]
    assert reassembler.counts.messages == 1
    assert reassembler.held_bytes == 0


def test_transports_of_several_senders_interleave(engine_dbc: str) -> None:
    pairs = [transport_frames(0xFECA, bytes([source]) * 30, source) for source in range(8)]
    transport = Transport()
    groups = [transport.feed(0, i, 0, data) for row in zip(*pairs, strict=True) for i, data in row]
    assert [group.payload for group in groups if group] == [bytes([source]) * 30 for source in range(8)]


def test_a_broadcast_with_a_missing_packet_is_dropped_and_counted() -> None:
    transport = Transport()
    frames = transport_frames(0xFECA, bytes(40), 3)
    del frames[3]
    assert [transport.feed(0, i, 0, data) for i, data in frames] == [None] * len(frames)
    assert (transport.counts.lost, transport.counts.messages) == (1, 0)
    assert transport.held_bytes == 0


def test_a_packet_that_the_receiver_asks_for_again_fills_the_gap() -> None:
    transport = Transport()
    payload = bytes(range(40))
    request, *data = transport_frames(0xFECA, payload, 3, 9)
    for i, part in (request, *data[:2], *data[3:]):
        assert transport.feed(0, i, 0, part) is None
    clear_to_send = (0x1CEC0309, bytes([17, 1, 3, 255, 255, 0xCA, 0xFE, 0]))
    assert transport.feed(0, clear_to_send[0], 0, clear_to_send[1]) is None
    group = transport.feed(0, *(data[2][0], 0, data[2][1]))
    assert group is not None
    assert (group.pgn, group.source, group.destination, group.payload) == (0xFECA, 3, 9, payload)


@pytest.mark.parametrize(
    "announcement", ["20280005ff00ef00", "20280007ff00ef00", "20080002ff00ef00", "20faffffff00ef00", "102800", "20280006"]
)
def test_announcements_that_contradict_themselves_are_counted(announcement: str) -> None:
    transport = Transport()
    transport.feed(0, 0x1CECFF03, 0, bytes.fromhex(announcement))
    assert (transport.counts.malformed, transport.held_bytes) == (1, 0)


@pytest.mark.parametrize("gap_ms", [1251, -1251])
def test_silence_by_the_frames_own_stamps_ends_a_transfer(gap_ms: int) -> None:
    transport = Transport()
    frames = transport_frames(0xFECA, bytes(40), 3)
    for i, data in frames[:-1]:
        transport.feed(0, i, 0, data)
    assert transport.feed(0, frames[-1][0], gap_ms * 1_000_000, frames[-1][1]) is None
    assert transport.counts.timed_out == 1


def test_abort_and_a_new_announcement_end_the_one_before() -> None:
    transport = Transport()
    frames = transport_frames(0xFECA, bytes(40), 3, 9)
    for i, data in frames[:2]:
        transport.feed(0, i, 0, data)
    transport.feed(0, 0x1CEC0309, 0, bytes([255, 1, 255, 255, 255, 0xCA, 0xFE, 0]))  # from the receiver
    assert (transport.counts.aborted, transport.held_bytes) == (1, 0)
    assert [transport.feed(0, i, 0, data) for i, data in frames[:1] + frames][-1] is not None
    assert transport.counts.aborted == 2


def test_the_extended_transport_counts_packets_from_its_offset() -> None:
    transport = Transport()
    payload = bytes(number & 0xFF for number in range(2000))
    pgn = (0xEF00).to_bytes(3, "little")
    assert transport.feed(0, 0x1CC80903, 0, bytes([20]) + (2000).to_bytes(4, "little") + pgn) is None
    packets = [payload[at : at + 7].ljust(7, b"\xff") for at in range(0, 2000, 7)]
    group = None
    for first in range(0, len(packets), 200):
        transport.feed(0, 0x1CC80903, 0, bytes([22, 200]) + first.to_bytes(3, "little") + pgn)
        for number, packet in enumerate(packets[first : first + 200], 1):
            group = transport.feed(0, 0x1CC70903, 0, bytes([number]) + packet)
    assert group is not None
    assert (group.pgn, group.payload) == (0xEF00, payload)


def test_what_belongs_to_no_message_gets_an_identifier_that_no_dbc_has(engine_dbc: str) -> None:
    reassembler = Reassembler(compile_dbc([engine_dbc]))
    frames: list[Frame] = [(0, 0x0CF00400 | EFF_FLAG, rpm(1)), (1, 0x0CF004FE | EFF_FLAG, rpm(2))]
    out = reassembler.feed(block_of(frames))  # the second has the very identifier of the plan, and is of another ECU
    assert out.frame_id.tolist() == [0x0CF004FE | EFF_FLAG, 0x0CF004FE | EFF_FLAG | HIDDEN]


def test_a_dbc_without_such_messages_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "plain.dbc"
    path.write_text(f'{HEAD}BO_ 5 Plain: 8 X\n SG_ A : 0|8@1+ (1,0) [0|0] "" X\n')
    reassembler = Reassembler(compile_dbc([str(path)]))
    block = block_of([(0, 5, bytes(8)), (1, 0x9CECFF00, bytes(8))])
    assert not reassembler.needed
    assert reassembler.feed(block) is block


def test_a_recorded_machine_with_j1939_and_gnss(data_dir: Path) -> None:
    folder = data_dir / "logs" / "css_electronics"
    files = [f"{folder}/CSS-Electronics-SAE-J1939-DEMO.dbc@bus0", f"{folder}/tp_j1939.dbc@bus0", f"{folder}/canmod-gps.dbc@bus1"]
    series, reassembler = decoded(files, log_blocks(folder / "11111111-j1939-gnss.mf4"))
    stamps, speed = series["EEC1.EngineSpeed"]
    assert len(speed) == 12_719
    assert 600 < speed.min() < speed.max() < 700  # at idle
    assert np.allclose(np.diff(stamps).mean() / 1e6, 10, rtol=0.01)  # ms: EEC1 comes every 10 ms
    assert series["CCVS1.WheelBasedVehicleSpeed"][1].tolist() == [0.0] * 1272
    assert set(series["EC1.EngineSpeedAtPoint5"][1]) == {1675.0}  # 40 bytes over BAM
    latitude, longitude = series["gnss_pos.Latitude"][1], series["gnss_pos.Longitude"][1]
    assert np.ptp(latitude) < 0.001
    assert np.ptp(longitude) < 0.001
    assert 41 < latitude.mean() < 42
    assert -93 < longitude.mean() < -92
    assert 200 < series["gnss_altitude.Altitude"][1].mean() < 300
    assert (np.diff(series["gnss_time.Epoch"][1]) > 0).all()
    assert (np.diff(series["gnss_odo.DistanceTrip"][1]) >= 0).all()
    assert reassembler.counts.messages == 152
    assert reassembler.counts.dropped == 0


def test_a_recorded_truck_at_standstill(data_dir: Path) -> None:
    folder = data_dir / "logs" / "css_electronics"
    series, reassembler = decoded([f"{folder}/CSS-Electronics-SAE-J1939-DEMO.dbc@bus0"], log_blocks(folder / "j1939-truck.mf4"))
    assert {name: len(values) for name, (_, values) in series.items()} == {"EEC1.EngineSpeed": 3993, "CCVS1.WheelBasedVehicleSpeed": 3993}
    assert not series["EEC1.EngineSpeed"][1].any()
    assert not series["CCVS1.WheelBasedVehicleSpeed"][1].any()
    assert reassembler.sources == {("bus0", 0xF004): 0, ("bus0", 0xFEF1): 0}


def test_a_recorded_machine_reports_its_active_codes(data_dir: Path) -> None:
    codes = TroubleCodes()
    blocks = log_blocks(data_dir / "logs" / "css_electronics" / "11111111-j1939-gnss.mf4")
    events = [event for block in blocks for event in codes.feed(block)]
    assert len(events) == 1  # the same report again is no news
    report = events[0].report
    assert [(code.spn, code.fmi) for code in report.codes if isinstance(code, J1939Dtc)] == [(980, 9), (3216, 20), (609, 9), (609, 12)]
    assert {code.kind for code in report.codes} == {Kind.ACTIVE}
    assert report.lamps is not None
    assert report.lamps.malfunction is True


def test_a_first_pass_finds_the_sources_of_each_group(engine_dbc: str, data_dir: Path) -> None:
    compiled = compile_dbc([engine_dbc])
    survey = SourceSurvey(compiled)
    frames: list[Frame] = [(0, 0x0CF00421 | EFF_FLAG, rpm(1)), (1, 0x0CF00400 | EFF_FLAG, rpm(1)), (2, 0x0CF00300 | EFF_FLAG, rpm(1))]
    frames += [(3, identifier | EFF_FLAG, data) for identifier, data in transport_frames(0xFEE3, bytes(20), 7)]
    for block in one_by_one(block_of(frames)):
        survey.feed(block)
    assert survey.sources == {0xF004: (0, 0x21), 0xFEE3: (7,)}
    folder = data_dir / "logs" / "css_electronics"
    survey = SourceSurvey(compile_dbc([f"{folder}/CSS-Electronics-SAE-J1939-DEMO.dbc", f"{folder}/tp_j1939.dbc"]))
    for block in log_blocks(folder / "FCBF0606-00000001.mf4"):
        survey.feed(block)
    assert survey.sources == {0xF004: (0,), 0xFEF1: (71,), 0xFEE3: (0,)}


def test_log_decode_gives_each_source_signals_of_its_own(data_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "transmission.dbc"
    path.write_text(
        f'{HEAD}BO_ {0x18F003FE | EFF_FLAG} EEC2: 8 X\n SG_ AcceleratorPedal : 8|8@1+ (0.4,0) [0|100] "%" X\n'
        f'BO_ {0x0CF004FE | EFF_FLAG} EEC1: 8 X\n SG_ EngineSpeed : 24|16@1+ (0.125,0) [0|8031.875] "rpm" X\n{J1939PG}'
    )
    log = data_dir / "logs" / "css_electronics" / "j1939-truck.mf4"
    table = tmp_path / "out.csv"
    command = [sys.executable, "-m", "cansight", "log", "decode", str(log), "--dbc", f"{path}@can0", "-o", str(table)]
    subprocess.run(command, env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)}, check=True, capture_output=True)
    with table.open() as file:
        signals = Counter(row["signal"] for row in csv.DictReader(file))
    assert signals == {"AcceleratorPedal@00": 7989, "AcceleratorPedal@21": 7975, "EngineSpeed": 3993}
