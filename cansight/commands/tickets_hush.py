"""`cansight tickets silence|maintenance`: what nobody wants to hear of for a while, and what that would hide."""

import json
import time
from collections.abc import Callable
from typing import Any

import click

from cansight.commands.sim_times import duration, seconds
from cansight.commands.tickets_api import Api, delete, get, post, say, table, when


@click.group()
def silence() -> None:
    """Silences hide tickets that they fit, and nobody is told of them."""


@click.group()
def maintenance() -> None:
    """In a vehicle's maintenance window findings open no ticket; what is still active when it ends opens one then."""


def _seconds(_context: click.Context, _parameter: click.Parameter, text: str) -> float:
    return seconds(text)


def _duration(_context: click.Context, _parameter: click.Parameter, text: str) -> int:
    return duration(text)


def _what(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(
        (
            click.option("--vehicle", help="Of this vehicle."),
            click.option("--model", help="Of this vehicle model."),
            click.option("--fault-code", help="Of this fault; * and ? as in file names."),
            click.option("--pack", "pack_id", help="Of this pack."),
            click.option("--red", is_flag=True, help="Red tickets too."),
            click.option("--in", "begins_s", callback=_seconds, default="0s", show_default=True, help="Beginning in, like 2h."),
            click.option("--for", "lasts_s", callback=_duration, required=True, help="For how long, like 2h or 7d."),
            click.option("--reason", required=True, help="Why, for who looks at it later."),
        )
    ):
        command = option(command)
    return command


def _asked(begins_s: float, lasts_s: int, **asked: Any) -> dict[str, Any]:
    start = time.time_ns() // 1_000_000 + round(begins_s * 1000)
    return asked | {"from_ms": start, "to_ms": start + lasts_s * 1000}


def _commands(group: click.Group, path: str) -> None:
    kind = group.name

    @group.command(help=f"Say what a {kind} would hide, and change nothing.")
    @_what
    @click.option("--json", "as_json", is_flag=True, help="The API's answer.")
    @click.pass_obj
    def preview(api: Api, /, as_json: bool, **asked: Any) -> None:
        found = post(api, f"{path}/preview", _asked(**asked))
        if as_json:
            click.echo(json.dumps(found, ensure_ascii=False, indent=2))
            return
        say(f"it would hide {found['open_tickets']} open tickets: " + (", ".join(str(one["id"]) for one in found["open"][:20]) or "none"))
        if found["red"]:
            say(f"{found['red']} open red ones fit; --red hides them too")
        past = f"in the last {found['past_days']} days it would have hidden {found['past_tickets']} tickets"
        say(f"{past} of {found['past_vehicles']} vehicles, {found['past_confirmed']} of them confirmed")
        for code, count in found["by_fault_code"].items():
            say(f"  {count:>6}  {code}: {found['fault_words'][code]}")

    @group.command(help=f"Make a {kind}.")
    @_what
    @click.pass_obj
    def make(api: Api, /, **asked: Any) -> None:
        made = post(api, path, _asked(**asked))
        say(f"{kind} {made['id']}: from {when(made['from_ms'])} to {when(made['to_ms'])}")

    @group.command(help="End one now.")
    @click.argument("number", type=click.IntRange(min=1), metavar="ID")
    @click.pass_obj
    def end(api: Api, number: int) -> None:
        delete(api, f"{path}/{number}")
        say(f"{kind} {number}: ended")

    @group.command("list", help="Those there are.")
    @click.option("--over", is_flag=True, help="Those that are over, too.")
    @click.option("--json", "as_json", is_flag=True, help="The API's answer.")
    @click.pass_obj
    def list_(api: Api, over: bool, as_json: bool) -> None:
        found = get(api, path, {"over": int(over)})["silences"]
        if as_json:
            click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        elif not found:
            say("none")
        else:
            rows: list[tuple[Any, ...]] = [("ID", "STATE", "UNTIL", "WHAT", "BY", "REASON")]
            for one in found:
                what = " ".join(str(one[name]) for name in ("vehicle", "model", "fault_code", "pack_id") if one[name])
                rows.append(
                    (one["id"], one["state"], when(one["to_ms"]), what + (", red too" if one["red"] else ""), one["made_by"], one["reason"])
                )
            table(rows)


_commands(silence, "/api/silences")
_commands(maintenance, "/api/maintenance")
