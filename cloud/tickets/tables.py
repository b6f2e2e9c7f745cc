"""The ticket queue's tables, opened; the errors of opening them are the queue's own."""

from cloud.tables import AnyRow, Insertion, insert
from cloud.tables import Tables as AnyTables
from cloud.tickets.errors import TicketsUnusable

__all__ = ["AnyRow", "Insertion", "Tables", "insert"]


class Tables(AnyTables):
    """As `cloud.tables.Tables`. Raises TicketsUnusable where they cannot be opened."""

    def __init__(self, database_url: str) -> None:
        super().__init__(database_url, "the ticket queue", TicketsUnusable)
