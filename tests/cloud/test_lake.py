"""The lake: every tick once, whatever is killed, comes twice, or is asked for."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from cloud_samples import START_MS, VEHICLE, make_rows, make_schema
from example_fleet import MODEL, Drive, example_catalogue, example_schema
from pyarrow import parquet

from cansight.main import cli
from cloud.events import FindingEvent, GapEvent
from cloud.lake.compaction import compact, delete
from cloud.lake.errors import LakeError
from cloud.lake.folders import DAY_MS, Folders
from cloud.lake.reading import open_lake
from cloud.lake.sink import LakeSink
from models.tables import read_table
from wire.messages import FindingMessage, Gap, Window

WRITER = Path(__file__).with_name("lake_writer.py")
DOCS = Path(__file__).parents[2] / "docs" / "lake.md"
OTHER = "fedcba9876543210"
TECHNICAL, DRIVING = range(4), (4, 5)
COUNTED = 'SELECT count(*) AS rows, count("M0.S0") AS first, count("M1.S5") AS last, sum("M0.S1") AS total FROM ticks'


def two_classes(ticks: range, sequence: int, vehicle: str = VEHICLE) -> list[Any]:
    kinds = (("technical", TECHNICAL, b"t" * 16), ("driving", DRIVING, b"d" * 16))
    return [
        make_rows(ticks, sequence=sequence, columns=columns, consent_class=kind, stream=stream, vehicle=vehicle)
        for kind, columns, stream in kinds
    ]


def rows_of(root: Path, sql: str = COUNTED, **chosen: str) -> list[dict[str, Any]]:
    with open_lake(root, **chosen) as lake:
        found: list[dict[str, Any]] = lake.query(sql).to_pylist()
    return found


def test_ticks_of_all_classes_are_one_row_once_before_and_after_compaction(tmp_path: Path) -> None:
    sink = LakeSink(tmp_path, {})
    batches = [batch for n in range(20) for batch in two_classes(range(2 * n, 2 * n + 2), n)]
    sink.take(batches)
    sink.flush()
    sink.take(batches[:6])  # they come again after a kill
    sink.flush()
    schema = make_schema()
    whole = make_rows(range(40))
    expected = [{"rows": 40, "first": 40, "last": 40, "total": pytest.approx(np.nansum(schema.physical(whole.raw)[:, 1]))}]
    assert rows_of(tmp_path) == expected
    assert compact(Folders(tmp_path), None, START_MS).fresh == 4
    assert rows_of(tmp_path) == expected
    sink.take(batches[8:12])  # and after they were compacted
    sink.flush()
    assert rows_of(tmp_path) == expected
    compact(Folders(tmp_path), None, START_MS + 3 * DAY_MS)
    assert rows_of(tmp_path) == expected
    assert len(list(tmp_path.glob("ticks/*/*/*.parquet"))) == 1
    row = rows_of(tmp_path, "SELECT * FROM ticks ORDER BY time LIMIT 1 OFFSET 2")[0]
    assert (row["sequence_technical"], row["sequence_driving"], row["stream_driving"]) == (1, 1, (b"d" * 16).hex())
    assert [row[name] for name in schema.names] == schema.physical(whole.raw)[2].tolist()


def test_a_kill_at_any_moment_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    soak = os.environ.get("CANSIGHT_SOAK") == "1"
    batches = 180 if soak else 60
    command = [sys.executable, str(WRITER), str(tmp_path), str(batches)]
    for lines in (
        (2, 3, 4, 5, 6, 7, 8, 9) if soak else (4, 5)
    ):  # of what it says before it is killed: in the middle of the next file, or of compaction
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(lines):
                process.stdout.readline()
            process.kill()
    subprocess.run(command, check=True, capture_output=True)
    expected = make_schema().physical(make_rows(range(2 * batches)).raw)
    for _ in range(2):
        for vehicle in ("a" * 16, "b" * 16):
            found = rows_of(tmp_path / "lake", f"SELECT * FROM ticks WHERE vehicle = '{vehicle}' ORDER BY time")
            assert [row["time"].timestamp() * 1000 for row in found] == [START_MS + 1000 * tick for tick in range(2 * batches)]
            assert [[row[name] for name in make_schema().names] for row in found] == expected.tolist()
        compact(Folders(tmp_path / "lake"), None, time.time_ns() // 1_000_000 + 7_200_000)
    assert not list(tmp_path.rglob("*.part"))


def test_layouts_that_are_forgotten_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud.lake.sink.MOST_LAYOUTS", 2)
    sink = LakeSink(tmp_path, {})
    for again in range(2):
        sink.take([make_rows(range(10), sequence=again, stream=bytes([column] * 16), columns=[column]) for column in range(6)])
        sink.flush()
    assert len(sink._layouts) <= 2
    assert rows_of(tmp_path) == [{"rows": 10, "first": 10, "last": 10, "total": rows_of(tmp_path)[0]["total"]}]


def test_columns_carry_the_catalogues_units_and_words(tmp_path: Path) -> None:
    sink = LakeSink(tmp_path, {MODEL: example_catalogue()})
    sink.take([Drive(example_schema(), VEHICLE, 1).batch(5)])
    sink.flush()
    compact(Folders(tmp_path), None, START_MS)
    file = next(tmp_path.glob("ticks/*/*/*.parquet"))
    told = parquet.read_schema(file).field("BMS_Pack.PackVoltage").metadata
    assert (told[b"unit"], told[b"en"], told[b"privacy"]) == (b"V", b"Battery voltage", b"technical")
    [row] = rows_of(tmp_path, "SELECT * FROM columns WHERE signal = 'BMS_Pack.PackVoltage'")
    assert (row["model"], row["unit"], row["en"]) == (MODEL, "V", "Battery voltage")


def test_what_is_not_valid_is_missing_and_a_recorded_log_is_kept_apart(tmp_path: Path) -> None:
    rows = make_rows(range(3))
    rows.reason[1, 2] = 1
    sink = LakeSink(tmp_path, {})
    sink.take([rows, make_rows(range(7), replay=True, sequence=2)])
    sink.flush()
    for _ in range(2):
        assert rows_of(tmp_path, 'SELECT count(*) AS n, count("M0.S2") AS valid FROM ticks') == [{"n": 3, "valid": 2}]
        assert rows_of(tmp_path, "SELECT count(*) AS n FROM replays") == [{"n": 7}]
        compact(Folders(tmp_path), 30, START_MS + 30 * DAY_MS)
    assert compact(Folders(tmp_path), 30, START_MS + 31 * DAY_MS).dropped == 1
    assert rows_of(tmp_path, "SELECT (SELECT count(*) FROM ticks) AS live, (SELECT count(*) FROM replays) AS log") == [
        {"live": 0, "log": 7}
    ]


def test_what_is_deleted_stays_deleted(tmp_path: Path) -> None:
    sink = LakeSink(tmp_path, {})
    folders = Folders(tmp_path)
    gap = GapEvent(VEHICLE, "sample", b"g" * 16, 3, START_MS + 4000, False, Gap(stream=b"t" * 16, first=1, last=2, reason="full"))
    everything = [*two_classes(range(10), 1), *two_classes(range(10), 1, OTHER), gap]
    sink.take(everything)
    sink.flush()
    counted = delete(folders, VEHICLE, START_MS + 2000, START_MS + 5000, START_MS + DAY_MS)
    assert counted == {"ticks": 6, "replays": 0, "events": 1}  # three ticks, as two files have them
    for _ in range(2):
        found = rows_of(tmp_path, "SELECT vehicle, count(*) AS n FROM ticks GROUP BY ALL ORDER BY n")
        assert found == [{"vehicle": VEHICLE, "n": 7}, {"vehicle": OTHER, "n": 10}]
        assert rows_of(tmp_path, "SELECT * FROM gaps") == []
        sink.take(everything)  # what a running cloud still had in memory
        sink.flush()
    assert compact(folders, None, START_MS).removed > 0
    assert not list(tmp_path.glob("fresh/*"))
    assert rows_of(tmp_path, vehicle=VEHICLE)[0]["rows"] == 7
    assert rows_of(tmp_path, vehicle=VEHICLE, since="2023-11-15") == [{"rows": 0, "first": 0, "last": 0, "total": None}]


def test_findings_and_gaps_are_there_once(tmp_path: Path) -> None:
    sink = LakeSink(tmp_path, {})
    gap = GapEvent(VEHICLE, "sample", b"g" * 16, 3, START_MS, False, Gap(stream=b"t" * 16, first=1, last=2, reason="full"))
    window = Window(tick_ms=[START_MS], signals=["score"], values=[[2.0]])
    message = FindingMessage(
        finding_id=b"f" * 16,
        state="active",
        pack_id="leak",
        fault_code="coolant_leak",
        tick_ms=START_MS,
        since_ms=START_MS,
        score=2.0,
        threshold=1.0,
        p_value=None,
        contributions=[],
        window=window,
    )
    events = [gap, FindingEvent(VEHICLE, "sample", b"t" * 16, 7, START_MS, False, message)]
    for _ in range(2):
        sink.take(events)
        sink.flush()
    for _ in range(2):
        assert rows_of(tmp_path, "SELECT lost_stream, first, last, reason FROM gaps") == [
            {"lost_stream": (b"t" * 16).hex(), "first": 1, "last": 2, "reason": "full"}
        ]
        assert rows_of(tmp_path, "SELECT finding, fault_code, level, score FROM findings") == [
            {"finding": (b"f" * 16).hex(), "fault_code": "coolant_leak", "level": "ticket", "score": 2.0}
        ]
        compact(Folders(tmp_path), None, START_MS + 3 * DAY_MS)


def test_the_lines_for_pandas_and_polars_and_duckdb_work_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = LakeSink(tmp_path / "state" / "lake", {MODEL: example_catalogue()})
    sink.take([Drive(example_schema(), VEHICLE, 1).batch(30)])
    sink.flush()
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(blocks) == 3
    compact(Folders(tmp_path / "state" / "lake"), None, START_MS)
    for block in blocks:
        found: dict[str, Any] = {}
        exec(block, found)
        assert found["frame"].shape[0] == 30
        assert "BMS_Pack.PackVoltage" in list(found["frame"].columns)


@pytest.mark.parametrize("shared", [True, False])
def test_replicas_lakes_are_whole_together(tmp_path: Path, shared: bool) -> None:
    """Each is given every second batch: into one folder, or into lakes of their own that are read, or put, together."""
    roots = [tmp_path / name for name in (("a", "a") if shared else ("a", "b"))]
    for number, root in enumerate(roots):
        sink = LakeSink(root, {})
        sink.take([make_rows(range(2 * at, 2 * at + 2), sequence=at) for at in range(20) if at % 2 == number])
        sink.flush()
    folders = [Folders(root) for root in dict.fromkeys(roots)]
    whole = [{"rows": 40, "first": 40}]
    question = 'SELECT count(*) AS rows, count("M0.S0") AS first FROM ticks'
    for _ in range(2):
        with open_lake([one.root for one in folders]) as lake:
            assert lake.query(question).to_pylist() == whole
        for one in folders:
            compact(one, None, START_MS)
    told = CliRunner().invoke(cli, ["lake", "query", *(f"--folder={one.root}" for one in folders), "--json", question])
    assert json.loads(told.output) == whole
    if not shared:
        assert rows_of(roots[0])[0]["rows"] == 20
        shutil.copytree(roots[1], roots[0], dirs_exist_ok=True, ignore=shutil.ignore_patterns("deleted.jsonl", "lock", "looked"))
        compact(folders[0], None, START_MS + DAY_MS)
    assert [len(drive.tick_ms) for drive in read_table([str(roots[0])], []).drives] == [40]


def test_one_of_two_compactions_at_a_time_is_enough(tmp_path: Path) -> None:
    with Folders(tmp_path).locked():
        subprocess.run([sys.executable, "-m", "cloud.lake.process", str(tmp_path), "forever"], check=True)
        with pytest.raises(LakeError, match="somebody compacts it"):
            compact(Folders(tmp_path), None, START_MS)


def test_compaction_looks_at_days_that_may_have_changed_and_once_a_day_at_all(tmp_path: Path) -> None:
    folders, now = Folders(tmp_path), START_MS + 3 * DAY_MS

    def days() -> list[int]:
        return [len(files) for files in folders.parts("ticks").values()]

    def land(*batches: Any) -> None:
        sink = LakeSink(tmp_path, {})
        sink.take(list(batches))
        sink.flush()

    for number in range(2):  # two files of a day that is not over
        land(make_rows(range(10), sequence=number))
        compact(folders, None, START_MS)
    assert days() == [2]
    land(make_rows(range(10), sequence=3, vehicle=OTHER))
    compact(folders, None, now, whole=False)
    assert sorted(days()) == [1, 2]
    delete(folders, VEHICLE, START_MS, START_MS + 3000, now)
    land(*(make_rows(range(10, 20), sequence=4, vehicle=one) for one in (VEHICLE, OTHER)), make_rows(range(3), sequence=0))
    assert compact(folders, None, now, whole=False).removed == 3  # what came again of what was deleted
    assert days() == [1, 1]
    assert [row["rows"] for row in (*rows_of(tmp_path, vehicle=VEHICLE), *rows_of(tmp_path, vehicle=OTHER))] == [17, 20]
    assert compact(folders, 1, now + DAY_MS, whole=False).dropped == 2
    assert not list(tmp_path.glob("ticks/*"))


def test_training_reads_a_lake(tmp_path: Path) -> None:
    sink = LakeSink(tmp_path, {})
    sink.take([*two_classes(range(60), 1), *two_classes(range(20, 80), 1, OTHER), make_rows([100], sequence=9, columns=[0])])
    sink.flush()
    compact(Folders(tmp_path), None, START_MS)
    table = read_table([str(tmp_path)], [])
    assert table.names == make_schema().names
    assert [len(drive.tick_ms) for drive in table.drives] == [61, 60]
    assert np.array_equal(table.drives[0].values[:60], make_schema().physical(make_rows(range(60)).raw))
    assert table.drives[0].tick_ms[0] == START_MS


def test_the_commands(tmp_path: Path) -> None:
    sink = LakeSink(tmp_path / "lake", {})
    sink.take(two_classes(range(10), 1))
    sink.flush()

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(cli, ["lake", *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    folder = ("--folder", str(tmp_path / "lake"))
    assert json.loads(run("query", *folder, "--json", "SELECT count(*) AS n FROM ticks")) == [{"n": 10}]
    assert "4 fresh" not in run("info", *folder)
    assert "2 fresh files sorted in" in run("compact", *folder, "--keep", "forever")
    told = json.loads(run("info", *folder, "--json"))
    assert (told["ticks"]["vehicles"], told["ticks"]["files"], told["ticks"]["fresh_files"]) == (1, 1, 0)
    run("query", *folder, "-o", str(tmp_path / "out.csv"), 'SELECT time, "M0.S0" FROM ticks ORDER BY time')
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 11
