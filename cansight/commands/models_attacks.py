"""`cansight models attacks`: how well packs tell what attackers and broken sensors do, on drives that are simulated for it."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from cansight.commands.models_options import json_option, pack_argument
from cansight.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.evaluation.attacks import Auroc, Scorer
    from models.evaluation.confidence import Figure
    from models.pack import Pack
    from models.tables import Drive, Table
    from simulator.scenario import Scenario

VALUE_ATTACKS = ("attack_plateau", "attack_drift", "attack_playback")
VALUE_FAULTS = ("sensor_stuck", "sensor_drift", "sensor_noise", "sensor_offset")
DRIVE_S = 900
WARM_S = 360
"""Of a drive, before the first attack: what is played back is up to five minutes old."""
TOGETHER = 50
DRIFT_SPREADS, OFFSET_SPREADS, NOISE_SPREADS = 3.0, 2.0, 1.0
"""Of the signal's mean standard deviation within a drive, as `sim inject` has them: reached at the end; at once; added."""
PLAYED_BACK_S = (60, 300)


@dataclass(frozen=True)
class ValueFigures:
    """What one kind came to. found: by the pack's own alarm. false_drives: healthy drives in which it rises."""

    kind: str
    auroc: "Auroc"
    found: "Figure"
    false_drives: int


@click.command()
@pack_argument
@click.option("--scenario", default="healthy", show_default=True, metavar="NAME|FILE", help="Healthy drives, in which everything happens.")
@click.option(
    "--drives", default=100, show_default=True, type=click.IntRange(2, 10_000), metavar="N", help="Vehicles, with 15 minutes each."
)
@click.option(
    "--events", default=400, show_default=True, type=click.IntRange(10, 100_000), metavar="N", help="Attacks of each kind on values."
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice((*VALUE_ATTACKS, *VALUE_FAULTS)),
    help="On values, these.  [default: the attacks, or the sensor's fault that the pack names]",
)
@click.option(
    "--seconds", default=120, show_default=True, type=click.IntRange(10, 480), metavar="S", help="How long an attack on values lasts."
)
@click.option(
    "--frames", default=60, show_default=True, type=click.IntRange(10, 10_000), metavar="N", help="Of each kind that shows in frames."
)
@click.option("--seed", default=800_001, show_default=True, type=int, metavar="N", help="Of vehicles and attacks; no training has it.")
@json_option
def attacks(
    pack_dir: Path, scenario: str, drives: int, events: int, kinds: tuple[str, ...], seconds: int, frames: int, seed: int, as_json: bool
) -> None:
    """Forge values and frames of simulated drives, and count what the packs say.

    PACK_DIR is a pack, or a folder of packs. A pack over signals is given the attacks on single values (its event AUROC), or, where it
    names a sensor's fault, that fault. Packs over the network's figures are given silent and babbling control units, flooding, suppression,
    wrong counters and checksums, and gaps, frame by frame.
    """
    import simulator
    from models.pack import Pack

    what = simulator.scenario(scenario)
    packs = [Pack.load(folder) for folder in _folders(pack_dir)]
    on_frames = [pack for pack in packs if any("#" in name for name in pack.manifest.names)]
    on_values = [pack for pack in packs if pack not in on_frames]
    values = {pack.manifest.pack_id: _values(pack, what, drives, events, seconds, seed, kinds) for pack in on_values}
    network: dict[str, Any] = {}
    if on_frames:
        from cansight.commands.models_attacks_frames import judge_frames

        network = judge_frames(on_frames, what, frames, seed)
    if as_json:
        click.echo(
            json.dumps({"values": {name: [asdict(one) for one in found] for name, found in values.items()}, "frames": network}, indent=2)
        )
        return
    for name, found in values.items():
        click.echo(
            f"{name}: {drives} drives of {DRIVE_S // 60} min of unseen vehicles, {drives * DRIVE_S / 3600:.0f} h; {seconds} s each; "
            f"its alarm rises in {found[0].false_drives} of them without one"
        )
        for one in found:
            click.echo(
                f"  {one.kind:16} event AUROC {one.auroc.value:.3f} ({one.auroc.low:.3f} to {one.auroc.high:.3f}), "
                f"{one.auroc.events} events, {one.auroc.stretches} healthy stretches; at its alarm {_share(one.found)} found"
            )
    if network:
        from cansight.commands.models_attacks_frames import lines

        click.echo("\n".join(lines(network)))


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise UsageError(f"{path}: no such folder; expected a pack, or a folder of packs")
    if (path / "manifest.json").exists():
        return [path]
    found = sorted(entry for entry in path.iterdir() if (entry / "manifest.json").exists())
    if not found:
        raise UsageError(f"{path}: holds no pack")
    return found


def _share(figure: "Figure") -> str:
    if figure.value is None:
        return "none to be"
    interval = f" ({100 * figure.low:.1f} to {100 * figure.high:.1f} %)" if figure.low is not None and figure.high is not None else ""
    return f"{100 * figure.value:.1f} %{interval}"


def _values(
    pack: "Pack", what: "Scenario", drives: int, events: int, seconds: int, seed: int, kinds: tuple[str, ...]
) -> list[ValueFigures]:
    """These; by default attacks, or the sensor's fault that the pack names; on its monitored signals."""
    from models.evaluation.attacks import auroc, highest, rises, trials
    from models.evaluation.confidence import share

    manifest = pack.manifest
    kinds = kinds or ((manifest.fault_code,) if manifest.fault_code in VALUE_FAULTS else VALUE_ATTACKS)
    table = simulated(pack, what, drives, seed)
    score = scorer(pack)
    rule, back = manifest.alarm(), manifest.window + 10
    healthy = [score(drive) for drive in table.drives]
    calm = [(at, value) for at, one in enumerate(healthy) for value in _stretches(one, seconds)]
    false = sum(bool(len(rises(rule, drive.tick_ms, one))) for drive, one in zip(table.drives, healthy, strict=True))
    forge = _forge(table)
    results = []
    for number, kind in enumerate(kinds):
        dice = np.random.default_rng((seed, number))
        drawn = trials(kind, table.drives, manifest.monitored, events, seconds, WARM_S, forge, dice)
        hits: list[tuple[int, float]] = []
        found, tried = np.zeros(drives), np.zeros(drives)
        for trial in drawn:
            best, rose = highest(score, table.drives[trial.drive], trial, back, rule)
            hits.append((trial.drive, best))
            found[trial.drive] += rose
            tried[trial.drive] += 1
        results.append(ValueFigures(kind, auroc(hits, calm, seed), share(found, tried), false))
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{manifest.pack_id}: {kind}", nl=False, err=True)
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
    return results


def scorer(pack: "Pack") -> "Scorer":
    """What the pack says of whole drives: (n,) scores, NaN where it has none or does not know."""
    from models.evaluation.batch import detector_of
    from models.fit import score_drive
    from models.joint import score_joint
    from models.joint_graph import joint_of

    joint, detector = joint_of(pack.model), detector_of(pack.model)
    if joint is None and detector is None:
        raise UsageError(f"pack {pack.folder}: its graph is of another make; only packs of `cansight models` are judged in bulk")

    def judged(drive: "Drive") -> "NDArray[np.float64]":
        if joint is not None:
            scored = score_joint(joint, drive)
        else:
            assert detector is not None
            scored = score_drive(detector, drive, fast=True)
        return np.where(scored.known, scored.score, np.nan)

    return judged


def simulated(pack: "Pack", what: "Scenario", drives: int, seed: int) -> "Table":
    """The pack's signals in drives of vehicles that nobody else has seen, as late as a bus says them."""
    from dbc.compiler import compile_dbc
    from dbc.vehicles import DBC_FILES
    from models.tables import Drive, Table
    from models.train_joint import late
    from simulator.play import Play
    from simulator.ticks import Ticks

    compiled = compile_dbc(DBC_FILES)
    columns = pack.columns(compiled.schema)
    found = []
    for first in range(0, drives, TOGETHER):
        numbers = list(range(first, min(first + TOGETHER, drives)))
        play = Play(what, seed, numbers)
        ticks = Ticks(play, compiled.schema, play.cars.cast.start_ns, (seed, first), np.float32)
        rows = np.empty((DRIVE_S, len(columns), len(numbers)))
        buffer = np.empty((len(compiled.schema), len(numbers)), np.float32)
        for second in range(DRIVE_S):
            play.advance()
            ticks.seconds += 1
            ticks.now(buffer)
            rows[second] = buffer[columns]
        start_ms = play.cars.cast.start_ns // 1_000_000
        found += [
            Drive(f"vehicle {number}", start_ms + 1000 * np.arange(1, DRIVE_S + 1), np.ascontiguousarray(rows[:, :, lane]))
            for lane, number in enumerate(numbers)
        ]
    schema = compiled.schema
    names, units = tuple(schema.names[at] for at in columns), tuple(schema.units[at] for at in columns)
    return late(Table(names, units, tuple(found), schema, columns), seed)


def _stretches(score: "NDArray[np.float64]", seconds: int) -> list[float]:
    """The highest of each healthy stretch as long as an attack, from where attacks may begin."""
    part = np.nan_to_num(score[WARM_S:], nan=0.0)
    count = len(part) // seconds
    return [float(value) for value in part[: count * seconds].reshape(count, seconds).max(axis=1)]


def _forge(table: "Table") -> Callable[..., "NDArray[np.float64]"]:
    """What the simulator's attackers and broken sensors make of a column's values."""
    from simulator.attacks import ContinuousDrift, Plateau, Playback
    from simulator.sensor_faults import Drift, Noise, Offset, Stuck, ValueFault

    everything = np.concatenate([drive.values[::20] for drive in table.drives])
    low, high = np.nanquantile(everything, [0.05, 0.95], axis=0)
    spread = np.mean([np.nanstd(drive.values, axis=0) for drive in table.drives], axis=0)
    assert table.schema is not None
    assert table.columns is not None
    step, offset = table.schema.scale[table.columns], table.schema.offset[table.columns]

    def forge(
        kind: str, column: int, values: "NDArray[np.float64]", first: int, rows: int, dice: np.random.Generator
    ) -> "NDArray[np.float64]":
        sign, size = float(dice.choice([-1, 1])), float(spread[column])
        fault: ValueFault
        if kind == "attack_plateau":
            fault = Plateau(rows, float(dice.uniform(low[column], high[column])))
        elif kind == "attack_drift":
            fault = ContinuousDrift(rows, sign * DRIFT_SPREADS * size / rows)
        elif kind == "attack_playback":
            fault = Playback(rows, float(dice.integers(*PLAYED_BACK_S)))
        elif kind == "sensor_stuck":
            fault = Stuck(rows)
        elif kind == "sensor_drift":
            fault = Drift(rows, sign * DRIFT_SPREADS * size / rows)
        elif kind == "sensor_noise":
            fault = Noise(rows, NOISE_SPREADS * size, dice)
        else:
            fault = Offset(rows, sign * OFFSET_SPREADS * size)
        changed = fault.apply(np.arange(len(values), dtype=np.float64) - first, values)[first : first + rows]
        return np.asarray(np.rint((changed - offset[column]) / step[column]) * step[column] + offset[column], np.float64)

    return forge
