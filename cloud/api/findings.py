"""A vehicle's findings over time: what its detectors said, with a ticket or without."""

from typing import Annotated

import msgspec

from cloud.api.backend import Backend
from cloud.api.route import Moment, Route, VehiclePath
from cloud.roles import BEGINNING_MS, END_MS, Role
from cloud.tickets.views import FindingView

__all__ = ["Findings"]

MOST = 1000


class FindingsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Raised in [from_ms, to_ms)."""

    from_ms: Moment = BEGINNING_MS
    to_ms: Moment = END_MS
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST)] = MOST


class FindingList(msgspec.Struct, frozen=True):
    """Oldest first, those below ticket level too; `next_from_ms`: where to go on, null: there are no more."""

    findings: list[FindingView]
    next_from_ms: int | None


class Findings:
    """By vehicle."""

    def __init__(self, backend: Backend) -> None:
        self._queue = backend.tickets.queue

    def routes(self) -> list[Route]:
        return [Route("GET", "/api/vehicles/{vehicle}/findings", self.findings, Role.READ_ONLY)]

    def findings(self, path: VehiclePath, query: FindingsQuery) -> FindingList:
        """A vehicle's findings; `held` says why one has no ticket."""
        found = self._queue.findings(path.vehicle, query.from_ms, query.to_ms, query.limit)
        last = found[-1].raised_ms if len(found) == query.limit else None
        return FindingList(found, last)
