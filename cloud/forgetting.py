"""What is forgotten of streams that are over: 84,000 come in a day from 3,000 vehicles, 2 kB each, and all would stay for ever.

A stream that was announced more than FORGET_MS ago takes no messages (`Aggregator`), so which of its sequences have landed is not asked
any more, and its announcement is needed for what is in landing logs and quarantines alone. Each replica says how far back its own reach;
of what is older than all of them the body is removed. The row stays, 0.1 kB: a stream that was there before is told from a new one, so
that what somebody has recorded and sends again stays refused.
"""

from cloud.aggregator import FORGET_MS
from cloud.database import Database
from cloud.landing import Landing
from cloud.quarantine import Quarantine
from cloud.unplaced import PATIENCE_MS

__all__ = ["forget", "oldest_ms"]

DAY_MS = 86_400_000


def forget(landing: Landing, quarantine: Quarantine, database: Database, now_ms: int) -> int:
    """How many announcements were. Blocks; may be called beside everything else. Raises SegmentLogError, SQLAlchemy's errors."""
    database.forget_landed(now_ms - FORGET_MS)
    oldest = oldest_ms(landing, quarantine, database.oldest_unplaced() is not None, now_ms)
    return database.forget_announcements(oldest, FORGET_MS + DAY_MS)


def oldest_ms(landing: Landing, quarantine: Quarantine, waits: bool, now_ms: int) -> int:
    """No message here was received before that. `waits`: for its boot's clock; such messages are carried to the landing log's end."""
    found = now_ms - PATIENCE_MS if waits else now_ms
    for _, received_ms, _ in landing.raw(landing.first):
        found = min(found, received_ms)
        break
    return min([found, *(item.received_ms for item in quarantine.listed())]) if quarantine.held else found
