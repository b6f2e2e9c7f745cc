"""What people do to tickets: move, assign, comment, judge; one at a time or many at once."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, select, update

from cloud.tickets.errors import NoSuchTicket, TicketError
from cloud.tickets.journal import CLOUD, Journal
from cloud.tickets.model import HoldOffRow, TicketRow
from cloud.tickets.outbox import Outbox
from cloud.tickets.policy import Handling, Tier, Verdict, may_move
from cloud.tickets.settings import Policy
from cloud.tickets.tables import AnyRow, Tables, insert
from cloud.tickets.upkeep import Upkeep
from cloud.tickets.views import BulkResult

__all__ = ["Action", "Desk"]

MOST_TEXT = 4000  # characters of a comment
MOST_NAME = 120
MOST_AT_ONCE = 1000


class Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing to do to each of many tickets: one of `to`, `assignee` ("" = nobody), `comment`; or `verdict` with or without `to`."""

    to: Handling | None = None
    verdict: Verdict | None = None
    detail: str = ""
    assignee: str | None = None
    comment: str | None = None


class Desk:
    """Every method raises NoSuchTicket when there is no such ticket, TicketError when it cannot be done."""

    def __init__(self, tables: Tables, journal: Journal, upkeep: Upkeep, outbox: Outbox, policy: Policy, now_ms: Callable[[], int]) -> None:
        self._tables = tables
        self._journal = journal
        self._upkeep = upkeep
        self._outbox = outbox
        self._policy = policy
        self._now_ms = now_ms

    def move(self, ticket_id: int, to: Handling, actor: str, verdict: Verdict | None = None, detail: str = "") -> None:
        """Move a ticket's handling. A verdict comes with closing, or after it by `judge`."""
        if verdict is not None and to is not Handling.CLOSED:
            raise TicketError(f"ticket {ticket_id}: a verdict comes with closing it, found one with {to.value!r}")
        _words("detail", detail)
        self._tables.write(lambda db: self._move(db, ticket_id, to, actor, verdict, detail))

    def _move(self, db: Connection, ticket_id: int, to: Handling, actor: str, verdict: Verdict | None, detail: str) -> None:
        ticket = _locked(db, ticket_id)
        if not may_move(Handling(ticket.handling), to):
            raise TicketError(f"ticket {ticket_id}: cannot go from {ticket.handling!r} to {to.value!r}")
        now = self._now_ms()
        values: dict[str, Any] = {"handling": to, "verdict": verdict}
        if to is Handling.CLOSED:
            values |= {"closed_ms": now, "hidden_by": ""}
            for clock in ("acknowledge", "close"):
                since = getattr(ticket, f"{clock}_since_ms")
                ran = max(0, now - since) if since is not None else 0
                values |= {f"{clock}_ms": getattr(ticket, f"{clock}_ms") + ran, f"{clock}_since_ms": None}
        db.execute(update(TicketRow).where(TicketRow.id == ticket_id).values(values))
        self._journal.note(db, ticket_id, actor, to, ": ".join(filter(None, (verdict, detail))))
        if to is Handling.CLOSED:
            self._hold_off(db, ticket, verdict, now)
            if ticket.said not in ("", "passed"):
                self._outbox.put(db, ticket_id, ticket.vehicle, "closed", Tier(ticket.tier))
        self._upkeep.settle(db, ticket.vehicle)

    def judge(self, ticket_id: int, verdict: Verdict, actor: str, detail: str = "") -> None:
        """Say what was found: of a ticket that is closed. A later verdict replaces an earlier one; the history keeps both."""
        _words("detail", detail)

        def work(db: Connection) -> None:
            ticket = _locked(db, ticket_id)
            if ticket.handling != Handling.CLOSED:
                raise TicketError(f"ticket {ticket_id}: it is {ticket.handling!r}; a verdict comes with closing it, or after")
            db.execute(update(TicketRow).where(TicketRow.id == ticket_id).values(verdict=verdict))
            self._journal.note(db, ticket_id, actor, "verdict", ": ".join(filter(None, (verdict, detail))))
            self._hold_off(db, ticket, verdict, self._now_ms())

        self._tables.write(work)

    def assign(self, ticket_id: int, to: str, actor: str) -> None:
        """Give a ticket to somebody; "" = to nobody."""
        _words("assignee", to, MOST_NAME)

        def work(db: Connection) -> None:
            _locked(db, ticket_id)
            db.execute(update(TicketRow).where(TicketRow.id == ticket_id).values(assignee=to or None))
            self._journal.note(db, ticket_id, actor, "assigned" if to else "unassigned", to)

        self._tables.write(work)

    def comment(self, ticket_id: int, words: str, actor: str) -> None:
        """Add some words to a ticket's history, closed or not."""
        _words("comment", words)
        if not words.strip():
            raise TicketError(f"ticket {ticket_id}: comment: expected some words, found none")

        def work(db: Connection) -> None:
            _locked(db, ticket_id)
            self._journal.note(db, ticket_id, actor, "comment", words)

        self._tables.write(work)

    def bulk(self, ids: Sequence[int], action: Action, actor: str) -> list[BulkResult]:
        """Do one thing to many tickets, each for itself: one that cannot be done does not stop the others. Raises TicketError when the
        action is none, or names more than one thing."""
        asked = [action.to is not None or action.verdict is not None, action.assignee is not None, action.comment is not None]
        if sum(asked) != 1:
            raise TicketError("action: expected one of to (with or without verdict), verdict, assignee and comment")
        if len(ids) > MOST_AT_ONCE:
            raise TicketError(f"ids: expected at most {MOST_AT_ONCE}, found {len(ids)}")
        found = []
        for ticket_id in dict.fromkeys(ids):
            try:
                self._do(ticket_id, action, actor)
                found.append(BulkResult(ticket_id, None))
            except TicketError as error:
                found.append(BulkResult(ticket_id, str(error)))
        return found

    def _do(self, ticket_id: int, action: Action, actor: str) -> None:
        if action.to is not None:
            self.move(ticket_id, action.to, actor, action.verdict, action.detail)
        elif action.verdict is not None:
            self.judge(ticket_id, action.verdict, actor, action.detail)
        elif action.assignee is not None:
            self.assign(ticket_id, action.assignee, actor)
        elif action.comment is not None:
            self.comment(ticket_id, action.comment, actor)

    def _hold_off(self, db: Connection, ticket: AnyRow, verdict: Verdict | None, now: int) -> None:
        """After "false alarm" the same fault is held off; another verdict on the same ticket takes that back."""
        if verdict is Verdict.FALSE_ALARM:
            values = {"ticket_id": ticket.id, "tier": ticket.tier, "verdict_ms": now}
            entry = insert(db, HoldOffRow, values | {"vehicle": ticket.vehicle, "fault_code": ticket.fault_code})
            db.execute(entry.on_conflict_do_update(index_elements=["vehicle", "fault_code"], set_=values))
            self._journal.note(db, ticket.id, CLOUD, "held off", f"{self._policy.hold_off.after_false_alarm} after it clears")
        else:
            db.execute(delete(HoldOffRow).where(HoldOffRow.ticket_id == ticket.id))


def _locked(db: Connection, ticket_id: int) -> AnyRow:
    row = db.execute(select(TicketRow.__table__).where(TicketRow.id == ticket_id).with_for_update()).one_or_none()
    if row is None:
        raise NoSuchTicket(f"ticket {ticket_id}: there is no such ticket")
    return row


def _words(what: str, words: str, most: int = MOST_TEXT) -> None:
    if len(words) > most:
        raise TicketError(f"{what}: expected at most {most} characters, found {len(words)}")
    if "\x00" in words:
        raise TicketError(f"{what}: expected text, found a zero byte")
