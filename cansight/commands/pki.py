"""`cansight pki`: the fleet's certificates and keys."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from cansight.errors import UsageError, WorkFailed

if TYPE_CHECKING:
    from cloud.pki_recipients import Key

_FOLDER = click.Path(file_okay=False, path_type=Path)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_REASONS = ("lost", "sold", "scrapped", "key-compromised", "other")


@click.group()
def pki() -> None:
    """Fleet certificates and keys."""


@pki.command()
@click.argument("folder", type=_FOLDER)
@click.option(
    "--host", "hosts", multiple=True, metavar="NAME", help="Name or address of the broker; repeat for more. Default: this machine."
)
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    default=825,
    show_default=True,
    help="Validity of the certificates of broker, aggregator and registrar.",
)
@_JSON
def init(folder: Path, hosts: tuple[str, ...], days: int, as_json: bool) -> None:
    """Make the fleet's CA, its revocation list, the certificates of broker, aggregator and registrar, recipient key and pack key in FOLDER.

    Nothing is overwritten.
    """
    from cloud import pki as keys

    keys.init(folder, hosts=hosts or keys.DEFAULT_HOSTS, days=days)
    files = sorted(str(path) for path in folder.iterdir() if path.suffix in (".pem", ".key", ".json", ".crl"))
    if as_json:
        click.echo(json.dumps({"folder": str(folder), "files": files}))
        return
    click.echo("\n".join(files))
    click.echo(f"Keep {folder / 'fleet-ca.key'} offline. Next: cansight pki vehicle {folder}")


@pki.command()
@click.argument("folder", type=_FOLDER)
@click.option(
    "--id", "vehicle_id", metavar="ID", help="16 lower-case hexadecimal digits; random when not given. Never derive it from a VIN."
)
@click.option("--days", type=click.IntRange(1, 7300), default=825, show_default=True, help="Validity of the certificate.")
@_JSON
def vehicle(folder: Path, vehicle_id: str | None, days: int, as_json: bool) -> None:
    """Make the certificate and key of one vehicle in FOLDER/vehicles and print its id."""
    from cloud import pki as keys

    made = keys.vehicle(folder, vehicle_id, days=days)
    stem = folder / "vehicles" / made
    if as_json:
        click.echo(json.dumps({"vehicle": made, "certificate": f"{stem}.pem", "key": f"{stem}.key"}))
        return
    click.echo(made)


@pki.command()
@click.argument("folder", type=_FOLDER)
@click.argument("name")
@click.option("--days", type=click.IntRange(1, 7300), default=825, show_default=True, help="Validity of the certificate.")
@_JSON
def replica(folder: Path, name: str, days: int, as_json: bool) -> None:
    """Make the certificate and key of NAME, one of several aggregators that share the vehicles' messages (`broker.replica`).

    The broker's rules must name it: write them anew with `cansight cloud mosquitto`.
    """
    from cloud import pki as keys

    path = keys.replica(folder, name, days=days)
    if as_json:
        click.echo(json.dumps({"replica": name, "certificate": str(path), "key": str(path.with_suffix(".key"))}))
        return
    click.echo(f"{path}. Next: cansight cloud mosquitto --pki {folder} FOLDER, and have the broker read its rules (SIGHUP)")


@pki.command()
@click.argument("folder", type=_FOLDER)
@click.argument("name")
@click.option("--host", "hosts", multiple=True, metavar="NAME", help="Of the broker: its names from now on. Default: those it has.")
@click.option("--days", type=click.IntRange(1, 7300), default=825, show_default=True, help="Validity of the certificate.")
@click.option("--drop-old", is_flag=True, help="With the name ca: end the overlap; the old CA is trusted no more.")
@_JSON
def renew(folder: Path, name: str, hosts: tuple[str, ...], days: int, drop_old: bool, as_json: bool) -> None:
    """Make a new key and certificate for NAME: broker, aggregator, aggregator-REPLICA, registrar, a vehicle's id, or ca.

    The pair before it is kept beside.

    A vehicle that is on the air renews by itself (`cansight pki serve`). A new ca signs from now on, and the old one stays trusted until
    --drop-old.
    """
    from cloud import pki as keys

    if drop_old and name != "ca":
        raise UsageError(f"pki renew {name}: --drop-old goes with the name ca only")
    if name == "ca" and hosts:
        raise UsageError("pki renew ca: --host goes with the name broker only")
    if drop_old:
        keys.drop_old_ca(folder)
        path, words = folder / "fleet-ca.pem", "holds the new CA alone. Give it, and the recipient documents, to broker, cloud and vehicles"
    elif name == "ca":
        keys.renew_ca(folder)
        path, words = folder / "fleet-ca.pem", "holds both CAs. Give it to vehicles first, then to broker and cloud, and restart the broker"
    else:
        path, words = keys.renew(folder, name, hosts=hosts, days=days), "is new, with its key"
    click.echo(json.dumps({"name": name, "certificate": str(path)}) if as_json else f"{path} {words}")


@pki.command()
@click.argument("folder", type=_FOLDER)
@click.argument("names", nargs=-1)
@click.option("--reason", type=click.Choice(_REASONS), default="other", show_default=True)
@click.option(
    "--mosquitto", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of its settings: write its rules anew too."
)
@_JSON
def revoke(folder: Path, names: tuple[str, ...], reason: str, mosquitto: Path | None, as_json: bool) -> None:
    """Revoke every certificate of NAMES (vehicle ids, aggregator, aggregator-REPLICA, registrar) and write FOLDER/fleet-ca.crl anew.

    The broker must read it again: `kill -HUP` or `systemctl reload mosquitto`. Without --mosquitto a revoked vehicle that is connected
    stays so until its connection ends.
    """
    from cloud.mosquitto_config import write_rules
    from cloud.pki_revocation import LIST, Reason, revoked_names
    from cloud.pki_revocation import revoke as shut_out

    shut_out(folder, names, cast(Reason, reason))
    written = [folder / LIST]
    if mosquitto is not None:
        written.append(write_rules(folder, mosquitto))
    everyone = sorted(revoked_names(folder))
    if as_json:
        click.echo(json.dumps({"files": [str(path) for path in written], "revoked": everyone}))
        return
    click.echo(f"{' and '.join(map(str, written))}: {len(everyone)} name(s) revoked. Next: have the broker read it (SIGHUP to mosquitto)")


@pki.command()
@click.argument("folder", type=_FOLDER)
@click.option("--retire", is_flag=True, help="Destroy the private halves whose 400 days are over, or that of KEY at once.")
@click.option("--list", "only_list", is_flag=True, help="Say which there are.")
@click.argument("key", required=False)
@_JSON
def recipient(folder: Path, retire: bool, only_list: bool, key: str | None, as_json: bool) -> None:
    """Make another recipient key in FOLDER (at most three in date), list them, or destroy private halves. KEY: a key's id."""
    from cloud import pki_recipients as keys

    if key is not None and not retire:
        raise UsageError(f"pki recipient: {key[:40]!r} is given, but only --retire takes a key's id")
    if retire and only_list:
        raise UsageError("pki recipient: expected one of --retire and --list, found both")
    now = time.time()
    if retire:
        touched, verb = keys.retire(folder, now, key), "destroyed the private half"
    elif only_list:
        touched, verb = keys.recipients(folder), ""
    else:
        touched, verb = [keys.add_recipient(folder, now)], "made"
    if as_json:
        rows = [_row(one) for one in touched]
        click.echo(json.dumps({"keys": rows}))
        return
    for one in touched:
        until = datetime.fromtimestamp(one.recipient.not_after, UTC)
        here = "" if one.private.exists() else "; no private half here"
        dates = f"vehicles use it until {until:%Y-%m-%d}, private half until {one.destroyed_on}{here}"
        click.echo(f"{one.name} {one.document}: {verb or dates}")
    if not touched:
        click.echo("no private half is due")
    elif not verb.startswith("destroyed") and verb:
        click.echo(f"Next: name {touched[0].document} in vehicles' recipients.files and {touched[0].private} in the cloud's recipient_keys")
    elif verb:
        click.echo("Next: take them out of the cloud's recipient_keys, and destroy the copies and backups of these files")


def _row(key: "Key") -> dict[str, object]:
    return {
        "id": key.name,
        "document": str(key.document),
        "private": str(key.private) if key.private.exists() else None,
        "not_after": key.recipient.not_after,
        "destroyed_on": key.destroyed_on,
    }


@pki.command()
@click.argument("folder", type=_FOLDER)
@click.option(
    "--mosquitto", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Look at the broker's settings in this folder too."
)
@_JSON
def check(folder: Path, mosquitto: Path | None, as_json: bool) -> None:
    """Look at everything in FOLDER: dates, names, issuers, keys' modes, the revocation list. Exit code 1 when something is to be done."""
    from cloud.mosquitto_config import check_mosquitto
    from cloud.pki_check import Found
    from cloud.pki_check import check as look

    found = look(folder, datetime.now(UTC))
    if mosquitto is not None:
        problems = check_mosquitto(folder.absolute(), mosquitto.absolute())
        found += [Found("mosquitto", False, words) for words in problems] or [Found("mosquitto", True, str(mosquitto))]
    wrong = [one for one in found if not one.ok]
    if as_json:
        rows = [{"what": one.what, "ok": one.ok, "words": one.words} for one in found]
        click.echo(json.dumps({"ok": not wrong, "checks": rows}, indent=2))
    else:
        for one in found:
            click.echo(f"{'ok   ' if one.ok else 'WRONG'} {one.what}: {one.words}")
    if wrong:
        raise WorkFailed(f"{folder}: {len(wrong)} of {len(found)} checks failed")


@pki.command()
@click.argument("folder", type=_FOLDER)
@click.option("--host", default="localhost", show_default=True, help="The broker's.")
@click.option("--port", type=click.IntRange(1, 65535), default=8883, show_default=True)
@click.option("--days", type=click.IntRange(1, 7300), default=825, show_default=True, help="Validity of the certificates.")
@click.option("-v", "--verbose", is_flag=True, help="say more on stderr")
def serve(folder: Path, host: str, port: int, days: int, verbose: bool) -> None:
    """Answer vehicles that renew, until SIGTERM or Ctrl-C. Runs where the CA's key is; needs registrar.pem and the vehicles folder."""
    import logging
    import signal
    import sys

    from cloud.registrar import Registrar

    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    registrar = Registrar(folder, host, port, days)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: registrar.stop())
    registrar.run()
