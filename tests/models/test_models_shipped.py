"""The shipped packs on the simulated vehicle, from frames on: unseen seeds, through decoder, sampler and the edge's own detector."""

import csv
import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from cansight.main import main
from dbc.catalogue import Catalogue
from dbc.compiler import compile_dbc
from dbc.decoder import Decoder
from dbc.frames import FrameBlock
from dbc.logs import open_log, write_candump
from dbc.network import network_names
from dbc.plan import CompiledDbc
from dbc.sampler import Sampler, Snapshot
from dbc.vehicles import CATALOGUE, DBC_FILES
from edge.detectors import Detector
from models.evaluation.batch import detector_of
from models.fit import score_drive
from models.pack import Pack
from models.runtime import PackRuntime
from models.scoring import score_drive_ticks
from models.tables import sample_logs
from simulator import drive
from simulator.fault_kinds import fault_kind
from wire.messages import FindingMessage

PACKS = Path(__file__).parents[2] / "models" / "packs"
NETWORK_PACKS = PACKS.parent / "network_packs"
COOLANT = PACKS / "coolant"
LOOP = "TMS_BatteryLoop.BatteryCoolant"
EXPLAINING = {f"{LOOP}Flow"}
LEAST_DRIVES = 500  # that calibrate: a finding in 24 months is not seen in fewer


@pytest.fixture(scope="module")
def compiled() -> CompiledDbc:
    return compile_dbc(DBC_FILES)


@pytest.fixture(scope="module")
def coolant() -> Pack:
    return Pack.load(COOLANT)


def snapshots(blocks: Iterable[FrameBlock], compiled: CompiledDbc) -> list[Snapshot]:
    """What the vehicle's sampler makes of these frames."""
    decoder, sampler = Decoder(compiled, compiled.schema.channels), Sampler(compiled.schema)
    found = [snapshot for block in blocks for snapshot in sampler.feed(block, decoder.decode(block))]
    return found + sampler.finish()


def findings(ticks: Iterable[Snapshot], pack: Pack, compiled: CompiledDbc) -> list[FindingMessage]:
    """What the edge says of them."""
    detector = Detector(pack, compiled.schema)
    return [finding for tick in ticks if (finding := detector.step(tick)) is not None]


@pytest.fixture(scope="module")
def packs() -> list[Pack]:
    return [Pack.load(folder) for folder in sorted(PACKS.iterdir()) if folder.is_dir()]


def test_the_packs_fit_the_car_and_its_catalogue(packs: list[Pack], compiled: CompiledDbc) -> None:
    assert (len({pack.manifest.fault_code for pack in packs}), len(packs)) == (13, 14)  # a leak shows in flow and level
    catalogue = Catalogue.load(CATALOGUE)
    for pack in packs:
        manifest = pack.manifest
        assert len(pack.columns(compiled.schema)) == len(manifest.signals)
        monitored = {signal.name for signal in manifest.signals if signal.role == "monitored"}
        assert monitored <= set(fault_kind(manifest.fault_code).signals), manifest.pack_id
        assert set(catalogue.fault(manifest.fault_code).signals) & monitored, manifest.pack_id
        assert manifest.calibration.drives >= LEAST_DRIVES, manifest.pack_id
        assert len(pack.model) < 60_000, manifest.pack_id
    assert {
        signal.name for pack in packs if pack.folder == COOLANT for signal in pack.manifest.signals if signal.role == "monitored"
    } == EXPLAINING


def test_no_pack_says_anything_while_the_car_charges(packs: list[Pack], compiled: CompiledDbc) -> None:
    ticks = snapshots(drive("charging_dc", 1, 120, compiled=compiled), compiled)
    assert [finding for pack in packs for finding in findings(ticks, pack, compiled)] == []


@pytest.mark.parametrize("seed", [700_001, 700_002, 700_003])
def test_a_leak_becomes_one_finding_before_the_drive_ends_and_says_why(
    coolant: Pack, packs: list[Pack], compiled: CompiledDbc, seed: int
) -> None:
    ticks = snapshots(drive("coolant_leak", seed, 300, compiled=compiled), compiled)
    healthy = snapshots(drive("healthy", seed, 300, compiled=compiled), compiled)
    assert [finding for pack in packs for finding in findings(healthy, pack, compiled)] == []
    (finding,) = findings(ticks, coolant, compiled)
    assert (finding.state, finding.fault_code) == ("active", "coolant_leak")
    assert ticks[0].tick_ns / 1e6 + 120_000 < finding.since_ms < finding.tick_ms < ticks[-1].tick_ns / 1e6
    assert {contribution.signal for contribution in finding.contributions} <= EXPLAINING

    # The same car without the leak is the truth about what should have been seen.
    runtime = PackRuntime(coolant)
    columns = coolant.columns(compiled.schema)
    score = [runtime.score(tick.value[columns], tick.tick_ns // 10**6) for tick in ticks][-1]
    flow = coolant.manifest.names.index(f"{LOOP}Flow")
    assert score.expected[flow] == pytest.approx(healthy[-1].value[columns][flow], rel=0.02)


@pytest.fixture(scope="module")
def log(compiled: CompiledDbc, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("leak") / "leak.log"
    with path.open("wb") as stream:
        for block in drive("coolant_leak", 700_004, 300, compiled=compiled):
            write_candump(stream, block)
    return path


@pytest.fixture(scope="module")
def logged(log: Path, compiled: CompiledDbc) -> list[Snapshot]:
    return snapshots(open_log(log), compiled)


def test_edge_command_line_and_training_give_every_pack_the_same_scores(
    packs: list[Pack], compiled: CompiledDbc, log: Path, logged: list[Snapshot]
) -> None:
    more = [Pack.load(path.parent) for path in sorted(NETWORK_PACKS.glob("*/manifest.json"))]
    table = sample_logs([str(log)], compiled, np.arange(len(compiled.schema) + len(network_names(compiled.schema))))
    for pack in [*packs, *more]:
        detector, runtime = Detector(pack, compiled.schema), PackRuntime(pack)
        edge = []
        for tick in logged:
            detector.step(tick)
            edge.append(detector._history[-1].score)
        recording = table.choose(pack.columns(compiled.schema).tolist()).drives[0]
        command = [tick.score.score for tick in score_drive_ticks(runtime, recording)]
        assert command == edge, pack.manifest.pack_id  # the same calls on the same values: to the last bit
        trained = detector_of(pack.model)
        if trained is None:  # another graph than the ladder's, which tests/models/test_models_joint.py holds against its training
            assert pack in more, pack.manifest.pack_id
            continue
        numpy = score_drive(trained, recording).score
        assert np.isfinite(numpy).sum() > 200, pack.manifest.pack_id
        np.testing.assert_allclose(np.array(edge, float), numpy, rtol=1e-5, atol=1e-9, err_msg=pack.manifest.pack_id)


def test_edge_and_command_line_agree_on_the_same_log(
    coolant: Pack, compiled: CompiledDbc, log: Path, logged: list[Snapshot], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "models",
                "score",
                str(COOLANT),
                str(log),
                *(argument for file in DBC_FILES for argument in ("--dbc", file)),
                "-o",
                str(tmp_path / "s.csv"),
                "--json",
            ]
        )
    assert not stop.value.code
    (alarm,) = json.loads(capsys.readouterr().out)["alarms"]
    (finding,) = findings(logged, coolant, compiled)
    assert (alarm["tick_ms"], alarm["since_ms"], alarm["score"]) == (finding.tick_ms, finding.since_ms, finding.score)

    runtime = PackRuntime(coolant)
    columns = coolant.columns(compiled.schema)
    with (tmp_path / "s.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(logged)
    for row, tick in zip(rows, logged, strict=True):
        score = runtime.score(tick.value[columns], tick.tick_ns // 10**6)
        assert row["score"] == ("" if score.score is None else repr(score.score))


def test_edge_and_command_line_agree_on_a_vehicles_baseline_and_on_what_is_confirmed(
    coolant: Pack, compiled: CompiledDbc, logged: list[Snapshot], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Drives an hour apart: as many healthy ones as a baseline needs, then three with a leak, and one after the repair."""
    pack, rule = coolant, coolant.manifest.baseline
    assert rule is not None
    healthy = snapshots(drive("healthy", 700_004, 200, compiled=compiled), compiled)
    drives = [*[healthy] * rule.least, *[logged[-200:]] * 3, healthy]
    ticks = [
        dataclasses.replace(tick, tick_ns=(1_700_000_000 + 3600 * at + second) * 10**9)
        for at, one in enumerate(drives)
        for second, tick in enumerate(one)
    ]
    detector, scores, said = Detector(pack, compiled.schema), [], []
    for tick in ticks:
        finding = detector.step(tick)
        scores.append(detector._history[-1].score)
        if finding is not None:
            said.append(finding)
    columns = pack.columns(compiled.schema)
    table = tmp_path / "vehicle.csv"
    with table.open("w") as file:
        rows = csv.writer(file)
        rows.writerow(["timestamp", *pack.manifest.names])
        rows.writerows([tick.tick_ns // 10**9, *(repr(float(value)) for value in tick.inputs(columns))] for tick in ticks)
    with pytest.raises(SystemExit) as stop:
        main(["models", "score", str(pack.folder), str(table), "-o", str(tmp_path / "s.csv"), "--json"])
    assert not stop.value.code
    alarms = json.loads(capsys.readouterr().out)["alarms"]
    with (tmp_path / "s.csv").open() as file:
        assert [row["score"] for row in csv.DictReader(file)] == ["" if score is None else repr(score) for score in scores]

    by_id = {one.finding_id: [other for other in said if other.finding_id == one.finding_id] for one in said}
    first = [(found[0].tick_ms, found[0].since_ms, found[0].score) for found in by_id.values()]
    assert [(one["tick_ms"], one["since_ms"], one["score"]) for one in alarms] == first
    assert [one["level"] for one in alarms] == [
        "ticket" if any(one.level == "ticket" for one in found) else "seen" for found in by_id.values()
    ]
    assert {one["level"] for one in alarms} == {"ticket"}
