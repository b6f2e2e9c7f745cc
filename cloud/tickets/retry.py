"""When a webhook's delivery is tried again: pure. Times are UTC milliseconds.

The pause doubles from five seconds to an hour, with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015), so that
a receiver that comes back is not met by everything at once. After three days it is given up: a dead letter, which somebody may replay.
"""

__all__ = ["GIVE_UP_MS", "pause_ms", "verdict_of"]

FIRST_MS, MOST_MS = 5_000, 3_600_000
LEAST_MS = 500
GIVE_UP_MS = 3 * 86_400_000


def pause_ms(attempts: int, random: float, asked_ms: int | None = None) -> int:
    """The pause after the `attempts`-th attempt in a row has failed, `random` in [0, 1). `asked_ms`: what the receiver asked for
    (Retry-After), honoured up to the longest pause."""
    ceiling = min(MOST_MS, FIRST_MS << min(attempts - 1, 20))
    return max(LEAST_MS, int(ceiling * random), min(asked_ms or 0, MOST_MS))


def verdict_of(status: int | None) -> str:
    """ "delivered", "dead" or "again" by an HTTP status; None: there was no answer.

    Only 410 Gone is final at once: anything else may be a receiver that is being set up or repaired.
    """
    if status is not None and 200 <= status < 300:
        return "delivered"
    return "dead" if status == 410 else "again"
