"""From a score per tick to an alarm: N of M ticks over one threshold raise it, M ticks under a lower one clear it.

Pure: no clock, no state of its own. The edge and `cansight models score` both call `Alarm.step`, so they agree by construction.
"""

from dataclasses import dataclass, replace
from enum import IntEnum

__all__ = ["Alarm", "AlarmState", "Transition"]


class Transition(IntEnum):
    """What a step did. CONFIRMED is of a finding (models/judge.py): its alarm, active already, has reached ticket level."""

    RAISED = 1
    CLEARED = 2
    CONFIRMED = 3


@dataclass(frozen=True, slots=True)
class AlarmState:
    """What the alarm remembers between ticks; a fresh one is the state of a detector that has just been started."""

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
            return replace(state, known=known, last_ms=tick_ms), None

        kept = [(ms, at) for ms, at in zip(state.over_ms, state.over_position, strict=True) if known - at < self.of]
        if score >= self.raise_at:
            kept.append((tick_ms, known))
        quiet = state.quiet + 1 if score < self.clear_below else 0
        state = replace(
            state,
            known=known,
            last_ms=tick_ms,
            quiet=quiet,
            over_ms=tuple(ms for ms, _ in kept),
            over_position=tuple(at for _, at in kept),
        )
        if not state.active and len(kept) >= self.need:
            return replace(state, active=True, since_ms=kept[0][0]), Transition.RAISED
        if state.active and quiet >= self.of:
            return replace(state, active=False, since_ms=None, over_ms=(), over_position=()), Transition.CLEARED
        return state, None
