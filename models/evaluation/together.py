"""Several packs on one vehicle: what its owner gets to see is all of their findings, and the first one in a fault names it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.evaluation.confidence import Figure, poisson, rate, share
from models.evaluation.events import DriveCounts, Event, Judged

__all__ = ["Code", "Together", "Vehicle"]


@dataclass
class Vehicle:
    """One recording, as all packs judged it."""

    healthy: int
    """ticks outside every fault"""
    events: list[Event]
    """those that have ticks"""
    findings: list[tuple[int, str]] = field(default_factory=list)
    """ms at which each reached ticket level, and fault code"""
    below: list[tuple[int, str]] = field(default_factory=list)
    """ms and fault code of those that never did"""


@dataclass(frozen=True)
class Code:
    """Faults of one code, found at ticket level. named: of those found, the codes of the first finding in each."""

    fault_code: str
    found: Figure
    before_failure: Figure
    with_spare: Figure
    named: dict[str, int]


@dataclass
class Together:
    """Collects; give `see(pack's fault code)` as `each` of `models.evaluation.judging.run`, for each pack over the same recordings."""

    vehicles: dict[str, Vehicle] = field(default_factory=dict)

    def see(self, fault_code: str) -> Any:
        """What to call with every judged drive of the pack of this code."""

        def one(judged: Judged, events: list[Event], _counted: DriveCounts) -> None:
            vehicle = self.vehicles.get(judged.source)
            if vehicle is None:
                healthy = np.ones(len(judged.tick_ms), bool)
                seen = []
                for event in events:
                    inside = (judged.tick_ms >= event.begin_ms) & (judged.tick_ms < event.end_ms)
                    healthy &= ~inside
                    seen += [event] if inside.any() else []
                vehicle = self.vehicles[judged.source] = Vehicle(int(healthy.sum()), seen)
            tickets = judged.raised if judged.ticket is None else judged.ticket
            vehicle.findings += [(int(judged.tick_ms[row]), fault_code) for row in tickets if row >= 0]
            vehicle.below += [(int(judged.tick_ms[row]), fault_code) for row in judged.raised[tickets < 0]]

        return one

    def false_findings(self, month_hours: float, below: bool = False) -> tuple[Figure, float | None]:
        """Findings of any pack outside every fault that reached ticket level, a vehicle-month; and the one-sided 95 % upper bound.

        below: those that never reached it.
        """
        everyone = list(self.vehicles.values())
        found = [vehicle.below if below else vehicle.findings for vehicle in everyone]
        counts = np.array([sum(not _inside(one.events, at) for at, _ in of) for one, of in zip(everyone, found, strict=True)], np.float64)
        months = np.array([vehicle.healthy for vehicle in everyone], np.float64) / 3600 / month_hours
        if not months.sum():
            return rate(counts, months), None
        return rate(counts, months), poisson(int(counts.sum()), float(months.sum()), 0.90)[1]

    def precision(self) -> Figure:
        """Findings inside a fault, whatever code they name, of all findings."""
        everyone = list(self.vehicles.values())
        right = np.array([sum(_inside(vehicle.events, at) for at, _ in vehicle.findings) for vehicle in everyone], np.float64)
        return share(right, np.array([len(vehicle.findings) for vehicle in everyone], np.float64))

    def code_right(self) -> Figure:
        """Of the faults in which some pack alarmed: the first finding names the fault's code."""
        rows = [
            (sum(code == event.fault_code for event, code, _ in found), len(found))
            for found in ([one for one in _judged(vehicle) if one[1] is not None] for vehicle in self.vehicles.values())
        ]
        return share(np.array([right for right, _ in rows], np.float64), np.array([found for _, found in rows], np.float64))

    def codes(self, spare_s: float) -> list[Code]:
        """Of each fault code in the data, in the order of the alphabet: how many of its faults any pack found, and what it called them."""
        known = sorted({event.fault_code or "" for vehicle in self.vehicles.values() for event in vehicle.events})
        return [self._code(code, spare_s) for code in known]

    def _code(self, fault_code: str, spare_s: float) -> Code:
        per_vehicle = [[one for one in _judged(vehicle) if (one[0].fault_code or "") == fault_code] for vehicle in self.vehicles.values()]
        named = Counter(code for found in per_vehicle for _, code, _ in found if code is not None)

        def figure(counts: Sequence[tuple[int, int]]) -> Figure:
            return share(np.array([hits for hits, _ in counts], np.float64), np.array([trials for _, trials in counts], np.float64))

        failing = [[one for one in found if one[0].failed_ms is not None] for found in per_vehicle]
        return Code(
            fault_code=fault_code,
            found=figure([(sum(code is not None for _, code, _ in found), len(found)) for found in per_vehicle]),
            before_failure=figure([(sum(left > 0 for *_, left in found), len(found)) for found in failing]),
            with_spare=figure([(sum(left >= max(spare_s, 1e-9) for *_, left in found), len(found)) for found in failing]),
            named=dict(named.most_common()),
        )


def _inside(events: Sequence[Event], at_ms: int) -> bool:
    return any(event.begin_ms <= at_ms < event.end_ms for event in events)


def _judged(vehicle: Vehicle) -> list[tuple[Event, str | None, float]]:
    """Each fault, the code of the first finding in it (None: none), and the seconds from it to the failure (-inf: none)."""
    judged: list[tuple[Event, str | None, float]] = []
    for event in vehicle.events:
        inside = [one for one in vehicle.findings if event.begin_ms <= one[0] < event.end_ms]
        if not inside:
            judged.append((event, None, -np.inf))
            continue
        at = min(ms for ms, _ in inside)
        wrong = sorted(code for ms, code in inside if ms == at and code != event.fault_code)
        code = wrong[0] if wrong else event.fault_code  # two at one tick: no order decides in the packs' favour
        judged.append((event, code, (event.failed_ms - at) / 1000 if event.failed_ms is not None else np.inf))
    return judged
