"""`cansight models train-joint`: a pack over many signals, each judged by all others."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cansight.commands.models_options import data_argument, dbc_option, json_option, reading, rows_of, rows_option, split_globs, tell
from cansight.errors import UsageError

if TYPE_CHECKING:
    from models.joint import JudgeName


@click.command("train-joint")
@data_argument
@dbc_option
@click.option("--signals", metavar="GLOB,...", multiple=True, help="Only these signals; default: all.")
@click.option(
    "--judge",
    default="apart",
    show_default=True,
    type=click.Choice(["apart", "level", "noise", "still"]),
    help="What is wrong: leaves what the others say in any way, is off, is noisy, or stands still.",
)
@click.option("--monitor", metavar="GLOB,...", multiple=True, help="Judge these.  [default: every quantity that moves within a drive]")
@click.option("--gate", "gates", metavar="GLOB,...", multiple=True, help="Signals that must be as in training.")
@click.option("--late", is_flag=True, help="Rows are instants, as simulated ticks are: make each message as late as a bus would.")
@click.option(
    "--catalogue",
    metavar="FILE",
    help="A signal catalogue: signals of its class identity are left out, and its counters and checksums checked.",
)
@click.option("--fault", default="anomaly", show_default=True, metavar="CODE", help="Fault code of the catalogue that a finding names.")
@click.option("--name", metavar="ID", help="The pack's id; default: the folder's name.")
@click.option("--pack-version", default="1.0.0", show_default=True, metavar="X.Y.Z")
@click.option("--persistence", default="10/12", show_default=True, metavar="N/M", help="Alarm when N of M ticks are over the threshold.")
@click.option(
    "--budget", default=1e-4, show_default=True, type=click.FloatRange(1e-9, 0.5), metavar="P", help="Chance that a healthy drive alarms."
)
@click.option(
    "--confirm", default="1/1", show_default=True, metavar="K/M", help="Ticket level when K of the last M drives raise the alarm."
)
@click.option("--margin", default=1.0, show_default=True, type=click.FloatRange(1.0), metavar="X", help="Times the budget's threshold.")
@rows_option
@click.option("--seed", default=0, show_default=True, type=int, metavar="N", help="Decides which drives calibrate.")
@click.option("-o", "--output", "pack_dir", required=True, metavar="PACK_DIR", type=click.Path(path_type=Path))
@json_option
def train_joint(
    data: tuple[str, ...],
    dbc_files: tuple[str, ...],
    signals: tuple[str, ...],
    judge: "JudgeName",
    monitor: tuple[str, ...],
    gates: tuple[str, ...],
    late: bool,
    catalogue: str | None,
    fault: str,
    name: str | None,
    pack_version: str,
    persistence: str,
    budget: float,
    confirm: str,
    margin: float,
    rows: str,
    seed: int,
    pack_dir: Path,
    as_json: bool,
) -> None:
    """Learn what each of many signals ought to be by all others and by its own past. Each DATA file is one healthy drive.

    For `models score`, the agent and `models attacks`; what a single fault changes is better found by a pack of `models train`.
    """
    from dbc.catalogue import Catalogue
    from models import manifest as manifests
    from models.tables import read_table
    from models.train_joint import JointOptions
    from models.train_joint import train_joint as train_on

    need, of = _two("--persistence", persistence, 3600)
    signal_catalogue = Catalogue.load(catalogue) if catalogue is not None else None
    table = read_table(data, dbc_files, split_globs(signals), reading(len(data)), catalogue=signal_catalogue).rows(*rows_of(rows))
    tell(table.notes)
    options = JointOptions(
        pack_id=name or pack_dir.resolve().name,
        fault_code=fault,
        version=pack_version,
        judge=judge,
        monitor=split_globs(monitor),
        gates=split_globs(gates),
        late=late,
        seed=seed,
        need=need,
        of=of,
        budget=budget,
        confirm=_two("--confirm", confirm, 100),
        margin=margin,
        catalogue=signal_catalogue,
    )
    pack = train_on(table, options, pack_dir)
    manifest = pack.manifest
    if as_json:
        click.echo(manifests.encode(manifest), nl=False)
        return
    click.echo(
        f"{manifest.pack_id} {manifest.version}: fault {manifest.fault_code}, {len(manifest.monitored)} signals judged by "
        f"{len(manifest.names)}; alarm at {manifest.threshold.raise_at:.4g}, highest of {manifest.calibration.drives} healthy drives "
        f"{manifest.calibration.highest:.4g}; "
        f"{manifest.model.bytes} bytes"
    )


def _two(option: str, text: str, most: int) -> tuple[int, int]:
    first, _, second = text.partition("/")
    if not all(part.isascii() and part.isdigit() for part in (first, second)) or not 1 <= int(first) <= int(second) <= most:
        raise UsageError(f"{option} {text}: expected N/M with 1 <= N <= M <= {most}")
    return int(first), int(second)


@click.command("train-network")
@data_argument
@dbc_option
@click.option("--catalogue", metavar="FILE", help="A signal catalogue: its counters and checksums are checked, too.")
@click.option("--pack-version", default="1.0.0", show_default=True, metavar="X.Y.Z")
@click.option("--seed", default=0, show_default=True, type=int, metavar="N", help="Decides which drives calibrate.")
@click.option("-o", "--output", "folder", required=True, metavar="FOLDER", type=click.Path(path_type=Path), help="For six packs.")
@json_option
def train_network(
    data: tuple[str, ...],
    dbc_files: tuple[str, ...],
    catalogue: str | None,
    pack_version: str,
    seed: int,
    folder: Path,
    as_json: bool,
) -> None:
    """Learn how regular a bus is: six packs for silent and babbling control units, flooding, wrong counters and checksums, and gaps.

    Each DATA file is a CAN log of a healthy drive.
    """
    import json

    import numpy as np

    from dbc.catalogue import Catalogue
    from dbc.compiler import compile_dbc
    from dbc.integrity import with_checks
    from models.tables import chosen_figures, sample_logs
    from models.train_network import PACKS, NetworkOptions
    from models.train_network import train_network as train_on

    if not dbc_files:
        raise UsageError("--dbc: is missing; the network's figures are those of a DBC's messages")
    compiled = compile_dbc(dbc_files)
    columns = np.array(chosen_figures(compiled.schema, ["*.#*"]), np.int64)
    if catalogue is not None:
        compiled = with_checks(compiled, Catalogue.load(catalogue).checks)
    everything = sample_logs(data, compiled, columns, reading(len(data)))
    tell(everything.notes)
    told = []
    for code, rule in PACKS.items():
        table = everything.choose([at for at, name in enumerate(everything.names) if name.endswith(rule.figures)])
        options = NetworkOptions(code, code, pack_version, seed, rule.need, rule.of)
        manifest = train_on(table, options, folder / code).manifest
        told.append({"pack": code, "figures": len(manifest.names), "highest": manifest.calibration.highest, "bytes": manifest.model.bytes})
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    for one in told:
        click.echo(
            f"{one['pack']} {pack_version}: {one['figures']} figures; highest score of {len(everything.drives)} healthy drives "
            f"{one['highest']:.4g}, alarm at 1; {one['bytes']} bytes"
        )
