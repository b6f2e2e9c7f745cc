"""Work on tickets: moving, commenting, assigning, judging, one at a time or many; and the filters that their workers keep."""

from typing import Annotated, Any

import msgspec

from cloud.api.backend import Backend
from cloud.api.guard import BadRequest, NotFound
from cloud.api.queue import TicketRow, row_of
from cloud.api.route import Id, NumberPath, Route, TicketPath
from cloud.api.session import Done
from cloud.api.words import Language, Languages
from cloud.roles import Principal, Role
from cloud.tickets.handling import Action
from cloud.tickets.policy import Handling, Verdict
from cloud.tickets.views import BulkResult, SavedFilter

__all__ = ["Desk"]

MOST_AT_ONCE = 500
MOST_PARAMETERS = 40

Words = Annotated[str, msgspec.Meta(max_length=4000)]
Name = Annotated[str, msgspec.Meta(max_length=40)]
Value = Annotated[str, msgspec.Meta(max_length=200)]
Person = Annotated[str, msgspec.Meta(max_length=120)]


class Move(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the ticket goes; a verdict comes with closing it."""

    to: Handling
    verdict: Verdict | None = None
    detail: Words = ""


class Comment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Words for the history."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=4000)]


class Assignment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose it is; "": nobody's."""

    to: Person


class Judgement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was found, of a ticket that is closed."""

    verdict: Verdict
    detail: Words = ""


class BulkAction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of `to` (with or without `verdict`), `verdict`, `assignee` ("": nobody) and `comment`."""

    to: Handling | None = None
    verdict: Verdict | None = None
    detail: Words = ""
    assignee: Person | None = None
    comment: Words | None = None


class Bulk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing to do to many tickets."""

    ids: Annotated[list[Id], msgspec.Meta(min_length=1, max_length=MOST_AT_ONCE)]
    action: BulkAction


class BulkDone(msgspec.Struct, frozen=True):
    """What became of each; `error`: null where it was done."""

    results: list[BulkResult]


class FilterToSave(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ticket list's parameters under a name; one of the same name is replaced."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
    query: Annotated[
        dict[Annotated[str, msgspec.Meta(max_length=40)], Annotated[str, msgspec.Meta(max_length=200)]],
        msgspec.Meta(max_length=MOST_PARAMETERS),
    ]


class FilterList(msgspec.Struct, frozen=True):
    """The token's saved filters, by name."""

    filters: list[SavedFilter]


class Desk:
    """The history names the token whose holder did it."""

    def __init__(self, backend: Backend) -> None:
        self._tickets = backend.tickets

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/api/tickets/{id}/handling", self.move, Role.SERVICE),
            Route("POST", "/api/tickets/{id}/comments", self.comment, Role.SERVICE),
            Route("POST", "/api/tickets/{id}/assignee", self.assign, Role.SERVICE),
            Route("POST", "/api/tickets/{id}/verdict", self.judge, Role.SERVICE),
            Route("POST", "/api/tickets/bulk", self.bulk, Role.SERVICE, cost=10.0),
            Route("GET", "/api/filters", self.filters, Role.READ_ONLY),
            Route("POST", "/api/filters", self.save_filter, Role.SERVICE),
            Route("DELETE", "/api/filters/{id}", self.delete_filter, Role.SERVICE),
        ]

    def move(self, who: Principal, path: TicketPath, query: Language, body: Move) -> TicketRow:
        """Move a ticket's handling."""
        self._tickets.desk.move(path.id, body.to, who.name, body.verdict, body.detail)
        return self._row(path.id, query.lang)

    def comment(self, who: Principal, path: TicketPath, query: Language, body: Comment) -> TicketRow:
        """Add words to a ticket's history."""
        self._tickets.desk.comment(path.id, body.text, who.name)
        return self._row(path.id, query.lang)

    def assign(self, who: Principal, path: TicketPath, query: Language, body: Assignment) -> TicketRow:
        """Give a ticket to somebody, or to nobody."""
        self._tickets.desk.assign(path.id, body.to, who.name)
        return self._row(path.id, query.lang)

    def judge(self, who: Principal, path: TicketPath, query: Language, body: Judgement) -> TicketRow:
        """Say what was found; a later verdict replaces an earlier one, and the history keeps both."""
        self._tickets.desk.judge(path.id, body.verdict, who.name, body.detail)
        return self._row(path.id, query.lang)

    def bulk(self, who: Principal, body: Bulk) -> BulkDone:
        """Do one thing to many tickets, each for itself: one that cannot be done does not stop the others."""
        return BulkDone(self._tickets.desk.bulk(body.ids, Action(**msgspec.structs.asdict(body.action)), who.name))

    def filters(self, who: Principal) -> FilterList:
        """The token's saved filters."""
        return FilterList(list(self._tickets.filters.list(who.name)))

    def save_filter(self, who: Principal, body: FilterToSave) -> SavedFilter:
        """Save a filter of the queue."""
        if not body.name.strip():
            raise BadRequest("body.name: expected some words, found none")
        return self._tickets.filters.save(who.name, body.name, body.query)

    def delete_filter(self, who: Principal, path: NumberPath) -> Done:
        """Delete a saved filter."""
        self._tickets.filters.delete(who.name, path.id)
        return Done(True)

    def _row(self, number: int, language: Languages) -> TicketRow:
        ticket = self._tickets.ticket(number)
        if ticket is None:
            raise NotFound(f"ticket {number}: there is no such ticket")
        values: dict[str, Any] = row_of(ticket, language)
        return TicketRow(**values)
