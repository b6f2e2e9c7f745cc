"""What an owner sees of tickets: those of the vehicle that opened in the period, as they stood at its end, without the fleet's work."""

import time

import msgspec

from cloud.roles import END_MS, Principal
from cloud.tickets.policy import Condition, Handling, Tier
from cloud.tickets.service import TicketService
from cloud.tickets.views import Evidence, Ticket, TicketFilter, Window

__all__ = ["evidence_within", "owners_ticket", "owners_tickets", "stood"]

MOST = 500  # tickets asked for at once

_CONDITIONS = frozenset(Condition)
_HANDLINGS = frozenset(Handling)


def owners_tickets(service: TicketService, who: Principal) -> list[Ticket]:
    """All of them, newest first, without evidence."""
    start, end = who.period
    which = TicketFilter(vehicle=who.vehicle or "", opened_from_ms=start, opened_to_ms=end if end != END_MS else None)
    over = end <= time.time_ns() // 1_000_000
    found: list[Ticket] = []
    cursor = None
    while True:
        page = service.queue.page(which, MOST, cursor)
        # a list has no history, which says how a ticket stood at the end of a period that is over
        found += [_without_work(stood((service.ticket(one.id) or one) if over else one, who)) for one in page.tickets]
        if (cursor := page.next) is None:
            return [msgspec.structs.replace(one, evidence=None) for one in found]


def owners_ticket(ticket: Ticket, who: Principal) -> Ticket | None:
    """A ticket as its owner may see it; None: not at all."""
    if not who.sees(ticket.vehicle) or not who.covers(ticket.opened_ms):
        return None
    evidence = evidence_within(ticket.evidence, who) if ticket.evidence is not None else None
    linked = [one for one in ticket.linked or () if who.covers(one.opened_ms)] if who.to_ms is None else []
    return msgspec.structs.replace(_without_work(stood(ticket, who)), evidence=evidence, linked=linked)


def stood(ticket: Ticket, who: Principal) -> Ticket:
    """The ticket as it stood at the period's end, by its history; what has become of it since is not the owner's."""
    _, end = who.period
    lines = ticket.history or []
    if all(line.at_ms < end for line in lines):
        return ticket
    before = [line.action for line in lines if line.at_ms < end]
    return msgspec.structs.replace(
        ticket,
        tier=next((Tier(action.removeprefix("tier ")) for action in reversed(before) if action.startswith("tier ")), Tier.UNRATED),
        probability=None,
        within_ms=None,
        condition=next((Condition(action) for action in reversed(before) if action in _CONDITIONS), Condition.ACTIVE),
        condition_ms=min(ticket.condition_ms, end - 1),
        flapping=False,
        handling=next((Handling(action) for action in reversed(before) if action in _HANDLINGS), Handling.NEW),
        verdict=None,
        closed_ms=None if ticket.closed_ms is None or ticket.closed_ms >= end else ticket.closed_ms,
        created_ms=min(ticket.created_ms, end - 1),
        occurrences=1 + sum(action == "occurred again" for action in before),
    )


def _without_work(ticket: Ticket) -> Ticket:
    """Who did what, when, and in how much time, is the fleet's own."""
    return msgspec.structs.replace(
        ticket,
        assignee=None,
        hidden_by="",
        reopened_from=None,
        acknowledge=None,  # shown as null
        close=None,
        history=[],
        linked=[],
        notifications=[],
        deliveries=[],
        next_handlings=[],
    )


def evidence_within(evidence: Evidence, who: Principal) -> Evidence:
    """The evidence without ticks outside the period."""
    window = evidence.window
    kept = [number for number, tick in enumerate(window.tick_ms) if who.covers(tick)]
    inside = Window(
        [window.tick_ms[number] for number in kept],
        window.signals,
        [[values[number] for number in kept] for values in window.values],
    )
    return msgspec.structs.replace(evidence, since_ms=max(evidence.since_ms, who.period[0]), window=inside)
