"""The ticket queue: findings go in, tickets come out, people work them to their end.

`TicketService` puts the parts together. Each part is a noun with methods of its own: `queue` (look), `desk` (handle), `silences`, `outbox`
(what is told, budgets), `webhooks`, `filters`, `audit`, `rating` (prognoses), `watch` (what time brings about). All methods block and may
be called from several threads, and from several processes on one database.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cloud.tickets.audit import Audit
from cloud.tickets.errors import TicketsUnusable
from cloud.tickets.filters import Filters
from cloud.tickets.handling import Desk
from cloud.tickets.intake import Intake
from cloud.tickets.journal import Journal
from cloud.tickets.outbox import Outbox
from cloud.tickets.policy import Handling, Verdict
from cloud.tickets.queue import Queue
from cloud.tickets.rating import Rating
from cloud.tickets.settings import Policy, load_policy
from cloud.tickets.signing import AuditKey
from cloud.tickets.silences import Silences
from cloud.tickets.tables import Tables
from cloud.tickets.upkeep import Upkeep
from cloud.tickets.views import Contribution, Evidence, HistoryLine, Ticket, TicketFilter, Window
from cloud.tickets.watch import Watch
from cloud.tickets.webhooks import Webhooks

if TYPE_CHECKING:
    from cloud.events import FindingEvent
    from dbc.catalogue import Catalogue

__all__ = ["Contribution", "Evidence", "HistoryLine", "Ticket", "TicketService", "Window"]


class TicketService:
    """Tickets in the tables at `database_url` ("sqlite:////absolute/path", "postgresql+psycopg://..."). Opened and closed by `with`, or
    `open` and `close`.

    `catalogues` (by vehicle model) give a new ticket its words; a fault code they do not have is its own words. `now_ms` is the wall clock
    that everything but the vehicles' own times goes by. `policy`: default, the shipped one. `audit_folder`: where the audit's key and the
    exported heads are; default, the folder "audit" beside SQLite's file.
    """

    def __init__(
        self,
        database_url: str,
        catalogues: "Mapping[str, Catalogue | None] | None" = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        policy: Policy | None = None,
        audit_folder: Path | None = None,
    ) -> None:
        self._now_ms = now_ms
        self._audit_folder = audit_folder
        self._key: AuditKey | None = None
        self.policy = policy if policy is not None else load_policy()
        self.tables = tables = Tables(database_url)
        journal = Journal(self._signing_key, now_ms)
        self.outbox = Outbox(tables, self.policy, now_ms)
        self.upkeep = Upkeep(tables, journal, self.outbox, self.policy, now_ms)
        self.silences = Silences(tables, self.upkeep, self.policy, now_ms)
        self.desk = Desk(tables, journal, self.upkeep, self.outbox, self.policy, now_ms)
        self.queue = Queue(tables, self.policy, now_ms)
        self.filters = Filters(tables)
        self.webhooks = Webhooks(tables, self.policy, now_ms)
        self.audit = Audit(tables, lambda: self.audit_folder, self._signing_key, now_ms)
        self.intake = Intake(tables, journal, self.upkeep, self.silences, self.policy, catalogues or {}, now_ms)
        self.rating = Rating(tables, journal, self.intake, self.upkeep, self.policy)
        self.watch = Watch(tables, self.intake, self.upkeep, self.silences, self.outbox, self.audit, self.policy, now_ms)

    def open(self) -> None:
        """Open the database and make the tables where they are missing. Raises TicketsUnusable."""
        folder = self.audit_folder
        self.tables.open()
        try:
            self._key = AuditKey.load_or_make(folder)
        except TicketsUnusable:
            self.tables.close()
            raise

    def close(self) -> None:
        """Close every connection. Closing twice does nothing."""
        self.tables.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def audit_folder(self) -> Path:
        """Raises TicketsUnusable where none was given and the database has no folder."""
        if self._audit_folder is not None:
            return self._audit_folder
        folder = self.tables.folder
        if folder is None:
            raise TicketsUnusable("tickets: expected a folder for the audit's key: a database that is no file has none of its own")
        return folder / "audit"

    def _signing_key(self) -> AuditKey:
        if self._key is None:
            raise TicketsUnusable("the ticket queue is not open")
        return self._key

    # the calls that everybody needs

    def consume(self, event: "FindingEvent") -> int | None:
        """`intake.consume`."""
        return self.intake.consume(event)

    def consume_all(self, events: "Sequence[FindingEvent]") -> list[int | None]:
        """`intake.consume_all`."""
        return self.intake.consume_all(events)

    def tickets(self, vehicle: str | None = None, handling: Handling | None = None) -> list[Ticket]:
        """The newest tickets, without evidence; `queue.page` has more."""
        return self.queue.page(TicketFilter(vehicle=vehicle, handling=handling), limit=500).tickets

    def ticket(self, ticket_id: int) -> Ticket | None:
        """`queue.ticket`."""
        return self.queue.ticket(ticket_id)

    def open_counts(self) -> dict[str, int]:
        """`queue.open_counts`."""
        return self.queue.open_counts()

    def handle(self, ticket_id: int, handling: Handling, actor: str, verdict: Verdict | None = None, detail: str = "") -> None:
        """`desk.move`."""
        self.desk.move(ticket_id, handling, actor, verdict, detail)
