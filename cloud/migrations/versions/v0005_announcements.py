"""Announcements that nothing needs any more are forgotten: how far back each replica's messages reach, and an index of those there are."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

KEPT = sa.text("length(announcement) > 0")


def upgrade() -> None:
    with op.batch_alter_table("checkpoint") as table:
        table.add_column(sa.Column("oldest_ms", sa.BigInteger(), nullable=True))
    op.create_index("announcements_by_time", "streams", ["received_ms"], sqlite_where=KEPT, postgresql_where=KEPT)
