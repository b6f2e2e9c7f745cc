"""Tables: what is read, what is refused with file, line and column, and which signals nothing can be learned from."""

from pathlib import Path

import numpy as np
import pytest
from thermal_loop import NAMES, drive, write_csv

from models.errors import TrainingDataError
from models.screening import screen
from models.tables import Drive, Table, fingerprint, read_csv


def test_a_csv_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    values = drive(1, ticks=20)
    table = read_csv([str(write_csv(tmp_path / "a.csv", values))])
    assert table.names == NAMES
    np.testing.assert_allclose(table.drives[0].values, values, rtol=1e-9)
    assert (np.diff(table.drives[0].tick_ms) == 1000).all()


def test_semicolons_byte_order_marks_dates_and_empty_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\ufeffdatetime;Pressure;Flow\n2020-03-09 10:14:33;0.5;1\n2020-03-09 10:14:34;;2\n\n", encoding="utf-8")
    table = read_csv([str(path)])
    assert table.names == ("Pressure", "Flow")
    assert table.drives[0].tick_ms.tolist() == [1583748873000, 1583748874000]
    assert np.isnan(table.drives[0].values[1, 0])


def test_globs_choose_signals(tmp_path: Path) -> None:
    path = str(write_csv(tmp_path / "a.csv", drive(1, ticks=5)))
    assert read_csv([path], ["Loop.*"]).names == ("Loop.Flow", "Loop.OutletTemperature")
    with pytest.raises(TrainingDataError, match=r"no signal of the table fits 'Engine\.\*'"):
        read_csv([path], ["Engine.*"])


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
        read_csv([str(path)])
    assert str(caught.value).startswith(f"{path}{words}")


def test_binary_and_missing_files_and_other_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(bytes(range(256)))
    with pytest.raises(TrainingDataError, match="not a CSV file"):
        read_csv([str(tmp_path / "a.csv")])
    with pytest.raises(TrainingDataError, match="cannot be read: No such file"):
        read_csv([str(tmp_path / "b.csv")])
    (tmp_path / "c.csv").write_text("a,b\n1,2\n")
    (tmp_path / "d.csv").write_text("a,c\n1,2\n")
    with pytest.raises(TrainingDataError, match="its columns are not those of"):
        read_csv([str(tmp_path / "c.csv"), str(tmp_path / "d.csv")])


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
    one = read_csv([str(write_csv(tmp_path / "a.csv", values))])
    two = read_csv([str(write_csv(tmp_path / "b.csv", values))])
    assert fingerprint(one) == fingerprint(two)
    values[0, 0] += 0.1
    assert fingerprint(read_csv([str(write_csv(tmp_path / "c.csv", values))])) != fingerprint(one)
