"""The JSON API and the page, for this machine's operator.

    GET /api/vehicles                        GET /api/tickets[?vehicle=&handling=]
    GET /api/vehicles/{vehicle}/signals      GET /api/tickets/{id}
    GET /api/vehicles/{vehicle}/series       GET /api/stats
    GET /api/vehicles/{vehicle}/newest       GET /healthz /readyz /metrics
    GET /api/vehicles/{vehicle}/status       GET / /static/{name}

Every answer is JSON; every error is {"error": one line}. `lang=en|zh` chooses the language of words. Times are UTC milliseconds. A
parameter that is not known is refused, so that a misspelt one is not silently without effect. Store and tables block, so each call runs in
a thread.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from cloud.assets import Assets
from cloud.guard import BadRequest, answer, guard, require_loopback, secure
from cloud.metrics import CONTENT_TYPE, exposition
from cloud.store import Store
from cloud.tickets.policy import Handling
from cloud.tickets.service import Ticket, TicketService
from cloud.tickets.signature import resembles

if TYPE_CHECKING:
    from dbc.catalogue import Catalogue
    from dbc.schema import Schema

__all__ = ["make_app", "require_loopback"]

LANGUAGES = ("en", "zh")
MAX_SIGNALS = 32  # in one series request: what a chart can show, with room
MAX_POINTS = 10_000
DEFAULT_POINTS = 600
DEFAULT_SPAN_MS = 600_000
MAX_MS = 1 << 53  # exact in every JSON reader
COUNT_FOR_S = 30.0  # how long a vehicle's number of signals is kept: it changes only with its DBC or its campaign

Models = Mapping[str, "tuple[Schema, Catalogue | None]"]


def make_app(
    store: Store,
    tickets: TicketService,
    stats: Callable[[], dict[str, Any]],
    models: Models,
    heard: Callable[[], Mapping[str, Mapping[str, Any]]] = dict,
) -> web.Application:
    """The application, to be run on a loopback address (`require_loopback`).

    `store` and `tickets` are open and stay the caller's. `stats` is called from the event loop and must not block; its key "online_ms", if
    there is one, maps vehicles to the UTC ms at which they were last heard, "gone_ms" those whose connection broke since to when it did.
    `models` maps a vehicle model's name to schema and catalogue. `heard` gives each vehicle's newest status message; it may block.
    """
    api = _Api(store, tickets, stats, models, heard)
    assets = Assets()
    app = web.Application(middlewares=[guard])
    app.on_response_prepare.append(secure)
    app.on_startup.append(assets.start)
    app.on_cleanup.append(assets.stop)
    app.add_routes(
        [
            web.get("/", assets.index),
            web.get("/static/{name}", assets.static),
            web.get("/healthz", api.healthz),
            web.get("/readyz", api.readyz),
            web.get("/metrics", api.metrics),
            web.get("/api/vehicles", api.vehicles),
            web.get("/api/vehicles/{vehicle}/signals", api.signals),
            web.get("/api/vehicles/{vehicle}/series", api.series),
            web.get("/api/vehicles/{vehicle}/newest", api.newest),
            web.get("/api/vehicles/{vehicle}/status", api.status),
            web.get("/api/tickets", api.tickets),
            web.get("/api/tickets/{id}", api.ticket),
            web.get("/api/stats", api.stats),
        ]
    )
    return app


class _Api:
    def __init__(
        self,
        store: Store,
        tickets: TicketService,
        stats: Callable[[], dict[str, Any]],
        models: Models,
        heard: Callable[[], Mapping[str, Mapping[str, Any]]],
    ) -> None:
        self._store = store
        self._heard = heard
        self._tickets = tickets
        self._stats = stats
        self._models = models
        self._counts: dict[str, tuple[float, int]] = {}  # vehicle -> (monotonic s until which it is good, signals)
        self._model_of: dict[str, str] = {}  # vehicle -> model, as the store last said

    async def healthz(self, _request: web.Request) -> web.Response:
        """The process answers."""
        return answer({"ok": True})

    async def readyz(self, _request: web.Request) -> web.Response:
        """Queries are answered too; 503 with the reason where not."""
        await asyncio.to_thread(self._store.vehicles)
        await asyncio.to_thread(self._tickets.open_counts)
        return answer({"ok": True})

    async def metrics(self, _request: web.Request) -> web.Response:
        """The counters in Prometheus' text format."""
        return web.Response(body=exposition(self._stats()), headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})

    async def status(self, request: web.Request) -> web.Response:
        """What the vehicle's agent last said of itself."""
        vehicle = request.match_info["vehicle"]
        _known(request)
        said = (await asyncio.to_thread(self._heard)).get(vehicle)
        if said is None:
            return answer({"error": f"vehicle {vehicle[:40]!r}: it has not said how it does"}, 404)
        return answer(said)

    async def stats(self, _request: web.Request) -> web.Response:
        """Counters of the aggregator."""
        return answer(self._stats())

    async def vehicles(self, request: web.Request) -> web.Response:
        """Every vehicle that has values."""
        _known(request)
        stats = self._stats()
        heard, gone = stats.get("online_ms", {}), stats.get("gone_ms", {})

        def ask() -> list[dict[str, Any]]:
            tickets = self._tickets.open_counts()
            there = self._store.vehicles()
            self._model_of = {one.vehicle: one.model for one in there}
            return [
                {
                    "vehicle": one.vehicle,
                    "model": one.model,
                    "last_tick_ms": one.last_tick_ms,
                    "signals": self._count(one.vehicle),
                    "open_tickets": tickets.get(one.vehicle, 0),
                    "online_ms": heard.get(one.vehicle),
                    "gone_ms": gone.get(one.vehicle),
                }
                for one in there
            ]

        return answer(await asyncio.to_thread(ask))

    def _count(self, vehicle: str) -> int:
        now = time.monotonic()
        good_until, count = self._counts.get(vehicle, (now, 0))
        if now >= good_until:
            count = len(self._store.signals(vehicle))
            self._counts[vehicle] = (now + COUNT_FOR_S, count)
        return count

    async def signals(self, request: web.Request) -> web.Response:
        """The newest valid value of each signal."""
        vehicle = request.match_info["vehicle"]
        language = _language(request)
        _known(request, "lang")

        def ask() -> list[dict[str, Any]] | None:
            schema, catalogue = self._model(vehicle)
            values = self._store.signals(vehicle)
            if not values and self._store.newest(vehicle) is None:
                return None
            numbers = {name: number for number, name in enumerate(schema.names)} if schema is not None else {}
            rows = []
            for one in values:
                number = numbers.get(one.signal)
                rows.append(
                    {
                        "signal": one.signal,
                        "unit": schema.units[number] if schema is not None and number is not None else "",
                        "value": one.value,
                        "tick_ms": one.tick_ms,
                        "words": _signal_words(catalogue, one.signal, language),
                        "choice": _choice(schema, number, one.value),
                    }
                )
            return rows

        return _found(await asyncio.to_thread(ask), vehicle)

    async def newest(self, request: web.Request) -> web.Response:
        """The newest tick that a query of the store returns."""
        vehicle = request.match_info["vehicle"]
        _known(request)
        tick_ms = await asyncio.to_thread(self._store.newest, vehicle)
        return _found({"tick_ms": tick_ms} if tick_ms is not None else None, vehicle)

    async def series(self, request: web.Request) -> web.Response:
        """Values of chosen signals over time, thinned to about `points`. Without times: the ten minutes up to the newest tick."""
        vehicle = request.match_info["vehicle"]
        signals = list(dict.fromkeys(request.query.getall("signal", [])))
        if not 1 <= len(signals) <= MAX_SIGNALS:
            raise BadRequest(f"signal: expected 1 to {MAX_SIGNALS} of them, found {len(signals)}; ask as signal=A&signal=B")
        from_ms, to_ms = _whole(request, "from_ms", -MAX_MS, MAX_MS), _whole(request, "to_ms", -MAX_MS, MAX_MS)
        points = _whole(request, "points", 2, MAX_POINTS) or DEFAULT_POINTS
        _known(request, "signal", "from_ms", "to_ms", "points")

        def ask() -> dict[str, Any] | None:
            newest = self._store.newest(vehicle)
            if newest is None:
                return None
            end = newest + 1 if to_ms is None else to_ms
            start = end - DEFAULT_SPAN_MS if from_ms is None else from_ms
            if start >= end:
                raise BadRequest(f"from_ms: expected a time before to_ms ({end}), found {start}")
            schema, _ = self._model(vehicle)
            units = {signal: schema.units[schema.index(signal)] if schema is not None else "" for signal in signals}
            series = self._store.series(vehicle, signals, start, end, points)
            values = {signal: series.values[signal].tolist() if signal in series.values else [] for signal in signals}
            return {"tick_ms": series.tick_ms.tolist(), "series": values, "units": units}

        return _found(await asyncio.to_thread(ask), vehicle)

    def _model(self, vehicle: str) -> "tuple[Schema | None, Catalogue | None]":
        """The schema and catalogue of a vehicle; None, None when it is unknown or its model is no longer configured."""
        if vehicle not in self._model_of:
            self._model_of = {one.vehicle: one.model for one in self._store.vehicles()}
        return self._models.get(self._model_of.get(vehicle, ""), (None, None))

    async def tickets(self, request: web.Request) -> web.Response:
        """Tickets, newest first, without their evidence."""
        language = _language(request)
        handling = _single(request, "handling")
        if handling is not None and handling not in set(Handling):
            raise BadRequest(f"handling: expected one of {', '.join(Handling)}, found {handling[:60]!r}")
        vehicle = _single(request, "vehicle")
        _known(request, "vehicle", "handling", "lang")
        found = await asyncio.to_thread(self._tickets.tickets, vehicle, Handling(handling) if handling is not None else None)
        return answer([_ticket(one, language) for one in found])

    async def ticket(self, request: web.Request) -> web.Response:
        """One ticket with its evidence and history."""
        language = _language(request)
        _known(request, "lang")
        number = request.match_info["id"]
        # SQLite's ids are 63 bits
        ticket = await asyncio.to_thread(self._tickets.ticket, int(number)) if re.fullmatch(r"[0-9]{1,18}", number) else None
        if ticket is None or ticket.evidence is None or ticket.history is None:
            return answer({"error": f"ticket {number[:40]}: there is no such ticket"}, 404)
        _, catalogue = self._models.get(ticket.model, (None, None))
        body = _ticket(ticket, language)
        evidence = ticket.evidence
        body["evidence"] = {
            "finding_id": evidence.finding_id,
            "pack_id": evidence.pack_id,
            "since_ms": evidence.since_ms,
            "score": evidence.score,
            "threshold": evidence.threshold,
            "p_value": evidence.p_value,
            "contributions": [
                {
                    "signal": one.signal,
                    "words": _signal_words(catalogue, one.signal, language),
                    "unit": one.unit,
                    "expected": one.expected,
                    "seen": one.seen,
                    "share": one.share,
                    "margin": one.margin,
                }
                for one in evidence.contributions
            ],
            "resembles": [
                {"fault_code": fault.code, "words": fault.words.zh if language == "zh" else fault.words.en, "likeness": round(likeness, 3)}
                for fault, likeness in resembles(evidence.contributions, catalogue.faults if catalogue is not None else {})
            ],
            "window": evidence.window,
        }
        body["history"] = ticket.history
        return answer(body)


def _ticket(ticket: Ticket, language: str) -> dict[str, Any]:
    return {
        "id": ticket.id,
        "vehicle": ticket.vehicle,
        "model": ticket.model,
        "fault_code": ticket.fault_code,
        "fault_words": ticket.fault_words[language],
        "action": ticket.action[language],
        "tier": ticket.tier,
        "condition": ticket.condition,
        "handling": ticket.handling,
        "verdict": ticket.verdict,
        "opened_ms": ticket.opened_ms,
        "occurrences": ticket.occurrences,
    }


def _found(body: object, vehicle: str) -> web.Response:
    if body is None:
        return answer({"error": f"vehicle {vehicle[:40]!r}: the store has no values of it"}, 404)
    return answer(body)


def _single(request: web.Request, name: str) -> str | None:
    values = request.query.getall(name, [])
    if len(values) > 1:
        raise BadRequest(f"{name}: expected it once, found it {len(values)} times")
    return values[0] if values else None


def _whole(request: web.Request, name: str, least: int, most: int) -> int | None:
    given = _single(request, name)
    if given is None:
        return None
    # int() alone would take "1_000", " 7" and other scripts' digits
    if re.fullmatch(r"-?[0-9]{1,17}", given) is None or not least <= int(given) <= most:
        raise BadRequest(f"{name}: expected a whole number from {least} to {most}, found {given[:60]!r}")
    return int(given)


def _language(request: web.Request) -> str:
    language = _single(request, "lang") or LANGUAGES[0]
    if language not in LANGUAGES:
        raise BadRequest(f"lang: expected {' or '.join(LANGUAGES)}, found {language[:60]!r}")
    return language


def _known(request: web.Request, *names: str) -> None:
    for name in request.query:
        if name not in names:
            expected = f"expected only {', '.join(names)}" if names else "expected none"
            raise BadRequest(f"{name[:60]!r}: there is no such parameter here; {expected}")


def _signal_words(catalogue: "Catalogue | None", signal: str, language: str) -> str:
    """What a signal is, in words; empty where the catalogue does not say."""
    entry = catalogue.entry(signal) if catalogue is not None else None
    if entry is None:
        return ""
    return entry.words.zh if language == "zh" else entry.words.en


def _choice(schema: "Schema | None", number: int | None, value: float) -> str | None:
    """The DBC's word for an enumerated value; None where it has none."""
    choices = schema.choices[number] if schema is not None and number is not None else None
    if schema is None or number is None or not choices:
        return None
    scale = float(schema.scale[number])
    raw = (value - float(schema.offset[number])) / scale if scale else 0.0
    return choices.get(round(raw)) if abs(raw) < MAX_MS else None
