"""Changing tables that have data in them, version by version, with Alembic. A running cloud never imports it.

A step is a file in `versions/` and is never edited once it was released: it says what the tables were then, `cloud/database.py` and the
others say what they are today, and a test holds the two together. There is no way down but the backup.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection, inspect
from sqlalchemy.exc import SQLAlchemyError

from cloud.errors import TablesUnusable
from cloud.tables import make_engine, make_private, one_line, parsed, shown
from cloud.versions import NEWEST, UNNUMBERED, alone, every_metadata, make_all, version_of

__all__ = ["bring_up"]


def bring_up(database_url: str) -> str:
    """Make the tables, or change them to this program's version; one line of what was done.

    Raises TablesUnusable: nothing is changed then.
    """
    url = parsed(database_url)
    name = shown(url)
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            make_private(path)
        except OSError as error:
            raise TablesUnusable(f"{name}: cannot be made: {error.strerror}") from error
    engine = make_engine(url)
    try:
        with engine.connect().execution_options(writes=True) as db, db.begin():
            alone(db)
            return f"{name}: {_bring_up(db, name)}"
    except (SQLAlchemyError, CommandError) as error:
        raise TablesUnusable(f"{name}: the tables cannot be brought to version {NEWEST}: {one_line(error)}") from error
    finally:
        engine.dispose()


def _bring_up(db: Connection, name: str) -> str:
    found = version_of(db)
    if found is None:
        make_all(db)
        return f"tables made, version {NEWEST}"
    if found == NEWEST:
        return f"tables are of version {NEWEST}"
    if found != UNNUMBERED and found > NEWEST:
        raise TablesUnusable(f"{name}: its tables are of version {found}, newer than this program's {NEWEST}")
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = db
    command.upgrade(config, NEWEST)
    _compare(db, name)
    return f"tables brought from version {found} to {NEWEST}"


def _compare(db: Connection, name: str) -> None:
    """Tables from before there were versions may be of any day."""
    there = inspect(db)
    for table in (table for one in every_metadata() for table in one.sorted_tables):
        lacking = {column.name for column in table.columns} - {column["name"] for column in there.get_columns(table.name)}
        if lacking:
            raise TablesUnusable(
                f"{name}: table {table.name} has no column {sorted(lacking)[0]}: older than version 0001, from which no step leads"
            )
