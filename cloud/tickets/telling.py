"""What is to be told of a ticket, and when: pure. Times are UTC milliseconds of the cloud's clock.

It goes by what the ticket is and what was told of it last, not by each turn: so a condition that turns every second is told of once when
it opens and once when it has stayed recovered, and what was hidden and is over by the time it is shown is not told at all.
"""

from dataclasses import dataclass

from cloud.tickets.policy import Condition, Tier

__all__ = ["PASSED", "Told", "next_event"]

PASSED = "passed"  # it was hidden, and had recovered before it was shown


@dataclass(frozen=True, slots=True)
class Told:
    """What was told of a ticket last, at which tier and when; event "": nothing yet."""

    event: str
    tier: Tier
    at_ms: int


def next_event(
    told: Told,
    tier: Tier,
    condition: Condition,
    condition_ms: int,
    was_hidden: bool,
    now_ms: int,
    recovered_after_ms: int,
    again_after_ms: int,
) -> str | None:
    """What is to be told now of a ticket that is open and not hidden; None: nothing. PASSED is not told, only noted."""
    there = condition in (Condition.ACTIVE, Condition.PENDING, Condition.NO_DATA)
    if told.event == "":
        return PASSED if was_hidden and not there else "opened"
    if told.event == PASSED:
        return "opened" if there else None
    if tier.rank > told.tier.rank:
        return "tier raised"
    if told.event == "recovered":
        return "active again" if condition is Condition.ACTIVE and now_ms - told.at_ms >= again_after_ms else None
    return "recovered" if condition is Condition.RECOVERED and now_ms - condition_ms >= recovered_after_ms else None
