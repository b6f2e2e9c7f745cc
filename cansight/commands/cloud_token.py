"""`cansight cloud token`: who may use the API and the page."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cansight.commands.cloud_settings import CONFIG, load_config
from cansight.errors import UsageError

if TYPE_CHECKING:
    from cloud.tokens import Tokens

ROLES = ("operator", "service", "read-only", "owner")
MOST_NAME = 64

JSON = click.option("--json", "as_json", is_flag=True, help="print JSON")


@click.group()
def token() -> None:
    """Tokens of the API and the page: operator, service (works tickets), read-only, owner (one vehicle in one period)."""


@token.command()
@CONFIG
@click.option("--role", type=click.Choice(ROLES), required=True)
@click.option("--name", required=True, help="whose it is; stands in the history of what is done with it")
@click.option("--vehicle", help="an owner's")
@click.option("--from", "from_", metavar="TIME", help="beginning of an owner's period, UTC: 2026-11-23 or 2026-11-23T10:00")
@click.option("--to", metavar="TIME", help="its end, not part of it; without it, until further notice")
@JSON
def create(config_file: Path, role: str, name: str, vehicle: str | None, from_: str | None, to: str | None, as_json: bool) -> None:
    """Make a token and print it, once: only its SHA-256 is kept. The cloud may be running."""
    from cloud.roles import Role

    if not 1 <= len(name) <= MOST_NAME or not name.isprintable():
        raise UsageError(f"--name: expected 1 to {MOST_NAME} printable characters, found {name[:MOST_NAME]!r}")
    if (role == "owner") != (vehicle is not None and from_ is not None):
        raise UsageError("--vehicle and --from: an owner's token needs both, and no other token has them")
    if to is not None and from_ is None:
        raise UsageError("--to: is the end of an owner's period; name its beginning with --from")
    from_ms, to_ms = _moment("--from", from_), _moment("--to", to)
    with _tokens(config_file) as tokens:
        secret = tokens.create(name, Role(role), vehicle, from_ms, to_ms)
    click.echo(json.dumps({"name": name, "role": role, "token": secret}) if as_json else secret)


@token.command("list")
@CONFIG
@JSON
def list_(config_file: Path, as_json: bool) -> None:
    """List the tokens, the revoked ones too."""
    import msgspec

    with _tokens(config_file) as tokens:
        found = tokens.all()
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), ensure_ascii=False, indent=2))
        return
    if not found:
        click.echo("no tokens; `cansight cloud token create --role operator --name NAME` makes one")
        return
    rows = [("NAME", "ROLE", "MADE (UTC)", "REVOKED (UTC)", "VEHICLE", "FROM (UTC)", "TO (UTC)")]
    rows += [
        (one.name, one.role.value, _when(one.created_ms), _when(one.revoked_ms), one.vehicle or "", _when(one.from_ms), _when(one.to_ms))
        for one in found
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


@token.command()
@CONFIG
@click.argument("name")
def revoke(config_file: Path, name: str) -> None:
    """End a token and the sessions that were begun with it; a running cloud obeys within a second."""
    with _tokens(config_file) as tokens:
        tokens.revoke(name)
    click.echo(f"revoked {name}")


def _tokens(config_file: Path) -> "Tokens":
    from cloud.tokens import Tokens

    return Tokens(load_config(config_file).database_url)


def _moment(option: str, text: str | None) -> int | None:
    """UTC ms of a date or time in ISO 8601; without an offset it is UTC. Raises UsageError."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option}: expected a time such as 2026-11-23 or 2026-11-23T10:00, found {text[:60]!r}") from None
    return round((moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _when(ms: int | None) -> str:
    return "" if ms is None else datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
