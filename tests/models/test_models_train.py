"""Training on a loop with ground truth: silent on healthy drives, loud on a leak, the same everywhere and every time."""

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from thermal_loop import CONTEXT, NAMES, table

from models.alarm import Transition
from models.calibrate import highest_persistent, p_value, p_value_knots
from models.errors import TrainingDataError
from models.fit import fit, score_drive
from models.manifest import ModelFile, Persistence, RungName, sha256
from models.pack import Pack, write
from models.runtime import PackRuntime, Score
from models.scoring import score_drive_ticks
from models.tables import Drive, Table
from models.train import Options, split_drives, train_pca


def columns(pack: Pack) -> list[int]:
    return [NAMES.index(name) for name in pack.manifest.names]


def alarms(pack: Pack, data: Table) -> list[Score | None]:
    """The score that raised the first alarm of each drive, or None."""
    runtime = PackRuntime(pack)
    return [
        next((tick.score for tick in score_drive_ticks(runtime, drive) if tick.transition is Transition.RAISED), None)
        for drive in data.choose(columns(pack)).drives
    ]


def test_unseen_healthy_drives_stay_silent(trained: Pack) -> None:
    assert alarms(trained, table(range(1000, 1020))) == [None] * 20


def test_a_leak_is_found_before_the_drive_ends_and_named(trained: Pack) -> None:
    found = alarms(trained, table(range(2000, 2020), ticks=300, leak_at=60))
    scores = [score for score in found if score is not None]
    assert len(scores) >= 19
    names = np.array(trained.manifest.names)
    top = [names[int(np.argmax(score.contributions))] for score in scores]
    assert set(top) <= {"Loop.Flow", "Loop.OutletTemperature"}


def test_the_expected_value_is_what_a_healthy_loop_would_show(trained: Pack) -> None:
    runtime = PackRuntime(trained)
    flow = trained.manifest.names.index("Loop.Flow")
    broken = table(range(2000, 2010), ticks=300, leak_at=60).choose(columns(trained)).drives
    for drive in broken:
        last = list(score_drive_ticks(runtime, drive))[-1].score
        seen = drive.values[-1, flow]
        assert seen < last.expected[flow]
        assert last.expected[flow] * 0.97 == pytest.approx(seen, rel=0.02)


def test_a_margin_is_the_distance_at_which_a_signal_by_itself_scores_one(trained: Pack) -> None:
    rows = table(range(77, 78), ticks=300, leak_at=60).choose(columns(trained)).drives[0].values
    runtime = PackRuntime(trained)
    for values in rows:
        score = runtime.score(values)
    margins, monitored = runtime.margins(score), score.contributions > 0
    assert score.score is not None
    assert np.isnan(margins[~monitored]).all()
    for at in np.argsort(-score.contributions)[:3]:
        off = rows[-1, at] - score.expected[at]
        mended = rows.copy()
        mended[-trained.manifest.average :, at] -= off
        other = PackRuntime(trained)
        for values in mended:
            without = other.score(values)
        assert without.score is not None
        assert (off / margins[at]) ** 2 == pytest.approx(score.score - without.score, rel=1e-6)
    evidence, average = runtime.evidence(score), trained.manifest.average
    assert average > 1
    np.testing.assert_allclose(evidence.seen, rows[-average:].mean(axis=0))  # and the healthy value of the same ticks
    np.testing.assert_allclose(evidence.seen - evidence.expected, rows[-1] - score.expected, atol=1e-9)


def test_contributions_are_shares_of_the_monitored_signals(trained: Pack) -> None:
    drive = table(range(1000, 1001)).choose(columns(trained)).drives[0]
    score = list(score_drive_ticks(PackRuntime(trained), drive))[-1].score
    context = [at for at, signal in enumerate(trained.manifest.signals) if signal.role == "context"]
    assert score.contributions.sum() == pytest.approx(1)
    assert (score.contributions >= 0).all()
    assert not score.contributions[context].any()
    assert (score.expected[context] == drive.values[-1, context]).all()


@pytest.mark.parametrize(
    ("rung", "context", "average", "window"),
    [
        ("limits", (), 5, 5),
        ("pca", (), 1, 1),
        ("pca", (), 7, 7),
        ("expected", CONTEXT, 1, 1),
        ("expected", CONTEXT, 5, 30),
        ("autoencoder", CONTEXT, 5, 30),
    ],
)
def test_graph_and_numpy_agree_on_unseen_drives(
    healthy: Table, tmp_path: Path, rung: RungName, context: tuple[str, ...], average: int, window: int
) -> None:
    few = Table(healthy.names, healthy.units, healthy.drives[:12])
    pack = train_pca(few, Options("loop", "x", rung=rung, context=context, average=average, window=window), tmp_path)
    unseen = table(range(3000, 3003), ticks=200).choose(columns(pack))
    roles = [signal.role for signal in pack.manifest.signals]
    monitored = [at for at, role in enumerate(roles) if role == "monitored"]
    context_columns = [at for at, role in enumerate(roles) if role == "context"]
    fitted, _ = split_drives(few.choose(columns(pack)).drives, 0)
    detector = fit(fitted, monitored, context_columns, average, window, rung)
    runtime = PackRuntime(pack)
    for drive in unseen.drives:
        reference = score_drive(detector, drive)
        ticks = list(score_drive_ticks(runtime, drive))
        scores = np.array([np.nan if tick.score.score is None else tick.score.score for tick in ticks])
        np.testing.assert_allclose(scores, reference.score, rtol=1e-9)
        assert [tick.score.known for tick in ticks] == reference.known.tolist()


def test_the_same_data_and_seed_give_the_same_bytes(healthy: Table, trained: Pack, tmp_path: Path) -> None:
    again = train_pca(healthy, Options("loop", "coolant_leak", context=CONTEXT, average=10, window=20), tmp_path)
    for name in ("model.onnx", "manifest.json"):
        assert (again.folder / name).read_bytes() == (trained.folder / name).read_bytes()
    assert len(trained.model) < 200_000


def test_outside_the_trained_range_is_not_known_and_no_alarm(trained: Pack) -> None:
    hot = table(range(1000, 1001))
    hot.drives[0].values[:, NAMES.index("Air.AmbientTemperature")] += 60
    runtime = PackRuntime(trained)
    ticks = list(score_drive_ticks(runtime, hot.choose(columns(trained)).drives[0]))
    scored = [tick for tick in ticks if tick.score.score is not None]
    assert scored
    assert not any(tick.score.known or tick.alarm for tick in scored)
    assert scored[0].score.reason == "outside the operating range of its training"


def test_an_invalid_value_gives_no_score_and_begins_the_window_anew(trained: Pack) -> None:
    drive = table(range(1000, 1001), ticks=60).choose(columns(trained)).drives[0]
    values = drive.values.copy()
    values[30, 2] = np.nan
    ticks = list(score_drive_ticks(PackRuntime(trained), Drive("", drive.tick_ms, values)))
    have = [tick.score.score is not None for tick in ticks]
    assert have == [at >= 19 and not 30 <= at < 50 for at in range(60)]
    assert ticks[30].score.reason == f"no valid value of {trained.manifest.names[2]}"
    assert ticks[30].score.p_value is None


def test_a_gap_begins_the_window_anew(trained: Pack) -> None:
    drive = table(range(1000, 1001), ticks=50).choose(columns(trained)).drives[0]
    times = drive.tick_ms + np.where(np.arange(50) >= 25, 7000, 0)
    have = [tick.score.score is not None for tick in score_drive_ticks(PackRuntime(trained), Drive("", times, drive.values))]
    assert have == [19 <= at < 25 or at >= 44 for at in range(50)]


def test_p_values_are_conformal_and_condensed_ones_err_to_the_large_side() -> None:
    scores = np.random.default_rng(1).exponential(size=20_000)
    knots = p_value_knots(scores)
    assert knots.ticks == 20_000
    assert len(knots.score) <= 1500
    probe = np.quantile(scores, [0.0, 0.3, 0.9, 0.99, 1.0])
    exact = (1 + (scores[None, :] >= probe[:, None]).sum(axis=1)) / 20_001
    condensed = p_value(knots, probe * (1 - 1e-8))
    assert (condensed >= exact - 1e-12).all()
    np.testing.assert_allclose(condensed, exact, atol=0.003)
    assert p_value(knots, np.array([1e9]))[0] == 1 / 20_001


def test_the_highest_persistent_score_is_where_the_alarm_would_just_rise() -> None:
    rule = Persistence(need=2, of=3, warmup_ticks=1, gap_s=5)
    assert highest_persistent(np.array([99.0, 1, 5, 1, 4, 1, 1]), rule) == 4.0
    assert highest_persistent(np.array([99.0, 9]), rule) == 0.0


def test_one_recording_alone_is_split_in_time(healthy: Table, tmp_path: Path) -> None:
    pack = train_pca(Table(healthy.names, healthy.units, healthy.drives[:1]), Options("one", "x"), tmp_path)
    assert pack.manifest.alarm_budget.tail == "highest"
    assert pack.manifest.calibration.drives == 1


def test_what_cannot_be_learned_from_is_said_in_one_line(healthy: Table, tmp_path: Path) -> None:
    def refused(data: Table, **options: object) -> str:
        with pytest.raises(TrainingDataError) as caught:
            train_pca(data, Options("x", "x", **options), tmp_path)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "2 ticks of a second, expected at least 60" in refused(table(range(2), ticks=2))
    nothing = Table(healthy.names, healthy.units, tuple(Drive(d.source, d.tick_ms, d.values * np.nan) for d in healthy.drives[:3]))
    assert "0 of 8 signals are usable" in refused(nothing)
    still = Table(healthy.names, healthy.units, tuple(Drive(d.source, d.tick_ms, d.values * 0) for d in healthy.drives[:3]))
    assert "constant" in refused(still)
    assert "fits the context 'Engine.*'" in refused(healthy, context=("Engine.*",))
    assert "0 of them would be monitored" in refused(healthy, context=("*",))


def test_a_context_signal_that_never_moved_in_training_is_a_gate(tmp_path: Path) -> None:
    def with_heater(data: Table, power: float) -> Table:
        drives = tuple(Drive(d.source, d.tick_ms, np.column_stack([d.values, np.full(len(d.tick_ms), power)])) for d in data.drives)
        return Table((*NAMES, "Heater.Power"), (*data.units, "W"), drives)

    pack = train_pca(with_heater(table(range(12)), 0.0), Options("loop", "x", context=(*CONTEXT, "Heater.*")), tmp_path)
    assert "Heater.Power" in pack.manifest.names
    order = [(*NAMES, "Heater.Power").index(name) for name in pack.manifest.names]
    for power, known in ((0.0, True), (500.0, False)):
        drive = with_heater(table(range(1, 2), ticks=60), power).choose(order).drives[0]
        assert [tick.score.known for tick in score_drive_ticks(PackRuntime(pack), drive)] == [known] * 60


def test_a_graph_that_takes_floats_is_given_floats(trained: Pack, tmp_path: Path) -> None:
    model = onnx.load_from_string(trained.model)
    for node in model.graph.node:
        node.input[:] = ["doubles" if name == "values" else name for name in node.input]
    model.graph.node.insert(0, helper.make_node("Cast", ["values"], ["doubles"], to=TensorProto.DOUBLE))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    data = model.SerializeToString()
    file = ModelFile(sha256=sha256(data), bytes=len(data))
    floats = Pack.load(write(tmp_path, msgspec.structs.replace(trained.manifest, model=file), data))
    drive = table(range(1000, 1001), ticks=60).choose(columns(trained)).drives[0]
    for one, other in zip(score_drive_ticks(PackRuntime(floats), drive), score_drive_ticks(PackRuntime(trained), drive), strict=True):
        assert one.score.score == (None if other.score.score is None else pytest.approx(other.score.score, rel=1e-3))


def test_limits_judge_each_signal_by_itself_wherever_it_is(tmp_path: Path) -> None:
    """A signal ten ranges away is what limits are for; to a PCA it is a place where it has never been."""
    random = np.random.default_rng(2)
    rows = random.normal(0, 1, (2000, 3)) * [1, 10, 100]
    made = Table(("A.x", "A.y", "A.z"), ("V", "A", "W"), (Drive("one", 1000 * np.arange(2000), rows),))
    far = np.array([0.0, 200.0, 0.0])
    limits = PackRuntime(train_pca(made, Options("limits", "x", rung="limits"), tmp_path / "limits")).score(far)
    plain = PackRuntime(train_pca(made, Options("plain", "x"), tmp_path / "plain")).score(far)
    assert limits.known
    assert not plain.known
    assert limits.score is not None
    assert limits.score > 10
    assert limits.contributions[1] > 0.99
    assert limits.expected == pytest.approx([0, 0, 0], abs=5)  # the usual value: what limits expect
    with pytest.raises(TrainingDataError, match="the rung limits takes no context"):
        train_pca(made, Options("limits", "x", rung="limits", context=("A.x",)), tmp_path / "none")
