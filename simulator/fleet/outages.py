"""Outages: which share of the fleet loses the network, when, and for how long. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.fleet.errors import FleetError

__all__ = ["Outage", "parse"]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FORM = re.compile(r"(\d{1,3}(?:\.\d+)?)%@(\d{1,9})([smhd])\+(\d{1,9})([smhd])")
_EXPECTED = "expected SHARE%@START+LENGTH like 20%@30s+2m"


@dataclass(frozen=True, slots=True)
class Outage:
    """From start_s, for length_s, this share (0..1) of the vehicles has no network. Seconds since the fleet's first tick."""

    share: float
    start_s: float
    length_s: float

    def vehicles(self, count: int, seed: int) -> NDArray[np.intp]:
        """Which of `count` vehicles: the same ones for the same seed, at least one."""
        drawn = np.random.default_rng([seed, round(self.start_s * 1000), round(self.share * 1e6)]).permutation(count)
        return np.sort(drawn[: max(1, math.ceil(count * self.share))])


def parse(text: str) -> Outage:
    """`20%@30s+2m`: 20 % of the vehicles, from 30 s on, for two minutes. FleetError says what was expected."""
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise FleetError(f"outage {text[:60]!r}: {_EXPECTED}")
    share = float(match[1]) / 100
    length_s = int(match[4]) * _SECONDS[match[5]]
    if not 0 < share <= 1 or not length_s:
        raise FleetError(f"outage {text!r}: {_EXPECTED}, a share from above 0 to 100 % and a length above 0")
    return Outage(share, int(match[2]) * _SECONDS[match[3]], length_s)
