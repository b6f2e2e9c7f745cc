"""Bringing a backup back: onto a state folder and a database that have nothing yet."""

import shutil
import tempfile
from pathlib import Path

from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from cloud.backup import (
    LAKE,
    MODEL,
    TABLES,
    Manifest,
    copy_file,
    copy_tables,
    named_files,
    read_manifest,
    tables_of_backup,
)
from cloud.config import CloudConfig
from cloud.errors import BackupError
from cloud.migrations import bring_up
from cloud.tables import make_engine, one_line, parsed
from cloud.versions import alone, every_metadata
from wire.folder import sync_folder

__all__ = ["restore"]


def restore(config: CloudConfig, folder: Path, keys: Path | None, tables: bool = True) -> Manifest:
    """Put everything back, the tables last. `keys`: the folder that the backup's keys are in, of files that are not there (any more).
    tables=False: the landing log and what lies beside it alone, for another replica on tables that are there.

    Raises BackupError before anything is written where the backup is not whole, is another replica's, or would overwrite something.
    """
    manifest = read_manifest(folder)
    if manifest.replica != config.broker.replica:
        was, is_ = (name or "none" for name in (manifest.replica, config.broker.replica))
        raise BackupError(f"{folder}: is a backup of replica {was}, the settings' broker.replica is {is_}")
    state = Path(config.state)
    parts = sorted({file.path.partition("/")[0] for file in manifest.files} - {TABLES})
    where = {part: config.lake_folder if part == LAKE else state / part for part in parts}
    for there in where.values():
        if there.is_file() or (there.is_dir() and any(path.name != "lock" for path in there.iterdir())):
            raise BackupError(f"{there}: is there already; a backup is restored beside nothing: move it away")
    try:
        lacking = _lacking(config, keys)
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".restore-", dir=state) as name:
            copied = Path(name)
            for file in manifest.files:
                target = copied / file.path
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                copy_file(folder / file.path, target)
            bring_up(f"sqlite:///{copied / TABLES}")  # a backup may be of an older version
            if tables:
                bring_up(config.database_url)
                _check_empty(config)
            for path, source in lacking:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                copy_file(source, path)
            for part, there in where.items():
                shutil.rmtree(there, ignore_errors=True)  # empty, with a lock at most
                there.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                shutil.move(copied / part, there)  # the lake may be on another disk
            sync_folder(state)
            if tables:
                _copy_in(config, copied / TABLES)
    except OSError as error:
        raise BackupError(f"{error.filename or state}: cannot be restored: {error.strerror}") from error
    except SQLAlchemyError as error:
        raise BackupError(f"{folder}: the tables cannot be restored: {one_line(error)}") from error
    return manifest


def _lacking(config: CloudConfig, keys: Path | None) -> list[tuple[Path, Path]]:
    """(where it belongs, where it is) of the settings' files that are not there. Raises BackupError where one is, and is another."""
    if keys is None:
        return []
    found = []
    for name, path in named_files(config, keys).items():
        source = keys / name
        if not source.exists():
            continue
        if not path.exists():
            found.append((path, source))
        elif name.startswith(MODEL):
            continue  # a vehicle's description grows, and the newer one is there
        elif path.read_bytes() != source.read_bytes():
            raise BackupError(f"{path}: is another file than {source}; move away the one that is not wanted")
    return found


def _check_empty(config: CloudConfig) -> None:
    engine = make_engine(parsed(config.database_url))
    try:
        with engine.connect() as db:
            _require_empty(db)
    finally:
        engine.dispose()


def _copy_in(config: CloudConfig, path: Path) -> None:
    engine = make_engine(parsed(config.database_url))
    try:
        with tables_of_backup(path) as source, engine.connect().execution_options(writes=True) as target, target.begin():
            alone(target)
            _require_empty(target)
            copy_tables(source, target)
    finally:
        engine.dispose()


def _require_empty(db: Connection) -> None:
    for table in (table for one in every_metadata() for table in one.sorted_tables):
        if db.execute(select(table).limit(1)).first() is not None:
            raise BackupError(f"table {table.name} has rows already; a backup is restored into an empty database")
