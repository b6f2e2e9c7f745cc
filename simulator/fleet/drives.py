"""Values of simulated drives: what each vehicle of a scenario mix plays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dbc.compiler import CompiledDbc
from dbc.decoder import Decoder
from dbc.sampler import Sampler
from dbc.schema import Schema
from simulator.fleet.errors import FleetError
from simulator.fleet.sources import RandomWalk, Recorded
from simulator.trip import drive

__all__ = ["Drives", "Walks", "assign", "recorded"]


@dataclass(frozen=True)
class Walks:
    """Makes a random walk for some of a fleet's vehicles, in this process or another."""

    schema: Schema
    columns: NDArray[np.intp]
    seed: int

    def __call__(self, numbers: Sequence[int]) -> RandomWalk:
        return RandomWalk(self.schema, self.columns, numbers, self.seed)


@dataclass(frozen=True)
class Drives:
    """The same for recorded drives. drives: each (ticks, m) raw. plays, begins: (n,) of the whole fleet, see `Recorded`."""

    drives: tuple[NDArray[np.int64], ...]
    plays: NDArray[np.intp]
    begins: NDArray[np.intp]

    def __call__(self, numbers: Sequence[int]) -> Recorded:
        chosen = np.array(numbers)
        return Recorded(self.drives, self.plays[chosen], self.begins[chosen])


def assign(shares: Sequence[tuple[str, float]], vehicles: int, seed: int) -> list[str]:
    """A scenario for each vehicle: as many of each as its share says (largest remainder), in an order that the seed draws."""
    total = sum(share for _, share in shares)
    if total <= 0:
        raise FleetError("scenario mix: expected shares above 0")
    exact = np.array([share / total * vehicles for _, share in shares])
    counts = np.floor(exact).astype(int)
    for place in np.argsort(counts - exact, kind="stable")[: vehicles - counts.sum()]:
        counts[place] += 1
    names = [name for (name, _), count in zip(shares, counts.tolist(), strict=True) for _ in range(count)]
    return [names[place] for place in np.random.default_rng([seed, len(names)]).permutation(len(names))]


def recorded(scenario: str, seed: int, seconds: int, compiled: CompiledDbc, columns: NDArray[np.intp]) -> NDArray[np.int64]:
    """(ticks, m) raw values of one simulated drive, through the same decoder and sampler as on a vehicle."""
    decoder, sampler = Decoder(compiled, compiled.schema.channels), Sampler(compiled.schema)
    snapshots = [snapshot for block in drive(scenario, seed, seconds) for snapshot in sampler.feed(block, decoder.decode(block))]
    snapshots += sampler.finish()
    return np.stack([snapshot.raw[columns] for snapshot in snapshots])
