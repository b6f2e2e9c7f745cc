"""Writing a ticket's history: a line that people read, and the entry of the hash chain that vouches for it."""

import hashlib
import os
from collections.abc import Callable

from sqlalchemy import Connection, select

from cloud.tickets.chain import SALT_BYTES, State, first_hash, sealed
from cloud.tickets.model import AuditRow, HeadRow, TicketEventRow, TicketRow
from cloud.tickets.signing import AuditKey, head_bytes
from cloud.tickets.tables import insert

__all__ = ["AGENT", "CLOUD", "Journal"]

AGENT = "detector"  # the actor of what findings do to a ticket
CLOUD = "cansight"  # the actor of what the rules do to it


class Journal:
    """Writes lines. `key` is called at the first line: the key is made when the queue is opened."""

    def __init__(self, key: Callable[[], AuditKey], now_ms: Callable[[], int]) -> None:
        self._key = key
        self._now_ms = now_ms

    def note(self, db: Connection, ticket_id: int, actor: str, action: str, detail: str = "") -> None:
        """Add a line to the history of a ticket that the caller's transaction has already changed."""
        # the ticket's row is locked first, here or by the caller's own change, so two replicas do not write the same number
        ticket = db.execute(
            select(TicketRow.handling, TicketRow.verdict, TicketRow.tier, TicketRow.assignee, TicketRow.evidence)
            .where(TicketRow.id == ticket_id)
            .with_for_update()
        ).one()
        head = db.execute(select(HeadRow.number, HeadRow.hash).where(HeadRow.ticket_id == ticket_id)).one_or_none()
        number, previous = (head.number + 1, head.hash) if head is not None else (0, first_hash(ticket_id))
        state = State(
            ticket.handling, ticket.verdict or "", ticket.tier, ticket.assignee or "", hashlib.sha256(ticket.evidence).hexdigest()
        )
        at_ms, salt = self._now_ms(), os.urandom(SALT_BYTES)
        entry = sealed(ticket_id, number, previous, at_ms, action, actor, detail, salt, state)
        line = {"ticket_id": ticket_id, "number": number, "at_ms": at_ms, "actor": actor, "action": action, "detail": detail, "salt": salt}
        db.execute(insert(db, TicketEventRow, line))
        db.execute(insert(db, AuditRow, {"ticket_id": ticket_id, "number": number, "entry": entry.text, "hash": entry.hash}))
        key = self._key()
        signed = {
            "number": number,
            "hash": entry.hash,
            "at_ms": at_ms,
            "key_id": key.key_id,
            "signature": key.sign(head_bytes(ticket_id, number, entry.hash)),
        }
        added = insert(db, HeadRow, {"ticket_id": ticket_id, **signed})
        db.execute(added.on_conflict_do_update(index_elements=["ticket_id"], set_=signed))
