"""What is true about a drive of a scenario, and what a detector should therefore find."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.courses import Course
from simulator.dice import Dice
from simulator.individual import DRAWS, Individuals
from simulator.scenario import Scenario, Window
from simulator.scenario_file import WHEELS, seconds

__all__ = ["Truth", "truth"]

MOST_SEVERITIES = 7200  # of a fault; a longer drive is described in longer steps


@dataclass(frozen=True, slots=True)
class Truth:
    """Of one vehicle's drive. faults: physical ones, then those of sensors, network and attackers."""

    scenario: str
    words: str
    seed: int
    vehicle: int
    start_ns: int
    duration_s: int
    plan: str
    car: dict[str, float]
    outages: list[list[float]]
    faults: tuple[dict[str, Any], ...]

    def to_json(self, touched: Sequence[dict[str, Any]] = ()) -> str:
        """touched: what became of the faults of sensors and network (`Disturbances.truths`), in their order."""
        faults = [dict(fault) for fault in self.faults]
        late = iter(touched)
        for fault in faults:
            if fault["group"] != "physical" and (more := next(late, None)) is not None:
                fault |= {
                    key: more[key] for key in ("unit", "messages", "parameters", "frames", "checks", "before", "after") if key in more
                }
        document = {
            "vehicle_model": "cansight_ev",
            "scenario": self.scenario,
            "words": self.words,
            "seed": self.seed,
            "vehicle": self.vehicle,
            "start_ns": self.start_ns,
            "duration_s": self.duration_s,
            "plan": self.plan,
            "outages_s": self.outages,
            "car": self.car,
            "faults": faults,
        }
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def truth(what: Scenario, seed: int, duration_s: int, start_ns: int | None = None, vehicle: int = 0, *, severities: bool = True) -> Truth:
    """The truth about this drive. A fault that begins after its end is left out; `severity` has a value for the end of each step.

    severities: False leaves them out. Raises ScenarioError.
    """
    cast = what.cast(seed, (vehicle,), start_ns)
    courses = [course for course in what.courses(seed, (vehicle,)) if course.onset_s[0] < duration_s]
    faults = [_physical(course, cast.start_ns, duration_s, severities) for course in courses]
    faults += [_window(window, cast.start_ns) for window in what.windows(seed, vehicle) if window.from_s < duration_s]
    outages = [[seconds(begin), seconds(length)] for begin, length in what.table.connectivity.outages]
    return Truth(
        what.name,
        what.words,
        seed,
        vehicle,
        cast.start_ns,
        duration_s,
        cast.plan,
        _car(what, seed, vehicle, start_ns),
        outages,
        tuple(faults),
    )


def _car(what: Scenario, seed: int, vehicle: int, start_ns: int | None) -> dict[str, float]:
    """What the seed drew for this car and its driver; not its VIN."""
    cast = what.cast(seed, (vehicle,), start_ns)
    who = Individuals(cast, Dice(cast.seed, cast.vehicles))
    return {name: round(float(who[name][0]), 6) for name in DRAWS if np.isfinite(who[name][0])}


def _physical(course: Course, start_ns: int, duration_s: int, severities: bool) -> dict[str, Any]:
    kind = course.kind
    step_s = -(-duration_s // MOST_SEVERITIES)
    ends = np.arange(step_s, duration_s + 1, step_s, dtype=np.float64) if severities else np.zeros(0)
    place: str | int | None = None
    if kind.places > 1:
        place = WHEELS[int(course.place[0])] if kind.places == len(WHEELS) else int(course.place[0])
    return {
        "fault_code": kind.code,
        "group": kind.group,
        "words": kind.words,
        "place": place,
        "law": kind.law,
        "source": kind.source,
        "onset_s": _time(course.onset_s[0]),
        "developed_s": _time(course.developed_s[0]),
        "failed_s": _time(course.failed_s[0]),
        "failure": kind.failure,
        "repaired_s": _time(course.repaired_s[0]),
        "onset_ns": start_ns + round(float(course.onset_s[0]) * 1e9),
        "failed_ns": start_ns + round(float(course.failed_s[0]) * 1e9) if np.isfinite(course.failed_s[0]) else None,
        "severity_step_s": step_s,
        "severity": [round(value, 6) for value in course.severity_at(0, ends).tolist()],
        "affected_signals": list(kind.signals),
    }


def _window(window: Window, start_ns: int) -> dict[str, Any]:
    kind = window.kind
    return {
        "fault_code": kind.code,
        "group": kind.group,
        "words": kind.words,
        "onset_s": round(window.from_s, 6),
        "ended_s": round(window.from_s + window.for_s, 6),
        "onset_ns": start_ns + round(window.from_s * 1e9),
        "ended_ns": start_ns + round((window.from_s + window.for_s) * 1e9),
        "affected_signals": [window.signal] if window.signal is not None else [],
        "message": window.message or (window.signal or "").rpartition(".")[0],
        "parameters": dict(window.parameters),
    }


def _time(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
