"""What the vehicle shows of changes around its detectors: drives whose operating points have moved, another software version, a service.

The rules are models/drift.py's; here drives are cut out of the ticks, and values are kept until they are steady.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dbc.catalogue import Catalogue
from dbc.sampler import Snapshot
from dbc.schema import Schema
from models.drift import LEARN, Changes, Drift, DriftState
from models.drives import LONGEST_TICKS
from models.manifest import Manifest

__all__ = ["ChangeWatch", "Surroundings"]

STEADY_TICKS = 60
"""A changed value must stay for so long: one wild frame is no service."""


class Surroundings:
    """The operating points of one pack: the means of its context signals over each healthy drive."""

    def __init__(self, manifest: Manifest) -> None:
        context = [at for at, signal in enumerate(manifest.signals) if signal.role == "context" and signal.maximum > signal.minimum]
        self._columns = np.array(context, np.int64)
        self._names = [manifest.signals[at].name for at in context]
        self._rule = Drift(np.array([manifest.signals[at].maximum - manifest.signals[at].minimum for at in context]))
        self._drives = manifest.drive_rule()
        self.state = DriftState()
        self.revision = 0
        """Counts drives that have been taken."""
        self._last_ms: int | None = None
        self._total = np.zeros(len(context))
        self._ticks = 0
        self._ill = False

    @property
    def inputs(self) -> int:
        """Signals whose operating points are watched."""
        return len(self._columns)

    @property
    def drifted(self) -> str:
        """What has moved, in words; "" = nothing."""
        if not self.state.drifted:
            return ""
        names = ", ".join(self._names[at] for at in self.state.drifted[:3])
        return f"other operating points: {names}; {self.state.learned} of {LEARN} healthy drives"

    def step(self, values: NDArray[np.float64], tick_ms: int, *, scored: bool, ill: bool) -> None:
        """values: (k,) of the pack's signals. scored: all of them are valid. ill: a finding is active, of this pack or of another."""
        if not len(self._columns) or not scored:
            return
        if self._last_ms is not None and (tick_ms - self._last_ms > self._drives.gap_ms or self._ticks >= LONGEST_TICKS):
            self._end_drive()
        self._last_ms = tick_ms
        self._total += values.take(self._columns)
        self._ticks += 1
        self._ill = self._ill or ill

    def reset(self) -> None:
        """A recorded change: nothing of before is a reference."""
        self.state = DriftState()
        self._begin()
        self.revision += 1

    def _end_drive(self) -> None:
        if self._ticks >= self._drives.least_ticks and not self._ill:
            self.state = self._rule.add(self.state, self._total / self._ticks)
            self.revision += 1
        self._begin()

    def _begin(self) -> None:
        self._last_ms = None
        self._total = np.zeros(len(self._columns))
        self._ticks = 0
        self._ill = False


class ChangeWatch:
    """The signals that record a change of the vehicle: what they said last, over ends of the agent too."""

    def __init__(self, catalogue: Catalogue, schema: Schema) -> None:
        self.said: dict[str, float] = {}
        """What holds, by signal"""
        places = {name: at for at, name in enumerate(schema.names)}
        places |= {name.partition(":")[2]: at for name, at in places.items() if ":" in name}
        named: Sequence[str] = [name for name in (*catalogue.software, *catalogue.service) if name in places]
        self._names = named
        self._columns = np.array([places[name] for name in named], np.int64)
        spans = {name: float(schema.maximum[places[name]] - schema.minimum[places[name]]) for name in catalogue.service if name in places}
        self._rule = Changes(catalogue.software, {name: span if np.isfinite(span) else 0.0 for name, span in spans.items()})
        self._steady = 0

    def step(self, snapshot: Snapshot) -> str:
        """The change that this tick makes certain, in words; "" = none."""
        if not self._names:
            return ""
        values = snapshot.value[self._columns]
        now = {name: float(value) for name, value in zip(self._names, values, strict=True) if np.isfinite(value)}
        change = self._rule.since(self.said, now)
        if not change:
            self._steady = 0
            self.said |= now
            return ""
        self._steady += 1
        if self._steady < STEADY_TICKS:
            return ""
        self._steady = 0
        self.said |= now
        return change
