"""What happens, as it happens: server-sent events (WHATWG HTML, 9.2) of tickets, vehicles and the system.

Every event's id is the number up to which every change of a ticket was told before it, so that a reader that was cut off misses none: it
comes with Last-Event-ID and gets what has changed since. On PostgreSQL a change may be committed after one of a higher number: for LATE_S
after that one was seen it is looked for, and ids stay below it. Vehicles and the system are told as they are.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice, pairwise
from typing import Annotated, Literal, NamedTuple

import msgspec
from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from cloud.api.access import Access
from cloud.api.backend import Backend
from cloud.api.fleet import state_of
from cloud.api.guard import BadRequest, TooOften
from cloud.api.route import Route
from cloud.errors import CloudError
from cloud.roles import Role
from cloud.tickets.views import Change

__all__ = ["Events"]

LOOK_S = 1.0
SYSTEM_EVERY = 5  # looks
HEARTBEAT_S = 15.0  # a comment that keeps proxies from closing; and the token is looked at again
KEPT = 20_000  # events, of a fleet that turns at once (its broker was away), for slow readers; who is slower is cut off, and comes again
LATE_S = 60.0  # a transaction here takes milliseconds, and waits for a lock at most ten seconds
MOST_LATE = 500  # numbers looked for; one that was given up by a rollback never comes
MOST_READERS = 200
BLOCK = 500
SYSTEM = ("landed", "findings", "held", "connected", "waiting", "vehicles")

log = logging.getLogger(__name__)


class EventsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`vehicle`: of this one an event comes whenever it was heard, not only when it falls silent or comes back.

    `last_event_id`: as the header Last-Event-ID, for who cannot send it.
    """

    vehicle: Annotated[str, msgspec.Meta(max_length=128)] | None = None
    last_event_id: Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)] | None = None


class VehicleHeard(msgspec.Struct, frozen=True):
    """Data of a `vehicle` event."""

    vehicle: str
    state: Literal["online", "silent"]
    online_ms: int | None
    gone_ms: int | None


class Message(NamedTuple):
    """An event for every reader, or (`vehicle`) for those that want this one in detail."""

    kind: str
    data: bytes
    vehicle: str | None = None


class Hub:
    """Looks once a second for all readers, as long as there are any. Used from the event loop alone."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._task: asyncio.Task[None] | None = None
        self._round: asyncio.Future[None] | None = None
        self._states: dict[str, VehicleHeard] = {}
        self._wanted: Counter[str] = Counter()  # vehicles that readers look at in detail
        self._late: dict[int, float] = {}  # numbers below the newest that were not there -> until when they may come, monotonic s
        self.messages: deque[tuple[int, int, Message]] = deque(maxlen=KEPT)  # (number, id, message)
        self.number = 0
        self.newest = 0
        self.readers = 0
        self.ending = False

    async def enter(self, vehicle: str | None = None) -> tuple[int, int]:
        """One more reader, of `vehicle` in detail: the number and the id of the event before its first. Raises TooOften when there are as
        many as there may be."""
        if self.readers >= MOST_READERS:
            raise TooOften(HEARTBEAT_S)
        if self._task is None:
            recent = await asyncio.to_thread(self._recent)
            if self._task is None:  # nobody was faster
                self._begin_after(recent)
        self.readers += 1
        if vehicle is not None:
            self._wanted[vehicle] += 1
        if self._task is None:
            self._task = asyncio.create_task(self._look(), name="events")
        return self.number, self.newest

    def _begin_after(self, recent: Sequence[Change]) -> None:
        self.newest = max(self.newest, recent[-1].id if recent else 0)
        since_ms = time.time_ns() / 1e6 - 1000 * LATE_S
        self._late = {}
        for before, after in pairwise(recent):
            if after.at_ms >= since_ms:
                self._miss(before.id, after.id)

    @property
    def told(self) -> int:
        """The number up to which there is no change that has not been seen."""
        return min(self._late) - 1 if self._late else self.newest

    def leave(self, vehicle: str | None = None) -> None:
        self.readers -= 1
        if vehicle is not None:
            self._wanted[vehicle] -= 1
            if not self._wanted[vehicle]:
                del self._wanted[vehicle]

    def heard(self, vehicle: str | None) -> VehicleHeard | None:
        """How a vehicle does now; None: it was not heard."""
        stats = self._backend.stats()
        online_ms, gone_ms = stats.get("online_ms", {}).get(vehicle), stats.get("gone_ms", {}).get(vehicle)
        return None if vehicle is None or online_ms is None else VehicleHeard(vehicle, state_of(online_ms, gone_ms), online_ms, gone_ms)

    async def next_round(self) -> None:
        """Until it has looked again."""
        if self._round is None:
            self._round = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._round)

    def system(self) -> Message:
        stats = self._backend.stats()
        told = {name: stats[name] for name in SYSTEM if name in stats}
        sinks = {name: {"behind": sink["behind"], "error": sink["error"]} for name, sink in stats.get("sinks", {}).items()}
        return Message("system", msgspec.json.encode(told | {"sinks": sinks, "delays": stats.get("delays", {}).get("recent", {})}))

    async def stop(self, _app: web.Application) -> None:
        """Let every reader go (aiohttp signal `on_shutdown`)."""
        self.ending = True
        self._turn()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _look(self) -> None:
        count = 0
        while self.readers:
            try:
                changes = await asyncio.to_thread(self._backend.tickets.queue.changes, self.newest, BLOCK, tuple(self._late))
                for change in changes:
                    if change.id > self.newest:
                        self._miss(self.newest, change.id)
                        self.newest = change.id
                    self._late.pop(change.id, None)
                    self._put(ticket_message(change))
                now_s = time.monotonic()
                self._late = {number: until_s for number, until_s in self._late.items() if now_s < until_s}
                for message in self._vehicles():
                    self._put(message)
                if count % SYSTEM_EVERY == 0:
                    self._put(self.system())
                count += 1
            except (CloudError, SQLAlchemyError) as error:  # readers wait: there is nothing to tell them, and nothing is lost
                log.warning("events: %s", error)
                changes = []
            self._turn()
            if len(changes) < BLOCK:
                await asyncio.sleep(LOOK_S)
        self._task = None

    def _recent(self) -> list[Change]:
        """The newest changes, the newest last."""
        changes = self._backend.tickets.queue.changes
        newest = changes(None)
        return changes(max(0, newest[-1].id - MOST_LATE), MOST_LATE) if newest else []

    def _miss(self, before: int, after: int) -> None:
        """Between two numbers there may be changes that are not committed yet."""
        until_s = time.monotonic() + LATE_S
        for number in range(max(before + 1, after - MOST_LATE), after):
            self._late[number] = until_s
        for number in sorted(self._late)[:-MOST_LATE]:
            del self._late[number]

    def _vehicles(self) -> list[Message]:
        """Those that were heard: for all where the state has turned, else for who wants that vehicle. What nobody wants is not made:
        3,000 vehicles are heard within two seconds, and it would cut off whoever reads."""
        stats = self._backend.stats()
        heard, gone = stats.get("online_ms", {}), stats.get("gone_ms", {})
        found = []
        for vehicle, online_ms in heard.items():
            now = VehicleHeard(vehicle, state_of(online_ms, gone.get(vehicle)), online_ms, gone.get(vehicle))
            before = self._states.get(vehicle)
            if now != before:
                turned = before is None or before.state != now.state
                if turned or vehicle in self._wanted:
                    found.append(Message("vehicle", msgspec.json.encode(now), None if turned else vehicle))
                self._states[vehicle] = now
        return found

    def _put(self, message: Message) -> None:
        self.number += 1
        self.messages.append((self.number, self.told, message))

    def _turn(self) -> None:
        turned, self._round = self._round, None
        if turned is not None and not turned.done():
            turned.set_result(None)


class Events:
    """The stream."""

    def __init__(self, backend: Backend, access: Access) -> None:
        self._backend = backend
        self._access = access
        self.hub = Hub(backend)

    def routes(self) -> list[Route]:
        return [Route("GET", "/api/events", self.events, Role.READ_ONLY, cost=10.0, media=("text/event-stream",))]

    async def events(self, query: EventsQuery, request: web.Request) -> web.StreamResponse:
        """Live events: `ticket` (what has changed), `vehicle` (heard, silent), `system` (counters, every five seconds)."""
        last = _last(request, query)
        hub = self.hub
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        number, upto = await hub.enter(query.vehicle)
        try:
            await response.prepare(request)
            if request.method != "HEAD":
                # whoever reads goes away when it likes
                with contextlib.suppress(ConnectionError):
                    await self._tell(response.write, request, query.vehicle, number, upto, upto if last is None else last)
        finally:
            hub.leave(query.vehicle)
        return response

    async def _tell(
        self, write: Callable[[bytes], Awaitable[None]], request: web.Request, vehicle: str | None, number: int, upto: int, position: int
    ) -> None:
        hub = self.hub
        await write(b"retry: 2000\n\n")
        while position < upto:
            changes = await asyncio.to_thread(self._backend.tickets.queue.changes, position, BLOCK)
            told = [one for one in changes if one.id <= upto]
            await write(b"".join(_event(min(one.id, hub.told), ticket_message(one)) for one in told))
            position = told[-1].id if told else upto
        begun = min(upto, hub.told)
        await write(_event(begun, hub.system()))
        if (heard := hub.heard(vehicle)) is not None:
            await write(_event(begun, Message("vehicle", msgspec.json.encode(heard))))
        while not hub.ending:
            if hub.messages and hub.messages[0][0] > number + 1:
                return  # too slow: it comes again
            new = list(islice(reversed(hub.messages), hub.number - number))[::-1]
            if new:
                number = new[-1][0]
                await write(b"".join(_event(one, message) for _, one, message in new if message.vehicle in (None, vehicle)))
            try:
                await asyncio.wait_for(hub.next_round(), HEARTBEAT_S)
            except TimeoutError:
                await write(b": \n\n")
            try:
                await self._access.identify(request)
            except CloudError:
                return  # the token was revoked, or the session has ended


def ticket_message(change: Change) -> Message:
    return Message("ticket", msgspec.json.encode(change))


def _event(number: int, message: Message) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, message.kind.encode(), message.data)


def _last(request: web.Request, query: EventsQuery) -> int | None:
    given = request.headers.get("Last-Event-ID")
    if not given:
        return query.last_event_id
    if not given.isascii() or not given.isdigit() or len(given) > 15:
        raise BadRequest(f"Last-Event-ID: expected a number, found {given[:60]!r}")
    return int(given)
