"""A vehicle's own baseline, and confirmation over drives: learned, bounded, kept, and the same tick by tick and all at once."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from cansight.main import main
from models.alarm import Transition
from models.baseline import Baselines, BaselineState
from models.drives import LONGEST_TICKS, Drives, DriveState, Level, first_ticks
from models.errors import PackError, StateError, TrainingDataError
from models.evaluation.batch import detector_of
from models.fit import Detector
from models.judge import PackJudge
from models.manifest import Confirm, DriveRule, encode, parse
from models.pack import Pack, write
from models.runtime import PackRuntime
from models.tables import Drive, Table
from models.train import Options, train_pca
from models.vehicle import judge_vehicle

NAMES, UNITS = ("Pump.Speed", "Loop.Flow", "Loop.Warmth"), ("rpm", "L/min", "degC")
TICKS = 400
GAP_MS = 3_600_000
TOLERANCE = 0.02
"""Standard deviation of what pumps differ by when they are new; a leak's first 3 % is no more than that."""


def vehicle(seed: int, drives: int, tolerance: float | None = None, leak: float = 0.0, leak_from: int = 0, ticks: int = TICKS) -> Drive:
    """Some drives of one vehicle, an hour apart. leak: share of the flow that is lost from drive `leak_from` on."""
    random = np.random.default_rng(seed)
    own = random.normal(0, TOLERANCE) if tolerance is None else tolerance
    warmer = random.normal(0, 0.5)
    parts, times = [], []
    for at in range(drives):
        speed = 2500 + 800 * np.sin(np.arange(ticks) / 40 + random.uniform(0, 6)) + random.normal(0, 20, ticks)
        flow = 0.004 * speed * (1 + own) * (1 - (leak if at >= leak_from else 0.0)) + random.normal(0, 0.05, ticks)
        parts.append(np.stack([speed, flow, 20 + 0.002 * speed + warmer + random.normal(0, 0.1, ticks)], axis=1))
        times.append(at * GAP_MS + 1000 * np.arange(ticks))
    return Drive(f"vehicle {seed}", np.concatenate(times) + 1_700_000_000_000, np.concatenate(parts))


OPTIONS = Options(
    "loop", "coolant_leak", context=["Pump.*"], average=10, window=10, baseline=(3, 6), gains=["Loop.Flow"], confirm=(2, 3), at_once=12.0
)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    table = Table(NAMES, UNITS, tuple(vehicle(seed, 7) for seed in range(60)))
    return train_pca(table, OPTIONS, tmp_path_factory.mktemp("packs") / "loop")


def steps(judge: PackJudge, drive: Drive, pack: Pack) -> Iterator[tuple[int, Transition, Level | None]]:
    values = drive.values[:, [NAMES.index(name) for name in pack.manifest.names]]
    for row, (tick, row_values) in enumerate(zip(drive.tick_ms.tolist(), values, strict=True)):
        said = judge.step(row_values, tick)
        if said.transition is not None:
            yield row, said.transition, said.level


def columns(pack: Pack, drive: Drive) -> Drive:
    return drive.choose([NAMES.index(name) for name in pack.manifest.names])


def detector(pack: Pack) -> Detector:
    found = detector_of(pack.model)
    assert found is not None
    return found


def flow_of(pack: Pack, values: NDArray[np.float64]) -> float:
    names = [pack.manifest.names[at] for at in pack.manifest.monitored]
    return float(values[names.index("Loop.Flow")])


def test_what_a_vehicle_is_by_itself_is_learned_and_a_small_fault_shows_against_it(own: Pack) -> None:
    judge = PackJudge(PackRuntime(own))
    assert list(steps(judge, vehicle(500, 8, tolerance=0.03), own)) == []
    assert judge.learned == (6, 6)
    assert judge.baseline is not None
    assert flow_of(own, judge.baseline) == pytest.approx(0.03 * 10.0, rel=0.05)

    leaking = PackJudge(PackRuntime(own))
    found = list(steps(leaking, vehicle(500, 12, tolerance=0.03, leak=0.009, leak_from=9), own))
    assert [(what.name, level) for _, what, level in found[:2]] == [("RAISED", "seen"), ("CONFIRMED", "ticket")]
    assert [row // TICKS for row, *_ in found[:2]] == [9, 10]
    assert leaking.learned == (6, 6)  # and nothing of the leak


def test_without_a_baseline_the_same_leak_is_one_pump_among_others(own: Pack) -> None:
    assert judge_vehicle(own.manifest, detector(own), columns(own, vehicle(501, 3, tolerance=0.0, leak=0.04))).findings == ()


def test_a_drive_with_a_finding_never_enters_and_a_big_fault_is_never_learned(own: Pack) -> None:
    judge = PackJudge(PackRuntime(own))
    found = list(steps(judge, vehicle(502, 8, leak=0.4), own))
    assert [(what.name, level) for _, what, level in found] == [("RAISED", "ticket")]  # so high that one drive is enough
    assert judge.learned == (0, 6)
    held = PackJudge(PackRuntime(own))
    drive = columns(own, vehicle(503, 2))
    for tick, values in zip(drive.tick_ms.tolist(), drive.values, strict=True):
        held.step(values, tick, hold=True)
    held.restart()
    assert held.learned == (0, 6)


def test_of_a_fault_that_was_there_first_no_more_than_the_bound_is_learned() -> None:
    rule = Baselines(2, 4, np.array([0.5, 1.0]))
    state = BaselineState()
    values = []
    for mean in ([0.2, -3.0], [0.4, -3.0], [0.3, -3.0], [9.9, -3.0], [9.9, 9.9]):
        state = rule.add(state, np.array(mean))
        values.append(rule.value(state))
    assert values[0] is None
    np.testing.assert_allclose(np.array(values[1:]), [[0.3, -1.0], [0.3, -1.0], [0.35, -1.0], [0.35, -1.0]])


def test_all_at_once_is_what_tick_by_tick_is(own: Pack) -> None:
    cases = [vehicle(510, 9), vehicle(511, 9, leak=0.009, leak_from=5), vehicle(512, 9, leak=0.12, leak_from=1), vehicle(513, 8, leak=0.07)]
    short = vehicle(514, 9, leak=0.01, leak_from=4)
    rough = Drive(short.source, short.tick_ms, short.values.copy())
    rough.values[::37] = np.nan
    rough.values[1300:1330, 0] = 9999.0
    mended = vehicle(515, 10, leak=0.01, leak_from=6)
    mended.values[8 * TICKS :] = vehicle(515, 10).values[8 * TICKS :]
    for drive in [*cases, rough, mended]:
        judge = PackJudge(PackRuntime(own))
        values, found, active, scores = columns(own, drive), [], [], []
        for tick, row in zip(values.tick_ms.tolist(), values.values, strict=True):
            said = judge.step(row, tick)
            scores.append(np.nan if said.score.judged is None else said.score.judged)
            active.append(judge.active)
            if said.transition is not None:
                found.append((len(active) - 1, said.transition, said.level))
        whole = judge_vehicle(own.manifest, detector(own), values)
        np.testing.assert_allclose(whole.score, scores, rtol=1e-6)
        np.testing.assert_array_equal(whole.active, active)
        assert [one.raised for one in whole.findings] == [row for row, what, _ in found if what is Transition.RAISED]
        assert [one.cleared for one in whole.findings if one.cleared is not None] == [
            row for row, what, _ in found if what is Transition.CLEARED
        ]
        assert [one.ticket for one in whole.findings if one.ticket is not None] == [
            row for row, what, level in found if what is not Transition.CLEARED and level is Level.TICKET
        ]


def test_what_is_remembered_survives_a_restart_and_nothing_else_is_taken_for_it(own: Pack) -> None:
    drive = vehicle(520, 12, tolerance=0.03, leak=0.009, leak_from=9)
    expected = list(steps(PackJudge(PackRuntime(own)), drive, own))
    first = PackJudge(PackRuntime(own), "boot 1")
    cut = 10 * TICKS - 100  # in the leak's first drive, after it was seen
    found = list(steps(first, drive.rows(0, cut), own))
    state = first.state()
    assert len(state) < 4096

    same = PackJudge(PackRuntime(own), "boot 1")
    assert same.restore(state)
    rest = [(row + cut, what, level) for row, what, level in steps(same, drive.rows(cut, None), own)]
    assert [what for _, what, _ in found + rest] == [what for _, what, _ in expected]

    other = PackJudge(PackRuntime(own), "boot 2")  # whose clock begins at nothing
    assert other.restore(state)
    assert other.active
    later = drive.rows(10 * TICKS, None)
    early = Drive(later.source, later.tick_ms - later.tick_ms[0], later.values)
    assert [(what.name, level) for _, what, level in steps(other, early, own)][:1] == [("CONFIRMED", "ticket")]

    with pytest.raises(StateError, match="cannot be read"):
        same.restore(state[:-5])
    assert not same.restore(state.replace(own.manifest.model.sha256.encode(), b"0" * 64))
    same.reset()
    assert (same.learned, same.active, same.baseline) == ((0, 6), False, None)


def test_two_of_three_drives_confirm_and_short_quiet_ones_do_not_count() -> None:
    rule = Drives(gap_ms=600_000, least_ticks=5, need=2, of=3)

    def run(drives: str) -> list[Level]:
        """E: evidence, q: quiet, s: too short and quiet."""
        state, levels = DriveState(), []
        for at, kind in enumerate(drives):
            state = rule.close(state) if rule.over(state, at * 700_000) else state
            for tick in range(2 if kind == "s" else 6):
                state = rule.step(state, at * 700_000 + 1000 * tick, kind == "E" and tick == 5)
            levels.append(rule.level(state))
        return levels

    assert run("Eq")[0] is Level.SEEN
    assert run("EqE")[2] is Level.TICKET
    assert run("EssssE")[5] is Level.TICKET
    assert run("EqqE")[3] is Level.SEEN


def test_what_never_stops_makes_a_drive_a_day_that_counts_as_any() -> None:
    """Tick by tick and all at once alike; and a fault that lasts is confirmed, which one drive for ever would never do."""
    rule = Drives(gap_ms=600_000, least_ticks=300, need=2, of=3)
    times = np.concatenate([1000 * np.arange(300), 10_000_000 + 1000 * np.arange(2 * LONGEST_TICKS + 500)])
    state, begins, level = DriveState(), [], Level.SEEN
    for at, tick_ms in enumerate(times.tolist()):
        state = rule.close(state) if rule.over(state, tick_ms) else state
        if not state.ticks:
            begins.append(at)
        state = rule.step(state, tick_ms, evidence=at > 80_000)
        level = rule.level(state)
    assert begins == [0, 300, 300 + LONGEST_TICKS, 300 + 2 * LONGEST_TICKS] == first_ticks(times, rule.gap_ms).tolist()
    assert level is Level.TICKET


def test_a_manifest_that_contradicts_itself_is_refused(own: Pack, tmp_path: Path) -> None:
    manifest = own.manifest
    assert manifest.baseline is not None
    replace = msgspec.structs.replace
    flow = {"Loop.Flow": manifest.baseline.signals["Loop.Flow"]}
    for broken, words in (
        (replace(manifest, baseline=replace(manifest.baseline, least=9)), "least is over most"),
        (replace(manifest, baseline=replace(manifest.baseline, signals=flow)), "Loop.Warmth is not both monitored and in the baseline"),
        (replace(manifest, confirm=Confirm(drives=3, of=2)), "drives is over of"),
        (replace(manifest, confirm=Confirm(at_once=1e-3)), "at_once is under raise_at"),
        (replace(manifest, drives=DriveRule(gap_s=1)), "gap_s is under that of the persistence"),
    ):
        with pytest.raises(ValueError, match=words):
            parse(encode(broken))
    write(tmp_path / "without", replace(manifest, baseline=None), own.model)
    with pytest.raises(PackError, match="must have one input"):
        PackRuntime(Pack.load(tmp_path / "without"))


def test_a_baseline_needs_vehicles_with_several_drives(tmp_path: Path) -> None:
    table = Table(NAMES, UNITS, tuple(vehicle(seed, 2) for seed in range(6)))
    with pytest.raises(TrainingDataError, match="has over 3 drives"):
        train_pca(table, OPTIONS, tmp_path / "loop")


def test_the_command_line_trains_it_and_says_what_it_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(8):
        drive = vehicle(seed, 6, ticks=120)
        rows = np.column_stack([drive.tick_ms / 1000, drive.values])
        np.savetxt(tmp_path / f"{seed}.csv", rows, "%.6f", ",", header=f"timestamp,{','.join(NAMES)}", comments="")

    def run(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stop:
            main(["models", *map(str, arguments)])
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out + err

    data = [*sorted(tmp_path.glob("*.csv")), "--context", "Pump.*", "--average", 10, "-o", tmp_path / "loop"]
    assert run("train", *data, "--baseline", "3/4", "--gain", "Loop.Flow", "--confirm", "2/3", "--at-once", 5, "--drive", "600/60")[0] == 0
    _, said = run("inspect", tmp_path / "loop")
    assert "baseline each vehicle's own from 3 healthy drives on, frozen after 4, within Flow" in said
    assert "confirm  ticket level when 2 of the last 3 drives raise the alarm, or once at " in said
    assert "budget   no promise: 3 drives say nothing of others" in said
    for options, words in (
        (["--baseline", "30/5"], "--baseline 30/5: expected LEAST/MOST"),
        (["--confirm", "3"], "--confirm 3: expected K/M"),
        (["--gain", "Loop.Flow"], "give a baseline, too"),
        (["--baseline", "3/4", "--gain", "Loop.Fl"], "no monitored signal fits the gain 'Loop.Fl'"),
    ):
        code, said = run("train", *data, *options)
        assert (code, words in said) == (2, True), said
