"""Prognoses give tickets their tiers: a calibrated probability of a breakdown may raise one, or take a colour away again."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select, text, update

from cloud.tickets.intake import Intake
from cloud.tickets.journal import CLOUD, Journal
from cloud.tickets.model import OPEN, FindingRow, TicketRow
from cloud.tickets.policy import Level, Tier
from cloud.tickets.settings import Policy, Prognosis
from cloud.tickets.tables import Tables
from cloud.tickets.upkeep import Upkeep

__all__ = ["Rating"]


class Rating:
    """Whoever makes prognoses calls `rate`."""

    def __init__(self, tables: Tables, journal: Journal, intake: Intake, upkeep: Upkeep, policy: Policy) -> None:
        self._tables = tables
        self._journal = journal
        self._intake = intake
        self._upkeep = upkeep
        self._policy = policy

    def rate(self, vehicle: str, fault_code: str, prognoses: Sequence[Prognosis]) -> int | None:
        """Judge the open ticket of this fault by its newest prognoses; its id.

        Without an open ticket: a finding that is held off and still active opens one if the tier is higher than the one at which it was
        called a false alarm. None: there is nothing to judge.
        """
        tier = self._policy.tier_of(fault_code, tuple(prognoses))
        calibrated = [one for one in prognoses if one.calibrated]
        best = max(calibrated, key=lambda one: one.probability, default=None)

        def work(db: Connection) -> int | None:
            mine = (TicketRow.vehicle == vehicle, TicketRow.fault_code == fault_code, text(OPEN))
            row = db.execute(select(TicketRow.id, TicketRow.tier).where(*mine).with_for_update()).one_or_none()
            if row is None:
                return self._open(db, vehicle, fault_code, tier, calibrated)
            values: dict[str, Any] = {"tier": tier, "probability": None, "within_ms": None}
            if best is not None:
                values |= {"probability": best.probability, "within_ms": best.within_ms}
            db.execute(update(TicketRow).where(TicketRow.id == row.id).values(values))
            if tier != row.tier:
                self._journal.note(db, row.id, CLOUD, f"tier {tier}", _words(best))
                self._upkeep.settle(db, vehicle)
            return int(row.id)

        return self._tables.write(work)

    def _open(self, db: Connection, vehicle: str, fault_code: str, tier: Tier, prognoses: Sequence[Prognosis]) -> int | None:
        held = (FindingRow.vehicle == vehicle, FindingRow.fault_code == fault_code, FindingRow.held == "hold-off")
        active = (FindingRow.level == Level.TICKET, FindingRow.raised_ms.is_not(None), FindingRow.cleared_ms.is_(None))
        newest = select(FindingRow.__table__).where(*held, *active).order_by(FindingRow.raised_ms.desc()).limit(1)
        finding = db.execute(newest).one_or_none()
        if finding is None or self._intake.held_off(db, vehicle, fault_code, tier, finding.raised_ms):
            return None
        ticket = self._intake.open(db, dict(finding._mapping), tier, prognoses)
        self._upkeep.settle(db, vehicle)
        return ticket


def _words(best: Prognosis | None) -> str:
    if best is None:
        return "no calibrated prognosis"
    return f"{best.probability:.0%} within {best.within_ms / 3_600_000:g} h, {best.source}"
