"""Packs that change while the agent runs: taken up between two ticks, tried in shadow, promoted or reverted, and remembered over an end."""

import json
import os
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from edge_helpers import Aggregator, MakeCar, until, write_log
from numpy.typing import NDArray
from test_edge_detectors import NAMES, UNITS, drive, leak, schema, snapshots

from edge.detector_states import DetectorStates
from edge.detectors import Detector
from edge.pack_keeper import LOOK_S, PackKeeper
from edge.pack_record import PackRecord
from edge.shadow import ALONE_TICKS, Outcome, Trial, judge
from models import manifest as manifests
from models.pack import Pack, sign
from models.tables import Drive, Table
from models.train import Options, train_pca
from wire.messages import FindingMessage

MINUTES = 60


@pytest.fixture(scope="module")
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, key: Ed25519PrivateKey) -> Path:
    times = 1000 * np.arange(400)
    folder = tmp_path_factory.mktemp("packs") / "loop"
    train_pca(
        Table(NAMES, UNITS, tuple(Drive(f"drive {seed}", times, drive(seed)) for seed in range(20))),
        Options("loop", "coolant_leak"),
        folder,
    )
    sign(folder, key)
    return folder


def version(trained: Path, target: Path, key: Ed25519PrivateKey, number: str, raise_at: float | None = None) -> None:
    """The pack as another version, perhaps with another threshold, moved to where it belongs as `models deploy` does it."""
    new = target.parent.parent / f"new-{number}"
    shutil.copytree(trained, new)
    manifest = Pack.load(new).manifest
    if raise_at is not None:
        manifest = msgspec.structs.replace(manifest, threshold=manifests.Threshold(raise_at=raise_at, clear_below=raise_at / 2))
    (new / "manifest.json").write_bytes(manifests.encode(msgspec.structs.replace(manifest, version=number)))
    sign(new, key)
    if target.exists():
        target.rename(target.parent.parent / f"before-{number}")
    new.rename(target)


class Vehicle:
    """A keeper with its folders, driven tick by tick."""

    def __init__(self, folder: Path, key: Ed25519PrivateKey, shadow_ticks: int = 2 * MINUTES) -> None:
        (folder / "state").mkdir(exist_ok=True)
        self.target = folder / "packs" / "loop"
        self.target.parent.mkdir(exist_ok=True)
        self._key, self._now_s, self._folder, self._shadow_ticks = key, 0.0, folder, shadow_ticks
        self.start()

    def start(self) -> None:
        def load(folder: Path) -> Detector:
            return Detector(Pack.load(folder, self._key.public_key()), schema())

        self.keeper = PackKeeper(
            [str(self.target.parent)], load, PackRecord(self._folder / "state"), DetectorStates(self._folder / "state"), self._shadow_ticks
        )
        self.keeper.open()
        self.detectors = self.keeper.detectors

    def look(self) -> None:
        """Until what stands in the folders has been seen twice, loaded, and taken up."""
        for _ in range(3):
            self._now_s += LOOK_S
            self.keeper.look(self._now_s)
            if self.keeper._worker is not None:
                self.keeper._worker.join()

    def drive(self, values: NDArray[np.float64], first_ms: int) -> list[FindingMessage]:
        return [finding for snapshot in snapshots(values, first_ms) for finding in self.detectors.step(snapshot)]

    @property
    def versions(self) -> tuple[str, str]:
        """That which rules, and that in shadow."""
        (slot,) = self.detectors.slots
        return tuple("" if one is None else one.pack.manifest.version for one in (slot.ruling, slot.shadow))  # type: ignore[return-value]


def test_the_first_packs_run_at_once_and_a_new_version_after_its_healthy_minutes(
    trained: Path, key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    (tmp_path / "packs").mkdir()
    version(trained, tmp_path / "packs" / "loop", key, "1.0.0")
    car = Vehicle(tmp_path, key)
    assert car.versions == ("1.0.0", "")
    ruling = car.detectors.slots[0].ruling
    said = car.drive(leak(220, 100, 220), 0)
    assert [finding.state for finding in said] == ["active"]

    version(trained, car.target, key, "1.1.0")
    car.look()
    assert car.versions == ("1.0.0", "1.1.0")
    assert car.detectors.slots[0].ruling is ruling  # with its window and its alarm: nothing of it began anew
    assert [finding.state for finding in car.drive(drive(98, 100), 220_000)] == ["cleared"]
    car.keeper.look(1e6)
    assert car.detectors.in_shadow == ["loop 1.1.0: 1 of 2 healthy minutes"]  # those after its warm-up, without the open finding

    car.keeper.close()
    car.start()  # what ruled still rules, though another stands in the folder; the trial goes on where it was
    assert (car.versions, car.detectors.running) == (("1.0.0", "1.1.0"), ["loop"])
    assert car.drive(drive(97, 200), 400_000) == []
    car.keeper.look(0)
    assert car.versions == ("1.1.0", "")
    car.start()
    assert car.versions == ("1.1.0", "")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "state").rglob("*") if path.is_file()}
    assert set(modes) == {"packs.json", "detectors.json", "manifest.json", "manifest.sig", "model.onnx"}
    assert set(modes.values()) == {0o600}


def test_a_version_that_cries_wolf_in_shadow_says_nothing_and_is_reverted(trained: Path, key: Ed25519PrivateKey, tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    version(trained, tmp_path / "packs" / "loop", key, "1.0.0", raise_at=1e6)
    car = Vehicle(tmp_path, key)
    version(trained, car.target, key, "1.1.0")
    car.look()
    assert car.drive(leak(200, 100, 140), 0) == []
    car.look()
    assert car.versions == ("1.0.0", "")
    assert "loop 1.1.0 was reverted: it found coolant_leak where nothing else did" in car.detectors.refused[0]
    car.start()  # it is not tried again
    assert car.versions == ("1.0.0", "")
    assert "reverted" in car.detectors.refused[0]
    version(trained, car.target, key, "1.2.0")  # another version is
    car.look()
    assert (car.versions, car.detectors.refused) == (("1.0.0", "1.2.0"), [])


def test_a_broken_version_leaves_the_one_before_it_at_work_over_a_restart_too(
    trained: Path, key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    (tmp_path / "packs").mkdir()
    version(trained, tmp_path / "packs" / "loop", key, "1.0.0")
    car = Vehicle(tmp_path, key)
    (car.target / "model.onnx").write_bytes(b"torn")
    car.look()
    assert car.versions == ("1.0.0", "")
    assert len(car.detectors.refused) == 1
    car.start()
    assert (car.versions, len(car.detectors.refused)) == (("1.0.0", ""), 1)
    assert [finding.state for finding in car.drive(leak(400, 200, 260), 0)] == ["active", "cleared"]
    shutil.rmtree(car.target)
    car.look()
    assert (car.detectors.slots, car.detectors.running, car.detectors.refused) == ([], [], [])
    assert not (tmp_path / "state" / "packs" / "loop").exists()


def test_without_a_trial_a_new_version_takes_over_an_open_finding(trained: Path, key: Ed25519PrivateKey, tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    version(trained, tmp_path / "packs" / "loop", key, "1.0.0")
    car = Vehicle(tmp_path, key, shadow_ticks=0)
    said = car.drive(leak(220, 100, 220), 0)
    version(trained, car.target, key, "1.1.0")
    car.look()
    assert car.versions == ("1.1.0", "")
    said += car.drive(drive(98, 100), 220_000)
    assert [finding.state for finding in said] == ["active", "cleared"]
    assert len({(finding.finding_id, finding.since_ms) for finding in said}) == 1


def outcome(steps: Iterable[tuple[bool, bool, bool]], needed: int = 100) -> tuple[Outcome, int]:
    """How a trial ends, and at which tick; (known, active, others) a tick."""
    trial = Trial()
    for number, (known, active, others) in enumerate(steps, 1):
        trial, found = judge(trial, needed, known=known, active=active, others=others)
        if found is not Outcome.GOES_ON:
            return found, number
    return Outcome.GOES_ON, 0


def test_the_trial() -> None:
    quiet, blind, ill, both, alone = (1, 0, 0), (0, 0, 0), (1, 0, 1), (1, 1, 1), (1, 1, 0)
    assert outcome([quiet] * 99) == (Outcome.GOES_ON, 0)
    assert outcome([quiet] * 50 + [blind] * 500 + [ill] * 500 + [quiet] * 50) == (Outcome.PROMOTED, 1100)
    assert outcome([quiet, alone, quiet]) == (Outcome.REVERTED, 3)
    assert outcome([alone] * 1000) == (Outcome.REVERTED, ALONE_TICKS)
    assert outcome([alone] * 500 + [both] * 5000 + [alone] * 5000 + [quiet] * 100) == (Outcome.PROMOTED, 10_600)


def test_a_running_agent_takes_up_a_pack_on_sighup_and_misses_no_tick_but_what_consent_is_withdrawn_for(
    tmp_path: Path, make_car: MakeCar, aggregator: Aggregator, key: Ed25519PrivateKey
) -> None:
    random = np.random.default_rng(1)
    rows = [random.normal(0, (100.0, 0.5), (200, 2)).round(1) for _ in range(9)]
    drives = tuple(Drive(f"drive {number}", 1000 * np.arange(200), values) for number, values in enumerate(rows))
    for folder, other in ((tmp_path / "pair", "Cabin.Temperature"), (tmp_path / "packs" / "private", "Motor.SecretValue")):
        train_pca(Table(("Motor.Torque", other), ("Nm", ""), drives), Options(folder.name, "anomaly"), folder)
        sign(folder, key)
    (tmp_path / "pack.pub.pem").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    packs = {"folders": [str(tmp_path / "packs")], "trusted_key": str(tmp_path / "pack.pub.pem"), "shadow_minutes": 0}
    seconds = write_log(tmp_path / "drive.log", 120).read_text().splitlines(keepends=True)
    os.mkfifo(tmp_path / "bus")
    car = make_car(tmp_path / "bus", packs=packs, consent={"withdrawn": ["driving"]})
    car.start()
    with (tmp_path / "bus").open("w") as bus:
        bus.writelines(seconds[: len(seconds) // 2])
        bus.flush()
        until(lambda: car.status.get("ticks", 0) > 10, "the first ticks")
        assert car.status["packs"] == []
        (tmp_path / "pair").rename(tmp_path / "packs" / "pair")
        assert car.process is not None
        car.process.send_signal(signal.SIGHUP)
        until(lambda: car.status["packs"] == ["pair"], "the pack")
        bus.writelines(seconds[len(seconds) // 2 :])
    code, said = car.end()
    assert (code, said.count("pair 1.0.0 runs")) == (0, 1)
    assert car.status["packs"] == ["pair"]
    (refused,) = car.status["packs_refused"]
    assert refused.endswith("private: looks at Motor.SecretValue, of the class driving, for which consent is withdrawn")
    assert {stream.announcement.consent_class for stream in aggregator.streams.values()} == {"technical"}
    assert len(aggregator.rows()) == car.status["ticks"] == 120
    assert json.loads((car.state / "packs.json").read_text())["pair"]["ruling"]
