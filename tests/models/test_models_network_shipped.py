"""The shipped packs over the bus and its sensors, on frames of the simulated car: each names what is done to it, the others are quiet."""

from pathlib import Path

import numpy as np
import pytest

from dbc.compiler import compile_dbc
from dbc.decoder import Decoder
from dbc.frames import FrameBlock
from dbc.plan import CompiledDbc
from dbc.sampler import Sampler
from dbc.vehicles import DBC_FILES
from edge.detector import Detector
from models.pack import Pack
from simulator import drive
from simulator.fault_kinds import fault_kind
from simulator.injection import Injection, InjectionPlan
from simulator.target import message_target

FOLDER = Path(__file__).parents[2] / "models" / "network_packs"
PACKS = sorted(path.parent for path in FOLDER.glob("*/manifest.json"))
SECONDS, ONSET = 9, 5


@pytest.fixture(scope="module")
def compiled() -> CompiledDbc:
    return compile_dbc(DBC_FILES)


@pytest.fixture(scope="module")
def frames(compiled: CompiledDbc) -> list[FrameBlock]:
    return list(drive("healthy", 4_711, SECONDS, compiled=compiled))


@pytest.mark.parametrize("kind", ["", "attack_flooding", "attack_suppression", "control_unit_babbling", "checksum_error"])
def test_packs_over_the_bus_say_what_is_done_to_it(kind: str, compiled: CompiledDbc, frames: list[FrameBlock]):
    blocks = frames
    if kind:
        onset = int(frames[ONSET].timestamp_ns[0])
        target = message_target(compiled, "MCU_Motor")
        plan = InjectionPlan(fault_kind(kind), (target,), onset, onset + 60_000_000_000, 1)
        injection = Injection(plan)
        blocks = [injection.feed(block) for block in frames]
    detectors = [Detector(pack, compiled.schema) for pack in map(Pack.load, PACKS) if any("#" in name for name in pack.manifest.names)]
    assert len(detectors) == 6
    decoder, sampler = Decoder(compiled, compiled.schema.channels), Sampler(compiled.schema)
    said = []
    for block in blocks:
        for snapshot in sampler.feed(block, decoder.decode(block)):
            said += [finding for detector in detectors if (finding := detector.step(snapshot)) is not None]
    wanted = [] if not kind else ["control_unit_silent" if kind == "attack_suppression" else kind]
    assert [finding.fault_code for finding in said] == wanted
    if said:
        assert said[0].contributions[0].signal.startswith("MCU_Motor.#")
        assert said[0].tick_ms - onset // 1_000_000 <= 3000


def test_every_pack_fits_the_car(compiled: CompiledDbc):
    assert len(PACKS) >= 7
    for path in PACKS:
        pack = Pack.load(path)
        columns = pack.columns(compiled.schema)
        assert len(np.unique(columns)) == len(pack.manifest.names)
