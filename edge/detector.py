"""One pack at work on the vehicle: a snapshot in, a finding out when one begins, is confirmed over drives, or ends."""

import math
import os
from collections import deque
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from dbc.sampler import Snapshot
from dbc.schema import Schema
from edge.surroundings import Surroundings
from models.alarm import Transition
from models.drift import DriftState
from models.drives import Level
from models.judge import PackJudge
from models.manifest import encode, sha256
from models.pack import Pack
from models.runtime import PackRuntime, Score
from wire.messages import WINDOW_TICKS, Contribution, FindingMessage, Window

CONTRIBUTIONS = 8  # signals named in a finding
WINDOW_SIGNALS = 5  # of these, drawn in its window
SCORE = "score"

NS_PER_MS = 1_000_000


class Kept(msgspec.Struct):
    """What a detector remembers over an end of the agent. judge: of models/judge.py. changed: the recorded change it still learns from."""

    identity: str
    axis: str
    finding_id: bytes
    since_ms: int | None
    judge: bytes
    drift: DriftState
    changed: str


class _Tick(msgspec.Struct, frozen=True):
    """What a window is made of. values: (k,) float64, NaN = not valid."""

    tick_ms: int
    values: NDArray[np.float64]
    score: float | None


class Detector:
    """One pack at work."""

    def __init__(self, pack: Pack, schema: Schema, axis: str = "") -> None:
        """axis: which the ticks' times are of, a boot's id. Raises PackSchemaError or PackError: the pack does not fit, or does not run."""
        self.pack = pack
        self.identity = sha256(encode(pack.manifest))
        """Equal for packs that say the same, wherever they lie."""
        self.known = False
        """Whether the newest tick could be judged."""
        self._columns = pack.columns(schema)
        self._looks_at_network = bool((self._columns >= len(schema)).any())
        self._axis = axis
        self._judge = PackJudge(PackRuntime(pack, brief=True), axis)
        self._surroundings = Surroundings(pack.manifest)
        self._changed = ""
        self._history: deque[_Tick] = deque(maxlen=WINDOW_TICKS)
        self._finding_id = b""
        self._since_ms: int | None = None  # of the finding; None: on another axis

    @property
    def label(self) -> str:
        return f"{self.pack.manifest.pack_id} {self.pack.manifest.version}"

    @property
    def active(self) -> bool:
        """Whether a finding is."""
        return self._judge.active

    @property
    def relearning(self) -> str:
        """Why it is, in words; "" when it is not."""
        learned, baseline = self._judge.learned, self.pack.manifest.baseline
        if self._changed and learned is not None and baseline is not None and learned[0] < baseline.least:
            return f"{self._changed}; {learned[0]} of {baseline.least} healthy drives"
        return self._surroundings.drifted

    @property
    def revision(self) -> int:
        """Counts what is worth keeping over an end of the agent."""
        return self._judge.revision + self._surroundings.revision

    def follow(self, before: "Detector") -> None:
        """Take the place of another version of this pack: a finding that is open stays open until this one clears it."""
        if not self.restore(before.keep()):
            self._judge.follow(before._judge)
            self._finding_id, self._since_ms = before._finding_id, before._since_ms

    def keep(self) -> Kept:
        """What `restore` takes."""
        drift = self._surroundings.state
        return Kept(self.identity, self._axis, self._finding_id, self._since_ms, self._judge.state(), drift, self._changed)

    def restore(self, kept: Kept) -> bool:
        """Go on where `keep` left off; False where that was of another model, of which nothing holds. Raises StateError."""
        if not self._judge.restore(kept.judge):
            return False
        self._finding_id, self._changed = kept.finding_id, kept.changed
        self._since_ms = kept.since_ms if kept.axis == self._axis else None
        if len(kept.drift.mean) in (0, self._surroundings.inputs):
            self._surroundings.state = kept.drift
        return True

    def reset(self, change: str, tick_ms: int) -> FindingMessage | None:
        """A recorded change: the vehicle is new to the pack. The finding that this ends, if one is active."""
        cleared = None
        if self._judge.active:
            value = next((tick.score for tick in reversed(self._history) if tick.score is not None), 0.0)
            cleared = self._message("cleared", self._judge.level, value, tick_ms)
        self._judge.reset()
        self._surroundings.reset()
        self._history.clear()
        self._changed = change
        return cleared

    def step(self, snapshot: Snapshot, hold: bool = False) -> FindingMessage | None:
        """Judge one tick; a finding when this tick raised, confirmed or cleared one. hold: something else says that the vehicle is not
        healthy, and nothing is learned from this drive. Raises ScoreError.
        """
        tick_ms = snapshot.tick_ns // NS_PER_MS
        values = snapshot.inputs(self._columns) if self._looks_at_network else snapshot.known.take(self._columns)
        if self._history and tick_ms <= self._history[-1].tick_ms:  # the frames' clock was set back: as after a gap
            self._history.clear()
        said = self._judge.step(values, tick_ms, hold)
        score = said.score
        self.known = score.judged is not None
        self._history.append(_Tick(tick_ms, values, score.score))
        self._surroundings.step(values, tick_ms, scored=score.score is not None, ill=hold or said.level is not None)
        if self._since_ms is None:
            self._since_ms = tick_ms
        if said.transition is None or score.score is None:
            return None
        if said.transition is Transition.RAISED:
            self._finding_id = os.urandom(16)
            self._since_ms = said.since_ms if said.since_ms is not None else tick_ms
        state: Literal["active", "cleared"] = "cleared" if said.transition is Transition.CLEARED else "active"
        return self._finding(state, said.level, self._judge.runtime.explain(score), score.score, tick_ms)

    def _finding(
        self,
        state: Literal["active", "cleared"],
        level: Level | None,
        score: Score,
        value: float,
        tick_ms: int,
    ) -> FindingMessage:
        signals = self.pack.manifest.signals
        order = np.argsort(-score.contributions, kind="stable")
        top = [int(at) for at in order[:CONTRIBUTIONS] if score.contributions[at] > 0]
        evidence = self._judge.runtime.evidence(score)
        contributions = [
            Contribution(
                signal=signals[at].name,
                unit=signals[at].unit,
                expected=_finite(evidence.expected[at]),
                seen=_finite(evidence.seen[at]),
                share=float(score.contributions[at]),
                margin=_finite(evidence.margin[at]),
            )
            for at in top
        ]
        p_value = None if score.p_value is None else _finite(score.p_value)
        return self._message(state, level, value, tick_ms, p_value, contributions, top)

    def _message(
        self,
        state: Literal["active", "cleared"],
        level: Level | None,
        value: float,
        tick_ms: int,
        p_value: float | None = None,
        contributions: Sequence[Contribution] = (),
        top: Sequence[int] = (),
    ) -> FindingMessage:
        manifest = self.pack.manifest
        return FindingMessage(
            finding_id=self._finding_id,
            state=state,
            pack_id=manifest.pack_id,
            fault_code=manifest.fault_code,
            tick_ms=tick_ms,
            since_ms=min(tick_ms, self._since_ms if self._since_ms is not None else tick_ms),
            score=value,
            threshold=manifest.threshold.raise_at,
            p_value=p_value,
            contributions=list(contributions),
            window=self._window(list(top[:WINDOW_SIGNALS])),
            level="seen" if level is Level.SEEN else "ticket",
        )

    def _window(self, top: list[int]) -> Window:
        ticks = list(self._history)
        return Window(
            tick_ms=[tick.tick_ms for tick in ticks],
            signals=[SCORE, *(self.pack.manifest.signals[at].name for at in top)],
            values=[[tick.score for tick in ticks], *([_finite(tick.values[at]) for tick in ticks] for at in top)],
        )


def _finite(value: float | np.floating) -> float | None:
    return float(value) if math.isfinite(value) else None
