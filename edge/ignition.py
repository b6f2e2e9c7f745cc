"""Whether the ignition has just been switched off: what waits for a full batch is then sealed at once, for the power may go next.

Read from the file in which the vehicle's computer says how the link is (`upload.conditions`, edge/upload.py); the uplink reads it for
itself, in its own thread, and says what is wrong with it.
"""

import logging
from pathlib import Path

import msgspec

from edge.upload import MAX_FILE_BYTES, Conditions

log = logging.getLogger(__name__)


class Ignition:
    """Follows the file at `path`; "" = nobody says, and the ignition never goes off."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._on: bool | None = None

    def went_off(self) -> bool:
        """Whether it is off and was not, or nobody knew, at the last call."""
        if not self._path:
            return False
        path, before = Path(self._path), self._on
        try:
            found = path.stat()
            if (found.st_ino, found.st_mtime_ns) == self._stamp:
                return False
            self._stamp = found.st_ino, found.st_mtime_ns
            with path.open("rb") as file:
                self._on = msgspec.json.decode(file.read(MAX_FILE_BYTES), type=Conditions).ignition
        except (OSError, msgspec.MsgspecError) as error:
            log.debug("%s: %s", path, error)  # the uplink has said it
            return False
        return self._on is False and before is not False
