"""`cansight tickets audit`: who did what to a ticket, vouched for by a hash chain. Reads the tables of the settings, not the API: what is
verified must not pass through the program whose record it is."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cansight.commands.cloud_settings import CONFIG, load_config
from cansight.commands.tickets_api import say
from cansight.errors import WorkFailed

if TYPE_CHECKING:
    from cloud.tickets.service import TicketService

FOLDER = click.Path(path_type=Path, file_okay=False)
SHOWN = 50


@click.group()
def audit() -> None:
    """The audit trail."""


def _service(config_file: Path) -> "TicketService":
    from cloud.tickets.service import TicketService

    config = load_config(config_file)
    return TicketService(config.database_url, audit_folder=Path(config.state) / "audit")


@audit.command()
@CONFIG
@click.option("--heads", type=FOLDER, help="Folder of exported heads that were kept elsewhere; default: state/audit/heads.")
@click.option("--keys", type=FOLDER, help="Folder of the public keys (*.pub) that are trusted; default: state/audit.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(config_file: Path, heads: Path | None, keys: Path | None, as_json: bool) -> None:
    """Find every entry that was altered, removed, reordered or cut off. Exit code 1 when there is one."""
    import msgspec

    with _service(config_file) as service:
        found = service.audit.verify(heads, keys)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), ensure_ascii=False, indent=2))
    else:
        for problem in found.problems[:SHOWN]:
            say((f"ticket {problem.ticket_id}: " if problem.ticket_id is not None else "") + problem.words)
        if len(found.problems) > SHOWN:
            say(f"and {len(found.problems) - SHOWN} more; --json prints all")
        erased = f", {found.erased} lines erased for somebody's sake" if found.erased else ""
        say(f"{found.tickets} tickets, {found.entries} entries, {found.exports} exports of heads{erased}")
    if found.problems:
        raise WorkFailed(f"{len(found.problems)} things are wrong with the audit trail")
    if not as_json:
        say("nothing was altered, removed, reordered or cut off")


@audit.command()
@CONFIG
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File; default: state/audit/heads/DAY.json.")
def export(config_file: Path, output: Path | None) -> None:
    """Export the signed heads now; the cloud does so by itself once a day. Keep the files on another machine."""
    with _service(config_file) as service:
        if output is not None:
            path = service.audit.export(output)
        else:
            made = service.audit.export_daily()
            if made is None:
                say("today's heads are exported already; --output names another file")
                return
            path = made
    say(str(path))


@audit.command("show")
@CONFIG
@click.argument("ticket_id", type=click.IntRange(min=1), metavar="ID")
def show(config_file: Path, ticket_id: int) -> None:
    """A ticket's chain: one entry a line, as it is hashed."""
    with _service(config_file) as service:
        for entry in service.audit.chain(ticket_id):
            say(f"{entry.hash}  {entry.entry}")


@audit.command()
@CONFIG
@click.argument("person")
def forget(config_file: Path, person: str) -> None:
    """Erase a person's name, and what they wrote, from every ticket's history; the chains still verify."""
    with _service(config_file) as service:
        say(f"{service.audit.forget(person)} lines erased")
