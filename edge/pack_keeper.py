"""The packs' folders while the agent runs: what is put there is taken up without a restart, tried in shadow, and promoted or reverted.

Reading, checking and starting a pack takes from milliseconds to seconds, so a thread of its own does it; the agent's thread, between two
ticks, only puts the finished detector in its place. No tick is missed, and the other detectors keep their windows and alarms.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.detector_states import DetectorStates
from edge.detectors import Detector, Detectors, Slot, packs_of
from edge.pack_record import Entry, PackRecord
from edge.shadow import Outcome, Trial
from edge.surroundings import ChangeWatch
from models.errors import ModelsError
from models.pack import MANIFEST, MODEL, SIGNATURE

__all__ = ["PackKeeper"]

LOOK_S = 5.0  # between two looks at the folders; what has changed is loaded when it has not changed again by the next one
KEEP_S = 600.0  # of a trial's minutes at most so many are forgotten in a power cut

log = logging.getLogger(__name__)

Stamp = tuple[tuple[int, int, int] | None, ...]
"""Inode, time of change and size of a pack's files: what tells that another pack stands there."""


@dataclass(frozen=True)
class _Loaded:
    """What became of a folder. refused: one line where there is no detector."""

    folder: Path
    detector: Detector | None
    refused: str = ""


class PackKeeper:
    """Owns `detectors`. All but `ask` is for the agent's thread; times are monotonic."""

    def __init__(
        self,
        folders: Sequence[str],
        load: Callable[[Path], Detector],
        record: PackRecord,
        states: DetectorStates,
        shadow_ticks: int,
        watch: ChangeWatch | None = None,
    ) -> None:
        """load: reads, checks and starts the pack of a folder; raises ModelsError. shadow_ticks: 0 = a new pack rules at once."""
        self.detectors = Detectors(shadow_ticks=shadow_ticks)
        self.detectors.watch = watch
        self._states = states
        self._folders = folders
        self._load = load
        self._record = record
        self._shadow_ticks = shadow_ticks
        self._lines: dict[Path, str] = {}  # why a folder's pack does not run
        self._loaded: deque[tuple[dict[Path, Stamp], list[_Loaded]]] = deque()
        self._stamps: dict[Path, Stamp] = {}  # of what was loaded
        self._seen: dict[Path, Stamp] = {}  # at the last look
        self._worker: threading.Thread | None = None
        self._asked = False
        self._look_s = self._keep_s = float("-inf")

    def open(self) -> None:
        """Load every pack there is, before the first tick."""
        self._record.read()
        self._states.read()
        if self.detectors.watch is not None:
            self.detectors.watch.said = dict(self._states.said)
        self._seen = self._stamps = _stamps(self._folders)
        self._take(self._stamps, [self._load_one(folder) for folder in self._stamps])

    def ask(self) -> None:
        """Look at the folders at once (SIGHUP)."""
        self._asked = True

    def look(self, now_s: float) -> None:
        """Take up what has been loaded and decided since, and look whether there is something new."""
        while self._loaded:
            self._take(*self._loaded.popleft())
        self._decide()
        self.detectors.tell()
        self._remember(now_s)
        if now_s - self._keep_s >= KEEP_S:
            self._keep_s = now_s
            self._keep()
        if not self._asked and now_s - self._look_s < LOOK_S:
            return
        if self._worker is not None and self._worker.is_alive():
            return
        self._look_s = now_s
        asked, self._asked = self._asked, False
        now = _stamps(self._folders)
        if now != self._stamps and (asked or now == self._seen):
            changed = [folder for folder, stamp in now.items() if self._stamps.get(folder) != stamp]
            # A daemon: a flash that hangs must not hold the agent's end up.
            self._worker = threading.Thread(target=self._run, args=(now, changed), name="packs", daemon=True)
            self._worker.start()
        self._seen = now

    def close(self) -> None:
        """Remember how far the trials are, and what the detectors know of this vehicle."""
        self._decide()
        self._keep()
        self._remember()

    def _run(self, now: dict[Path, Stamp], changed: Iterable[Path]) -> None:
        self._loaded.append((now, [self._load_one(folder) for folder in changed]))

    def _load_one(self, folder: Path) -> _Loaded:
        try:
            return _Loaded(folder, self._load(folder))
        except ModelsError as error:
            return _Loaded(folder, None, str(error))
        except Exception as error:  # noqa: BLE001 - in a thread of its own nobody would hear of it; a pack must not take the agent with it
            return _Loaded(folder, None, f"pack {folder}: {type(error).__name__} while it was loaded: {' '.join(str(error).split())[:200]}")

    def _take(self, stamps: dict[Path, Stamp], loaded: Sequence[_Loaded]) -> None:
        self._stamps = stamps
        for folder in [folder for folder in self._lines if folder not in stamps]:
            self._refuse(folder, "")
        for one in loaded:
            if one.detector is None:
                self._refuse(one.folder, one.refused)
                self._fall_back(one.folder)
            else:
                self._refuse(one.folder, self._offer(one.detector, one.folder))
        for pack_id, entry in list(self._record.entries.items()):
            if Path(entry.folder) not in stamps:
                log.info("pack %s was taken away", pack_id)
                self._record.forget(pack_id)
                self.detectors.slots[:] = [slot for slot in self.detectors.slots if slot.pack_id != pack_id]
        self.detectors.tell()
        self._keep()

    def _offer(self, detector: Detector, folder: Path) -> str:
        """Put a detector in its place. Returns why it does not run; empty where it does."""
        pack_id, record = detector.pack.manifest.pack_id, self._record
        self._states.restore(detector)
        entry = record.entries.get(pack_id)
        if entry is None:
            entry = record.entries[pack_id] = Entry(str(folder))
            if record.first or not self._shadow_ticks:
                return self._rule(Slot(None), entry, detector)
        elif entry.folder != str(folder):
            if Path(entry.folder) in self._stamps:
                return f"pack {folder}: its id, {pack_id}, is that of {entry.folder} too; take one of them away"
            entry.folder = str(folder)
        slot = self._slot(pack_id) or self._before(pack_id, entry, detector) or Slot(None)
        if entry.ruling == detector.identity:
            slot.shadow, entry.shadow = None, ""
            return "" if slot.ruling is not None else self._rule(slot, entry, detector)
        if entry.reverted == detector.identity:
            return f"pack {folder}: {detector.label} was tried in shadow and reverted: {entry.why}; give another version"
        if not self._shadow_ticks:
            return self._rule(slot, entry, detector)
        if slot.shadow is None or slot.shadow.identity != detector.identity:
            if slot.ruling is not None and entry.shadow != detector.identity:
                detector.restore(slot.ruling.keep())  # where only thresholds differ, the model's baseline of this vehicle holds
            slot.shadow = detector
            slot.trial = Trial(entry.healthy_ticks if entry.shadow == detector.identity else 0)
            entry.shadow, entry.healthy_ticks = detector.identity, slot.trial.healthy_ticks
            if slot not in self.detectors.slots:
                self.detectors.slots.append(slot)
            log.info("pack %s: %s is tried in shadow", folder, detector.label)
        return ""

    def _rule(self, slot: Slot, entry: Entry, detector: Detector) -> str:
        if slot.ruling is not None:
            detector.follow(slot.ruling)
        slot.ruling, slot.shadow = detector, None
        if slot not in self.detectors.slots:
            self.detectors.slots.append(slot)
        if entry.ruling != detector.identity:
            self._record.keep(detector.pack.manifest.pack_id, detector.pack.folder)
        entry.ruling, entry.shadow, entry.healthy_ticks = detector.identity, "", 0
        log.info("pack %s: %s runs", detector.pack.folder, detector.label)
        return ""

    def _slot(self, pack_id: str) -> Slot | None:
        return next((slot for slot in self.detectors.slots if slot.pack_id == pack_id), None)

    def _before(self, pack_id: str, entry: Entry, newer: Detector | None) -> Slot | None:
        """After a start: the version that ruled, from its copy, where another one stands in the folder now."""
        if not entry.ruling or (newer is not None and newer.identity == entry.ruling):
            return None
        found = self._load_one(self._record.copy_of(pack_id))
        if found.detector is None or found.detector.identity != entry.ruling:
            log.error("the copy of pack %s is not the one that ran: %s", pack_id, found.refused or "another version")
            return None
        self._states.restore(found.detector)
        slot = Slot(found.detector)
        self.detectors.slots.append(slot)
        return slot

    def _fall_back(self, folder: Path) -> None:
        """A folder's pack is refused: the version that ran before goes on, or runs again."""
        for pack_id, entry in self._record.entries.items():
            if Path(entry.folder) != folder:
                continue
            slot = self._slot(pack_id) or self._before(pack_id, entry, None)
            if slot is not None and slot.ruling is not None:
                slot.shadow = None
                log.info("pack %s: %s goes on", folder, slot.ruling.label)

    def _refuse(self, folder: Path, line: str) -> None:
        """Say why a folder's pack does not run; empty: it does, or is not there any more."""
        before, refused = self._lines.pop(folder, ""), self.detectors.refused
        if before in refused:
            refused.remove(before)
        if line:
            self._lines[folder] = line
            refused.append(line)
            if line != before:
                log.error("%s; the agent goes on with the packs it has", line)

    def _decide(self) -> None:
        """Write down how trials have ended."""
        while self.detectors.decided:
            _, detector, outcome = self.detectors.decided.popleft()
            pack_id = detector.pack.manifest.pack_id
            entry = self._record.entries.get(pack_id)
            if entry is None:
                continue
            entry.shadow, entry.healthy_ticks = "", 0
            if outcome is Outcome.PROMOTED:
                entry.ruling = detector.identity
                self._record.keep(pack_id, detector.pack.folder)
                log.info("pack %s: %s has passed its trial and runs", detector.pack.folder, detector.label)
            else:
                entry.reverted, entry.why = detector.identity, f"it found {detector.pack.manifest.fault_code} where nothing else did"
                self._refuse(detector.pack.folder, f"pack {detector.pack.folder}: {detector.label} was reverted: {entry.why}")
            self._record.write()

    def _remember(self, now_s: float | None = None) -> None:
        if self._folders:
            said = self.detectors.watch.said if self.detectors.watch is not None else {}
            self._states.write((one for slot in self.detectors.slots for one in slot.detectors), said, now_s)

    def _keep(self) -> None:
        for slot in self.detectors.slots:
            if slot.shadow is not None and (entry := self._record.entries.get(slot.pack_id)) is not None:
                entry.healthy_ticks = slot.trial.healthy_ticks
        if self._record.entries or not self._record.first:
            self._record.write()


def _stamps(folders: Sequence[str]) -> dict[Path, Stamp]:
    """Every pack's folder with its stamp, in the order in which they load."""
    return {folder: tuple(_stamp(folder / name) for name in (MODEL, MANIFEST, SIGNATURE)) for path in folders for folder in packs_of(path)}


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.lstat()
    except OSError:  # not there, or not to be read: what loads it says so
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
