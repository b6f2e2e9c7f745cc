"""From ticks to drives: what a detector remembers of a vehicle between drives, and when a finding is confirmed.

A drive is a run of judged ticks (scored, and inside the trained range) without a pause of more than `gap_ms`. So a pack that says "not
known here" while the car charges or stands knows drives alone, and a recording says where its drives end without anybody having written
it down. What never stops (a generator, a vehicle that is always awake) makes a drive a day: else it would have one for ever, from which
nothing is learned and by which no finding is confirmed.

Pure: no clock, no state of its own. The vehicle, `cansight models score` and the training call the same rule.
"""

from dataclasses import dataclass
from enum import StrEnum

import msgspec
import numpy as np
from numpy.typing import NDArray

__all__ = ["LONGEST_TICKS", "DriveState", "Drives", "Level", "first_ticks"]

LONGEST_TICKS = 86_400
"""Judged ticks of a drive: the next one begins another."""


class Level(StrEnum):
    """How sure a finding is."""

    SEEN = "seen"
    """below ticket level: the alarm rose, and not yet in as many drives as the manifest asks for"""
    TICKET = "ticket"


class DriveState(msgspec.Struct, frozen=True):
    """The drive at hand and those before it."""

    last_ms: int | None = None
    """The newest judged tick of this drive; None: it has none yet."""
    ticks: int = 0
    """Judged ticks of this drive."""
    evidence: bool = False
    """Whether the scores of this drive would raise the alarm, be it active already or not."""
    before: tuple[bool, ...] = ()
    """`evidence` of the drives before, oldest first; of - 1 of them at most."""


@dataclass(frozen=True, slots=True)
class Drives:
    """The rule of a pack.

    gap_ms: a longer pause between judged ticks ends a drive. least_ticks: a shorter drive without evidence says nothing and does not count.
    need, of: a finding has ticket level when `need` of the last `of` drives, the one at hand among them, had evidence.
    """

    gap_ms: int
    least_ticks: int
    need: int
    of: int

    def over(self, state: DriveState, tick_ms: int) -> bool:
        """Whether a tick at this time, judged or not, finds the drive at an end."""
        return state.last_ms is not None and (tick_ms - state.last_ms > self.gap_ms or state.ticks >= LONGEST_TICKS)

    def close(self, state: DriveState) -> DriveState:
        """The drive at hand is over."""
        if not state.evidence and state.ticks < self.least_ticks:
            return DriveState(before=state.before)
        kept = (*state.before, state.evidence)
        return DriveState(before=kept[max(0, len(kept) - (self.of - 1)) :])

    def step(self, state: DriveState, tick_ms: int, evidence: bool) -> DriveState:
        """Take a judged tick. A clock that was set back ends no drive."""
        return DriveState(tick_ms, state.ticks + 1, state.evidence or evidence, state.before)

    def level(self, state: DriveState) -> Level:
        """Of a finding whose alarm is active now."""
        return Level.TICKET if sum(state.before) + state.evidence >= self.need else Level.SEEN


def first_ticks(tick_ms: NDArray[np.int64], gap_ms: int) -> NDArray[np.int64]:
    """(d,) rows at which drives begin among the judged ticks (n,), ascending: 0, every one after a longer pause, and each day's first."""
    if not len(tick_ms):
        return np.zeros(0, np.int64)
    first = np.concatenate([[0], np.flatnonzero(np.diff(tick_ms) > gap_ms) + 1]).astype(np.int64)
    days = -(-np.diff(first, append=len(tick_ms)) // LONGEST_TICKS)
    within = np.arange(int(days.sum())) - (days.cumsum() - days).repeat(days)
    return np.asarray(first.repeat(days) + LONGEST_TICKS * within, np.int64)
