"""The audit trail: looking at a chain, exporting the signed heads once a day, and verifying all of it.

What a chain alone cannot show, that its end was cut off together with its head, the exported heads show: each file names the number and
hash of every head that had moved since the file before it, is signed, and names the hash of the file before it. Keep them elsewhere.
"""

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection, func, select, update

from cloud.tickets.chain import salted, unbroken
from cloud.tickets.errors import NoSuchTicket, TicketsUnusable
from cloud.tickets.model import AuditRow, HeadRow, TicketEventRow, TicketRow
from cloud.tickets.signing import AuditKey, head_bytes, load_public_keys, verified
from cloud.tickets.tables import AnyRow, Tables

__all__ = ["Audit", "Entry", "Head", "Problem", "Verified"]

OVERLAP_MS = 3_600_000  # a head may have been written a moment before the last export read them, and be seen only after it
BLOCK = 200  # tickets verified at once


class Entry(msgspec.Struct, frozen=True):
    """One entry of a ticket's chain; `entry` is the canonical JSON that `hash` is of."""

    number: int
    entry: str
    hash: str


class Head(msgspec.Struct, frozen=True):
    """The newest entry of a ticket's chain; `signature` in base64."""

    ticket_id: int
    number: int
    hash: str
    at_ms: int
    key_id: str
    signature: str


class Problem(msgspec.Struct, frozen=True):
    """Something that was done to the trail. `ticket_id` None: to an exported file."""

    ticket_id: int | None
    words: str


class Verified(msgspec.Struct, frozen=True):
    """What was looked at, and what is wrong; no problems: nothing was altered, removed, reordered or cut off."""

    tickets: int
    entries: int
    exports: int
    erased: int  # lines whose words were deleted for a person's sake; their entries hold
    problems: list[Problem]


class Audit:
    """`folder` has the key and, in `heads/`, the exports."""

    def __init__(self, tables: Tables, folder: Callable[[], Path], key: Callable[[], AuditKey], now_ms: Callable[[], int]) -> None:
        self._tables = tables
        self._folder = folder
        self._key = key
        self._now_ms = now_ms

    def chain(self, ticket_id: int) -> list[Entry]:
        """Oldest first. Raises NoSuchTicket."""
        query = select(AuditRow.__table__).where(AuditRow.ticket_id == ticket_id).order_by(AuditRow.number)
        found = self._tables.read(lambda db: [Entry(row.number, row.entry, row.hash) for row in db.execute(query)])
        if not found:
            raise NoSuchTicket(f"ticket {ticket_id}: there is no such ticket")
        return found

    def heads(self, after: int = 0, limit: int = 1000) -> list[Head]:
        """By ticket, those after a ticket's number."""
        query = select(HeadRow.__table__).where(HeadRow.ticket_id > after).order_by(HeadRow.ticket_id).limit(limit)
        return self._tables.read(lambda db: [_head(row) for row in db.execute(query)])

    def forget(self, person: str) -> int:
        """Erase a person's name, and what they wrote, from every history; the chains hold. How many lines that were."""
        mine = (TicketEventRow.actor == person) | ((TicketEventRow.action == "assigned") & (TicketEventRow.detail == person))

        def work(db: Connection) -> int:
            db.execute(update(TicketRow).where(TicketRow.assignee == person).values(assignee=None))
            return db.execute(update(TicketEventRow).where(mine).values(actor="", detail="", salt=None)).rowcount

        return self._tables.write(work)

    def export_daily(self) -> Path | None:
        """Export today's heads (UTC), once a day; None when that is done already. Raises TicketsUnusable."""
        path = self._exports() / f"{datetime.fromtimestamp(self._now_ms() / 1000, UTC):%Y-%m-%d}.json"
        return None if path.exists() else self.export(path)

    def export(self, path: Path) -> Path:
        """Write the heads that have moved since the export before, signed, to a file that must not be there. Raises TicketsUnusable."""
        before = sorted(self._exports().glob("*.json"))
        last = _read(before[-1]) if before else None
        since = last["at_ms"] - OVERLAP_MS if last is not None else 0
        key, now = self._key(), self._now_ms()
        query = select(HeadRow.ticket_id, HeadRow.number, HeadRow.hash).where(HeadRow.at_ms >= since).order_by(HeadRow.ticket_id)
        content = {
            "v": 1,
            "at_ms": now,
            "previous": hashlib.sha256(before[-1].read_bytes()).hexdigest() if before else "",
            "key": key.key_id,
            "heads": self._tables.read(lambda db: [[row.ticket_id, row.number, row.hash] for row in db.execute(query)]),
        }
        content["signature"] = base64.b64encode(key.sign(_canonical(content))).decode()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            with temporary.open("xb") as file:
                file.write(_canonical(content) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)  # unlike a rename, it never takes the place of one that is there
            temporary.unlink()
        except OSError as error:
            raise TicketsUnusable(f"{path}: the audit's heads cannot be exported: {error.strerror}") from error
        return path

    def verify(self, exports: Path | None = None, keys: Path | None = None) -> Verified:
        """Look at every ticket's chain, head, history line, evidence and state, and at the exported heads.

        `exports`: a folder of them, `keys`: a folder of public keys (*.pub) that are trusted; default, the audit's own folder. Raises
        TicketsUnusable when there is no key.
        """
        trusted = load_public_keys(keys if keys is not None else self._folder())
        problems: list[Problem] = []
        folder = exports if exports is not None else self._exports()
        promised, count = _exported(folder, trusted, problems)
        tickets = entries = erased = 0
        for block in self._blocks(promised):
            for ticket_id, found in block.items():
                tickets += 1
                entries += len(found.entries)
                erased += sum(line.salt is None for line in found.lines)
                problems += [Problem(ticket_id, words) for words in found.wrong(ticket_id, trusted, promised.get(ticket_id, ()))]
        return Verified(tickets, entries, count, erased, problems)

    def _exports(self) -> Path:
        return self._folder() / "heads"

    def _blocks(self, promised: Mapping[int, Any]) -> "Iterator[dict[int, _Found]]":
        """Everything there is of some tickets at a time, those that only an export knows too."""

        def newest(db: Connection) -> int:
            columns = (TicketRow.id, AuditRow.ticket_id, HeadRow.ticket_id)
            return max([0, *promised, *(db.execute(select(func.max(column))).scalar() or 0 for column in columns)])

        last = self._tables.read(newest)
        for start in range(1, last + 1, BLOCK):
            ids = range(start, start + BLOCK)

            def look(db: Connection, ids: range = ids) -> dict[int, _Found]:
                found: dict[int, _Found] = {one: _Found() for one in promised if one in ids}
                for row in db.execute(select(TicketRow.__table__).where(TicketRow.id.between(ids.start, ids.stop - 1))):
                    found.setdefault(row.id, _Found()).ticket = row
                for row in db.execute(select(HeadRow.__table__).where(HeadRow.ticket_id.between(ids.start, ids.stop - 1))):
                    found.setdefault(row.ticket_id, _Found()).head = row
                audit = select(AuditRow.__table__).where(AuditRow.ticket_id.between(ids.start, ids.stop - 1))
                for row in db.execute(audit.order_by(AuditRow.ticket_id, AuditRow.number)):
                    found.setdefault(row.ticket_id, _Found()).entries.append((row.number, row.entry, row.hash))
                lines = select(TicketEventRow.__table__).where(TicketEventRow.ticket_id.between(ids.start, ids.stop - 1))
                for row in db.execute(lines.order_by(TicketEventRow.ticket_id, TicketEventRow.number)):
                    found.setdefault(row.ticket_id, _Found()).lines.append(row)
                return found

            yield self._tables.read(look)


class _Found:
    """What the tables have of one ticket."""

    def __init__(self) -> None:
        self.ticket: AnyRow | None = None
        self.head: AnyRow | None = None
        self.entries: list[tuple[int, str, str]] = []
        self.lines: list[AnyRow] = []

    def wrong(self, ticket_id: int, trusted: Mapping[str, Ed25519PublicKey], promised: Any) -> list[str]:
        """What is wrong with it, in words."""
        wrong = unbroken(ticket_id, self.entries)
        hashes = {number: hash_ for number, _, hash_ in self.entries}
        newest = max(hashes, default=-1)
        if self.ticket is None:
            wrong.append("the ticket was removed")
        if self.head is None:
            wrong.append("the signed head of its chain was removed")
        else:
            signed = head_bytes(ticket_id, self.head.number, self.head.hash)
            if not verified(dict(trusted), self.head.key_id, self.head.signature, signed):
                wrong.append(f"the signature of its head is not one of a trusted key (it says {self.head.key_id})")
            if self.head.number > newest:
                wrong.append(f"cut off: the signed head is entry {self.head.number}, the last one there is {newest}")
            elif self.head.number < newest or hashes.get(self.head.number) != self.head.hash:
                wrong.append(f"the signed head (entry {self.head.number}) is not the chain's last entry ({newest})")
        for file, number, hash_ in promised:
            if number > newest:
                wrong.append(f"cut off: {file} names entry {number}, the last one there is {newest}")
            elif hashes.get(number) != hash_:
                wrong.append(f"entry {number}: {file} names another hash")
        return wrong + self._lines_wrong() + self._state_wrong()

    def _lines_wrong(self) -> list[str]:
        wrong = []
        said = {number: _parsed(text) for number, text, _ in self.entries}
        for line in self.lines:
            entry = said.get(line.number)
            if entry is None:
                wrong.append(f"history line {line.number}: it has no entry")
            elif (entry.get("action"), entry.get("at_ms")) != (line.action, line.at_ms) or not _vouched(line, entry):
                wrong.append(f"history line {line.number}: altered")
        missing = sorted(set(said) - {line.number for line in self.lines})
        return wrong + [f"history line {number}: removed" for number in missing]

    def _state_wrong(self) -> list[str]:
        if self.ticket is None or not self.entries:
            return []
        state = _parsed(self.entries[-1][1]).get("state")
        if not isinstance(state, list) or len(state) != 5:
            return []  # the entry was altered, which is said already
        kept = self.ticket.evidence
        # SQLite keeps a text in a column of bytes where somebody has put one
        evidence = hashlib.sha256(kept if isinstance(kept, bytes) else str(kept).encode()).hexdigest()
        now = [self.ticket.handling, self.ticket.verdict or "", self.ticket.tier]
        wrong = [
            f"its {name} was altered: {is_!r}, by its chain {was!r}"
            for name, is_, was in zip(_STATE, now, state, strict=False)
            if is_ != was
        ]
        return wrong + (["its evidence was altered"] if state[4] != evidence else [])


_STATE = ("handling", "verdict", "tier")


def _vouched(line: AnyRow, entry: Mapping[str, Any]) -> bool:
    """Whether who and what a history line names is what its entry was made of; an erased one names nothing."""
    if line.salt is None:
        return not line.actor and not line.detail
    return bool(entry.get("actor") == salted(line.salt, line.actor) and entry.get("detail") == salted(line.salt, line.detail))


def _exported(
    folder: Path, trusted: Mapping[str, Ed25519PublicKey], problems: list[Problem]
) -> tuple[dict[int, list[tuple[str, int, str]]], int]:
    """What the exports promise: ticket -> (file, number, hash); and how many files there are."""
    promised: dict[int, list[tuple[str, int, str]]] = {}
    previous, files = "", sorted(folder.glob("*.json"))
    for number, path in enumerate(files):
        try:
            content = _read(path)
        except TicketsUnusable as error:
            problems.append(Problem(None, str(error)))
            continue
        unsigned = {key: value for key, value in content.items() if key != "signature"}
        if not verified(dict(trusted), content["key"], base64.b64decode(content["signature"]), _canonical(unsigned)):
            problems.append(Problem(None, f"{path}: its signature is not one of a trusted key over what it says"))
            previous = hashlib.sha256(path.read_bytes()).hexdigest()
            continue
        # the first file there is may follow others that are kept elsewhere
        if number and content["previous"] != previous:
            problems.append(Problem(None, f"{path}: a file between it and {files[number - 1].name} was removed or altered"))
        previous = hashlib.sha256(path.read_bytes()).hexdigest()
        for ticket_id, entry, hash_ in content["heads"]:
            promised.setdefault(ticket_id, []).append((path.name, entry, hash_))
    return promised, len(files)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        _ = content["at_ms"], content["previous"], content["key"], content["heads"], base64.b64decode(content["signature"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TicketsUnusable(f"{path}: expected exported heads of the audit, found something else ({error})") from None
    return dict(content)


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _head(row: AnyRow) -> Head:
    return Head(row.ticket_id, row.number, row.hash, row.at_ms, row.key_id, base64.b64encode(row.signature).decode())
