"""Packs that judge each of many signals by all others, and packs over the network's figures."""

import numpy as np
import pytest

from dbc.compiler import compile_dbc
from dbc.network import network_names, network_units
from dbc.schema import Schema
from models.errors import TrainingDataError
from models.evaluation.attacks import auroc, highest, rises, trials
from models.joint import score_joint
from models.joint_graph import build_joint, joint_of
from models.judge import PackJudge
from models.pack import Pack
from models.runtime import PackRuntime
from models.tables import Drive, Table, chosen_figures
from models.train_joint import JointOptions, late, train_joint
from models.train_network import PACKS, NetworkOptions, train_network

NAMES = ("Car.Speed", "Motor.Speed", "Motor.Torque", "Pack.Power", "Pack.Voltage", "Cabin.Warmth")
TICKS = 300
DBC = """VERSION ""
NS_ :
BS_:
BU_: ECU
BO_ 256 Motor: 8 ECU
 SG_ Speed : 0|16@1+ (0.5,0) [0|30000] "rpm" ECU
BO_ 512 Tyre: 8 ECU
 SG_ Pressure : 0|16@1+ (0.01,0) [0|500] "bar" ECU
BO_ 513 GW_Vin: 8 ECU
 SG_ VinPart : 0|16@1+ (1,0) [0|500] "" ECU
BO_ 768 NM_Drive: 8 ECU
 SG_ Awake : 0|8@1+ (1,0) [0|255] "" ECU
BA_DEF_ BO_ "GenMsgCycleTime" INT 0 65535;
BA_DEF_DEF_ "GenMsgCycleTime" 0;
BA_ "GenMsgCycleTime" BO_ 256 10;
BA_ "GenMsgCycleTime" BO_ 512 1000;
BA_ "GenMsgCycleTime" BO_ 513 1000;
BA_ "GenMsgCycleTime" BO_ 768 500;
"""


def drives(count: int, seed: int) -> tuple[Drive, ...]:
    """A car: the motor's speed follows the car's, power is speed times torque, voltage falls with power, warmth is by itself."""
    dice = np.random.default_rng(seed)
    found = []
    for number in range(count):
        speed = np.abs(np.cumsum(dice.normal(0, 1.5, TICKS))) + 10
        torque = np.convolve(dice.normal(0, 60, TICKS + 4), np.ones(5) / 5, "valid")
        power = speed * torque / 100
        voltage = 400 - 0.8 * power + dice.normal(0, 0.4, TICKS)
        warmth = 21 + np.cumsum(dice.normal(0, 0.05, TICKS)) + dice.normal(0, 0.1, TICKS)
        rows = [speed, speed * 8.8 + dice.normal(0, 1, TICKS), torque, power + dice.normal(0, 0.1, TICKS), voltage, warmth]
        found.append(Drive(f"drive {number}", 1000 * np.arange(TICKS), np.stack(rows, axis=1)))
    return tuple(found)


@pytest.fixture(scope="module")
def table() -> Table:
    return Table(NAMES, ("",) * len(NAMES), drives(60, 1))


@pytest.fixture(scope="module")
def pack(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return train_joint(table, JointOptions("signals", "anomaly", seed=1, need=3, of=4), tmp_path_factory.mktemp("joint") / "signals")


def judged(pack: Pack, drive: Drive):
    joint = joint_of(pack.model)
    assert joint is not None
    scored = score_joint(joint, drive)
    return np.where(scored.known, scored.score, np.nan)


def test_forged_values_stand_out_and_the_finding_names_the_signal(pack: Pack):
    assert [signal.role for signal in pack.manifest.signals] == ["monitored"] * len(NAMES)
    fresh = drives(12, 2)
    calm = [(at, float(np.nanmax(judged(pack, drive)))) for at, drive in enumerate(fresh)]
    forged = trials(
        "plateau", fresh, range(5), 30, 60, 150, lambda kind, at, v, first, rows, dice: np.full(rows, v.max()), np.random.default_rng(3)
    )
    rule = pack.manifest.alarm()
    found = [(one.drive, *highest(lambda drive: judged(pack, drive), fresh[one.drive], one, 160, rule)) for one in forged]
    result = auroc([(drive, score) for drive, score, _ in found], calm)
    assert result.value > 0.9
    assert result.low <= result.value <= result.high

    drive = fresh[0]
    values = drive.values.copy()
    values[200:, 4] = values[199, 4] + 40
    judge = PackJudge(PackRuntime(pack))
    said = [judge.step(row, tick) for row, tick in zip(values, drive.tick_ms.tolist(), strict=True)]
    raised = [at for at, one in enumerate(said) if one.transition is not None]
    assert 200 < raised[0] < 206
    at = raised[0]
    score = said[at].score
    assert NAMES[int(np.argmax(score.contributions))] == "Pack.Voltage"
    assert abs(score.expected[4] - drive.values[at, 4]) < 10
    margins = judge.runtime.margins(score)
    assert 0 < margins[4] < 40


def test_the_graph_the_batch_and_the_constants_read_back_agree(pack: Pack):
    drive = drives(1, 4)[0]
    batch, runtime = judged(pack, drive), PackRuntime(pack)
    scores = [runtime.score(row, tick) for row, tick in zip(drive.values, drive.tick_ms.tolist(), strict=True)]
    assert [one.score is None for one in scores] == np.isnan(batch).tolist()
    assert [one.score for one in scores if one.score is not None] == pytest.approx(batch[np.isfinite(batch)].tolist(), rel=1e-9)
    gap = Drive("gap", drive.tick_ms, np.where(np.arange(TICKS)[:, None] == 200, np.nan, drive.values))
    assert np.isfinite(judged(pack, gap)).sum() == 200 - pack.manifest.window + 1


def test_a_sensor_that_is_stuck_and_one_that_is_noisy(table: Table, tmp_path):
    still = train_joint(table, JointOptions("stuck", "sensor_stuck", judge="still", seed=1), tmp_path / "stuck")
    noise = train_joint(table, JointOptions("noisy", "sensor_noise", judge="noise", seed=1), tmp_path / "noisy")
    drive = drives(1, 5)[0]
    for pack, column, forged in ((still, 4, np.full(100, 399.0)), (noise, 5, 20 + np.random.default_rng(0).normal(0, 2, 100))):
        assert not len(rises(pack.manifest.alarm(), drive.tick_ms, judged(pack, drive)))
        names = pack.manifest.names
        values = drive.values[:, [NAMES.index(name) for name in names]].copy()
        values[150:250, names.index(NAMES[column])] = forged
        assert len(rises(pack.manifest.alarm(), drive.tick_ms, judged(pack, Drive("broken", drive.tick_ms, values)))) == 1
    made = joint_of(build_joint(joint_of(noise.model), _knots()))
    assert made is not None
    assert made.judge == "noise"


def _knots():
    from models.calibrate import p_value_knots

    return p_value_knots(np.linspace(0, 1, 50))


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    path = tmp_path_factory.mktemp("dbc") / "car.dbc"
    path.write_text(DBC)
    return compile_dbc([f"{path}@can0"]).schema


def test_ticks_become_as_late_as_a_bus_and_stay_in_raw_steps(schema: Schema):
    columns = np.array([schema.index(name) for name in ("Tyre.Pressure", "Motor.Speed")])
    ramp = np.stack([2.0 + 0.4 * np.arange(100), 100.0 * np.arange(100)], axis=1)
    made = late(Table(tuple(schema.names[at] for at in columns), ("", ""), (Drive("x", 1000 * np.arange(100), ramp),), schema, columns), 1)
    behind = (ramp - made.drives[0].values)[1:]
    assert 0 <= behind[:, 0].min() <= behind[:, 0].max() <= 0.4 + 1e-9
    assert 0 <= behind[:, 1].min() <= behind[:, 1].max() <= 1.2
    assert behind[:, 0].max() > 0
    steps = (made.drives[0].values - schema.offset[columns]) / schema.scale[columns]
    assert np.allclose(steps, np.round(steps))


def test_few_drives_and_signals_that_stand_still_are_told(table: Table, tmp_path):
    with pytest.raises(TrainingDataError, match=r"3 drives, expected at least 20"):
        train_joint(Table(NAMES, table.units, table.drives[:3]), JointOptions("x", "anomaly"), tmp_path / "x")
    short = tuple(drive.rows(0, 200) for drive in table.drives)
    with pytest.raises(TrainingDataError, match=r"drive 0: no drive has 270 valid ticks"):
        train_joint(Table(NAMES, table.units, short), JointOptions("x", "anomaly"), tmp_path / "x")
    with pytest.raises(TrainingDataError, match="moves within a drive"):
        train_joint(table, JointOptions("x", "anomaly", monitor=["No.Such"]), tmp_path / "x")


@pytest.fixture(scope="module")
def quiet_bus(schema: Schema) -> Table:
    """The figures of healthy drives: all 0, but for the frames with which a bus wakes."""
    columns = np.array(chosen_figures(schema, ["*.#*"]), np.int64)
    names = tuple(network_names(schema)[at - len(schema)] for at in columns)
    values = np.zeros((TICKS, len(names)))
    values[0, names.index("NM_Drive.#excess")] = 9
    units = tuple(network_units(schema)[at - len(schema)] for at in columns)
    return Table(names, units, tuple(Drive(f"{at}", 1000 * np.arange(TICKS), values) for at in range(4)), schema, columns)


@pytest.mark.parametrize(
    ("code", "figure", "little", "much"),
    [
        ("control_unit_silent", "Motor.#silence", 20.0, 60.0),  # periods of 10 ms: overdue by 0.2 s, and by 0.6 s
        ("control_unit_silent", "Tyre.#silence", 0.5, 1.5),
        ("attack_flooding", "NM_Drive.#excess", 9.0, 30.0),
        ("control_unit_babbling", "Motor.#repeated", 20.0, 100.0),
    ],
)
def test_packs_over_the_network_alarm_where_it_matters(quiet_bus: Table, tmp_path, code: str, figure: str, little: float, much: float):
    rule = PACKS[code]
    mine = quiet_bus.choose([at for at, name in enumerate(quiet_bus.names) if name.endswith(rule.figures)])
    pack = train_network(mine, NetworkOptions(code, code, need=rule.need, of=rule.of), tmp_path / code)
    assert pack.columns(mine.schema).tolist() == mine.columns.tolist()
    assert not any("Vin" in name for name in pack.manifest.names)
    judge = PackJudge(PackRuntime(pack))
    values = np.zeros(len(mine.names))
    for tick, value in enumerate((0.0, little, 0.0, much)):
        values[mine.names.index(figure)] = value
        said = judge.step(values, 1000 * tick)
        assert (said.transition is not None) == (value == much)
    assert pack.manifest.names[int(np.argmax(said.score.contributions))] == figure
