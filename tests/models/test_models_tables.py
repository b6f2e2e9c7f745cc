"""Tables: what is read, what is refused with file, line and column, and which signals nothing can be learned from."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from thermal_loop import NAMES, drive, write_csv

from dbc.catalogue import Catalogue, SignalEntry, Words
from dbc.compiler import compile_dbc
from dbc.vehicles import DBC_FILES
from models.errors import TrainingDataError
from models.screening import screen
from models.table_files import Layout
from models.tables import Drive, Table, check_pace, fingerprint, read_table, read_tables


def test_a_csv_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    values = drive(1, ticks=20)
    table = read_tables([str(write_csv(tmp_path / "a.csv", values))])
    assert table.names == NAMES
    np.testing.assert_allclose(table.drives[0].values, values, rtol=1e-9)
    assert (np.diff(table.drives[0].tick_ms) == 1000).all()


def test_semicolons_byte_order_marks_dates_and_empty_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\ufeffdatetime;Pressure;Flow\n2020-03-09 10:14:33;0.5;1\n2020-03-09 10:14:34;;2\n\n", encoding="utf-8")
    table = read_tables([str(path)])
    assert table.names == ("Pressure", "Flow")
    assert table.drives[0].tick_ms.tolist() == [1583748873000, 1583748874000]
    assert np.isnan(table.drives[0].values[1, 0])


def test_a_trucks_log_is_put_together_as_on_the_vehicle_and_frames_of_another_car_are_told(tmp_path: Path) -> None:
    """J1939 goes by parameter group, whatever the source address, and a long group comes in several frames."""
    head = 'VERSION ""\n\nNS_ :\n\nBS_:\n\nBU_: X\n\n'
    speed = f'BO_ {0x8CF004FE} EEC1: 8 X\n SG_ EngineSpeed : 24|16@1+ (0.125,0) [0|8031.875] "rpm" X\n\n'
    group = f'BO_ {0x98FF10FE} Long: 9 X\n SG_ Ninth : 64|8@1+ (1,0) [0|250] "" X\n\n'
    j1939 = 'BA_DEF_ BO_ "VFrameFormat" ENUM "StandardCAN","ExtendedCAN","reserved","J1939PG";\nBA_DEF_DEF_ "VFrameFormat" "J1939PG";\n'
    (tmp_path / "truck.dbc").write_text(head + speed + group + j1939)
    lines = []
    for second in range(30):
        raw = 8 * (700 + second)
        lines += [f"({1000 + second}.1) can0 0CF00421#000000{raw & 255:02X}{raw >> 8:02X}000000"]
        lines += [f"({1000 + second}.2) can0 1CECFF21#20090002FF10FF00", f"({1000 + second}.3) can0 1CEBFF21#0101020304050607"]
        lines += [f"({1000 + second}.4) can0 1CEBFF21#0208{second:02X}FFFFFFFFFF"]
    path = tmp_path / "truck.log"
    path.write_text("\n".join(lines) + "\n")
    table = read_table([str(path)], [str(tmp_path / "truck.dbc")])
    assert table.names == ("EEC1.EngineSpeed", "Long.Ninth")
    np.testing.assert_array_equal(table.drives[0].values, [(700.0 + second, second) for second in range(30)])
    assert table.notes == ()
    rows = [f"{second}100000,0CF00421,true,Rx,0,8,00,00,00,{700 * 8 % 256:02X},{700 * 8 // 256:02X},00,00,00," for second in range(1, 31)]
    gvret = tmp_path / "truck.csv"  # a table by its name
    gvret.write_text("\n".join(["Time Stamp,ID,Extended,Dir,Bus,LEN,D1,D2,D3,D4,D5,D6,D7,D8", *rows]) + "\n")
    assert read_table([str(gvret)], [str(tmp_path / "truck.dbc")], ["EEC1.*"]).drives[0].values[:, 0].tolist() == [700.0] * 30
    path.write_text("\n".join([*lines, "no frame", *(f"({1000 + second}.5) can0 123#00" for second in range(30) for _ in range(9))]) + "\n")
    unknown, broken = read_table([str(path)], [str(tmp_path / "truck.dbc")]).rows(0, 10).notes
    assert "the DBC has no message for 69% of its frames; is it of this vehicle, and of this channel?" in unknown
    assert broken.endswith("truck.log: 1 lines are no frames, the first is line 121")


def test_globs_choose_signals(tmp_path: Path) -> None:
    path = str(write_csv(tmp_path / "a.csv", drive(1, ticks=5)))
    assert read_tables([path], ["Loop.*"]).names == ("Loop.Flow", "Loop.OutletTemperature")
    with pytest.raises(TrainingDataError, match=r"no signal of the table fits 'Engine\.\*'"):
        read_tables([path], ["Engine.*"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ":1: expected a header"),
        ("1,2,3\n4,5,6\n", ":1: expected a header"),
        ("a,a\n1,2\n", ":1: the column 'a' is there twice"),
        ("a,b\n1,2\n3\n", ":3: 1 fields, expected the header's 2"),
        ("a,b\n1,2\n3,x\n", ":3: column 'b': expected a number, found 'x'"),
        ("timestamp,b\nyesterday,2\n", ":2: expected a time"),
        ("timestamp,b\nnan,2\n", ":2: expected a time"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(TrainingDataError) as caught:
        read_tables([str(path)])
    assert str(caught.value).startswith(f"{path}{words}")


def test_binary_and_missing_files_and_other_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(bytes(range(256)))
    with pytest.raises(TrainingDataError, match="not a CSV file"):
        read_tables([str(tmp_path / "a.csv")])
    with pytest.raises(TrainingDataError, match="cannot be read: No such file"):
        read_tables([str(tmp_path / "b.csv")])
    (tmp_path / "c.csv").write_text("a,b\n1,2\n")
    (tmp_path / "d.csv").write_text("a,c\n1,2\n")
    with pytest.raises(TrainingDataError, match="its columns are not those of"):
        read_tables([str(tmp_path / "c.csv"), str(tmp_path / "d.csv")])


def test_screening_says_why_a_signal_is_not_used() -> None:
    random = np.random.default_rng(5)
    n = 600
    walk = np.cumsum(random.normal(size=n))
    noise = random.normal(size=n)
    columns = {
        "M.Temperature": walk,
        "M.Current": noise,
        "M.Constant": np.full(n, 3.0),
        "M.Never": np.full(n, np.nan),
        "M.Rarely": np.where(random.random(n) < 0.5, walk + noise, np.nan),
        "M.AliveCounter": noise + walk,
        "M.Msg_cnt": noise - walk,
        "M.Running": np.arange(n) * 10 % 16.0,
        "M.Sum": random.integers(0, 256, n).astype(float),
        "M.Relay": (walk > 0).astype(float),
        "M.TemperatureFahrenheit": walk * 1.8 + 32,
        "M.Negative": -noise,
        "Counter.Speed": walk**2,
    }
    table = Table(tuple(columns), ("",) * len(columns), (Drive("a", np.arange(n) * 1000, np.stack(list(columns.values()), axis=1)),))
    keep, dropped = screen(table, table.drives)
    assert table.choose(keep).names == ("M.Temperature", "M.Current", "Counter.Speed")
    assert dropped["M.Constant"] == "constant"
    assert dropped["M.Never"] == "never valid"
    assert dropped["M.Rarely"].startswith("valid in ")
    assert dropped["M.AliveCounter"] == dropped["M.Msg_cnt"] == "counter or checksum by its name"
    assert dropped["M.Running"] == "counter by its behaviour"
    assert dropped["M.Sum"] == "checksum by its behaviour"
    assert dropped["M.Relay"] == "switch"
    assert dropped["M.TemperatureFahrenheit"] == "copy of M.Temperature"
    assert dropped["M.Negative"] == "copy of M.Current"


def test_the_fingerprint_is_of_the_values_and_not_of_the_files(tmp_path: Path) -> None:
    values = drive(1, ticks=5)
    one = read_tables([str(write_csv(tmp_path / "a.csv", values))])
    two = read_tables([str(write_csv(tmp_path / "b.csv", values))])
    assert fingerprint(one) == fingerprint(two)
    values[0, 0] += 0.1
    assert fingerprint(read_tables([str(write_csv(tmp_path / "c.csv", values))])) != fingerprint(one)


def test_parquet_is_read_as_csv_is(tmp_path: Path) -> None:
    values = drive(1, ticks=30)
    written = read_tables([str(write_csv(tmp_path / "a.csv", values))])
    (one,) = written.drives
    columns = {name: one.values[:, at] for at, name in enumerate(written.names)}
    columns["Loop.Flow"] = np.where(np.arange(len(one.tick_ms)) == 3, np.nan, columns["Loop.Flow"])
    for name, time in {"timestamp": one.tick_ms / 1000, "time": one.tick_ms.astype("datetime64[ms]")}.items():
        pq.write_table(pa.table({name: time} | columns), tmp_path / f"{name}.parquet")
        read = read_tables([str(tmp_path / f"{name}.parquet")])
        assert read.names == written.names
        np.testing.assert_array_equal(read.drives[0].tick_ms, one.tick_ms)
        np.testing.assert_array_equal(read.drives[0].values, np.column_stack(list(columns.values())))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"timestamp": [1.0, 2.0], "Loop.Flow": ["a", "b"]}, r"column 'Loop\.Flow': expected numbers, found string"),
        ({"timestamp": [1.0, None], "Loop.Flow": [1.0, 2.0]}, r"column 'timestamp': row 2 has no time"),
        ({"timestamp": [1.0, 2.0]}, r"expected a time and at least one signal"),
    ],
)
def test_a_parquet_file_that_is_no_drive_is_one_line(tmp_path: Path, columns: dict[str, list[object]], words: str) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(TrainingDataError, match=f"^{path}: {words}"):
        read_tables([str(path)])
    path.write_bytes(b"PAR1 no")
    with pytest.raises(TrainingDataError, match=f"^{path}: not a Parquet file"):
        read_tables([str(path)])


def test_with_a_dbc_a_table_s_columns_are_its_signals(tmp_path: Path) -> None:
    schema = compile_dbc(DBC_FILES).schema
    names = ["TMS_BatteryLoop.BatteryCoolantFlow", "BMS_Thermal.CellTemperatureMean"]
    path = tmp_path / "a.csv"
    path.write_text("timestamp," + ",".join(names) + "\n1,2,3\n2,4,5\n")
    table = read_table([str(path)], DBC_FILES)
    assert table.schema is not None
    assert sorted(table.names) == sorted(names)
    assert table.columns is not None
    assert [schema.names[column] for column in table.columns] == list(table.names)
    assert table.drives[0].values[:, table.names.index(names[0])].tolist() == [2.0, 4.0]
    path.write_text("timestamp,Loop.Flow\n1,2\n")
    with pytest.raises(TrainingDataError, match=r"the DBC has no signal 'Loop\.Flow'"):
        read_table([str(path)], DBC_FILES)
    with pytest.raises(TrainingDataError, match="expected all tables or all CAN logs"):
        read_table([str(path), "drive.log"], DBC_FILES)


def test_nothing_that_says_when_which_drive_or_whose_car_is_learned_from() -> None:
    """Row number, elapsed time, distance, length of the file: a detector that knows them has learned its files."""
    random = np.random.default_rng(5)

    def one(number: int, ticks: int) -> np.ndarray:
        rows = np.arange(ticks)
        walk = np.cumsum(random.normal(0, 1, ticks))
        columns = {
            "M.Temperature": walk,
            "M.Row": rows,
            "M.TripSeconds": rows * 1.003 + 0.2,
            "M.GlblClkSecond": walk + 1,
            "M.Distance": 1000 * number + np.cumsum(random.uniform(0, 30, ticks)),
            "M.FuelCount": np.cumsum(random.integers(0, 60, ticks)) % 256,
            "M.ChargeLeft": 80 - 0.1 * (rows // 12),
            "M.Rows": np.full(ticks, ticks),
            "M.ConfigBits": 2.0**40 + random.integers(0, 2**20, ticks),
            "M.Mode": random.choice([0.0, 2.0, 3.0, 7.0, 9.0, 12.0], ticks),
            "M.VinPart": random.normal(0, 1, ticks),
            "M.OwnerNumber": random.normal(0, 1, ticks),
            "M.Gear": np.clip(np.round(3 + np.cumsum(random.choice([-0.5, 0, 0.5], ticks)) % 5), 1, 8),
        }
        names[:] = columns
        return np.column_stack(list(columns.values())).astype(np.float64)

    names: list[str] = []
    drives = [Drive(str(number), 1000 * np.arange(200 + 13 * number), one(number, 200 + 13 * number)) for number in range(5)]
    table = Table(tuple(names), ("",) * len(names), tuple(drives))
    catalogue = Catalogue("car", {}, {}, {"M.OwnerNumber": SignalEntry("M.OwnerNumber", "", "", "identity", Words("owner", "车主"))}, {})
    everything = range(len(names))
    for context in ((), everything):  # nor as context: it would gate on the file
        keep, dropped = screen(table, table.drives, context, catalogue)
        assert {"M.Temperature"} <= set(table.choose(keep).names) <= {"M.Temperature", "M.Gear"}
        assert dropped["M.Row"] == "clock or distance by its name"
        assert dropped["M.GlblClkSecond"] == "clock or distance by its name"
        for total in ("M.TripSeconds", "M.Distance", "M.FuelCount", "M.ChargeLeft"):
            assert dropped[total].startswith("only rises or only falls")
        assert dropped["M.Rows"].startswith("constant in each drive and different in all")
        assert dropped["M.ConfigBits"].startswith("code by its size")
        assert dropped["M.Mode"] == "enumeration by its behaviour"
        assert dropped["M.VinPart"] == dropped["M.OwnerNumber"] == "identity: says whose car it is"


def test_what_moves_both_ways_is_no_total_whatever_its_resolution() -> None:
    ticks = np.arange(600)
    warming = np.round(20 + 60 * (1 - np.exp(-ticks / 150)) + 0.6 * np.sin(ticks / 9))
    torque = np.where(ticks % 90 < 8, 4.0 * (ticks % 90) ** 2, 0.0)
    outside = 24 + 0.5 * (ticks // 250)
    table = Table(
        ("M.Coolant", "M.BrakeTorque", "M.Outside"), ("",) * 3, (Drive("one", 1000 * ticks, np.column_stack([warming, torque, outside])),)
    )
    keep, dropped = screen(table, table.drives)
    assert dropped == {}
    assert len(keep) == 3


def test_a_layout_says_what_a_table_does_not_say_of_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.csv"
    path.write_text("remark|when|flow|rate|label\ncold, dark|2020-01-01 00:00:00|1|2|0\n|2020-01-01 00:05:00|3|4|1\n")
    for column in ("when", "1"):
        table = read_tables(
            [str(path)], layout=Layout(time_column=column, separator="|", ignore=("remark", "lab*", "nothing"), period_s=300)
        )
        (drive,) = table.drives
        assert table.names == ("flow", "rate")
        assert drive.values.tolist() == [[1, 2], [3, 4]]
        assert drive.stamp_ms is not None
        assert drive.stamp_ms.tolist() == [1577836800000, 1577837100000]
        assert np.diff(drive.tick_ms).tolist() == [1000]
    assert "no column fits --ignore nothing" in caplog.text
    even = tmp_path / "even.csv"
    even.write_text("flow,rate\n1,2\n3,4\n5,6\n")
    (drive,) = read_tables([str(even)], layout=Layout(period_s=0.1)).drives
    assert (drive.tick_ms.tolist(), drive.rows(1, 3).stamp_ms.tolist()) == ([0, 1000, 2000], [100, 200])  # type: ignore[union-attr]
    pq.write_table(pa.table({"when": ["2020-01-01T00:00:00", "2020-01-01T00:00:01"], "flow": [1.0, 2.0]}), tmp_path / "a.parquet")
    (drive,) = read_tables([str(tmp_path / "a.parquet")], layout=Layout(time_column="0")).drives
    assert drive.tick_ms.tolist() == [1577836800000, 1577836801000]


def test_what_a_layout_cannot_be_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n")
    for column in ("c", "2", "-1"):
        with pytest.raises(
            TrainingDataError, match=rf"^{path}:1: --time-column {column}: expected the name of a column, or a number from 0"
        ):
            read_tables([str(path)], layout=Layout(time_column=column))
    with pytest.raises(TrainingDataError, match=r"separated by '\|', found 'a,b'"):
        read_tables([str(path)], layout=Layout(separator="|"))
    path.write_text("timestamp,channel,message,signal,value,valid\n1,can0,M,S,2,1\n")
    with pytest.raises(TrainingDataError, match="is a long table"):
        read_tables([str(path)])
    with pytest.raises(TrainingDataError, match="--period is for tables"):
        Layout(period_s=2.0).check_log("drive.log")


def test_rows_that_are_no_seconds_apart_ask_for_a_period() -> None:
    table = Table(("a",), ("",), (Drive("d", 300_000 * np.arange(5), np.zeros((5, 1))),))
    with pytest.raises(TrainingDataError, match="d: rows are 300 s apart, ticks are a second; write --period 300"):
        check_pace(table, 1, 5)
