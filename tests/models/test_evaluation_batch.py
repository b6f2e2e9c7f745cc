"""Scoring a whole drive at once says what scoring it tick by tick says."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thermal_loop import CONTEXT, table

from models.alarm import Alarm, AlarmState, Transition
from models.evaluation import batch as batches
from models.evaluation.batch import BatchJudge, alarms, detector_of
from models.evaluation.judging import judge
from models.manifest import RUNGS
from models.pack import Pack
from models.runtime import PackRuntime
from models.tables import Drive, Table
from models.train import Options, train_pca


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_alarms_are_those_of_the_steps(data: st.DataObject) -> None:
    of = data.draw(st.integers(1, 6))
    rule = Alarm(2.0, data.draw(st.sampled_from([1.0, 2.0])), data.draw(st.integers(1, of)), of, data.draw(st.integers(0, 4)), 5000)
    steps = data.draw(st.lists(st.sampled_from([1000] * 12 + [0, -1000, 3000, 7000]), max_size=60))
    tick_ms = np.cumsum(np.array([100_000, *steps], np.int64))
    score = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.5, 2.0, 3.0, np.nan]), min_size=len(tick_ms), max_size=len(tick_ms))))
    state, active, raised = AlarmState(), [], []
    for row, (tick, value) in enumerate(zip(tick_ms.tolist(), score.tolist(), strict=True)):
        state, transition = rule.step(state, None if np.isnan(value) else value, tick)
        active.append(state.active)
        if transition is Transition.RAISED:
            raised.append(row)
    found_active, found_raised = alarms(rule, tick_ms, score)
    assert found_raised.tolist() == raised
    assert found_active.tolist() == active


@pytest.mark.parametrize("rung", list(RUNGS))
def test_at_once_as_tick_by_tick(
    healthy: Table, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, rung: str
) -> None:
    monkeypatch.setattr(batches, "PIECE", 170)
    context = CONTEXT if rung == "expected" else ()
    few = Table(healthy.names, healthy.units, healthy.drives[:12])
    options = Options("loop", "x", rung=rung, context=context, average=5, window=20)  # type: ignore[arg-type]
    pack = train_pca(few, options, tmp_path_factory.mktemp(rung))
    (leak,) = table(range(77, 78), leak_at=200).choose([healthy.names.index(name) for name in pack.manifest.names]).drives
    values = leak.values.copy()
    values[100, 0] = np.nan
    tick_ms = leak.tick_ms.copy()
    tick_ms[400:] += 20_000
    drive = Drive("leak", tick_ms, values)
    runtime = PackRuntime(pack)
    batch = BatchJudge(runtime)
    assert batch.scores(drive) is not None
    slow, fast = judge(runtime, drive), judge(runtime, drive, batch)
    np.testing.assert_allclose(fast.score, slow.score, rtol=1e-9, atol=1e-12)
    assert fast.alarm.tolist() == slow.alarm.tolist()
    assert fast.raised.tolist() == slow.raised.tolist()
    for one, other in zip(fast.contributions, slow.contributions, strict=True):
        assert one == pytest.approx(other)


def test_a_graph_that_is_not_ours_is_scored_tick_by_tick(trained: Pack) -> None:

    model = onnx.load_from_string(trained.model)
    model.producer_name = "someone"
    assert detector_of(model.SerializeToString()) is None
    model.producer_name = "cansight"
    for constant in model.graph.initializer:
        if constant.name == "bias":  # a graph of our make in which something else was changed after its constants
            constant.name = "another"
    assert detector_of(model.SerializeToString()) is None
    assert detector_of(trained.model) is not None
