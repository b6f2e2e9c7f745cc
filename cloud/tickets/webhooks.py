"""Webhooks: which there are, what was sent to each, and what was given up and may be sent again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
from sqlalchemy import case, func, select, update

from cloud.tickets.errors import NoSuchTicket
from cloud.tickets.model import DeliveryRow, NotificationRow
from cloud.tickets.policy import Tier
from cloud.tickets.queue import DELIVERIES, delivery_view
from cloud.tickets.settings import Policy, WebhookPolicy
from cloud.tickets.tables import Tables
from cloud.tickets.views import Delivery

__all__ = ["Letter", "Webhook", "Webhooks"]

LEASE_MS = 60_000  # for which a delivery is its sender's; longer than any attempt takes


class Webhook(msgspec.Struct, frozen=True):
    """A webhook of the policy and how it does. `due`, `dead`: deliveries that wait, and that were given up."""

    name: str
    url: str
    events: tuple[str, ...]
    tiers: tuple[Tier, ...]
    due: int
    delivered: int
    dead: int


@dataclass(frozen=True, slots=True)
class Letter:
    """A delivery that is claimed by who sends it now. `key`: the same at every attempt and of no other delivery."""

    id: int
    key: str
    webhook: str
    attempts: int
    made_ms: int
    payload: str


class Webhooks:
    """Looks at deliveries, and is the sender's side of them."""

    def __init__(self, tables: Tables, policy: Policy, now_ms: Callable[[], int]) -> None:
        self._tables = tables
        self._policy = policy
        self._now_ms = now_ms

    def list(self) -> Sequence[Webhook]:
        """By name."""
        states = ("due", "delivered", "dead")
        counted = (func.sum(case((DeliveryRow.state == state, 1), else_=0)) for state in states)
        query = select(DeliveryRow.webhook, *counted).group_by(DeliveryRow.webhook)
        counts = self._tables.read(lambda db: {row[0]: tuple(map(int, row[1:])) for row in db.execute(query)})
        return [Webhook(one.name, one.url, one.events, one.tiers, *counts.get(one.name, (0, 0, 0))) for one in self._hooks()]

    def deliveries(self, state: Literal["due", "delivered", "dead"] | None = None, limit: int = 100) -> Sequence[Delivery]:
        """Newest first."""
        query = DELIVERIES.order_by(DeliveryRow.id.desc()).limit(limit)
        if state is not None:
            query = query.where(DeliveryRow.state == state)
        return self._tables.read(lambda db: [delivery_view(row) for row in db.execute(query)])

    def replay(self, delivery_id: int) -> None:
        """Send one that was given up, or was delivered already, once more, under the same key. Raises NoSuchTicket."""
        again = update(DeliveryRow).where(DeliveryRow.id == delivery_id, DeliveryRow.state != "due")
        values = {
            "state": "due",
            "attempts": 0,
            "next_ms": self._now_ms(),
            "made_ms": self._now_ms(),
            "done_ms": None,
            "last": "asked again",
        }
        if not self._tables.write(lambda db: db.execute(again.values(values)).rowcount):
            raise NoSuchTicket(f"delivery {delivery_id}: there is none that was given up or delivered")

    # the sender's side

    def claim(self, limit: int) -> Sequence[Letter]:
        """Deliveries whose time has come, for this caller alone: to others they are due again after `LEASE_MS`, if it dies."""
        now = self._now_ms()
        names = [hook.name for hook in self._hooks()]
        due = (DeliveryRow.state == "due", DeliveryRow.next_ms <= now, DeliveryRow.webhook.in_(names))
        query = (
            select(DeliveryRow.__table__, NotificationRow.ticket_id, NotificationRow.number)
            .join(NotificationRow, NotificationRow.id == DeliveryRow.notification_id)
            .where(*due)
            .order_by(DeliveryRow.next_ms, DeliveryRow.id)
            .limit(limit)
        )
        rows = self._tables.read(lambda db: db.execute(query).all())
        found = []
        for row in rows:
            mine = update(DeliveryRow).where(DeliveryRow.id == row.id, DeliveryRow.state == "due", DeliveryRow.next_ms == row.next_ms)
            claim = mine.values(next_ms=now + LEASE_MS)
            if self._tables.write(lambda db, claim=claim: db.execute(claim).rowcount):  # type: ignore[misc]
                key = f"ticket-{row.ticket_id}-{row.number}-{row.webhook}"
                found.append(Letter(row.id, key, row.webhook, row.attempts, row.made_ms, row.payload))
        return found

    def settle(self, letter: Letter, state: Literal["due", "delivered", "dead"], next_ms: int, last: str) -> None:
        """What an attempt brought."""
        done = self._now_ms() if state != "due" else None
        values = {"state": state, "attempts": letter.attempts + 1, "next_ms": next_ms, "done_ms": done, "last": last[:200]}
        mine = update(DeliveryRow).where(DeliveryRow.id == letter.id, DeliveryRow.state == "due")
        self._tables.write(lambda db: db.execute(mine.values(values)))

    def next_due_ms(self) -> int | None:
        """When the next delivery's time comes."""
        names = [hook.name for hook in self._hooks()]
        query = select(func.min(DeliveryRow.next_ms)).where(DeliveryRow.state == "due", DeliveryRow.webhook.in_(names))
        return self._tables.read(lambda db: db.execute(query).scalar())

    def secrets(self) -> Mapping[str, tuple[str, bytes]]:
        """URL and secret by name. Raises PolicyError where a secret's file is gone."""
        return {hook.name: (hook.url, hook.secret) for hook in self._hooks()}

    def _hooks(self) -> Sequence[WebhookPolicy]:
        return self._policy.webhook
