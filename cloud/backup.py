"""Backups of a cloud that may be running: its tables, its landing log and quarantine, the embedded store, the audit's key and heads.

    FOLDER/tables.db          every table, as SQLite whatever database they were in
    FOLDER/landing/ quarantine/ audit/ lake/ store.db
    FOLDER/backup.json        what is there, with SHA-256; written last: without it, it is no backup
    KEYS/*                    the files that the settings name, where they are asked for: keep them elsewhere, they open the landing log

What is copied in which order makes it one state. The tables are of one instant, and everything that is copied after them is ahead of
them: sinks take again what is beyond their cursors, twice is once. Streams and clocks that came meanwhile are added at the end, because a
landed message needs its stream. The heads of the audit are copied before the tables, which must have what the heads promise.
"""

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Literal

import msgspec
from sqlalchemy import Connection, Engine, Table, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from cloud.config import CloudConfig
from cloud.database import CLOCKS, REPLAYS, STREAMS
from cloud.errors import BackupError
from cloud.tables import insert, make_engine, make_private, one_line, parsed, shown
from cloud.tickets.settings import read_policy
from cloud.versions import NEWEST, every_metadata, require
from dbc.dbc_file import parse_file_argument
from wire.folder import sync_folder

__all__ = ["MANIFEST", "Manifest", "backup", "copy_tables", "read_manifest", "tables_of_backup"]

MANIFEST = "backup.json"
TABLES = "tables.db"
STORE = "store.db"
LOGS = ("landing", "quarantine")
AUDIT = "audit"
LAKE = "lake"
SETTINGS = "cloud.toml"  # in the keys' folder, to be looked into
MODEL = "model-"  # begins the names there of what describes vehicles
BLOCK = 1 << 20
ROWS = 1000
PASSING = (REPLAYS,)  # requests that wait for an answer: whoever asked is gone


class File(msgspec.Struct, frozen=True):
    """A file of a backup, by its path in the folder."""

    path: str
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """backup.json. `version`: of the tables; `rows`: by table; `keys`: what each file of the keys' folder is, by its name there."""

    made_ms: int
    replica: str
    version: str
    rows: dict[str, int]
    files: list[File]
    kind: Literal["cansight cloud backup"] = "cansight cloud backup"
    v: Literal[1] = 1


def backup(config: CloudConfig, folder: Path, keys: Path | None, now_ms: int, lake: bool = True, settings: Path | None = None) -> Manifest:
    """Write a backup into `folder`, which is made, and where asked the files that the settings name into `keys`, with the settings' own.

    lake=False: the lake is left out, which may be large and is files that whatever copies files can copy.

    Raises BackupError; what is there of the folder then has no backup.json.
    """
    state = Path(config.state)
    try:
        for made in (folder, *([keys] if keys is not None else [])):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(made.iterdir()):
                raise BackupError(f"{made}: expected an empty folder or none; a backup gets one of its own")
        files = _copy_files(state / AUDIT, folder / AUDIT, folder, "**/*")
        with _opened(config.database_url) as engine:
            rows = _copy_out(engine, folder / TABLES)
            for name in LOGS:
                files += _copy_files(state / name, folder / name, folder, "*.seg")
            if config.store.kind == "embedded" and (state / STORE).exists():
                _copy_sqlite(state / STORE, folder / STORE)
                files.append(_described(folder / STORE, folder))
            if lake:
                files += _copy_lake(config.lake_folder, folder / LAKE, folder)
            _add_new(engine, folder / TABLES)
        files.append(_described(folder / TABLES, folder))
        if keys is not None:
            _copy_keys(named_files(config) | ({SETTINGS: settings} if settings is not None else {}), keys)
        manifest = Manifest(now_ms, config.broker.replica, NEWEST, rows, files)
        _write(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    except OSError as error:
        raise BackupError(f"{error.filename or folder}: the backup cannot be written: {error.strerror}") from error
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise BackupError(f"{folder}: the tables cannot be copied: {one_line(error)}") from error
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """What a backup is of, every file looked at. Raises BackupError where one is missing or another than it was."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
        for file in manifest.files:
            if (now := _described(folder / file.path, folder)) != file:
                was = f"{file.bytes} bytes, SHA-256 {file.sha256[:12]}…"
                raise BackupError(f"{folder / file.path}: expected {was}, found {now.bytes} bytes, {now.sha256[:12]}…")
    except FileNotFoundError as error:
        raise BackupError(f"{error.filename}: is not there; expected a folder that `cansight cloud backup` has finished") from error
    except OSError as error:
        raise BackupError(f"{error.filename}: cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise BackupError(f"{folder / MANIFEST}: expected what `cansight cloud backup` writes: {error}") from None
    return manifest


@contextmanager
def tables_of_backup(path: Path) -> Iterator[Connection]:
    """A backup's tables, to read; of today's version, since an older copy is brought up before."""
    engine = make_engine(parsed(f"sqlite:///{path.absolute()}"))
    try:
        with engine.connect() as db:
            yield db
    finally:
        engine.dispose()


def copy_tables(source: Connection, target: Connection) -> dict[str, int]:
    """Every row of every table into empty tables; how many, by table."""
    counted = {}
    for table in _tables():
        rows = source.execution_options(yield_per=ROWS).execute(select(table).order_by(*table.primary_key)).mappings()
        counted[table.name] = 0
        for part in rows.partitions():
            target.execute(table.insert(), [dict(row) for row in part])
            counted[table.name] += len(part)
        if target.dialect.name == "postgresql" and "id" in table.columns:
            _set_next(target, table)
    return counted


def named_files(config: CloudConfig, keys: Path | None = None) -> dict[str, Path]:
    """The files that the settings name and that are not to be made again, by the name that they have in the keys' folder.

    keys: that folder, where a ticket policy is looked for that is not in its place. Raises PolicyError where it cannot be read.
    """
    influx = config.store.influx
    named: dict[str, str] = {
        "fleet-ca.pem": config.fleet_ca,
        "fleet-ca.crl": str(config.revocation_file or ""),
        "broker-ca.pem": config.broker.ca,
        "broker-certificate.pem": config.broker.certificate,
        "broker.key": config.broker.key,
        "api-certificate.pem": config.api.certificate,
        "api.key": config.api.key,
        "tickets.toml": config.tickets,
        "database-password": config.database.password_file,
        "influx-token": influx.token_file,
        "influx-password": influx.password_file,
    }
    named |= {f"recipient-{number}.key": path for number, path in enumerate(config.recipient_keys)}
    policy = Path(config.tickets)
    copy = policy if policy.is_file() or keys is None else keys / "tickets.toml"
    if config.tickets and copy.is_file():
        named |= {f"webhook-{hook.name}.secret": hook.secret_file for hook in read_policy(copy, policy.parent).webhook}
    for model in config.vehicle_model:
        dbcs = [Path(file) for entry in model.dbc if Path(file := parse_file_argument(entry).path).is_absolute()]
        for number, path in enumerate([*dbcs, Path(model.catalogue)] if model.catalogue else dbcs):
            named[f"{MODEL}{model.name}-{number}-{path.name}"] = str(path)
    return {name: Path(path) for name, path in named.items() if path}


def copy_file(source: Path, target: Path) -> None:
    """Durably, with what the file held when it was opened; it may grow meanwhile. Nobody but its owner can read the copy."""
    with source.open("rb") as reading:
        left = os.fstat(reading.fileno()).st_size
        make_private(target)
        with target.open("wb") as writing:
            while left > 0 and (data := reading.read(min(BLOCK, left))):
                writing.write(data)
                left -= len(data)
            writing.flush()
            os.fsync(writing.fileno())


@contextmanager
def _opened(url: str) -> Iterator[Engine]:
    address = parsed(url)
    if address.get_backend_name() == "sqlite" and not Path(address.database or "").exists():
        raise BackupError(f"{address.database}: is not there; is `state` right, and has the cloud ever run?")
    engine = make_engine(address)
    try:
        require(engine, shown(address))
        yield engine
    finally:
        engine.dispose()


def _tables() -> list[Table]:
    return [table for one in every_metadata() for table in one.sorted_tables if table not in PASSING]


def _copy_out(engine: Engine, path: Path) -> dict[str, int]:
    make_private(path)
    level: Mapping[str, str] = {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == "postgresql" else {}
    with ExitStack() as stack:
        made = make_engine(parsed(f"sqlite:///{path.absolute()}"))
        stack.callback(made.dispose)
        require(made, str(path))
        source = stack.enter_context(engine.connect().execution_options(**level))
        target = stack.enter_context(made.connect().execution_options(writes=True))
        with source.begin(), target.begin():
            return copy_tables(source, target)


def _add_new(engine: Engine, path: Path) -> None:
    """Streams and clocks that have come since; they are never changed."""
    made = make_engine(parsed(f"sqlite:///{path.absolute()}"))
    try:
        with engine.connect() as source, made.connect().execution_options(writes=True) as target, target.begin():
            for table in (STREAMS, CLOCKS):
                for part in source.execution_options(yield_per=ROWS).execute(select(table)).mappings().partitions():
                    target.execute(insert(target, table).on_conflict_do_nothing(), [dict(row) for row in part])
    finally:
        made.dispose()


def _set_next(db: Connection, table: Table) -> None:
    """PostgreSQL's counters do not see numbers that are given to it."""
    newest = db.execute(select(func.max(table.c.id))).scalar()
    if newest is not None:
        db.execute(text("SELECT setval(pg_get_serial_sequence(:name, 'id'), :newest)"), {"name": table.name, "newest": newest})


def _copy_files(source: Path, target: Path, folder: Path, pattern: str) -> list[File]:
    """Oldest first, so that what a log gets meanwhile is at its end; what it frees meanwhile is in every sink."""
    target.mkdir(mode=0o700, exist_ok=True)
    found = []
    for path in sorted(source.glob(pattern)):
        if not path.is_file():
            continue
        copy = target / path.relative_to(source)
        copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            copy_file(path, copy)
        except FileNotFoundError:
            continue
        found.append(_described(copy, folder))
    sync_folder(target)
    return found


def _copy_lake(source: Path, target: Path, folder: Path) -> list[File]:
    """Its files are never changed, but compaction puts one in the place of others: then it is looked at again, until none has gone."""
    found: dict[Path, File] = {}
    gone = True
    while gone:
        gone = False
        for path in sorted(source.glob("**/*.parquet")):
            copy = target / path.relative_to(source)
            if copy in found:
                continue
            copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                copy_file(path, copy)
            except FileNotFoundError:
                gone = True
                continue
            found[copy] = _described(copy, folder)
    for path in source.glob("*.jsonl"):  # at last: what was deleted meanwhile stays so
        copy_file(path, target / path.name)
        found[target / path.name] = _described(target / path.name, folder)
    return list(found.values())


def _copy_sqlite(source: Path, target: Path) -> None:
    make_private(target)
    with closing(sqlite3.connect(source, timeout=30)) as reading, closing(sqlite3.connect(target)) as writing:
        reading.backup(writing)


def _copy_keys(named: Mapping[str, Path], keys: Path) -> None:
    for name, path in named.items():
        copy_file(path, keys / name)
    sync_folder(keys)


def _described(path: Path, folder: Path) -> File:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return File(path.relative_to(folder).as_posix(), file.tell(), digest.hexdigest())


def _write(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.new")
    make_private(beside)
    with beside.open("wb") as file:
        file.write(data + b"\n")
        file.flush()
        os.fsync(file.fileno())
    shutil.move(beside, path)
    sync_folder(path.parent)
