"""Joint packs on many vehicles at once say what they say of each recording by itself, and what the runtime says."""

from types import SimpleNamespace

import numpy as np
import pytest
from test_evaluation_stream import stretches
from test_models_joint import NAMES, drives

from dbc.compiler import compile_dbc
from dbc.vehicles import DBC_FILES
from models.alarm import Transition
from models.evaluation.lateness import Lateness
from models.evaluation.months import Follow, judge
from models.evaluation.stream_joint import JointScores
from models.joint import JudgeName, score_joint
from models.joint_graph import joint_of
from models.judge import PackJudge
from models.pack import Pack
from models.runtime import PackRuntime
from models.tables import Drive, Table
from models.train_joint import JointOptions, train_joint

JUDGES: tuple[JudgeName, ...] = ("apart", "level", "noise", "still")


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> list[Pack]:
    table, folder = Table(NAMES, ("",) * len(NAMES), drives(40, 1)), tmp_path_factory.mktemp("joint")
    return [train_joint(table, JointOptions(judge, judge, judge=judge, seed=1, need=3, of=4), folder / judge) for judge in JUDGES]


def recordings() -> list[Drive]:
    """Healthy, with a jump, with gaps, out of the trained range, and shorter than the others; in the precision of simulated ticks."""
    found = [Drive(one.source, one.tick_ms, one.values.astype(np.float32).astype(np.float64)) for one in drives(5, 9)]
    found[1].values[150:, 4] += 40.0
    found[1].values[200:, 5] = 21.5
    found[2].values[170] = np.nan
    found[3].values[200:210, 2] = 1e9
    found[4] = found[4].rows(0, 190)
    return found


def test_scores_are_those_of_whole_recordings(packs: list[Pack]) -> None:
    cars = recordings()
    for pack in packs:
        joint = joint_of(pack.model)
        assert joint is not None
        scores, follow = JointScores(joint, len(cars)), Follow(len(cars), 0)
        columns = [NAMES.index(name) for name in pack.manifest.names]
        parts = []
        for rows in stretches(cars, 70):
            ticks = follow(rows)
            parts.append(scores(ticks.lane, ticks.values[:, columns], ticks.whole))
        score, judged = (np.concatenate(part) for part in zip(*parts, strict=True))
        for lane, car in enumerate(cars):
            expected = score_joint(joint, car.choose(columns))
            ticks_of = len(car.tick_ms)
            known = expected.known & np.isfinite(expected.score)
            assert judged[:ticks_of, lane].tolist() == known.tolist()
            assert not judged[ticks_of:, lane].any()
            np.testing.assert_allclose(score[:ticks_of, lane][known], expected.score[known], rtol=1e-3, atol=1e-5)


def test_findings_are_those_of_the_vehicle(packs: list[Pack]) -> None:
    cars = recordings()
    found = judge(packs, stretches(cars, 70), range(len(cars)), [np.full((len(NAMES), len(cars)), np.nan)] * len(packs)).found
    assert {one.fault_code for one in found if one.vehicle == 1} >= {"apart", "level", "still"}
    pack = packs[0]
    for lane, car in enumerate(cars):
        one = PackJudge(PackRuntime(pack))
        said = [one.step(row, tick).transition for row, tick in zip(car.values, car.tick_ms.tolist(), strict=True)]
        raised = [at for at, transition in enumerate(said) if transition is Transition.RAISED]
        assert [car.tick_ms[at] / 1000 for at in raised] == [
            one.seen_s for one in found if (one.vehicle, one.fault_code) == (lane, "apart")
        ]


def test_rows_are_as_late_as_a_bus_says_them() -> None:
    schema = compile_dbc(DBC_FILES).schema
    names = [
        "MCU_Motor.MotorSpeed",
        "GW_Vehicle.IgnitionState",
        "BMS_Pack.PackCurrent",
        "MCU_Motor.MotorTorque",
        "TPMS_Pressure.TyrePressureFrontLeft",
    ]
    columns = np.array([schema.index(name) for name in names])
    ramp = np.arange(8, dtype=np.float64)[:, None, None] * np.array([1e4, 1, 1e4, 1e4, 1e4])[:, None] * np.ones(300)
    late, parts = Lateness(schema, columns, 300, 1), []
    for first in (0, 4):
        follows = np.ones((4, 300), np.bool_)
        follows[0] = first > 0
        follows[:, 299] = False
        rows = SimpleNamespace(lane=np.arange(300), follows=follows, values=ramp[first : first + 4].astype(np.float32))
        late(rows)
        parts.append(rows.values)
    behind = (ramp - np.concatenate(parts))[:, :, :299]
    assert not behind[0].any()
    assert not behind[:, 1].any()  # a state
    assert not (ramp[:, :, 299] - np.concatenate(parts)[:, :, 299]).any()  # ticks that do not follow one another
    share = behind[1:] / np.array([1e4, 1, 1e4, 1e4, 1e4])[:, None]
    np.testing.assert_allclose(share, np.broadcast_to(share[:1], share.shape), atol=0.001)  # raw steps
    period_s = schema.period_ms[columns] / 1000
    for at in (0, 2, 3, 4):
        assert share[:, at].mean() == pytest.approx(np.minimum(np.linspace(0, 1.2, 999) * period_s[at], 1.0).mean(), rel=0.2)
    np.testing.assert_allclose(share[:, 0], share[:, 3], atol=0.001)  # of one message
