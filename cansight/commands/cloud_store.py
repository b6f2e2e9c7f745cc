"""`cansight cloud init | query | delete`: what an operator does with the store beside reading tickets."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cansight.commands.cloud_settings import CONFIG, load_config
from cansight.errors import UsageError

if TYPE_CHECKING:
    from cloud.operator_queries import Language

FOR_EVER_MS = 9_000_000_000_000  # in 2255; InfluxDB counts nanoseconds in 63 bits
TEXT_WIDTH = 28


@click.command("init")
@CONFIG
@click.option("--shorten", is_flag=True, help="make a retention shorter than it is on the server, which deletes what is older")
def init(config_file: Path, shorten: bool) -> None:
    """Make the tables, or bring them to this program's version, and the store's databases with their retention.

    Changes nothing where all is as the settings say. Stop every cloud on the tables, and make a backup, before their version changes.
    """
    config = load_config(config_file)
    from cloud.migrations import bring_up

    click.echo(bring_up(config.database_url))
    if config.store.kind == "embedded":
        click.echo(f"{config.state}/store.db: made by `cansight cloud run`; it keeps everything")
        return
    from cloud.stores.influx_admin import admin
    from cloud.stores.influx_databases import prepare
    from cloud.stores.influx_http import InfluxServer

    with InfluxServer(config.store.influx) as server:
        for line in prepare(admin(server), config.store.influx, shorten=shorten):
            click.echo(line)


@click.command("query")
@CONFIG
@click.option("--flux", is_flag=True, help="show the query in Flux instead of running it in InfluxQL")
@click.option("--text", "show", is_flag=True, help="show the query instead of running it")
@click.option("--replay", is_flag=True, help="ask the database of recorded logs, and of the demonstration")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@click.argument("name", required=False)
@click.argument("values", nargs=-1, metavar="[PARAMETER=VALUE...]")
def query(config_file: Path, flux: bool, show: bool, replay: bool, as_json: bool, name: str | None, values: tuple[str, ...]) -> None:
    """Run an operators' query of InfluxDB by NAME; without one, list them."""
    from cloud.operator_queries import queries
    from cloud.stores.influx_databases import REPLAY
    from cloud.stores.influx_http import InfluxServer

    there = queries()
    if name is None:
        for (one, spoken), described in there.items():
            if spoken == "influxql":
                click.echo(f"{' '.join([one, *(f'{parameter}=…' for parameter in described.parameters)])}\n    {described.words}")
        return
    language: Language = "flux" if flux else "influxql"
    if (name, language) not in there:
        raise UsageError(f"query: there is none named {name[:60]!r}; expected one of {', '.join(sorted({one for one, _ in there}))}")
    if wrong := [value for value in values if "=" not in value]:
        raise UsageError(f"query {name}: expected PARAMETER=VALUE, found {wrong[0][:60]!r}")
    config = load_config(config_file)
    influx = config.store.influx
    database = (influx.bucket or influx.database) + REPLAY * replay
    text = there[name, language].filled(dict(value.split("=", 1) for value in values), database)
    if flux:
        click.echo("// Not run on a real InfluxDB 2 by us; the same question in InfluxQL is.")
    if flux or show:
        click.echo(text, nl=False)
        return
    if config.store.kind != "influx":
        raise UsageError(f"{config_file}: store.kind is {config.store.kind!r}: these are queries of InfluxDB; --text shows them")
    with InfluxServer(config.store.influx) as server:
        found = server.query(database, text)
    if as_json:
        click.echo(json.dumps([{"tags": one.tags, "columns": one.columns, "rows": one.rows} for one in found], ensure_ascii=False))
        return
    for series in found:
        if series.tags:
            click.echo(" ".join(f"{tag}={value}" for tag, value in series.tags.items()))
        columns = series.columns
        if len(series.rows) == 1 and len(columns) > 8:  # one value of each of many signals: a line each
            for column, value in zip(columns[1:], series.rows[0][1:], strict=True):
                if value is not None:
                    click.echo(f"  {column:<50} {value}")
            continue
        click.echo("  " + "  ".join(f"{column:<{TEXT_WIDTH}}" for column in columns).rstrip())
        for row in series.rows:
            shown = [_when(row[0]) if columns[0] == "time" else row[0], *row[1:]]
            click.echo("  " + "  ".join(f"{'' if value is None else value!s:<{TEXT_WIDTH}}" for value in shown).rstrip())
    if not found:
        click.echo("nothing")


@click.command("delete")
@CONFIG
@click.argument("vehicle")
@click.option("--from", "since", type=click.DateTime(), help="from this time, UTC; default: the beginning")
@click.option("--to", "until", type=click.DateTime(), help="before this time, UTC; default: the end")
@click.option("--yes", is_flag=True, help="do not ask")
def delete(config_file: Path, vehicle: str, since: object, until: object, yes: bool) -> None:
    """Delete a VEHICLE's values, findings and gaps from store and lake: all, or those of a period, with its days' data quality.

    Tickets stay. The landing log and the quarantine keep the sealed messages. Of replicas with a lake each, run it for each.
    """
    from cloud.lake.compaction import delete as delete_from_lake
    from cloud.lake.folders import DAY_MS, Folders
    from cloud.quality.tables import QualityTables
    from cloud.stores import make_store
    from cloud.vehicle_models import load_models

    config = load_config(config_file)
    from_ms, to_ms = _ms(since, 0), _ms(until, FOR_EVER_MS)
    if from_ms >= to_ms:
        raise UsageError("--from: expected a time before --to")
    if not yes:
        click.confirm(f"delete what the {config.store.kind} store and the lake have of vehicle {vehicle}?", abort=True)
    with make_store(config, load_models(config.vehicle_model, Path(config.state) / "cache")) as store:
        for what, number in store.delete(vehicle, from_ms, to_ms).items():
            click.echo(f"{what}: {number}")
    now_ms = time.time_ns() // 1_000_000
    if config.lake_folder.is_dir():
        for what, number in delete_from_lake(Folders(config.lake_folder), vehicle, from_ms, to_ms, now_ms).items():
            click.echo(f"lake, {what}: {number}")
    if config.broker.replica and config.lake.enabled and not config.lake.path:
        click.echo(f"the lake is replica {config.broker.replica}'s alone; run this with the others' settings, too, for what theirs have")
    with QualityTables(config.database_url) as tables:
        # a day that is in the period in part is told of no more than one that is
        click.echo(f"days of data quality: {tables.delete(vehicle, from_ms // DAY_MS, min(to_ms, now_ms) // DAY_MS)}")


def _when(ms: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ms / 1000))


def _ms(given: object, otherwise: int) -> int:
    from datetime import UTC, datetime

    return int(given.replace(tzinfo=UTC).timestamp() * 1000) if isinstance(given, datetime) else otherwise
