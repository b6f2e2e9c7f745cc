"""The clocks of a ticket: time to acknowledge and time to close, by tier. Pure; times are UTC milliseconds of the cloud's clock.

A clock pauses while nobody here can do anything: what pauses it is in the policy (a workshop's appointment, a vehicle without data, a
ticket that is hidden). Its elapsed time is kept, so a tier that rises later is judged by all the time that has passed.
"""

from dataclasses import dataclass

import msgspec

__all__ = ["Clock", "ClockView"]


class ClockView(msgspec.Struct, frozen=True):
    """A clock as it is shown. `due_ms`: when the target is reached if it runs on; None while it is paused, and once it is done."""

    target_ms: int
    elapsed_ms: int
    due_ms: int | None
    paused: bool
    done: bool
    breached: bool


@dataclass(frozen=True, slots=True)
class Clock:
    """What has run so far, and since when it is running: None = it is paused or done."""

    elapsed_ms: int = 0
    since_ms: int | None = None

    def turned(self, running: bool, now_ms: int) -> "Clock":
        """The same clock, running or paused from now on. The cloud's clock may be set back: nothing is taken off then."""
        elapsed = self.elapsed(now_ms)
        return Clock(elapsed, now_ms if running else None)

    def elapsed(self, now_ms: int) -> int:
        """Milliseconds that it has run."""
        return self.elapsed_ms + (max(0, now_ms - self.since_ms) if self.since_ms is not None else 0)

    def view(self, target_ms: int, done: bool, now_ms: int) -> ClockView:
        """Against its target."""
        elapsed = self.elapsed(now_ms)
        running = self.since_ms is not None and not done
        return ClockView(
            target_ms=target_ms,
            elapsed_ms=elapsed,
            due_ms=now_ms + target_ms - elapsed if running else None,
            paused=self.since_ms is None and not done,
            done=done,
            breached=elapsed > target_ms,
        )
