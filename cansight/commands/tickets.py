"""`cansight tickets`: the ticket queue, asked over the API."""

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from cansight.errors import UsageError, WorkFailed

DEFAULT_URL = "http://127.0.0.1:8460"
TIMEOUT_S = 10.0
TOKEN = "CANSIGHT_TOKEN"
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the API is on this machine; a proxy would not find it
HANDLINGS = ("new", "acknowledged", "scheduled", "in workshop", "closed")


@dataclass(frozen=True)
class Api:
    """Where it is, and the token to ask with; "": none."""

    url: str
    token: str


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
@click.option("--json", "as_json", is_flag=True, help="The API's answer.")
@click.pass_obj
def list_(api: Api, vehicle: str | None, handling: str | None, as_json: bool) -> None:
    """List tickets, newest first."""
    asked = {name: value for name, value in (("vehicle", vehicle), ("handling", handling)) if value is not None}
    found = _get(api, "/api/tickets", asked)["tickets"]
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    if not found:
        click.echo("no tickets")
        return
    rows = [("ID", "VEHICLE", "CONDITION", "HANDLING", "TIER", "OPENED", "SEEN", "FAULT")]
    for one in found:
        opened, seen = _when(one["opened_ms"]), f"{one['occurrences']}x"
        rows.append((one["id"], one["vehicle"], one["condition"], one["handling"], one["tier"], opened, seen, one["fault_words"]))
    _table(rows)


@tickets.command()
@click.argument("number", type=click.IntRange(min=1), metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="The API's answer.")
@click.pass_obj
def show(api: Api, number: int, as_json: bool) -> None:
    """Show one ticket: why it opened, and what was done since."""
    ticket = _get(api, f"/api/tickets/{number}")
    if as_json:
        click.echo(json.dumps(ticket, ensure_ascii=False, indent=2))
        return
    evidence = ticket["evidence"]
    p_value = evidence["p_value"]
    _say(f"Ticket {ticket['id']}: {ticket['fault_words']}")
    for name, value in (
        ("what to do", ticket["action"] or "-"),
        ("vehicle", f"{ticket['vehicle']} ({ticket['model']})"),
        ("fault code", ticket["fault_code"]),
        ("condition", ticket["condition"]),
        ("handling", ticket["handling"] + (f", {ticket['verdict']}" if ticket["verdict"] else "")),
        ("tier", ticket["tier"]),
        ("opened", f"{_when(ticket['opened_ms'])}, began {_when(evidence['since_ms'])}, seen {ticket['occurrences']}x"),
        (
            "score",
            f"{evidence['score']:.4g}, threshold {evidence['threshold']:.4g}, p-value {'-' if p_value is None else f'{p_value:.3g}'}",
        ),
        ("detector", evidence["pack_id"]),
        ("looks like", ", ".join(f"{one['words']} (likeness {one['likeness']:.2f})" for one in evidence.get("resembles", ())) or "-"),
    ):
        _say(f"{name:<12}{value}")
    rows = [("EXPECTED", "SEEN", "UNIT", "SHARE", "SIGNAL")]
    for one in evidence["contributions"]:
        name = f"{one['words']} ({one['signal']})" if one["words"] else one["signal"]
        margin = f" ± {one['margin']:.2g}" if one.get("margin") is not None and one["expected"] is not None else ""
        rows.append((_number(one["expected"]) + margin, _number(one["seen"]), one["unit"], f"{one['share']:.0%}", name))
    click.echo()
    _table(rows)
    click.echo()
    for line in ticket["history"]:
        _say(f"{_when(line['at_ms'])}  {line['action']} ({', '.join(filter(None, (line['actor'], line['detail'])))})")


def _get(api: Api, path: str, asked: dict[str, str] | None = None) -> Any:
    """The API's answer. Raises UsageError with the API's own line where it refused, WorkFailed where nothing sensible answered."""
    address = f"{api.url}{path}{'?' + urllib.parse.urlencode(asked) if asked else ''}"
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {api.token}"} if api.token else {})
    try:
        with _OPENER.open(request, timeout=TIMEOUT_S) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            try:
                line = json.load(error)["error"]
            except (ValueError, KeyError, TypeError):
                raise WorkFailed(f"{address}: answered {error.code} {error.reason}; is that Cansight's API?") from None
        if error.code == 401:
            line += f"; name a token with --token-file or in {TOKEN}"
        raise (UsageError if error.code < 500 else WorkFailed)(line) from None
    except ValueError:
        raise WorkFailed(f"{address}: answered something else than JSON; is that Cansight's API?") from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise WorkFailed(f"{api.url}: no answer ({reason}); is `cansight cloud run` running, and --url its address?") from None


def _say(line: str) -> None:
    """One line as text: words that came off a vehicle must not steer the terminal."""
    click.echo("".join(character if character.isprintable() else "?" for character in line))


def _table(rows: list[tuple[Any, ...]]) -> None:
    """Aligned columns; the last one, the longest, as long as it is."""
    texts = [[str(field) for field in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        _say("  ".join(field.ljust(width) for field, width in zip(row, widths, strict=True)).rstrip())


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _when(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
