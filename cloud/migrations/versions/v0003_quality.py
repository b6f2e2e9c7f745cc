"""Data quality by vehicle and day. What landed before is counted where the landing log still has it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    sums = [sa.Column(name, sa.Integer(), nullable=False) for name in ("seen", "missing", "recorded", "failed")]
    op.create_table(
        "quality_days",
        sa.Column("vehicle", sa.String(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("replica", sa.String(), nullable=False),
        *sums,
        sa.Column("written_ms", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("vehicle", "day", "replica"),
    )
