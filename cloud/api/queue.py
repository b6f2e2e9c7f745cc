"""The ticket queue: lists and single tickets."""

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from cloud.api.backend import Backend
from cloud.api.cursors import MAX_LIMIT, cursor_at, position_of
from cloud.api.models import VehicleModels
from cloud.api.owners import owners_ticket, owners_tickets
from cloud.api.route import Route, TicketPath
from cloud.api.words import Language, Languages, signal_words
from cloud.guard import NotFound
from cloud.roles import Principal, Role
from cloud.tickets.policy import Condition, Handling, Verdict
from cloud.tickets.service import Evidence, HistoryLine, Ticket, Window
from cloud.tickets.signature import resembles

if TYPE_CHECKING:
    from dbc.catalogue import Catalogue

__all__ = ["Queue"]

DEFAULT_LIMIT = 200
Text = Annotated[str, msgspec.Meta(max_length=200)]


class TicketsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the tickets must be. `cursor`: the `next` of the answer before."""

    vehicle: Text | None = None
    handling: Handling | None = None
    condition: Condition | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT
    cursor: Annotated[str, msgspec.Meta(max_length=500)] | None = None
    lang: Languages = "en"


class TicketRow(msgspec.Struct, frozen=True):
    """A ticket without its evidence. Times are UTC ms."""

    id: int
    vehicle: str
    model: str
    fault_code: str
    fault_words: str
    action: str
    tier: str
    condition: Condition
    handling: Handling
    verdict: Verdict | None
    opened_ms: int
    occurrences: int


class TicketList(msgspec.Struct, frozen=True):
    """Tickets, newest first. `next`: the cursor of the next page. `counts`: what the same question finds, by handling."""

    tickets: list[TicketRow]
    next: str | None
    counts: dict[str, int]


class Part(msgspec.Struct, frozen=True):
    """A signal's part in the finding: `share` 0..1 of its score; healthy drives are `margin` around `expected` at this operating point."""

    signal: str
    words: str
    unit: str
    expected: float | None
    seen: float | None
    share: float
    margin: float | None


class Likeness(msgspec.Struct, frozen=True):
    """A known fault that shows in the same signals, 0..1."""

    fault_code: str
    words: str
    likeness: float


class EvidenceShown(msgspec.Struct, frozen=True):
    """Why the ticket opened, frozen at that moment."""

    finding_id: str
    pack_id: str
    since_ms: int
    score: float | None
    threshold: float | None
    p_value: float | None
    contributions: list[Part]
    resembles: list[Likeness]
    window: Window


class TicketShown(TicketRow, frozen=True):
    """A ticket with its evidence, and what was done, oldest first."""

    evidence: EvidenceShown
    history: list[HistoryLine]


class Queue:
    """Reading tickets."""

    def __init__(self, backend: Backend, models: VehicleModels) -> None:
        self._tickets = backend.tickets
        self._models = models

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/api/tickets", self.tickets, Role.READ_ONLY, owner=True),
            Route("GET", "/api/tickets/{id}", self.ticket, Role.READ_ONLY, owner=True),
        ]

    def tickets(self, who: Principal, query: TicketsQuery) -> TicketList:
        """Tickets, newest first, without their evidence."""
        found = owners_tickets(self._tickets, who) if who.is_owner else self._tickets.tickets()
        found = [
            ticket
            for ticket in found
            if query.vehicle in (None, ticket.vehicle)
            and query.handling in (None, ticket.handling)
            and query.condition in (None, ticket.condition)
        ]
        counts = {handling.value: sum(ticket.handling is handling for ticket in found) for handling in Handling}
        before = position_of(query.cursor, int) if query.cursor is not None else None
        left = [ticket for ticket in found if before is None or ticket.id < before]
        page = left[: query.limit]
        following = cursor_at(page[-1].id) if len(left) > len(page) else None
        return TicketList([TicketRow(**_row(ticket, query.lang)) for ticket in page], following, counts)

    def ticket(self, who: Principal, path: TicketPath, query: Language) -> TicketShown:
        """One ticket with its evidence and history."""
        ticket = self._tickets.ticket(path.id)
        if ticket is not None and who.is_owner:
            ticket = owners_ticket(ticket, who)
        if ticket is None or ticket.evidence is None or ticket.history is None:
            raise NotFound(f"ticket {path.id}: there is no such ticket")
        _, catalogue = self._models.named(ticket.model)
        return TicketShown(**_row(ticket, query.lang), evidence=_shown(ticket.evidence, catalogue, query.lang), history=ticket.history)


def _row(ticket: Ticket, language: str) -> dict[str, Any]:
    return {
        "id": ticket.id,
        "vehicle": ticket.vehicle,
        "model": ticket.model,
        "fault_code": ticket.fault_code,
        "fault_words": ticket.fault_words[language],
        "action": ticket.action[language],
        "tier": ticket.tier,
        "condition": ticket.condition,
        "handling": ticket.handling,
        "verdict": ticket.verdict,
        "opened_ms": ticket.opened_ms,
        "occurrences": ticket.occurrences,
    }


def _shown(evidence: Evidence, catalogue: "Catalogue | None", language: str) -> EvidenceShown:
    parts = [
        Part(one.signal, signal_words(catalogue, one.signal, language), one.unit, one.expected, one.seen, one.share, one.margin)
        for one in evidence.contributions
    ]
    alike = [
        Likeness(fault.code, fault.words.zh if language == "zh" else fault.words.en, round(likeness, 3))
        for fault, likeness in resembles(evidence.contributions, catalogue.faults if catalogue is not None else {})
    ]
    return EvidenceShown(
        finding_id=evidence.finding_id,
        pack_id=evidence.pack_id,
        since_ms=evidence.since_ms,
        score=evidence.score,
        threshold=evidence.threshold,
        p_value=evidence.p_value,
        contributions=parts,
        resembles=alike,
        window=evidence.window,
    )
