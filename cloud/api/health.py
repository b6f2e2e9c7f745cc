"""Whether the cloud lives, for whoever asks; and its counters, for whoever may read."""

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from cloud.api.backend import Backend
from cloud.api.models import probe
from cloud.api.route import Route
from cloud.metrics import CONTENT_TYPE, exposition
from cloud.roles import Role

__all__ = ["Health"]


class Healthy(msgspec.Struct, frozen=True):
    """It does."""

    ok: bool


class Health:
    """Liveness, readiness, metrics."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/healthz", self.healthz, None),
            Route("GET", "/readyz", self.readyz, None),
            Route("GET", "/metrics", self.metrics, Role.READ_ONLY, media=("text/plain",)),
            Route("GET", "/api/stats", self.stats, Role.READ_ONLY),
        ]

    async def healthz(self) -> Healthy:
        """The process answers."""
        return Healthy(True)

    async def readyz(self) -> Healthy:
        """Queries are answered too; 503 with the reason where not."""
        await asyncio.to_thread(probe, self._backend.store)
        await asyncio.to_thread(self._backend.tickets.open_counts)
        return Healthy(True)

    def metrics(self) -> web.Response:
        """The counters in Prometheus' text format."""
        return web.Response(body=exposition(self._backend.stats()), headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})

    def stats(self) -> dict[str, Any]:
        """Counters of the aggregator since its start."""
        return self._backend.stats()
