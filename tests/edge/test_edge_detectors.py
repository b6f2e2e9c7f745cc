"""Detectors on a snapshot stream: a fault becomes one finding with evidence, its end clears it, and a broken pack breaks nothing else."""

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from dbc.sampler import Snapshot
from dbc.schema import Kind, Schema
from dbc.validity import Reason
from edge.detectors import CONTRIBUTIONS, Detectors
from models import manifest as manifests
from models.errors import ScoreError
from models.pack import SIGNED_PREFIX, sign
from models.tables import Drive, Table
from models.train import Options, train_pca
from wire.messages import WINDOW_TICKS, FindingMessage, decode_message, encode_message

NAMES = ("Loop.Flow", "Loop.Pressure", "Loop.Inlet", "Loop.Outlet", "Pump.Speed", "Pump.Current")
UNITS = ("L/min", "bar", "degC", "degC", "rpm", "A")
FLOW = 0


def schema(names: tuple[str, ...] = NAMES) -> Schema:
    """The pack's signals behind one that it does not use."""
    n = len(names) + 1
    return Schema(
        channels=("can0",),
        names=("Other.Signal", *names),
        units=("", *UNITS),
        kind=np.full(n, Kind.INT, np.uint8),
        scale=np.full(n, 0.01),
        offset=np.zeros(n),
        minimum=np.full(n, np.nan),
        maximum=np.full(n, np.nan),
        channel=np.zeros(n, np.uint8),
        period_ms=np.full(n, np.nan),
        choices=(None,) * n,
    )


def drive(seed: int, ticks: int = 400) -> NDArray[np.float64]:
    """(ticks, 6): everything follows one slow load."""
    random = np.random.default_rng(seed)
    load = np.cumsum(random.normal(0, 0.1, ticks))
    load = (load - load.mean()) / (load.std() + 1e-9)
    gains = np.array([1.0, 0.4, 2.0, 3.0, 200.0, 0.7])
    levels = np.array([12.0, 1.5, 30.0, 34.0, 3000.0, 4.0])
    return levels + load[:, np.newaxis] * gains + random.normal(0, 0.02, (ticks, 6)) * gains


@pytest.fixture(scope="module")
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, key: Ed25519PrivateKey) -> Path:
    times = 1000 * np.arange(400)
    table = Table(NAMES, UNITS, tuple(Drive(f"drive {seed}", times, drive(seed)) for seed in range(20)))
    folder = tmp_path_factory.mktemp("packs") / "loop"
    train_pca(table, Options("loop", "coolant_leak"), folder)
    sign(folder, key)
    return folder


def snapshots(values: NDArray[np.float64], first_ms: int = 1_000) -> Iterator[Snapshot]:
    for number, row in enumerate(values):
        value = np.concatenate([[7.0], row])
        reason = np.where(np.isnan(value), Reason.NOT_SEEN, Reason.VALID).astype(np.uint8)
        raw = np.nan_to_num(value * 100).astype(np.int64)
        yield Snapshot((first_ms + 1000 * number) * 1_000_000, 0, raw, reason, value)


def leak(ticks: int, begin: int, end: int) -> NDArray[np.float64]:
    values = drive(99, ticks)
    values[begin:end, FLOW] -= 2.0
    return values


def test_a_fault_is_one_finding_and_its_end_clears_it(trained: Path, key: Ed25519PrivateKey) -> None:
    detectors = Detectors.load([str(trained)], key.public_key(), schema())
    assert detectors.pack_ids == ("loop",)
    said = [finding for snapshot in snapshots(leak(400, 200, 260)) for finding in detectors.step(snapshot)]
    assert [finding.state for finding in said] == ["active", "cleared"]
    active, cleared = said
    assert active.finding_id == cleared.finding_id
    assert active.since_ms == cleared.since_ms == 201_000
    assert active.since_ms <= active.tick_ms < cleared.tick_ms
    assert (active.fault_code, active.pack_id) == ("coolant_leak", "loop")
    assert active.score > active.threshold
    assert active.p_value is not None
    assert active.p_value < 0.1
    top = active.contributions[0]
    assert (top.signal, top.unit) == ("Loop.Flow", "L/min")
    assert top.seen is not None
    assert top.expected is not None
    assert 1.0 < top.expected - top.seen < 3.0
    assert top.margin is not None
    assert 0.02 < top.margin < 0.5  # scatter 0.02, of a signal that the others tell
    assert len(active.contributions) <= CONTRIBUTIONS
    shares = [contribution.share for contribution in active.contributions]
    assert shares == sorted(shares, reverse=True)


def test_the_window_shows_the_score_and_the_top_signals(trained: Path, key: Ed25519PrivateKey) -> None:
    detectors = Detectors.load([str(trained)], key.public_key(), schema())
    values = leak(400, 200, 260)
    values[150, FLOW] = np.nan
    active = next(finding for snapshot in snapshots(values) for finding in detectors.step(snapshot))
    window = active.window
    assert window.signals[:2] == ["score", "Loop.Flow"]
    assert len(window.tick_ms) == WINDOW_TICKS
    assert window.tick_ms[-1] == active.tick_ms
    assert window.values[0][-1] == active.score
    at = window.tick_ms.index(151_000)
    assert window.values[0][at] is None
    assert window.values[1][at] is None
    assert window.values[1][at + 1] == values[151, FLOW]
    kind, body = encode_message(active)
    assert decode_message(kind, body) == active


def test_a_second_fault_is_another_finding(trained: Path, key: Ed25519PrivateKey) -> None:
    detectors = Detectors.load([str(trained)], key.public_key(), schema())
    values = leak(700, 200, 260)
    values[500:560, FLOW] -= 2.0
    said = [finding for snapshot in snapshots(values) for finding in detectors.step(snapshot)]
    assert [finding.state for finding in said] == ["active", "cleared"] * 2
    assert said[0].finding_id != said[2].finding_id


def test_a_healthy_drive_says_nothing(trained: Path, key: Ed25519PrivateKey) -> None:
    detectors = Detectors.load([str(trained)], key.public_key(), schema())
    assert [finding for snapshot in snapshots(drive(98)) for finding in detectors.step(snapshot)] == []


def test_packs_that_cannot_be_used_are_one_line_each(
    trained: Path, key: Ed25519PrivateKey, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unsigned = Path(shutil.copytree(trained, tmp_path / "unsigned"))
    (unsigned / "manifest.sig").unlink()
    altered = Path(shutil.copytree(trained, tmp_path / "altered"))
    (altered / "model.onnx").write_bytes(b"nonsense")
    folders = [str(unsigned), str(tmp_path / "nowhere"), str(altered), str(trained)]
    detectors = Detectors.load(folders, key.public_key(), schema())
    assert detectors.pack_ids == ("loop",)
    assert [folder in line for folder, line in zip(folders, detectors.refused, strict=False)] == [True] * 3
    assert len([finding for snapshot in snapshots(leak(400, 200, 260)) for finding in detectors.step(snapshot)]) == 2
    assert [str(folder) in line.message for folder, line in zip(folders, caplog.records, strict=False)] == [True] * 3
    assert all("\n" not in line.message for line in caplog.records)
    other_key = Ed25519PrivateKey.generate().public_key()
    assert Detectors.load([str(trained)], other_key, schema()).pack_ids == ()
    other_names = ("Loop.Throughput", *NAMES[1:])
    assert Detectors.load([str(trained)], key.public_key(), schema(other_names)).pack_ids == ()
    assert "Loop.Flow" in caplog.records[-1].message


def test_a_pack_that_fails_on_the_road_is_left_out_and_the_others_go_on(
    trained: Path, key: Ed25519PrivateKey, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    detectors = Detectors.load([str(trained), str(trained)], key.public_key(), schema())

    def fail(*_: object) -> None:
        raise ScoreError("pack x: onnxruntime failed: out of memory")

    ruling = detectors.slots[0].ruling
    assert ruling is not None
    monkeypatch.setattr(ruling._judge, "step", fail)
    said: list[FindingMessage] = []
    for snapshot in snapshots(leak(300, 200, 300)):
        said += detectors.step(snapshot)
    assert len(said) == 1
    assert (detectors.running, detectors.refused) == (["loop"], ["pack x: onnxruntime failed: out of memory"])
    assert [line.message for line in caplog.records] == [
        "pack x: onnxruntime failed: out of memory; the agent goes on without this detector"
    ]


def test_a_clock_that_is_set_back_does_not_silence_a_detector(trained: Path, key: Ed25519PrivateKey) -> None:
    detectors = Detectors.load([str(trained)], key.public_key(), schema())
    for snapshot in snapshots(drive(98, 50), first_ms=9_000_000):
        assert not detectors.step(snapshot)
    said = [finding for snapshot in snapshots(leak(200, 100, 160)) for finding in detectors.step(snapshot)]
    assert [finding.state for finding in said] == ["active", "cleared"]
    assert all(tick < 9_000_000 for tick in said[0].window.tick_ms)


def test_a_folder_of_packs_is_all_of_them(trained: Path, key: Ed25519PrivateKey, tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    assert Detectors.load([str(tmp_path / "packs")], key.public_key(), schema()).refused == []
    shutil.copytree(trained, tmp_path / "packs" / "loop")
    (tmp_path / "packs" / "torn").mkdir()
    (tmp_path / "packs" / "README.md").write_text("What these are.")
    detectors = Detectors.load([str(tmp_path / "packs")], key.public_key(), schema())
    assert detectors.pack_ids == ("loop",)
    assert len(detectors.refused) == 1
    assert "torn: manifest.json cannot be read" in detectors.refused[0]


def test_an_operator_that_no_pack_may_have_is_one_line_and_the_others_go_on(trained: Path, key: Ed25519PrivateKey, tmp_path: Path) -> None:
    odd = Path(shutil.copytree(trained, tmp_path / "odd"))
    model = onnx.load_model_from_string((odd / "model.onnx").read_bytes())
    model.graph.node[0].op_type = "NonZero"
    data = model.SerializeToString()
    (odd / "model.onnx").write_bytes(data)
    manifest = manifests.parse((odd / "manifest.json").read_bytes())
    file = manifests.ModelFile(sha256=manifests.sha256(data), bytes=len(data))
    (odd / "manifest.json").write_bytes(manifests.encode(msgspec.structs.replace(manifest, model=file)))
    signature = key.sign(SIGNED_PREFIX + (odd / "manifest.json").read_bytes())  # `sign` itself would refuse it
    (odd / "manifest.sig").write_bytes(base64.b64encode(signature))
    detectors = Detectors.load([str(odd), str(trained)], key.public_key(), schema())
    assert detectors.pack_ids == ("loop",)
    assert "NonZero" in detectors.refused[0]
    assert "\n" not in detectors.refused[0]
