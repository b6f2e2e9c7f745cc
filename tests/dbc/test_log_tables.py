"""Logs to tables: the rows against cantools, every kind of file, and that a file appears whole or not at all."""

from __future__ import annotations

import csv
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cantools.database
import numpy as np
import pytest

from dbc.compiler import CompiledDbc, compile_dbc
from dbc.errors import LogFormatError, TableError
from dbc.logs import open_log
from dbc.logs.decode import decode_logs
from dbc.table_files import open_table

SOAK = bool(os.environ.get("CANSIGHT_SOAK"))
DBC = """VERSION ""
NS_ :
BS_:
BU_: A
BO_ 256 Fast: 8 A
 SG_ Speed : 0|16@1+ (0.01,0) [0|0] "km/h" A
 SG_ Torque : 16|16@1- (1,0) [0|0] "Nm" A
BO_ 512 Slow: 2 A
 SG_ Temperature : 0|8@1+ (1,-40) [0|0] "degC" A
"""
LINES = b"""(1700000000.250000) can0 100#0A00FFFF00000000
(1700000000.500000) can0 200#5000
(1700000001.500000) can0 100#14
not a frame
(1700000004.000000) can0 100#1E00020000000000
(1700000004.100000) can1 100#0000000000000000
"""


@pytest.fixture
def dbc(tmp_path: Path) -> Path:
    path = tmp_path / "a.dbc"
    path.write_text(DBC)
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "a.log"
    path.write_bytes(LINES)
    return path


def decode(logs: list[Path], files: list[str], out: Path, **options: Any) -> Any:
    compiled: CompiledDbc = compile_dbc(files)
    with open_table(out, compiled.schema, wide="wide_period_ns" in options) as table:
        return decode_logs([str(log) for log in logs], compiled, table, **options)


def parquet(path: Path) -> Any:
    return pytest.importorskip("pyarrow.parquet").read_table(path)


LONG = [
    (1700000000.25, "can0", "Fast", "Speed", 0.1, True),
    (1700000000.25, "can0", "Fast", "Torque", -1.0, True),
    (1700000000.5, "can0", "Slow", "Temperature", 40.0, True),
    (1700000001.5, "can0", "Fast", "Speed", None, False),
    (1700000001.5, "can0", "Fast", "Torque", None, False),
    (1700000004.0, "can0", "Fast", "Speed", 0.3, True),
    (1700000004.0, "can0", "Fast", "Torque", 2.0, True),
]


def test_the_long_table(dbc: Path, log: Path, tmp_path: Path) -> None:
    done = decode([log], [str(dbc)], out := tmp_path / "out.parquet")
    table = parquet(out)
    assert {field.name: str(field.type) for field in table.schema} == {
        "timestamp": "double",
        "channel": "dictionary<values=string, indices=int32, ordered=0>",
        "message": "dictionary<values=string, indices=int32, ordered=0>",
        "signal": "dictionary<values=string, indices=int32, ordered=0>",
        "value": "double",
        "valid": "bool",
    }
    rows = [tuple(None if isinstance(value, float) and math.isnan(value) else value for value in row.values()) for row in table.to_pylist()]
    assert rows == LONG
    assert (done.frames, done.frames_decoded, done.rows, done.rows_invalid) == (5, 4, 7, 2)
    assert done.channels == {"can0": 4, "can1": 1}
    assert done.skipped == [{"log": str(log), "lines": 1, "first": 4}]


def test_the_same_as_csv(dbc: Path, log: Path, tmp_path: Path) -> None:
    decode([log], [str(dbc)], out := tmp_path / "out.csv")
    with out.open() as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["timestamp", "channel", "message", "signal", "value", "valid"]
    assert [(float(row[0]), *row[1:4]) for row in rows[1:]] == [row[:4] for row in LONG]
    assert [row[5] for row in rows[1:]] == ["true" if row[5] else "false" for row in LONG]


def test_the_wide_table_holds_the_last_value_and_says_nan_where_there_is_none(dbc: Path, log: Path, tmp_path: Path) -> None:
    decode([log], [str(dbc)], out := tmp_path / "out.parquet", wide_period_ns=1_000_000_000)
    table = parquet(out)
    assert table.column_names == ["timestamp", "Fast.Speed", "Fast.Torque", "Slow.Temperature"]
    assert table["timestamp"].to_pylist() == [1700000001.0, 1700000002.0, 1700000003.0, 1700000004.0, 1700000005.0]
    np.testing.assert_array_equal(table["Fast.Speed"].to_numpy(), [0.1, np.nan, np.nan, np.nan, 0.3])
    np.testing.assert_array_equal(table["Slow.Temperature"].to_numpy(), [40.0] * 5)


def test_mf4_has_each_signal_with_its_unit(dbc: Path, log: Path, tmp_path: Path) -> None:
    asammdf = pytest.importorskip("asammdf")
    decode([log, log], [str(dbc)], out := tmp_path / "out.mf4")
    with asammdf.MDF(out) as mdf:
        speed = mdf.get("Fast.Speed")
        assert speed.unit == "km/h"
        np.testing.assert_array_equal(speed.samples, [0.1, np.nan, 0.3] * 2)
        np.testing.assert_allclose(mdf.header.start_time.timestamp() + speed.timestamps, [1700000000.25, 1700000001.5, 1700000004.0] * 2)
    decode([log], [str(dbc)], out, wide_period_ns=1_000_000_000)
    with asammdf.MDF(out) as mdf:
        np.testing.assert_array_equal(mdf.get("Slow.Temperature").samples, [40.0] * 5)


def test_a_real_drive_equals_cantools_row_by_row(data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "logs" / "mustang_s550"
    part = tmp_path / "part.log"
    part.write_bytes(b"".join((folder / "mustang_s550.log").read_bytes().splitlines(keepends=True)[:5000]))
    decode([part], [f"{folder}/ford_lincoln_base_pt.dbc@can0"], out := tmp_path / "out.parquet")
    database: Any = cantools.database.load_file(folder / "ford_lincoln_base_pt.dbc", strict=False)
    expected = []
    known = {message.frame_id: message for message in database.messages}
    for block in open_log(part):
        for stamp, number, size, data in zip(block.timestamp_ns, block.frame_id, block.length, block.data, strict=True):
            message = known.get(int(number))
            if message is not None:
                values = message.decode(data[:size].tobytes(), decode_choices=False)
                expected += [(int(stamp) // 1000 / 1e6, message.name, name, float(value)) for name, value in values.items()]
    table = parquet(out)
    rows = [(row["timestamp"], row["message"], row["signal"], row["value"] if row["valid"] else None) for row in table.to_pylist()]
    theirs = {(stamp, message, signal): value for stamp, message, signal, value in expected}
    assert len(rows) == len(expected) > 40_000
    valid = [row for row in rows if row[3] is not None]
    assert len(valid) > 0.99 * len(rows)
    # Two frames of a message may have one stamp (it has milliseconds): then the later value stands in the dictionary.
    assert sum(theirs[row[:3]] == row[3] for row in valid) > 0.999 * len(valid)


def test_a_broken_line_stops_a_strict_run_and_leaves_the_old_table(dbc: Path, log: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    out.write_bytes(b"old")
    with pytest.raises(LogFormatError, match=r"a\.log:4: is no line of a candump log"):
        decode([log], [str(dbc)], out, strict=True)
    assert out.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.dbc", "a.log", "out.parquet"]


def test_a_table_that_cannot_be_written_is_one_line(dbc: Path, log: Path, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"expected a name that ends in \.parquet, \.csv, \.mf4"):
        decode([log], [str(dbc)], tmp_path / "out.xlsx")
    with pytest.raises(TableError, match=r"cannot be written: No such file"):
        decode([log], [str(dbc)], tmp_path / "none" / "out.parquet")


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "cansight", "log", *arguments], capture_output=True, text=True, check=False, **options)


def test_the_command_finds_the_channel_and_reports_broken_lines(dbc: Path, log: Path, tmp_path: Path) -> None:
    log.write_bytes(LINES.replace(b"can0", b"vcan7"))
    done = run("decode", str(log), "--dbc", str(dbc), cwd=tmp_path)
    assert done.returncode == 0
    assert "1 lines are no frames, the first is line 4" in done.stderr
    assert parquet(tmp_path / "a.log.parquet").num_rows == len(LONG)
    strict = run("decode", str(log), "--dbc", str(dbc), "--strict", "-o", str(tmp_path / "b.parquet"))
    assert strict.returncode == 2
    assert strict.stderr == f"cansight: {log}:4: is no line of a candump log\n"
    assert not (tmp_path / "b.parquet").exists()


def test_the_command_checks_the_counters_and_checksums_of_a_catalogue(tmp_path: Path) -> None:
    """The DBC declares nothing; the catalogue says that the message's second byte counts and its first is the XOR of the others."""
    dbc, log, catalogue = tmp_path / "a.dbc", tmp_path / "a.log", tmp_path / "catalogue.toml"
    signals = "".join(f' SG_ {name} : {start}|8@1+ (1,0) [0|0] "" A\n' for start, name in ((0, "Sum"), (8, "Alive"), (16, "Value")))
    dbc.write_text(f'VERSION ""\nNS_ :\nBS_:\nBU_: A\nBO_ 256 Fast: 3 A\n{signals}')
    good = [(1 ^ 10, 1, 10), (2 ^ 11, 2, 11), (4 ^ 14, 4, 14)]
    wrong = [(2 ^ 12, 2, 12), (0xFF, 3, 13)]  # the counter stands still; the checksum is not the others' XOR
    frames = [good[0], good[1], wrong[0], wrong[1], good[2]]
    log.write_text("".join(f"({second}.000000) can0 100#{bytes(frame).hex()}\n" for second, frame in enumerate(frames, 1)))
    catalogue.write_text(
        'vehicle = "car"\n[subsystems]\n[purposes]\n[signals]\n[faults]\n'
        '[checks.Fast]\ncounter = "Alive"\nchecksum = "Sum"\nprofile = "XOR"\n'
    )
    found = {}
    for options in ((), ("--catalogue", str(catalogue))):
        done = run("decode", str(log), "--dbc", f"{dbc}@can0", *options, "-o", str(tmp_path / "out.parquet"))
        assert (done.returncode, done.stderr) == (0, "")
        rows = parquet(tmp_path / "out.parquet").to_pylist()
        found[bool(options)] = [row["value"] if row["valid"] else None for row in rows if row["signal"] == "Value"]
    assert found[False] == [10, 11, 12, 13, 14]
    assert found[True] == [10, 11, None, None, 14]
    assert "6 of them not valid" in done.stdout

    catalogue.write_text(catalogue.read_text().replace("Alive", "Other"))
    done = run("decode", str(log), "--dbc", f"{dbc}@can0", "--catalogue", str(catalogue), "-o", str(tmp_path / "out.parquet"))
    assert done.returncode == 2
    assert done.stderr.startswith("cansight: ")
    assert done.stderr.count("\n") == 1
    assert "Other" in done.stderr


def test_log_info_says_which_known_dbc_fits(dbc: Path, log: Path, tmp_path: Path) -> None:
    import json

    done = run("info", str(log), "--known", str(tmp_path), "--json")
    (found,) = json.loads(done.stdout)
    assert found["format"] == "candump"
    assert found["frames"] == 5
    assert found["channels"]["can0"]["frames"] == 4
    assert found["suggestions"][0] | {"dbc": ""} == {
        "channel": "can0",
        "dbc": "",
        "frames_share": 1.0,
        "identifiers": 2,
        "identifiers_share": 1.0,
        "messages_share": 1.0,
    }
    explained = json.loads(run("info", str(log), "--dbc", str(dbc), "--json").stdout)[0]
    assert explained["coverage"]["frames_decoded"] == 4
    assert explained["coverage"]["changing_names"] == ["Fast.Speed", "Fast.Torque"]
    assert [one["message"] for one in explained["identifiers"] if one["channel"] == "can0"] == ["Fast", "Slow"]


MEASURE = """
import sys
from pathlib import Path
import numpy as np
from dbc.compiler import compile_dbc
from dbc.frames import FrameBlock
from dbc.logs.decode import decode_logs
from dbc.table_files import open_table
from dbc.vehicles import DBC_FILES
compiled = compile_dbc(DBC_FILES[:1])
with open_table(Path(sys.argv[1]), compiled.schema, wide=False) as table:
    done = decode_logs(["-"], compiled, table)
# Not getrusage: its peak begins with what the process that started this one held.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(done.frames, done.frames_decoded, int(peak.split()[1]) // 1024)
"""


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    """Three buses at 4,000 frames a second each: an hour in the long form, against a tenth of it; otherwise 2 M against 0.5 M frames."""
    from dbc.vehicles import DBC_FILES

    text = _three_buses(compile_dbc(DBC_FILES[:1]))
    frames = text.count(b"\n")
    peaks = []
    for total in (4_300_000, 43_200_000) if SOAK else (500_000, 2_000_000):
        child = subprocess.Popen(
            [sys.executable, "-c", MEASURE, str(tmp_path / "out.parquet")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert child.stdin is not None
        for _ in range(total // frames):
            child.stdin.write(text)
        out, _ = child.communicate()
        assert child.returncode == 0
        read, decoded, peak_mb = map(int, out.split())
        assert read == total // frames * frames
        assert decoded > read // 4
        peaks.append(peak_mb)
    assert peaks[-1] < 400
    assert peaks[1] < peaks[0] * 1.15 + 10


def _three_buses(compiled: CompiledDbc) -> bytes:
    """A second of candump text, on three buses, of the vehicle's own messages."""
    import io

    from dbc.frames import FrameBlock
    from dbc.logs import write_candump

    random, n = np.random.default_rng(1), 12_000
    numbers = (compiled.plan.message_key & np.uint64(0xFFFF_FFFF)).astype(np.uint32)
    stamps = 1_700_000_000_000_000_000 + np.arange(n) * 83_000
    block = FrameBlock(
        ("can0", "can1", "can2"),
        stamps,
        random.choice(numbers, n),
        (np.arange(n) % 3).astype(np.uint8),
        np.full(n, 8, np.uint8),
        random.integers(0, 256, (n, 8), np.uint8),
        0,
    )
    stream = io.BytesIO()
    write_candump(stream, block)
    return stream.getvalue()
