"""Findings go in: each counts once however often it is delivered, in whatever order, and opens a ticket where there is none yet.

Findings that come at once are taken in groups of one transaction each: a disk's sync is waited for once a group, not once a finding.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Connection, func, select, text, update

from cloud.tables import TABLES_AWAY
from cloud.tickets.journal import AGENT, Journal
from cloud.tickets.model import OPEN, FindingRow, HoldOffRow, TicketRow
from cloud.tickets.policy import Condition, Handling, Level, Span, Tier, condition_of, held_off, worth_a_line
from cloud.tickets.settings import Policy, Prognosis, duration_ms
from cloud.tickets.silences import Silences
from cloud.tickets.statements import (
    CONDITION,
    DATA_AGAIN,
    OCCURRED_AGAIN,
    OPEN_TICKET,
    RAISED,
    SETTLE_FINDING,
    clear_finding,
    raise_finding,
)
from cloud.tickets.tables import Tables, insert
from cloud.tickets.upkeep import Upkeep
from cloud.tickets.views import Contribution, Evidence, Window

if TYPE_CHECKING:
    from cloud.events import FindingEvent
    from dbc.catalogue import Catalogue

__all__ = ["Intake"]

GROUP = 256  # findings in one transaction


class _Waiting:
    """A finding whose caller waits for its ticket."""

    def __init__(self, event: "FindingEvent") -> None:
        self.event = event
        self.done = False
        self.ticket: int | None = None
        self.error: Exception | None = None


class Intake:
    """Takes findings durably. Calls may come from several threads."""

    def __init__(
        self,
        tables: Tables,
        journal: Journal,
        upkeep: Upkeep,
        silences: Silences,
        policy: Policy,
        catalogues: "Mapping[str, Catalogue | None]",
        now_ms: Callable[[], int],
    ) -> None:
        self._tables = tables
        self._journal = journal
        self._upkeep = upkeep
        self._silences = silences
        self._policy = policy
        self._catalogues = catalogues
        self._now_ms = now_ms
        self._waiting: deque[_Waiting] = deque()
        self._turn = threading.Lock()

    def consume(self, event: "FindingEvent") -> int | None:
        """Take one finding event. Returns its ticket's id; None for a repeat, for one that opens no ticket (below ticket level, held off
        after a false alarm, in a maintenance window), and for a clear whose raise has not arrived."""
        mine = _Waiting(event)
        self._waiting.append(mine)
        with self._turn:  # who gets here first works for all who wait
            while not mine.done:
                self._take([self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))])
        if mine.error is not None:
            raise mine.error
        return mine.ticket

    def consume_all(self, events: "Sequence[FindingEvent]") -> list[int | None]:
        """The same for many, in groups."""
        found: list[int | None] = []
        for start in range(0, len(events), GROUP):
            found += self._tables.write(lambda db, group=events[start : start + GROUP]: self._group(db, group))  # type: ignore[misc]
        return found

    def _take(self, group: list[_Waiting]) -> None:
        try:
            tickets = self._tables.write(lambda db: self._group(db, [one.event for one in group]))
        except Exception as error:  # noqa: BLE001 - each caller is given what its own finding met
            if len(group) > 1 and not isinstance(error, TABLES_AWAY):
                for one in group:
                    self._take([one])
                return
            for one in group:
                one.error, one.done = error, True
            return
        for one, ticket in zip(group, tickets, strict=True):
            one.ticket, one.done = ticket, True

    def _group(self, db: Connection, events: "Sequence[FindingEvent]") -> list[int | None]:
        # by key, so that replicas lock rows in the same order; the order within a key stays
        order = sorted(range(len(events)), key=lambda at: (events[at].vehicle, events[at].finding.fault_code))
        found: list[int | None] = [None] * len(events)
        touched: dict[int, str] = {}
        for at in order:
            event = events[at]
            found[at] = ticket = (self._clear if event.finding.state == "cleared" else self._raise)(db, event)
            if ticket is not None:
                touched[ticket] = event.vehicle
        for vehicle in sorted({event.vehicle for event in events}):
            if db.execute(DATA_AGAIN, {"the_vehicle": vehicle}).rowcount:  # a finding that arrives is data
                self.judge_all(db, vehicle)
        for ticket in sorted(touched):
            self.judge(db, ticket)
        for vehicle in sorted(set(touched.values())):
            self._upkeep.settle(db, vehicle)
        return found

    def _raise(self, db: Connection, event: "FindingEvent") -> int | None:
        finding = event.finding
        values = _values(event) | {"level": finding.level, "raised_ms": finding.tick_ms}
        row = db.execute(raise_finding(db.dialect.name), values).first()
        if row is None or row.counted:
            return None
        if Level(finding.level) is Level.TICKET:
            return self._attach(db, values, lambda: _evidence(event), 1 + finding.repeats, finding.tick_ms)
        if row.level == Level.TICKET:
            return None  # its confirmation came before it, and is held
        ticket: int | None = row.ticket_id
        if ticket is None:
            ticket = db.execute(OPEN_TICKET, _key(values)).scalar_one_or_none()
        if ticket is None:
            self._settle_finding(db, values, None, "level")  # the ticket that it may become a part of has the confirming message's evidence
        else:
            self._settle_finding(db, values, ticket)
        return ticket

    def _attach(self, db: Connection, values: dict[str, Any], evidence: Callable[[], bytes], occurrences: int, at_ms: int) -> int | None:
        """Give a finding to the open ticket of its fault, or open one; None when it is held."""
        row = db.execute(OCCURRED_AGAIN, _key(values) | {"the_occurrences": occurrences}).first()
        if row is None:
            tier = self._policy.tier_of(values["fault_code"])
            held = self._held(db, values, tier, at_ms)
            if held:
                self._settle_finding(db, values, None, held, evidence())
                return None
            return self.open(db, values | {"evidence": evidence()}, tier, (), occurrences)
        self._settle_finding(db, values, row.id, counted=True)
        if occurrences > 1 or worth_a_line(row.occurrences):
            self._journal.note(db, row.id, AGENT, "occurred again", f"{values['pack_id']}, {row.occurrences}x")
        return int(row.id)

    def open(self, db: Connection, values: dict[str, Any], tier: Tier, prognoses: Sequence[Prognosis], occurrences: int = 1) -> int:
        """Open a ticket by a finding. A replica may have opened it this moment: then the finding is one of its occurrences."""
        now = self._now_ms()
        vehicle, fault_code = values["vehicle"], values["fault_code"]
        since = now - duration_ms(self._policy.reopening.within)
        before = select(TicketRow.id).where(TicketRow.vehicle == vehicle, TicketRow.fault_code == fault_code, TicketRow.closed_ms >= since)
        best = max(prognoses, key=lambda one: one.probability, default=None)
        ticket = insert(
            db,
            TicketRow,
            {
                "vehicle": vehicle,
                "model": values["model"],
                "fault_code": fault_code,
                **self._words(values["model"], fault_code),
                "pack_id": values["pack_id"],
                "tier": tier,
                "probability": best.probability if best is not None else None,
                "within_ms": best.within_ms if best is not None else None,
                "condition": Condition.ACTIVE,
                "condition_ms": now,
                "turns": 0,
                "turned_ms": 0,
                "handling": Handling.NEW,
                "opened_ms": values["raised_ms"],
                "created_ms": now,
                "occurrences": occurrences,
                "reopened_from": db.execute(before.order_by(TicketRow.id.desc()).limit(1)).scalar(),
                "hidden_by": "",
                "acknowledge_ms": 0,
                "acknowledge_since_ms": now,
                "close_ms": 0,
                "close_since_ms": now,
                "said": "",
                "said_tier": Tier.UNRATED,
                "said_ms": 0,
                "evidence": values["evidence"],
            },
        )
        # The partial unique index decides whether this is a new ticket; evidence and words of an open one stay as they were.
        ticket = ticket.on_conflict_do_update(
            index_elements=["vehicle", "fault_code"], index_where=text(OPEN), set_={"occurrences": TicketRow.occurrences + occurrences}
        )
        row = db.execute(ticket.returning(TicketRow.id, TicketRow.occurrences, TicketRow.reopened_from)).one()
        self._settle_finding(db, values, row.id, counted=True)
        if row.occurrences > occurrences:
            self._journal.note(db, row.id, AGENT, "occurred again", values["pack_id"])
            return int(row.id)
        # what was seen of it and not confirmed belongs to it from now on
        seen = (
            FindingRow.vehicle == vehicle,
            FindingRow.fault_code == fault_code,
            FindingRow.held == "level",
            FindingRow.cleared_ms.is_(None),
        )
        db.execute(update(FindingRow).where(*seen).values(ticket_id=row.id, held="", evidence=None))
        again = f", again after ticket {row.reopened_from}" if row.reopened_from is not None else ""
        self._journal.note(db, row.id, AGENT, "opened", values["pack_id"] + again)
        return int(row.id)

    def release(self, db: Connection, values: dict[str, Any], now_ms: int) -> None:
        """Look again at a finding that was held and is still active, as if it were raised now."""
        ticket = self._attach(db, values, lambda: bytes(values["evidence"]), 1, now_ms)
        if ticket is not None:
            self.judge(db, ticket)
            self._upkeep.settle(db, values["vehicle"])

    def _held(self, db: Connection, values: dict[str, Any], tier: Tier, at_ms: int) -> str:
        """Why a finding opens no ticket: "hold-off" or "maintenance N"; empty: it opens one."""
        window = self._silences.maintenance(db, values, tier, at_ms)
        if window is not None:
            return f"maintenance {window}"
        return "hold-off" if self.held_off(db, values["vehicle"], values["fault_code"], tier, at_ms) else ""

    def held_off(self, db: Connection, vehicle: str, fault_code: str, tier: Tier, at_ms: int) -> bool:
        """Whether this fault was called a false alarm, and is held off at this time and tier."""
        row = db.execute(select(HoldOffRow).where(HoldOffRow.vehicle == vehicle, HoldOffRow.fault_code == fault_code)).one_or_none()
        if row is None or tier.rank > Tier(row.tier).rank:
            return False
        cleared = db.execute(select(func.max(FindingRow.cleared_ms)).where(FindingRow.ticket_id == row.ticket_id)).scalar()
        active = _raised_level(db, row.ticket_id) is not None
        return held_off(at_ms, row.verdict_ms, active, cleared, duration_ms(self._policy.hold_off.after_false_alarm))

    def _clear(self, db: Connection, event: "FindingEvent") -> int | None:
        finding = event.finding
        values = _values(event) | {"level": Level.SEEN, "cleared_ms": finding.tick_ms}
        row = db.execute(clear_finding(db.dialect.name), values).first()
        if row is None or row.ticket_id is None:
            return None
        if finding.repeats:
            more = update(TicketRow).where(TicketRow.id == row.ticket_id).values(occurrences=TicketRow.occurrences + finding.repeats)
            db.execute(more)
        return int(row.ticket_id)

    def judge_all(self, db: Connection, vehicle: str) -> None:
        """Set the condition of every open ticket of a vehicle."""
        for ticket in db.execute(select(TicketRow.id).where(TicketRow.vehicle == vehicle, text(OPEN)).order_by(TicketRow.id)).all():
            self.judge(db, ticket.id)

    def judge(self, db: Connection, ticket_id: int) -> None:
        """Set the ticket's condition from its findings and from whether its vehicle has data."""
        row = db.execute(CONDITION, {"the_ticket": ticket_id}).one()
        level = _raised_level(db, ticket_id)
        condition = condition_of([] if level is None else [Span(0, None, level)], has_data=row.since_ms is None)
        if condition == row.condition:
            return
        self._upkeep.turn(db, ticket_id, Condition(row.condition), condition, row.turns, row.turned_ms)

    @staticmethod
    def _settle_finding(
        db: Connection, values: dict[str, Any], ticket: int | None, held: str = "", evidence: bytes | None = None, counted: bool = False
    ) -> None:
        """`evidence`: what is kept with a finding that has no ticket; with one, the ticket has it, or keeps its first finding's."""
        settled = {"the_finding": values["finding_id"], "the_ticket": ticket, "the_held": held, "the_counted": counted}
        db.execute(SETTLE_FINDING, settled | {"the_evidence": evidence})

    def _words(self, model: str, fault_code: str) -> dict[str, str]:
        catalogue = self._catalogues.get(model)
        fault = catalogue.faults.get(fault_code) if catalogue is not None else None
        if fault is None:
            return {"fault_words_en": fault_code, "fault_words_zh": fault_code, "action_en": "", "action_zh": ""}
        return {
            "fault_words_en": fault.words.en,
            "fault_words_zh": fault.words.zh,
            "action_en": fault.action.en,
            "action_zh": fault.action.zh,
        }


def _raised_level(db: Connection, ticket_id: int) -> Level | None:
    """The highest level among a ticket's findings that are raised and not cleared; None: there are none."""
    for level in (Level.TICKET, Level.SEEN):
        if db.execute(RAISED, {"the_ticket": ticket_id, "the_level": level}).first() is not None:
            return level
    return None


def _key(values: dict[str, Any]) -> dict[str, Any]:
    return {"the_vehicle": values["vehicle"], "the_fault_code": values["fault_code"]}


def _values(event: "FindingEvent") -> dict[str, Any]:
    finding = event.finding
    return {
        "finding_id": finding.finding_id.hex(),
        "vehicle": event.vehicle,
        "model": event.model,
        "fault_code": _text(finding.fault_code),
        "pack_id": _text(finding.pack_id),
        "raised_ms": None,
        "cleared_ms": None,
        "score": finding.score,
        "held": "",
        "counted": False,
    }


def _text(words: str) -> str:
    """PostgreSQL has no zero byte in a text."""
    return words.replace("\x00", "\ufffd")


def _evidence(event: "FindingEvent") -> bytes:
    """JSON of `Evidence`; only made where it is kept."""
    finding = event.finding
    evidence = Evidence(
        finding_id=finding.finding_id.hex(),
        pack_id=finding.pack_id,
        since_ms=finding.since_ms,
        score=finding.score,
        threshold=finding.threshold,
        p_value=finding.p_value,
        contributions=[Contribution(c.signal, c.unit, c.expected, c.seen, c.share, c.margin) for c in finding.contributions],
        window=Window(list(finding.window.tick_ms), list(finding.window.signals), [list(one) for one in finding.window.values]),
    )
    return msgspec.json.encode(evidence)
