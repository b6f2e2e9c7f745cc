"""Values of chosen signals over time: for a chart (thinned out, as lines or as bands), or whole as CSV or Parquet."""

import io
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from cloud.api.backend import Backend
from cloud.api.guard import BadRequest, encoded
from cloud.api.models import VehicleModels, newest_within, unknown
from cloud.api.route import Moment, Route, VehiclePath
from cloud.roles import Principal, Role
from cloud.store import Series, bucket_ms

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SeriesRoutes"]

MAX_SIGNALS = 32  # in one request: what a chart can show, with room
MAX_POINTS = 10_000
DEFAULT_POINTS = 600
DEFAULT_SPAN_MS = 600_000
MAX_ROWS = 10 * 86_400  # of an export: ten days at one tick a second
CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"


class SeriesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[from_ms, to_ms): UTC ms; without them the ten minutes up to the newest tick. `points`: about how many to thin out to (JSON).

    `bands`: 1 for the least and the greatest value of each bucket instead of a line. `format`: else what `Accept` asks for.
    """

    signal: Annotated[list[Annotated[str, msgspec.Meta(max_length=256)]], msgspec.Meta(min_length=1, max_length=MAX_SIGNALS)]
    from_ms: Moment | None = None
    to_ms: Moment | None = None
    points: Annotated[int, msgspec.Meta(ge=2, le=MAX_POINTS)] = DEFAULT_POINTS
    bands: bool = False
    format: Literal["json", "csv", "parquet"] | None = None


class Line(msgspec.Struct, frozen=True):
    """Values on a common axis (UTC ms); null: no valid value. A tick at which no signal has one is not there."""

    tick_ms: list[int]
    series: dict[str, list[float | None]]
    units: dict[str, str]


class Bands(msgspec.Struct, frozen=True):
    """The least and the greatest value in each bucket of `bucket_ms` from `tick_ms` on; 0: every tick is there."""

    tick_ms: list[int]
    bucket_ms: int
    min: dict[str, list[float | None]]
    max: dict[str, list[float | None]]
    units: dict[str, str]


class SeriesRoutes:
    """Signals over time."""

    def __init__(self, backend: Backend, models: VehicleModels) -> None:
        self._store = backend.store
        self._models = models

    def routes(self) -> list[Route]:
        media = ("application/json", CSV, PARQUET)
        return [
            Route("GET", "/api/vehicles/{vehicle}/series", self.series, Role.READ_ONLY, owner=True, cost=2.0, media=media, asks_store=True)
        ]

    def series(self, who: Principal, path: VehiclePath, query: SeriesQuery, accept: str) -> Line | Bands:
        """Values of chosen signals over time."""
        kind = query.format or _accepted(accept)
        return self._answer(who, path.vehicle, query, kind)  # type: ignore[return-value]  # a response of that body

    def _answer(self, who: Principal, vehicle: str, query: SeriesQuery, kind: str) -> web.Response:
        signals = list(dict.fromkeys(query.signal))
        start, end = self._span(who, vehicle, query)
        schema, _ = self._models.of(vehicle)
        units = {signal: schema.units[schema.index(signal)] if schema is not None else "" for signal in signals}
        if kind != "json":
            if (end - start) // 1000 > MAX_ROWS:
                days = (end - start) / 86_400_000
                raise BadRequest(f"from_ms, to_ms: expected at most {MAX_ROWS // 86_400} days for {kind}, found {days:.1f}")
            found = self._store.series(vehicle, signals, start, end, MAX_ROWS) if start < end else Series(np.empty(0, np.int64))
            table = _table(found, signals, units)
            body = _parquet(table) if kind == "parquet" else _csv(table)
            headers = {
                "Cache-Control": "no-store",
                "Content-Disposition": f'attachment; filename="{_plain(vehicle)}-{start}-{end}.{kind}"',
            }
            return web.Response(body=body, content_type=PARQUET if kind == "parquet" else CSV, headers=headers)
        found = self._store.series(vehicle, signals, start, end, query.points) if start < end else Series(np.empty(0, np.int64))
        # a bucket is aligned to 1970: its beginning or its middle may lie outside an owner's period, which its values do not
        ticks = np.clip(found.tick_ms, start, end - 1) if who.is_owner else found.tick_ms
        values = {signal: found.values.get(signal, np.full(len(ticks), np.nan)) for signal in signals}
        if not query.bands:
            answer: Line | Bands = Line(ticks.tolist(), {signal: value.tolist() for signal, value in values.items()}, units)
        else:
            bucket = bucket_ms(start, end, query.points)
            low, high = (slice(0, None, 2), slice(1, None, 2)) if bucket else (slice(None), slice(None))
            least = {signal: value[low].tolist() for signal, value in values.items()}
            most = {signal: value[high].tolist() for signal, value in values.items()}
            answer = Bands(ticks[low].tolist(), bucket, least, most, units)
        return encoded(msgspec.json.encode(answer))

    def _span(self, who: Principal, vehicle: str, query: SeriesQuery) -> tuple[int, int]:
        """[start, end) of what is asked for and may be seen. Raises BadRequest, NotFound."""
        newest = self._store.newest(vehicle)
        if newest is not None and who.is_owner:
            newest = newest_within(self._store, self._models, self._models.summary(vehicle), *who.period)
        if newest is None:
            raise unknown(vehicle)
        end = newest + 1 if query.to_ms is None else query.to_ms
        start = end - DEFAULT_SPAN_MS if query.from_ms is None else query.from_ms
        if start >= end:
            raise BadRequest(f"from_ms: expected a time before to_ms ({end}), found {start}")
        return max(start, who.period[0]), min(end, who.period[1])


def _accepted(accept: str) -> Literal["json", "csv", "parquet"]:
    """What the header asks for; JSON unless it names one of the others and not JSON."""
    if "application/json" in accept:
        return "json"
    return "parquet" if PARQUET in accept else "csv" if CSV in accept else "json"


def _table(series: Series, signals: list[str], units: dict[str, str]) -> "pa.Table":
    """`time` (ms, UTC), and a float64 column for each signal with its unit as metadata; null: no valid value."""
    import pyarrow as pa

    def column(values: NDArray[np.float64]) -> "pa.Array":
        return pa.array(values, pa.float64(), mask=np.isnan(values))

    fields = [pa.field("time", pa.timestamp("ms", "UTC"), nullable=False)]
    fields += [pa.field(signal, pa.float64(), metadata={"unit": units[signal]}) for signal in signals]
    missing = np.full(len(series.tick_ms), np.nan)
    columns = [pa.array(series.tick_ms, pa.int64()).cast(fields[0].type)]
    columns += [column(series.values.get(signal, missing)) for signal in signals]
    return pa.table(columns, pa.schema(fields))


def _csv(table: "pa.Table") -> bytes:
    from pyarrow import csv

    target = io.BytesIO()
    csv.write_csv(table, target)
    return target.getvalue()


def _parquet(table: "pa.Table") -> bytes:
    from pyarrow import parquet

    target = io.BytesIO()
    parquet.write_table(table, target, compression="zstd")
    return target.getvalue()


def _plain(name: str) -> str:
    """A vehicle's id as part of a file's name."""
    return "".join(character if character.isascii() and character.isalnum() else "_" for character in name)
