"""The tables from before there were versions: what a SQLite file of that time has stays as it is, what it lacks is made."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    make(
        "checkpoint",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    make(
        "clocks",
        sa.Column("vehicle", sa.String(), nullable=False),
        sa.Column("boot_id", sa.LargeBinary(), nullable=False),
        sa.Column("boot_ms", sa.BigInteger(), nullable=False),
        sa.Column("utc_ms", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("vehicle", "boot_id"),
    )
    make(
        "cursors",
        sa.Column("sink", sa.String(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sink"),
    )
    make(
        "heard",
        sa.Column("vehicle", sa.String(), nullable=False),
        sa.Column("tick_ms", sa.BigInteger(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("counters", sa.JSON(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("vehicle"),
    )
    make(
        "landed",
        sa.Column("stream", sa.LargeBinary(), nullable=False),
        sa.Column("seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("ranges", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("stream"),
    )
    make(
        "replays",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("positions", sa.JSON(), nullable=False),
        sa.Column("answer", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    make(
        "stale_windows",
        sa.Column("vehicle", sa.String(), nullable=False),
        sa.Column("hour_ms", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("noted_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("vehicle", "hour_ms"),
    )
    index("ix_stale_windows_noted_ms", "stale_windows", ["noted_ms"], unique=False)
    make(
        "streams",
        sa.Column("stream", sa.LargeBinary(), nullable=False),
        sa.Column("vehicle", sa.String(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.Column("announcement", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("stream"),
    )
    make(
        "unplaced",
        sa.Column("sink", sa.String(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("vehicle", sa.String(), nullable=False),
        sa.Column("boot_id", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sink", "position"),
    )
    make(
        "ticket_filters",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("query", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("owner", "name", name="one_filter_a_name"),
        sqlite_autoincrement=True,
    )
    make(
        "ticket_no_data",
        sa.Column("vehicle", sa.String(), nullable=False),
        sa.Column("since_ms", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("vehicle"),
    )
    make(
        "ticket_silences",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("vehicle", sa.String(), nullable=True),
        sa.Column("model", sa.String(), nullable=True),
        sa.Column("fault_code", sa.String(), nullable=True),
        sa.Column("pack_id", sa.String(), nullable=True),
        sa.Column("red", sa.Boolean(), nullable=False),
        sa.Column("from_ms", NUMBER, nullable=False),
        sa.Column("to_ms", NUMBER, nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("made_by", sa.String(), nullable=False),
        sa.Column("made_ms", NUMBER, nullable=False),
        sa.Column("ended_ms", NUMBER, nullable=True),
        sa.CheckConstraint("kind IN ('silence', 'maintenance')", name="kind_known"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    make(
        "tickets",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("vehicle", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("fault_code", sa.String(), nullable=False),
        sa.Column("fault_words_en", sa.String(), nullable=False),
        sa.Column("fault_words_zh", sa.String(), nullable=False),
        sa.Column("action_en", sa.String(), nullable=False),
        sa.Column("action_zh", sa.String(), nullable=False),
        sa.Column("pack_id", sa.String(), nullable=False),
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("probability", sa.Double(), nullable=True),
        sa.Column("within_ms", NUMBER, nullable=True),
        sa.Column("condition", sa.String(), nullable=False),
        sa.Column("condition_ms", NUMBER, nullable=False),
        sa.Column("turns", NUMBER, nullable=False),
        sa.Column("turned_ms", NUMBER, nullable=False),
        sa.Column("handling", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=True),
        sa.Column("assignee", sa.String(), nullable=True),
        sa.Column("opened_ms", NUMBER, nullable=False),
        sa.Column("created_ms", NUMBER, nullable=False),
        sa.Column("closed_ms", NUMBER, nullable=True),
        sa.Column("occurrences", NUMBER, nullable=False),
        sa.Column("reopened_from", NUMBER, nullable=True),
        sa.Column("hidden_by", sa.String(), nullable=False),
        sa.Column("acknowledge_ms", NUMBER, nullable=False),
        sa.Column("acknowledge_since_ms", NUMBER, nullable=True),
        sa.Column("close_ms", NUMBER, nullable=False),
        sa.Column("close_since_ms", NUMBER, nullable=True),
        sa.Column("said", sa.String(), nullable=False),
        sa.Column("said_tier", sa.String(), nullable=False),
        sa.Column("said_ms", NUMBER, nullable=False),
        sa.Column("evidence", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("condition IN ('pending', 'active', 'recovered', 'no-data')", name="condition_known"),
        sa.CheckConstraint("handling IN ('new', 'acknowledged', 'scheduled', 'in workshop', 'closed')", name="handling_known"),
        sa.CheckConstraint("tier IN ('red', 'yellow', 'blue', 'unrated')", name="tier_known"),
        sa.CheckConstraint("verdict IN ('confirmed', 'false alarm', 'no fault found')", name="verdict_known"),
        sa.ForeignKeyConstraint(["reopened_from"], ["tickets.id"]),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    index("one_open_ticket", "tickets", ["vehicle", "fault_code"], unique=True, where="handling <> 'closed'")
    index("tickets_by_handling", "tickets", ["handling"], unique=False)
    index("tickets_by_key", "tickets", ["vehicle", "fault_code", "closed_ms"], unique=False)
    make(
        "ticket_audit",
        sa.Column("ticket_id", NUMBER, nullable=False),
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("entry", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"]),
        sa.PrimaryKeyConstraint("ticket_id", "number"),
    )
    make(
        "ticket_events",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("ticket_id", NUMBER, nullable=False),
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("at_ms", NUMBER, nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("ticket_id", "number", name="one_line_a_number"),
        sqlite_autoincrement=True,
    )
    make(
        "ticket_findings",
        sa.Column("finding_id", sa.String(), nullable=False),
        sa.Column("ticket_id", NUMBER, nullable=True),
        sa.Column("vehicle", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("fault_code", sa.String(), nullable=False),
        sa.Column("pack_id", sa.String(), nullable=False),
        sa.Column("level", sa.String(), nullable=False),
        sa.Column("raised_ms", NUMBER, nullable=True),
        sa.Column("cleared_ms", NUMBER, nullable=True),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.Column("held", sa.String(), nullable=False),
        sa.Column("evidence", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint("level IN ('seen', 'ticket')", name="level_known"),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"]),
        sa.PrimaryKeyConstraint("finding_id"),
    )
    index("findings_by_key", "ticket_findings", ["vehicle", "fault_code", "raised_ms"], unique=False)
    index("held_findings", "ticket_findings", ["held"], unique=False, where="held <> ''")
    index("ix_ticket_findings_ticket_id", "ticket_findings", ["ticket_id"], unique=False)
    index(
        "raised_findings", "ticket_findings", ["ticket_id", "raised_ms"], unique=False, where="raised_ms IS NOT NULL AND cleared_ms IS NULL"
    )
    make(
        "ticket_heads",
        sa.Column("ticket_id", NUMBER, nullable=False),
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("at_ms", NUMBER, nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"]),
        sa.PrimaryKeyConstraint("ticket_id"),
    )
    make(
        "ticket_hold_offs",
        sa.Column("vehicle", sa.String(), nullable=False),
        sa.Column("fault_code", sa.String(), nullable=False),
        sa.Column("ticket_id", NUMBER, nullable=False),
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("verdict_ms", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"]),
        sa.PrimaryKeyConstraint("vehicle", "fault_code"),
    )
    make(
        "ticket_notifications",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("ticket_id", NUMBER, nullable=False),
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("vehicle", sa.String(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("at_ms", NUMBER, nullable=False),
        sa.Column("owner_ways", sa.String(), nullable=False),
        sa.Column("owner_state", sa.String(), nullable=False),
        sa.Column("owner_reason", sa.String(), nullable=False),
        sa.Column("owner_ms", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("ticket_id", "number", name="one_notification_a_number"),
        sqlite_autoincrement=True,
    )
    index("notifications_by_vehicle", "ticket_notifications", ["vehicle", "at_ms"], unique=False)
    make(
        "ticket_deliveries",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("notification_id", NUMBER, nullable=False),
        sa.Column("webhook", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempts", NUMBER, nullable=False),
        sa.Column("next_ms", NUMBER, nullable=False),
        sa.Column("made_ms", NUMBER, nullable=False),
        sa.Column("done_ms", NUMBER, nullable=True),
        sa.Column("last", sa.String(), nullable=False),
        sa.Column("payload", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["notification_id"], ["ticket_notifications.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("notification_id", "webhook", name="one_delivery_a_webhook"),
        sqlite_autoincrement=True,
    )
    index("deliveries_by_state", "ticket_deliveries", ["state", "next_ms"], unique=False)
    make(
        "api_tokens",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("vehicle", sa.String(), nullable=True),
        sa.Column("from_ms", sa.BigInteger(), nullable=True),
        sa.Column("to_ms", sa.BigInteger(), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("revoked_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
        sa.UniqueConstraint("name"),
    )
    make(
        "api_sessions",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("token_id", sa.Integer(), nullable=False),
        sa.Column("ends_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["token_id"], ["api_tokens.id"]),
        sa.PrimaryKeyConstraint("digest"),
    )
    index("ix_api_sessions_ends_ms", "api_sessions", ["ends_ms"], unique=False)
    index("ix_api_sessions_token_id", "api_sessions", ["token_id"], unique=False)


def make(name: str, *parts: sa.schema.SchemaItem, **more: Any) -> None:
    op.create_table(name, *parts, if_not_exists=True, **more)


def index(name: str, table: str, columns: list[str], unique: bool = False, where: str | None = None) -> None:
    only: dict[str, Any] = {} if where is None else {"sqlite_where": sa.text(where), "postgresql_where": sa.text(where)}
    op.create_index(name, table, columns, unique=unique, if_not_exists=True, **only)
