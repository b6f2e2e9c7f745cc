"""What waits for its boot's clock must not keep the landing log from being shortened: one vehicle without the time would fill the disk.

So, like the live records of a log that is compacted, it is carried to the log's end; what has waited too long goes into the quarantine,
from where a replay can bring it back.
"""

import logging

from cloud.database import Database
from cloud.landing import Landing
from cloud.quarantine import Kept, Quarantine, Source
from cloud.streams import Opened

AT_ONCE = 1_000  # records: the aggregator waits meanwhile
PATIENCE_MS = 100 * 86_400_000  # an outbox keeps nothing for longer than 90 days, so no clock of that boot comes any more

log = logging.getLogger(__name__)


def carry_forward(landing: Landing, database: Database, quarantine: Quarantine, before: int, now_ms: int) -> int:
    """Move what waits at positions below `before`, some of it; returns how many. In the aggregator's thread.

    A crash in between leaves a message at both positions, and every sink takes it twice as once.
    Raises SegmentLogError or SQLAlchemy's errors: what waits still waits where it was.
    """
    positions = database.unplaced_before(before, AT_ONCE)
    if not positions:
        return 0
    aside: list[Kept] = []
    try:
        for position in positions:
            record = landing.record(position)
            if record is None:
                continue  # lost to damage: the log's gaps name it
            received_ms, data = record
            found = next((opened for number, opened in landing.read(position, 1) if number == position), None)
            if isinstance(found, Opened) and now_ms - received_ms < PATIENCE_MS:
                landing.append(found, data)
            elif isinstance(found, Opened):
                aside.append(Kept(Source.SINK, received_ms, "clock: its boot has not said what the time was, and will not any more", data))
            else:
                aside.append(Kept(Source.LANDED, received_ms, str(found), data))
        quarantine.put_all(aside)
        landing.commit()
    except BaseException:
        landing.abandon()
        raise
    database.strike_out(positions)
    if aside:
        log.warning("%d messages of boots that never said what the time was are in the quarantine", len(aside))
    return len(positions)
