"""A ticket's hash chain: pure. Each entry is canonical JSON that names the hash of the one before it.

Canonical: keys sorted, no blanks, only texts, whole numbers and lists of them, so it is also RFC 8785's form. What names a person or was
written by one is in an entry only as SHA-256 of a salt of its own and the text: the salt is kept beside the text and goes with it when a
person is forgotten, and the chain still holds.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Entry", "State", "entry_hash", "first_hash", "salted", "sealed", "unbroken"]

VERSION = 1
SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class State:
    """What a ticket was after an entry."""

    handling: str
    verdict: str
    tier: str
    assignee: str  # salted, like every name
    evidence: str  # SHA-256 of the frozen evidence


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as it is kept: its canonical JSON and the hash of it."""

    text: str
    hash: str


def first_hash(ticket_id: int) -> str:
    """What the first entry names as its predecessor: a ticket's entries cannot be put under another ticket."""
    return hashlib.sha256(f"cansight ticket {ticket_id}".encode()).hexdigest()


def salted(salt: bytes, text: str) -> str:
    """A text that only who has its salt can recognise."""
    return hashlib.sha256(salt + text.encode()).hexdigest()


def entry_hash(text: str) -> str:
    """SHA-256 of an entry's canonical JSON, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(
    ticket_id: int, number: int, previous: str, at_ms: int, action: str, actor: str, detail: str, salt: bytes, state: State
) -> Entry:
    """The entry after the one whose hash is `previous`."""
    text = json.dumps(
        {
            "action": action,
            "actor": salted(salt, actor),
            "at_ms": at_ms,
            "detail": salted(salt, detail),
            "number": number,
            "previous": previous,
            "state": [state.handling, state.verdict, state.tier, salted(salt, state.assignee) if state.assignee else "", state.evidence],
            "ticket": ticket_id,
            "v": VERSION,
        },
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    return Entry(text, entry_hash(text))


def unbroken(ticket_id: int, entries: Sequence[tuple[int, str, str]]) -> list[str]:
    """What is wrong with a chain of (number, text, hash), in the order of its numbers: each line names the entry."""
    wrong = []
    previous, expected = first_hash(ticket_id), 0
    for number, text, kept in entries:
        if number != expected:
            wrong.append(f"entry {expected}: removed" if number == expected + 1 else f"entries {expected} to {number - 1}: removed")
        try:
            said = json.loads(text)
            says = (said["ticket"], said["number"], said["previous"])
        except (ValueError, KeyError, TypeError):
            wrong.append(f"entry {number}: altered: it is no entry")
            says = None
        if entry_hash(text) != kept:
            wrong.append(f"entry {number}: altered: its hash is another one")
        elif says is not None and says[:2] != (ticket_id, number):
            wrong.append(f"entry {number}: reordered: it was written as entry {says[1]} of ticket {says[0]}")
        elif says is not None and number == expected and says[2] != previous:
            wrong.append(f"entry {number}: it does not follow the entry before it, which was altered, removed or put elsewhere")
        previous, expected = kept, number + 1
    return wrong
