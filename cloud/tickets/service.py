"""The ticket queue: findings go in, tickets come out.

Consuming is idempotent and independent of order: a finding counts once however often it is delivered, and a clear that overtakes its
raise is kept until the raise arrives. All methods block and may be called from several threads, and from several processes on one database.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec
from sqlalchemy import Connection, Engine, Row, create_engine, event, func, make_url, select, text, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import ArgumentError, DatabaseError
from sqlalchemy.schema import CreateIndex, CreateTable

from cloud.database import make_private
from cloud.tickets.errors import TicketError, TicketsUnusable
from cloud.tickets.model import OPEN, Base, FindingRow, TicketEventRow, TicketRow
from cloud.tickets.policy import TIER_UNRATED, Condition, Handling, Span, Verdict, condition_of, may_move

if TYPE_CHECKING:
    from cloud.events import FindingEvent
    from dbc.catalogue import Catalogue

__all__ = ["Contribution", "Evidence", "HistoryLine", "Ticket", "TicketService", "Window"]

LOCK_WAIT_S = 30.0  # writers queue for SQLite's one write lock; each transaction here takes milliseconds
AGENT = "detector"  # the actor of what findings do to a ticket


class Contribution(msgspec.Struct, frozen=True):
    """A signal's part in a finding. `share` 0..1 of the score; None = the detector has no such value.

    `margin`: how far healthy drives are from `expected` at this operating point.
    """

    signal: str
    unit: str
    expected: float | None
    seen: float | None
    share: float
    margin: float | None = None


class Window(msgspec.Struct, frozen=True):
    """The ticks around the raise. `values[i][k]` belongs to `signals[i]` at `tick_ms[k]` (UTC); None = no valid value."""

    tick_ms: list[int]
    signals: list[str]
    values: list[list[float | None]]


class Evidence(msgspec.Struct, frozen=True):
    """Why a ticket opened, frozen at that moment."""

    finding_id: str
    pack_id: str
    since_ms: int
    score: float
    threshold: float
    p_value: float | None
    contributions: list[Contribution]
    window: Window


class HistoryLine(msgspec.Struct, frozen=True):
    """Something that happened to a ticket; `at_ms` is the cloud's wall clock."""

    at_ms: int
    actor: str
    action: str
    detail: str


class Ticket(msgspec.Struct, frozen=True):
    """A ticket as the API gives it. `evidence` and `history` are None in lists."""

    id: int
    vehicle: str
    model: str
    fault_code: str
    fault_words: Mapping[str, str]  # language -> words
    action: Mapping[str, str]
    tier: str
    condition: Condition
    handling: Handling
    verdict: Verdict | None
    opened_ms: int
    occurrences: int
    evidence: Evidence | None = None
    history: list[HistoryLine] | None = None


class TicketService:
    """Tickets in the tables at `database_url` ("sqlite:////absolute/path"). Opened and closed by `with`, or `open` and `close`.

    `catalogues` (by vehicle model) give a new ticket its words; a fault code they do not have is its own words.
    `now_ms` is the wall clock that the history is written by.
    """

    def __init__(
        self,
        database_url: str,
        catalogues: Mapping[str, "Catalogue | None"] | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._url = database_url
        self._catalogues = catalogues or {}
        self._now_ms = now_ms
        self._engine: Engine | None = None

    def open(self) -> None:
        """Open the database and make the tables where they are missing. Raises TicketsUnusable."""
        try:
            url = make_url(self._url)
        except ArgumentError:
            raise TicketsUnusable(f"tickets: expected a database address such as sqlite:////var/lib/x.db, found {self._url!r}") from None
        # A database in memory would be another one in each thread.
        if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
            raise TicketsUnusable(f"tickets: expected sqlite:// and a file's path, found {url.render_as_string()}")
        try:
            # Evidence tells where and how somebody drove: the file is its owner's alone. SQLite gives its -wal and -shm the same mode.
            make_private(Path(url.database))
        except OSError as error:
            raise TicketsUnusable(f"{url.database}: the ticket queue cannot be opened: {error.strerror}") from error
        with ExitStack() as undo:
            engine = create_engine(url, connect_args={"timeout": LOCK_WAIT_S})
            undo.callback(engine.dispose)
            event.listen(engine, "connect", _set_pragmas)
            try:
                with engine.begin() as db:
                    # not create_all(): it looks before it creates, and another process may be opening the same file
                    for table in Base.metadata.sorted_tables:
                        db.execute(CreateTable(table, if_not_exists=True))
                        for index in table.indexes:
                            db.execute(CreateIndex(index, if_not_exists=True))
            except DatabaseError as error:
                raise TicketsUnusable(f"{url.database}: the ticket queue cannot be opened: {error.orig}") from error
            undo.pop_all()
        self._engine = engine

    def close(self) -> None:
        """Close every connection. Closing twice does nothing."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def consume(self, event: "FindingEvent") -> int | None:
        """Take one finding event durably. Returns its ticket's id; None for a repeat, and for a clear whose raise has not arrived."""
        # Every path writes before it reads, so SQLite's write lock is held from the first statement and no snapshot can be outdated.
        with self._db.begin() as db:
            if event.finding.state == "cleared":
                return self._clear(db, event)
            return self._raise(db, event)

    def _raise(self, db: Connection, event: "FindingEvent") -> int | None:
        finding = event.finding
        finding_id = finding.finding_id.hex()
        entry = insert(FindingRow).values(
            finding_id=finding_id, vehicle=event.vehicle, fault_code=finding.fault_code, pack_id=finding.pack_id, raised_ms=finding.tick_ms
        )
        entry = entry.on_conflict_do_update(
            index_elements=["finding_id"], set_={"raised_ms": entry.excluded.raised_ms}, where=FindingRow.raised_ms.is_(None)
        )
        if db.execute(entry.returning(FindingRow.finding_id)).first() is None:
            return None
        ticket = insert(TicketRow).values(
            vehicle=event.vehicle,
            model=event.model,
            fault_code=finding.fault_code,
            **self._words(event.model, finding.fault_code),
            tier=TIER_UNRATED,
            condition=Condition.ACTIVE,
            handling=Handling.NEW,
            opened_ms=finding.tick_ms,
            occurrences=1,
            evidence=msgspec.json.encode(_evidence(event)),
        )
        # The partial unique index decides whether this is a new ticket; evidence and words of an open one stay as they were.
        ticket = ticket.on_conflict_do_update(
            index_elements=["vehicle", "fault_code"], index_where=text(OPEN), set_={"occurrences": TicketRow.occurrences + 1}
        )
        row = db.execute(ticket.returning(TicketRow.id, TicketRow.occurrences)).one()
        db.execute(update(FindingRow).where(FindingRow.finding_id == finding_id).values(ticket_id=row.id))
        self._note(db, row.id, AGENT, "opened" if row.occurrences == 1 else "occurred again", finding.pack_id)
        self._judge(db, row.id)
        return int(row.id)

    def _clear(self, db: Connection, event: "FindingEvent") -> int | None:
        finding = event.finding
        entry = insert(FindingRow).values(
            finding_id=finding.finding_id.hex(),
            vehicle=event.vehicle,
            fault_code=finding.fault_code,
            pack_id=finding.pack_id,
            cleared_ms=finding.tick_ms,
        )
        entry = entry.on_conflict_do_update(
            index_elements=["finding_id"], set_={"cleared_ms": entry.excluded.cleared_ms}, where=FindingRow.cleared_ms.is_(None)
        )
        row = db.execute(entry.returning(FindingRow.ticket_id)).first()
        if row is None or row.ticket_id is None:
            return None
        self._judge(db, row.ticket_id)
        return int(row.ticket_id)

    def _judge(self, db: Connection, ticket_id: int) -> None:
        """Set the ticket's condition from its findings."""
        rows = db.execute(select(FindingRow.raised_ms, FindingRow.cleared_ms).where(FindingRow.ticket_id == ticket_id))
        condition = condition_of(Span(row.raised_ms, row.cleared_ms) for row in rows)
        changed = update(TicketRow).where(TicketRow.id == ticket_id, TicketRow.condition != condition).values(condition=condition)
        if db.execute(changed).rowcount:
            self._note(db, ticket_id, AGENT, condition, "")

    def _note(self, db: Connection, ticket_id: int, actor: str, action: str, detail: str) -> None:
        line = {"ticket_id": ticket_id, "at_ms": self._now_ms(), "actor": actor, "action": action, "detail": detail}
        db.execute(insert(TicketEventRow).values(line))

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

    def handle(self, ticket_id: int, handling: Handling, actor: str, verdict: Verdict | None = None) -> None:
        """Move a ticket's handling as a person asked. Raises TicketError when it is not there or may not move so."""
        with self._db.begin() as db:
            now = db.execute(select(TicketRow.handling).where(TicketRow.id == ticket_id)).scalar_one_or_none()
            if now is None:
                raise TicketError(f"ticket {ticket_id}: there is no such ticket")
            if not may_move(Handling(now), handling):
                raise TicketError(f"ticket {ticket_id}: cannot go from {now!r} to {handling.value!r}")
            # compare and set: somebody else may have moved it since the select
            move = update(TicketRow).where(TicketRow.id == ticket_id, TicketRow.handling == now)
            if not db.execute(move.values(handling=handling, verdict=verdict)).rowcount:
                raise TicketError(f"ticket {ticket_id}: somebody else moved it just now; look again")
            self._note(db, ticket_id, actor, handling, verdict or "")

    def tickets(self, vehicle: str | None = None, handling: Handling | None = None) -> list[Ticket]:
        """Tickets without evidence, newest first."""
        query = select(*_LISTED).order_by(TicketRow.id.desc())
        if vehicle is not None:
            query = query.where(TicketRow.vehicle == vehicle)
        if handling is not None:
            query = query.where(TicketRow.handling == handling)
        with self._db.connect() as db:
            return [_ticket(row) for row in db.execute(query)]

    def ticket(self, ticket_id: int) -> Ticket | None:
        """One ticket with its evidence and history, oldest line first; None when there is none."""
        lines = select(TicketEventRow.at_ms, TicketEventRow.actor, TicketEventRow.action, TicketEventRow.detail)
        with self._db.connect() as db:
            row = db.execute(select(*_LISTED, TicketRow.evidence).where(TicketRow.id == ticket_id)).one_or_none()
            if row is None:
                return None
            history = db.execute(lines.where(TicketEventRow.ticket_id == ticket_id).order_by(TicketEventRow.id))
            return msgspec.structs.replace(
                _ticket(row),
                evidence=msgspec.json.decode(row.evidence, type=Evidence),
                history=[HistoryLine(line.at_ms, line.actor, line.action, line.detail) for line in history],
            )

    def open_counts(self) -> dict[str, int]:
        """How many open tickets each vehicle has; vehicles without one are left out."""
        query = select(TicketRow.vehicle, func.count()).where(text(OPEN)).group_by(TicketRow.vehicle)
        with self._db.connect() as db:
            return {row[0]: row[1] for row in db.execute(query)}

    @property
    def _db(self) -> Engine:
        if self._engine is None:
            raise TicketsUnusable("the ticket queue is not open")
        return self._engine


_LISTED = (
    TicketRow.id,
    TicketRow.vehicle,
    TicketRow.model,
    TicketRow.fault_code,
    TicketRow.fault_words_en,
    TicketRow.fault_words_zh,
    TicketRow.action_en,
    TicketRow.action_zh,
    TicketRow.tier,
    TicketRow.condition,
    TicketRow.handling,
    TicketRow.verdict,
    TicketRow.opened_ms,
    TicketRow.occurrences,
)


def _ticket(row: Row[*tuple[Any, ...]]) -> Ticket:
    return Ticket(
        id=row.id,
        vehicle=row.vehicle,
        model=row.model,
        fault_code=row.fault_code,
        fault_words={"en": row.fault_words_en, "zh": row.fault_words_zh},
        action={"en": row.action_en, "zh": row.action_zh},
        tier=row.tier,
        condition=Condition(row.condition),
        handling=Handling(row.handling),
        verdict=Verdict(row.verdict) if row.verdict is not None else None,
        opened_ms=row.opened_ms,
        occurrences=row.occurrences,
    )


def _evidence(event: "FindingEvent") -> Evidence:
    finding = event.finding
    return Evidence(
        finding_id=finding.finding_id.hex(),
        pack_id=finding.pack_id,
        since_ms=finding.since_ms,
        score=finding.score,
        threshold=finding.threshold,
        p_value=finding.p_value,
        contributions=[Contribution(c.signal, c.unit, c.expected, c.seen, c.share, c.margin) for c in finding.contributions],
        window=Window(list(finding.window.tick_ms), list(finding.window.signals), [list(one) for one in finding.window.values]),
    )


def _set_pragmas(connection: Any, _record: object) -> None:
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")
