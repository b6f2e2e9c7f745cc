"""The tables of the ticket queue (SQLAlchemy; SQLite and PostgreSQL alike). Times are UTC milliseconds, ids of findings 32 lower-case hex
characters. Texts that name a person are in `ticket_events` alone; `ticket_audit` has salted hashes of them.
"""

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from cloud.tickets.policy import Condition, Handling, Level, Tier, Verdict

__all__ = [
    "HELD",
    "OPEN",
    "AuditRow",
    "Base",
    "DeliveryRow",
    "FilterRow",
    "FindingRow",
    "HeadRow",
    "HoldOffRow",
    "NotificationRow",
    "SilenceRow",
    "SilentVehicleRow",
    "TicketEventRow",
    "TicketRow",
]

# The predicate of the partial unique index; an upsert must name it in the same words for the database to match it to the index.
OPEN = f"handling <> '{Handling.CLOSED}'"
HELD = "held <> ''"
RAISED = "raised_ms IS NOT NULL AND cleared_ms IS NULL"

_Known = type[Condition] | type[Handling] | type[Level] | type[Tier] | type[Verdict]


def _one_of(column: str, values: _Known) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(str(value)) for value in values)})", name=f"{column}_known")


class Base(DeclarativeBase):
    """The ticket queue's tables."""

    # SQLite numbers rows by itself only where the column is called INTEGER; it holds 64 bits there as well
    type_annotation_map = {int: BigInteger().with_variant(Integer(), "sqlite")}  # noqa: RUF012 - SQLAlchemy's own way


class TicketRow(Base):
    """A ticket: one fault of one vehicle, from the first finding until somebody closes it."""

    __tablename__ = "tickets"
    __table_args__ = (
        # One open ticket for each (vehicle, fault code), whoever asks first: the database says so, not a lookup before the insert.
        Index("one_open_ticket", "vehicle", "fault_code", unique=True, sqlite_where=text(OPEN), postgresql_where=text(OPEN)),
        Index("tickets_by_handling", "handling"),
        Index("tickets_by_key", "vehicle", "fault_code", "closed_ms"),
        _one_of("condition", Condition),
        _one_of("handling", Handling),
        _one_of("verdict", Verdict),
        _one_of("tier", Tier),
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
    pack_id: Mapped[str]  # of the finding that opened it
    tier: Mapped[str]
    probability: Mapped[float | None]  # of the calibrated prognosis that gave the tier
    within_ms: Mapped[int | None]
    condition: Mapped[str]
    condition_ms: Mapped[int]  # since when, by the cloud's clock
    turns: Mapped[int]  # between active and recovered without a rest, and the newest of them
    turned_ms: Mapped[int]
    handling: Mapped[str]
    verdict: Mapped[str | None]
    assignee: Mapped[str | None]
    opened_ms: Mapped[int]  # the tick of the finding that opened it
    created_ms: Mapped[int]  # the same by the cloud's clock: a backlog brings findings late
    closed_ms: Mapped[int | None]
    occurrences: Mapped[int]
    reopened_from: Mapped[int | None] = mapped_column(ForeignKey("tickets.id"))
    hidden_by: Mapped[str]  # "silence 3", "maintenance 4", "ticket 5" (inhibition); empty: it is shown
    acknowledge_ms: Mapped[int]  # the two clocks: what has run, and since when it runs
    acknowledge_since_ms: Mapped[int | None]
    close_ms: Mapped[int]
    close_since_ms: Mapped[int | None]
    said: Mapped[str]  # what was told last of it, at which tier and when; empty: nothing
    said_tier: Mapped[str]
    said_ms: Mapped[int]
    evidence: Mapped[bytes]  # JSON of `Evidence`, frozen when the ticket opened


class FindingRow(Base):
    """A finding that was consumed. Raise and clear are two events of one finding and may arrive in either order."""

    __tablename__ = "ticket_findings"
    __table_args__ = (
        Index("raised_findings", "ticket_id", "raised_ms", sqlite_where=text(RAISED), postgresql_where=text(RAISED)),
        Index("findings_by_key", "vehicle", "fault_code", "raised_ms"),
        Index("held_findings", "held", sqlite_where=text(HELD), postgresql_where=text(HELD)),
        _one_of("level", Level),
    )

    finding_id: Mapped[str] = mapped_column(primary_key=True)
    ticket_id: Mapped[int | None] = mapped_column(ForeignKey("tickets.id"), index=True)
    vehicle: Mapped[str]
    model: Mapped[str]
    fault_code: Mapped[str]
    pack_id: Mapped[str]
    level: Mapped[str]
    raised_ms: Mapped[int | None]
    cleared_ms: Mapped[int | None]
    score: Mapped[float]
    counted: Mapped[bool]  # whether it is one of its ticket's occurrences; what was only seen is none
    held: Mapped[str]  # why it has no ticket: "level", "hold-off", "maintenance N"; empty: it has one, or only its clear has come
    evidence: Mapped[bytes | None]  # JSON of `Evidence` while it is held off or in a window, in case that it opens a ticket later


class HoldOffRow(Base):
    """A fault of a vehicle that was called a false alarm."""

    __tablename__ = "ticket_hold_offs"

    vehicle: Mapped[str] = mapped_column(primary_key=True)
    fault_code: Mapped[str] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"))
    tier: Mapped[str]
    verdict_ms: Mapped[int]


class TicketEventRow(Base):
    """One line of a ticket's history."""

    __tablename__ = "ticket_events"
    __table_args__ = (UniqueConstraint("ticket_id", "number", name="one_line_a_number"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"))
    number: Mapped[int]  # from 0 in each ticket
    at_ms: Mapped[int]  # wall clock of the cloud, not of the vehicle: this is the record of what was done here
    actor: Mapped[str]
    action: Mapped[str]  # opened | occurred again | one of Condition | one of Handling | comment | assigned | verdict | ...
    detail: Mapped[str]
    salt: Mapped[bytes | None]  # None: actor and detail were erased for a person's sake


class AuditRow(Base):
    """One entry of a ticket's hash chain."""

    __tablename__ = "ticket_audit"

    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    entry: Mapped[str]  # canonical JSON
    hash: Mapped[str]  # SHA-256 of it, hex


class HeadRow(Base):
    """The newest entry of a ticket's chain, signed."""

    __tablename__ = "ticket_heads"

    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"), primary_key=True)
    number: Mapped[int]
    hash: Mapped[str]
    at_ms: Mapped[int]
    key_id: Mapped[str]
    signature: Mapped[bytes]


class SilenceRow(Base):
    """A silence, or a vehicle's maintenance window. What is None matches everything; the fault code may have `*` and `?`."""

    __tablename__ = "ticket_silences"
    __table_args__ = (CheckConstraint("kind IN ('silence', 'maintenance')", name="kind_known"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    vehicle: Mapped[str | None]
    model: Mapped[str | None]
    fault_code: Mapped[str | None]
    pack_id: Mapped[str | None]
    red: Mapped[bool]  # whether it hides red tickets too
    from_ms: Mapped[int]
    to_ms: Mapped[int]
    reason: Mapped[str]
    made_by: Mapped[str]
    made_ms: Mapped[int]
    ended_ms: Mapped[int | None]  # somebody ended it before its time


class SilentVehicleRow(Base):
    """A vehicle whose data have stopped: its open tickets' condition is not known."""

    __tablename__ = "ticket_no_data"

    vehicle: Mapped[str] = mapped_column(primary_key=True)
    since_ms: Mapped[int]


class NotificationRow(Base):
    """The outbox: what is to be told of a ticket, to webhooks (each has a delivery) and, by the tier's ways, to the owner."""

    __tablename__ = "ticket_notifications"
    __table_args__ = (
        UniqueConstraint("ticket_id", "number", name="one_notification_a_number"),
        Index("notifications_by_vehicle", "vehicle", "at_ms"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"))
    number: Mapped[int]  # from 0 in each ticket
    vehicle: Mapped[str]
    event: Mapped[str]  # opened | tier raised | active again | recovered | closed
    tier: Mapped[str]
    at_ms: Mapped[int]
    owner_ways: Mapped[str]  # "push,phone"; empty: the owner is not told of it
    owner_state: Mapped[str]  # none | due | sent | withheld | displaced | dropped
    owner_reason: Mapped[str]
    owner_ms: Mapped[int]  # since when it is in that state


class DeliveryRow(Base):
    """One notification to one webhook."""

    __tablename__ = "ticket_deliveries"
    __table_args__ = (
        UniqueConstraint("notification_id", "webhook", name="one_delivery_a_webhook"),
        Index("deliveries_by_state", "state", "next_ms"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    notification_id: Mapped[int] = mapped_column(ForeignKey("ticket_notifications.id"))
    webhook: Mapped[str]
    state: Mapped[str]  # due | delivered | dead
    attempts: Mapped[int]
    next_ms: Mapped[int]
    made_ms: Mapped[int]
    done_ms: Mapped[int | None]
    last: Mapped[str]  # what the last attempt brought, one line
    payload: Mapped[str]  # JSON, the same at every attempt


class FilterRow(Base):
    """A queue filter that somebody saved."""

    __tablename__ = "ticket_filters"
    __table_args__ = (UniqueConstraint("owner", "name", name="one_filter_a_name"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str]
    name: Mapped[str]
    query: Mapped[str]  # JSON object of the list's parameters
