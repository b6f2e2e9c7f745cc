"""OBD-II mode 01 by the built-in table, on hand-made answers and on a recorded drive; trouble codes of modes 03, 07 and 0A."""

from collections import Counter
from pathlib import Path

import cantools
import numpy as np
import pytest
from bus_frames import Frame, block_of, decoded, isotp_frames, log_blocks, one_by_one
from hypothesis import given
from hypothesis import strategies as st

from dbc.compiler import compile_dbc, load_compiled
from dbc.errors import DbcFileError
from dbc.protocols.dtc import Dtc, J1939Dtc, Kind, from_answer, from_group, j2012
from dbc.protocols.obd2 import builtin_text, split
from dbc.protocols.pids import PIDS
from dbc.protocols.trouble import TroubleCodes

ECU = 0x7E8

# (PID, data, quantity, value): worked by hand from the formulae of SAE J1979
WORKED = [
    (0x04, "ff", "CalculatedEngineLoad", 100),
    (0x05, "00", "EngineCoolantTemperature", -40),
    (0x06, "80", "ShortTermFuelTrimBank1", 0),
    (0x0A, "64", "FuelPressure", 300),
    (0x0C, "1af8", "EngineSpeed", 1726),
    (0x0D, "ff", "VehicleSpeed", 255),
    (0x0E, "80", "TimingAdvance", 0),
    (0x10, "ffff", "MassAirFlow", 655.35),
    (0x14, "5aff", "OxygenVoltageBank1Sensor1", 0.45),
    (0x14, "5a80", "OxygenFuelTrimBank1Sensor1", 0),
    (0x1F, "0102", "TimeSinceEngineStart", 258),
    (0x22, "03e8", "FuelRailPressureRelative", 79),
    (0x23, "0064", "FuelRailGaugePressure", 1000),
    (0x24, "80008000", "LambdaVoltageRatioBank1Sensor1", 1),
    (0x24, "80008000", "LambdaVoltageBank1Sensor1", 4),
    (0x32, "fffc", "EvaporativeVaporPressure", -1),
    (0x34, "80008000", "LambdaCurrentBank1Sensor1", 0),
    (0x3C, "1388", "CatalystTemperatureBank1Sensor1", 460),
    (0x42, "36b0", "ControlModuleVoltage", 14),
    (0x43, "00ff", "AbsoluteLoad", 100),
    (0x44, "8000", "CommandedLambda", 1),
    (0x4F, "01020304", "MaximumIntakePressure", 40),
    (0x53, "00c8", "AbsoluteEvaporativePressure", 1),
    (0x5D, "6900", "FuelInjectionTiming", 0),
    (0x5E, "0014", "EngineFuelRate", 1),
    (0x62, "7d", "ActualEngineTorque", 0),
    (0x64, "7d7e7f8081", "EngineTorquePoint4", 4),
    (0x67, "033c3d", "EngineCoolantTemperature2", 21),
    (0x7F, "0100000e1000000000000000ff", "EngineRunTime", 3600),
    (0xA6, "00000064", "Odometer", 10),
]


@pytest.mark.parametrize(("pid", "data", "name", "value"), WORKED)
def test_formulae(pid: int, data: str, name: str, value: float) -> None:
    answer = bytes([0x41, pid]) + bytes.fromhex(data)
    frames: list[Frame] = [(at, ECU, frame) for at, frame in enumerate(isotp_frames(answer))]
    series, _ = decoded(["builtin:obd2@bus0"], [block_of(frames)])
    assert series[f"OBD2_7E8.{name}"][1] == pytest.approx([value])
    assert series["OBD2_7E8.Pid"][1].tolist() == [pid]


def test_the_table_is_in_order_and_names_everything_once() -> None:
    numbers = [pid.number for pid in PIDS]
    assert len(set(numbers)) == len(numbers)
    names = Counter(quantity.name for pid in PIDS for quantity in pid.quantities)
    assert [name for name, count in names.items() if count > 1] == []
    for pid in PIDS:
        for quantity in pid.quantities:
            assert quantity.bit + quantity.bits <= 8 * pid.length, quantity.name
    assert len(PIDS) > 130


def test_the_built_in_dbc_is_a_dbc() -> None:
    message = cantools.database.load_string(builtin_text("builtin:obd2"), "dbc").messages[0]
    values = message.decode(bytes.fromhex("0441 0c1a f800 0000".replace(" ", "")).ljust(message.length, b"\0"))
    assert values["EngineSpeed"] == 1726


def test_other_ecus_are_named_by_their_identifiers(tmp_path: Path) -> None:
    compiled = load_compiled(["builtin:obd2/7E9,18DAF110@can1"], tmp_path)
    assert compiled.plan.message_names == ("OBD2_7E9", "OBD2_18DAF110")
    assert compiled.schema.channels == ("can1",)
    frames: list[Frame] = [(0, 0x98DAF110, bytes.fromhex("03410d32aaaaaaaa"))]
    series, _ = decoded(["builtin:obd2/7E9,18DAF110@bus0"], [block_of(frames)])
    assert series["OBD2_18DAF110.VehicleSpeed"][1].tolist() == [50]
    for wrong in ("builtin:obd3", "builtin:obd2/XY", "builtin:obd2/FFFFFFFF"):
        with pytest.raises(DbcFileError):
            compile_dbc([wrong])


@pytest.mark.parametrize("size", ["one frame", "several frames"])
def test_an_answer_of_several_pids_gives_each(size: str) -> None:
    answer = bytes.fromhex("410c1af80d32" if size == "one frame" else "410c1af80d320582046642369c")
    frames: list[Frame] = [(at, ECU, frame) for at, frame in enumerate(isotp_frames(answer))]
    frames.append((100, ECU, bytes.fromhex("03410d33aaaaaaaa")))
    for blocks in ([block_of(frames)], one_by_one(block_of(frames))):
        series, _ = decoded(["builtin:obd2@bus0"], blocks)
        assert series["OBD2_7E8.EngineSpeed"][1].tolist() == [1726]
        assert series["OBD2_7E8.VehicleSpeed"][1].tolist() == [50, 51]
        if size == "several frames":
            assert series["OBD2_7E8.EngineCoolantTemperature"][1].tolist() == [90]
            assert series["OBD2_7E8.ControlModuleVoltage"][1] == pytest.approx([13.98])
        stamps = series["OBD2_7E8.VehicleSpeed"][0]
        assert stamps.tolist() == [(len(frames) - 2) * 1_000_000, 100_000_000]


@given(st.binary(max_size=40))
def test_splitting_keeps_every_byte_or_stops(data: bytes) -> None:
    answer = bytes([len(data) + 1, 0x41]) + data
    parts = split(answer)
    whole = b"".join(part[2:] for part in parts)
    assert parts == [answer] or data.startswith(whole)


@pytest.mark.parametrize("head", ["490201", "62f190"])
def test_a_vin_is_not_put_together(tmp_path: Path, head: str) -> None:
    path = tmp_path / "vin.dbc"
    path.write_text(
        'VERSION ""\nNS_ :\nBS_:\nBU_:\nBO_ 2024 Answer: 30 X\n SG_ Service M : 15|8@0+ (1,0) [0|0] "" X\n'
        ' SG_ A m73 : 47|64@0+ (1,0) [0|0] "" X\n SG_ B m98 : 47|64@0+ (1,0) [0|0] "" X\n SG_ C m97 : 47|8@0+ (1,0) [0|0] "" X\n'
    )
    frames: list[Frame] = [(at, ECU, frame) for at, frame in enumerate(isotp_frames(bytes.fromhex(head) + b"WVWZZZ1KZ6W000001"))]
    assert decoded([f"{path}@bus0"], [block_of(frames)])[0] == {}
    frames = [(at, ECU, frame) for at, frame in enumerate(isotp_frames(bytes.fromhex("61f190") + bytes(20)))]
    assert "Answer.C" in decoded([f"{path}@bus0"], [block_of(frames)])[0]


def test_a_recorded_drive(data_dir: Path) -> None:
    folder = data_dir / "logs" / "css_electronics"
    series, reassembler = decoded(["builtin:obd2@bus0", f"{folder}/canmod-gps.dbc@bus1"], log_blocks(folder / "3BA199E2-obd2-gps.mf4"))
    ranges = {
        "EngineSpeed": (0, 3500),
        "VehicleSpeed": (0, 80),
        "EngineCoolantTemperature": (20, 100),
        "IntakeManifoldPressure": (20, 200),
        "ThrottlePosition": (10, 90),
        "CalculatedEngineLoad": (0, 100),
        "FuelLevel": (50, 56),
        "BarometricPressure": (98, 101),
        "ControlModuleVoltage": (11.5, 15),
        "ActualEngineTorque": (0, 100),
    }
    obd = {name.removeprefix("OBD2_7E8."): values for name, (_, values) in series.items() if name.startswith("OBD2_")}
    assert set(obd) == {"Service", "Pid", *ranges}
    for name, (low, high) in ranges.items():
        assert low <= obd[name].min() <= obd[name].max() <= high, name
    assert (np.diff(obd["EngineCoolantTemperature"]) >= -1).all()  # the engine warms up
    assert len(obd["Pid"]) == 6601
    assert (reassembler.counts.messages, reassembler.counts.dropped) == (6601, 0)
    # The car's own speed and the satellites' agree while it drives.
    at, by_car = series["OBD2_7E8.VehicleSpeed"]
    fixed = series["gnss_speed.SpeedValid"][1] == 1
    gnss_at, by_gnss = (part[fixed] for part in series["gnss_speed.Speed"])
    by_car = np.interp(gnss_at, at, by_car)
    assert np.corrcoef(by_car, by_gnss)[0, 1] > 0.98
    valid = series["gnss_pos.PositionValid"][1] == 1
    assert np.allclose(series["gnss_pos.Latitude"][1][valid], 56.1, atol=0.05)
    assert np.allclose(series["gnss_pos.Longitude"][1][valid], 10.2, atol=0.1)
    assert (np.diff(series["gnss_odo.DistanceTrip"][1]) >= 0).all()
    assert (np.diff(series["gnss_odo.DistanceTotal"][1]) >= 0).all()


def test_letters_of_codes() -> None:
    pairs = {"0301": "P0301", "1234": "P1234", "4123": "C0123", "900a": "B100A", "c100": "U0100", "ffff": "U3FFF"}
    assert {text: j2012(*bytes.fromhex(text)) for text in pairs} == pairs


def test_trouble_codes_of_obd() -> None:
    for service, kind in ((0x43, Kind.STORED), (0x47, Kind.PENDING), (0x4A, Kind.PERMANENT)):
        report = from_answer(bytes([service, 2]) + bytes.fromhex("03010420"))
        assert report is not None
        assert report.codes == (Dtc("P0301", kind), Dtc("P0420", kind))
    none = from_answer(bytes([0x43, 0]))
    assert none is not None
    assert none.codes == ()
    assert from_answer(bytes.fromhex("410c1af8")) is None


def test_trouble_codes_are_given_when_they_change() -> None:
    listener = TroubleCodes(answers=(0x612,))
    answers = [bytes.fromhex("4300"), bytes.fromhex("4300"), bytes.fromhex("43010301"), b"\x43\x05" + bytes.fromhex("0301") * 5]
    frames: list[Frame] = []
    for answer in answers:
        frames += [(len(frames), 0x612, frame) for frame in isotp_frames(answer)]
    events = [event for block in one_by_one(block_of(frames)) for event in listener.feed(block)]
    assert [len(event.report.codes) for event in events] == [0, 1, 5]


def test_trouble_codes_of_j1939_have_parameter_failure_and_count() -> None:
    # SPN 0x7F123 = 520483, FMI 7, count 5: low, middle, top three bits with the FMI
    report = from_group(0xFECA, bytes([0b0100_0001, 0xFF, 0x23, 0xF1, 0x7 << 5 | 7, 5, 0xFF, 0xFF]))
    assert report is not None
    assert report.codes == (J1939Dtc(0x7F123, 7, 5, Kind.ACTIVE, False),)
    assert not report.truncated
    assert report.lamps is not None
    assert (report.lamps.malfunction, report.lamps.red_stop, report.lamps.protect) == (True, False, True)
    none = from_group(0xFECB, bytes([0, 0xFF, 0, 0, 0, 0, 0xFF, 0xFF]))
    assert none is not None
    assert none.codes == ()
    assert from_group(0xF004, bytes(8)) is None
