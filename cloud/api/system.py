"""The platform's own health: counters, sinks, delays, store and tables, the quarantine; and who may ask."""

import asyncio
import time
from itertools import islice
from typing import Annotated, Any

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from cloud.api.backend import Backend
from cloud.api.guard import BadRequest
from cloud.api.models import probe
from cloud.api.route import Route
from cloud.errors import CloudError
from cloud.quarantine import Item
from cloud.roles import Role
from cloud.tokens import Token

__all__ = ["System"]

MOST_ITEMS = 500
MOST_REASONS = 20
BY_VEHICLE = frozenset({"online_ms", "gone_ms"})  # in /api/vehicles
MOST_POSITIONS = 1000
ANSWER_S = 20.0  # for the running cloud to replay; it goes on all the same
ASK_EVERY_S = 0.1


class Part(msgspec.Struct, frozen=True):
    """Whether a part answers, how long that took, and its own words where it does not."""

    ok: bool
    answer_ms: float
    error: str | None


class Held(msgspec.Struct, frozen=True):
    """Messages in the quarantine, and how many for which reason, of the commonest reasons."""

    held: int
    reasons: dict[str, int]


class SystemShown(msgspec.Struct, frozen=True):
    """`stats`: the aggregator's counters since its start, without what is of one vehicle; `delays`: from the bus to the store's query,
    in seconds; `sinks`: how far behind the landing log each is, and what it says of its store.
    """

    now_ms: int
    store: Part
    tickets: Part
    sinks: dict[str, Any]
    delays: dict[str, Any]
    quarantine: Held
    stats: dict[str, Any]


class ItemShown(msgspec.Struct, frozen=True):
    """A message that cannot be used today. `source`: where it came from; `bytes`: its length."""

    position: int
    received_ms: int
    vehicle: str
    stream: str | None
    sequence: int | None
    source: str
    bytes: int
    reason: str


class QuarantineQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of which vehicle, from which position on: the `next` of the page before."""

    vehicle: Annotated[str, msgspec.Meta(max_length=128)] | None = None
    first: Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_ITEMS)] = 100


class QuarantineShown(msgspec.Struct, frozen=True):
    """Oldest first. `reasons`: of everything that is held; `next`: the position to go on from, null: there are no more."""

    items: list[ItemShown]
    next: int | None
    held: int
    reasons: dict[str, int]


class Positions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be tried again; nothing named: everything."""

    positions: Annotated[list[Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)]], msgspec.Meta(max_length=MOST_POSITIONS)] = []


class Replayed(msgspec.Struct, frozen=True):
    """`done`: the cloud has answered; else it is still at it. `missing`: positions at which nothing is held."""

    done: bool
    released: int
    still: dict[str, int]
    missing: list[int]


class TokenList(msgspec.Struct, frozen=True):
    """In the order of their making, the revoked ones too."""

    tokens: list[Token]


class System:
    """Looking at it, and trying the quarantine again."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/api/system", self.system, Role.READ_ONLY, cost=2.0),
            Route("GET", "/api/quarantine", self.quarantine, Role.READ_ONLY, cost=5.0),
            Route("POST", "/api/quarantine/replay", self.replay, Role.OPERATOR, cost=10.0),
            Route("GET", "/api/tokens", self.tokens, Role.OPERATOR),
        ]

    def system(self) -> SystemShown:
        """How the platform does."""
        backend = self._backend
        stats = backend.stats()
        return SystemShown(
            now_ms=time.time_ns() // 1_000_000,
            store=_tried(lambda: probe(backend.store)),
            tickets=_tried(backend.tickets.open_counts),
            sinks=stats.get("sinks", {}),
            delays=stats.get("delays", {}),
            quarantine=Held(backend.quarantine.held, backend.quarantine.reasons(MOST_REASONS)),
            stats={name: value for name, value in stats.items() if name not in BY_VEHICLE},
        )

    def quarantine(self, query: QuarantineQuery) -> QuarantineShown:
        """What is kept with a reason because it cannot be used today."""
        quarantine = self._backend.quarantine
        mine = (one for one in map(_shown, quarantine.listed(query.first)) if query.vehicle in (None, one.vehicle))
        found = list(islice(mine, query.limit + 1))
        following = found[query.limit].position if len(found) > query.limit else None
        return QuarantineShown(found[: query.limit], following, quarantine.held, quarantine.reasons(MOST_REASONS))

    async def replay(self, body: Positions) -> Replayed:
        """Try it again: what opens today lands, and the sinks take it."""
        replays = self._backend.replays
        if replays is None:
            raise BadRequest("this cloud takes no replays")
        number = await asyncio.to_thread(replays.ask_replay, body.positions)
        deadline = time.monotonic() + ANSWER_S
        while (answer := await asyncio.to_thread(replays.take_replay, number)) is None:
            if time.monotonic() > deadline:
                return Replayed(False, 0, {}, [])
            await asyncio.sleep(ASK_EVERY_S)
        return Replayed(True, answer["released"], answer["still"], answer["missing"])

    def tokens(self) -> TokenList:
        """Every token, without its secret."""
        return TokenList(self._backend.tokens.all())


def _tried(look: Any) -> Part:
    began = time.perf_counter()
    try:
        look()
        error = None
    except CloudError as away:
        error = str(away)
    except SQLAlchemyError as away:
        error = str(getattr(away, "orig", away)).strip().partition("\n")[0]
    return Part(error is None, round((time.perf_counter() - began) * 1000, 3), error)


def _shown(item: Item) -> ItemShown:
    header = item.header
    return ItemShown(
        position=item.position,
        received_ms=item.received_ms,
        vehicle=item.data[1:9].hex(),  # as the clear header says; every version keeps it in the same place
        stream=header.stream.hex() if header is not None else None,
        sequence=header.sequence if header is not None else None,
        source=item.source.name.lower(),
        bytes=len(item.data),
        reason=item.reason,
    )
