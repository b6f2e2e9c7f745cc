"""What may go over the link as it is now: metered, weak, ignition off. The vehicle's computer knows; it writes a small file, we read it.

    {"metered": true, "signal": 35, "ignition": false}

JSON; every key may be missing (unknown restricts nothing). signal: quality, 0 to 100. Replace the file by renaming another over it.
"""

import logging
import os
from collections.abc import Set
from pathlib import Path
from typing import Annotated

import msgspec

from edge.config import Share, UploadConfig
from edge.outbox import Turn

MAX_FILE_BYTES = 4096
_TURNS: dict[Share, Set[Turn]] = {
    "nothing": frozenset(),
    "findings": frozenset({Turn.FINDING, Turn.BACKLOG_FINDING}),
    "live": frozenset({Turn.FINDING, Turn.LIVE, Turn.BACKLOG_FINDING}),
    "all": frozenset(Turn),
}

log = logging.getLogger(__name__)


class Conditions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file's content."""

    metered: bool | None = None
    signal: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    ignition: bool | None = None


def share(config: UploadConfig, conditions: Conditions) -> tuple[Share, str]:
    """What may go, and the condition that says so; the narrowest one counts."""
    applies = (
        (config.metered, "metered", conditions.metered is True),
        (config.weak_signal, "weak signal", conditions.signal is not None and conditions.signal < config.weak_below),
        (config.ignition_off, "ignition off", conditions.ignition is False),
    )
    order = list(_TURNS)
    found: tuple[Share, str] = ("all", "")
    for allowed, why, holds in applies:
        if holds and order.index(allowed) < order.index(found[0]):
            found = (allowed, why)
    return found


class Watched:
    """The file at `path`, read when it has changed; "" = nobody says anything. Whoever looks at it has one of these, in one thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None

    def read(self) -> Conditions | None:
        """What it says; None: the same as at the last call. A file that is missing says nothing.

        Raises OSError and ValueError (msgspec's errors, UnicodeDecodeError) for one that cannot be read: what was last known holds.
        """
        if not self._path:
            return None
        path = Path(self._path)
        try:
            found = path.stat()
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            if stamp == self._stamp:
                return None
            self._stamp = stamp
            with path.open("rb") as file:
                return msgspec.json.decode(file.read(MAX_FILE_BYTES), type=Conditions)
        except FileNotFoundError:
            self._stamp = None
            return Conditions()


class ConditionsFile:
    """What may go up, by what the file says."""

    def __init__(self, config: UploadConfig) -> None:
        self._config = config
        self._file = Watched(config.conditions)
        self._said = ""
        self.share: Share = "all"

    @property
    def turns(self) -> Set[Turn]:
        """Whose turn it may be now."""
        return _TURNS[self.share]

    def look(self) -> bool:
        """Whether what may go has changed."""
        try:
            conditions = self._file.read()
        except (OSError, ValueError) as error:
            words = os.strerror(error.errno or 0) if isinstance(error, OSError) else error
            self._say(f"{self._config.conditions}: {words}; going on with what was known")
            return False
        if conditions is None:
            return False
        self._said = ""
        allowed, why = share(self._config, conditions)
        if allowed == self.share:
            return False
        self.share = allowed
        log.info("upload: %s%s", allowed, f" ({why})" if why else "")
        return True

    def _say(self, words: str) -> None:
        if words != self._said:
            self._said = words
            log.warning("upload conditions: %s", words)
