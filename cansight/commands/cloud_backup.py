"""`cansight cloud backup | restore`."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cansight.commands.cloud_settings import CONFIG, load_config

if TYPE_CHECKING:
    from cloud.backup import Manifest

FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command("backup")
@CONFIG
@click.option(
    "--keys", type=FOLDER, help="Copy the settings, and the keys and files they name, to this folder, too; keep it apart from FOLDER."
)
@click.option("--without-lake", is_flag=True, help="Leave the lake out; it is files that may be copied by other means.")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@click.argument("folder", type=FOLDER)
def backup(config_file: Path, folder: Path, keys: Path | None, without_lake: bool, as_json: bool) -> None:
    """Back up tables, landing log, quarantine, embedded store, lake and audit into FOLDER, which must be empty or not there.

    The cloud may run meanwhile. An InfluxDB has backups of its own.
    """
    from cloud.backup import backup as make

    made = make(load_config(config_file), folder, keys, time.time_ns() // 1_000_000, lake=not without_lake, settings=config_file)
    _say(made, folder, "is complete", as_json)


@click.command("restore")
@CONFIG
@click.option("--keys", type=FOLDER, help="Put back what is missing of the keys and files that the settings name, from this folder.")
@click.option("--volume", is_flag=True, help="Leave the tables alone: another replica has restored them.")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@click.argument("folder", type=FOLDER)
def restore(config_file: Path, folder: Path, keys: Path | None, volume: bool, as_json: bool) -> None:
    """Bring back the backup in FOLDER, after a look at every file's checksum. Nothing that is there is overwritten."""
    from cloud.restore import restore as bring_back

    _say(bring_back(load_config(config_file), folder, keys, tables=not volume), folder, "is restored", as_json)


def _say(manifest: "Manifest", folder: Path, what: str, as_json: bool) -> None:
    size = sum(file.bytes for file in manifest.files)
    if as_json:
        shown = {"folder": str(folder), "made_ms": manifest.made_ms, "version": manifest.version, "rows": manifest.rows}
        click.echo(json.dumps(shown | {"files": len(manifest.files), "bytes": size}))
        return
    rows = ", ".join(f"{number} {name}" for name, number in manifest.rows.items() if number)
    click.echo(
        f"{folder} {what}: {len(manifest.files)} files, {size / 1e6:.1f} MB, tables of version {manifest.version} ({rows or 'empty'})"
    )
