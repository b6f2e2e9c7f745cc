"""What only time brings about, looked at once a minute or so: vehicles whose data have stopped, findings that were held and still are
active when what held them ends, hidden tickets that are to be shown, recoveries that have lasted, room in a budget, the daily export.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select, text, update

from cloud.tickets.audit import Audit
from cloud.tickets.intake import Intake
from cloud.tickets.model import HELD, OPEN, FindingRow, SilentVehicleRow, TicketRow
from cloud.tickets.outbox import Outbox
from cloud.tickets.policy import Level
from cloud.tickets.settings import Policy, duration_ms
from cloud.tickets.silences import Silences
from cloud.tickets.tables import Tables, insert
from cloud.tickets.upkeep import Upkeep

__all__ = ["Heard", "Watch", "silent"]


@dataclass(frozen=True, slots=True)
class Heard:
    """When a vehicle was heard last (UTC ms of the cloud's clock), and whether it said that it goes to sleep."""

    at_ms: int
    asleep: bool = False


def silent(heard: Heard, watching_since_ms: int, now_ms: int, after_ms: int, after_asleep_ms: int) -> bool:
    """Whether a vehicle's data have stopped: pure. Time in which nobody here was listening does not count."""
    last = max(heard.at_ms, watching_since_ms)
    return now_ms - last >= (after_asleep_ms if heard.asleep else after_ms)


class Watch:
    """`pulse` is safe to be called by every replica, as often as one likes."""

    def __init__(
        self,
        tables: Tables,
        intake: Intake,
        upkeep: Upkeep,
        silences: Silences,
        outbox: Outbox,
        audit: Audit,
        policy: Policy,
        now_ms: Callable[[], int],
    ) -> None:
        self._tables = tables
        self._intake = intake
        self._upkeep = upkeep
        self._silences = silences
        self._outbox = outbox
        self._audit = audit
        self._policy = policy
        self._now_ms = now_ms
        self._since_ms: int | None = None

    def pulse(self, heard: Mapping[str, Heard] | None = None) -> None:
        """Look at everything. `heard`: by vehicle; of a vehicle that is not in it nothing is known, so nothing changes."""
        if self._since_ms is None:
            self._since_ms = self._now_ms()
        if heard is not None:
            self._tables.write(lambda db: self._data(db, heard))
        self._tables.write(self._release)
        self._upkeep.settle_all()
        self._tables.write(self._outbox.room)
        self._audit.export_daily()

    def _data(self, db: Connection, heard: Mapping[str, Heard]) -> None:
        """Whose data have stopped, and whose have come back."""
        rules, now = self._policy.no_data, self._now_ms()
        limits = duration_ms(rules.after), duration_ms(rules.after_asleep)
        known = set(db.execute(select(SilentVehicleRow.vehicle)).scalars())
        for vehicle in self._vehicles(db):
            if vehicle not in heard:
                continue
            gone = silent(heard[vehicle], self._since_ms or now, now, *limits)
            if gone == (vehicle in known):
                continue
            if gone:
                row = insert(db, SilentVehicleRow, {"vehicle": vehicle, "since_ms": now})
                db.execute(row.on_conflict_do_nothing())
            else:
                db.execute(delete(SilentVehicleRow).where(SilentVehicleRow.vehicle == vehicle))
            self._intake.judge_all(db, vehicle)

    def _release(self, db: Connection) -> None:
        """Findings whose hold-off or maintenance window is over and that are still active open their tickets now."""
        now = self._now_ms()
        # in the partial index's own words, and as ranges: else SQLite looks at every finding that ever was
        why = (FindingRow.held < "level") | (FindingRow.held > "level")
        held = (text(HELD), why, FindingRow.held.not_like("%, over"), FindingRow.level == Level.TICKET)
        for row in db.execute(select(FindingRow.__table__).where(*held).order_by(FindingRow.raised_ms)).all():
            if row.cleared_ms is not None:
                # it came and went: kept, and not looked at again
                db.execute(
                    update(FindingRow).where(FindingRow.finding_id == row.finding_id).values(held=f"{row.held}, over", evidence=None)
                )
                continue
            values: dict[str, Any] = dict(row._mapping)
            self._intake.release(db, values, now)

    @staticmethod
    def _vehicles(db: Connection) -> list[str]:
        return list(db.execute(select(TicketRow.vehicle).where(text(OPEN)).distinct().order_by(TicketRow.vehicle)).scalars())
