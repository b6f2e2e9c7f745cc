"""Which rung is kept, by hand and on a loop whose leak only the expected value shows."""

import json
from pathlib import Path

import numpy as np
import pytest
from thermal_loop import drive, write_csv

from cansight.main import main
from models.calibrate import highest_persistent
from models.evaluation.ladder import Rung, climb, persistent, sign_test
from models.manifest import Persistence
from models.pack import Pack

RULE = Persistence(need=3, of=4, warmup_ticks=0, gap_s=5)


def rung(pack: Pack, healthy: list[float], faults: list[list[float]]) -> Rung:
    """faults: the persistent scores in each, one a second."""
    return Rung(pack.manifest, healthy, [(str(at), np.array(scores), np.arange(float(len(scores)))) for at, scores in enumerate(faults)])


def test_sign_test_by_hand() -> None:
    assert sign_test(0, 0) == 1.0
    assert sign_test(5, 0) == 1 / 32
    assert sign_test(4, 1) == 6 / 32
    assert sign_test(1, 4) == 31 / 32


def test_persistent_scores_agree_with_the_calibration() -> None:
    random = np.random.default_rng(1)
    score = random.random(200)
    assert persistent(score, RULE).max() == highest_persistent(score, RULE)
    assert persistent(np.array([5.0, 0.0, 4.0, 3.0, 9.0]), RULE).tolist() == [0.0, 0.0, 0.0, 3.0, 3.0]
    assert len(persistent(np.zeros(0), RULE)) == 0


def test_a_rung_must_find_more_or_come_earlier(trained: Pack) -> None:
    """Thresholds lie just over the highest healthy score: 1 for the lower rung, 10 for the others, whose scores are larger throughout."""
    low = rung(trained, [0.5, 1.0], [[0.0, 0.0, 2.0]] * 5 + [[0.0]] * 5)
    same = rung(trained, [5.0, 10.0], [[0.0, 0.0, 20.0]] * 5 + [[0.0]] * 5)
    better = rung(trained, [5.0, 10.0], [[0.0, 0.0, 20.0]] * 10)
    earlier = rung(trained, [5.0, 10.0], [[0.0, 20.0, 20.0]] * 10)
    lucky = rung(trained, [5.0, 10.0], [[0.0, 0.0, 20.0]] * 8 + [[0.0]] * 2)
    first, second, third, fourth = climb([low, same, better, earlier])
    assert (first.kept, first.found.value, first.delay_s, first.alarmed) == (True, 0.5, 2.0, 0)
    assert (second.kept, second.more, second.fewer) == (False, 0, 0)
    assert (third.kept, third.more, third.p_found) == (True, 5, 1 / 32)
    assert (fourth.kept, fourth.p_found, fourth.p_earlier) == (True, 1.0, 1 / 1024)
    assert not climb([low, lucky])[1].kept  # three more of ten may be chance
    assert not climb([better, low])[1].kept


def test_the_same_share_of_healthy_drives_alarms(trained: Pack) -> None:
    one = rung(trained, [1.0, 2.0, 3.0, 4.0], [[3.5]])
    strict, loose = climb([one], 0.0)[0], climb([one], 0.25)[0]
    assert (strict.alarmed, strict.found.value) == (0, 0.0)
    assert (loose.alarmed, loose.found.value) == (1, 1.0)


def test_rungs_must_have_seen_the_same(trained: Pack) -> None:
    with pytest.raises(ValueError, match="not seen the same faults"):
        climb([rung(trained, [1.0], [[1.0]]), rung(trained, [1.0], [])])


def test_the_expected_value_earns_its_place_and_the_pca_does_not(capsys: pytest.CaptureFixture[str], trained: Pack, tmp_path: Path) -> None:
    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(["models", *map(str, arguments)])
        return int(stop.value.code or 0), *capsys.readouterr()

    healthy = [write_csv(tmp_path / f"{seed}.csv", drive(seed, 300)) for seed in range(12)]
    leaks = []
    for seed in range(6):
        leaks.append(write_csv(tmp_path / f"leak{seed}.csv", drive(800 + seed, 400, leak_at=150)))
        onset = {"fault_code": "coolant_leak", "onset_s": 150, "onset_ns": 1_700_000_150 * 10**9}
        (tmp_path / f"leak{seed}.truth.json").write_text(json.dumps({"faults": [onset]}))
    for name in ("limits", "pca"):
        code, _, err = run("train", *healthy, "--rung", name, "--average", 10, "--fault", "coolant_leak", "-o", tmp_path / name)
        assert code == 0, err
    rungs = [option for name in (tmp_path / "limits", tmp_path / "pca", trained.folder) for option in ("--rung", name)]
    code, out, err = run("ladder", *leaks, *rungs, "--json")
    assert code == 0, err
    limits, pca, expected = json.loads(out)
    assert (limits["rung"], pca["rung"], expected["rung"]) == ("limits", "pca", "expected")
    assert expected["kept"]
    assert expected["found"]["value"] > pca["found"]["value"]
    code, out, _ = run("ladder", *leaks, *rungs)
    assert out.count("\n") == 3
    assert out.splitlines()[-1].startswith("kept    loop (expected): 0 of 6 healthy drives alarm")
    for arguments, words in [
        ((*leaks, "--rung", trained.folder), "at least two packs"),
        ((healthy[0], "--labels", "none", *rungs), "has no column 'none' of labels"),
    ]:
        code, _, err = run("ladder", *arguments)
        assert (code, err.count("\n")) == (2, 1)
        assert words in err
