"""Runners: each sink has its own pace and cursor, whatever happens to it or to the others."""

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cloud_samples import START_MS, make_rows, make_schema
from cloud_vehicle import Vehicle
from cryptography import x509
from sqlalchemy.exc import OperationalError

from cloud.aggregator import Aggregator, Arrival
from cloud.database import Database
from cloud.events import Event, FindingEvent, TickRows
from cloud.landing import Landing
from cloud.quarantine import Quarantine
from cloud.runner import Runner
from cloud.sinks import GradualSink, SeldomSink
from cloud.store import StoreUnavailable
from cloud.streams import Opened, Streams
from cloud.vehicle_models import VehicleModel
from wire.envelope import Sealed
from wire.errors import SegmentLogError, WireError
from wire.messages import Clock
from wire.recipients import load_recipient_keys


class Memory:
    """A sink that remembers, and fails as it is told."""

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.events: list[Event] = []
        self.away = False
        self.tries = 0
        self.poison: set[int] = set()  # sequences it chokes on
        self.flushed = 0

    def take(self, events: Sequence[Event]) -> None:
        self.tries += 1
        if self.away:
            raise StoreUnavailable("gone fishing")
        if any(event.sequence in self.poison for event in events):
            raise ValueError("cannot swallow that")
        self.events += events

    def flush(self) -> None:
        self.flushed = len(self.events)

    @property
    def sequences(self) -> list[int]:
        return [event.sequence for event in self.events]


class Gradual(Memory):
    """One whose flush is in three parts. What came since the first of them is not in it."""

    pace_s = 0.01
    save_every_s = 5.0

    def __init__(self) -> None:
        super().__init__()
        self.parts = 0
        self.begun = 0
        self.may_end = True

    def flush_some(self) -> bool:
        self.begun = self.begun if self.parts else len(self.events)
        self.parts += 1
        if self.parts < 3 or not self.may_end:
            return False
        self.flushed, self.parts = self.begun, 0
        return True


class Cloud:
    """Everything between an arrival and the sinks."""

    def __init__(self, stack: ExitStack, folder: Path, vehicle: Vehicle, replica: str = "") -> None:
        self.database = stack.enter_context(Database(f"sqlite:///{folder / 'cansight.db'}", replica))
        fleet_ca = x509.load_pem_x509_certificate((vehicle.pki / "fleet-ca.pem").read_bytes())
        models = {vehicle.schema.schema_id: VehicleModel("sample", vehicle.schema, None)}
        streams = Streams(self.database, load_recipient_keys([vehicle.pki / "recipient.key"]), fleet_ca, models)
        self.landing = stack.enter_context(Landing(folder / "landing", streams))
        self.quarantine = stack.enter_context(Quarantine(folder / "quarantine"))
        self.aggregator = Aggregator(self.database, streams, self.landing, self.quarantine)
        self.aggregator.open()
        self.runners: list[Runner] = []

    def land(self, *messages: Sealed) -> None:
        now_ms = time.time_ns() // 1_000_000
        self.aggregator.take([Arrival(f"cansight/1/{m.header.vehicle}/up", m.data, now_ms) for m in messages])
        for runner in self.runners:
            runner.wake()

    def run(self, sinks: list[Memory], story: Callable[["Cloud"], Awaitable[None]]) -> None:
        """Run the sinks while `story` happens, then stop them."""

        async def main() -> None:
            self.runners = [Runner(sink, self.landing, self.quarantine, self.database) for sink in sinks]
            tasks = [asyncio.create_task(runner.run()) for runner in self.runners]
            await story(self)
            for runner in self.runners:
                runner.stop()
            await asyncio.gather(*tasks)

        asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in other threads
            await asyncio.sleep(0.005)


async def nothing(_: Cloud) -> None:
    """Stop at once: what has landed is taken all the same."""


@pytest.fixture
def vehicle(pki: Path) -> Vehicle:
    return Vehicle(pki, make_schema())


@contextlib.contextmanager
def opened(folder: Path, vehicle: Vehicle) -> Iterator[Cloud]:
    with ExitStack() as stack:
        yield Cloud(stack, folder, vehicle)


def test_every_sink_gets_everything_once_and_placed_on_utc(tmp_path: Path, vehicle: Vehicle) -> None:
    with opened(tmp_path / "c", vehicle) as cloud:
        cloud.land(vehicle.announcement, vehicle.rows(range(2)), vehicle.finding(5), vehicle.gap(8, 9))
        sinks = [Memory("a"), Memory("b")]
        cloud.run(sinks, nothing)
        for sink in sinks:
            assert sink.sequences == [1, 2, 3]
            rows, finding, _ = sink.events
            assert isinstance(rows, TickRows)
            assert rows.tick_ms.tolist() == [START_MS, START_MS + 1000]
            assert rows.raw.tolist() == vehicle.values(range(2)).tolist()
            assert not rows.replay
            assert isinstance(finding, FindingEvent)
            assert finding.finding.tick_ms == START_MS + 5000
            assert finding.finding.since_ms == START_MS + 2000
            assert finding.finding.window.tick_ms == [START_MS + 5000]
            assert finding.model == "sample"
            assert sink.flushed == 3
        again = Memory("a")
        cloud.run([again], nothing)
        assert again.events == []


def test_a_new_sink_begins_at_the_beginning_and_reads_from_the_disk(tmp_path: Path, vehicle: Vehicle) -> None:
    with opened(tmp_path / "c", vehicle) as cloud:
        cloud.land(vehicle.announcement, *(vehicle.rows(range(tick, tick + 2)) for tick in range(0, 1200, 2)))
    with opened(tmp_path / "c", vehicle) as cloud:
        sink = Memory()
        cloud.run([sink], nothing)
        assert sink.sequences == list(range(1, 601))


@pytest.mark.parametrize("kept", [True, False], ids=["from the memory", "from the disk"])
def test_a_sink_that_is_far_behind_reads_ahead_and_gets_everything_once_and_in_order(
    tmp_path: Path, vehicle: Vehicle, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    monkeypatch.setattr("cloud.runner.READ_AHEAD", 2)
    monkeypatch.setattr("cloud.runner.MOST", 7)
    monkeypatch.setattr("cloud.runner.GROUP", 7)
    if not kept:
        monkeypatch.setattr("cloud.landing.RECENT_BYTES", 0)
    sent = [vehicle.rows(range(tick, tick + 2)) for tick in range(0, 200, 2)]
    with opened(tmp_path / "c", vehicle) as cloud:
        cloud.land(vehicle.announcement, *sent[:60])
        sink = Memory()
        sink.poison = {23}
        sink.away = True
        reads: list[tuple[int, bool]] = []
        read = cloud.landing.read

        def disk_is_away_once(position: int, limit: int) -> list[tuple[int, Opened | WireError]]:
            reads.append((position, threading.current_thread().name.startswith("read-")))
            if len(reads) == 4:
                raise SegmentLogError("the disk is away")
            return read(position, limit)

        monkeypatch.setattr(cloud.landing, "read", disk_is_away_once)
        monkeypatch.setattr("cloud.runner.MAX_PAUSE_S", 0.1)

        async def story(cloud: Cloud) -> None:
            await until(lambda: sink.tries >= 2)
            assert [position for position, ahead in reads if ahead] == [7]  # while the first group is tried
            cloud.land(*sent[60:])
            sink.away = False
            await until(lambda: len(sink.events) >= 99)

        cloud.run([sink], story)
        assert sink.sequences == [number for number in range(1, 101) if number != 23]
        assert sum(ahead for _, ahead in reads) > 5


def test_a_landing_log_that_is_not_the_one_that_the_cursors_speak_of_is_taken_from_its_beginning(
    tmp_path: Path, vehicle: Vehicle, caplog: pytest.LogCaptureFixture
) -> None:
    """The tables are another server's and outlive the volume, or an older backup of the volume is brought back beside them."""
    for number, name in enumerate(("first", "second")):
        sink = Memory()
        with opened(tmp_path, vehicle) as cloud:
            sent = [vehicle.rows(range(tick, tick + 2)) for tick in range(20 * number, 20 * number + 10 - 4 * number, 2)]
            cloud.land(*([vehicle.announcement] if not number else []), *sent)
            cloud.run([sink], nothing)
            cloud.aggregator.save(0)
            assert cloud.database.cursor("memory") == cloud.landing.next
        assert sink.sequences == [one.header.sequence for one in sent]
        (tmp_path / "landing").rename(tmp_path / name)
    assert "it is not the log that it was" in caplog.text


def test_a_sink_that_is_away_blocks_nobody_and_loses_nothing(tmp_path: Path, vehicle: Vehicle, caplog: pytest.LogCaptureFixture) -> None:
    store, tickets = Memory("store"), Memory("tickets")
    store.away = True

    async def story(cloud: Cloud) -> None:
        cloud.land(vehicle.announcement, vehicle.rows(range(2)))
        await until(lambda: store.tries >= 3)
        cloud.land(vehicle.rows(range(2, 4)))
        await until(lambda: tickets.sequences == [1, 2])
        assert cloud.runners[0].error == "gone fishing"
        assert cloud.runners[0].behind == 3
        assert cloud.runners[1].behind == 0
        store.away = False
        await until(lambda: store.sequences == [1, 2])
        await until(lambda: cloud.runners[0].error == "")

    with opened(tmp_path / "c", vehicle) as cloud, caplog.at_level("INFO"):
        cloud.run([store, tickets], story)
    assert [record.message.split("(")[0] for record in caplog.records if "sink store" in record.message] == [
        "sink store is away ",
        "sink store is back",
    ]


def test_a_sink_that_flushes_in_parts_takes_between_them_and_its_cursor_stays_at_what_is_flushed(
    tmp_path: Path, vehicle: Vehicle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gradual, "save_every_s", 1.5)  # more than SAVE_EVERY_S
    sink = Gradual()
    sink.may_end = False

    async def story(cloud: Cloud) -> None:
        [runner] = cloud.runners
        await until(lambda: sink.parts > 0)
        assert sink.begun == 1
        cloud.land(vehicle.rows(range(2, 4)))
        await until(lambda: len(sink.events) == 2)
        before = sink.parts
        await until(lambda: sink.parts > before + 3)  # nothing lands
        assert runner.saved == 0
        assert cloud.database.cursor("memory") == 0
        sink.may_end = True
        await until(lambda: runner.saved > 0)
        assert sink.flushed == 1
        assert cloud.database.cursor("memory") == runner.saved == runner.position - 1
        await until(lambda: runner.saved == runner.position)  # though nothing lands
        assert sink.flushed == 2
        cloud.land(vehicle.rows(range(4, 6)))
        await until(lambda: len(sink.events) == 3)

    with opened(tmp_path / "c", vehicle) as cloud:
        cloud.land(vehicle.announcement, vehicle.rows(range(2)))
        cloud.run([sink], story)
        assert sink.flushed == 3, "all of it at the end"
        again = Memory()
        cloud.run([again], nothing)
        assert again.events == []


def test_stopping_does_not_wait_for_a_sink_that_is_away(tmp_path: Path, vehicle: Vehicle) -> None:
    sink = Memory()
    sink.away = True
    with opened(tmp_path / "c", vehicle) as cloud:
        cloud.land(vehicle.announcement, vehicle.rows(range(2)))
        cloud.run([sink], nothing)
        sink.away = False
        cloud.run([sink], nothing)
    assert sink.sequences == [1]


def test_one_message_that_a_sink_chokes_on_is_put_aside_and_the_rest_goes_on(tmp_path: Path, vehicle: Vehicle) -> None:
    sink = Memory()
    sink.poison = {3}
    batches = [vehicle.rows(range(tick, tick + 2)) for tick in range(0, 10, 2)]
    with opened(tmp_path / "c", vehicle) as cloud:
        cloud.land(vehicle.announcement, *batches)
        cloud.run([sink], nothing)
        assert sink.sequences == [1, 2, 4, 5]
        (item,) = cloud.quarantine.items()
        assert item.reason == "sink memory: ValueError: cannot swallow that"
        assert item.data == batches[2].data


@pytest.mark.parametrize("restart", [False, True])
def test_a_boot_without_a_clock_waits_for_it(tmp_path: Path, pki: Path, restart: bool) -> None:
    vehicle = Vehicle(pki, make_schema(), clock=None)
    other = Vehicle(pki, vehicle.schema)
    sink = Memory()
    with opened(tmp_path / "c", vehicle) as cloud:
        cloud.land(vehicle.announcement, vehicle.rows(range(2)), vehicle.finding(1), other.announcement, other.rows(range(2)))
        cloud.run([sink], nothing)
        assert [event.vehicle for event in sink.events] == [other.id]
        if not restart:
            cloud.land(vehicle.say(Clock(boot_ms=1000, utc_ms=START_MS, source="log")), vehicle.rows(range(2, 4)))
            cloud.run([sink], nothing)
    if restart:
        with opened(tmp_path / "c", vehicle) as cloud:
            cloud.land(vehicle.say(Clock(boot_ms=1000, utc_ms=START_MS, source="log")), vehicle.rows(range(2, 4)))
            cloud.run([sink], nothing)
    mine = [event for event in sink.events if event.vehicle == vehicle.id]
    assert sorted(event.sequence for event in mine) == [1, 2, 4]
    assert all(event.replay for event in mine)
    placed = sorted(tick for event in mine if isinstance(event, TickRows) for tick in event.tick_ms.tolist())
    assert placed == [START_MS - 1000 + 1000 * tick for tick in range(4)]


def test_sinks_that_share_a_cursor_are_flushed_in_parts_the_others_when_those_are_over() -> None:
    gradual, at_once = Gradual(), Memory("at once")
    both = SeldomSink("both", [gradual, at_once], 120.0)
    assert isinstance(both, GradualSink)
    both.take([make_rows(range(2))])
    assert [(both.flush_some(), gradual.flushed, at_once.flushed) for _ in range(3)] == [(False, 0, 0), (False, 0, 0), (True, 1, 1)]


def test_clocks_that_come_late_do_not_make_a_sink_that_flushes_in_parts_flush_all(
    tmp_path: Path, pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for them is noted, and struck out again, with the parts; killed in between, it is taken again."""
    monkeypatch.setattr(Gradual, "save_every_s", 1.5)
    vehicle, later = Vehicle(pki, make_schema(), clock=None), Vehicle(pki, make_schema(), clock=None)
    sink, said = Gradual(), Clock(boot_ms=0, utc_ms=START_MS, source="system")
    kept: list[tuple[int, bytes]] = []

    async def story(cloud: Cloud) -> None:
        [runner] = cloud.runners
        await until(lambda: runner.saved == runner.position == 4)
        assert cloud.database.waiting("memory") == {(one.id, one.boot_id) for one in (vehicle, later)}
        cloud.land(vehicle.say(said), vehicle.rows(range(2, 4)))
        await until(lambda: sorted(sink.sequences) == [1, 3])
        assert sink.flushed == 0, "not for a clock"
        kept.append((cloud.database.cursor("memory"), cloud.database.unplaced("memory", vehicle.id, vehicle.boot_id)))
        await until(lambda: runner.saved == runner.position == 6)
        assert sink.flushed == 2
        assert cloud.database.waiting("memory") == {(later.id, later.boot_id)}

    with opened(tmp_path / "c", vehicle) as cloud:
        cloud.land(vehicle.announcement, vehicle.rows(range(2)), later.announcement, later.rows(range(2)))
        cloud.run([sink], story)
        assert kept == [(4, [1])], "a kill there: the clock is read again, and what waits for it is noted"
        cloud.database.advance("memory", 4, [(1, vehicle.id, vehicle.boot_id)])
        again = Memory()
        cloud.run([again], nothing)
        assert sorted(again.sequences) == [1, 3]


def test_what_waits_at_one_replica_is_placed_by_a_clock_that_another_was_told(
    tmp_path: Path, pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.runner.LOOK_EVERY_S", 0.0)
    vehicle = Vehicle(pki, make_schema(), clock=None)
    sink = Memory()
    with ExitStack() as stack:
        cloud = Cloud(stack, tmp_path / "c", vehicle, "a")
        cloud.land(vehicle.announcement, vehicle.rows(range(2)))
        cloud.run([sink], nothing)
        assert sink.events == []
        other = stack.enter_context(Database(cloud.database.url, "b"))
        other.learn([], {(vehicle.id, vehicle.boot_id): Clock(boot_ms=0, utc_ms=START_MS, source="system")})
        cloud.run([sink], nothing)
        cloud.run([sink], nothing)  # and once only
    assert sink.sequences == [1]


def test_an_announcement_with_the_clock_places_the_boots_other_streams(tmp_path: Path, pki: Path) -> None:
    vehicle = Vehicle(pki, make_schema(), clock=None)
    sink = Memory()
    with opened(tmp_path / "c", vehicle) as cloud:
        cloud.land(vehicle.announcement, vehicle.rows(range(2)))
        cloud.run([sink], nothing)
        assert sink.events == []
        first = vehicle.sealer.stream
        cloud.land(vehicle.new_stream(clock=Clock(boot_ms=0, utc_ms=START_MS, source="system")), vehicle.rows(range(2, 4)))
        cloud.run([sink], nothing)
    assert sorted((event.stream == first, event.sequence) for event in sink.events) == [(False, 1), (True, 1)]


def test_what_can_no_longer_be_opened_is_put_aside_and_said(tmp_path: Path, vehicle: Vehicle, caplog: pytest.LogCaptureFixture) -> None:
    with opened(tmp_path / "c", vehicle) as cloud:
        cloud.land(vehicle.announcement, vehicle.rows(range(2)))
    from wire.recipients import RecipientKey

    key = vehicle.pki / "recipient.key"
    key.write_text(RecipientKey.generate().to_pem())
    with opened(tmp_path / "c", vehicle) as cloud:
        sink = Memory()
        cloud.run([sink], nothing)
        assert sink.events == []
        assert cloud.runners[0].unreadable == 2
        assert cloud.runners[0].behind == 0
        assert [item.data for item in cloud.quarantine.items()] == [sealed.data for sealed in vehicle.sent]
    assert "none of our recipient keys" in caplog.text


def test_a_long_backlog_waits_for_the_next_start(tmp_path: Path, vehicle: Vehicle) -> None:
    sink = Memory()

    async def story(cloud: Cloud) -> None:
        cloud.runners[0].halt()

    with opened(tmp_path / "c", vehicle) as cloud:
        cloud.land(vehicle.announcement, *(vehicle.rows(range(tick, tick + 2)) for tick in range(0, 2000, 2)))
        cloud.run([sink], story)
        taken = len(sink.events)
        assert taken < 1000
        cloud.run([sink], nothing)
    assert sink.sequences == list(range(1, 1001))


def test_what_lands_while_a_damaged_stretch_is_read_is_not_skipped(
    tmp_path: Path, vehicle: Vehicle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path, vehicle) as cloud:
        cloud.land(vehicle.announcement)
        cloud.land(vehicle.rows(range(2)))
    (segment,) = (tmp_path / "landing").glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[-1] ^= 1
    segment.write_bytes(data)
    with opened(tmp_path, vehicle) as cloud:
        late = [vehicle.rows(range(2, 4))]
        read = cloud.landing.read

        def read_slowly(position: int, limit: int) -> list[tuple[int, Opened | WireError]]:
            found = read(position, limit)
            if not found and late:
                cloud.land(late.pop())
            return found

        monkeypatch.setattr(cloud.landing, "read", read_slowly)
        sink = Memory()
        cloud.run([sink], nothing)
        assert not late
        assert sink.sequences == [2]


def test_tables_that_cannot_be_read_hold_a_sink_up_and_do_not_end_it(
    tmp_path: Path, vehicle: Vehicle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cloud.runner.MAX_PAUSE_S", 0.1)
    with opened(tmp_path, vehicle) as cloud:
        failures = [OperationalError("SELECT", {}, Exception("database is locked")), SegmentLogError("cannot read it", 5)]
        read = cloud.landing.read

        def read_badly(position: int, limit: int) -> list[tuple[int, Opened | WireError]]:
            if failures:
                raise failures.pop()
            return read(position, limit)

        monkeypatch.setattr(cloud.landing, "read", read_badly)
        sink = Memory()

        async def story(cloud: Cloud) -> None:
            cloud.land(vehicle.announcement, vehicle.rows(range(2)))
            await until(lambda: sink.sequences == [1])

        cloud.run([sink], story)
        assert caplog.text.count("is away") == 1
        assert "is back" in caplog.text


def test_tables_that_stay_away_while_a_boot_is_taken_up_do_not_end_its_sink(
    tmp_path: Path, pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour of a database that does not answer is a thousand tries: as many as calls can be nested."""
    monkeypatch.setattr("cloud.runner.MAX_PAUSE_S", 0.0)
    vehicle = Vehicle(pki, make_schema(), clock=None)
    tries = 0
    with opened(tmp_path, vehicle) as cloud:
        ask = cloud.database.unplaced

        def ask_badly(*of: Any) -> list[int]:
            nonlocal tries
            tries += 1
            if tries <= sys.getrecursionlimit():
                raise OperationalError("SELECT", {}, Exception("no route to host"))
            return ask(*of)

        monkeypatch.setattr(cloud.database, "unplaced", ask_badly)
        sink = Memory()

        cloud.land(vehicle.announcement, vehicle.rows(range(2)))
        cloud.run([sink], nothing)
        assert sink.sequences == []

        async def story(cloud: Cloud) -> None:
            cloud.land(vehicle.say(Clock(boot_ms=0, utc_ms=START_MS, source="log")))
            await until(lambda: sink.sequences == [1])

        cloud.run([sink], story)
    assert tries > sys.getrecursionlimit()
