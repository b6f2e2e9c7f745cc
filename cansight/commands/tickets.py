"""`cansight tickets`: the ticket queue, asked over the API."""

import json
import os
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from cansight.commands.tickets_api import TOKEN, Api, get, number, say, table, when
from cansight.commands.tickets_audit import audit
from cansight.commands.tickets_hush import maintenance, silence
from cansight.commands.tickets_ledgers import groups, precision, webhooks
from cansight.commands.tickets_work import ack, assign, close, comment, schedule, verdict, workshop
from cansight.errors import UsageError

DEFAULT_URL = "http://127.0.0.1:8460"
HANDLINGS = ("new", "acknowledged", "scheduled", "in workshop", "closed")


@click.group()
@click.option("--url", default=DEFAULT_URL, show_default=True, help="Address of the API.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"File with the token that `cansight cloud token create` printed; else it is taken from {TOKEN}.",
)
@click.pass_context
def tickets(context: click.Context, url: str, token_file: Path | None) -> None:
    """The ticket queue."""
    try:
        parts = urllib.parse.urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, an IPv6 address that is not closed
        good = False
    if not good:
        raise UsageError(f"--url: expected an address such as {DEFAULT_URL}, found {url!r}")
    token = os.environ.get(TOKEN, "") if token_file is None else token_file.read_text(encoding="utf-8", errors="replace")
    if not token.strip().isascii() or any(character.isspace() for character in token.strip()):
        raise UsageError(f"{token_file or TOKEN}: expected one token, found something else")
    context.obj = Api(url.rstrip("/"), token.strip())


@tickets.command("list")
@click.option("--vehicle", help="Only this vehicle's.")
@click.option("--handling", type=click.Choice(HANDLINGS), help="Only those handled so; without it, all.")
@click.option("--tier", type=click.Choice(("red", "yellow", "blue", "unrated")), help="Only of this tier.")
@click.option("--condition", type=click.Choice(("pending", "active", "recovered", "no-data")), help="Only in this condition.")
@click.option("--fault-code", help="Only of this fault.")
@click.option("--assignee", help="Only this person's; \"\" = nobody's.")
@click.option("--search", "q", help="Only with these words in vehicle, fault or assignee.")
@click.option("--hidden", is_flag=True, help="Those instead that a silence, a maintenance window or their cause hides.")
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="The API's answer.")
@click.pass_obj
def list_(api: Api, /, as_json: bool, limit: int, hidden: bool, **asked: str | None) -> None:
    """List tickets, newest first."""
    shown = get(api, "/api/tickets", asked | {"limit": limit, "hidden": str(hidden).lower()})
    found = shown["tickets"]
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    if not found:
        click.echo("no tickets")
    else:
        _list(found)
    rest = _counted(shown, asked) - len(found)
    if rest > 0:
        click.echo(f"{rest} more; --limit says how many are listed")
    if not hidden and (kept := _counted(get(api, "/api/tickets", asked | {"limit": 1, "hidden": "true"}), asked)):
        click.echo(f"{kept} hidden by a silence, a maintenance window or their cause; --hidden lists them")


def _counted(answer: Mapping[str, Any], asked: Mapping[str, str | None]) -> int:
    """How many the question finds on all pages; the API counts by handling, whatever was asked of it."""
    return sum(number for handling, number in answer["counts"].items() if asked["handling"] in (None, handling))


def _list(found: list[dict[str, Any]]) -> None:
    rows = [("ID", "VEHICLE", "CONDITION", "HANDLING", "TIER", "OPENED", "SEEN", "FAULT")]
    for one in found:
        opened, seen = when(one["opened_ms"]), f"{one['occurrences']}x"
        condition = one["condition"] + (", flapping" if one.get("flapping") else "")
        rows.append((one["id"], one["vehicle"], condition, one["handling"], one["tier"], opened, seen, one["fault_words"]))
    table(rows)


@tickets.command()
@click.argument("ticket_id", type=click.IntRange(min=1), metavar="ID")
@click.option(
    "--lang", type=click.Choice(("en", "zh")), default="en", show_default=True, help="Language of what is explained: English or Chinese."
)
@click.option("--json", "as_json", is_flag=True, help="The API's answer.")
@click.pass_obj
def show(api: Api, ticket_id: int, lang: str, as_json: bool) -> None:
    """Show one ticket: why it opened, and what was done since."""
    ticket = get(api, f"/api/tickets/{ticket_id}", {"lang": lang})
    if as_json:
        click.echo(json.dumps(ticket, ensure_ascii=False, indent=2))
        return
    evidence = ticket["evidence"]
    p_value = evidence["p_value"]
    say(f"Ticket {ticket['id']}: {ticket['fault_words']}")
    for name, value in (
        ("what to do", ticket["action"] or "-"),
        ("vehicle", f"{ticket['vehicle']} ({ticket['model']})"),
        ("fault code", ticket["fault_code"]),
        ("condition", ticket["condition"] + (", flapping" if ticket["flapping"] else "")),
        ("handling", ticket["handling"] + (f", {ticket['verdict']}" if ticket["verdict"] else "")),
        ("tier", ticket["tier"] + (f", {ticket['probability']:.0%} probable" if ticket["probability"] is not None else "")),
        ("whose", ticket["assignee"] or "nobody's"),
        ("clocks", ", ".join(_clock(name, one) for name, one in (ticket["sla"] or {}).items()) or "-"),
        ("hidden by", ticket["hidden_by"] or "-"),
        ("linked to", ", ".join(f"ticket {one['id']} ({one['verdict'] or one['handling']})" for one in ticket.get("linked") or ()) or "-"),
        ("opened", f"{when(ticket['opened_ms'])}, began {when(evidence['since_ms'])}, seen {ticket['occurrences']}x"),
        (
            "score",
            f"{evidence['score']:.4g}, threshold {evidence['threshold']:.4g}, p-value {'-' if p_value is None else f'{p_value:.3g}'}",
        ),
        ("detector", evidence["pack_id"]),
    ):
        say(f"{name:<12}{value}")
    click.echo()
    said = evidence["explanation"]
    for line in filter(None, (said["summary"], *said["signals"], said["rarity"], said["likeness"])):
        say(line)
    rows = [("EXPECTED", "SEEN", "UNIT", "SHARE", "SIGNAL")]
    for one in evidence["contributions"]:
        name = f"{one['words']} ({one['signal']})" if one["words"] else one["signal"]
        margin = f" ± {one['margin']:.2g}" if one.get("margin") is not None and one["expected"] is not None else ""
        rows.append((number(one["expected"]) + margin, number(one["seen"]), one["unit"], f"{one['share']:.0%}", name))
    click.echo()
    table(rows)
    click.echo()
    for line in ticket["history"]:
        say(f"{when(line['at_ms'])}  {line['action']} ({', '.join(filter(None, (line['actor'], line['detail'])))})")


def _clock(name: str, one: Mapping[str, Any]) -> str:
    state = "done" if one["done"] else "paused" if one["paused"] else f"due {when(one['due_ms'])}"
    return f"{name} {state}" + (", late" if one["breached"] else "")


for command in (ack, schedule, workshop, close, verdict, assign, comment, silence, maintenance, groups, precision, webhooks, audit):
    tickets.add_command(command)
