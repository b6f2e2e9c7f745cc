"""Every table on a real PostgreSQL: versions, what they keep, and what happens while it is started again."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from example_fleet import finding
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text

from cloud.api import Backend, events
from cloud.database import Database, StoredStream
from cloud.errors import TablesUnusable
from cloud.events import StatusEvent
from cloud.migrations import bring_up
from cloud.roles import Role
from cloud.tables import parsed
from cloud.tickets.service import TicketService
from cloud.tokens import Tokens
from cloud.versions import NEWEST, every_metadata
from wire.messages import Clock, StatusMessage

MIGRATIONS = Path(__file__).parents[2] / "cloud" / "migrations"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, make_tables: Callable[[str], str]) -> str:
    """An empty database's address."""
    return make_tables(request.param)


def before_versions(url: str) -> None:
    """The tables of 0001, with no number, as a cloud from before there were versions has left them."""
    from alembic import command

    engine = create_engine(parsed(url))
    with engine.begin() as db:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = db
        command.upgrade(config, "0001")
        db.execute(text("DROP TABLE alembic_version"))
        db.execute(text("DROP TABLE api_sessions"))  # not every table has been there on every day
        db.execute(text("INSERT INTO cursors (sink, position) VALUES ('store', 7)"))
        db.execute(text("INSERT INTO checkpoint (id, position) VALUES (1, 5)"))
        db.execute(text("INSERT INTO ticket_filters (owner, name, query) VALUES ('o', 'n', '{}')"))
    engine.dispose()


def differences(url: str) -> list[object]:
    """Between the tables that are there and those that the program has."""
    engine = create_engine(parsed(url))
    with engine.connect() as db:
        known = {table.name for one in every_metadata() for table in one.sorted_tables}
        found: list[object] = [name for name in inspect(db).get_table_names() if name not in {*known, "alembic_version"}]
        for metadata in every_metadata():
            found += compare_metadata(_context(db, {table.name for table in metadata.sorted_tables}), metadata)
    engine.dispose()
    return found


def _context(db: Connection, names: set[str]) -> MigrationContext:
    def mine(name: str | None, kind: str, _parents: object) -> bool:
        return kind != "table" or name in names

    return MigrationContext.configure(db, opts={"compare_type": True, "include_name": mine})


def test_the_newest_step_is_the_programs_version() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == NEWEST


def test_made_at_once_or_step_by_step_the_tables_are_the_programs(url: str) -> None:
    assert "tables made" in bring_up(url)
    assert differences(url) == []
    assert "are of version" in bring_up(url)


def test_tables_from_before_there_were_versions_are_taken_over_by_init_alone(url: str) -> None:
    before_versions(url)
    with pytest.raises(TablesUnusable, match=f"of version unnumbered, this program's are {NEWEST}.*cloud init"), Database(url):
        pass
    assert f"from version unnumbered to {NEWEST}" in bring_up(url)
    assert differences(url) == []
    with Database(url) as database:
        assert database.cursor("store") == 7
        assert database.checkpoint() == 5
    with Database(url, "b") as other:
        assert other.cursor("store") == 0


def test_newer_tables_are_said_in_one_line_and_stay(url: str) -> None:
    bring_up(url)
    engine = create_engine(parsed(url))
    with engine.begin() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    for use in (lambda: Tokens(url).__enter__(), lambda: bring_up(url)):
        with pytest.raises(TablesUnusable, match=f"9999, newer than this program's {NEWEST}") as caught:
            use()
        assert "\n" not in str(caught.value)
        assert "only" not in str(caught.value), "no password in it"


def test_a_table_of_another_day_is_named(url: str) -> None:
    before_versions(url)
    engine = create_engine(parsed(url))
    with engine.begin() as db:
        db.execute(text("ALTER TABLE tickets RENAME COLUMN said TO told"))
    engine.dispose()
    with pytest.raises(TablesUnusable, match="table tickets has no column said"):
        bring_up(url)
    with pytest.raises(TablesUnusable, match="unnumbered"):  # nothing was changed
        Database(url).__enter__()


def test_what_is_kept_is_each_replicas_own_or_everybodys(url: str) -> None:
    boot, stream = bytes(16), bytes(range(16))
    with Database(url, "a") as a, Database(url, "b") as b:
        a.learn([StoredStream(stream, "0" * 16, 1, b"announced")], {})
        a.learn([StoredStream(stream, "0" * 16, 2, b"another word")], {})
        assert b.stream(stream) == StoredStream(stream, "0" * 16, 1, b"announced")
        a.advance("store", 5, [(3, "0" * 16, boot)])
        b.advance("store", 9, [(4, "0" * 16, boot)])
        assert (a.cursor("store"), b.cursor("store")) == (5, 9)
        assert (a.unplaced("store", "0" * 16, boot), b.oldest_unplaced()) == ([3], 4)
        assert b.dated(b.waiting("store")) == []
        a.learn([], {("0" * 16, boot): Clock(boot_ms=0, utc_ms=1, source="ntp")})
        assert b.dated(b.waiting("store")) == [("0" * 16, boot)]
        b.advance("store", 10, placed=[4])
        assert b.dated(b.waiting("store")) == []
        a.save_landed(4, {stream: b"before"}, 50)
        a.save_landed(6, {stream: b"now"}, 60)
        assert (a.checkpoint(), a.landed([stream, bytes(16)])) == (6, {stream: b"now"})
        assert (b.checkpoint(), b.landed([stream])) == (0, {})
        assert (b.forget_landed(100), a.forget_landed(60)) == (0, 0)
        assert a.landed([stream])
        number = a.ask_replay([1, 2])
        assert b.asked_replays() == []
        dropping = a.ask_replay([3], drop=True)
        assert a.asked_replays() == [(number, [1, 2], False), (dropping, [3], True)]
        for database, tick_ms in ((a, 2000), (b, 1000)):  # the later word stays, whoever hears it first
            status = StatusMessage(tick_ms=tick_ms, state="running", counters={}, facts={"tick": str(tick_ms)})
            database.hear([StatusEvent("0" * 16, "car", stream, 0, tick_ms, False, tick_ms, status)])
        said = a.heard("0" * 16)
        assert said is not None
        assert said["facts"] == {"tick": "2000"}
        assert b.all_heard() == {"0" * 16: (2000, "running")}
        assert b.heard("1" * 16) is None
    with Tokens(url) as tokens:
        secret = tokens.create("one", Role.SERVICE)
        who = tokens.holder(secret)
        assert who is not None
        assert who.role is Role.SERVICE


def test_what_millions_of_waiting_messages_are_asked_goes_by_their_key(tmp_path: Path) -> None:
    asked: list[tuple[str, Any]] = []

    def note(*given: Any) -> None:
        asked.append((given[2], given[3][0] if given[5] else given[3]))

    with Database(f"sqlite:///{tmp_path / 'c.db'}", "a") as database:
        for sink in ("store", "lake"):
            database.advance(sink, 9, [(position, "0" * 16, bytes(16)) for position in range(3, 8)])
        event.listen(Engine, "before_cursor_execute", note)
        assert (database.oldest_unplaced(), database.unplaced_before(6, 2)) == (3, [3, 4])
        database.strike_out([3, 4])
        event.remove(Engine, "before_cursor_execute", note)
        assert (database.oldest_unplaced(), database.waiting("lake")) == (5, {("0" * 16, bytes(16))})
        with database._tables.reading() as db:
            plans = [[row[3] for row in db.exec_driver_sql(f"EXPLAIN QUERY PLAN {one}", its)] for one, its in asked if "unplaced" in one]
    assert len(plans) == 6
    assert all("replica=? AND sink=?" in step for plan in plans for step in plan), plans


def test_a_change_that_is_committed_late_is_told_and_not_passed_over(
    make_tables: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LOOK_S", 0.01)
    url = make_tables("postgresql")
    bring_up(url)
    slow = create_engine(parsed(url))

    async def watch(tickets: TicketService) -> None:
        hub = events.Hub(Backend(None, tickets, None))  # type: ignore[arg-type]  # the parts it stands on here

        async def told(number: int) -> None:
            while not any(f'"id":{number},' in message.data.decode() for _, _, message in hub.messages):
                await hub.next_round()

        with slow.connect() as db, db.begin() as transaction:
            into = "INSERT INTO ticket_events (ticket_id, number, at_ms, actor, action, detail)"
            late = db.execute(text(f"{into} VALUES (1, 99, 0, 'a', 'comment', '') RETURNING id")).scalar_one()
            tickets.desk.comment(2, "before the first reader", "b")
            await hub.enter()
            tickets.desk.comment(2, "after it", "b")
            await told(late + 2)
            assert hub.told == late - 1  # who comes again is told of what comes late
            transaction.commit()
        await told(late)
        assert hub.told == hub.newest == late + 2
        await hub.stop(web.Application())

    with TicketService(url, audit_folder=tmp_path / "audit") as tickets:
        for number in (1, 2):
            tickets.consume(finding(number, fault_code=f"fault_{number}"))
        asyncio.run(asyncio.wait_for(watch(tickets), 60))
    slow.dispose()
