"""Scoring a whole drive at once says what scoring it tick by tick says."""

import numpy as np
import onnx
import pytest
from thermal_loop import CONTEXT, table

from models.evaluation import batch as batches
from models.evaluation.batch import BatchJudge, detector_of
from models.evaluation.judging import judge
from models.manifest import RUNGS
from models.pack import Pack
from models.runtime import PackRuntime
from models.tables import Drive, Table
from models.train import Options, train_pca


@pytest.mark.parametrize("rung", [rung for rung in RUNGS if rung != "following"])  # its graph is of another make
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
    assert batch.judge(drive) is not None
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
