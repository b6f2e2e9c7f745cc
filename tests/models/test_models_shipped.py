"""The shipped packs on the simulated vehicle, from frames on: unseen seeds, through decoder, sampler and the edge's own detector."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from cansight.main import main
from dbc.catalogue import Catalogue
from dbc.compiler import compile_dbc
from dbc.decoder import Decoder
from dbc.frames import FrameBlock
from dbc.logs import open_log, write_candump
from dbc.plan import CompiledDbc
from dbc.sampler import Sampler, Snapshot
from dbc.vehicles import CATALOGUE, DBC_FILES
from edge.detectors import Detector
from models.pack import Pack
from models.runtime import PackRuntime
from simulator import drive
from simulator.fault_kinds import fault_kind
from wire.messages import FindingMessage

PACKS = Path(__file__).parents[2] / "models" / "packs"
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
    assert len({pack.manifest.fault_code for pack in packs}) == len(packs) == 13
    catalogue = Catalogue.load(CATALOGUE)
    for pack in packs:
        manifest = pack.manifest
        assert len(pack.columns(compiled.schema)) == len(manifest.signals)
        monitored = {signal.name for signal in manifest.signals if signal.role == "monitored"}
        assert monitored <= set(fault_kind(manifest.fault_code).signals), manifest.pack_id
        assert set(catalogue.fault(manifest.fault_code).signals) & monitored, manifest.pack_id
        assert manifest.calibration.drives >= LEAST_DRIVES, manifest.pack_id
        assert len(pack.model) < 50_000, manifest.pack_id
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


def test_edge_and_command_line_agree_on_the_same_log(
    coolant: Pack, compiled: CompiledDbc, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "leak.log"
    with log.open("wb") as stream:
        for block in drive("coolant_leak", 700_004, 300, compiled=compiled):
            write_candump(stream, block)
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
    ticks = snapshots(open_log(log), compiled)
    (finding,) = findings(ticks, coolant, compiled)
    assert (alarm["tick_ms"], alarm["since_ms"], alarm["score"]) == (finding.tick_ms, finding.since_ms, finding.score)

    runtime = PackRuntime(coolant)
    columns = coolant.columns(compiled.schema)
    with (tmp_path / "s.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(ticks)
    for row, tick in zip(rows, ticks, strict=True):
        score = runtime.score(tick.value[columns], tick.tick_ns // 10**6)
        assert row["score"] == ("" if score.score is None else repr(score.score))
