"""What a fleet is to do. Plain checked values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.fleet.errors import FleetError
from simulator.fleet.outages import Outage
from simulator.fleet.sealing import ROTATION_S

__all__ = ["BOOT_MS", "TICK_MS", "Plan"]

TICK_MS = 1000
BOOT_MS = 1_000_000  # the fleet's first tick on every vehicle's boot axis
_GOLDEN = 0.618_033_988_749_895  # multiples of it, modulo 1, are spread evenly however many there are (Weyl, 1916)


@dataclass(frozen=True)
class Plan:
    """n vehicles for duration_s of ticks. speed: multiple of real time. drain_s: how long the last receipts may take."""

    vehicles: int
    duration_s: int
    ticks_per_batch: int = 2
    seed: int = 1
    speed: float = 1.0
    outages: tuple[Outage, ...] = ()
    jitter: bool = True
    drain_s: float = 60.0
    prepared: bool = False

    def check(self) -> None:
        """FleetError for what contradicts itself."""
        if self.duration_s < self.ticks_per_batch:
            raise FleetError(f"duration: expected at least one batch of {self.ticks_per_batch} ticks at 1 Hz, found {self.duration_s} s")
        if self.prepared and self.duration_s > ROTATION_S / 2:
            raise FleetError(
                f"prepared: batches are held in memory for at most {ROTATION_S / 2:.0f} s, found a duration of {self.duration_s} s"
            )
        for outage in self.outages:
            if outage.start_s >= self.duration_s:
                raise FleetError(f"outage at {outage.start_s:.0f} s: expected one before the fleet's end at {self.duration_s} s")

    @property
    def batches(self) -> int:
        """Of each vehicle; an unfinished batch is not cut."""
        return self.duration_s // self.ticks_per_batch

    def share(self) -> NDArray[np.float64]:
        """(n,) each vehicle's place in the time of a batch, 0..1: vehicles are started at any moment, not on one second."""
        return np.asarray(np.arange(self.vehicles) * _GOLDEN % 1.0)

    def first_ms(self) -> NDArray[np.int64]:
        """(n,) each vehicle's first tick on the boot axis."""
        return BOOT_MS + (self.share() * self.ticks_per_batch * TICK_MS).astype(np.int64)
