"""The application: every route of every noun, and the page's own files."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web

from cloud.api.access import Access
from cloud.api.backend import Backend
from cloud.api.desk import Desk
from cloud.api.events import Events
from cloud.api.findings import Findings
from cloud.api.fleet import Fleet
from cloud.api.guard import SECURE, guard, secure
from cloud.api.health import Health
from cloud.api.ledgers import Ledgers
from cloud.api.models import VehicleModels
from cloud.api.openapi import OpenApi
from cloud.api.quality import QualityRoutes
from cloud.api.queue import Queue
from cloud.api.rates import RATES, Rate
from cloud.api.route import MAX_BODY_BYTES, Route, bound
from cloud.api.series import SeriesRoutes
from cloud.api.session import Sessions
from cloud.api.silences import SilenceRoutes
from cloud.api.system import System
from cloud.assets import Assets
from cloud.roles import Role

__all__ = ["PAGE", "ROUTES", "all_routes", "make_app"]

STORE_THREADS = 8
ROUTES = web.AppKey("routes", list[Route])
PAGE = ("/", "/static/{name}")
"""The page's own files, which everybody gets."""


def make_app(backend: Backend, tls: bool = False, rates: Mapping[Role, Rate] = RATES) -> web.Application:
    """The application, to be run as `cloud.api.guard.api_tls_context` says: on a loopback address, or over TLS (`tls`)."""
    access = Access(backend.tokens, rates)
    assets = Assets()
    app = web.Application(middlewares=[guard], client_max_size=MAX_BODY_BYTES)
    app[SECURE] = tls
    app.on_response_prepare.append(secure)
    events = Events(backend, access)
    threads = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="api store")

    async def end_threads(_app: web.Application) -> None:
        threads.shutdown(wait=False, cancel_futures=True)

    app.on_cleanup.append(end_threads)
    app.on_shutdown.append(events.hub.stop)
    app.on_startup.append(assets.start)
    app.on_cleanup.append(assets.stop)
    app.add_routes([web.get(path, handler) for path, handler in zip(PAGE, (assets.index, assets.static), strict=True)])
    app[ROUTES] = all_routes(backend, access, events)
    for route in app[ROUTES]:
        app.router.add_route(route.method, route.path, bound(route, access, threads))
    return app


def all_routes(backend: Backend, access: Access, events: Events) -> list[Route]:
    """Everything that is served but the page's own files."""
    models = VehicleModels(backend)
    nouns = (
        Health(backend),
        Sessions(access),
        Fleet(backend, models),
        SeriesRoutes(backend, models),
        Findings(backend),
        QualityRoutes(backend),
        Queue(backend, models),
        Desk(backend),
        SilenceRoutes(backend),
        Ledgers(backend),
        System(backend),
        events,
    )
    routes = [route for noun in nouns for route in noun.routes()]
    described = OpenApi(lambda: [*routes, *own])
    own = described.routes()
    return [*routes, *own]
