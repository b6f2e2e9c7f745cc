"""What is done once a minute and once a day beside the work: what has landed is noted in the tables, what nobody needs any more goes.

What cannot be done is said, and tried again a minute later: nothing of it must end the cloud.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import Executor

from cloud.aggregator import Aggregator
from cloud.config import CloudConfig, kept_days
from cloud.database import Database
from cloud.forgetting import forget
from cloud.lake.folders import DAY_MS
from cloud.landing import Landing
from cloud.quality.tables import QualityTables
from cloud.quarantine import Quarantine
from cloud.runner import Runner
from cloud.tables import TABLES_AWAY, one_line
from cloud.unplaced import AT_ONCE, carry_forward
from wire.errors import SegmentLogError

__all__ = ["Housekeeping"]

EVERY_S = 60.0
FORGET_EVERY_S = 86_400.0
TIDIED_AT_ONCE = 40  # times that what waits for a clock is carried forward in a row, each 0.3 s for 1,000 messages
WORTH_CARRYING = 4  # records of the landing log to each that is carried

log = logging.getLogger(__name__)


class Housekeeping:
    """`run` until cancelled. `save` and `tidy` are for the aggregator's thread."""

    def __init__(
        self,
        config: CloudConfig,
        aggregator: Aggregator,
        landing: Landing,
        quarantine: Quarantine,
        database: Database,
        quality: QualityTables,
        runners: Sequence[Runner],
    ) -> None:
        self._keep_bytes = config.landing.keep_bytes
        self._quality_days = kept_days(config.quality.keep)
        self._aggregator = aggregator
        self._landing = landing
        self._quarantine = quarantine
        self._database = database
        self._quality = quality
        self._runners = runners

    async def run(self, thread: Executor) -> None:
        """thread: the aggregator's."""
        forget_s = 0.0
        while True:
            await asyncio.sleep(EVERY_S)
            for _ in range(TIDIED_AT_ONCE):  # what arrives meanwhile lands in between
                if not await asyncio.get_running_loop().run_in_executor(thread, self.tidy, _now_ms()):
                    break
            if time.monotonic() >= forget_s:
                forget_s = time.monotonic() + (FORGET_EVERY_S if await asyncio.to_thread(self.forget, _now_ms()) else EVERY_S)
            for runner in self._runners:
                runner.wake()  # it may have carried something forward

    def save(self, now_ms: int) -> bool:
        """Whether it could be saved. Where not, the next start reads more of the landing log, which stays as it is."""
        try:
            self._aggregator.save(now_ms)
        except TABLES_AWAY as error:
            log.warning("what has landed cannot be noted in the tables (%s); trying again", one_line(error))
            return False
        return True

    def tidy(self, now_ms: int) -> bool:
        """Save what has landed, then free the oldest landing segments that no sink needs. Whether to go on."""
        if self.save(now_ms):
            try:
                return self.free(now_ms)
            except (SegmentLogError, *TABLES_AWAY) as error:
                log.warning("the landing log cannot be shortened (%s); trying again", one_line(error))
        return False

    def free(self, now_ms: int) -> bool:
        """Whether more waits for a clock at the log's beginning than was carried to its end, and is little of what lies there."""
        size, keep = self._landing.size_bytes, self._keep_bytes
        if size <= keep:
            return False
        excess = int((self._landing.next - self._landing.first) * (1 - keep / size))
        before = min(self._landing.first + excess, *(runner.saved for runner in self._runners))
        waited = self._database.oldest_unplaced()
        carried = carry_forward(self._landing, self._database, self._quarantine, before, now_ms)
        oldest = self._database.oldest_unplaced()
        until = before if oldest is None else min(before, oldest)
        self._landing.drop_before(until)
        # where hardly anything has a time, carrying it about frees nothing: the log has to hold it
        return waited is not None and carried >= AT_ONCE and until - waited > WORTH_CARRYING * carried

    def forget(self, now_ms: int) -> bool:
        """Whether what nothing needs any more could be forgotten. Blocks; may be called beside everything else."""
        try:
            forgotten = forget(self._landing, self._quarantine, self._database, now_ms)
            days = 0
            if self._quality_days is not None:
                days = self._quality.forget(now_ms // DAY_MS - self._quality_days)
        except (SegmentLogError, *TABLES_AWAY) as error:
            log.warning("what is over cannot be forgotten (%s); trying again", one_line(error))
            return False
        if forgotten:
            log.info("%d announcements of streams that are over are forgotten", forgotten)
        if days:
            log.info("data quality of %d vehicles' days that were %s days ago is forgotten", days, self._quality_days)
        return True


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
