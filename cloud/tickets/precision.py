"""How often tickets were right: verdicts by pack and tier, with the interval that their number allows. Pure."""

import math
from collections import Counter
from collections.abc import Iterable
from statistics import NormalDist

import msgspec

from cloud.tickets.policy import Verdict

__all__ = ["Precision", "precisions", "wilson"]


class Precision(msgspec.Struct, frozen=True):
    """Of the tickets of one pack and tier with a verdict: `right` confirmed, `wrong` false alarms and faults not found; `undecided` have
    none. `share` = right / (right + wrong), None without a verdict; `low` to `high`: its 95 % interval (Wilson)."""

    pack_id: str
    tier: str
    right: int
    wrong: int
    undecided: int
    share: float | None
    low: float
    high: float


def wilson(right: int, of: int, level: float = 0.95) -> tuple[float, float]:
    """The score interval for `right` of `of` (Wilson 1927; Brown, Cai and DasGupta 2001 advise it for small numbers); (0, 1) for none."""
    if not of:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = right / of
    middle = share + z * z / (2 * of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    below, above = (middle - half) / (1 + z * z / of), (middle + half) / (1 + z * z / of)
    return (0.0 if right == 0 else below), (1.0 if right == of else above)


def precisions(verdicts: Iterable[tuple[str, str, str | None, int]]) -> list[Precision]:
    """From (pack, tier, verdict, number of tickets), by pack and tier."""
    right: Counter[tuple[str, str]] = Counter()
    wrong: Counter[tuple[str, str]] = Counter()
    undecided: Counter[tuple[str, str]] = Counter()
    for pack, tier, verdict, count in verdicts:
        kind = undecided if verdict is None else right if verdict == Verdict.CONFIRMED else wrong
        kind[pack, tier] += count
    found = []
    for pack, tier in sorted({*right, *wrong, *undecided}):
        good, bad = right[pack, tier], wrong[pack, tier]
        low, high = wilson(good, good + bad)
        share = good / (good + bad) if good + bad else None
        found.append(Precision(pack, tier, good, bad, undecided[pack, tier], share, low, high))
    return found
