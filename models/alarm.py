"""From a score per tick to an alarm: N of M ticks over one threshold raise it, M ticks under a lower one clear it.

Pure: no clock, no state of its own. The edge and `cansight models score` both call `Alarm.step`, so they agree by construction.
"""

from dataclasses import dataclass
from enum import IntEnum

import msgspec

__all__ = ["Alarm", "AlarmState", "Transition"]


class Transition(IntEnum):
    """What a step did. CONFIRMED is of a finding (models/judge.py): its alarm, active already, has reached ticket level."""

    RAISED = 1
    CLEARED = 2
    CONFIRMED = 3


class AlarmState(msgspec.Struct, frozen=True):
    """What the alarm remembers between ticks; a fresh one is the state of a detector that has just been started.

    A Struct, as whatever is made anew for each pack at each tick: a frozen dataclass takes ten times as long to make.
    """

    active: bool = False
    since_ms: int | None = None
    """First of the ticks that raised the alarm which is active now."""
    last_ms: int | None = None
    """The newest tick that had a score."""
    known: int = 0
    """Scored ticks since the start or the last gap; the warm-up counts them."""
    quiet: int = 0
    """Scored ticks in a row under `clear_below`."""
    over_ms: tuple[int, ...] = ()
    """Those of the last `of` scored ticks that were at or over `raise_at`, oldest first; `over_position` holds their place."""
    over_position: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Alarm:
    """The threshold stage of a pack.

    raise_at, clear_below: scores; clear_below <= raise_at, so that a score which hovers at one threshold does not flap.
    need, of: the alarm is raised when `need` of the last `of` scored ticks were at or over `raise_at`.
    warmup: scored ticks after a start or a gap that are looked at and not judged.
    gap_ms: a longer time without a score forgets the ticks before it. It never clears an alarm: no data is not recovery.
    """

    raise_at: float
    clear_below: float
    need: int
    of: int
    warmup: int
    gap_ms: int

    def persists(self, state: AlarmState) -> bool:
        """Whether the last scored ticks would raise the alarm, be it active already or not."""
        return len(state.over_ms) >= self.need

    def step(self, state: AlarmState, score: float | None, tick_ms: int) -> tuple[AlarmState, Transition | None]:
        """The next state, and whether the alarm was raised or cleared by this tick.

        A tick without a score (None: an invalid input, or outside the trained operating range) changes nothing, nor does one that is
        not newer than the last.
        """
        if score is None or (state.last_ms is not None and tick_ms <= state.last_ms):
            return state, None
        if state.last_ms is not None and tick_ms - state.last_ms > self.gap_ms:
            state = AlarmState(active=state.active, since_ms=state.since_ms)
        known = state.known + 1
        if known <= self.warmup:
            return AlarmState(state.active, state.since_ms, tick_ms, known, state.quiet, state.over_ms, state.over_position), None

        over_ms, over_position = state.over_ms, state.over_position
        while over_position and known - over_position[0] >= self.of:
            over_ms, over_position = over_ms[1:], over_position[1:]
        if score >= self.raise_at:
            over_ms, over_position = (*over_ms, tick_ms), (*over_position, known)
        quiet = state.quiet + 1 if score < self.clear_below else 0
        if not state.active and len(over_ms) >= self.need:
            return AlarmState(True, over_ms[0], tick_ms, known, quiet, over_ms, over_position), Transition.RAISED
        if state.active and quiet >= self.of:
            return AlarmState(False, None, tick_ms, known, quiet), Transition.CLEARED
        return AlarmState(state.active, state.since_ms, tick_ms, known, quiet, over_ms, over_position), None
