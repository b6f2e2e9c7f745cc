"""The lake as DuckDB sees it: views in which every tick is there once.

ticks      one row a tick: time, day, vehicle, model, stream_CLASS, sequence_CLASS, and each signal
replays    the same of recorded logs
findings, gaps, statuses
columns    unit and words of each signal
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import duckdb
from pyarrow import parquet

from cloud.lake.errors import LakeError
from cloud.lake.folders import EVENTS, REPLAYS, TICKS, Deletion, Folders, day_ms
from cloud.lake.rows import KEYS

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Lake", "open_lake"]

TRIES = 5  # of a query whose files were compacted meanwhile
VIEWS = {
    "findings": """SELECT time, vehicle, model, received, replay, body->>'finding_id' AS finding, body->>'state' AS state,
        coalesce(body->>'level', 'ticket') AS level, body->>'fault_code' AS fault_code, body->>'pack_id' AS pack,
        (body->>'score')::DOUBLE AS score, (body->>'threshold')::DOUBLE AS threshold, (body->>'p_value')::DOUBLE AS p_value,
        body, stream, sequence FROM events WHERE kind = 'finding'""",
    "gaps": """SELECT vehicle, model, received, replay, body->>'stream' AS lost_stream, (body->>'first')::BIGINT AS first,
        (body->>'last')::BIGINT AS last, body->>'reason' AS reason, stream, sequence FROM events WHERE kind = 'gap'""",
    "statuses": """SELECT time, vehicle, model, received, body->>'state' AS state, body->'counters' AS counters, body->'facts' AS facts,
        stream, sequence FROM events WHERE kind = 'status'""",
}


def open_lake(root: str | Path | Sequence[str | Path], vehicle: str = "", since: str = "", until: str = "") -> "Lake":
    """The lake in that folder, or in those: of replicas, each of which has a part of every vehicle's ticks in a lake of its own.

    Of one vehicle alone, or of the days since..until ("2026-11-23", both included), it opens fewer files.
    """
    return Lake([Path(root)] if isinstance(root, str | Path) else [Path(one) for one in root], vehicle, since, until)


class Lake:
    """`with open_lake(folder) as lake: lake.query(SQL)`. Reads what is there when a query begins; may be used beside a running cloud."""

    def __init__(self, roots: Sequence[Path], vehicle: str = "", since: str = "", until: str = "") -> None:
        self._lakes = [Folders(root) for root in roots]
        self._vehicle = vehicle
        self._since = date.fromisoformat(since) if since else None
        self._until = date.fromisoformat(until) if until else None
        self._connection: duckdb.DuckDBPyConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def query(self, sql: str) -> "pa.Table":
        """What DuckDB answers, as an Arrow table: `.to_pandas()`, `polars.from_arrow(…)`. Raises LakeError."""
        for attempt in range(TRIES):
            connection = self._opened()
            try:
                return connection.sql(sql).to_arrow_table() if _is_select(sql) else connection.execute(sql).to_arrow_table()
            except duckdb.IOException as error:
                if attempt + 1 == TRIES:
                    raise LakeError(f"{', '.join(str(one.root) for one in self._lakes)}: {_line(error)}") from error
            except duckdb.Error as error:
                raise LakeError(f"query: {_line(error)}") from error
            finally:
                connection.close()
        raise AssertionError("not reached")

    def relation(self, sql: str) -> duckdb.DuckDBPyRelation:
        """The same, not read yet: `.df()`, `.pl()`, `.write_parquet(…)`. It is of this lake's connection. Raises LakeError."""
        if self._connection is None:
            self._connection = self._opened()
        try:
            return self._connection.sql(sql)
        except duckdb.Error as error:
            raise LakeError(f"query: {_line(error)}") from error

    def _opened(self) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
        connection.execute("SET TimeZone = 'UTC'")
        for kind in (TICKS, REPLAYS):
            connection.execute(f"CREATE VIEW {kind} AS {self._ticks(kind)}")
        events = self._events()
        connection.execute(f"CREATE VIEW events AS {events}")
        for view, words in VIEWS.items():
            connection.execute(f"CREATE VIEW {view} AS {words}")
        described = self._described()
        names = "model, signal, unit, en, zh, subsystem, purpose, privacy"
        empty = "SELECT " + ", ".join(f"NULL::VARCHAR AS {name}" for name in names.split(", ")) + " WHERE false"
        words = f"SELECT DISTINCT {names} FROM read_parquet({_list(described)})" if described else empty
        connection.execute(f"CREATE VIEW columns AS {words}")
        return connection

    def _ticks(self, kind: str) -> str:
        """SQL: a file that is alone for its day and vehicle is read as it is, what overlaps is laid over one another."""
        # before the others: what is sorted in meanwhile is seen twice, not missed
        fresh = [file for lake in self._lakes for file in lake.fresh_files(kind)]
        deletions = self._deletions()
        parts: dict[tuple[str, str], list[Path]] = defaultdict(list)
        for lake in self._lakes:
            for key, files in lake.parts(kind, self._since, self._until, self._vehicle).items():
                parts[key] += files
        touched = {key for file in fresh for key in _keys(file)}
        alone: list[Path] = []
        over: list[Path] = []
        for (day, vehicle), files in parts.items():
            plain = len(files) == 1 and (day, vehicle) not in touched and not _hit(day, vehicle, deletions)
            (alone if plain else over).extend(files)
        # fresh files hold all vehicles and days: those that are wanted here
        wanted = [file for file in fresh if any(self._wants(day, vehicle) for day, vehicle in _keys(file))]
        hive = "union_by_name=true, hive_partitioning=true, hive_types={'day': DATE, 'vehicle': VARCHAR}"
        choices = []
        if alone:
            choices.append(f"SELECT * FROM read_parquet({_list(alone)}, {hive})")
        rows = []
        if over:
            rows.append(f"SELECT * EXCLUDE (day) FROM read_parquet({_list(over)}, {hive})")
        if wanted:
            rows.append(f"SELECT * FROM read_parquet({_list(wanted)}, union_by_name=true){self._where()}")
        if rows:
            choices.append(
                "SELECT time, (time AT TIME ZONE 'UTC')::DATE AS day, vehicle, any_value(COLUMNS(* EXCLUDE (time, vehicle))) AS \"\\0\""
                f" FROM ({' UNION ALL BY NAME '.join(rows)}){_not(deletions)} GROUP BY time, vehicle"
            )
        return " UNION ALL BY NAME ".join(choices) if choices else self._nothing()

    def _described(self) -> list[Path]:
        return [file for lake in self._lakes for file in sorted(lake.columns.glob("*.parquet"))]

    def _deletions(self) -> list[Deletion]:
        return [one for lake in self._lakes for one in lake.deletions]

    def _nothing(self) -> str:
        """No rows, of the columns that there would be."""
        files = self._described()
        known = dict.fromkeys(name for file in files for name in parquet.read_table(file, columns=["signal"]).column("signal").to_pylist())
        signals = "".join(f", NULL::DOUBLE AS {_name(name)}" for name in known)
        times = "NULL::TIMESTAMPTZ AS time, NULL::DATE AS day, NULL::VARCHAR AS vehicle, NULL::VARCHAR AS model"
        return f"SELECT {times}{signals} WHERE false"

    def _wants(self, day: str, vehicle: str) -> bool:
        inside = (self._since is None or day >= self._since.isoformat()) and (self._until is None or day <= self._until.isoformat())
        return inside and self._vehicle in ("", vehicle)

    def _where(self) -> str:
        conditions = []
        if self._vehicle:
            conditions.append(f"vehicle = {_text(self._vehicle)}")
        if self._since is not None:
            conditions.append(f"time >= TIMESTAMPTZ '{self._since.isoformat()} 00:00:00+00'")
        if self._until is not None:
            conditions.append(f"time < TIMESTAMPTZ '{(self._until + timedelta(days=1)).isoformat()} 00:00:00+00'")
        return f" WHERE {' AND '.join(conditions)}" if conditions else ""

    def _events(self) -> str:
        files = [file for lake in self._lakes for file in lake.fresh_files(EVENTS)]
        for lake in self._lakes:
            files += [file for found in lake.parts(EVENTS, self._since, self._until).values() for file in found]
        if not files:
            names = ("vehicle", "model", "kind", "stream", "body")
            empty = ", ".join(f"NULL::VARCHAR AS {name}" for name in names)
            times = "NULL::TIMESTAMPTZ AS time, NULL::TIMESTAMPTZ AS received, NULL::BOOLEAN AS replay, NULL::BIGINT AS sequence"
            return f"SELECT {times}, {empty} WHERE false"
        return (
            f"SELECT * FROM (FROM read_parquet({_list(files)}, hive_partitioning=false){self._where()}){_not(self._deletions())}"
            " QUALIFY row_number() OVER (PARTITION BY stream, sequence) = 1"
        )


def _keys(file: Path) -> list[tuple[str, str]]:
    """[day, vehicle] of a fresh file's rows. Raises LakeError."""
    try:
        told = parquet.read_metadata(file).metadata or {}
    except FileNotFoundError:
        return []  # sorted in meanwhile: the files by day are listed after this
    except OSError as error:
        raise LakeError(f"{file}: cannot be read: {error}") from error
    return [(day, vehicle) for day, vehicle in json.loads(told.get(KEYS.encode(), b"[]"))]


def _hit(day: str, vehicle: str, deletions: Sequence[Deletion]) -> bool:
    start = day_ms(day)
    return any(one.vehicle == vehicle and one.from_ms < start + 86_400_000 and one.to_ms > start for one in deletions)


def _not(deletions: Sequence[Deletion]) -> str:
    if not deletions:
        return ""
    told = (f"(vehicle = {_text(one.vehicle)} AND epoch_ms(time) >= {one.from_ms} AND epoch_ms(time) < {one.to_ms})" for one in deletions)
    return f" WHERE NOT ({' OR '.join(told)})"


def _list(files: Sequence[Path]) -> str:
    return "[" + ", ".join(_text(str(file)) for file in files) + "]"


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _line(error: Exception) -> str:
    return " ".join(str(error).split("\n\nLINE")[0].split())


def _is_select(sql: str) -> bool:
    return sql.lstrip().lower().startswith(("select", "from", "with", "describe", "summarize", "show", "pivot"))
