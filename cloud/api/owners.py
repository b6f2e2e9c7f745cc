"""What an owner sees of tickets: those of the vehicle that opened in the period, as they stood at its end. Pure but for the asking."""

import msgspec

from cloud.roles import Principal
from cloud.tickets.policy import Handling
from cloud.tickets.service import Evidence, Ticket, TicketService, Window

__all__ = ["evidence_within", "is_open", "owners_ticket", "owners_tickets"]


def is_open(ticket: Ticket) -> bool:
    return ticket.handling is not Handling.CLOSED


def owners_tickets(service: TicketService, who: Principal) -> list[Ticket]:
    """Newest first."""
    return [ticket for ticket in service.tickets(who.vehicle) if who.covers(ticket.opened_ms)]


def owners_ticket(ticket: Ticket, who: Principal) -> Ticket | None:
    """A ticket as its owner may see it; None: not at all. The work on it is the fleet's own: who did what, and when, is left out."""
    if not who.sees(ticket.vehicle) or not who.covers(ticket.opened_ms):
        return None
    evidence = evidence_within(ticket.evidence, who) if ticket.evidence is not None else None
    return msgspec.structs.replace(ticket, evidence=evidence, history=[])


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
