"""Where the lake's files are, and how they are written so that a kill leaves whole files only.

fresh/KIND-NAME.parquet                      as the sink wrote it: all vehicles of a minute or two, each row once or again
ticks/day=2026-11-23/vehicle=V/NAME.parquet  live ticks, by day (UTC) and vehicle
replays/day=…/vehicle=…/NAME.parquet         ticks of recorded logs, by the recording's own days
events/day=2026-11-23/NAME.parquet           findings, gaps and status messages
columns/MODEL-SCHEMA.parquet                 the signals of a vehicle model: unit, words, purpose, class
deleted.jsonl                                what was asked to be deleted: nothing of it is read, and nothing comes back
"""

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cloud.lake.errors import LakeBusy
from wire.folder import sync_folder

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DAY_MS", "EVENTS", "KINDS", "REPLAYS", "TICKS", "Deletion", "Folders", "day_ms", "day_of"]

DAY_MS = 86_400_000
TICKS, REPLAYS, EVENTS = "ticks", "replays", "events"
KINDS = (TICKS, REPLAYS, EVENTS)


@dataclass(frozen=True)
class Deletion:
    """A vehicle's rows with from_ms <= time < to_ms are not there."""

    vehicle: str
    from_ms: int
    to_ms: int


class Folders:
    """The lake at `root`; makes no folder before something is written."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def fresh(self) -> Path:
        return self.root / "fresh"

    @property
    def columns(self) -> Path:
        return self.root / "columns"

    def fresh_files(self, kind: str) -> list[Path]:
        """Oldest first."""
        return sorted(self.fresh.glob(f"{kind}-*.parquet"))

    def parts(
        self, kind: str, since: date | None = None, until: date | None = None, vehicle: str = ""
    ) -> dict[tuple[str, str], list[Path]]:
        """(day, vehicle) -> files, by day and vehicle, of the days since <= day <= until; vehicle "" for the events, which are of all."""
        found: dict[tuple[str, str], list[Path]] = {}
        for day in self.days(kind):
            if (since is not None and day < since.isoformat()) or (until is not None and day > until.isoformat()):
                continue
            folder = self.root / kind / f"day={day}"
            if kind == EVENTS:
                found[day, ""] = sorted(folder.glob("*.parquet"))
                continue
            for one in sorted(folder.glob(f"vehicle={vehicle or '*'}")):
                if files := sorted(one.glob("*.parquet")):
                    found[day, one.name.removeprefix("vehicle=")] = files
        return found

    def days(self, kind: str) -> list[str]:
        return sorted(one.name.removeprefix("day=") for one in (self.root / kind).glob("day=*"))

    def place(self, kind: str, day: str, vehicle: str = "") -> Path:
        """The folder of a day's files."""
        folder = self.root / kind / f"day={day}"
        return folder if kind == EVENTS else folder / f"vehicle={vehicle}"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else compacts or deletes meanwhile. Raises LakeBusy where somebody does."""
        make_folder(self.root)
        with (self.root / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise LakeBusy(f"{self.root}: somebody compacts it or deletes from it; try again when that is done") from None
            yield

    @property
    def looked_ms(self) -> int:
        """When every day there is was looked at last (UTC); 0: never."""
        with contextlib.suppress(FileNotFoundError):
            return (self.root / "looked").stat().st_mtime_ns // 1_000_000
        return 0

    def note_look(self) -> None:
        (self.root / "looked").touch()

    @property
    def deletions(self) -> list[Deletion]:
        """Everything that was ever asked for."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.root / "deleted.jsonl").read_text(encoding="utf-8").splitlines()
            return [Deletion(**json.loads(line)) for line in lines if line.endswith("}")]  # a line that a kill cut was never promised
        return []

    def note_deletion(self, deletion: Deletion) -> None:
        """Durable when it returns: from then on its rows are not read."""
        make_folder(self.root)
        with (self.root / "deleted.jsonl").open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps(deletion.__dict__)}\n")
            file.flush()
            os.fsync(file.fileno())
        sync_folder(self.root)


def write(folder: Path, table: "pa.Table", name: str, level: int = 3, row_group: int = 131_072) -> Path:
    """Write a file of its own, whole and durable, or not at all. Raises OSError."""
    from pyarrow import parquet

    with writing(folder, name) as path:
        parquet.write_table(table, path, compression="zstd", compression_level=level, row_group_size=row_group)
    return folder / f"{name}.parquet"


@contextlib.contextmanager
def writing(folder: Path, name: str) -> Iterator[Path]:
    """Where to write to; at the block's end it is durable under its name, and a reader never sees half of it. Raises OSError."""
    make_folder(folder)
    part = folder / f"{name}.{secrets.token_hex(4)}.part"  # of replicas that share a lake each describes the same columns
    try:
        yield part
        part.chmod(0o600)
        descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.rename(folder / f"{name}.parquet")
        sync_folder(folder)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def new_name() -> str:
    """Names sort by the time of their making, and no two processes make the same."""
    return f"{time.time_ns():020d}-{secrets.token_hex(4)}"


def make_folder(folder: Path) -> None:
    """For its owner alone: it tells where and how somebody drove."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def day_of(ms: int) -> str:
    """The day, UTC."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).date().isoformat()


def day_ms(day: str) -> int:
    """The day's first millisecond, UTC."""
    return (date.fromisoformat(day) - date(1970, 1, 1)).days * DAY_MS
