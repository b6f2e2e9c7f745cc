"""Batches sealed before the run, on every core, so that the run itself costs sending and receipts alone.

Sealed for real: the content key, the stream and every tick on the boot axis are fixed here; the announcement, which carries the clock, is
sealed when the run begins.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.fleet.errors import FleetFailed
from simulator.fleet.sealing import baseline_of, encoded
from simulator.fleet.sources import Source
from wire.envelope import StreamSealer
from wire.messages import Kind

__all__ = ["Prepared", "Work", "prepare"]

VEHICLES_AT_ONCE = 50  # in a worker: bounds its memory, and keeps every core busy to the end

Values = Callable[[Sequence[int]], Source]


@dataclass(frozen=True)
class Prepared:
    """One vehicle's batches. data: one after the other; ends: (batches,) where each ends. probe: (ticks,) raw values. first: (m,) raw."""

    number: int
    stream: bytes
    key: bytes
    data: bytes
    ends: NDArray[np.int64]
    probe: NDArray[np.int64]
    first: NDArray[np.int64]

    def batch(self, sequence: int) -> bytes:
        """The batch of this sequence, from 1."""
        start = int(self.ends[sequence - 2]) if sequence > 1 else 0
        return self.data[start : int(self.ends[sequence - 1])]


@dataclass(frozen=True)
class Work:
    """What a worker needs. vehicles: ids by number. first_ms: (n,) of each vehicle's first tick, on the boot axis."""

    values: Values
    vehicles: Sequence[str]
    first_ms: NDArray[np.int64]
    batches: int
    ticks_per_batch: int
    probe: int  # which column the ledger keeps

    def seal(self, numbers: Sequence[int]) -> list[Prepared]:
        """All batches of these vehicles."""
        source = self.values(numbers)
        sealers = [StreamSealer.start(self.vehicles[number]) for number in numbers]
        raw = np.stack([source.next() for _ in range(self.ticks_per_batch)])
        firsts = raw[0]
        baselines = [baseline_of(firsts[at], int(self.first_ms[number])) for at, number in enumerate(numbers)]
        parts: list[list[bytes]] = [[] for _ in numbers]
        probes = []
        steps = np.arange(self.ticks_per_batch, dtype=np.int64) * 1000
        for batch in range(self.batches):
            if batch:
                raw = np.stack([source.next() for _ in range(self.ticks_per_batch)])
            probes.append(raw[:, :, self.probe])
            for at, number in enumerate(numbers):
                tick_ms = self.first_ms[number] + batch * self.ticks_per_batch * 1000 + steps
                parts[at].append(sealers[at].seal(Kind.ROWS, encoded(tick_ms, raw[:, at], baselines[at])).data)
        probe = np.concatenate(probes)
        return [
            Prepared(
                number,
                sealers[at].stream,
                sealers[at].key,
                b"".join(parts[at]),
                np.cumsum([len(part) for part in parts[at]]),
                probe[:, at].copy(),
                firsts[at],
            )
            for at, number in enumerate(numbers)
        ]


def prepare(work: Work) -> Iterator[Prepared]:
    """Every vehicle's batches, as they are ready, in the order of their numbers. FleetFailed when a worker is ended."""
    groups = [range(start, min(start + VEHICLES_AT_ONCE, len(work.vehicles))) for start in range(0, len(work.vehicles), VEHICLES_AT_ONCE)]
    if len(groups) == 1:
        yield from work.seal(groups[0])
        return
    # spawn: a fork of a process that has threads and sockets is not safe
    with ProcessPoolExecutor(min(len(groups), os.cpu_count() or 1), mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            for sealed in pool.map(work.seal, groups):
                yield from sealed
        except BrokenProcessPool:
            raise FleetFailed(f"prepared: a process that seals batches was ended; is there memory for {work.batches:,} of each?") from None
