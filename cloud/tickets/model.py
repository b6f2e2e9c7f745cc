"""The tables of the ticket queue (SQLAlchemy; SQLite). Times are UTC milliseconds, ids of findings 32 lower-case hex characters.

`tickets` holds one row per ticket; `ticket_findings` one row per finding, which makes consuming idempotent; `ticket_events` who did what,
and when.
"""

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from cloud.tickets.policy import TIER_UNRATED, Condition, Handling, Verdict

__all__ = ["OPEN", "Base", "FindingRow", "TicketEventRow", "TicketRow"]

# The predicate of the partial unique index; an upsert must name it in the same words for SQLite to match it to the index.
OPEN = f"handling <> '{Handling.CLOSED}'"


def _one_of(column: str, values: type[Condition] | type[Handling] | type[Verdict]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(str(value)) for value in values)})", name=f"{column}_known")


class Base(DeclarativeBase):
    """The ticket queue's tables."""


class TicketRow(Base):
    """A ticket: one fault of one vehicle, from the first finding until somebody closes it."""

    __tablename__ = "tickets"
    __table_args__ = (
        # One open ticket for each (vehicle, fault code), whoever asks first: the database says so, not a lookup before the insert.
        Index("one_open_ticket", "vehicle", "fault_code", unique=True, sqlite_where=text(OPEN)),
        Index("tickets_by_handling", "handling"),
        _one_of("condition", Condition),
        _one_of("handling", Handling),
        _one_of("verdict", Verdict),
        {"sqlite_autoincrement": True},  # an id that somebody has written down is never given to another ticket
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    vehicle: Mapped[str]
    model: Mapped[str]
    fault_code: Mapped[str]
    fault_words_en: Mapped[str]
    fault_words_zh: Mapped[str]
    action_en: Mapped[str]
    action_zh: Mapped[str]
    tier: Mapped[str] = mapped_column(default=TIER_UNRATED)
    condition: Mapped[str]
    handling: Mapped[str]
    verdict: Mapped[str | None]
    opened_ms: Mapped[int]  # the tick of the finding that opened it
    occurrences: Mapped[int]
    evidence: Mapped[bytes]  # JSON of `Evidence`, frozen when the ticket opened


class FindingRow(Base):
    """A finding that was consumed. Raise and clear are two events of one finding and may arrive in either order."""

    __tablename__ = "ticket_findings"

    finding_id: Mapped[str] = mapped_column(primary_key=True)
    ticket_id: Mapped[int | None] = mapped_column(ForeignKey("tickets.id"), index=True)
    vehicle: Mapped[str]
    fault_code: Mapped[str]
    pack_id: Mapped[str]
    raised_ms: Mapped[int | None]
    cleared_ms: Mapped[int | None]


class TicketEventRow(Base):
    """One line of a ticket's history."""

    __tablename__ = "ticket_events"

    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"), index=True)
    at_ms: Mapped[int]  # wall clock of the cloud, not of the vehicle: this is the record of what was done here
    actor: Mapped[str]
    action: Mapped[str]  # opened | occurred again | active | recovered | one of Handling
    detail: Mapped[str]
