"""Whether the ignition has just been switched off: what waits for a full batch is then sealed at once, for the power may go next.

Read from the file in which the vehicle's computer says how the link is (`upload.conditions`, edge/upload.py); the uplink reads it for
itself, in its own thread, and says what is wrong with it.
"""

import logging

from edge.upload import Watched

log = logging.getLogger(__name__)


class Ignition:
    """Follows the file at `path`; "" = nobody says, and the ignition never goes off."""

    def __init__(self, path: str) -> None:
        self._file = Watched(path)
        self._on: bool | None = None

    def went_off(self) -> bool:
        """Whether it is off and was not, or nobody knew, at the last call."""
        try:
            conditions = self._file.read()
        except (OSError, ValueError) as error:
            log.debug("the upload conditions: %s", error)  # the uplink has said it
            return False
        if conditions is None:
            return False
        before, self._on = self._on, conditions.ignition
        return self._on is False and before is not False
