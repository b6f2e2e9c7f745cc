"""The ticket queue's database: opening it, and transactions that read or write. SQLite by default, PostgreSQL alike.

A writing transaction holds SQLite's one write lock from its first moment (BEGIN IMMEDIATE), so what it has read cannot be outdated. On
PostgreSQL rows are locked as they are written, and a transaction that lost a deadlock or a race is done again.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, Row, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, IntegrityError
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql.dml import Insert

from cloud.database import make_private
from cloud.tickets.errors import TicketsUnusable
from cloud.tickets.model import Base

__all__ = ["AnyRow", "Insertion", "Tables", "insert"]

LOCK_WAIT_S = 30.0  # writers queue for SQLite's one write lock; each transaction here takes milliseconds
TRIES = 8  # of a transaction that lost against another one
AGAIN_S = 0.01
LOST = frozenset({"40001", "40P01", "55P03"})  # PostgreSQL: serialization failure, deadlock, lock not available

T = TypeVar("T")
Insertion = sqlite.Insert | postgresql.Insert
AnyRow = Row[*tuple[Any, ...]]


class Tables:
    """`open()` and `close()`; `read` and `write` may be called from several threads, by several processes on one database."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._engine: Engine | None = None

    @property
    def folder(self) -> Path | None:
        """Where SQLite's file is; None: it is another database."""
        url = self._parsed()
        return Path(url.database).absolute().parent if url.get_backend_name() == "sqlite" and url.database else None

    def open(self) -> None:
        """Connect, and make the tables where they are missing. Raises TicketsUnusable."""
        url = self._parsed()
        name = url.database if url.get_backend_name() == "sqlite" else url.render_as_string()
        try:
            if url.get_backend_name() == "sqlite":
                # Evidence tells where and how somebody drove: the file is its owner's alone. SQLite gives its -wal and -shm the same mode.
                make_private(Path(url.database or ""))
        except OSError as error:
            raise TicketsUnusable(f"{name}: the ticket queue cannot be opened: {error.strerror}") from error
        with ExitStack() as undo:
            engine = _engine(url)
            undo.callback(engine.dispose)
            try:
                with engine.connect().execution_options(writes=True) as db, db.begin():
                    if db.dialect.name == "postgresql":
                        db.exec_driver_sql("SELECT pg_advisory_xact_lock(1953063787)")  # replicas start together: one makes the tables
                    # not create_all(): it looks before it creates, and another process may be opening the same file
                    for table in Base.metadata.sorted_tables:
                        db.execute(CreateTable(table, if_not_exists=True))
                        for index in sorted(table.indexes, key=lambda one: str(one.name)):
                            db.execute(CreateIndex(index, if_not_exists=True))
            except DatabaseError as error:
                words = str(error.orig).strip().splitlines()[0]
                raise TicketsUnusable(f"{name}: the ticket queue cannot be opened: {words}") from error
            undo.pop_all()
        self._engine = engine

    def close(self) -> None:
        """Close every connection. Closing twice does nothing."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` finds, in one snapshot on SQLite."""
        with self._db.connect() as db:
            return work(db)

    def write(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, durable when it does. `work` may be called again after a race; it must do nothing outside the database."""
        for attempt in range(TRIES):
            try:
                with self._db.connect().execution_options(writes=True) as db, db.begin():
                    return work(db)
            except DBAPIError as error:
                if attempt + 1 == TRIES or not _lost(error):
                    raise
            time.sleep(AGAIN_S * (1 + attempt))
        raise AssertionError("not reached")

    def _parsed(self) -> URL:
        try:
            url = make_url(self._url)
        except ArgumentError:
            raise TicketsUnusable(f"tickets: expected a database address such as sqlite:////var/lib/x.db, found {self._url!r}") from None
        backend = url.get_backend_name()
        # A database in memory would be another one in each thread.
        if backend not in ("sqlite", "postgresql") or not url.database or (backend == "sqlite" and url.database == ":memory:"):
            raise TicketsUnusable(
                f"tickets: expected sqlite:// and a file's path, or postgresql+psycopg://, found {url.render_as_string()}"
            )
        return url

    @property
    def _db(self) -> Engine:
        if self._engine is None:
            raise TicketsUnusable("the ticket queue is not open")
        return self._engine


def insert(db: Connection, table: type[DeclarativeBase], values: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Insertion:
    """An insert in this connection's dialect: it alone knows ON CONFLICT, in the same words for both."""
    make: Callable[[Any], Insertion] = postgresql.insert if db.dialect.name == "postgresql" else sqlite.insert
    made: Insert = make(table.__table__).values(values)
    return made  # type: ignore[return-value]  # `values` returns the same class


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)  # PostgreSQL may have been restarted since
    engine = create_engine(url, connect_args={"timeout": LOCK_WAIT_S})
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin)
    return engine


def _set_pragmas(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin`, not by the driver's guess
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(db: Connection) -> None:
    db.exec_driver_sql("BEGIN IMMEDIATE" if db.get_execution_options().get("writes") else "BEGIN")


def _lost(error: DBAPIError) -> bool:
    """Whether doing the same again may help: a deadlock, or two that inserted the same key."""
    return getattr(error.orig, "sqlstate", None) in LOST or (
        isinstance(error, IntegrityError) and getattr(error.orig, "sqlstate", None) == "23505"
    )
