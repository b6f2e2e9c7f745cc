"""How much an owner is told: pure. Times are UTC milliseconds.

At most so many pushes in any seven days and so many warnings in any thirty, for yellow, blue and offers. Red is never withheld; it counts,
so what comes after it waits, and it displaces what has not gone out yet. What is withheld stays visible and goes out when there is room.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cloud.tickets.policy import Tier

__all__ = ["DAY_MS", "MONTH_MS", "WEEK_MS", "Told", "displaced", "withheld"]

DAY_MS = 86_400_000
WEEK_MS, MONTH_MS = 7 * DAY_MS, 30 * DAY_MS  # sliding: no calendar's edge lets two weeks' pushes out in one night


@dataclass(frozen=True, slots=True)
class Told:
    """Something an owner was told, or is about to be."""

    at_ms: int
    tier: Tier
    push: bool
    gone: bool = True  # False: it waits in the outbox, and may still be displaced
    id: int = 0


def withheld(told: Iterable[Told], tier: Tier, push: bool, now_ms: int, pushes_a_week: int, warnings_a_month: int) -> str:
    """Why one more may not be told now; empty: it may."""
    if tier is Tier.RED:
        return ""
    so_far = list(told)
    month = sum(now_ms - MONTH_MS < one.at_ms <= now_ms for one in so_far)
    if month >= warnings_a_month:
        return f"withheld by budget: {month} warnings in 30 days, at most {warnings_a_month}"
    week = sum(one.push and now_ms - WEEK_MS < one.at_ms <= now_ms for one in so_far)
    if push and week >= pushes_a_week:
        return f"withheld by budget: {week} pushes in 7 days, at most {pushes_a_week}"
    return ""


def displaced(told: Sequence[Told], now_ms: int, pushes_a_week: int, warnings_a_month: int) -> list[int]:
    """Ids of those that wait in the outbox and have to give way now that a red one (already in `told`) has come: the least urgent and
    newest first, until the rest keeps the budget."""
    left = list(told)
    away = []
    for one in sorted((one for one in told if not one.gone and one.tier is not Tier.RED), key=lambda one: (one.tier.rank, -one.at_ms)):
        week = sum(each.push and now_ms - WEEK_MS < each.at_ms for each in left)
        month = sum(now_ms - MONTH_MS < each.at_ms for each in left)
        if month > warnings_a_month or (one.push and week > pushes_a_week):
            left.remove(one)
            away.append(one.id)
    return away
