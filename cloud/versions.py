"""The version of the cloud's tables: every one of them, in one database, is of the same version.

An empty database gets today's tables at once. One with tables is never changed by a cloud that starts: `cansight cloud init` does it, by
the steps in cloud/migrations (Alembic), after a backup.
"""

from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, inspect, select
from sqlalchemy.schema import CreateIndex, CreateTable

from cloud.errors import TablesUnusable

__all__ = ["NEWEST", "UNNUMBERED", "alone", "every_metadata", "make_all", "require", "version_of"]

NEWEST = "0005"  # of the files in cloud/migrations/versions the last; a test holds them together
UNNUMBERED = "unnumbered"  # tables from before there were versions
ONE_MAKER = 1953063787  # PostgreSQL's advisory lock: replicas start together, and one makes the tables

_VERSIONS = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))


def every_metadata() -> tuple[MetaData, ...]:
    """What all tables look like today."""
    from cloud.database import META as AGGREGATOR  # they stand on this module
    from cloud.quality.tables import META as QUALITY
    from cloud.tickets.model import Base
    from cloud.tokens import META as TOKENS

    return AGGREGATOR, Base.metadata, TOKENS, QUALITY


def version_of(db: Connection) -> str | None:
    """None: the database has no tables of ours."""
    there = set(inspect(db).get_table_names())
    if _VERSIONS.name in there:
        return db.execute(select(_VERSIONS.c.version_num)).scalar()
    ours = {table.name for one in every_metadata() for table in one.sorted_tables}
    return UNNUMBERED if ours & there else None


def require(engine: Engine, name: str) -> None:
    """Raises TablesUnusable where the tables are older or newer than this program; makes them where there are none.

    name: the database's, for the error.
    """
    with engine.connect() as db:
        found = version_of(db)
    if found is None:
        with engine.connect().execution_options(writes=True) as db, db.begin():
            alone(db)
            found = version_of(db)
            if found is None:
                make_all(db)
                found = NEWEST
    if found == NEWEST:
        return
    if found != UNNUMBERED and found > NEWEST:
        raise TablesUnusable(
            f"{name}: its tables are of version {found}, newer than this program's {NEWEST}: run the newer cansight, or restore a backup"
        )
    raise TablesUnusable(
        f"{name}: its tables are of version {found}, this program's are {NEWEST}: stop every cloud on it, then `cansight cloud init`"
    )


def make_all(db: Connection) -> None:
    """Today's tables in an empty database."""
    for table in (table for one in every_metadata() for table in one.sorted_tables):
        db.execute(CreateTable(table))
        for index in sorted(table.indexes, key=lambda one: str(one.name)):
            db.execute(CreateIndex(index))
    db.execute(CreateTable(_VERSIONS))
    db.execute(_VERSIONS.insert().values(version_num=NEWEST))


def alone(db: Connection) -> None:
    """Until the transaction's end nobody else makes or changes tables. SQLite's writing transaction is alone anyhow."""
    if db.dialect.name == "postgresql":
        db.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ONE_MAKER})")
