"""Looking at the queue: lists, one ticket with everything, groups over the fleet, similar tickets, precision, what has changed."""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence

import msgspec
from sqlalchemy import BigInteger, ColumnElement, Connection, case, cast, func, literal, or_, select, text

from cloud.tickets.briefs import BRIEF, brief
from cloud.tickets.errors import NoSuchTicket
from cloud.tickets.model import OPEN, DeliveryRow, FindingRow, NotificationRow, TicketEventRow, TicketRow
from cloud.tickets.outbox import notification_view
from cloud.tickets.policy import Condition, Flaps, Handling, Level, Tier, Verdict, may_move
from cloud.tickets.precision import Precision, precisions
from cloud.tickets.settings import Policy, duration_ms
from cloud.tickets.sla import Clock
from cloud.tickets.tables import AnyRow, Tables
from cloud.tickets.views import (
    Brief,
    Change,
    Contribution,
    Delivery,
    Evidence,
    FindingView,
    Group,
    HistoryLine,
    Page,
    Similar,
    Ticket,
    TicketFilter,
)

__all__ = ["DELIVERIES", "Queue", "delivery_view", "place_of"]

MOST = 500  # tickets in a page
LOOKED_AT = 500  # tickets that are compared with one
NAMED = 50  # of a group's tickets
LIKE = 0.5  # cosine; under it two findings have little in common
PER_RANK = 1 << 48  # more than there will be tickets; a place stays below 2**53, which JSON can say
EVERYTHING = TicketFilter()


class Queue:
    """Reads only. A number that is none is NoSuchTicket or None, as each method says."""

    def __init__(self, tables: Tables, policy: Policy, now_ms: Callable[[], int]) -> None:
        self._tables = tables
        self._policy = policy
        self._now_ms = now_ms

    def page(self, which: TicketFilter = EVERYTHING, limit: int = 100, cursor: int | None = None, urgent_first: bool = False) -> Page:
        """Tickets without evidence, newest first; `urgent_first`: red, yellow, blue, unrated, each the newest first. `cursor`: `next` of
        the page before, in the same order."""
        limit = max(1, min(limit, MOST))
        where = _where(which)
        place = _URGENCY if urgent_first else TicketRow.id
        query = select(*_LISTED).where(*where).order_by(place.desc()).limit(limit + 1)
        if cursor is not None:
            query = query.where(place < cursor)
        others = _where(msgspec.structs.replace(which, handling=None))
        counting = select(TicketRow.handling, func.count()).where(*others).group_by(TicketRow.handling)

        def look(db: Connection) -> Page:
            rows = db.execute(query).all()
            counts = {row[0]: row[1] for row in db.execute(counting)}
            found = [self._ticket(row) for row in rows[:limit]]
            following = place_of(found[-1], urgent_first) if len(rows) > limit else None
            return Page(found, following, {one.value: counts.get(one, 0) for one in Handling})

        return self._tables.read(look)

    def ticket(self, ticket_id: int) -> Ticket | None:
        """One ticket with its evidence, history (oldest line first), links, notifications and deliveries; None when there is none."""

        def look(db: Connection) -> Ticket | None:
            row = db.execute(select(*_LISTED, TicketRow.evidence).where(TicketRow.id == ticket_id)).one_or_none()
            if row is None:
                return None
            lines = select(TicketEventRow.__table__).where(TicketEventRow.ticket_id == ticket_id).order_by(TicketEventRow.number)
            told = select(NotificationRow.__table__).where(NotificationRow.ticket_id == ticket_id).order_by(NotificationRow.id)
            sent = DELIVERIES.where(NotificationRow.ticket_id == ticket_id).order_by(DeliveryRow.id)
            return msgspec.structs.replace(
                self._ticket(row),
                evidence=msgspec.json.decode(row.evidence, type=Evidence),
                history=[_line(line) for line in db.execute(lines)],
                linked=self._linked(db, row),
                notifications=[notification_view(one) for one in db.execute(told)],
                deliveries=[delivery_view(one) for one in db.execute(sent)],
                next_handlings=[to for to in Handling if may_move(Handling(row.handling), to)],
            )

        return self._tables.read(look)

    def open_counts(self) -> dict[str, int]:
        """How many open tickets each vehicle has; vehicles without one are left out."""
        query = select(TicketRow.vehicle, func.count()).where(text(OPEN)).group_by(TicketRow.vehicle)
        return self._tables.read(lambda db: {row[0]: row[1] for row in db.execute(query)})

    def open_tiers(self, vehicle: str | None = None) -> dict[str, dict[Tier, int]]:
        """The same by tier; of one vehicle alone."""
        mine = _where(TicketFilter(vehicle=vehicle, open=True))
        query = select(TicketRow.vehicle, TicketRow.tier, func.count()).where(*mine).group_by(TicketRow.vehicle, TicketRow.tier)
        found: dict[str, dict[Tier, int]] = {}
        for vehicle, tier, number in self._tables.read(lambda db: db.execute(query).all()):
            found.setdefault(vehicle, {})[Tier(tier)] = number
        return found

    def groups(self, model: str | None = None, fault_code: str | None = None) -> list[Group]:
        """The open tickets by fault code and vehicle model, those of the most vehicles first; of one model or code alone."""
        since = self._now_ms() - duration_ms(self._policy.groups.within)
        mine = _where(TicketFilter(model=model, fault_code=fault_code, open=True))
        recent = func.count(case((TicketRow.created_ms >= since, TicketRow.vehicle)).distinct())
        query = (
            select(
                TicketRow.model,
                TicketRow.fault_code,
                func.max(TicketRow.fault_words_en).label("en"),
                func.max(TicketRow.fault_words_zh).label("zh"),
                func.count().label("open"),
                func.count(TicketRow.vehicle.distinct()).label("vehicles"),
                recent.label("recent"),
                func.min(TicketRow.opened_ms).label("first"),
                func.max(TicketRow.opened_ms).label("last"),
                func.max(_RANK).label("worst"),
            )
            .where(*mine)
            .group_by(TicketRow.model, TicketRow.fault_code)
        )
        # all of them at once: a question for each group would look through the closed tickets of years
        ids = select(TicketRow.model, TicketRow.fault_code, TicketRow.id).where(*mine)

        def look(db: Connection) -> list[Group]:
            newest: dict[tuple[str, str], list[int]] = defaultdict(list)
            for its_model, its_code, number in db.execute(ids):
                newest[its_model, its_code].append(number)
            found = [
                Group(
                    model=row.model,
                    fault_code=row.fault_code,
                    fault_words={"en": row.en, "zh": row.zh},
                    open=row.open,
                    vehicles=row.vehicles,
                    recent_vehicles=row.recent,
                    first_opened_ms=row.first,
                    last_opened_ms=row.last,
                    worst=next(tier for tier in Tier if tier.rank == row.worst),
                    fleet_wide=row.recent >= self._policy.groups.vehicles,
                    tickets=sorted(newest[row.model, row.fault_code], reverse=True)[:NAMED],
                )
                for row in db.execute(query)
            ]
            return sorted(found, key=lambda one: (-one.vehicles, one.model, one.fault_code))

        return self._tables.read(look)

    def similar(self, ticket_id: int, limit: int = 10, which: TicketFilter = EVERYTHING) -> list[Similar]:
        """Tickets of the same model whose evidence names the same signals in like shares, the most alike first: what was found there may
        be what is wrong here. Raises NoSuchTicket."""
        columns = (*BRIEF, TicketRow.evidence, TicketRow.fault_words_en, TicketRow.fault_words_zh)

        def look(db: Connection) -> list[Similar]:
            mine = db.execute(
                select(TicketRow.model, TicketRow.fault_code, TicketRow.evidence).where(TicketRow.id == ticket_id)
            ).one_or_none()
            if mine is None:
                raise NoSuchTicket(f"ticket {ticket_id}: there is no such ticket")
            same_code = case((TicketRow.fault_code == mine.fault_code, 0), else_=1)
            others = select(TicketRow.id).where(TicketRow.model == mine.model, TicketRow.id != ticket_id, *_where(which))
            # their numbers first: SQLite would carry the evidence of all that there are through its sorting
            chosen = db.execute(others.order_by(same_code, TicketRow.id.desc()).limit(LOOKED_AT)).scalars().all()
            rows = db.execute(select(*columns).where(TicketRow.id.in_(chosen))).all()
            shares = _shares(mine.evidence)
            alike = [
                Similar(brief(row), round(_cosine(shares, _shares(row.evidence)), 3), {"en": row.fault_words_en, "zh": row.fault_words_zh})
                for row in rows
            ]
            kept = [one for one in alike if one.likeness >= LIKE]
            return sorted(kept, key=lambda one: (-one.likeness, -one.ticket.id))[:limit]

        return self._tables.read(look)

    def precision(self, from_ms: int | None = None, to_ms: int | None = None) -> list[Precision]:
        """By pack and tier, of tickets closed in a time."""
        closed: list[ColumnElement[bool]] = [TicketRow.closed_ms.is_not(None)]
        if from_ms is not None:
            closed.append(TicketRow.closed_ms >= from_ms)
        if to_ms is not None:
            closed.append(TicketRow.closed_ms < to_ms)
        key = (TicketRow.pack_id, TicketRow.tier, TicketRow.verdict)
        query = select(*key, func.count()).where(*closed).group_by(*key)
        return self._tables.read(lambda db: precisions([(row[0], row[1], row[2], row[3]) for row in db.execute(query)]))

    def findings(self, vehicle: str, from_ms: int, to_ms: int, limit: int = 1000) -> list[FindingView]:
        """A vehicle's findings raised in from_ms <= t < to_ms, oldest first, those below ticket level too."""
        mine = (FindingRow.vehicle == vehicle, FindingRow.raised_ms >= from_ms, FindingRow.raised_ms < to_ms)
        query = select(FindingRow.__table__).where(*mine).order_by(FindingRow.raised_ms, FindingRow.finding_id).limit(limit)
        return self._tables.read(lambda db: [_finding(row) for row in db.execute(query)])

    def changes(self, after: int | None, limit: int = 500, also: Collection[int] = ()) -> list[Change]:
        """What has happened to tickets since the change `after`, oldest first, and those of `also` that are there; None: only the newest
        one, to begin from.

        PostgreSQL gives a change its number when it is written, not when it is committed: one of a lower number may come later.
        """
        columns = (
            TicketEventRow.id,
            TicketEventRow.ticket_id,
            TicketRow.vehicle,
            TicketRow.opened_ms,
            TicketEventRow.at_ms,
            TicketEventRow.action,
        )
        query = select(*columns).join(TicketRow, TicketRow.id == TicketEventRow.ticket_id)
        if after is None:
            queries = [query.order_by(TicketEventRow.id.desc()).limit(1)]
        else:
            queries = [query.where(TicketEventRow.id > after).order_by(TicketEventRow.id).limit(limit)]
            if also:  # a question of its own: in one with the other the whole history is read
                queries.insert(0, query.where(TicketEventRow.id.in_(also), TicketEventRow.id <= after).order_by(TicketEventRow.id))
        return self._tables.read(
            lambda db: [
                Change(row.id, row.ticket_id, row.vehicle, row.opened_ms, row.at_ms, row.action)
                for one in queries
                for row in db.execute(one)
            ]
        )

    def _linked(self, db: Connection, row: AnyRow) -> list[Brief]:
        """What it was reopened from, all the way back, and what it was reopened as."""
        mine = (TicketRow.vehicle == row.vehicle, TicketRow.fault_code == row.fault_code, TicketRow.id != row.id)
        rows = {one.id: one for one in db.execute(select(*BRIEF, TicketRow.reopened_from).where(*mine).order_by(TicketRow.id))}
        before, at = [], row.reopened_from
        while at in rows:
            before.append(rows[at])
            at = rows[at].reopened_from
        chain = {row.id}
        after = []
        for one in rows.values():  # by number, so each comes after what it was reopened from
            if one.reopened_from in chain:
                chain.add(one.id)
                after.append(one)
        return [brief(one) for one in (*reversed(before), *after)]

    def _ticket(self, row: AnyRow) -> Ticket:
        now = self._now_ms()
        tier = Tier(row.tier)
        targets = self._policy.tiers.of(tier)
        flapping = self._policy.flapping
        handling = Handling(row.handling)
        return Ticket(
            id=row.id,
            vehicle=row.vehicle,
            model=row.model,
            fault_code=row.fault_code,
            fault_words={"en": row.fault_words_en, "zh": row.fault_words_zh},
            action={"en": row.action_en, "zh": row.action_zh},
            pack_id=row.pack_id,
            tier=tier,
            probability=row.probability,
            within_ms=row.within_ms,
            condition=Condition(row.condition),
            condition_ms=row.condition_ms,
            flapping=Flaps(row.turns, row.turned_ms).flapping(now, flapping.turns, duration_ms(flapping.rest)),
            handling=handling,
            verdict=Verdict(row.verdict) if row.verdict is not None else None,
            assignee=row.assignee,
            opened_ms=row.opened_ms,
            created_ms=row.created_ms,
            closed_ms=row.closed_ms,
            occurrences=row.occurrences,
            hidden_by=row.hidden_by,
            reopened_from=row.reopened_from,
            acknowledge=Clock(row.acknowledge_ms, row.acknowledge_since_ms).view(
                duration_ms(targets.acknowledge), handling is not Handling.NEW, now
            ),
            close=Clock(row.close_ms, row.close_since_ms).view(duration_ms(targets.close), handling is Handling.CLOSED, now),
        )


def place_of(ticket: Ticket, urgent_first: bool) -> int:
    """Where a ticket stands in a list: the greater, the earlier."""
    return ticket.tier.rank * PER_RANK + ticket.id if urgent_first else ticket.id


def _where(which: TicketFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    for name in ("vehicle", "model", "handling", "condition", "tier", "fault_code", "pack_id"):
        value = getattr(which, name)
        if value is not None:
            found.append(getattr(TicketRow, name) == value)
    if which.open is not None:
        found.append(text(OPEN) if which.open else TicketRow.handling == Handling.CLOSED)  # type: ignore[arg-type]
    if which.assignee is not None:
        found.append(TicketRow.assignee == which.assignee if which.assignee else TicketRow.assignee.is_(None))
    if which.hidden is not None:
        found.append(TicketRow.hidden_by != "" if which.hidden else TicketRow.hidden_by == "")
    if which.opened_from_ms is not None:
        found.append(TicketRow.opened_ms >= which.opened_from_ms)
    if which.opened_to_ms is not None:
        found.append(TicketRow.opened_ms < which.opened_to_ms)
    if which.text:
        within = (TicketRow.vehicle, TicketRow.fault_code, TicketRow.fault_words_en, TicketRow.fault_words_zh, TicketRow.assignee)
        found.append(or_(*(func.lower(column).contains(which.text.lower(), autoescape=True) for column in within)))
    return found


class _Shares(msgspec.Struct):
    contributions: Sequence[Contribution]


def _shares(evidence: bytes) -> dict[str, float]:
    """Signal -> share; the window, most of the evidence, is skipped."""
    return {one.signal: one.share for one in msgspec.json.decode(evidence, type=_Shares).contributions}


def _cosine(one: dict[str, float], other: dict[str, float]) -> float:
    length = math.sqrt(sum(share * share for share in one.values()) * sum(share * share for share in other.values()))
    return sum(share * other.get(signal, 0.0) for signal, share in one.items()) / length if length else 0.0


def _line(row: AnyRow) -> HistoryLine:
    return HistoryLine(row.at_ms, row.actor, row.action, row.detail, row.number, row.salt is None)


def _finding(row: AnyRow) -> FindingView:
    return FindingView(
        finding_id=row.finding_id,
        vehicle=row.vehicle,
        fault_code=row.fault_code,
        pack_id=row.pack_id,
        level=Level(row.level),
        raised_ms=row.raised_ms,
        cleared_ms=row.cleared_ms,
        score=row.score,
        ticket_id=row.ticket_id,
        held=row.held,
    )


def delivery_view(row: AnyRow) -> Delivery:
    """A row of `DELIVERIES`."""
    return Delivery(
        id=row.id,
        notification_id=row.notification_id,
        ticket_id=row.ticket_id,
        webhook=row.webhook,
        event=json.loads(row.payload)["type"],
        state=row.state,
        attempts=row.attempts,
        next_ms=row.next_ms,
        made_ms=row.made_ms,
        done_ms=row.done_ms,
        last=row.last,
    )


DELIVERIES = select(DeliveryRow.__table__, NotificationRow.ticket_id).join(
    NotificationRow, NotificationRow.id == DeliveryRow.notification_id
)
_RANK = case(*((TicketRow.tier == tier, tier.rank) for tier in Tier), else_=0)
_URGENCY = cast(_RANK, BigInteger) * literal(PER_RANK, BigInteger) + TicketRow.id  # PostgreSQL would take the numbers for 32 bits
_LISTED = tuple(column for column in TicketRow.__table__.c if column.name != "evidence")
