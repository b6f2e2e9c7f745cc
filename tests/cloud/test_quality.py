"""Data quality: the same figures however messages come, and each gap with its cause."""

import random
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import pytest
from alembic import command
from alembic.config import Config
from cloud_samples import VEHICLE, make_rows, make_schema
from sqlalchemy import create_engine, text

from cloud.api.backend import Backend
from cloud.api.quality import DaysQuery, QualityRoutes
from cloud.api.route import VehiclePath
from cloud.errors import TablesUnusable
from cloud.events import GapEvent, StatusEvent, TickRows
from cloud.lake.folders import DAY_MS, day_of
from cloud.migrations import bring_up
from cloud.quality.day import Batch, Day, Dropped, News, dump, load
from cloud.quality.figures import Cause, figures
from cloud.quality.sink import QualitySink
from cloud.quality.tables import QualityTables
from cloud.quality.twins import far_apart
from cloud.tables import parsed
from dbc.catalogue import Catalogue
from wire.messages import Gap, StatusMessage

DAY = 20_000
START_MS = DAY * DAY_MS
STREAM, NEXT = b"s" * 16, b"n" * 16


def rows(second: int, ticks: int = 2, *, sequence: int, stream: bytes = STREAM, late_ms: int = 500, **more: Any) -> TickRows:
    made = make_rows(range(ticks), sequence=sequence, stream=stream, **more)
    tick_ms = START_MS + 1000 * (second + np.arange(ticks, dtype=np.int64))
    return replace(made, tick_ms=tick_ms, received_ms=int(tick_ms[-1]) + late_ms)


def status(second: int, state: str, *, sequence: int, stream: bytes = STREAM) -> StatusEvent:
    message = StatusMessage(tick_ms=0, state=state, counters={})
    return StatusEvent(VEHICLE, "sample", stream, sequence, START_MS, False, START_MS + 1000 * second, message)


def gap(first: int, last: int, *, sequence: int, reason: str = "the outbox was full", stream: bytes = STREAM) -> GapEvent:
    return GapEvent(
        VEHICLE, "sample", NEXT, sequence, START_MS + 9_000_000, False, Gap(stream=stream, first=first, last=last, reason=reason)
    )


STORY: list[Any] = [
    *(rows(2 * n, sequence=n) for n in range(1, 31)),  # seconds 2..61
    status(61, "running", sequence=31),
    *(rows(2 * n - 2, sequence=n) for n in range(32, 41)),  # 62..79
    # 41..44 dropped: 80..87
    *(rows(2 * n - 2, sequence=n) for n in range(45, 50)),  # 88..97
    # 50 has not arrived: 98, 99
    *(rows(2 * n - 2, sequence=n) for n in range(51, 60)),  # 100..117
    status(117, "bus_asleep", sequence=60),
    *(rows(1000 + 2 * n, sequence=n) for n in range(61, 70)),  # 1122..1139
    *(rows(1160 + 2 * n, sequence=n, stream=NEXT) for n in range(1, 10)),  # 1162..1179, within a minute
    *(rows(9000 + 2 * n, sequence=n, stream=b"z" * 16, late_ms=100_000_000) for n in range(1, 3)),  # after two hours, and a day late
    gap(41, 44, sequence=20),
]
HOLES = [
    (80, 88, Cause.DROPPED),
    (98, 100, Cause.NOT_ARRIVED),
    (118, 1122, Cause.ASLEEP),
    (1140, 1162, Cause.RESTART),
    (1180, 9002, Cause.OFF),
]


@pytest.fixture
def tables(tmp_path: Path) -> Any:
    with QualityTables(f"sqlite:///{tmp_path / 'cansight.db'}") as opened:
        yield opened


def day_of_one_cloud(events: list[Any]) -> Day:
    """The day as one cloud would know it."""
    with TemporaryDirectory() as folder, QualityTables(f"sqlite:///{folder}/a.db") as tables:
        sink = sink_of(tables)
        sink.take(events)
        sink.flush()
        return tables.of(VEHICLE, DAY, DAY)[DAY]


def sink_of(tables: QualityTables) -> QualitySink:
    return QualitySink(tables, {}, lambda: START_MS + 4 * DAY_MS)


@pytest.mark.parametrize("order", ["as it was", "backwards", "twice, with a restart between"])
def test_a_days_figures_do_not_depend_on_how_its_messages_come(tables: QualityTables, order: str) -> None:
    sink = sink_of(tables)
    sink.take(STORY[::-1] if order == "backwards" else STORY)
    sink.flush()
    if order.startswith("twice"):
        sink = sink_of(tables)
        sink.take(STORY[40:])
        sink.flush()
    told = figures(tables.of(VEHICLE, DAY, DAY)[DAY], START_MS, over=True)
    assert [(hole.begin, hole.end, hole.cause) for hole in told.holes] == HOLES
    assert told.holes[0].reason == "the outbox was full"
    assert (told.seen, told.missing) == (2 * 73, 8 + 2 + 22)
    # dropped 4, not arrived 1, a day late 2
    assert (told.recorded, told.failed, told.pending) == (73 + 4 + 1, 4 + 1 + 2, 1)
    assert told.backlog == 4
    assert told.p50_ms == pytest.approx(1500, rel=0.35)
    assert told.ahead_ms == -500
    [fleet] = tables.fleet(DAY, DAY)
    assert (fleet.vehicles, fleet.known, fleet.seen, fleet.missing, fleet.failed) == (1, 1, told.seen, told.missing, told.failed)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_two_replicas_that_get_about_every_second_batch_count_into_one_day(make_tables: Callable[[str], str], kind: str) -> None:
    """At the same time, and each some batches of the other's, too, as after a kill."""
    whole = day_of_one_cloud(STORY)
    url, draw = make_tables(kind), random.Random(7)
    given = [draw.choice([(0,), (1,), (0, 1)]) for _ in STORY]
    shares = [[event for event, to in zip(STORY, given, strict=True) if one in to] for one in range(2)]
    with QualityTables(url) as one, QualityTables(url) as two, ThreadPoolExecutor(2) as threads:

        def count(tables: QualityTables, events: list[Any]) -> None:
            sink = sink_of(tables)
            for at in range(0, len(events), 5):
                sink.take(events[at : at + 5])
                sink.flush()

        list(threads.map(count, (one, two), shares))
        day = one.of(VEHICLE, DAY, DAY)[DAY]
    assert figures(day, START_MS, over=True) == figures(whole, START_MS, over=True)
    assert day.streams == whole.streams
    assert max(len(runs) for runs in day.streams.values()) == 4, "one for each hole, not one for each batch"


class Failing:
    """Tables that are away at every third call. learned: how many vehicles' days at once."""

    def __init__(self, tables: QualityTables) -> None:
        self.tables = tables
        self.calls = 0
        self.learned: list[int] = []

    def _call(self) -> None:
        self.calls += 1
        if self.calls % 3 == 0:
            raise TablesUnusable("away")

    def learn(self, day: int, news: Mapping[str, News], now_ms: int) -> None:
        self._call()
        self.learned.append(len(news))
        self.tables.learn(day, news, now_ms)

    def drop(self, *words: Any) -> None:
        self._call()
        self.tables.drop(*words)


def over_midnight(vehicle: str, sequence: int) -> TickRows:
    return rows(DAY_MS // 1000 - 1, sequence=sequence, vehicle=vehicle)


def persistently(work: Callable[[], Any]) -> Any:
    """As a runner does: again while the tables are away."""
    for _ in range(10_000):
        with suppress(TablesUnusable):
            return work()
    raise AssertionError("the tables are never there")


@pytest.mark.parametrize("most", [200_000, 700])
def test_flushed_in_parts_a_fleets_days_are_the_same_and_no_part_is_large(tables: QualityTables, most: int) -> None:
    """Messages come between the parts, of vehicles whose turn was and of new ones, of two days; the tables fail every third time; there
    may be no room for what comes."""
    fleet = [f"vehicle{number:03}" for number in range(400)]
    gaps = [replace(gap(41, 44, sequence=number), vehicle=vehicle) for number, vehicle in enumerate(fleet[::40])]
    first = [one for vehicle in fleet[:300] for one in (rows(2, sequence=1, vehicle=vehicle), over_midnight(vehicle, 2))]
    second = [one for vehicle in fleet for one in (rows(4, sequence=3, vehicle=vehicle), over_midnight(vehicle, 4))]
    failing = Failing(tables)
    sink = QualitySink(cast(QualityTables, failing), {}, lambda: START_MS + 4 * DAY_MS, most=most)

    def give(events: list[Any]) -> None:
        persistently(lambda: sink.take(events))

    for at in range(0, len(first), 50):
        give(first[at : at + 50])
    give(gaps[:5])
    coming = iter(range(0, len(second), 20))
    while not persistently(sink.flush_some):
        if (at := next(coming, None)) is not None:
            give(second[at : at + 20])
    for vehicle in fleet[:300]:
        days = tables.of(vehicle, DAY, DAY + 1)
        assert all(days[day].holds(STREAM.hex(), 2) for day in (DAY, DAY + 1))
    assert sum(bool(tables.of(vehicle, DAY, DAY)[DAY].dropped) for vehicle in fleet[:200:40]) == 5
    for at in coming:
        give(second[at : at + 20])
    give(gaps[5:])
    assert max(failing.learned) <= 30, "of 600 days of vehicles a 24th, and a few"
    while not persistently(sink.flush_some):
        pass
    failing.learned.clear()
    assert persistently(sink.flush_some)
    assert not failing.learned, "what is kept is not kept again"
    with TemporaryDirectory() as folder, QualityTables(f"sqlite:///{folder}/a.db") as whole:
        at_once = sink_of(whole)
        at_once.take([*first, *second, *gaps])
        at_once.flush()
        for vehicle in fleet:
            assert tables.of(vehicle, DAY, DAY + 1) == whole.of(vehicle, DAY, DAY + 1)


def test_tables_that_go_away_between_a_parts_two_days_are_asked_again_for_the_second_alone(tables: QualityTables) -> None:
    failing = Failing(tables)
    failing.calls = 1
    sink = QualitySink(cast(QualityTables, failing), {}, lambda: START_MS + 4 * DAY_MS)
    sink.take([over_midnight(VEHICLE, 1)])
    with pytest.raises(TablesUnusable):
        sink.flush_some()
    assert failing.learned == [1]
    assert sink.flush_some()
    assert failing.learned == [1, 1]
    assert sorted(tables.of(VEHICLE, DAY, DAY + 1)) == [DAY, DAY + 1]


def test_while_the_tables_are_away_a_bounded_number_of_batches_is_held_and_none_is_lost(tmp_path: Path) -> None:
    tables = QualityTables(f"sqlite:///{tmp_path / 'a.db'}")
    sink = QualitySink(tables, {}, lambda: START_MS, most=4)
    batches = [rows(2 * n, sequence=n) for n in range(1, 9)]
    sink.take(batches[:4])
    for _ in range(3):
        with pytest.raises(TablesUnusable):
            sink.take(batches[4:])
    with tables:
        sink.take(batches[4:])
        sink.flush()
        assert tables.of(VEHICLE, DAY, DAY)[DAY].batches == 8


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_days_that_replicas_kept_apart_are_joined_by_init(make_tables: Callable[[str], str], kind: str) -> None:
    url = make_tables(kind)
    parts = [day_of_one_cloud(share) for share in (STORY[::2], STORY[1::2])]
    columns = "vehicle, day, replica, seen, missing, recorded, failed, written_ms, state"
    engine = create_engine(parsed(url))
    with engine.begin() as db:
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parents[2] / "cloud" / "migrations"))
        config.attributes["connection"] = db
        command.upgrade(config, "0003")
        for replica, day in zip("ab", parts, strict=True):
            row = {"replica": replica, "ms": START_MS + 4 * DAY_MS, "state": dump(day)}
            db.execute(text(f"INSERT INTO quality_days ({columns}) VALUES ('{VEHICLE}', {DAY}, :replica, 1, 2, 3, 4, :ms, :state)"), row)
        row = {"state": dump(parts[0])}
        db.execute(text(f"INSERT INTO quality_days ({columns}) VALUES ('alone', {DAY - 1}, '', 1, 2, 3, 4, 5, :state)"), row)
    engine.dispose()
    bring_up(url)
    whole = day_of_one_cloud(STORY)
    with QualityTables(url) as tables:
        assert tables.of(VEHICLE, DAY, DAY)[DAY] == whole
        told = figures(whole, START_MS, over=True)
        before, fleet = tables.fleet(DAY - 1, DAY)
        assert (fleet.seen, fleet.missing, fleet.recorded, fleet.failed) == (told.seen, told.missing, told.recorded, told.failed)
        assert (before.seen, before.missing, before.recorded, before.failed) == (1, 2, 3, 4)
        assert tables.of("alone", DAY - 1, DAY - 1)[DAY - 1] == parts[0]


def test_a_batch_over_midnight_is_counted_once_and_its_ticks_on_both_days(tables: QualityTables) -> None:
    sink = sink_of(tables)
    sink.take([rows(DAY_MS // 1000 - 1, 2, sequence=7)])
    sink.flush()
    days = tables.of(VEHICLE, DAY, DAY + 1)
    assert [day.batches for day in days.values()] == [1, 0]
    assert [figures(day, number * DAY_MS, over=False).seen for number, day in days.items()] == [1, 1]


def test_a_day_is_kept_as_it_is() -> None:
    day, batch = Day(), Batch("aa", 1, [5, 6], START_MS + 7000, 12, 11, twins={"a": (2, 1)})
    assert day.add(batch, START_MS)
    day.drop(Dropped("aa", 2, 3, "old"))
    kept = load(dump(day))
    assert kept == day
    assert not kept.add(batch, START_MS)
    assert kept == day


def test_a_sensor_that_is_more_than_two_percent_from_its_twins_is_named(tables: QualityTables) -> None:
    schema = make_schema()
    catalogue = replace(Catalogue.empty("sample"), twins={"some": ("M0.S0", "M0.S1", "M0.S2")})
    sink = QualitySink(tables, {"sample": catalogue}, lambda: START_MS)
    for sequence in range(8, 8 * 20, 8):
        batch = rows(4 * sequence, 4, sequence=sequence, schema=schema)
        batch.raw[:, :3] = [[1000, 1003, 1050]]
        sink.take([batch])
    sink.flush()
    told = figures(tables.of(VEHICLE, DAY, DAY)[DAY], START_MS, over=False)
    assert told.off == {"M0.S2": 1.0}


def test_twins_one_alone_is_not_judged_and_of_two_both_are() -> None:
    nan = np.nan
    compared, off = (one.sum(axis=0) for one in far_apart(np.array([[100.0, 103.0, nan], [100.0, nan, nan], [100.0, 101.0, nan]]), 10.0))
    assert (compared.tolist(), off.tolist()) == ([2, 2, 0], [1, 1, 0])
    assert far_apart(np.array([[0.1, 0.2]]), 10.0)[1].tolist() == [[False, False]]  # 2 % of the floor


def test_the_api_tells_it_in_both_languages(tables: QualityTables) -> None:
    sink = sink_of(tables)
    sink.take(STORY)
    sink.flush()
    routes = QualityRoutes(Backend(None, None, None, quality=tables))  # type: ignore[arg-type]  # the parts it stands on here
    asked = DaysQuery(from_day=day_of(START_MS), to_day=day_of(START_MS), lang="zh")
    [day] = routes.vehicle(VehiclePath(VEHICLE), asked).days
    assert day.completeness == pytest.approx(146 / (146 + 32))
    assert [(one.code, one.lost) for one in day.gaps][:2] == [(Cause.DROPPED, True), (Cause.NOT_ARRIVED, True)]
    assert day.gaps[0].cause == "车端已丢弃：发送缓存已满"
    [fleet] = routes.fleet(asked).days
    assert (fleet.day, fleet.coverage, fleet.completeness) == (day_of(START_MS), 1.0, day.completeness)
    assert tables.completeness(["nobody", VEHICLE], DAY) == {VEHICLE: day.completeness}
    assert tables.completeness([VEHICLE], DAY + 1) == {}
