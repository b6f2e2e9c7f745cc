"""The detectors' schedule: every pack scores every snapshot, and says something when its alarm is raised or cleared."""

import logging
import math
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray

from dbc.sampler import Snapshot
from dbc.schema import Schema
from edge.shadow import Outcome, Trial, judge
from models.alarm import AlarmState, Transition
from models.errors import ModelsError, ScoreError
from models.manifest import encode, sha256
from models.pack import Pack
from models.runtime import PackRuntime, Score
from wire.messages import WINDOW_TICKS, Contribution, FindingMessage, Window

CONTRIBUTIONS = 8  # signals named in a finding
WINDOW_SIGNALS = 5  # of these, drawn in its window
SCORE = "score"

NS_PER_MS = 1_000_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Tick:
    """What a window is made of. values: (k,) float64, NaN = not valid."""

    tick_ms: int
    values: NDArray[np.float64]
    score: float | None


class Detector:
    """One pack at work."""

    def __init__(self, pack: Pack, schema: Schema) -> None:
        """Raises PackSchemaError or PackError when the pack does not fit the schema or does not run."""
        self.pack = pack
        self.identity = sha256(encode(pack.manifest))
        """Equal for packs that say the same, wherever they lie."""
        self.known = False
        """Whether the newest tick could be judged."""
        self._columns = pack.columns(schema)
        self._runtime = PackRuntime(pack)
        self._alarm = pack.manifest.alarm()
        self._state = AlarmState()
        self._history: deque[_Tick] = deque(maxlen=WINDOW_TICKS)
        self._finding_id = b""
        self._since_ms = 0

    @property
    def label(self) -> str:
        return f"{self.pack.manifest.pack_id} {self.pack.manifest.version}"

    @property
    def active(self) -> bool:
        """Whether its alarm is."""
        return self._state.active

    def follow(self, before: "Detector") -> None:
        """Take the place of another version of this pack: a finding that is open stays open until this one clears it."""
        self._state = AlarmState(active=before._state.active, since_ms=before._state.since_ms)
        self._finding_id, self._since_ms = before._finding_id, before._since_ms

    def step(self, snapshot: Snapshot) -> FindingMessage | None:
        """Score one tick; a finding when this tick raised or cleared the alarm. Raises ScoreError."""
        tick_ms = snapshot.tick_ns // NS_PER_MS
        values = snapshot.value[self._columns]
        if self._history and tick_ms <= self._history[-1].tick_ms:  # the frames' clock was set back: as after a gap, and an alarm stays
            self._history.clear()
            self._state = AlarmState(active=self._state.active, since_ms=self._state.since_ms)
        score = self._runtime.score(values, tick_ms)
        self.known = score.judged is not None
        self._history.append(_Tick(tick_ms, values, score.score))
        self._state, transition = self._alarm.step(self._state, score.judged, tick_ms)
        if transition is None or score.score is None:
            return None
        if transition is Transition.RAISED:
            self._finding_id = os.urandom(16)
            self._since_ms = self._state.since_ms if self._state.since_ms is not None else tick_ms
        return self._finding(transition, score, score.score, tick_ms, values)

    def _finding(self, transition: Transition, score: Score, value: float, tick_ms: int, values: NDArray[np.float64]) -> FindingMessage:
        manifest = self.pack.manifest
        order = np.argsort(-score.contributions, kind="stable")
        top = [int(at) for at in order[:CONTRIBUTIONS] if score.contributions[at] > 0]
        margins = self._runtime.margins(score)
        return FindingMessage(
            finding_id=self._finding_id,
            state="active" if transition is Transition.RAISED else "cleared",
            pack_id=manifest.pack_id,
            fault_code=manifest.fault_code,
            tick_ms=tick_ms,
            since_ms=self._since_ms,
            score=value,
            threshold=self._alarm.raise_at,
            p_value=None if score.p_value is None else _finite(score.p_value),
            contributions=[
                Contribution(
                    signal=manifest.signals[at].name,
                    unit=manifest.signals[at].unit,
                    expected=_finite(score.expected[at]),
                    seen=_finite(values[at]),
                    share=float(score.contributions[at]),
                    margin=_finite(margins[at]),
                )
                for at in top
            ],
            window=self._window(top[:WINDOW_SIGNALS]),
        )

    def _window(self, top: list[int]) -> Window:
        ticks = list(self._history)
        return Window(
            tick_ms=[tick.tick_ms for tick in ticks],
            signals=[SCORE, *(self.pack.manifest.signals[at].name for at in top)],
            values=[[tick.score for tick in ticks], *([_finite(tick.values[at]) for tick in ticks] for at in top)],
        )


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
        findings = []
        for slot in list(self.slots):
            if slot.ruling is not None and (finding := self._step(slot, slot.ruling, snapshot)) is not None:
                findings.append(finding)
            if slot.shadow is not None:
                self._try(slot, slot.shadow, snapshot)
        return findings

    def _step(self, slot: Slot, detector: Detector, snapshot: Snapshot) -> FindingMessage | None:
        try:
            return detector.step(snapshot)
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

    def _try(self, slot: Slot, shadow: Detector, snapshot: Snapshot) -> None:
        self._step(slot, shadow, snapshot)
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
        """Bring `running` and `in_shadow` up to date; the lists themselves stay, others hold them."""
        self.running[:] = [slot.ruling.pack.manifest.pack_id for slot in self.slots if slot.ruling is not None]
        self.in_shadow[:] = [
            f"{slot.shadow.label}: {slot.trial.healthy_ticks // 60} of {self._shadow_ticks // 60} healthy minutes"
            for slot in self.slots
            if slot.shadow is not None
        ]


def packs_of(path: str | Path) -> list[Path]:
    """The packs in a folder of packs, by name; a folder that is itself a pack, or is none, alone. An empty one is a folder of no packs."""
    folder = Path(path)
    if not holds_packs(folder):
        return [folder]
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def holds_packs(folder: Path) -> bool:
    """Whether a folder is one of packs: of folders alone."""
    try:
        return all(entry.is_dir() for entry in folder.iterdir())
    except OSError:  # not there, or no folder: what loads it says so
        return False


def _finite(value: float | np.floating) -> float | None:
    return float(value) if math.isfinite(value) else None
