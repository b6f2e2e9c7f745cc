"""How far a fault has developed, over seconds or weeks, for many vehicles at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.errors import ScenarioError
from simulator.fault_kinds import DEVELOPED, FAILED, LAWS, FaultKind

__all__ = ["NEVER_S", "Course"]

NEVER_S = float("inf")
Times = NDArray[np.float64]


@dataclass(frozen=True)
class Course:
    """Of one kind of fault in n vehicles. Times are seconds since the scenario's start; a vehicle without the fault has all of them at inf.

    0 before the onset; the kind's law up to 1 at `developed_s`; evenly from there to 2 at `failed_s`, where it stays; 0 again from
    `repaired_s` on. `failed_s` of inf: the fault stays fully developed.
    """

    kind: FaultKind
    onset_s: Times  # (n,)
    developed_s: Times  # (n,)
    failed_s: Times  # (n,)
    repaired_s: Times  # (n,)
    place: NDArray[np.intp]  # (n,) which wheel or cell; 0 where the kind has one place

    def __post_init__(self) -> None:
        has = np.isfinite(self.onset_s)
        ordered = (self.onset_s >= 0) & (self.onset_s <= self.developed_s) & (self.developed_s <= self.failed_s)
        if not (ordered | ~has).all():
            number = int(np.flatnonzero(has & ~ordered)[0])
            times = ", ".join(f"{float(part[number]):g} s" for part in (self.onset_s, self.developed_s, self.failed_s))
            raise ScenarioError(f"{self.kind.code}: expected 0 <= onset <= developed <= failed, found {times}")

    @staticmethod
    def none(kind: FaultKind, vehicles: int) -> Course:
        """Of vehicles that do not have it."""
        never = np.full(vehicles, NEVER_S)
        return Course(kind, never, never.copy(), never.copy(), never.copy(), np.zeros(vehicles, np.intp))

    def __len__(self) -> int:
        return len(self.onset_s)

    def severity(self, time_s: float | Times) -> Times:
        """(n,) at this instant, or each vehicle at its own (n,)."""
        since = time_s - self.onset_s
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(self.developed_s > self.onset_s, since / (self.developed_s - self.onset_s), 1.0)
            late = np.where(self.failed_s > self.developed_s, (time_s - self.developed_s) / (self.failed_s - self.developed_s), 1.0)
        growing = DEVELOPED * LAWS[self.kind.law](np.clip(np.nan_to_num(share), 0.0, 1.0))
        failing = DEVELOPED + (FAILED - DEVELOPED) * np.clip(np.nan_to_num(late), 0.0, 1.0)
        severity = np.where(time_s >= self.developed_s, failing, growing)
        return np.where((since >= 0) & (time_s < self.repaired_s), severity, 0.0)

    def severity_at(self, vehicle: int, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """(m,) of one vehicle at m instants."""
        one = slice(vehicle, vehicle + 1)
        alone = Course(self.kind, self.onset_s[one], self.developed_s[one], self.failed_s[one], self.repaired_s[one], self.place[one])
        return np.array([alone.severity(float(at))[0] for at in time_s])
