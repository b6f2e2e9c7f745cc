"""Scenarios by name, and the truth about a drive."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simulator.errors import ScenarioError
from simulator.faults import CoolantLeak

__all__ = ["SCENARIOS", "Scenario", "Truth", "scenario", "truth"]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens in a drive, besides what the seed draws (the car, the road, the driver, the weather)."""

    name: str
    words: str
    leak: CoolantLeak | None = None


SCENARIOS: Mapping[str, Scenario] = {
    made.name: made
    for made in (
        Scenario("healthy", "a car without a fault"),
        Scenario("coolant_leak", "the battery's coolant loop leaks: flow -3 %, coolant +1.2 °C between 120 s and 240 s", CoolantLeak()),
    )
}


def scenario(name: str) -> Scenario:
    """The scenario of this name. Raises ScenarioError with the names there are."""
    if name not in SCENARIOS:
        raise ScenarioError(f"no scenario {name!r}; there are: {', '.join(SCENARIOS)}")
    return SCENARIOS[name]


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true about a drive and what a detector should therefore find."""

    scenario: str
    seed: int
    start_ns: int
    duration_s: int
    faults: tuple[dict[str, Any], ...]

    def to_json(self) -> str:
        document = {
            "vehicle_model": "cansight_ev",
            "scenario": self.scenario,
            "seed": self.seed,
            "start_ns": self.start_ns,
            "duration_s": self.duration_s,
            "faults": list(self.faults),
        }
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def truth(what: Scenario, seed: int, duration_s: int, start_ns: int) -> Truth:
    """The truth about this drive; `severity` has one value for each second, at the second's end."""
    faults = []
    if what.leak and what.leak.onset_s < duration_s:
        leak = what.leak
        faults.append(
            {
                "fault_code": leak.fault_code,
                "onset_s": leak.onset_s,
                "developed_s": leak.onset_s + leak.development_s,
                "onset_ns": start_ns + round(leak.onset_s * 1e9),
                "flow_change": -leak.flow_loss,
                "temperature_change_c": leak.temperature_rise_c,
                "severity": [round(leak.severity(second), 6) for second in range(1, duration_s + 1)],
                "affected_signals": list(leak.affected_signals),
                "consequent_messages": list(leak.consequent_messages),
            }
        )
    return Truth(what.name, seed, start_ns, duration_s, tuple(faults))
