"""Who takes part: which vehicles, from when, where, and what is fixed instead of drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from simulator.dice import Dice
from simulator.errors import ScenarioError
from simulator.state import Array

__all__ = ["PLANS", "START_NS", "Cast"]

START_NS = (
    1_767_600_000_000_000_000  # 2026-01-05 08:00 UTC, a Monday: of drives whose start nobody gave, so that they are the same each time
)

PLANS: Mapping[str, str] = {
    "drive": "the driver gets in at once and drives without end",
    "calendar": "a life of days: commutes, errands, journeys, charging at home and on the way, nights",
    "charge_ac": "plugged in at home at once, then parked",
    "charge_dc": "plugged in at a fast charging station at once, then parked",
    "park": "parked and asleep",
}

Fixed = float | tuple[float, float]


@dataclass(frozen=True, slots=True)
class Cast:
    """seed: of the fleet. vehicles: their numbers in it; a vehicle is the same whoever else takes part.

    start_ns: UTC. plan: one of PLANS. place: one of `simulator.weather.PLACES`, or "any": drawn for each vehicle. season: "date" follows
    start_ns; "any" draws a day of the year and an hour for each vehicle, so that a few drives see many weathers. fixed: by the name of a
    draw (`simulator.individual.DRAWS`), a value or a range (low, high) instead of what would be drawn. later_s: where each vehicle begins
    later than start_ns by so much, s: a vehicle's year may be cut into months that run beside each other, each begun with the age, the
    distance and the wear that its habits lead to expect by then.
    """

    seed: int = 1
    vehicles: tuple[int, ...] = (0,)
    start_ns: int = START_NS
    plan: str = "drive"
    place: str = "shanghai"
    season: str = "any"
    fixed: Mapping[str, Fixed] = field(default_factory=dict)
    later_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ScenarioError(f"seed: expected 0 or more, found {self.seed}")
        if not self.vehicles or min(self.vehicles) < 0:
            raise ScenarioError(f"vehicles: expected numbers of 0 or more, found {self.vehicles}")
        if self.later_s and (len(self.later_s) != len(self.vehicles) or min(self.later_s) < 0):
            raise ScenarioError(f"later_s: expected {len(self.vehicles)} times of 0 s or more, found {self.later_s}")
        if self.plan not in PLANS:
            raise ScenarioError(f"plan: expected one of {', '.join(PLANS)}, found {self.plan!r}")
        if self.season not in ("date", "any"):
            raise ScenarioError(f"season: expected date or any, found {self.season!r}")

    def chosen(self, dice: Dice, name: str, drawn: Array) -> Array:
        """What this draw is: `drawn`, unless it is fixed. A range is drawn anew, so that it does not depend on the usual law."""
        if name not in self.fixed:
            return drawn
        value = self.fixed[name]
        low, high = value if isinstance(value, tuple) else (value, value)
        return dice.uniform(f"fixed {name}", low, high)
