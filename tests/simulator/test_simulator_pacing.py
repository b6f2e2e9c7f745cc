"""Pacing: frames arrive smoothly and on time by whatever clock is given."""

from __future__ import annotations

import numpy as np
import pytest

import simulator
from simulator.pacing import SLICE_NS


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.naps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.naps.append(seconds)
        self.now += seconds


def test_every_frame_comes_once_and_each_slice_when_it_is_due() -> None:
    whole = list(simulator.drive("healthy", seed=2, duration_s=2))
    clock = Clock()
    seen, arrivals = [], []
    for part in simulator.pace(iter(whole), 4.0, clock, clock.sleep):
        seen.append(part)
        arrivals.append((clock.now - 100.0, int(part.timestamp_ns[0]), int(part.timestamp_ns[-1]), part.entered_ns))
    assert (np.concatenate([part.data for part in seen]) == np.concatenate([block.data for block in whole])).all()
    assert len(seen) >= 2 * 10
    first = int(whole[0].timestamp_ns[0])
    for arrived, begin, end, entered in arrivals:
        assert (end - first) / 1e9 / 4 <= arrived <= (begin - first + SLICE_NS) / 1e9 / 4 + 1e-9
        assert entered > 0
    assert max(clock.naps) <= SLICE_NS / 1e9 / 4 + 1e-6


def test_a_slow_consumer_is_caught_up_with() -> None:
    clock = Clock()
    parts = simulator.pace(simulator.drive("healthy", seed=2, duration_s=2), 1.0, clock, clock.sleep)
    next(parts)
    clock.now += 5.0  # the consumer was busy
    naps = len(clock.naps)
    rest = list(parts)
    assert len(clock.naps) == naps
    assert int(rest[-1].timestamp_ns[-1]) > simulator.START_NS + 1_900_000_000


def test_a_speed_that_is_not_positive_is_refused() -> None:
    with pytest.raises(simulator.ScenarioError, match="speed"):
        simulator.pace(iter(()), 0.0)
