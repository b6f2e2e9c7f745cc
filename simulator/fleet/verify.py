"""The ledger against the store: what was receipted must be there, once, in order, with the value that was sealed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from simulator.fleet.ledger import Reading, Written

__all__ = ["Comparison", "Found", "Reader", "compare", "verify"]

VALUE_TOLERANCE = 1e-9  # of the value: a store's text form of a float64 gives it back exactly, its own arithmetic may not


@dataclass(frozen=True)
class Found:
    """What the store returns for one vehicle, in its order. tick_ms: (t,) UTC; value: (t,) physical, NaN = none."""

    tick_ms: NDArray[np.int64]
    value: NDArray[np.float64]


class Reader(Protocol):
    """A store that is asked."""

    def read(self, vehicle: str, signal: str, from_ms: int, to_ms: int) -> Found:
        """Ticks with from_ms <= tick < to_ms. FleetFailed when the store does not answer."""


@dataclass
class Comparison:
    """Counts of ticks. lost, duplicated, out_of_order, different and unknown are 0 where custody holds."""

    expected: int = 0  # receipted as stored
    found: int = 0
    lost: int = 0  # expected and not in the store
    duplicated: int = 0  # in the store more than once
    out_of_order: int = 0  # returned behind a later one
    different: int = 0  # there with another value than was sealed
    unknown: int = 0  # in the store, within the run, and in no batch of the ledger
    early: int = 0  # in the store without a receipt (on its way when the fleet stopped): no fault

    def add(self, other: Self) -> None:
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    @property
    def faults(self) -> int:
        return self.lost + self.duplicated + self.out_of_order + self.different + self.unknown


def compare(written: Written, found: Found, scale: float, offset: float) -> Comparison:
    """One vehicle."""
    order = np.argsort(written.tick_ms, kind="stable")
    axis, probe, stored = written.tick_ms[order], written.probe[order], written.stored[order]
    there, first, times = np.unique(found.tick_ms, return_index=True, return_counts=True)
    place = np.minimum(np.searchsorted(axis, there), max(0, len(axis) - 1))
    known = axis[place] == there if len(axis) else np.zeros(len(there), np.bool_)
    matched = place[known]
    sealed = probe[matched] * scale + offset
    differs = ~np.isclose(found.value[first[known]], sealed, rtol=VALUE_TOLERANCE, atol=0)
    return Comparison(
        expected=int(stored.sum()),
        found=len(found.tick_ms),
        lost=int(stored.sum() - stored[matched].sum()),
        duplicated=int((times - 1).sum()),
        out_of_order=int((np.diff(found.tick_ms) < 0).sum()),
        different=int(differs.sum()),
        unknown=int((~known).sum()),
        early=int((~stored[matched]).sum()),
    )


def verify(ledger: Reading, reader: Reader) -> tuple[Comparison, dict[str, Comparison]]:
    """The whole fleet, and the vehicles with faults."""
    whole, faulty = Comparison(), {}
    signal, scale, offset = str(ledger.run["probe"]), float(ledger.run["scale"]), float(ledger.run["offset"])
    for written in ledger.vehicles():
        if len(written.tick_ms):
            from_ms, to_ms = int(written.tick_ms.min()), int(written.tick_ms.max()) + 1
            one = compare(written, reader.read(written.vehicle, signal, from_ms, to_ms), scale, offset)
            whole.add(one)
            if one.faults:
                faulty[written.vehicle] = one
    return whole, faulty
