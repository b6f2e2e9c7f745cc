"""The half of `cansight models attacks` that shows in frames: what packs over the network's figures say, and how soon."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dbc.frames import FrameBlock
    from dbc.plan import CompiledDbc
    from models.pack import Pack
    from models.runtime import PackRuntime
    from simulator.scenario import Scenario

    Running = tuple[PackRuntime, NDArray[np.int64]]

KINDS = (
    "attack_flooding",
    "attack_suppression",
    "control_unit_silent",
    "control_unit_babbling",
    "counter_error",
    "checksum_error",
    "sensor_dropout",
)
DRIVE_S, DRIVES = 60, 12
BEFORE_S, LASTS_S, BEGIN_S = 3, 12, 20
"""A piece of a drive begins BEFORE_S before the fault, which lasts LASTS_S; none begins before BEGIN_S of its drive."""
FLOOD_HZ = (100.0, 800.0)
MOST_PERIODS, MOST_TICKS = 3, 2
"""Silence and suppression are to be found within so many cycle times and two ticks, all else within two ticks."""
NS = 1_000_000_000


def judge_frames(packs: Sequence["Pack"], what: "Scenario", count: int, seed: int) -> dict[str, Any]:
    """`count` of each kind, on messages drawn at random: found, found in time and named right; and what healthy drives had."""
    from dbc.catalogue import Catalogue
    from dbc.compiler import compile_dbc
    from dbc.integrity import with_checks
    from dbc.vehicles import CATALOGUE, DBC_FILES
    from models.runtime import PackRuntime
    from simulator.trip import Trip

    compiled = compile_dbc(DBC_FILES)
    plain = compiled
    compiled = with_checks(compiled, Catalogue.load(CATALOGUE).checks)
    running = [(PackRuntime(pack), pack.columns(compiled.schema)) for pack in packs]
    dice = np.random.default_rng((seed, 77))
    drives = []
    for vehicle in range(DRIVES):
        trip = Trip(what, seed, None, plain, vehicle)
        drives.append(list(trip.blocks(DRIVE_S)))
    summary: dict[str, Any] = {
        "healthy_s": DRIVE_S * DRIVES,
        "healthy_findings": sum(len(_found(running, compiled, one)) for one in drives),
    }
    for kind in KINDS:
        in_time, found, right, delays = 0, 0, 0, []
        for _ in range(count):
            blocks = drives[int(dice.integers(DRIVES))]
            onset, limit_ns, forged = _forged(kind, plain, blocks, dice)
            said = [(tick_ns - onset, code) for tick_ns, code in _found(running, compiled, forged) if tick_ns > onset]
            if not said:
                continue
            first = min(said)[0]
            codes = {code for after, code in said if after == first}
            found += 1
            in_time += first <= limit_ns
            right += codes == {_same(kind)}
            delays.append(first / NS)
        summary[kind] = {"of": count, "found": found, "in_time": in_time, "right": right, "delays_s": sorted(delays)}
    return summary


def lines(summary: dict[str, Any]) -> list[str]:
    """For people."""
    from models.evaluation.confidence import binomial

    said = [f"frames: {summary['healthy_s'] / 60:.0f} min of healthy frames, {summary['healthy_findings']} findings in them"]
    for kind in KINDS:
        one = summary[kind]
        low, high = binomial(one["in_time"], one["of"])
        delays = one["delays_s"]
        said.append(
            f"  {kind:22} found {one['found']} of {one['of']}, in time {one['in_time']} ({100 * low:.1f} to {100 * high:.1f} %), "
            f"named right {one['right']}" + (f"; median {np.median(delays):.2f} s, longest {delays[-1]:.2f} s" if delays else "")
        )
    return said


def _same(kind: str) -> str:
    """A message that an attacker keeps off the bus looks like one that is not sent."""
    return "control_unit_silent" if kind == "attack_suppression" else kind


def _forged(
    kind: str, compiled: "CompiledDbc", blocks: Sequence["FrameBlock"], dice: np.random.Generator
) -> tuple[int, int, list["FrameBlock"]]:
    """Onset, how long finding it may take, ns, and a piece of the drive with the fault in it."""
    from simulator.fault_kinds import fault_kind
    from simulator.injection import Injection, InjectionPlan
    from simulator.target import message_target, signal_target

    second = int(dice.integers(BEGIN_S, DRIVE_S - LASTS_S))
    onset = int(blocks[second].timestamp_ns[0]) + int(dice.integers(0, NS))
    piece = list(blocks[second - BEFORE_S : second + LASTS_S])
    schema = compiled.schema
    while True:
        signal = int(dice.integers(len(schema)))
        name = schema.names[signal]
        period_ms = float(schema.period_ms[signal])
        if np.isnan(period_ms) or name.rpartition(".")[2] in ("Checksum", "AliveCounter"):
            continue
        message = name.rpartition(".")[0]
        target = signal_target(compiled, name) if kind in ("attack_flooding", "sensor_dropout") else message_target(compiled, message)
        if kind in ("counter_error", "control_unit_babbling") and target.checks.counter is None:
            continue
        if kind == "checksum_error" and not target.checks.checksums:
            continue
        if kind == "sensor_dropout" and not any(field.highest < (1 << field.place.bits) - 1 for field in target.signal):
            continue  # which has no way to say "no value"
        break
    parameters: dict[str, float] = {}
    if kind in ("attack_flooding", "control_unit_babbling"):
        parameters["rate_hz"] = float(np.exp(dice.uniform(*np.log(FLOOD_HZ))))
    injection = Injection(InjectionPlan(fault_kind(kind), (target,), onset, onset + LASTS_S * NS, int(dice.integers(1 << 31)), parameters))
    limit_ns = MOST_TICKS * NS
    if kind in ("attack_suppression", "control_unit_silent"):
        limit_ns += round(MOST_PERIODS * period_ms * 1e6)
    return onset, limit_ns, [injection.feed(block) for block in piece]


def _found(running: "Sequence[Running]", compiled: "CompiledDbc", blocks: Sequence["FrameBlock"]) -> list[tuple[int, str]]:
    """(tick, fault code) of every finding, as the vehicle would have them."""
    from dbc.decoder import Decoder
    from dbc.sampler import Sampler
    from models.alarm import Transition
    from models.judge import PackJudge

    schema = compiled.schema
    judges = [(PackJudge(runtime), columns, runtime.pack.manifest.fault_code) for runtime, columns in running]
    for runtime, _ in running:
        runtime.reset()
    decoder, sampler = Decoder(compiled, schema.channels), Sampler(schema)
    found = []
    snapshots = [snapshot for block in blocks for snapshot in sampler.feed(block, decoder.decode(block))]
    for snapshot in snapshots[1:]:  # the first tick of a piece that is cut out of a drive is not whole
        for judge, columns, code in judges:
            if judge.step(snapshot.inputs(columns), snapshot.tick_ns // 1_000_000).transition is Transition.RAISED:
                found.append((snapshot.tick_ns, code))
    return found
