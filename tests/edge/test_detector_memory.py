"""What detectors know of their vehicle lasts over the agent's ends: baselines, findings that later drives confirm; and what resets it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from test_edge_detectors import schema

from dbc.catalogue import Catalogue
from dbc.sampler import Snapshot
from dbc.validity import Reason
from edge.detector_states import DetectorStates
from edge.detectors import Detector
from edge.pack_keeper import PackKeeper
from edge.pack_record import PackRecord
from edge.surroundings import STEADY_TICKS, ChangeWatch
from models.drift import LEARN, RECENT, Changes, Drift, DriftState
from models.judge import FOLLOWED_TICKS
from models.pack import Pack
from models.runtime import PackRuntime
from models.tables import Drive, Table
from models.train import Options, train_pca
from wire.messages import FindingMessage

NAMES, UNITS = ("Pump.Speed", "Loop.Flow"), ("rpm", "L/min")
SERVICE = "Other.Signal"  # a countdown
TICKS = 400


def ticks(random: np.random.Generator, own: float, leak: float = 0.0) -> NDArray[np.float64]:
    """(TICKS, 2): a drive of a vehicle whose pump gives so much more than others."""
    speed = 2500 + 800 * np.sin(np.arange(TICKS) / 40 + random.uniform(0, 6)) + random.normal(0, 20, TICKS)
    return np.stack([speed, 0.004 * speed * (1 + own) * (1 - leak) + random.normal(0, 0.05, TICKS)], axis=1)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    vehicles = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        own = random.normal(0, 0.02)
        times = np.concatenate([3_600_000 * at + 1000 * np.arange(TICKS) for at in range(7)])
        vehicles.append(Drive(f"vehicle {seed}", times, np.concatenate([ticks(random, own) for _ in range(7)])))
    options = Options(
        "loop",
        "coolant_leak",
        context=["Pump.*"],
        average=10,
        window=10,
        baseline=(3, 6),
        gains=["Loop.Flow"],
        confirm=(2, 3),
        at_once=12.0,
    )
    folder = tmp_path_factory.mktemp("own") / "packs" / "loop"
    train_pca(Table(NAMES, UNITS, tuple(vehicles)), options, folder)
    return folder


class Vehicle:
    """Each drive is a boot of its own, whose ticks begin at nothing."""

    def __init__(self, folder: Path, pack: Path) -> None:
        self.folder, self.pack = folder, pack
        self.boots = 0
        self.random = np.random.default_rng(500)
        self.countdown = 900.0
        self.schema = replace(schema(("Pump.Speed", "Loop.Flow", "A.B", "A.C", "A.D", "A.E")))

    def drive(self, leak: float = 0.0) -> list[FindingMessage]:
        """What is found from the agent's start to its end."""
        self.boots += 1
        axis = f"boot {self.boots}"
        self.keeper = PackKeeper(
            [str(self.pack.parent)],
            lambda folder: Detector(Pack.load(folder), self.schema, axis),
            PackRecord(self.folder),
            DetectorStates(self.folder),
            0,
            ChangeWatch(replace(Catalogue.empty(), service=(SERVICE,)), self.schema),
        )
        self.keeper.open()
        self.detectors = self.keeper.detectors
        said = [finding for tick in self.snapshots(ticks(self.random, 0.03, leak)) for finding in self.detectors.step(tick)]
        self.keeper.look(0.0)
        self.keeper.close()
        return said

    def snapshots(self, values: NDArray[np.float64]) -> Iterator[Snapshot]:
        reason = np.full(7, Reason.VALID, np.uint8)
        for number, row in enumerate(values):
            value = np.array([self.countdown, *row, 0.0, 0.0, 0.0, 0.0])
            yield Snapshot((1000 + 1000 * number) * 1_000_000, 0, np.zeros(7, np.int64), reason, value)


def test_a_baseline_outlives_the_agent_and_a_finding_is_confirmed_in_the_next_drive(
    tmp_path: Path, pack: Path, caplog: pytest.LogCaptureFixture
) -> None:
    car = Vehicle(tmp_path, pack)
    assert [car.drive() for _ in range(8)] == [[]] * 8
    kept = tmp_path / "detectors.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.stat().st_size < 4096
    (seen,) = car.drive(leak=0.009)  # less than pumps differ by when they are new
    assert (seen.state, seen.level) == ("active", "seen")
    (sure,) = car.drive(leak=0.009)
    assert (sure.state, sure.level, sure.finding_id) == ("active", "ticket", seen.finding_id)
    assert 0 <= sure.since_ms <= sure.tick_ms  # on its own boot's axis
    assert car.drive(leak=0.009) == []
    assert car.detectors.relearning == []

    car.countdown = 15_000.0  # the workshop has set it
    (cleared,) = car.drive(leak=0.009)
    assert (cleared.state, cleared.level, cleared.finding_id) == ("cleared", "ticket", seen.finding_id)
    assert cleared.tick_ms == 1000 * STEADY_TICKS
    assert car.detectors.relearning == ["loop: service: Other.Signal 900 -> 15000; 0 of 3 healthy drives"]
    car.drive()
    assert car.detectors.relearning[0].endswith(
        "; 1 of 3 healthy drives"
    )  # the part of a drive after the service, and none has to be told twice
    for _ in range(3):
        car.drive()
    assert car.detectors.relearning == []

    kept.write_text(kept.read_text()[:-9])
    assert car.drive() == []
    assert [line.message for line in caplog.records if "cannot be read" in line.message] == [
        f"{kept}: cannot be read: Input data was truncated; every pack learns this vehicle anew"
    ]
    assert json.loads(kept.read_text())["said"] == {SERVICE: 15_000.0}


def test_one_wild_value_is_no_service_and_a_version_is_a_version() -> None:
    car = schema()
    watch = ChangeWatch(replace(Catalogue.empty(), service=(SERVICE,)), car)

    def said(value: float, times: int) -> list[str]:
        tick = Snapshot(0, 0, np.zeros(7, np.int64), np.zeros(7, np.uint8), np.full(7, value))
        return [change for _ in range(times) if (change := watch.step(tick))]

    assert said(900, 5) + said(50_000, STEADY_TICKS - 1) + said(np.nan, 500) + said(899, 5) + said(900, 5) == []
    assert said(15_000, STEADY_TICKS) == ["service: Other.Signal 899 -> 15000"]
    assert said(14_000, 500) == []

    rule = Changes(("A.Software",), {"A.Left": 20_000.0})
    assert rule.since({"A.Software": 3.0, "A.Left": 100.0}, {"A.Software": 3.0, "A.Left": 1000.0}) == ""
    assert rule.since({"A.Software": 3.0}, {"A.Software": 2.0}) == "software: A.Software 3 -> 2"
    assert rule.since({}, {"A.Software": 2.0}) == ""


def test_other_operating_points_are_noticed_and_then_known() -> None:
    rule, random = Drift(np.array([100.0, 50.0])), np.random.default_rng(1)
    state = DriftState()

    def drives(count: int, mean: float) -> list[bool]:
        nonlocal state
        marked = []
        for _ in range(count):
            state = rule.add(state, np.array([random.normal(40, 5), random.normal(mean, 2)]))
            marked.append(bool(state.drifted))
        return marked

    assert not any(drives(LEARN + 200, 15.0))
    assert not any(drives(RECENT // 2, -5.0))  # a weekend in the mountains
    assert not any(drives(200, 15.0))
    winter = drives(LEARN + RECENT + 50, -2.0)
    assert winter.index(True) < RECENT
    assert winter[winter.index(True) :].index(False) == LEARN
    assert state.drifted == ()


def test_levels_that_follow_go_on_in_the_same_boot_and_begin_anew_in_the_next(tmp_path: Path) -> None:
    values = np.concatenate([ticks(np.random.default_rng(seed), 0.0) for seed in (1, 2, 3)])
    learned = Table(NAMES, UNITS, (Drive("run", 1000 * np.arange(TICKS), values[:TICKS]),))
    pack = train_pca(learned, Options("loop", "coolant_leak", rung="following"), tmp_path / "loop")
    cut = FOLLOWED_TICKS + 100

    def scores(detector: Detector, first: int, last: int) -> list[float]:
        found = []
        for row in range(first, last):
            value = np.array([0.0, *values[row]])
            detector.step(Snapshot(1000 * (row + 1) * 1_000_000, 0, np.zeros(3, np.int64), np.zeros(3, np.uint8), value))
            found.append(detector._history[-1].score or 0.0)
        return found

    def fresh(boot: str) -> Detector:
        return Detector(pack, schema(NAMES), boot)

    through = scores(fresh("boot 1"), 0, len(values))
    whole = PackRuntime(pack)  # a vehicle runs the part of the graph that gives the score
    np.testing.assert_allclose(through, [whole.score(row).score or 0.0 for row in values], rtol=1e-9)

    before = fresh("boot 1")
    scores(before, 0, cut)
    assert before.revision  # now and then, so that a power cut costs minutes
    states = DetectorStates(tmp_path)
    states.write([before], {})
    after, later = fresh("boot 1"), fresh("boot 2")
    kept = DetectorStates(tmp_path)
    kept.read()
    kept.restore(after)
    kept.restore(later)
    assert scores(after, cut, len(values)) == through[cut:]
    assert scores(later, cut, cut + 5) == scores(fresh("boot 3"), cut, cut + 5) != through[cut : cut + 5]
