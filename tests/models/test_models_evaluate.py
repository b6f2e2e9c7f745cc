"""`cansight models evaluate` through the real command line: labelled tables, truth beside a data set, healthy drives, new baselines."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from thermal_loop import NAMES, drive, write_csv

from cansight.commands import models_options
from cansight.main import main
from models.evaluation import truth
from models.pack import Pack
from simulator import dataset_plan

START = 1_700_000_000


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["models", "evaluate", *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


def figures(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    document: dict[str, Any] = json.loads(out)
    return document


def labelled(path: Path, seed: int, leak_at: int | None, ticks: int = 400) -> Path:
    """A CSV with a column `anomaly`, 1 from the leak's onset on."""
    write_csv(path, drive(seed, ticks, leak_at))
    header, *rows = path.read_text().splitlines()
    labels = [0 if leak_at is None or at < leak_at else 1 for at in range(ticks)]
    path.write_text("\n".join([f"{header},anomaly", *(f"{row},{label}" for row, label in zip(rows, labels, strict=True))]) + "\n")
    return path


def fault(code: str, onset_s: int, **more: object) -> dict[str, object]:
    return {"fault_code": code, "onset_s": onset_s, "onset_ns": (START + onset_s) * 10**9} | more


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `cansight sim dataset` writes it: two healthy vehicles, two with a leak; one of each in the test split."""
    folder = tmp_path_factory.mktemp("data") / "set"
    folder.mkdir()
    vehicles = []
    for number, (split, leak_at) in enumerate([("test", 150), ("test", None), ("training", 150), ("training", None)]):
        name = f"vehicle-{number:04}"
        columns = dict(zip(NAMES, drive(900 + number, 400, leak_at).T, strict=True))
        times = START + np.arange(400, dtype=np.float64)
        pyarrow.parquet.write_table(pyarrow.table({"timestamp": times} | columns), folder / f"{name}.ticks.parquet")
        pyarrow.parquet.write_table(pyarrow.table({"timestamp": times[::60]}), folder / f"{name}.minutes.parquet")
        faults = [] if leak_at is None else [fault("coolant_leak", leak_at, failed_ns=(START + 390) * 10**9, repaired_s=None)]
        (folder / f"{name}.truth.json").write_text(json.dumps({"vehicle": number, "faults": faults}))
        files = {f"{name}{end}": {} for end in (".ticks.parquet", ".minutes.parquet", ".truth.json")}
        vehicles.append({"vehicle": number, "split": split, "files": files})
    (folder / "manifest.json").write_text(json.dumps({"scenario": "leaks", "vehicles": vehicles}))
    return folder


def test_labels_in_a_column(capsys: pytest.CaptureFixture[str], trained: Pack, tmp_path: Path) -> None:
    leak, healthy = labelled(tmp_path / "leak.csv", 77, 150), labelled(tmp_path / "healthy.csv", 78, None)
    result = figures(capsys, trained.folder, leak, healthy, "--labels", "anomaly")
    one, other = result["drives"]
    assert (one["events"], one["found"], one["right"], one["false"]) == (1, 1, 1, 0)
    assert (other["events"], other["findings"]) == (0, 0)
    assert 0 < one["delay_s"][0] < 130
    of = result["figures"]
    assert of["event_recall"]["value"] == of["event_precision"]["value"] == 1.0
    assert of["event_recall"]["low"] == pytest.approx(0.025)
    assert of["point_f1"]["value"] > of["always_alarm_f1"] > 0
    assert of["vus_pr"]["value"] > 0.9
    assert of["nab"]["standard"]["value"] > 80


def test_a_data_set_gives_its_test_vehicles_and_their_truth(capsys: pytest.CaptureFixture[str], trained: Pack, dataset: Path) -> None:
    result = figures(capsys, trained.folder, dataset, "--spare", "0.02")
    assert [Path(one["source"]).name for one in result["drives"]] == ["vehicle-0000.ticks.parquet", "vehicle-0001.ticks.parquet"]
    assert result["figures"]["before_failure"] == {
        "value": 1.0,
        "low": pytest.approx(0.025),
        "high": 1.0,
        "of": 1,
        "method": "Clopper-Pearson",
    }
    assert result["figures"]["with_spare"]["value"] == 1.0
    assert len(figures(capsys, trained.folder, dataset, "--split", "all")["drives"]) == 4
    code, out, _ = run(capsys, trained.folder, dataset)
    assert code == 0
    assert "recall 100.0% (2.5% … 100.0%) of 1 events" in out
    assert "before failure 100.0%" in out


def test_truth_of_another_fault_makes_the_finding_wrong(capsys: pytest.CaptureFixture[str], trained: Pack, tmp_path: Path) -> None:
    leak = write_csv(tmp_path / "leak.csv", drive(77, 400, 150))
    truth = tmp_path / "leak.truth.json"
    truth.write_text(json.dumps({"faults": [fault("coolant_pump_degraded", 150, ended_ns=(START + 400) * 10**9)]}))
    assert figures(capsys, trained.folder, leak)["figures"]["wrong_code"] == 1  # the truth beside the file
    other = truth.rename(tmp_path / "other.json")
    assert figures(capsys, trained.folder, leak, "--truth", other)["figures"]["wrong_code"] == 1
    assert figures(capsys, trained.folder, leak, "--healthy")["drives"][0]["false"] == 1


def test_a_new_baseline_is_learned_on_the_first_rows_and_they_do_not_count(
    capsys: pytest.CaptureFixture[str], trained: Pack, tmp_path: Path
) -> None:
    leak = labelled(tmp_path / "leak.csv", 77, 500, ticks=700)
    result = figures(capsys, trained.folder, leak, "--labels", "anomaly", "--rebase", 400)
    assert (result["figures"]["ticks"], result["drives"][0]["events"]) == (300, 1)
    assert figures(capsys, trained.folder, leak, "--labels", "anomaly", "--rows", "400:600")["figures"]["ticks"] == 200


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str], trained: Pack, dataset: Path, tmp_path: Path) -> None:
    leak = write_csv(tmp_path / "leak.csv", drive(77, 100))
    hole = tmp_path / "hole.csv"
    hole.write_text(",".join((*NAMES, "anomaly")) + "\n" + ",".join(["1"] * len(NAMES)) + ",\n")
    broken = tmp_path / "broken.json"
    broken.write_text('{"faults": [{"fault_code": 3}]}')
    (tmp_path / "empty").mkdir()
    for arguments, words in [
        ((leak,), "nothing says what is faulty in it"),
        ((leak, "--labels", "anomaly"), "has no column 'anomaly' of labels"),
        ((hole, "--labels", "anomaly"), "row 1 has no label in column 'anomaly'"),
        ((leak, "--truth", broken), "Expected `str`, got `int` - at `$.faults[0].fault_code`"),
        ((leak, "--truth", tmp_path / "none.json"), "none.json: cannot be read"),
        ((leak, leak, "--truth", broken), "1 truth files for 2 data files"),
        ((dataset, "--truth", broken), "leave --truth out"),
        ((dataset, "--split", "calibration"), "no vehicle of the split calibration"),
        ((tmp_path / "empty", "--healthy"), "a folder without manifest.json"),
        ((leak, "--labels", "a", "--healthy"), "give one of them"),
        ((leak, "--healthy", "--rows", "9"), "expected A:B"),
        ((leak, "--healthy", "--rows", "100:"), "none of them after row 100"),
    ]:
        code, out, err = run(capsys, trained.folder, *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert words in err


def test_the_splits_that_can_be_chosen_are_those_that_data_sets_have() -> None:
    assert truth.SPLITS == dataset_plan.SPLITS
    assert {*truth.SPLITS, "all"} == set(models_options.SPLITS)
