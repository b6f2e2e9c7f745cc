"""Several packs on one vehicle, by hand, and a folder of packs through the command line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from thermal_loop import drive, write_csv

from cansight.main import main
from models.evaluation.events import Event, Judged, count
from models.evaluation.together import Together
from models.pack import Pack

HOUR = 3_600_000


def show(together: Together, code: str, source: str, raised: list[int], events: list[Event]) -> None:
    """A recording of 100 hours, a tick an hour."""
    ticks = HOUR * np.arange(100, dtype=np.int64)
    judged = Judged(source, ticks, np.zeros(100), np.zeros(100, bool), np.array(raised, np.int64))
    together.see(code)(judged, events, count(judged, events, code, 0))


def test_the_first_finding_names_the_fault() -> None:
    leak = Event(10 * HOUR, 50 * HOUR, "leak", failed_ms=40 * HOUR)
    pump = Event(60 * HOUR, 90 * HOUR, "pump", failed_ms=80 * HOUR)
    together = Together()
    for code, first, second in [("leak", [5, 30], [20]), ("pump", [20, 70], [])]:
        show(together, code, "one", first, [leak, pump])  # the pump's pack is first in the leak; both right later
        show(together, code, "two", second, [leak])
        show(together, code, "three", [], [leak])
    figure, upper = together.false_findings(100.0)
    assert figure.of == 1
    assert figure.value == pytest.approx(1 / ((30 + 60 + 60) / 360_000))
    assert upper is not None
    assert upper > figure.value
    assert (together.precision().value, together.precision().of) == (0.8, 5)
    assert (together.code_right().value, together.code_right().of) == (pytest.approx(2 / 3), 3)
    leaks, pumps = together.codes(15 * 3600.0)
    assert (leaks.fault_code, leaks.found.of, leaks.named) == ("leak", 3, {"pump": 1, "leak": 1})
    assert leaks.found.value == leaks.before_failure.value == pytest.approx(2 / 3)
    assert leaks.with_spare.value == pytest.approx(2 / 3)  # 20 hours before it failed
    assert (pumps.found.value, pumps.with_spare.value, pumps.named) == (1.0, 0.0, {"pump": 1})


def test_a_folder_of_packs(capsys: pytest.CaptureFixture[str], trained: Pack, tmp_path: Path) -> None:
    packs = tmp_path / "packs"
    for name, code in [("loop", "coolant_leak"), ("other", "coolant_pump_degraded")]:
        shutil.copytree(trained.folder, packs / name)
        path = packs / name / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"pack_id": name, "fault_code": code}))
    leak = write_csv(tmp_path / "leak.csv", drive(77, 400, leak_at=150))
    onset = {"fault_code": "coolant_leak", "onset_s": 150, "onset_ns": 1_700_000_150 * 10**9, "failed_ns": 1_700_000_390 * 10**9}
    (tmp_path / "leak.truth.json").write_text(json.dumps({"faults": [onset]}))

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(["models", "evaluate", *map(str, arguments)])
        return int(stop.value.code or 0), *capsys.readouterr()

    code, out, err = run(packs, leak, "--spare", "0.01", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["packs"] == ["loop", "other"]
    (fault,) = document["faults"]
    assert (fault["fault_code"], fault["found"]["value"], fault["named"]) == ("coolant_leak", 1.0, {"coolant_pump_degraded": 1})
    assert document["code_right"]["value"] == 0.0  # both at one tick, and one of them is wrong
    assert "coolant_leak: found 100.0%" in run(packs, leak)[1]
    code, _, err = run(packs, leak, "--labels", "x")
    assert (code, err.count("\n")) == (2, 1)
    assert "is a folder of packs" in err
