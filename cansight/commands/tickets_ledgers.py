"""`cansight tickets groups|precision|webhooks`: the fleet's open faults, how often packs were right, what was sent to whom."""

import json
from typing import Any

import click

from cansight.commands.tickets_api import Api, get, post, say, table, when

JSON = click.option("--json", "as_json", is_flag=True, help="The API's answer.")


def _print(found: list[dict[str, Any]], as_json: bool, rows: list[tuple[Any, ...]], nothing: str) -> None:
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
    elif len(rows) == 1:
        say(nothing)
    else:
        table(rows)


@click.command()
@JSON
@click.pass_obj
def groups(api: Api, as_json: bool) -> None:
    """The same fault over the fleet."""
    found = get(api, "/api/groups")["groups"]
    rows: list[tuple[Any, ...]] = [("VEHICLES", "OPEN", "WORST", "LAST OPENED", "MODEL", "FAULT")]
    for one in found:
        fault = one["fault_words"] + (" (fleet-wide)" if one["fleet_wide"] else "")
        rows.append((one["vehicles"], one["open"], one["worst"], when(one["last_opened_ms"]), one["model"], fault))
    _print(found, as_json, rows, "no open tickets")


@click.command()
@JSON
@click.pass_obj
def precision(api: Api, as_json: bool) -> None:
    """How often tickets were right, by pack and tier, with the 95 % interval."""
    found = get(api, "/api/precision")["precision"]
    rows: list[tuple[Any, ...]] = [("RIGHT", "WRONG", "NO VERDICT", "SHARE", "95 %", "TIER", "PACK")]
    for one in found:
        share = "-" if one["share"] is None else f"{one['share']:.0%}"
        rows.append(
            (one["right"], one["wrong"], one["undecided"], share, f"{one['low']:.0%} to {one['high']:.0%}", one["tier"], one["pack_id"])
        )
    _print(found, as_json, rows, "no ticket is closed")


@click.group(invoke_without_command=True)
@click.pass_context
def webhooks(context: click.Context) -> None:
    """The webhooks of the policy, and what was sent to them."""
    if context.invoked_subcommand is None:
        found = get(context.obj, "/api/webhooks")["webhooks"]
        rows: list[tuple[Any, ...]] = [("NAME", "DUE", "DELIVERED", "DEAD", "URL")]
        rows += [(one["name"], one["due"], one["delivered"], one["dead"], one["url"]) for one in found]
        _print(found, False, rows, "the ticket policy names no webhook")


@webhooks.command()
@click.option("--state", type=click.Choice(("due", "delivered", "dead")), help="Only these.")
@JSON
@click.pass_obj
def deliveries(api: Api, state: str | None, as_json: bool) -> None:
    """What was sent, newest first."""
    found = get(api, "/api/webhooks/deliveries", {"state": state})["deliveries"]
    rows: list[tuple[Any, ...]] = [("ID", "WEBHOOK", "TICKET", "STATE", "TRIES", "EVENT", "LAST")]
    rows += [(one["id"], one["webhook"], one["ticket_id"], one["state"], one["attempts"], one["event"], one["last"]) for one in found]
    _print(found, as_json, rows, "none")


@webhooks.command()
@click.argument("number", type=click.IntRange(min=1), metavar="ID")
@click.pass_obj
def replay(api: Api, number: int) -> None:
    """Send one that was given up once more."""
    post(api, f"/api/webhooks/deliveries/{number}/replay", {})
    say(f"delivery {number}: due")
