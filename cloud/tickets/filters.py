"""Saved filters of the queue, by who saved them."""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, select

from cloud.tickets.errors import NoSuchTicket, TicketError
from cloud.tickets.model import FilterRow
from cloud.tickets.tables import Tables, insert
from cloud.tickets.views import SavedFilter

__all__ = ["Filters"]

MOST = 100  # of one person
MOST_NAME, MOST_QUERY = 80, 4000


class Filters:
    """A filter is the list's parameters, as the API takes them, under a name."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def list(self, owner: str) -> list[SavedFilter]:
        """By name."""
        query = select(FilterRow.__table__).where(FilterRow.owner == owner).order_by(FilterRow.name)
        return self._tables.read(lambda db: [SavedFilter(row.id, row.owner, row.name, json.loads(row.query)) for row in db.execute(query)])

    def save(self, owner: str, name: str, query: Mapping[str, Any]) -> SavedFilter:
        """Save under a name; one that is there is replaced. Raises TicketError."""
        text = json.dumps(dict(query), ensure_ascii=False, sort_keys=True)
        if not name.strip() or len(name) > MOST_NAME:
            raise TicketError(f"name: expected 1 to {MOST_NAME} characters, found {len(name.strip())}")
        if len(text) > MOST_QUERY:
            raise TicketError(f"query: expected at most {MOST_QUERY} characters, found {len(text)}")
        if len(others := [one for one in self.list(owner) if one.name != name]) >= MOST:
            raise TicketError(f"filters: expected at most {MOST}, found {len(others)}; delete one first")

        def work(db: Any) -> int:
            row = insert(db, FilterRow, {"owner": owner, "name": name, "query": text})
            row = row.on_conflict_do_update(index_elements=["owner", "name"], set_={"query": text})
            return int(db.execute(row.returning(FilterRow.id)).scalar_one())

        return SavedFilter(self._tables.write(work), owner, name, dict(query))

    def delete(self, owner: str, number: int) -> None:
        """Raises NoSuchTicket when this owner has none of that number."""
        gone = delete(FilterRow).where(FilterRow.id == number, FilterRow.owner == owner)
        if not self._tables.write(lambda db: db.execute(gone).rowcount):
            raise NoSuchTicket(f"filter {number}: there is no such filter")
