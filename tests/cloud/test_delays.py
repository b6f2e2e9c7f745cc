"""The delays that the store's sink counts."""

import dataclasses

import numpy as np
from cloud_samples import START_MS, make_rows

from cloud.delays import WITHIN_S, Delays


def test_percentiles_are_those_of_the_ticks_and_a_backlog_is_apart() -> None:
    delays = Delays()
    assert delays.summary(START_MS)["start"]["p99_s"] is None
    assert delays.within() == []
    rng = np.random.default_rng(1)
    expected = []
    for number in range(500):
        batch = dataclasses.replace(make_rows(range(2 * number, 2 * number + 2)), received_ms=START_MS + 2000 * number + 1200)
        now_ms = batch.received_ms + int(rng.integers(0, 3000))
        expected += (now_ms - batch.tick_ms + 1000).tolist()
        delays.add([batch], now_ms)
    late = make_rows(range(4))
    delays.add([dataclasses.replace(late, received_ms=START_MS + 90_000), dataclasses.replace(late, replay=True)], START_MS + 1_000_000)
    assert delays.within() == [sum(one < edge * round(1000 * WITHIN_S) for one in expected) for edge in range(1, len(delays.within()) + 1)]
    assert delays.within()[-1] == len(expected)
    told = delays.summary(START_MS + 1_000_000)["start"]
    assert (told["ticks"], told["backlog"]) == (1000, 4)
    assert told["greatest_s"] == max(expected) / 1000
    for name, share in (("p50_s", 50), ("p99_s", 99)):
        exact = np.percentile(expected, share) / 1000
        assert exact - 0.02 <= told[name] <= exact + 0.06  # type: ignore[operator]


def test_what_was_long_ago_is_not_recent() -> None:
    delays = Delays()
    delays.add([dataclasses.replace(make_rows(range(2)), received_ms=START_MS + 1000)], START_MS + 1500)
    assert delays.summary(START_MS + 60_000)["recent"]["ticks"] == 2
    assert delays.summary(START_MS + 3_600_000)["recent"]["ticks"] == 0
    assert delays.summary(START_MS + 3_600_000)["start"]["ticks"] == 2
