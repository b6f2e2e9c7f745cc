"""A pack at work on one vehicle: tick in, score and finding out, and what is remembered from drive to drive.

runtime (runtime.py) -> alarm (alarm.py) -> drives and level (drives.py) -> the vehicle's own baseline (baseline.py). The vehicle and
`cansight models score` call `PackJudge.step`; models/vehicle.py says the same of whole recordings at once.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.alarm import AlarmState, Transition
from models.baseline import BaselineState
from models.drives import DriveState, Level
from models.errors import StateError
from models.pack import Pack
from models.runtime import PackRuntime, Score

__all__ = ["Judgement", "PackJudge"]

FOLLOWED_TICKS = 600
"""Levels that follow are worth keeping so often: a vehicle whose agent dies loses ten minutes of them."""


class Judgement(msgspec.Struct, frozen=True):
    """What a pack says of one tick.

    transition: RAISED: a finding begins, of `level`. CONFIRMED: it reaches ticket level. CLEARED: it ends, of the `level` that it had.
    level, since_ms: of the finding that is active, or that has just ended; None without one.
    """

    score: Score
    transition: Transition | None
    level: Level | None
    since_ms: int | None


class _Memory(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What `PackJudge` remembers; a few kilobytes at most."""

    model: str
    """SHA-256 of the model.onnx that it is of."""
    axis: str
    """Of which the times are: those of another boot say nothing here."""
    alarm: AlarmState = AlarmState()
    sure: AlarmState = AlarmState()
    drive: DriveState = DriveState()
    level: Level | None = None
    held: bool = False
    """The drive at hand does not enter the baseline."""
    total: list[float] = []
    """(m,) sum of the offsets over the judged ticks of the drive at hand."""
    baseline: BaselineState = BaselineState()
    levels: list[float] = []
    """What a pack of the rung following hands from tick to tick."""


class PackJudge:
    """One pack on one vehicle. A fresh one is that of a vehicle that the pack has never seen."""

    def __init__(self, runtime: PackRuntime, axis: str = "") -> None:
        """axis: what `tick_ms` counts from, in any words (a boot's id): a state that is restored on another axis begins a new drive."""
        self.runtime = runtime
        manifest = runtime.pack.manifest
        self._alarm, self._sure = manifest.alarm(), manifest.sure()
        self._drives, self._rule = manifest.drive_rule(), manifest.baselines()
        self._monitored = np.array(manifest.monitored, np.int64)
        self._axis = axis
        self._memory = self._fresh()
        self._total = np.zeros(len(self._monitored))
        self.revision = 0
        """Counts what is worth keeping: a drive's end, a finding's transition, a reset, ten minutes of levels. Ticks are not."""
        self._follows = manifest.rung == "following"
        runtime.set_baseline(None)

    @property
    def pack(self) -> Pack:
        return self.runtime.pack

    @property
    def baseline(self) -> NDArray[np.float64] | None:
        """(m,) the vehicle's own, of the monitored signals in their units; None: not learned yet, or none is asked for."""
        return self._rule.value(self._memory.baseline) if self._rule is not None else None

    @property
    def learned(self) -> tuple[int, int] | None:
        """Healthy drives that the baseline is made of, and those after which it is frozen; None: the pack has no baselines."""
        return (len(self._memory.baseline.drives), self._rule.most) if self._rule is not None else None

    @property
    def active(self) -> bool:
        """Whether a finding is active."""
        return self._memory.alarm.active

    @property
    def level(self) -> Level | None:
        """Of the active finding; None without one."""
        return self._memory.level if self._memory.alarm.active else None

    def step(self, values: NDArray[np.float64], tick_ms: int, hold: bool = False) -> Judgement:
        """Judge one tick.

        values: (k,) float64 in the order of the manifest, NaN where the signal is not valid. hold: something else says that the vehicle is
        not healthy (another pack's finding, a trouble code), so this drive does not enter the baseline. Raises ScoreError.
        """
        memory = self._memory
        if memory.drive.last_ms is not None and tick_ms < memory.drive.last_ms:  # the clock was set back: as after a gap
            memory.alarm, memory.sure = _after_gap(memory.alarm), _after_gap(memory.sure)
        if self._drives.over(memory.drive, tick_ms):
            self._end_drive()
        score = self.runtime.score(values, tick_ms)
        judged = score.judged
        if judged is None or memory.alarm.last_ms == tick_ms:
            return Judgement(score, None, self.level, memory.alarm.since_ms)
        since = memory.alarm.since_ms
        memory.alarm, transition = self._alarm.step(memory.alarm, judged, tick_ms)
        sure = False
        if self._sure is not None:
            memory.sure, _ = self._sure.step(memory.sure, judged, tick_ms)
            sure = self._sure.persists(memory.sure)
        evidence = self._alarm.persists(memory.alarm)
        memory.drive = self._drives.step(memory.drive, tick_ms, evidence)
        memory.held = memory.held or hold or evidence or memory.alarm.active or transition is not None
        if self._rule is not None and score.offset is not None:
            self._total += score.offset.take(self._monitored)
        level = memory.level
        if transition is Transition.CLEARED:
            memory.level = None
        elif memory.alarm.active:
            reached = Level.TICKET if sure else self._drives.level(memory.drive)
            if transition is Transition.RAISED:
                level = memory.level = reached
            elif level is Level.SEEN and evidence and reached is Level.TICKET:
                level, transition = Level.TICKET, Transition.CONFIRMED
                memory.level = level
        else:
            level = None
        if transition is not None or (self._follows and memory.drive.ticks % FOLLOWED_TICKS == 0):
            self.revision += 1
        return Judgement(score, transition, level, since if transition is Transition.CLEARED else memory.alarm.since_ms)

    def restart(self) -> None:
        """The next tick begins a drive: the vehicle was off, or another recording of it begins. An active finding stays."""
        memory = self._memory
        self.runtime.reset()
        if memory.drive != DriveState(before=memory.drive.before):
            self._end_drive()
        memory.alarm, memory.sure = _after_gap(memory.alarm), _after_gap(memory.sure)

    def reset(self) -> None:
        """A recorded service or a change of software: the vehicle is as new to the pack as on its first drive.

        The caller ends a finding that is active.
        """
        self._memory = self._fresh()
        self._total[:] = 0
        self.runtime.set_baseline(None)
        self.runtime.reset()
        self.revision += 1

    def follow(self, before: "PackJudge") -> None:
        """Take the place of another version of the pack: its active finding stays active, of its level, until this one clears it."""
        self._memory.alarm, self._memory.level = _after_gap(before._memory.alarm), before.level
        self._memory.held = self._memory.held or before.active
        self.revision += 1

    def state(self) -> bytes:
        """What `restore` takes, as JSON: a few hundred bytes, 30 drives' means of each monitored signal at most."""
        self._memory.total, self._memory.levels = self._total.tolist(), self.runtime.state.tolist()
        return msgspec.json.encode(self._memory)

    def restore(self, data: bytes) -> bool:
        """Go on where `state` left off; whether it was of this very model, of which alone a baseline is true. Raises StateError."""
        try:
            memory = msgspec.json.decode(data, type=_Memory)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise StateError(f"pack {self.pack.folder}: the state that was kept of it cannot be read: {error}; it begins anew") from error
        count = len(self._monitored)
        if memory.model != self.pack.manifest.model.sha256:
            return False
        if len(memory.total) != count or any(len(drive) != count for drive in memory.baseline.drives):
            raise StateError(f"pack {self.pack.folder}: the state that was kept of it is not of {count} signals; it begins anew")
        if memory.levels and len(memory.levels) != len(self.runtime.state):
            raise StateError(f"pack {self.pack.folder}: the levels that were kept of it are not {len(self.runtime.state)}; it begins anew")
        self._memory = memory
        self._total = np.array(memory.total, np.float64)
        self.runtime.reset()
        self.runtime.set_baseline(self.baseline)
        if memory.levels:
            self.runtime.go_on(memory.levels)
        if memory.axis != self._axis:
            memory.axis = self._axis
            self.restart()
        return True

    def _fresh(self) -> _Memory:
        return _Memory(model=self.pack.manifest.model.sha256, axis=self._axis, total=[0.0] * len(self._monitored))

    def _end_drive(self) -> None:
        memory = self._memory
        ticks = memory.drive.ticks
        if self._rule is not None and not memory.held and ticks >= self._drives.least_ticks:
            before = memory.baseline
            memory.baseline = self._rule.add(before, self._total / ticks)
            if memory.baseline is not before:
                self.runtime.set_baseline(self.baseline)
        memory.drive = self._drives.close(memory.drive)
        memory.held = False
        self._total[:] = 0
        self.revision += 1


def _after_gap(state: AlarmState) -> AlarmState:
    return AlarmState(active=state.active, since_ms=state.since_ms)
