"""The ticket queue as its readers see it: lists, single tickets, what is like them."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from cloud.api.backend import Backend
from cloud.api.cursors import cursor_at, position_of
from cloud.api.guard import NotFound
from cloud.api.models import VehicleModels
from cloud.api.owners import owners_ticket, owners_tickets
from cloud.api.route import Route, TicketPath
from cloud.api.words import Language, Languages, signal_words
from cloud.roles import Principal, Role
from cloud.tickets.policy import Condition, Handling, Tier, Verdict
from cloud.tickets.queue import place_of
from cloud.tickets.sla import ClockView
from cloud.tickets.views import Brief, Budget, Delivery, Evidence, HistoryLine, Notification, Page, Ticket, TicketFilter, Window
from models.explanation import explain
from models.likeness import resembles

if TYPE_CHECKING:
    from dbc.catalogue import Catalogue

__all__ = ["Queue", "Text", "TicketRow", "row_of"]

MOST = 500  # tickets in a page, as the queue has it
DEFAULT_LIMIT = 200
MOST_ALIKE = 10
Text = Annotated[str, msgspec.Meta(max_length=200)]


class TicketsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the tickets must be. `q`: somewhere in vehicle, fault code, words or assignee; `assignee` "": nobody; `hidden` by a silence.

    `order`: the newest first, or by tier (red, yellow, blue, unrated), the newest of each first.
    """

    vehicle: Text | None = None
    model: Text | None = None
    handling: Handling | None = None
    open: bool | None = None
    condition: Condition | None = None
    tier: Tier | None = None
    fault_code: Text | None = None
    pack_id: Text | None = None
    assignee: Text | None = None
    hidden: bool | None = None
    q: Text | None = None
    order: Literal["newest", "urgency"] = "newest"
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST)] = DEFAULT_LIMIT
    cursor: Annotated[str, msgspec.Meta(max_length=500)] | None = None
    lang: Languages = "en"


class Clocks(msgspec.Struct, frozen=True):
    """The ticket's clocks: time to acknowledge and to close it."""

    acknowledge: ClockView
    close: ClockView


class TicketRow(msgspec.Struct, frozen=True):
    """A ticket without its evidence. Times are UTC ms; `hidden_by`: "silence 3", "maintenance 4", "ticket 5" (its cause), or nothing.

    `sla`: null for an owner.
    """

    id: int
    vehicle: str
    model: str
    fault_code: str
    fault_words: str
    action: str
    pack_id: str
    tier: Tier
    probability: float | None
    within_ms: int | None
    condition: Condition
    condition_ms: int
    flapping: bool
    handling: Handling
    verdict: Verdict | None
    assignee: str | None
    opened_ms: int
    created_ms: int
    closed_ms: int | None
    occurrences: int
    hidden_by: str
    reopened_from: int | None
    sla: Clocks | None


class TicketList(msgspec.Struct, frozen=True):
    """Tickets. `next`: the cursor of the next page. `counts`: what the same question finds, by handling, whatever its own."""

    tickets: list[TicketRow]
    next: str | None
    counts: dict[str, int]


class Part(msgspec.Struct, frozen=True):
    """A signal's part in the finding: `share` 0..1 of its score; healthy drives are `margin` around `expected` at this operating point.

    `sentence`: what the explanation says of it, in the language that was asked for; "" where its share is too small to be told.
    """

    signal: str
    words: str
    unit: str
    expected: float | None
    seen: float | None
    share: float | None
    margin: float | None
    sentence: str


class Likeness(msgspec.Struct, frozen=True):
    """A known fault that shows in the same signals, 0..1."""

    fault_code: str
    words: str
    likeness: float


class Explained(msgspec.Struct, frozen=True):
    """The evidence in sentences, in the language that was asked for; "" where there is nothing to say. Times are in UTC.

    `signals`: one sentence each, those that say most first: what was seen, and what a healthy car shows at this operating point. `since`:
    when it began and when it was noticed. `rarity`: how seldom healthy cars are so far off. `likeness`: other faults that show so.
    """

    summary: str
    signals: list[str]
    since: str
    rarity: str
    likeness: str


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
    explanation: Explained
    window: Window


class GroupShown(msgspec.Struct, frozen=True):
    """One fault code in one vehicle model, over the fleet. `fleet_wide`: as many vehicles, within the time, as the policy calls a group."""

    model: str
    fault_code: str
    fault_words: str
    open: int
    vehicles: int
    recent_vehicles: int
    first_opened_ms: int
    last_opened_ms: int
    worst: Tier
    fleet_wide: bool
    tickets: list[int]


class TicketShown(TicketRow, frozen=True):
    """A ticket with its evidence; what was done, oldest first; those it was reopened from and as; what was told of it, and to whom."""

    evidence: EvidenceShown
    history: list[HistoryLine]
    comments: list[HistoryLine]
    linked: list[Brief]
    group: GroupShown | None
    budget: Budget | None
    notifications: list[Notification]
    webhooks: list[Delivery]
    next_handlings: list[Handling]


class SimilarShown(msgspec.Struct, frozen=True):
    """Tickets of the same model whose evidence names the same signals in like shares, the most alike first."""

    similar: list["SimilarTicket"]


class SimilarTicket(msgspec.Struct, frozen=True):
    """`likeness`: 0..1, the cosine between the shares of their signals."""

    ticket: Brief
    fault_words: str
    likeness: float


class GroupList(msgspec.Struct, frozen=True):
    """The open tickets by fault code and model, those of the most vehicles first."""

    groups: list[GroupShown]


class Queue:
    """Reading tickets."""

    def __init__(self, backend: Backend, models: VehicleModels) -> None:
        self._tickets = backend.tickets
        self._models = models

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/api/tickets", self.tickets, Role.READ_ONLY, owner=True),
            Route("GET", "/api/tickets/{id}", self.ticket, Role.READ_ONLY, owner=True),
            Route("GET", "/api/tickets/{id}/similar", self.similar, Role.READ_ONLY, cost=5.0),
            Route("GET", "/api/groups", self.groups, Role.READ_ONLY, cost=2.0),
        ]

    def tickets(self, who: Principal, query: TicketsQuery) -> TicketList:
        """Tickets without their evidence, the newest or the most urgent first."""
        cursor = position_of(query.cursor, int) if query.cursor is not None else None
        urgent_first = query.order == "urgency"
        if who.is_owner:
            page = owners_page(owners_tickets(self._tickets, who), query, cursor)
        else:
            values = {name: value for name, value in msgspec.structs.asdict(query).items() if name not in _NO_FILTER}
            page = self._tickets.queue.page(TicketFilter(**values, text=query.q), query.limit, cursor, urgent_first)
        rows = [TicketRow(**row_of(ticket, query.lang)) for ticket in page.tickets]
        return TicketList(rows, cursor_at(page.next) if page.next is not None else None, page.counts)

    def ticket(self, who: Principal, path: TicketPath, query: Language) -> TicketShown:
        """One ticket with its evidence and history."""
        ticket = self._tickets.ticket(path.id)
        if ticket is not None and who.is_owner:
            ticket = owners_ticket(ticket, who)
        if ticket is None or ticket.evidence is None or ticket.history is None:
            raise NotFound(f"ticket {path.id}: there is no such ticket")
        _, catalogue = self._models.named(ticket.model)
        group = None
        if not who.is_owner:
            group = next(iter(self._groups(query.lang, ticket.model, ticket.fault_code)), None)
        return TicketShown(
            **row_of(ticket, query.lang),
            evidence=_shown(ticket, ticket.evidence, catalogue, query.lang),
            history=ticket.history,
            comments=[line for line in ticket.history if line.action == "comment"],
            linked=ticket.linked or [],
            group=group,
            budget=None if who.is_owner else self._tickets.outbox.budget(ticket.vehicle),
            notifications=ticket.notifications or [],
            webhooks=ticket.deliveries or [],
            next_handlings=ticket.next_handlings or [],
        )

    def similar(self, path: TicketPath, query: Language) -> SimilarShown:
        """Tickets that look like this one: what was found there may be what is wrong here."""
        found = self._tickets.queue.similar(path.id, MOST_ALIKE)
        return SimilarShown([SimilarTicket(one.ticket, one.fault_words[query.lang], one.likeness) for one in found])

    def groups(self, query: Language) -> GroupList:
        """The same fault over the fleet."""
        return GroupList(self._groups(query.lang))

    def _groups(self, language: str, model: str | None = None, fault_code: str | None = None) -> list[GroupShown]:
        found = []
        for group in self._tickets.queue.groups(model, fault_code):
            values = msgspec.structs.asdict(group)
            found.append(GroupShown(**values | {"fault_words": group.fault_words[language]}))
        return found


def owners_page(tickets: list[Ticket], query: TicketsQuery, before: int | None) -> Page:
    """What a question finds among an owner's tickets. It is asked of what is shown, so an answer tells no more than that."""

    def fits(ticket: Ticket) -> bool:
        asked = ("vehicle", "model", "condition", "tier", "fault_code", "pack_id", "assignee")
        if any(getattr(query, name) not in (None, getattr(ticket, name) or "") for name in asked):
            return False
        if query.hidden or (query.open is not None and query.open != (ticket.handling is not Handling.CLOSED)):
            return False
        words = (ticket.vehicle, ticket.fault_code, *ticket.fault_words.values())
        return not query.q or any(query.q.casefold() in one.casefold() for one in words)

    found = [ticket for ticket in tickets if fits(ticket)]
    counts = {handling.value: sum(ticket.handling is handling for ticket in found) for handling in Handling}
    place = partial(place_of, urgent_first=query.order == "urgency")
    found.sort(key=place, reverse=True)
    left = [one for one in found if query.handling in (None, one.handling) and (before is None or place(one) < before)]
    page = left[: query.limit]
    return Page(page, place(page[-1]) if len(left) > len(page) else None, counts)


def row_of(ticket: Ticket, language: Literal["en", "zh"]) -> dict[str, Any]:
    """The fields of a `TicketRow`."""
    values = {name: getattr(ticket, name) for name in _SAME}
    clocks = Clocks(ticket.acknowledge, ticket.close) if ticket.acknowledge is not None else None
    return values | {"fault_words": ticket.fault_words[language], "action": ticket.action[language], "sla": clocks}


_NO_FILTER = ("q", "order", "limit", "cursor", "lang")
_SAME = tuple(name for name in TicketRow.__struct_fields__ if name not in ("fault_words", "action", "sla"))


def _shown(ticket: Ticket, evidence: Evidence, catalogue: "Catalogue | None", language: Literal["en", "zh"]) -> EvidenceShown:
    alike = [
        Likeness(fault.code, fault.words.zh if language == "zh" else fault.words.en, round(likeness, 3))
        for fault, likeness in resembles(evidence.contributions, catalogue.faults if catalogue is not None else {})
    ]
    said = explain(
        ticket.fault_code,
        evidence.contributions,
        catalogue,
        language,
        since_ms=evidence.since_ms,
        noticed_ms=ticket.opened_ms,
        p_value=evidence.p_value,
    )
    told = {one.signal: one.text for one in said.signals}
    parts = [
        Part(
            one.signal,
            signal_words(catalogue, one.signal, language),
            one.unit,
            one.expected,
            one.seen,
            one.share,
            one.margin,
            told.get(one.signal, ""),
        )
        for one in evidence.contributions
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
        explanation=Explained(said.summary, [one.text for one in said.signals], said.since, said.rarity, said.likeness),
        window=evidence.window,
    )
