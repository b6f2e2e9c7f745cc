"""What the agent remembers of its packs over its ends: which version rules, which is in shadow and how far, and which was reverted.

`packs.json` in the state folder, and beside it `packs/ID/`, a copy of the version that rules: what stands in the packs' folders may be a
newer one that is still to be tried, or a broken one. A copy is checked as any pack is before it runs, signature and all.
"""

import logging
import shutil
from pathlib import Path

import msgspec

from edge.files import replace_file
from models.manifest import Name
from models.pack import MANIFEST, MODEL, SIGNATURE

__all__ = ["Entry", "PackRecord"]

RECORD, COPIES = "packs.json", "packs"

log = logging.getLogger(__name__)


class Entry(msgspec.Struct):
    """One pack id. folder: where it came from. ruling, shadow, reverted: identities of versions, "" = none. why: of the reverted one."""

    folder: str
    ruling: str = ""
    shadow: str = ""
    healthy_ticks: int = 0
    reverted: str = ""
    why: str = ""


class PackRecord:
    """The file and the copies. What cannot be read counts as not there; what cannot be written is one line in the log, once."""

    def __init__(self, state: Path) -> None:
        self.entries: dict[str, Entry] = {}
        self.first = True  # no agent has run packs with this state folder before
        self._file, self._copies = state / RECORD, state / COPIES
        self._written = b""
        self._failed = False

    def read(self) -> None:
        """Take what an earlier run has left."""
        try:
            self._written = self._file.read_bytes()
            self.entries = msgspec.json.decode(self._written, type=dict[Name, Entry])
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.error("%s: cannot be read: %s; every pack in its folder runs at once", self._file, error)
            return
        self.first = False

    def write(self) -> None:
        """Keep it, where it has changed."""
        data = msgspec.json.format(msgspec.json.encode(self.entries, order="deterministic")) + b"\n"
        self.first = False
        if data == self._written:
            return
        try:
            replace_file(self._file, data, durable=True)
        except OSError as error:
            self._say(error)
            return
        self._written, self._failed = data, False

    def copy_of(self, pack_id: str) -> Path:
        """Where the copy of the version that rules lies, if there is one."""
        return self._copies / pack_id

    def keep(self, pack_id: str, folder: Path) -> None:
        """Copy the version that rules. A copy that a power cut tears is no pack, and none runs that is not whole: so nothing is synced."""
        copy = self.copy_of(pack_id)
        try:
            copy.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in (MODEL, MANIFEST, SIGNATURE):
                if (folder / name).exists():
                    replace_file(copy / name, (folder / name).read_bytes(), durable=False)
        except OSError as error:
            self._say(error)

    def forget(self, pack_id: str) -> None:
        """The pack was taken away."""
        self.entries.pop(pack_id, None)
        shutil.rmtree(self.copy_of(pack_id), ignore_errors=True)

    def _say(self, error: OSError) -> None:
        if not self._failed:
            log.error("%s: cannot be written: %s", error.filename or self._file, error.strerror)
        self._failed = True
