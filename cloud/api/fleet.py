"""Vehicles: which there are, and what each of them says now."""

import dataclasses
import time
from collections import Counter
from typing import Annotated, Any, Literal

import msgspec

from cloud.api.backend import Backend
from cloud.api.cursors import MAX_LIMIT, cursor_at, position_of
from cloud.api.guard import NotFound
from cloud.api.models import VehicleModels, last_values, newest_within, unknown
from cloud.api.owners import owners_tickets
from cloud.api.route import Route, VehiclePath
from cloud.api.words import Language, choice_of, signal_words
from cloud.lake.folders import DAY_MS
from cloud.roles import Principal, Role
from cloud.store import SIGNAL_AGE_MS, SignalValue, VehicleSummary
from cloud.tickets.policy import Handling, Tier

__all__ = ["Fleet", "state_of"]

COUNT_FOR_S = 30.0  # how long a vehicle's number of signals is kept: it changes only with its DBC or its campaign
SILENT_MS = 120_000  # heard of longer ago than this, a vehicle counts as silent; an agent says something at least once a minute


class VehiclesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`q`: part of a vehicle's id or model. `cursor`: the `next` of the answer before.

    `order`: by id, or those first that want attention: the silent ones, who fell silent last before the others, then those with open
    tickets.
    """

    q: Annotated[str, msgspec.Meta(max_length=100)] = ""
    state: Literal["online", "silent"] | None = None
    order: Literal["vehicle", "attention"] = "vehicle"
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_LIMIT)] = MAX_LIMIT
    cursor: Annotated[str, msgspec.Meta(max_length=500)] | None = None


class VehicleRow(msgspec.Struct, frozen=True):
    """A vehicle that has values; times are UTC ms.

    `last_tick_ms`: its newest (an owner's: of the period). `online_ms`: when it was last heard; `gone_ms`: when its connection broke since.
    `tiers`: its open tickets by tier, those that there are. `completeness`: today's (UTC), 0..1; null: nothing is known of today.
    """

    vehicle: str
    model: str
    last_tick_ms: int | None
    open_tickets: int
    online_ms: int | None
    gone_ms: int | None
    state: Literal["online", "silent"]
    tiers: dict[str, int]
    completeness: float | None


class VehicleShown(VehicleRow, frozen=True):
    """A vehicle with what its agent last said of itself; `status` is null where it has not, and for an owner.

    `signals`: those with a value now.
    """

    signals: int = 0
    status: dict[str, Any] | None = None


class VehicleList(msgspec.Struct, frozen=True):
    """A page of vehicles. `next`: the cursor of the next one. `found`: how many the question finds. `counts`: the whole fleet by state."""

    vehicles: list[VehicleRow]
    next: str | None
    found: int
    counts: dict[str, int]


class SignalRow(msgspec.Struct, frozen=True):
    """A signal's newest valid value."""

    signal: str
    unit: str
    value: float | None
    tick_ms: int
    words: str
    choice: str | None


class Newest(msgspec.Struct, frozen=True):
    """The newest tick that a query of the store returns (UTC ms)."""

    tick_ms: int


def state_of(online_ms: int | None, gone_ms: int | None) -> Literal["online", "silent"]:
    """Whether a vehicle that was last heard then, and whose connection broke then, is there."""
    if online_ms is None or gone_ms is not None:
        return "silent"
    return "online" if time.time_ns() // 1_000_000 - online_ms < SILENT_MS else "silent"


def _by_name(row: VehicleRow) -> tuple[int, int, str]:
    return 0, 0, row.vehicle


def _wanting(row: VehicleRow) -> tuple[int, int, str]:
    """What has just stopped can still be helped."""
    if row.state == "silent":
        return 0, -(row.gone_ms or row.online_ms or row.last_tick_ms or 0), row.vehicle
    return 1, -row.open_tickets, row.vehicle


class Fleet:
    """Lists and newest values."""

    def __init__(self, backend: Backend, models: VehicleModels) -> None:
        self._backend = backend
        self._models = models
        self._counts: dict[str, tuple[float, int]] = {}  # vehicle -> (monotonic s until which it is good, signals)

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/api/vehicles", self.vehicles, Role.READ_ONLY, owner=True, asks_store=True),
            Route("GET", "/api/vehicles/{vehicle}", self.vehicle, Role.READ_ONLY, owner=True, asks_store=True),
            Route("GET", "/api/vehicles/{vehicle}/signals", self.signals, Role.READ_ONLY, owner=True, asks_store=True),
            Route("GET", "/api/vehicles/{vehicle}/newest", self.newest, Role.READ_ONLY, owner=True, cost=0.1, asks_store=True),
            Route("GET", "/api/vehicles/{vehicle}/status", self.status, Role.READ_ONLY),
        ]

    def vehicles(self, who: Principal, query: VehiclesQuery) -> VehicleList:
        """Every vehicle that has values."""
        place = _wanting if query.order == "attention" else _by_name
        after = position_of(query.cursor, tuple[int, int, str]) if query.cursor is not None else None
        rows = self._rows(who, [one for one in self._models.summaries() if who.sees(one.vehicle)])
        counts = {"online": 0, "silent": 0}
        for row in rows:
            counts[row.state] += 1
        part = query.q.casefold()
        rows = [row for row in rows if query.state in (None, row.state) and part in f"{row.vehicle} {row.model}".casefold()]
        left = sorted((row for row in rows if after is None or place(row) > after), key=place)
        page = self._with_quality(who, left[: query.limit])
        return VehicleList(page, cursor_at(place(page[-1])) if len(left) > len(page) else None, len(rows), counts)

    def vehicle(self, who: Principal, path: VehiclePath) -> VehicleShown:
        """One vehicle."""
        newest = self._backend.store.newest(path.vehicle)
        if newest is None:
            self._models.summaries()  # deleted meanwhile, or known by ticks without a valid value
        one = self._models.summary(path.vehicle)
        if newest is not None:
            one = dataclasses.replace(one, last_tick_ms=newest)
        [row] = self._with_quality(who, self._rows(who, [one]))
        said = None if who.is_owner else self._backend.heard(path.vehicle)
        status = dict(said) if said is not None else None
        return VehicleShown(**msgspec.structs.asdict(row), signals=self._count(path.vehicle), status=status)

    def _rows(self, who: Principal, summaries: list[VehicleSummary]) -> list[VehicleRow]:
        stats = self._backend.stats()
        heard, gone = stats.get("online_ms", {}), stats.get("gone_ms", {})
        alone = summaries[0].vehicle if len(summaries) == 1 else None  # its page asks once a second
        tickets = {} if who.is_owner else self._backend.tickets.queue.open_tiers(alone)
        rows = []
        for one in summaries:
            last_tick_ms: int | None = one.last_tick_ms
            online_ms, gone_ms, tiers = heard.get(one.vehicle), gone.get(one.vehicle), tickets.get(one.vehicle, {})
            if who.is_owner:  # what lies outside the period is not there
                last_tick_ms = newest_within(self._backend.store, self._models, one, *who.period)
                online_ms = online_ms if online_ms is not None and who.covers(online_ms) else None
                gone_ms = gone_ms if gone_ms is not None and who.covers(gone_ms) else None
                tiers = self._open_of(who)
            state = state_of(online_ms, gone_ms)
            by_tier = {tier.value: tiers[tier] for tier in Tier if tier in tiers}
            row = VehicleRow(one.vehicle, one.model, last_tick_ms, sum(tiers.values()), online_ms, gone_ms, state, by_tier, None)
            rows.append(row)
        return rows

    def _open_of(self, who: Principal) -> dict[Tier, int]:
        return Counter(one.tier for one in owners_tickets(self._backend.tickets, who) if one.handling is not Handling.CLOSED)

    def _with_quality(self, who: Principal, rows: list[VehicleRow]) -> list[VehicleRow]:
        """With today's completeness; an owner's only where the whole of today is theirs."""
        now_ms = time.time_ns() // 1_000_000
        today = now_ms // DAY_MS
        if self._backend.quality is None or not who.covers(today * DAY_MS) or not who.covers(now_ms):
            return rows
        shares = self._backend.quality.completeness([row.vehicle for row in rows], today)
        return [msgspec.structs.replace(row, completeness=shares.get(row.vehicle)) for row in rows]

    def _count(self, vehicle: str) -> int:
        now = time.monotonic()
        good_until, count = self._counts.get(vehicle, (now, 0))
        if now >= good_until:
            count = len(self._backend.store.signals(vehicle))
            self._counts[vehicle] = (now + COUNT_FOR_S, count)
        return count

    def signals(self, who: Principal, path: VehiclePath, query: Language) -> list[SignalRow]:
        """The newest valid value of each signal."""
        schema, catalogue = self._models.of(path.vehicle)
        values = self._values(who, path.vehicle)
        numbers = {name: number for number, name in enumerate(schema.names)} if schema is not None else {}
        rows = []
        for one in values:
            number = numbers.get(one.signal)
            unit = schema.units[number] if schema is not None and number is not None else ""
            words = signal_words(catalogue, one.signal, query.lang)
            rows.append(SignalRow(one.signal, unit, one.value, one.tick_ms, words, choice_of(schema, number, one.value)))
        return rows

    def _values(self, who: Principal, vehicle: str) -> list[SignalValue]:
        store = self._backend.store
        newest = store.newest(vehicle)
        if newest is None:
            raise unknown(vehicle)
        if who.covers(newest):
            return [one for one in store.signals(vehicle) if who.covers(one.tick_ms)]
        # the vehicle went on after the period's end (an owner's): its signals are what they were at the last tick in the period
        within = newest_within(store, self._models, self._models.summary(vehicle), *who.period)
        if within is None:
            raise unknown(vehicle)
        schema, _ = self._models.of(vehicle)
        names = [one.signal for one in store.signals(vehicle)] if schema is None else list(schema.names)
        return last_values(store.series(vehicle, names, max(who.period[0], within - SIGNAL_AGE_MS), within + 1, SIGNAL_AGE_MS))

    def newest(self, who: Principal, path: VehiclePath) -> Newest:
        """The newest tick that a query of the store returns."""
        if not who.is_owner:
            tick_ms = self._backend.store.newest(path.vehicle)
        else:
            tick_ms = newest_within(self._backend.store, self._models, self._models.summary(path.vehicle), *who.period)
        if tick_ms is None:
            raise unknown(path.vehicle)
        return Newest(tick_ms)

    def status(self, path: VehiclePath) -> dict[str, Any]:
        """What the vehicle's agent last said of itself."""
        said = self._backend.heard(path.vehicle)
        if said is None:
            raise NotFound(f"vehicle {path.vehicle[:40]!r}: it has not said how it does")
        return dict(said)
