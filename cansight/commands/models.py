"""`cansight models`: detectors, from healthy drives to a signed pack."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cansight.commands.models_attacks import attacks
from cansight.commands.models_deploy import deploy
from cansight.commands.models_evaluate import evaluate
from cansight.commands.models_joint import train_joint, train_network
from cansight.commands.models_ladder import ladder
from cansight.commands.models_options import (
    data_argument,
    dbc_option,
    json_option,
    lang_option,
    layout_of,
    layout_options,
    pack_argument,
    reading,
    report_option,
    rows_of,
    rows_option,
    split_globs,
    tell,
)
from cansight.commands.models_score import score
from cansight.errors import UsageError

if TYPE_CHECKING:
    from models.explanation import Language
    from models.manifest import Manifest, RungName
    from models.pack import Pack

MONTH_HOURS = 40
"""Driving in a vehicle-month."""
NAMED = 4
"""Signals that are named of those left out for one reason."""


@click.group()
def models() -> None:
    """Train, score, evaluate and inspect detectors."""


models.add_command(evaluate)
models.add_command(ladder)
models.add_command(score)
models.add_command(deploy)
models.add_command(train_joint)
models.add_command(attacks)
models.add_command(train_network)


@models.command()
@data_argument
@dbc_option
@layout_options
@click.option("--signals", metavar="GLOB,...", multiple=True, help="Only these signals, e.g. 'TMS_*,BMS_Thermal.*'; default: all.")
@click.option(
    "--context", metavar="GLOB,...", multiple=True, help="Of these: those that describe the operating point. Default: none (plain PCA)."
)
@click.option("--twins", metavar="GLOB,...", multiple=True, help="Of these: parts that ought to be alike, as four tyres.")
@click.option(
    "--rung",
    type=click.Choice(["limits", "following", "pca", "expected", "autoencoder"]),
    help="Which detector.  [default: expected with --context; following for one recording of 200 to 1800 ticks; else pca]",
)
@click.option(
    "--catalogue",
    metavar="FILE",
    help="A signal catalogue: signals of its class identity are left out, and its counters and checksums checked.",
)
@click.option("--fault", default="anomaly", show_default=True, metavar="CODE", help="Fault code of the catalogue that a finding names.")
@click.option("--name", metavar="ID", help="The pack's id; default: the folder's name.")
@click.option("--pack-version", default="1.0.0", show_default=True, metavar="X.Y.Z")
@click.option(
    "--window", default=1, show_default=True, type=click.IntRange(1, 3600), metavar="TICKS", help="Seconds of context it looks back on."
)
@click.option(
    "--average", default=1, show_default=True, type=click.IntRange(1, 3600), metavar="TICKS", help="Seconds that a score averages."
)
@click.option("--persistence", metavar="N/M", help="Alarm when N of M ticks are over the threshold.  [default: 10/12, following: 5/6]")
@click.option(
    "--warmup", default=10, show_default=True, type=click.IntRange(0, 3600), metavar="TICKS", help="Scored ticks that are not judged."
)
@click.option(
    "--margin",
    default=(1.0, 1.0),
    show_default=True,
    type=(click.FloatRange(1, 1e6), click.FloatRange(1, 1e6)),
    metavar="A B",
    help="The threshold is A times what --budget asks for; B times while the vehicle's baseline is being learned.",
)
@click.option(
    "--budget", default=1e-4, show_default=True, type=click.FloatRange(1e-9, 0.5), metavar="P", help="Chance that a healthy drive alarms."
)
@click.option(
    "--baseline",
    metavar="LEAST/MOST",
    help="Judge each vehicle by its own baseline, from LEAST healthy drives on, frozen after MOST; a DATA file is all drives of one.",
)
@click.option(
    "--gain", "gains", metavar="GLOB,...", multiple=True, help="Monitored signals whose baseline is in proportion to their value."
)
@click.option(
    "--confirm", default="1/1", show_default=True, metavar="K/M", help="Ticket level when K of the last M drives raise the alarm."
)
@click.option(
    "--at-once", type=click.FloatRange(1, 1e6), metavar="TIMES", help="Or when a persistent score is so many times the threshold."
)
@click.option(
    "--drive", default="600/300", show_default=True, metavar="GAP/LEAST", help="Seconds that end a drive, and ticks of one that counts."
)
@rows_option
@click.option("--seed", default=0, show_default=True, type=int, metavar="N", help="Decides which drives calibrate.")
@click.option("-o", "--output", "pack_dir", required=True, metavar="PACK_DIR", type=click.Path(path_type=Path))
@report_option
@lang_option
@json_option
def train(
    data: tuple[str, ...],
    dbc_files: tuple[str, ...],
    time_column: str,
    separator: str,
    ignore: tuple[str, ...],
    period: float | None,
    signals: tuple[str, ...],
    context: tuple[str, ...],
    twins: tuple[str, ...],
    rung: "RungName | None",
    catalogue: str | None,
    fault: str,
    name: str | None,
    pack_version: str,
    window: int,
    average: int,
    persistence: str | None,
    warmup: int,
    margin: tuple[float, float],
    budget: float,
    baseline: str | None,
    gains: tuple[str, ...],
    confirm: str,
    at_once: float | None,
    drive: str,
    rows: str,
    seed: int,
    pack_dir: Path,
    report: Path | None,
    language: "Language",
    as_json: bool,
) -> None:
    """Learn from healthy drives. Each DATA file is one drive: a CAN log (with --dbc) or a table, .csv or .parquet.

    With --dbc, a table's columns are signals of that DBC, and the pack runs on vehicles that have it.
    """
    from dbc.catalogue import Catalogue
    from models.following import PERSISTENCE
    from models.tables import read_table
    from models.train import Options
    from models.train import train as train_on
    from models.train_following import suits

    if report is not None:
        from models.report.page import check

        check(report)
    told = _persistence(persistence) if persistence is not None else None
    if window > average and not context:
        raise UsageError(f"--window {window}: is how far it looks back on the context signals; name them with --context")
    pack_id = name or pack_dir.resolve().name
    _check_ids(pack_id, fault, pack_version)
    gap_s, least = _two("--drive", drive, "GAP/LEAST, seconds and ticks up to 86400, e.g. 600/300", 86_400, ordered=False)
    first, last = rows_of(rows)
    layout = layout_of(time_column, separator, ignore, period)
    wanted = [*split_globs(signals), *split_globs(context)] if signals else []
    signal_catalogue = Catalogue.load(catalogue) if catalogue is not None else None
    table = read_table(data, dbc_files, wanted, reading(len(data)), layout, signal_catalogue).rows(first, last)
    tell(table.notes)
    options = Options(
        pack_id=pack_id,
        fault_code=fault,
        version=pack_version,
        rung=rung,
        context=split_globs(context),
        average=average,
        window=window,
        seed=seed,
        warmup=warmup,
        margin=margin,
        budget=budget,
        catalogue=signal_catalogue,
        twins=split_globs(twins),
        baseline=None if baseline is None else _two("--baseline", baseline, "LEAST/MOST with 1 <= LEAST <= MOST <= 1000, e.g. 5/30", 1000),
        gains=split_globs(gains),
        confirm=_two("--confirm", confirm, "K/M with 1 <= K <= M <= 100, e.g. 2/3", 100),
        at_once=at_once,
        drive_gap_s=gap_s,
        drive_ticks=least,
    )
    if rung is None and suits(table, options):
        options = replace(options, rung="following")
    need, of = told or (PERSISTENCE if options.rung == "following" else (options.need, options.of))
    trained = train_on(table, replace(options, need=need, of=of), pack_dir)
    if report is not None:
        from models.report.page import write
        from models.report.training import training_report

        write(report, training_report(trained, language))
    _show(trained.pack, as_json)


@models.command()
@pack_argument
@json_option
def inspect(pack_dir: Path, as_json: bool) -> None:
    """Say what a pack looks at, when it alarms, and what it was trained on."""
    from models.pack import Pack

    _show(Pack.load(pack_dir), as_json)


@models.command()
@pack_argument
@click.option("--key", required=True, metavar="PRIVATE.pem", help="Ed25519 private key, as `cansight pki init` makes it (pack.key).")
def sign(pack_dir: Path, key: str) -> None:
    """Sign a pack: write its manifest.sig."""
    from models import pack as packs

    packs.sign(pack_dir, packs.load_private_key(key))
    click.echo(f"{pack_dir}: signed")


@models.command()
@pack_argument
@click.option("--key", required=True, metavar="PUBLIC.pem", help="Ed25519 public key that must have signed it (pack.pub.pem).")
def verify(pack_dir: Path, key: str) -> None:
    """Check signature, hashes, operators, and that the pack runs here."""
    from models import pack as packs
    from models.runtime import PackRuntime

    pack = packs.Pack.load(pack_dir, packs.load_public_key(key))
    PackRuntime(pack)
    click.echo(f"{pack_dir}: {pack.manifest.pack_id} {pack.manifest.version} is whole, and signed by this key")


def _persistence(text: str) -> tuple[int, int]:
    need, _, of = text.partition("/")
    if not (need.isascii() and need.isdigit() and of.isascii() and of.isdigit() and 1 <= int(need) <= int(of) <= 3600):
        raise UsageError(f"--persistence {text}: expected N/M with 1 <= N <= M <= 3600, e.g. 10/12")
    return int(need), int(of)


def _two(option: str, text: str, wanted: str, most: int, ordered: bool = True) -> tuple[int, int]:
    left, _, right = text.partition("/")
    if not all(one.isascii() and one.isdigit() and 1 <= int(one) <= most for one in (left, right)) or (ordered and int(left) > int(right)):
        raise UsageError(f"{option} {text}: expected {wanted}")
    return int(left), int(right)


def _check_ids(pack_id: str, fault: str, version: str) -> None:
    import msgspec

    from models.manifest import Name

    for option, value in (("--name", pack_id), ("--fault", fault)):
        try:
            msgspec.convert(value, Name)
        except msgspec.ValidationError as error:
            raise UsageError(f"{option} {value}: expected lower-case letters, digits, _ and -, beginning with a letter or digit") from error
    if not all(part.isascii() and part.isdigit() and len(part) <= 6 for part in version.split(".")) or version.count(".") != 2:
        raise UsageError(f"--pack-version {version}: expected X.Y.Z")


def _show(pack: "Pack", as_json: bool) -> None:
    from models import manifest as manifests

    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
    click.echo(manifests.encode(pack.manifest) if as_json else "\n".join(_describe(pack.manifest)), nl=not as_json)


def _describe(manifest: "Manifest") -> list[str]:
    from models import manifest as manifests
    from models.promise import describe

    calibration = manifest.calibration
    stretches = calibration.drives == 1 and manifest.training.drives <= 2  # that one recording is cut into
    schema = manifest.schema_id or "none (a table)"
    calibrated = (
        f"the same {calibration.ticks} ticks"
        if manifest.rung == "following" and manifest.training.drives <= 2 and calibration.drives == manifest.training.drives
        else f"{_drives(calibration.drives, stretches)} ({calibration.ticks} ticks) held out"
    )
    lines = [
        f"{manifest.pack_id} {manifest.version}: fault {manifest.fault_code}, " + manifests.RUNGS[manifest.rung],
        f"alarm    {manifest.persistence.need} of {manifest.persistence.of} ticks at {manifest.threshold.raise_at:.4g} or over; "
        f"cleared by {manifest.persistence.of} under {manifest.threshold.clear_below:.4g}; "
        f"a score averages {manifest.average} s and looks back on {manifest.window} s",
        f"trained  {_drives(manifest.training.drives, stretches)}, {manifest.training.ticks} ticks, "
        f"data {manifest.training.data_sha256[:16]}…",
        f"threshold from {calibrated}: highest {calibration.highest:.4g}",
        *describe(manifest, MONTH_HOURS),
        f"model    {manifest.model.bytes} bytes, SHA-256 {manifest.model.sha256[:16]}…, DBC schema {schema}",
        "signals",
    ]
    for signal in manifest.signals:
        explained = manifest.evaluation.explained.get(signal.name)
        share = f"{explained:.1%} explained" if explained is not None and manifest.rung == "expected" else ""
        lines.append(f"  {signal.role:9} {signal.name}  {signal.minimum:.6g} … {signal.maximum:.6g} {signal.unit}  {share}".rstrip())
    if manifest.training.dropped:
        lines.append(f"not used ({len(manifest.training.dropped)}; each with its reason in `inspect --json`)")
        for reason, names in manifest.training.left_out():
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            lines.append(f"  {reason} ({len(names)}): {', '.join(names[:NAMED])}{more}")
    return lines


def _drives(count: int, stretches: bool) -> str:
    one, more = ("stretch", "stretches") if stretches else ("drive", "drives")
    return f"{count} {one if count == 1 else more}"
