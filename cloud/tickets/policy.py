"""Ticket rules, pure: no clock, no database, no socket. Times are UTC milliseconds and always a parameter.

A ticket has two axes that move independently. *Condition* is what the vehicle says; only findings and their absence move it. *Handling* is
what people do; only people move it. So a fault that clears by itself leaves a ticket that somebody still has to look at, and a closed
ticket whose fault is still active stays visible as such.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Condition", "Flaps", "Handling", "Level", "Span", "Tier", "Verdict", "condition_of", "held_off", "may_move", "worth_a_line"]


class Tier(StrEnum):
    """How urgent a ticket is. A p-value is no probability of a breakdown: without a calibrated one a ticket is `unrated`."""

    RED = "red"
    YELLOW = "yellow"
    BLUE = "blue"
    UNRATED = "unrated"

    @property
    def rank(self) -> int:
        """The more urgent, the higher; unrated is 0."""
        return ("unrated", "blue", "yellow", "red").index(self)


class Level(StrEnum):
    """What a finding is worth: one that is only seen is kept, and opens no ticket until it is confirmed."""

    SEEN = "seen"
    TICKET = "ticket"


class Condition(StrEnum):
    """What the vehicle says of the fault."""

    PENDING = "pending"  # seen again, but not confirmed
    ACTIVE = "active"
    RECOVERED = "recovered"
    NO_DATA = "no-data"  # the signals that would tell have stopped; that is not recovery


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
    level: Level = Level.TICKET


def condition_of(spans: Iterable[Span], has_data: bool = True) -> Condition:
    """The condition of a ticket with these findings: active while any of them is raised and not cleared, pending while any of those is
    not confirmed. Without data from the vehicle, what was active is not known; what had recovered before stays so.

    Depends on the set of findings alone, so the order in which raises and clears arrive does not change it.
    """
    levels = {span.level for span in spans if span.raised_ms is not None and span.cleared_ms is None}
    if not levels:
        return Condition.RECOVERED
    if not has_data:
        return Condition.NO_DATA
    return Condition.ACTIVE if Level.TICKET in levels else Condition.PENDING


_NEXT: dict[Handling, frozenset[Handling]] = {
    Handling.NEW: frozenset({Handling.ACKNOWLEDGED, Handling.SCHEDULED, Handling.IN_WORKSHOP, Handling.CLOSED}),
    Handling.ACKNOWLEDGED: frozenset({Handling.SCHEDULED, Handling.IN_WORKSHOP, Handling.CLOSED}),
    # back to acknowledged: the owner cancelled the booking
    Handling.SCHEDULED: frozenset({Handling.ACKNOWLEDGED, Handling.IN_WORKSHOP, Handling.CLOSED}),
    Handling.IN_WORKSHOP: frozenset({Handling.SCHEDULED, Handling.CLOSED}),
    # A closed ticket stays closed: the same fault opens a new one that is linked to it, with evidence of its own.
    Handling.CLOSED: frozenset(),
}


def may_move(now: Handling, to: Handling) -> bool:
    """Whether people may move a ticket from one handling to another."""
    return to in _NEXT[now]


def held_off(raised_ms: int, verdict_ms: int, still_active: bool, cleared_ms: int | None, pause_ms: int) -> bool:
    """Whether a finding raised now opens no ticket because the same fault was called a false alarm at `verdict_ms`.

    Held off until what was called false clears (`still_active`: it has not), then for `pause_ms` from the later of its clearing and the
    verdict. That a rising tier ends it is the caller's to see.
    """
    return still_active or raised_ms < max(verdict_ms, cleared_ms if cleared_ms is not None else verdict_ms) + pause_ms


@dataclass(frozen=True, slots=True)
class Flaps:
    """How often a condition has turned without a rest: `turns` since the last rest, the newest at `turned_ms`."""

    turns: int = 0
    turned_ms: int = 0

    def turned(self, at_ms: int, rest_ms: int) -> "Flaps":
        """After one more turn. A rest of `rest_ms` begins the count anew."""
        return Flaps(1 if at_ms - self.turned_ms >= rest_ms else self.turns + 1, at_ms)

    def flapping(self, now_ms: int, turns: int, rest_ms: int) -> bool:
        """Whether it is to be called flapping: at least `turns` without a rest of `rest_ms`."""
        return self.turns >= turns and now_ms - self.turned_ms < rest_ms


def worth_a_line(count: int) -> bool:
    """Whether the count-th of the same thing is written into a history: the first eight, then each power of two, so that ten thousand
    repeats leave eighteen lines."""
    return count <= 8 or count & (count - 1) == 0
