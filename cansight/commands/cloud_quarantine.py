"""`cansight cloud quarantine`: what the cloud keeps and cannot use today, why, and giving it to the sinks once it can."""

import json
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cansight.commands.cloud_settings import CONFIG, load_config
from cansight.errors import UsageError, WorkFailed

if TYPE_CHECKING:
    from cloud.config import CloudConfig
    from cloud.quarantine import Item

MOST_SHOWN = 1000
ANSWER_S = 600.0  # for the running cloud to replay what it is asked to
ASK_EVERY_S = 0.2

JSON = click.option("--json", "as_json", is_flag=True, help="print JSON")
POSITION = click.IntRange(min=0)


@click.group()
def quarantine() -> None:
    """What is kept with a reason because it cannot be used today: no key, no DBC, a later version, a sink that choked."""


@quarantine.command("list")
@CONFIG
@click.option("--vehicle", help="only this vehicle's")
@click.option("--refused", is_flag=True, help="samples of what was refused instead: nothing of it was taken over")
@click.option("--most", type=click.IntRange(min=1), default=MOST_SHOWN, show_default=True, help="how many are printed, the oldest first")
@JSON
def list_(config_file: Path, vehicle: str | None, refused: bool, most: int, as_json: bool) -> None:
    """List what is held, oldest first, and how much for which reason. The cloud may be running."""
    items = _items(_ran(config_file), refused)
    if vehicle is not None:
        items = [item for item in items if _vehicle(item) == vehicle]
    reasons = Counter(item.reason for item in items)
    if as_json:
        rows = [_row(item) for item in items[:most]]
        click.echo(json.dumps({"held": len(items), "reasons": dict(reasons), "items": rows}, ensure_ascii=False, indent=2))
        return
    if not items:
        empty = "there is no sample of anything refused" if refused else "the quarantine is empty"
        click.echo(empty if vehicle is None else f"nothing of vehicle {_plain(vehicle)} is there")
        return
    click.echo(f"{'POSITION':>8}  {'RECEIVED (UTC)':19}  {'VEHICLE':16}  {'SEQUENCE':>8}  {'FROM':8}  {'BYTES':>7}  REASON")
    for item in items[:most]:
        sequence = "-" if item.header is None else item.header.sequence
        source = item.source.name.lower()
        where = f"{item.position:>8}  {_when(item.received_ms)}  {_vehicle(item):16}"
        click.echo(f"{where}  {sequence:>8}  {source:8}  {len(item.data):>7}  {_plain(item.reason)}")
    click.echo(f"\n{len(items)} held" + (f", the first {most} are shown" if len(items) > most else ""))
    for reason, number in reasons.most_common(10):
        click.echo(f"{number:>8}  {_plain(reason)}")


@quarantine.command()
@CONFIG
@click.argument("position", type=POSITION)
@click.option("--refused", is_flag=True, help="of the samples of what was refused")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="write the sealed message into this file")
@JSON
def show(config_file: Path, position: int, refused: bool, output: Path | None, as_json: bool) -> None:
    """Show one message: where it came from, why it is here, and what becomes of it with today's keys and DBC files."""
    config = _ran(config_file)
    item = next((item for item in _items(config, refused) if item.position == position), None)
    if item is None:
        raise UsageError(
            f"position {position}: nothing is held there; `cansight cloud quarantine list{' --refused' * refused}` shows what is"
        )
    row = _row(item) | {"today": "a refused message is not tried again" if refused else _today(config, item)}
    if output is not None:
        output.write_bytes(item.data)
        row["written"] = str(output)
    if as_json:
        click.echo(json.dumps(row, ensure_ascii=False, indent=2))
        return
    for name, value in row.items():
        click.echo(f"{name:12} {_plain(str(value))}")


@quarantine.command()
@CONFIG
@click.argument("positions", type=POSITION, nargs=-1)
@JSON
def replay(config_file: Path, positions: tuple[int, ...], as_json: bool) -> None:
    """Try everything again, or what is at POSITIONS: what opens today lands, and the sinks take it.

    A running cloud does it with the keys and DBC files of its start, where it tries everything by itself; new ones take a restart.
    """
    from cloud.replays import replay_stopped
    from wire.errors import SegmentLogLocked

    config = _ran(config_file)
    try:
        answer = replay_stopped(config, positions).as_dict() | {"by": "this command; the sinks take it when the cloud starts"}
    except SegmentLogLocked:
        answer = _ask(config, positions) | {"by": "the running cloud"}
    if as_json:
        click.echo(json.dumps(answer, ensure_ascii=False, indent=2))
    else:
        click.echo(f"{answer['released']} replayed by {answer['by']}")
        for reason, number in sorted(answer["still"].items(), key=lambda one: -one[1]):
            click.echo(f"{number} still held: {_plain(reason)}")
    if answer["missing"]:
        raise UsageError(f"position {', '.join(map(str, answer['missing']))}: nothing is held there")
    if answer["still"]:
        raise WorkFailed(f"{sum(answer['still'].values())} messages cannot be used yet")


@quarantine.command()
@CONFIG
@click.argument("positions", type=POSITION, nargs=-1)
@click.option("--vehicle", help="all of this vehicle's, or those of them at POSITIONS")
@click.option("--reason", help="all whose reason has these words in it")
@click.option("--yes", is_flag=True, help="do not ask")
@JSON
def drop(config_file: Path, positions: tuple[int, ...], vehicle: str | None, reason: str | None, yes: bool, as_json: bool) -> None:
    """Give up for good what is at POSITIONS, or all of a vehicle or for a reason: what no key, DBC or program will ever open.

    What had a receipt is nowhere else any more: its vehicle has deleted it.
    """
    from cloud.replays import drop_stopped
    from wire.errors import SegmentLogLocked

    if not positions and vehicle is None and reason is None:
        raise UsageError(
            "expected POSITIONS, --vehicle or --reason: what is dropped is gone; `cansight cloud quarantine list` shows what there is"
        )
    config = _ran(config_file)
    held = {item.position: item for item in _items(config, False)}
    if gone := sorted(set(positions) - held.keys()):
        raise UsageError(f"position {', '.join(map(str, gone))}: nothing is held there")
    found = [held[position] for position in positions or held]
    found = [one for one in found if vehicle in (None, _vehicle(one)) and (reason or "").lower() in one.reason.lower()]
    if not found:
        raise UsageError("nothing that is held is so; `cansight cloud quarantine list` shows what there is")
    if not yes:
        words = _plain(Counter(one.reason for one in found).most_common(1)[0][0])
        vehicles = len({_vehicle(one) for one in found})
        click.confirm(f"drop {len(found)} messages of {vehicles} vehicles for good ({words})?", abort=True, err=True)
    chosen = tuple(one.position for one in found)
    try:
        answer = drop_stopped(config, chosen).as_dict() | {"by": "this command"}
    except SegmentLogLocked:
        answer = _ask(config, chosen, drop=True) | {"by": "the running cloud"}
    if as_json:
        click.echo(json.dumps({"dropped": answer["released"], "by": answer["by"]}))
    else:
        click.echo(f"{answer['released']} dropped by {answer['by']}")


def _ran(config_file: Path) -> "CloudConfig":
    """The settings of a cloud that has run: an empty answer about a folder that is not there would be a wrong one."""
    config = load_config(config_file)
    if not _folder(config).is_dir():
        raise UsageError(f"{_folder(config)}: there is no such folder; is `state` in {config_file} right, and has the cloud ever run?")
    return config


def _ask(config: "CloudConfig", positions: tuple[int, ...], drop: bool = False) -> dict[str, Any]:
    """Have the running cloud do it, and wait for its answer."""
    from cloud.database import Database

    with Database(config.database_url, config.broker.replica) as database:
        number = database.ask_replay(positions, drop)
        deadline = time.monotonic() + ANSWER_S
        while (answer := database.take_replay(number)) is None:
            if time.monotonic() > deadline:
                raise WorkFailed(
                    f"the cloud that holds {config.state} has not answered within {ANSWER_S:.0f} s; it will do it all the same"
                )
            time.sleep(ASK_EVERY_S)
    return answer


def _folder(config: "CloudConfig", refused: bool = False) -> Path:
    return Path(config.state) / ("refused" if refused else "quarantine")


def _items(config: "CloudConfig", refused: bool) -> "list[Item]":
    from cloud.quarantine import read_only

    return read_only(_folder(config, refused))


def _today(config: "CloudConfig", item: "Item") -> str:
    """What a replay would find."""
    from cloud.database import Database
    from cloud.pki_files import load_certificates
    from cloud.streams import Streams
    from cloud.vehicle_models import by_schema, load_models
    from wire.errors import WireError
    from wire.recipients import load_recipient_keys

    with Database(config.database_url, config.broker.replica) as database:
        models = by_schema(load_models(config.vehicle_model, Path(config.state) / "cache"))
        keys, cas = load_recipient_keys(config.recipient_keys), load_certificates(Path(config.fleet_ca))
        try:
            opened = Streams(database, keys, cas, models).open(item.data, item.received_ms)
        except WireError as error:
            return f"cannot be used: {error}"
    return f"opens: {opened.kind.name.lower()} of stream {opened.header.stream.hex()}; `cansight cloud quarantine replay {item.position}`"


def _row(item: "Item") -> dict[str, Any]:
    header = item.header
    return {
        "position": item.position,
        "received": _when(item.received_ms),
        "vehicle": _vehicle(item),
        "stream": None if header is None else header.stream.hex(),
        "sequence": None if header is None else header.sequence,
        "from": item.source.name.lower(),
        "bytes": len(item.data),
        "reason": item.reason,
    }


def _vehicle(item: "Item") -> str:
    """As the clear header says; every version keeps it in the same place."""
    return item.data[1:9].hex() if len(item.data) >= 9 else "-"


def _when(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def _plain(text: str) -> str:
    """A stranger's words must not steer the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
