"""`cansight cloud`: the aggregator with its sinks, API and page; what is wrong with its settings; a broker for trying it out."""

import asyncio
import gc
import json
import sys
from pathlib import Path

import click

from cansight.commands.cloud_backup import backup, restore
from cansight.commands.cloud_quarantine import quarantine
from cansight.commands.cloud_settings import CONFIG, load_config
from cansight.commands.cloud_store import delete, init, query
from cansight.commands.cloud_token import token
from cansight.errors import WorkFailed

VERBOSE = click.option("-v", "--verbose", is_flag=True, help="say more on stderr")


@click.group()
def cloud() -> None:
    """The aggregator, its stores, tickets and page."""


for command in (backup, restore, quarantine, token, init, query, delete):
    cloud.add_command(command)


@cloud.command()
@CONFIG
@VERBOSE
@click.option("--json", "as_json", is_flag=True, help="print one JSON line when everything stands")
def run(config_file: Path, verbose: bool, as_json: bool) -> None:
    """Receive, land, store and raise tickets until SIGTERM or Ctrl-C; what has landed by then is stored."""
    config = load_config(config_file)
    from cansight.service import Service
    from cloud.app import Cloud

    _log(verbose)
    service = Service()

    def ready(url: str) -> None:
        # Thousands of messages are kept for the sinks, none of them in a cycle: the collector need not walk over them so often.
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        service.ready()
        click.echo(json.dumps({"url": url}) if as_json else f"the page is at {url}")
        sys.stdout.flush()

    async def main() -> None:
        await Cloud(config).run(ready, service.alive)

    asyncio.run(main())


@cloud.command()
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def check(config_file: Path, as_json: bool) -> None:
    """Look at everything the settings name: files, DBCs, broker, store, port. Exit code 1 when something is wrong."""
    from cloud.check import check as look

    findings = look(load_config(config_file))
    wrong = [finding for finding in findings if not finding.ok]
    if as_json:
        rows = [{"what": finding.what, "ok": finding.ok, "words": finding.words} for finding in findings]
        click.echo(json.dumps({"ok": not wrong, "checks": rows}, ensure_ascii=False, indent=2))
    else:
        for finding in findings:
            click.echo(f"{'ok   ' if finding.ok else 'WRONG'} {finding.what}: {finding.words}")
    if wrong:
        raise WorkFailed(f"{config_file}: {len(wrong)} of {len(findings)} checks failed")


@cloud.command()
@click.option("--pki", "pki_folder", type=click.Path(path_type=Path, file_okay=False), required=True, help="folder of `cansight pki init`")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=8883, show_default=True)
@VERBOSE
def broker(pki_folder: Path, host: str, port: int, verbose: bool) -> None:
    """Run the embedded MQTT broker, for demonstrations; nothing it holds survives its end. In production use mosquitto."""
    import signal

    from cloud.broker import EmbeddedBroker

    _log(verbose)

    async def main() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with EmbeddedBroker(pki_folder, host, port):
            click.echo(f"broker on {host}:{port}")
            sys.stdout.flush()
            await stop.wait()

    asyncio.run(main())


@cloud.command("mosquitto")
@click.option("--pki", "pki_folder", type=click.Path(path_type=Path, file_okay=False), required=True, help="folder of `cansight pki init`")
@click.option("--host", default="0.0.0.0", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=8883, show_default=True)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
def mosquitto(pki_folder: Path, host: str, port: int, folder: Path) -> None:
    """Write mosquitto.conf and acl.conf into FOLDER."""
    from cloud.mosquitto_config import mosquitto_config

    click.echo(mosquitto_config(pki_folder.absolute(), folder.absolute(), host, port))


def _log(verbose: bool) -> None:
    import logging

    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
