"""Replicas share the tables: each has cursors, landed sets and requests of its own. What is there is of the one cloud there was, ""."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    anew("cursors", "sink, position", text("replica"), text("sink"), number("position"), sa.PrimaryKeyConstraint("replica", "sink"))
    anew(
        "unplaced",
        "sink, position, vehicle, boot_id",
        text("replica"),
        text("sink"),
        number("position"),
        text("vehicle"),
        sa.Column("boot_id", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("replica", "sink", "position"),
    )
    anew(
        "landed",
        "stream, seen_ms, ranges",
        text("replica"),
        sa.Column("stream", sa.LargeBinary(), nullable=False),
        number("seen_ms"),
        sa.Column("ranges", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("replica", "stream"),
    )
    anew("checkpoint", "position", text("replica"), number("position"), sa.PrimaryKeyConstraint("replica"))
    with op.batch_alter_table("replays") as table:
        table.add_column(sa.Column("replica", sa.String(), nullable=False, server_default=""))


def anew(name: str, columns: str, *parts: sa.schema.SchemaItem) -> None:
    """Make a table again with another primary key, and fill it."""
    op.rename_table(name, f"{name}_before")
    op.create_table(name, *parts)
    op.execute(f"INSERT INTO {name} (replica, {columns}) SELECT '', {columns} FROM {name}_before")
    op.drop_table(f"{name}_before")


def text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=False)


def number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)
