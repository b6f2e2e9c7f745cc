"""The rung following: silent while a healthy baseline drifts on, loud at a change, the same in graph and training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cansight.commands.models import models
from models.alarm import Transition
from models.errors import TrainingDataError
from models.following import STILL, fit_follower, follow
from models.pack import Pack
from models.report.training import training_report
from models.runtime import PackRuntime
from models.scoring import ScoredTick, score_drive_ticks
from models.tables import Drive, Table
from models.train import Options, train, train_pca

NAMES = ("Pump.Vibration", "Pump.Current", "Loop.Temperature", "Loop.Flow")
BASELINE = 400
OPTIONS = Options(pack_id="loop", fault_code="loop-valve", rung="following", need=5, of=6)


def run(seed: int, ticks: int = 1200, fault: slice = slice(0), size: float = 8.0) -> NDArray[np.float64]:
    """(ticks, 4) of a loop that is still warming up, its vibration wandering; in `fault` the flow is `size` deviations lower."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(ticks, 4)) * (0.02, 0.3, 0.01, 0.4) + (1.0, 2.4, 20.0, 125.0)
    values[:, 0] += np.cumsum(random.normal(size=ticks)) * 0.001
    values[:, 2] += 12 * (1 - np.exp(-np.arange(ticks) / 1500))
    values[fault, 3] -= 0.4 * size
    return values


def table(values: NDArray[np.float64], step_ms: int = 1000) -> Table:
    return Table(NAMES, ("",) * 4, (Drive("run", step_ms * np.arange(len(values), dtype=np.int64), values),))


def ticks_of(pack: Pack, values: NDArray[np.float64]) -> list[ScoredTick]:
    return list(score_drive_ticks(PackRuntime(pack), table(values).drives[0]))


def test_a_baseline_that_drifts_on_is_silent_and_a_change_is_seen_named_and_cleared(tmp_path: Path) -> None:
    silent = found = 0
    for seed in range(8):
        values = run(seed, fault=slice(700, 1000))
        pack = train_pca(table(values[:BASELINE]), OPTIONS, tmp_path / str(seed))
        ticks = ticks_of(pack, values)
        active = np.array([tick.alarm for tick in ticks])
        silent += not active[:700].any() and not active[1020:].any()
        raised = [tick for tick in ticks[700:720] if tick.transition is Transition.RAISED]
        found += bool(raised) and bool(active[720:1000].all())
        assert pack.manifest.names[int(np.argmax(raised[0].score.contributions))] == "Loop.Flow"
        assert 120 < raised[0].score.expected[3] < 126
        assert all(tick.score.known for tick in ticks)  # however far it is from where it was trained
    assert (silent, found) == (8, 8)
    fixed = train_pca(table(values[:BASELINE]), replace(OPTIONS, rung="pca", need=10, of=12), tmp_path / "pca")
    assert sum(tick.score.judged is None or tick.alarm for tick in ticks_of(fixed, run(seed))[BASELINE:]) > 400


def test_graph_and_training_agree_over_gaps_and_missing_values(tmp_path: Path) -> None:
    values = run(3, fault=slice(500, 900), size=15)
    values[::97, 1] = np.nan
    trained = train(table(values[:BASELINE]), OPTIONS, tmp_path / "pack")
    pack = trained.pack
    follower = replace(fit_follower(trained.fitted), freeze=pack.manifest.threshold.raise_at)
    expected, parts = follow(follower, values)
    ticks = ticks_of(pack, values)
    seen = np.array([np.nan if tick.score.score is None else tick.score.score for tick in ticks])
    np.testing.assert_allclose(seen, expected, rtol=1e-9)
    np.testing.assert_allclose(ticks[800].score.contributions, parts[800] / parts[800].sum(), rtol=1e-9)
    runtime = PackRuntime(pack)
    last = [runtime.score(row) for row in values[:600]][-1]
    margins = runtime.margins(last)
    assert np.nansum((values[599] - last.expected) ** 2 / margins**2) == pytest.approx(last.score, rel=1e-9)
    report = training_report(trained)
    assert "every tick is judged" in report
    assert "calibrated on the same recording" in report


def test_a_level_stands_still_in_an_alarm_and_follows_what_is_slower_than_it() -> None:
    follower = fit_follower(table(run(1)[:BASELINE]).drives)
    around = np.random.default_rng(4).normal(size=(int(3 * STILL), 4)) * follower.unit + follower.start
    gone = around - np.array([0, 0, 0, 30 * follower.deviation[3]])
    score, _ = follow(follower, gone)
    assert score[20:].min() > 1  # for half an hour, and it does not become the new normal
    slow = around + np.arange(len(around))[:, None] * [0, 0, 3 * follower.deviation[2] / follower.follow[-1, 0], 0]
    score, _ = follow(follower, slow)
    assert score.max() < 1
    assert slow[-1, 2] - slow[0, 2] > 10 * follower.deviation[2]


def test_a_signal_that_flutters_or_is_stuck_is_found_though_its_level_stays(tmp_path: Path) -> None:
    for seed, what in enumerate(("flutters", "stuck")):
        values = run(seed)
        pack = train_pca(table(values[:BASELINE]), OPTIONS, tmp_path / what)
        values[700:1000, 3] = 125 + 4 * (values[700:1000, 3] - 125) if what == "flutters" else values[700, 3]
        ticks = ticks_of(pack, values)
        raised = [row for row, tick in enumerate(ticks) if tick.transition is Transition.RAISED]
        assert len(raised) == 1
        assert 700 < raised[0] < 760
        assert pack.manifest.names[int(np.argmax(ticks[raised[0]].score.contributions))] == "Loop.Flow"
        assert all(tick.alarm for tick in ticks[raised[0] : 1000])
        assert not any(tick.alarm for tick in ticks[1100:])


def test_a_short_recording_is_followed_unless_another_rung_is_named(tmp_path: Path) -> None:
    from click.testing import CliRunner

    path = tmp_path / "run.csv"
    np.savetxt(path, run(2)[:BASELINE], delimiter=",", header=",".join(NAMES), comments="")
    for more, rung, need in (([], "following", 5), (["--rung", "pca"], "pca", 10), (["--context", "Loop.Flow"], "expected", 10)):
        done = CliRunner().invoke(models, ["train", str(path), "-o", str(tmp_path / "pack"), *more], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        manifest = Pack.load(tmp_path / "pack").manifest
        assert (manifest.rung, manifest.persistence.need) == (rung, need)
    with pytest.raises(TrainingDataError, match="90 ticks of it have a value of every signal, expected at least 200"):
        train_pca(table(run(2)[:90]), OPTIONS, tmp_path / "short")
    with pytest.raises(TrainingDataError, match="the rung following averages by itself"):
        train_pca(table(run(2)), replace(OPTIONS, average=5), tmp_path / "average")
