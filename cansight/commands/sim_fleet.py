"""`cansight sim fleet`: thousands of vehicles over MQTT; `cansight sim fleet-ledger`: what became of everything they sent."""

import json
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import click
import msgspec

from cansight.commands.sim_times import duration
from cansight.errors import UsageError, WorkFailed

if TYPE_CHECKING:
    from simulator.fleet import Fleet, Outage, Rules
    from simulator.fleet.drives import Drives, Walks

ASK_S = 0.5

_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)


class Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    scenario: str
    share: Annotated[float, msgspec.Meta(gt=0)]


class Mix(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A scenario mix file: [[vehicles]] tables with a scenario and its share; shares need not add up to 1."""

    vehicles: Annotated[list[Share], msgspec.Meta(min_length=1)]


@click.command()
@click.option("--vehicles", type=click.IntRange(1, 100_000), required=True, help="How many.")
@click.option("--broker", "broker_url", required=True, metavar="URL", help="mqtts://HOST[:PORT]; the port is 8883 where none is given.")
@click.option(
    "--pki", "pki_folder", type=_FOLDER, required=True, help="Folder of `cansight pki init`; missing vehicle certificates are made."
)
@click.option("--scenario-mix", "mix_file", type=_FILE, help="TOML: which share drives which scenario. Without it values walk at random.")
@click.option("--duration", "duration_s", type=duration, metavar="DURATION", default="1m", show_default=True, help="Like 90s, 30m, 2h.")
@click.option("--ticks-per-batch", type=click.IntRange(1, 60), default=2, show_default=True, help="Seconds of signals in a batch.")
@click.option("--signals", type=click.IntRange(1, 10_000), default=200, show_default=True, help="Signals that each vehicle records.")
@click.option("--seed", type=click.IntRange(0, 2**53), default=1, show_default=True, help="Draws values, ids, phases, outages.")
@click.option("--speed", type=click.FloatRange(0.01, 1000), default=1.0, show_default=True, help="Multiple of real time; not 1: a replay.")
@click.option("--prepared", is_flag=True, help="Seal every batch before the run, on all cores.")
@click.option(
    "--outages", "outage_texts", multiple=True, metavar="SHARE%@START+LENGTH", help="Like 20%@30s+2m: who is offline, when. Repeatable."
)
@click.option("--jitter/--no-jitter", default=True, help="Whether vehicles come back at random moments, as agents do, or all at once.")
@click.option("--ledger", "ledger_file", type=_FILE, help="Write everything sent and receipted into this new SQLite file.")
@click.option("--drain", "drain_s", type=duration, metavar="DURATION", default="1m", show_default=True, help="Time for the last receipts.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def fleet(
    vehicles: int,
    broker_url: str,
    pki_folder: Path,
    mix_file: Path | None,
    duration_s: int,
    ticks_per_batch: int,
    signals: int,
    seed: int,
    speed: float,
    prepared: bool,
    outage_texts: tuple[str, ...],
    jitter: bool,
    ledger_file: Path | None,
    drain_s: int,
    as_json: bool,
) -> None:
    """Thousands of vehicles over MQTT from one process: real certificates, real sealing, batches kept until their receipt.

    Exit code 1 when a batch has no receipt in the end.
    """
    host, port = broker_address(broker_url)
    from simulator.fleet import Endpoint, Fleet, Ledger, Plan, Trust, parse, prepare

    outages: tuple[Outage, ...] = tuple(parse(text) for text in outage_texts)
    plan = Plan(vehicles, duration_s, ticks_per_batch, seed, speed, outages, jitter, float(drain_s), prepared)
    plan.check()
    trust = Trust(pki_folder)
    trust.read()
    with _progress(as_json) as progress:
        schema, columns, values, scenarios, out = _car(signals, vehicles, seed, duration_s, mix_file)
        run = Fleet(plan, schema, columns, values, trust, Endpoint(host, port), rules(), None, scenarios, out)
        issue(pki_folder, run.ids, progress)
        ready = []
        if prepared:
            for one in prepare(run.work()):
                ready.append(one)
                progress("sealing", len(ready) / vehicles)
        if ledger_file is None:
            report = _run(run, ready, progress)
        else:
            with Ledger(ledger_file) as ledger:
                run.ledger = ledger
                report = _run(run, ready, progress)
    if as_json:
        click.echo(json.dumps(report.as_json()))
    else:
        click.echo("\n".join(report.lines()))
    if not report.complete:
        raise WorkFailed(
            f"{report.unreceipted:,} of {report.counts.sealed:,} batches have no receipt after {drain_s} s; is an aggregator there?"
        )


@click.command("fleet-ledger")
@click.argument("ledger_file", type=_FILE, metavar="LEDGER")
@click.option("--api", metavar="URL", help="The aggregator, like http://127.0.0.1:8460.")
@click.option("--influx", metavar="URL", help="Or InfluxDB itself, like http://127.0.0.1:8086.")
@click.option("--database", default="cansight", show_default=True, help="InfluxDB's database; a replay's is NAME_replay.")
@click.option("--token-file", type=_FILE, help="A file with the token for the API or InfluxDB.")
@click.option(
    "--wait", "wait_s", type=duration, metavar="DURATION", default="30s", show_default=True, help="Time for the store to catch up."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def fleet_ledger(
    ledger_file: Path, api: str | None, influx: str | None, database: str, token_file: Path | None, wait_s: int, as_json: bool
) -> None:
    """Compare a fleet's ledger with the store: ticks lost, duplicated, out of order, with another value, or of no batch.

    Exit code 1 when there are any.
    """
    from simulator.fleet import Api, Influx, Reading, verify

    if (api is None) == (influx is None):
        raise UsageError("sim fleet-ledger: expected either --api URL or --influx URL")
    _http(api or influx or "")
    token = _token(token_file)
    with Reading(ledger_file) as ledger:
        name = f"{database}_replay" if ledger.run["replay"] else database
        reader = Api(api, token) if api is not None else Influx(influx or "", name, token)
        deadline_s = time.monotonic() + wait_s
        while True:
            caught_up = not isinstance(reader, Api) or not reader.behind()
            whole, faulty = verify(ledger, reader)
            if (not whole.lost and caught_up) or time.monotonic() > deadline_s:
                break
            time.sleep(ASK_S)
        batches = ledger.counts()
    if as_json:
        document = {"batches": batches, "ticks": asdict(whole), "faulty": {vehicle: asdict(one) for vehicle, one in faulty.items()}}
        click.echo(json.dumps(document))
    else:
        click.echo("batches: " + ", ".join(f"{count:,} {word}" for word, count in batches.items()))
        click.echo("ticks: " + ", ".join(f"{count:,} {word.replace('_', ' ')}" for word, count in asdict(whole).items()))
        for vehicle, one in list(faulty.items())[:10]:
            click.echo(
                f"vehicle {vehicle}: " + ", ".join(f"{count:,} {word.replace('_', ' ')}" for word, count in asdict(one).items() if count)
            )
    if whole.faults:
        raise WorkFailed(f"{ledger_file}: {len(faulty)} vehicles differ from the store; {whole.lost:,} ticks are lost")


def rules() -> "Rules":
    """The agent's own outbox: a fleet sends, waits and sends again as vehicles do."""
    from edge.outbox import Batch, Lane, Outbox
    from simulator.fleet import Rules
    from wire.receipts import Status

    def batch(stream: bytes, sequence: int, reserved: bool, data: bytes, tags: Mapping[Status, bytes]) -> Batch:
        return Batch(stream, sequence, Lane.RESERVED if reserved else Lane.BULK, -1 if reserved else 0, data, tags)

    return Rules(Outbox, batch)


def broker_address(url: str) -> tuple[str, int]:
    """mqtts://HOST[:PORT] -> host, port. UsageError says what was expected."""
    expected = f"broker {url!r}: expected mqtts://HOST[:PORT] (the broker wants certificates, so there is no mqtt://)"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 8883
    except ValueError:
        raise UsageError(expected) from None
    if parts.scheme != "mqtts" or not host or parts.path.strip("/") or parts.query or parts.username:
        raise UsageError(expected)
    return host, port


def issue(pki_folder: Path, vehicles: list[str], progress: Callable[[str, float], None]) -> None:
    """Certificates of those vehicles that have none yet."""
    from cloud import pki

    missing = [vehicle for vehicle in vehicles if not (pki_folder / "vehicles" / f"{vehicle}.pem").exists()]
    for place, vehicle in enumerate(missing):
        pki.vehicle(pki_folder, vehicle)
        progress("certificates", place / len(missing))


def _car(
    signals: int, vehicles: int, seed: int, duration_s: int, mix_file: Path | None
) -> tuple[Any, Any, "Walks | Drives", list[str], list[list[tuple[float, float]]]]:
    """Schema, columns, values, scenarios and places without network of the project's own car."""
    import numpy as np

    from dbc.catalogue import Catalogue
    from dbc.compiler import compile_dbc
    from dbc.vehicles import CATALOGUE, DBC_FILES
    from simulator.fleet.drives import Drives, Walks, assign, holes
    from simulator.fleet.sealing import CONSENT_CLASS

    compiled = compile_dbc(DBC_FILES)
    schema, catalogue = compiled.schema, Catalogue.load(CATALOGUE)
    technical = [number for number, name in enumerate(schema.names) if catalogue.consent_class(name) == CONSENT_CLASS]
    if signals > len(technical):
        raise UsageError(f"signals: the car has {len(technical)} of the class {CONSENT_CLASS}, found {signals}")
    columns = np.array(technical[:signals], dtype=np.intp)
    if mix_file is None:
        return schema, columns, Walks(schema, columns, seed), [], []
    from cansight import settings
    from simulator.scenario import scenario

    mix = settings.load(mix_file, Mix)
    played = {one.scenario: scenario(one.scenario) for one in mix.vehicles}
    scenarios = assign([(one.scenario, one.share) for one in mix.vehicles], vehicles, seed)
    names = list(played)
    plays = np.array([names.index(name) for name in scenarios], np.intp)
    out = [holes(played[name], seed, number, duration_s) for number, name in enumerate(scenarios)]
    return schema, columns, Drives(tuple(played.values()), plays, columns, compiled, seed), scenarios, out


def _run(run: "Fleet", ready: list[Any], progress: Callable[[str, float], None]) -> Any:
    """The first interrupt ends the drive and drains; a second one ends at once."""

    def interrupt(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        run.stop()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        return run.run(ready, progress)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str, float], None]]:
    """A bar on stderr when that is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda words, share: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda words, share: bar.update(task, description=words, completed=share)


def _http(url: str) -> None:
    if re.fullmatch(r"https?://[^\s/?#]+/?", url) is None:
        raise UsageError(f"{url!r}: expected a URL like http://127.0.0.1:8460")


def _token(token_file: Path | None) -> str:
    if token_file is None:
        return ""
    try:
        return token_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{token_file}: the token cannot be read: {getattr(error, 'strerror', None) or error}") from None
