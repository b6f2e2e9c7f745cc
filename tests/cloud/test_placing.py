"""Which clock a message is placed by, and what becomes of a boot that had none."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cloud_samples import make_schema
from cloud_vehicle import Vehicle
from test_sinks import Cloud, Memory, nothing, opened

from cloud import runner
from cloud.config import QualityConfig
from cloud.events import StatusEvent, TickRows
from cloud.housekeeping import Housekeeping
from cloud.placing import AHEAD_MS
from cloud.unplaced import PATIENCE_MS, carry_forward
from wire.messages import Clock, StatusMessage

HOUR_MS = 3_600_000


def clock(error_ms: int, *, boot_ms: int = 0) -> Clock:
    return Clock(boot_ms=boot_ms, utc_ms=time.time_ns() // 1_000_000 + error_ms, source="system")


@pytest.fixture
def cloud(tmp_path: Path, pki: Path) -> Iterator[tuple[Cloud, Vehicle]]:
    vehicle = Vehicle(pki, make_schema(), clock=None)
    with opened(tmp_path / "c", vehicle) as cloud:
        yield cloud, vehicle


def test_a_clock_that_is_ahead_is_not_believed_and_a_later_one_places_what_waited(cloud: tuple[Cloud, Vehicle]) -> None:
    cloud_, vehicle = cloud
    sink = Memory()
    ahead = vehicle.new_stream(clock=clock(HOUR_MS))
    status = StatusMessage(tick_ms=1000, state="running", counters={})
    cloud_.land(ahead, vehicle.rows(range(2)), vehicle.finding(1), vehicle.say(status))
    cloud_.run([sink], nothing)
    (heard,) = sink.events
    assert isinstance(heard, StatusEvent)
    assert heard.tick_ms == heard.received_ms, "or the vehicle's next hour of status messages would seem older"
    right = clock(-5000)
    cloud_.land(vehicle.new_stream(clock=right), vehicle.rows(range(2, 4)))
    cloud_.run([sink], nothing)
    placed = [tick for event in sink.events if isinstance(event, TickRows) for tick in event.tick_ms.tolist()]
    assert sorted(placed) == [right.utc_ms + 1000 * tick for tick in range(4)]
    assert len(sink.events) == 4


@pytest.mark.parametrize(("error_ms", "believed"), [(AHEAD_MS - 5000, True), (AHEAD_MS + 5000, False)])
def test_a_little_ahead_is_ours_or_theirs(cloud: tuple[Cloud, Vehicle], error_ms: int, believed: bool) -> None:
    cloud_, vehicle = cloud
    sink = Memory()
    cloud_.land(vehicle.new_stream(clock=clock(error_ms)), vehicle.rows(range(2)))
    cloud_.run([sink], nothing)
    assert bool(sink.events) is believed


def test_a_clock_that_is_right_now_and_ticks_from_the_future_do_not_go_together(cloud: tuple[Cloud, Vehicle]) -> None:
    cloud_, vehicle = cloud
    sink = Memory()
    cloud_.land(vehicle.new_stream(clock=clock(0)), vehicle.rows(range(3600, 3602)), vehicle.rows(range(2)))
    cloud_.run([sink], nothing)
    assert [event.sequence for event in sink.events] == [2]


def test_a_logs_times_are_its_own(cloud: tuple[Cloud, Vehicle]) -> None:
    cloud_, vehicle = cloud
    sink = Memory()
    cloud_.land(vehicle.new_stream(clock=Clock(boot_ms=0, utc_ms=1 << 42, source="log")), vehicle.rows(range(2)))
    cloud_.run([sink], nothing)
    assert [event.replay for event in sink.events] == [True]


@pytest.mark.parametrize("away_at", [None, 2])
def test_what_waited_for_long_is_given_in_groups(
    cloud: tuple[Cloud, Vehicle], monkeypatch: pytest.MonkeyPatch, away_at: int | None
) -> None:
    """A week of it does not fit into memory at once; and what is placed is struck out as it goes, so a kill costs one group."""
    monkeypatch.setattr(runner, "GROUP", 16)
    cloud_, vehicle = cloud

    sizes: list[int] = []

    class Groups(Memory):
        def take(self, events: object) -> None:
            sizes.append(len(events))  # type: ignore[arg-type]
            if away_at is not None and len(sizes) > away_at:
                cloud_.runners[0].halt()
                self.away = True
            super().take(events)  # type: ignore[arg-type]

    cloud_.land(vehicle.announcement, *(vehicle.rows(range(tick, tick + 1)) for tick in range(100)))
    cloud_.run([Memory("memory")], nothing)
    cloud_.land(vehicle.say(clock(-200_000)))
    sink = Groups("memory")
    cloud_.run([sink], nothing)
    boot = (vehicle.id, vehicle.boot_id)
    if away_at is None:
        assert max(sizes) == 16
        assert cloud_.database.unplaced("memory", *boot) == []
    else:
        assert len(cloud_.database.unplaced("memory", *boot)) == 100 - 16 * away_at
        rest = Memory("memory")
        cloud_.run([rest], nothing)
        sink.events += rest.events
    assert [event.sequence for event in sink.events] == list(range(1, 101))


def test_what_waits_is_carried_to_the_end_of_the_log_so_that_its_begin_can_go(cloud: tuple[Cloud, Vehicle]) -> None:
    cloud_, vehicle = cloud
    now_ms = time.time_ns() // 1_000_000
    cloud_.land(vehicle.announcement, *(vehicle.rows(range(tick, tick + 1)) for tick in range(10)))
    cloud_.run([Memory("a"), Memory("b")], nothing)
    end = cloud_.landing.next
    assert carry_forward(cloud_.landing, cloud_.database, cloud_.quarantine, end, now_ms) == 10
    assert cloud_.database.oldest_unplaced() is None
    sinks_ = [Memory("a"), Memory("b")]
    cloud_.run(sinks_, nothing)
    assert cloud_.database.oldest_unplaced() == end
    cloud_.land(vehicle.say(clock(-200_000)))
    cloud_.run(sinks_, nothing)
    for sink in sinks_:
        assert [event.sequence for event in sink.events] == list(range(1, 11))
        assert all(event.received_ms < now_ms + 1000 for event in sink.events)


@pytest.mark.parametrize(("others", "turns"), [(9, 4), (0, 1)])
def test_what_waits_is_carried_on_while_that_frees_something(
    cloud: tuple[Cloud, Vehicle], monkeypatch: pytest.MonkeyPatch, others: int, turns: int
) -> None:
    for module in ("housekeeping", "unplaced"):
        monkeypatch.setattr(f"cloud.{module}.AT_ONCE", 2)
    cloud_, vehicle = cloud
    other = Vehicle(vehicle.pki, vehicle.schema)
    cloud_.land(vehicle.announcement, other.announcement)
    for turn in range(6):
        cloud_.land(
            *(other.rows(range(tick, tick + 1)) for tick in range(turn * others, (turn + 1) * others)), vehicle.rows(range(turn, turn + 1))
        )
    cloud_.run([Memory("store")], nothing)
    config: Any = SimpleNamespace(landing=SimpleNamespace(keep_bytes=1), quality=QualityConfig())
    its_sink: Any = SimpleNamespace(saved=cloud_.landing.next)
    nobody: Any = None
    house = Housekeeping(config, nobody, cloud_.landing, cloud_.quarantine, cloud_.database, nobody, [its_sink])
    took = 1
    while house.free(time.time_ns() // 1_000_000):
        took += 1
    assert took == turns
    assert (cloud_.database.oldest_unplaced() is None) == (others > 0)


def test_what_has_waited_too_long_is_put_aside(cloud: tuple[Cloud, Vehicle]) -> None:
    cloud_, vehicle = cloud
    cloud_.land(vehicle.announcement, vehicle.rows(range(2)))
    cloud_.run([Memory()], nothing)
    later_ms = time.time_ns() // 1_000_000 + PATIENCE_MS + 1000
    assert carry_forward(cloud_.landing, cloud_.database, cloud_.quarantine, cloud_.landing.next, later_ms) == 1
    (item,) = cloud_.quarantine.items()
    assert item.data == vehicle.sent[1].data
    assert "has not said what the time was" in item.reason
    cloud_.run([Memory()], nothing)
    assert cloud_.database.oldest_unplaced() is None
