"""What a benchmark says, and how two sides are measured against each other."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ROUNDS = 5
TURN_S = 0.1  # a side's turn lasts at least this long, so that a short one is not lost in the clock's grain


@dataclass(frozen=True)
class Result:
    """`ours` and `rival` in `unit`; `ratio` is how many times better ours is; `floor` is the least ratio that is promised, if one is."""

    name: str
    what: str
    rival_name: str
    unit: str
    ours: float
    rival: float
    ratio: float
    floor: float | None = None

    @property
    def reached(self) -> bool:
        """Whether the promised ratio is reached; True without a promise."""
        return self.floor is None or self.ratio >= self.floor

    def line(self) -> str:
        promise = "" if self.floor is None else f" (at least {self.floor:g}: {'yes' if self.reached else 'NO'})"
        ours, rival = (f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in (self.ours, self.rival))
        return f"{self.name:8} {self.what}: {ours} {self.unit}; {self.rival_name}: {rival}; ratio {self.ratio:.3g}{promise}"

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"reached": self.reached}


def medians_s(*sides: Callable[[], object]) -> list[float]:
    """Median seconds of one call of each side; the sides take turns, so that a disturbance hits them all."""
    seconds: list[list[float]] = [[] for _ in sides]
    for _ in range(ROUNDS):
        for taken, side in zip(seconds, sides, strict=True):
            calls, start = 0, time.perf_counter()
            while (spent := time.perf_counter() - start) < TURN_S or not calls:
                side()
                calls += 1
            spent = time.perf_counter() - start
            taken.append(spent / calls)
    return [statistics.median(taken) for taken in seconds]
