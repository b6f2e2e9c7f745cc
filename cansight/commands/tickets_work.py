"""`cansight tickets ack|schedule|workshop|close|verdict|assign|comment`: working on a ticket, by the API."""

import click

from cansight.commands.tickets_api import Api, post, say

VERDICTS = ("confirmed", "false alarm", "no fault found")
TICKET = click.argument("ticket_id", type=click.IntRange(min=1), metavar="ID")
NOTE = click.option("--note", default="", help="Words for the history.")


def _moved(api: Api, ticket_id: int, to: str, note: str, verdict: str | None = None) -> None:
    ticket = post(api, f"/api/tickets/{ticket_id}/handling", {"to": to, "detail": note, "verdict": verdict})
    say(f"ticket {ticket['id']}: {ticket['handling']}" + (f", {ticket['verdict']}" if ticket["verdict"] else ""))


@click.command()
@TICKET
@NOTE
@click.pass_obj
def ack(api: Api, ticket_id: int, note: str) -> None:
    """Acknowledge a ticket: somebody looks after it."""
    _moved(api, ticket_id, "acknowledged", note)


@click.command()
@TICKET
@NOTE
@click.pass_obj
def schedule(api: Api, ticket_id: int, note: str) -> None:
    """A workshop's appointment is made; --note says when."""
    _moved(api, ticket_id, "scheduled", note)


@click.command()
@TICKET
@NOTE
@click.pass_obj
def workshop(api: Api, ticket_id: int, note: str) -> None:
    """The vehicle is in the workshop."""
    _moved(api, ticket_id, "in workshop", note)


@click.command()
@TICKET
@click.option("--verdict", type=click.Choice(VERDICTS), help="What was found; may also be said later.")
@NOTE
@click.pass_obj
def close(api: Api, ticket_id: int, verdict: str | None, note: str) -> None:
    """Close a ticket."""
    _moved(api, ticket_id, "closed", note, verdict)


@click.command()
@TICKET
@click.argument("found", type=click.Choice(VERDICTS), metavar="VERDICT")
@NOTE
@click.pass_obj
def verdict(api: Api, ticket_id: int, found: str, note: str) -> None:
    """Say what was found of a closed ticket: confirmed, "false alarm" or "no fault found"."""
    ticket = post(api, f"/api/tickets/{ticket_id}/verdict", {"verdict": found, "detail": note})
    say(f"ticket {ticket['id']}: {ticket['verdict']}")


@click.command()
@TICKET
@click.argument("to")
@click.pass_obj
def assign(api: Api, ticket_id: int, to: str) -> None:
    """Give a ticket to somebody; "" = to nobody."""
    ticket = post(api, f"/api/tickets/{ticket_id}/assignee", {"to": to})
    say(f"ticket {ticket['id']}: {ticket['assignee'] or 'nobody'}'s")


@click.command()
@TICKET
@click.argument("words")
@click.pass_obj
def comment(api: Api, ticket_id: int, words: str) -> None:
    """Add words to a ticket's history."""
    ticket = post(api, f"/api/tickets/{ticket_id}/comments", {"text": words})
    say(f"ticket {ticket['id']}: noted")
