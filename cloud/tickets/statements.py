"""The statements that each finding runs, built once: building one costs SQLAlchemy ten times what running it costs SQLite.

Parameters that are no column of the row begin with `the_`.
"""

from functools import cache
from typing import Any, cast

from sqlalchemy import Table, bindparam, case, delete, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from cloud.tickets.model import OPEN, FindingRow, SilentVehicleRow, TicketRow
from cloud.tickets.policy import Level

__all__ = ["CONDITION", "DATA_AGAIN", "OCCURRED_AGAIN", "OPEN_TICKET", "RAISED", "SETTLE_FINDING", "clear_finding", "raise_finding"]

F = cast(Table, FindingRow.__table__)
T = cast(Table, TicketRow.__table__)
S = cast(Table, SilentVehicleRow.__table__)


@cache
def raise_finding(dialect: str) -> Any:
    """A raise. No row comes back for a repeat.

    One that was only seen and is now confirmed comes twice, in either order: the higher level stays, and the earlier time.
    """
    entry = _insert(dialect)(F)
    new = entry.excluded
    earlier = F.c.raised_ms.is_(None) | (new.raised_ms < F.c.raised_ms)
    confirms = (new.level == Level.TICKET) & ~F.c.counted
    return entry.on_conflict_do_update(
        index_elements=["finding_id"],
        set_={
            "raised_ms": case((earlier, new.raised_ms), else_=F.c.raised_ms),
            "level": case((new.level == Level.TICKET, new.level), else_=F.c.level),
            "score": new.score,
        },
        where=(F.c.vehicle == new.vehicle) & (earlier | confirms),
    ).returning(F.c.ticket_id, F.c.level, F.c.counted)


@cache
def clear_finding(dialect: str) -> Any:
    """A clear. No row comes back for a repeat."""
    entry = _insert(dialect)(F)
    new = entry.excluded
    return entry.on_conflict_do_update(
        index_elements=["finding_id"],
        set_={"cleared_ms": new.cleared_ms},
        where=F.c.cleared_ms.is_(None) & (F.c.vehicle == new.vehicle),
    ).returning(F.c.ticket_id)


_MINE = (T.c.vehicle == bindparam("the_vehicle"), T.c.fault_code == bindparam("the_fault_code"), text(OPEN))

OPEN_TICKET = select(T.c.id).where(*_MINE)
OCCURRED_AGAIN = (
    update(T).where(*_MINE).values(occurrences=T.c.occurrences + bindparam("the_occurrences")).returning(T.c.id, T.c.occurrences)
)
SETTLE_FINDING = (
    update(F)
    .where(F.c.finding_id == bindparam("the_finding"))
    .values(
        ticket_id=bindparam("the_ticket"), held=bindparam("the_held"), counted=bindparam("the_counted"), evidence=bindparam("the_evidence")
    )
)
CONDITION = (
    select(T.c.vehicle, T.c.condition, T.c.turns, T.c.turned_ms, S.c.since_ms)
    .join_from(T, S, S.c.vehicle == T.c.vehicle, isouter=True)
    .where(T.c.id == bindparam("the_ticket"))
)
DATA_AGAIN = delete(S).where(S.c.vehicle == bindparam("the_vehicle"))

_LATER = F.alias("later")
# A pack has one alarm for a fault code: what it raised later has taken the place of what it raised before, whose clear was never said
# because the agent lost its power.
_REPLACED = select(_LATER.c.finding_id).where(
    _LATER.c.vehicle == F.c.vehicle,
    _LATER.c.fault_code == F.c.fault_code,
    _LATER.c.pack_id == F.c.pack_id,
    _LATER.c.raised_ms > F.c.raised_ms,
)
# One of a ticket's findings of a level that is raised and not cleared.
RAISED = (
    select(F.c.finding_id)
    .where(
        F.c.ticket_id == bindparam("the_ticket"),
        F.c.raised_ms.is_not(None),
        F.c.cleared_ms.is_(None),
        F.c.level == bindparam("the_level"),
        ~_REPLACED.exists(),
    )
    .order_by(F.c.raised_ms.desc())
    .limit(1)
)


def _insert(dialect: str) -> Any:
    return postgresql.insert if dialect == "postgresql" else sqlite.insert
