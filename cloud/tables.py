"""The cloud's tables: the database they are in, SQLite or PostgreSQL, and transactions that read or write.

A writing transaction holds SQLite's one write lock from its first moment (BEGIN IMMEDIATE), so what it has read cannot be outdated. On
PostgreSQL rows are locked as they are written, and a transaction that lost a deadlock or a race is done again. The driver, psycopg, is a
blocking one: everything that calls it runs in threads of its own anyway, and so both databases are one path through the code.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, Row, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, IntegrityError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.sql.dml import Insert

from cloud.errors import CloudError, TablesUnusable
from cloud.versions import require

__all__ = ["TABLES_AWAY", "AnyRow", "Insertion", "Tables", "insert", "make_engine", "make_private", "one_line", "parsed", "shown"]

LOCK_WAIT_S = 30.0  # writers queue for SQLite's one write lock; each transaction here takes milliseconds
TRIES = 8  # of a transaction that lost against another one
AGAIN_S = 0.01
LOST = frozenset({"40001", "40P01", "55P03"})  # PostgreSQL: serialization failure, deadlock, lock not available
TABLES_AWAY = (OperationalError, InterfaceError, InternalError, NoConnectionFree)
"""What a database raises that is restarted, fails over, is full or cannot be reached: worth trying again."""

# A commit is custody: an operator's default must not make it less. A server that went away without a word is found out within seconds.
POSTGRES = {
    "application_name": "cansight",
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "options": "-c synchronous_commit=on -c lock_timeout=10s",
}
CONNECTIONS = 10  # at most, of each of the three parts of a cloud that have connections of their own

T = TypeVar("T")
Insertion = sqlite.Insert | postgresql.Insert
AnyRow = Row[*tuple[Any, ...]]


class Tables:
    """`open()` and `close()`; `read` and `write` may be called from several threads, by several processes on one database.

    `unusable` is what is raised where they cannot be opened, `called` what they are called then.
    """

    def __init__(self, database_url: str, called: str = "the tables", unusable: type[CloudError] = TablesUnusable) -> None:
        self._url = database_url
        self._called = called
        self._unusable = unusable
        self._engine: Engine | None = None

    @property
    def folder(self) -> Path | None:
        """Where SQLite's file is; None: it is another database."""
        url = self.parsed
        return Path(url.database).absolute().parent if url.get_backend_name() == "sqlite" and url.database else None

    @property
    def parsed(self) -> URL:
        """The address. Raises `unusable`."""
        return parsed(self._url, self._called, self._unusable)

    def open(self, make_folder: bool = False) -> None:
        """Connect; an empty database gets its tables. Raises `unusable`, also where their version is not this program's.

        `make_folder`: of SQLite's file, where it is missing.
        """
        url = self.parsed
        name = shown(url)
        try:
            if url.get_backend_name() == "sqlite":
                path = Path(url.database or "")
                if make_folder:
                    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                # Evidence tells where and how somebody drove: the file is its owner's alone. SQLite gives its -wal and -shm the same mode.
                make_private(path)
        except OSError as error:
            raise self._unusable(f"{name}: {self._called} cannot be opened: {error.strerror}") from error
        with ExitStack() as undo:
            engine = make_engine(url)
            undo.callback(engine.dispose)
            try:
                require(engine, name)
            except (DatabaseError, *TABLES_AWAY) as error:
                raise self._unusable(f"{name}: {self._called} cannot be opened: {one_line(error)}") from error
            except TablesUnusable as error:
                raise self._unusable(str(error)) from None
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

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to read by, in one snapshot on SQLite."""
        with self._db.connect() as db:
            yield db

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is durable at the block's end; what it raises undoes it, and nothing is tried again."""
        with self._db.connect().execution_options(writes=True) as db, db.begin():
            yield db

    @property
    def _db(self) -> Engine:
        if self._engine is None:
            raise self._unusable(f"{self._called}: not open")
        return self._engine


def parsed(text: str, called: str = "the tables", unusable: type[CloudError] = TablesUnusable) -> URL:
    """A database's address. Raises `unusable` where it is none of SQLite's or PostgreSQL's."""
    try:
        url = make_url(text)
    except ArgumentError:
        raise unusable(f"{called}: expected a database address such as sqlite:////var/lib/x.db, found {text!r}") from None
    backend = url.get_backend_name()
    # A database in memory would be another one in each thread.
    if backend not in ("sqlite", "postgresql") or not url.database or (backend == "sqlite" and url.database == ":memory:"):
        raise unusable(f"{called}: expected sqlite:// and a file's path, or postgresql+psycopg://, found {url.render_as_string()}")
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def shown(url: URL) -> str:
    """For people, as they wrote it, without the password."""
    return f"{url.database}" if url.get_backend_name() == "sqlite" else url.set(drivername="postgresql").render_as_string()


def insert(
    db: Connection, table: type[DeclarativeBase] | Table, values: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
) -> Insertion:
    """An insert in this connection's dialect: it alone knows ON CONFLICT, in the same words for both."""
    make: Callable[[Any], Insertion] = postgresql.insert if db.dialect.name == "postgresql" else sqlite.insert
    made: Insert = make(table if isinstance(table, Table) else table.__table__)
    if values is not None:
        made = made.values(values)
    return made  # type: ignore[return-value]  # `values` returns the same class


def make_engine(url: URL) -> Engine:
    """Its connections are durable and begin transactions as this module's head says."""
    if url.get_backend_name() != "sqlite":
        # asked before each use: the server may have been restarted since
        arguments = {key: value for key, value in POSTGRES.items() if key not in url.query}
        half = CONNECTIONS // 2
        return create_engine(url, pool_pre_ping=True, pool_size=half, max_overflow=CONNECTIONS - half, connect_args=arguments)
    engine = create_engine(url, connect_args={"timeout": LOCK_WAIT_S})
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin)
    return engine


def make_private(path: Path) -> None:
    """Make an empty file that is its owner's alone, where there is none. Raises OSError.

    A file that is there is not even opened: closing it would drop the locks by which SQLite holds it elsewhere in this process (POSIX
    locks are the process's), and the next process to close the database would take the log away from under us.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


def one_line(error: BaseException) -> str:
    """What a database said, without SQLAlchemy's words around it."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


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
