"""What is kept of tickets beside them: precision, budgets, webhooks, the audit trail."""

from typing import Annotated, Literal

import msgspec

from cloud.api.backend import Backend
from cloud.api.cursors import cursor_at, position_of
from cloud.api.route import Moment, NumberPath, Route, TicketPath
from cloud.api.session import Done
from cloud.roles import Role
from cloud.tickets.audit import Entry, Head
from cloud.tickets.precision import Precision
from cloud.tickets.views import Budget, Delivery, Notification
from cloud.tickets.webhooks import Webhook

__all__ = ["Ledgers"]

MOST = 500

Limit = Annotated[int, msgspec.Meta(ge=1, le=MOST)]


class PrecisionQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tickets closed in [from_ms, to_ms)."""

    from_ms: Moment | None = None
    to_ms: Moment | None = None


class PrecisionList(msgspec.Struct, frozen=True):
    """By pack and tier."""

    precision: list[Precision]


class BudgetQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of which vehicle."""

    vehicle: Annotated[str, msgspec.Meta(max_length=128)] | None = None


class BudgetShown(msgspec.Struct, frozen=True):
    """What a vehicle's owner was told against what the policy allows (of one vehicle), and what waits for room (of all without one)."""

    budget: Budget | None
    withheld: list[Notification]


class WebhookList(msgspec.Struct, frozen=True):
    """By name."""

    webhooks: list[Webhook]


class DeliveriesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """In which state; "dead" was given up."""

    state: Literal["due", "delivered", "dead"] | None = None
    limit: Limit = 100


class DeliveryList(msgspec.Struct, frozen=True):
    """Newest first."""

    deliveries: list[Delivery]


class Chain(msgspec.Struct, frozen=True):
    """A ticket's chain, oldest first: each `hash` covers its entry and the hash before it."""

    entries: list[Entry]


class HeadsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A page of them."""

    limit: Limit = MOST
    cursor: Annotated[str, msgspec.Meta(max_length=500)] | None = None


class HeadList(msgspec.Struct, frozen=True):
    """The signed newest entries, by ticket."""

    heads: list[Head]
    next: str | None


class Ledgers:
    """Reading them, and sending a delivery again."""

    def __init__(self, backend: Backend) -> None:
        self._tickets = backend.tickets

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/api/precision", self.precision, Role.READ_ONLY),
            Route("GET", "/api/budgets", self.budgets, Role.READ_ONLY),
            Route("GET", "/api/webhooks", self.webhooks, Role.OPERATOR),
            Route("GET", "/api/webhooks/deliveries", self.deliveries, Role.OPERATOR),
            Route("POST", "/api/webhooks/deliveries/{id}/replay", self.replay, Role.OPERATOR),
            Route("GET", "/api/audit/heads", self.heads, Role.READ_ONLY),
            Route("GET", "/api/audit/{id}", self.chain, Role.READ_ONLY),
        ]

    def precision(self, query: PrecisionQuery) -> PrecisionList:
        """How often tickets were right, by the verdicts, with the 95 % interval that their number allows."""
        return PrecisionList(list(self._tickets.queue.precision(query.from_ms, query.to_ms)))

    def budgets(self, query: BudgetQuery) -> BudgetShown:
        """What owners were told, and what is withheld by budget."""
        if query.vehicle is None:
            return BudgetShown(None, self._tickets.outbox.withheld())
        budget = self._tickets.outbox.budget(query.vehicle)
        return BudgetShown(budget, budget.withheld)

    def webhooks(self) -> WebhookList:
        """The webhooks of the policy, and how they do."""
        return WebhookList(list(self._tickets.webhooks.list()))

    def deliveries(self, query: DeliveriesQuery) -> DeliveryList:
        """What was sent, waits to be sent, or was given up."""
        return DeliveryList(list(self._tickets.webhooks.deliveries(query.state, query.limit)))

    def replay(self, path: NumberPath) -> Done:
        """Send a delivery once more, under the same key."""
        self._tickets.webhooks.replay(path.id)
        return Done(True)

    def chain(self, path: TicketPath) -> Chain:
        """A ticket's audit trail."""
        return Chain(list(self._tickets.audit.chain(path.id)))

    def heads(self, query: HeadsQuery) -> HeadList:
        """The signed heads of all tickets' audit trails."""
        after = position_of(query.cursor, int) if query.cursor is not None else 0
        found = list(self._tickets.audit.heads(after, query.limit + 1))
        page = found[: query.limit]
        return HeadList(page, cursor_at(page[-1].ticket_id) if len(found) > len(page) else None)
