"""A ticket in short, as lists of related ones have it."""

from cloud.tickets.model import TicketRow
from cloud.tickets.policy import Condition, Handling, Tier, Verdict
from cloud.tickets.tables import AnyRow
from cloud.tickets.views import Brief

__all__ = ["BRIEF", "brief"]

BRIEF = (
    TicketRow.id,
    TicketRow.vehicle,
    TicketRow.fault_code,
    TicketRow.tier,
    TicketRow.condition,
    TicketRow.handling,
    TicketRow.verdict,
    TicketRow.opened_ms,
)


def brief(row: AnyRow) -> Brief:
    """A ticket in short."""
    return Brief(
        id=row.id,
        vehicle=row.vehicle,
        fault_code=row.fault_code,
        tier=Tier(row.tier),
        condition=Condition(row.condition),
        handling=Handling(row.handling),
        verdict=Verdict(row.verdict) if row.verdict is not None else None,
        opened_ms=row.opened_ms,
    )
