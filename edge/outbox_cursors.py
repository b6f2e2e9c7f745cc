"""The first record of each of the outbox's logs without a receipt, and what behind it has one: the file `cursors`.

Without it everything that is left is sent again.
"""

import logging
from pathlib import Path

import msgspec

from edge.files import replace_file
from edge.outbox_lane import LaneLog

MAX_DONE_RUNS = 64  # that are kept over a restart; the others cost duplicates

logger = logging.getLogger(__name__)


class _Cursors(msgspec.Struct, forbid_unknown_fields=True):
    bulk: int
    reserved: int
    bulk_done: list[tuple[int, int]] = []
    reserved_done: list[tuple[int, int]] = []


class CursorFile:
    """Reads it once, and writes it where it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = b""
        self._durable = False

    def recover(self, bulk: LaneLog, reserved: LaneLog) -> None:
        """Tell the lanes where to begin."""
        try:
            cursors = msgspec.json.decode(self._path.read_bytes(), type=_Cursors)
        except (OSError, ValueError):  # msgspec's errors, UnicodeDecodeError
            cursors = _Cursors(-1, -1)
        bulk.recover(cursors.bulk, cursors.bulk_done)
        reserved.recover(cursors.reserved, cursors.reserved_done)

    def write(self, bulk: LaneLog, reserved: LaneLog, *, durable: bool = False) -> bool:
        """Whether the flash has them now; durable: also after a power cut."""
        done = [lane.done.runs[:MAX_DONE_RUNS] for lane in (bulk, reserved)]
        cursors = msgspec.json.encode(_Cursors(bulk.cursor, reserved.cursor, *done))
        if cursors == self._written and (self._durable or not durable):
            return True
        try:
            replace_file(self._path, cursors, durable=durable)
            self._written, self._durable = cursors, durable
        except OSError as error:  # costs duplicates after the next start, no data
            logger.warning("%s: cannot be written: %s", self._path, error.strerror)
            return False
        return True
