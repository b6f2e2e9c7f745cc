"""The detectors' schedule: every pack judges every snapshot, and says something when a finding begins, is confirmed, or ends."""

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from dbc.sampler import Snapshot
from dbc.schema import Schema
from edge.detector import CONTRIBUTIONS, NS_PER_MS, Detector
from edge.shadow import Outcome, Trial, judge
from edge.surroundings import ChangeWatch
from models.errors import ModelsError, ScoreError
from models.pack import MANIFEST, MODEL, SIGNATURE, Pack
from wire.messages import FindingMessage

__all__ = ["CONTRIBUTIONS", "Detector", "Detectors", "Slot", "holds_packs", "packs_of"]

log = logging.getLogger(__name__)


@dataclass
class Slot:
    """One pack id: the version that rules, and one that is tried in shadow. One of them may be missing."""

    ruling: Detector | None
    shadow: Detector | None = None
    trial: Trial = field(default_factory=Trial)

    @property
    def detectors(self) -> list[Detector]:
        return [one for one in (self.ruling, self.shadow) if one is not None]

    @property
    def pack_id(self) -> str:
        return self.detectors[0].pack.manifest.pack_id


class Detectors:
    """All packs that could be loaded. One that breaks is left out with one line in the log; the others and the recording go on."""

    def __init__(self, detectors: Sequence[Detector] = (), refused: Sequence[str] = (), shadow_ticks: int = 0) -> None:
        """shadow_ticks: healthy ticks that a pack in shadow needs."""
        self.slots = [Slot(detector) for detector in detectors]
        self.running: list[str] = []
        """ids of the packs that rule; kept up to date"""
        self.in_shadow: list[str] = []
        """one line for each pack that is tried; kept up to date by `tell`"""
        self.refused = list(refused)
        """one line for each pack that is not at work; kept up to date"""
        self.decided: deque[tuple[Slot, Detector, Outcome]] = deque()
        """trials that have ended, for whoever keeps the record: the slot as it is now, the pack that was tried, and how it ended"""
        self.relearning: list[str] = []
        """one line for each pack that learns its vehicle anew, and why; kept up to date by `tell`"""
        self.watch: ChangeWatch | None = None
        """what records a change of the vehicle; None: nothing does"""
        self._shadow_ticks = shadow_ticks
        self.tell()

    @classmethod
    def load(cls, folders: Sequence[str], trusted: Ed25519PublicKey | None, schema: Schema) -> "Detectors":
        """Load every pack that is signed by `trusted` and fits the schema. A folder may be a pack, or hold packs."""
        detectors, refused = [], []
        for folder in (pack for path in folders for pack in packs_of(path)):
            try:
                detectors.append(Detector(Pack.load(folder, trusted), schema))
            except ModelsError as error:
                log.error("%s; the agent runs without this detector", error)
                refused.append(str(error))
        return cls(detectors, refused)

    @property
    def pack_ids(self) -> tuple[str, ...]:
        return tuple(self.running)

    def step(self, snapshot: Snapshot) -> list[FindingMessage]:
        """What the detectors say of this tick. What one in shadow finds is not said; it decides its trial."""
        findings = self._changed(snapshot)
        ill = any(slot.ruling is not None and slot.ruling.active for slot in self.slots)
        for slot in list(self.slots):
            if slot.ruling is not None and (finding := self._step(slot, slot.ruling, snapshot, ill)) is not None:
                findings.append(finding)
            if slot.shadow is not None:
                self._try(slot, slot.shadow, snapshot, ill)
        return findings

    def _changed(self, snapshot: Snapshot) -> list[FindingMessage]:
        """After a recorded change every pack learns the vehicle anew; what was found before is over."""
        if self.watch is None or not (change := self.watch.step(snapshot)):
            return []
        log.info("%s: every pack learns this vehicle anew", change)
        tick_ms = snapshot.tick_ns // NS_PER_MS
        said = [slot.ruling.reset(change, tick_ms) for slot in self.slots if slot.ruling is not None]
        for slot in self.slots:
            if slot.shadow is not None:
                slot.shadow.reset(change, tick_ms)
                slot.trial = Trial(slot.trial.healthy_ticks)
        self.tell()
        return [finding for finding in said if finding is not None]

    def _step(self, slot: Slot, detector: Detector, snapshot: Snapshot, ill: bool) -> FindingMessage | None:
        try:
            return detector.step(snapshot, ill)
        except ScoreError as error:
            log.error("%s; the agent goes on without this detector", error)
            self.refused.append(str(error))
            if detector is slot.ruling:
                slot.ruling = None
            else:
                slot.shadow = None
                self.decided.append((slot, detector, Outcome.REVERTED))
            if not slot.detectors:
                self.slots.remove(slot)
            self.tell()
            return None

    def _try(self, slot: Slot, shadow: Detector, snapshot: Snapshot, ill: bool) -> None:
        self._step(slot, shadow, snapshot, ill)
        if slot.shadow is None:
            return
        others = slot.ruling is not None and slot.ruling.active
        slot.trial, outcome = judge(slot.trial, self._shadow_ticks, known=shadow.known, active=shadow.active, others=others)
        if outcome is Outcome.GOES_ON:
            return
        slot.shadow, slot.trial = None, Trial()
        if outcome is Outcome.PROMOTED:
            slot.ruling = shadow
        elif slot.ruling is None:
            self.slots.remove(slot)
        self.decided.append((slot, shadow, outcome))
        self.tell()

    def tell(self) -> None:
        """Bring `running`, `in_shadow` and `relearning` up to date; the lists themselves stay, others hold them."""
        self.running[:] = [slot.ruling.pack.manifest.pack_id for slot in self.slots if slot.ruling is not None]
        self.in_shadow[:] = [
            f"{slot.shadow.label}: {slot.trial.healthy_ticks // 60} of {self._shadow_ticks // 60} healthy minutes"
            for slot in self.slots
            if slot.shadow is not None
        ]
        self.relearning[:] = [
            f"{slot.ruling.pack.manifest.pack_id}: {slot.ruling.relearning}"
            for slot in self.slots
            if slot.ruling is not None and slot.ruling.relearning
        ]


def packs_of(path: str | Path) -> list[Path]:
    """The packs in a folder of packs, by name; a folder that is itself a pack, or is none, alone. An empty one is a folder of no packs."""
    folder = Path(path)
    if not holds_packs(folder):
        return [folder]
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def holds_packs(folder: Path) -> bool:
    """Whether a folder is one of packs: folders, with a README beside them perhaps, and no file of a pack. An empty one is."""
    try:
        entries = list(folder.iterdir())
    except OSError:  # not there, or no folder: what loads it says so
        return False
    if any(entry.name in (MODEL, MANIFEST, SIGNATURE) for entry in entries):
        return False
    return not entries or any(entry.is_dir() for entry in entries)
