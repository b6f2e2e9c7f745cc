"""The outbox of notifications: rows that are written with the change that they tell of, so neither is without the other.

Each row is for the operators (every webhook that wants it gets a delivery) and, where its tier has ways to the owner, for the owner,
within the budget. What sends push messages or calls takes `owner_due` and says `owner_sent`.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, func, select, update

from cloud.tickets.budget import MONTH_MS, WEEK_MS, Told, displaced, withheld
from cloud.tickets.errors import NoSuchTicket
from cloud.tickets.model import DeliveryRow, NotificationRow, TicketRow
from cloud.tickets.policy import Condition, Tier
from cloud.tickets.settings import Policy
from cloud.tickets.tables import AnyRow, Tables, insert
from cloud.tickets.views import Budget, Notification

__all__ = ["Outbox"]

WARNINGS = frozenset({"opened", "tier raised", "active again"})  # what an owner is told; that it recovered is in the app, not a message
GOES = ("due", "sent")


class Outbox:
    """Puts, and gives out what is due to owners."""

    def __init__(self, tables: Tables, policy: Policy, now_ms: Callable[[], int]) -> None:
        self._tables = tables
        self._policy = policy
        self._now_ms = now_ms

    def put(self, db: Connection, ticket_id: int, vehicle: str, event: str, tier: Tier) -> None:
        """Tell of something, in the caller's transaction."""
        now = self._now_ms()
        ways = self._policy.tiers.of(tier).owner if event in WARNINGS else []
        reason = self._withheld(db, vehicle, tier, self._is_push(ways), now) if ways else ""
        number = db.execute(select(func.count()).where(NotificationRow.ticket_id == ticket_id)).scalar_one()
        row = {
            "ticket_id": ticket_id,
            "number": number,
            "vehicle": vehicle,
            "event": event,
            "tier": tier,
            "at_ms": now,
            "owner_ways": ",".join(ways),
            "owner_state": "none" if not ways else "withheld" if reason else "due",
            "owner_reason": reason,
            "owner_ms": now,
        }
        notification = db.execute(insert(db, NotificationRow, row).returning(NotificationRow.id)).scalar_one()
        if ways and tier is Tier.RED:
            self._displace(db, vehicle, notification, now)
        self._deliver(db, notification, row, now)

    def owner_due(self, limit: int = 100) -> list[Notification]:
        """What owners are to be told now, oldest first."""
        query = select(NotificationRow.__table__).where(NotificationRow.owner_state == "due").order_by(NotificationRow.id).limit(limit)
        return self._tables.read(lambda db: [notification_view(row) for row in db.execute(query)])

    def owner_sent(self, notification_id: int) -> None:
        """The owner was told. Raises NoSuchTicket when it is not due."""
        mine = (NotificationRow.id == notification_id, NotificationRow.owner_state == "due")
        sent = update(NotificationRow).where(*mine).values(owner_state="sent", owner_ms=self._now_ms())
        if not self._tables.write(lambda db: db.execute(sent).rowcount):
            raise NoSuchTicket(f"notification {notification_id}: it is not due")

    def room(self, db: Connection) -> None:
        """Let out what was withheld and has room now, the most urgent first; drop what nobody needs to hear any more."""
        now = self._now_ms()
        columns = (*NotificationRow.__table__.c, TicketRow.condition, TicketRow.handling, TicketRow.hidden_by)
        waiting = NotificationRow.owner_state.in_(("withheld", "displaced"))
        query = select(*columns).join(TicketRow, TicketRow.id == NotificationRow.ticket_id).where(waiting)
        for row in sorted(db.execute(query).all(), key=lambda one: (-Tier(one.tier).rank, one.id)):
            if row.handling == "closed" or row.condition == Condition.RECOVERED:
                state, reason = "dropped", "closed before there was room" if row.handling == "closed" else "recovered before there was room"
            elif row.hidden_by or self._withheld(db, row.vehicle, Tier(row.tier), self._is_push(row.owner_ways.split(",")), now):
                continue
            else:
                state, reason = "due", row.owner_reason
            changed = update(NotificationRow).where(NotificationRow.id == row.id, waiting)
            db.execute(changed.values(owner_state=state, owner_reason=reason, owner_ms=now))

    def budget(self, vehicle: str) -> Budget:
        """What a vehicle's owner was told in the last 7 and 30 days, and what waits for room."""
        now, rules = self._now_ms(), self._policy.budget
        waiting = (NotificationRow.vehicle == vehicle, NotificationRow.owner_state.in_(("withheld", "displaced")))

        def look(db: Connection) -> Budget:
            told = self._told(db, vehicle, now)
            return Budget(
                vehicle=vehicle,
                pushes=sum(one.push and one.at_ms > now - WEEK_MS for one in told),
                pushes_allowed=rules.pushes_a_week,
                warnings=len(told),
                warnings_allowed=rules.warnings_a_month,
                withheld=[
                    notification_view(row)
                    for row in db.execute(select(NotificationRow.__table__).where(*waiting).order_by(NotificationRow.id))
                ],
            )

        return self._tables.read(look)

    def withheld(self) -> list[Notification]:
        """What waits for room, of every vehicle."""
        query = select(NotificationRow.__table__).where(NotificationRow.owner_state.in_(("withheld", "displaced")))
        return self._tables.read(lambda db: [notification_view(row) for row in db.execute(query.order_by(NotificationRow.id))])

    def _is_push(self, ways: Sequence[str]) -> bool:
        return any(way in self._policy.budget.push for way in ways)

    def _told(self, db: Connection, vehicle: str, now: int) -> list[Told]:
        query = select(NotificationRow.__table__).where(
            NotificationRow.vehicle == vehicle, NotificationRow.owner_state.in_(GOES), NotificationRow.owner_ms > now - MONTH_MS
        )
        return [
            Told(row.owner_ms, Tier(row.tier), self._is_push(row.owner_ways.split(",")), row.owner_state == "sent", row.id)
            for row in db.execute(query)
        ]

    def _withheld(self, db: Connection, vehicle: str, tier: Tier, push: bool, now: int) -> str:
        rules = self._policy.budget
        return withheld(self._told(db, vehicle, now), tier, push, now, rules.pushes_a_week, rules.warnings_a_month)

    def _displace(self, db: Connection, vehicle: str, red: int, now: int) -> None:
        rules = self._policy.budget
        away = displaced(self._told(db, vehicle, now), now, rules.pushes_a_week, rules.warnings_a_month)
        if away:
            reason = f"withheld by budget: displaced by the red notification {red}"
            changed = update(NotificationRow).where(NotificationRow.id.in_(away))
            db.execute(changed.values(owner_state="displaced", owner_reason=reason, owner_ms=now))

    def _deliver(self, db: Connection, notification: int, row: dict[str, Any], now: int) -> None:
        hooks = [hook for hook in self._policy.webhook if row["event"] in hook.events and row["tier"] in hook.tiers]
        if not hooks:
            return
        ticket = db.execute(select(TicketRow.__table__).where(TicketRow.id == row["ticket_id"])).one()
        payload = json.dumps(_payload(notification, row, ticket), ensure_ascii=False, separators=(",", ":"))
        for hook in hooks:
            delivery = {
                "notification_id": notification,
                "webhook": hook.name,
                "state": "due",
                "attempts": 0,
                "next_ms": now,
                "made_ms": now,
            }
            db.execute(insert(db, DeliveryRow, delivery | {"last": "", "payload": payload}))


def notification_view(row: AnyRow) -> Notification:
    """A row of the outbox."""
    return Notification(
        id=row.id,
        ticket_id=row.ticket_id,
        vehicle=row.vehicle,
        event=row.event,
        tier=Tier(row.tier),
        at_ms=row.at_ms,
        owner_ways=[way for way in row.owner_ways.split(",") if way],
        owner_state=row.owner_state,
        owner_reason=row.owner_reason,
        owner_ms=row.owner_ms,
    )


def _payload(notification: int, row: dict[str, Any], ticket: AnyRow) -> dict[str, Any]:
    """What a webhook is sent. No person is named in it: who works a ticket stays here."""
    return {
        "id": notification,
        "type": f"ticket.{row['event'].replace(' ', '_')}",
        "at_ms": row["at_ms"],
        "ticket": {
            "id": ticket.id,
            "vehicle": ticket.vehicle,
            "model": ticket.model,
            "fault_code": ticket.fault_code,
            "fault_words": {"en": ticket.fault_words_en, "zh": ticket.fault_words_zh},
            "action": {"en": ticket.action_en, "zh": ticket.action_zh},
            "pack_id": ticket.pack_id,
            "tier": ticket.tier,
            "probability": ticket.probability,
            "within_ms": ticket.within_ms,
            "condition": ticket.condition,
            "handling": ticket.handling,
            "verdict": ticket.verdict,
            "opened_ms": ticket.opened_ms,
            "occurrences": ticket.occurrences,
            "reopened_from": ticket.reopened_from,
        },
        "owner": {"ways": [way for way in row["owner_ways"].split(",") if way], "state": row["owner_state"], "reason": row["owner_reason"]},
    }
