"""One row for each vehicle and day, whatever replicas counted it: of each alone, every second batch was missing."""

from collections.abc import Iterable
from itertools import chain

import sqlalchemy as sa
from alembic import op

from cloud.quality.day import Day, Run, closed, dump, load
from cloud.quality.figures import figures

revision = "0004"
down_revision = "0003"

DAY_MS = 86_400_000
SUMS = ("seen", "missing", "recorded", "failed")


def upgrade() -> None:
    op.rename_table("quality_days", "quality_days_before")
    days = op.create_table(
        "quality_days",
        sa.Column("vehicle", sa.String(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in SUMS),
        sa.Column("written_ms", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("vehicle", "day"),
    )
    names = [column.name for column in days.columns]
    before = sa.table("quality_days_before", *(sa.column(name, days.c[name].type) for name in names))
    of_one = sa.select(before.c.vehicle, before.c.day).group_by(before.c.vehicle, before.c.day)
    db = op.get_bind()
    for vehicle, day in db.execute(of_one.having(sa.func.count() > 1)).all():
        parts = db.execute(sa.select(before).where(before.c.vehicle == vehicle, before.c.day == day)).all()
        whole, written_ms = joined([load(part.state) for part in parts]), max(part.written_ms for part in parts)
        told = figures(whole, day * DAY_MS, over=written_ms > (day + 2) * DAY_MS)
        sums = {name: getattr(told, name) for name in SUMS}
        db.execute(sa.insert(days).values(vehicle=vehicle, day=day, written_ms=written_ms, state=dump(whole), **sums))
    there = sa.select(days.c.day).where(days.c.vehicle == before.c.vehicle, days.c.day == before.c.day).exists()
    db.execute(sa.insert(days).from_select(names, sa.select(*(before.c[name] for name in names)).where(~there)))
    op.drop_table("quality_days_before")
    op.create_index("quality_by_day", "quality_days", ["day", "vehicle", *SUMS])


def joined(parts: Iterable[Day]) -> Day:
    """Each batch was counted by one of them."""
    whole = Day()
    for day in parts:
        whole.ticks = bytearray(a | b for a, b in zip(whole.ticks, day.ticks, strict=True))
        for stream, runs in day.streams.items():
            whole.streams[stream] = closed(sorted(chain(whole.streams.get(stream, []), runs), key=_first))
        for stream, sequences in day.others.items():
            whole.others[stream] = sorted({*whole.others.get(stream, []), *sequences})
        for name in ("batches", "late", "values", "valid", "backlog"):
            setattr(whole, name, getattr(whole, name) + getattr(day, name))
        for at, ticks in day.delays.items():
            whole.delays[at] = whole.delays.get(at, 0) + ticks
        whole.ahead_ms = max((one for one in (whole.ahead_ms, day.ahead_ms) if one is not None), default=None)
        whole.states = sorted({*whole.states, *day.states})
        whole.dropped = sorted({*whole.dropped, *day.dropped})
        for signal, (ticks, off) in day.twins.items():
            before = whole.twins.get(signal, [0, 0])
            whole.twins[signal] = [before[0] + ticks, before[1] + off]
    return whole


def _first(run: Run) -> int:
    return run.first
