"""`cansight edge`: the agent on the vehicle."""

import json
import sys
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cansight.errors import UsageError

if TYPE_CHECKING:
    from edge.config import EdgeConfig

CONFIG = click.option(
    "-c",
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("edge.toml"),
    show_default=True,
    help="settings",
)
SILENT_S = 5.0  # so much later than it says the agent may write its status


@click.group()
def edge() -> None:
    """The agent on the vehicle."""


@edge.command()
@CONFIG
@click.option("-v", "--verbose", is_flag=True, help="say more on stderr")
def run(config_file: Path, verbose: bool) -> None:
    """Run the agent until SIGTERM, Ctrl-C, or (with run.stop_when_drained) the receipted end of the log."""
    import logging
    import os
    import signal

    if not os.isatty(0):  # of a closed terminal it means the end; from elsewhere new packs, which a start reads anyway
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    config = _load(config_file)
    from cansight.service import Service
    from edge.agent import run as run_agent

    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    run_agent(config, Service())


@edge.command()
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def status(config_file: Path, as_json: bool) -> None:
    """Show what the agent last said of itself."""
    import msgspec

    from edge.health import STATUS_FILE, Status

    config = _load(config_file)
    path = Path(config.state) / STATUS_FILE
    try:
        said = msgspec.json.decode(path.read_bytes(), type=Status)
    except FileNotFoundError as error:
        since = "since this computer was started" if path.is_symlink() else "yet"  # a link into memory
        raise UsageError(f"{path}: is not there; the agent has not run with {config_file} {since}") from error
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as the agent's status: {getattr(error, 'strerror', None) or error}") from error
    found = msgspec.to_builtins(said)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    age_s = max(0.0, time.time() - said.updated_utc_ms / 1000)
    silent = age_s > max(said.every_s, 1.0) + SILENT_S
    state = "drained" if said.drained else "stopped" if said.stopped else f"silent for {age_s:.0f} s" if silent else "running"
    click.echo(f"vehicle {said.vehicle}: {state}, {'connected' if said.connected else 'not connected'}")
    click.echo(f"  packs: {', '.join(said.packs) or 'none'}")
    for line in said.packs_relearning:
        click.echo(f"  relearning: {line}")
    for line in said.packs_shadow:
        click.echo(f"  in shadow: {line}")
    for line in said.packs_refused:
        click.echo(f"  refused: {line}")
    for key, value in found.items():
        if isinstance(value, int) and not isinstance(value, bool) and not key.endswith("_utc_ms"):
            click.echo(f"  {key:<22}{value:>14,}")
    for name, channel in found["channels"].items():
        counts = ", ".join(f"{key} {value:,}" for key, value in channel.items() if key != "state")
        click.echo(f"  {name}: {channel['state']}; {counts}")


@edge.command(name="config")
@CONFIG
@click.option("--resolved", is_flag=True, help="with defaults, overrides from the environment, and absolute paths")
@click.option("--json", "as_json", is_flag=True, help="print JSON instead of TOML")
def show_config(config_file: Path, resolved: bool, as_json: bool) -> None:
    """Check the settings, and print them."""
    import msgspec

    config = _load(config_file)
    if not resolved and not as_json:
        click.echo(config_file.read_text(encoding="utf-8"), nl=False)
        return
    document = msgspec.to_builtins(config) if resolved else tomllib.loads(config_file.read_text(encoding="utf-8"))
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    tables = {key: value for key, value in document.items() if isinstance(value, dict)}
    for key, value in document.items():
        if key not in tables:
            click.echo(f"{key} = {json.dumps(value)}")  # TOML writes these strings, numbers, booleans and lists as JSON does
    for name, table in tables.items():
        click.echo(f"\n[{name}]")
        for key, value in table.items():
            click.echo(f"{key} = {json.dumps(value)}")


def _load(config_file: Path) -> "EdgeConfig":
    from cansight import settings
    from edge.config import EdgeConfig, resolved

    return resolved(settings.load(config_file, EdgeConfig), config_file.absolute().parent)
