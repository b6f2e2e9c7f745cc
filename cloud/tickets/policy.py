"""Ticket rules, pure: no clock, no database, no socket. Times are UTC milliseconds and always a parameter.

A ticket has two axes that move independently. *Condition* is what the vehicle says; only findings move it. *Handling* is what people do;
only people move it. So a fault that clears by itself leaves a ticket that somebody still has to look at, and a closed ticket whose fault is
still active stays visible as such.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["TIER_UNRATED", "Condition", "Handling", "Span", "Verdict", "condition_of", "may_move"]

# A p-value is not a probability of a breakdown, so until a calibrated prognosis gives one, no ticket has a colour.
TIER_UNRATED = "unrated"


class Condition(StrEnum):
    """What the vehicle says of the fault."""

    PENDING = "pending"  # seen, but not yet for long enough
    ACTIVE = "active"
    RECOVERED = "recovered"
    NO_DATA = "no-data"  # the signals that would tell have stopped


class Handling(StrEnum):
    """What people do about it. At most one ticket per (vehicle, fault code) is in any state but `closed`."""

    NEW = "new"
    ACKNOWLEDGED = "acknowledged"
    SCHEDULED = "scheduled"
    IN_WORKSHOP = "in workshop"
    CLOSED = "closed"


class Verdict(StrEnum):
    """What the workshop or the owner found."""

    CONFIRMED = "confirmed"
    FALSE_ALARM = "false alarm"
    NO_FAULT_FOUND = "no fault found"


@dataclass(frozen=True, slots=True)
class Span:
    """One finding's life as far as it is known. Its clear may arrive before its raise: batches are ordered by sequence, not by arrival."""

    raised_ms: int | None
    cleared_ms: int | None


def condition_of(spans: Iterable[Span]) -> Condition:
    """The condition of a ticket with these findings: active while any of them is raised and not cleared.

    Depends on the set of findings alone, so the order in which raises and clears arrive does not change it.
    """
    if any(span.raised_ms is not None and span.cleared_ms is None for span in spans):
        return Condition.ACTIVE
    return Condition.RECOVERED


_NEXT: dict[Handling, frozenset[Handling]] = {
    Handling.NEW: frozenset({Handling.ACKNOWLEDGED, Handling.SCHEDULED, Handling.IN_WORKSHOP, Handling.CLOSED}),
    Handling.ACKNOWLEDGED: frozenset({Handling.SCHEDULED, Handling.IN_WORKSHOP, Handling.CLOSED}),
    # back to acknowledged: the owner cancelled the booking
    Handling.SCHEDULED: frozenset({Handling.ACKNOWLEDGED, Handling.IN_WORKSHOP, Handling.CLOSED}),
    Handling.IN_WORKSHOP: frozenset({Handling.SCHEDULED, Handling.CLOSED}),
    # A closed ticket stays closed: the same fault opens a new one, with evidence of its own.
    Handling.CLOSED: frozenset(),
}


def may_move(now: Handling, to: Handling) -> bool:
    """Whether people may move a ticket from one handling to another."""
    return to in _NEXT[now]
