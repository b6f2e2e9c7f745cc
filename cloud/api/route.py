"""A route: one declaration from which its checks, its handler and its part of the OpenAPI document come.

A handler is a method whose annotations are the declaration: `who: Principal`; `path`, `query` and `body`, Structs that are checked before
it is called; `accept`, the header; and what it returns. A plain one blocks, so it runs in a thread, where its answer is encoded too; a
coroutine may also have `request: web.Request`.
"""

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Annotated, Any, get_type_hints

import msgspec
from aiohttp import web

from cloud.api.access import Access
from cloud.api.guard import BadRequest, Forbidden, NotFound, encoded
from cloud.api.parameters import Nothing, read_body, read_parameters
from cloud.roles import BEGINNING_MS, END_MS, Principal, Role

__all__ = ["MAX_LINE_BYTES", "Id", "Moment", "NumberPath", "Route", "TicketPath", "VehiclePath", "bound"]

MAX_BODY_BYTES = 256 << 10
MAX_LINE_BYTES = 64 << 10  # of a request: 32 signals with names of 256 characters, each of them %XX


@dataclass(frozen=True)
class Route:
    """`least` None: served to everybody. `owner`: an owner may ask too; the handler then keeps to the principal's vehicle and period.

    `cost`: points of the rate limit. `media`: what is answered, where it is not JSON. `asks_store`: it waits for the store, so it runs in
    threads of their own: a store that hangs keeps nobody from the tickets.
    """

    method: str
    path: str
    handler: Callable[..., Any]
    least: Role | None
    owner: bool = False
    cost: float = 1.0
    media: tuple[str, ...] = ("application/json",)
    asks_store: bool = False
    wants: dict[str, type] = field(init=False, repr=False)
    answers: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        hints = get_type_hints(self.handler, include_extras=True)
        object.__setattr__(self, "answers", hints.pop("return"))
        object.__setattr__(self, "wants", hints)
        named = re.findall(r"{(\w+)}", self.path)
        declared = [one.encode_name for one in msgspec.structs.fields(self.path_type)]
        assert named == declared, f"{self.path}: its handler declares {declared}"

    @property
    def path_type(self) -> type[msgspec.Struct]:
        return self.wants.get("path", Nothing)

    @property
    def query_type(self) -> type[msgspec.Struct]:
        return self.wants.get("query", Nothing)

    @property
    def body_type(self) -> type[msgspec.Struct] | None:
        return self.wants.get("body")

    @property
    def summary(self) -> str:
        return " ".join((inspect.getdoc(self.handler) or "").partition("\n\n")[0].split())


def bound(route: Route, access: Access, store_threads: Executor) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """aiohttp's handler of a route: who asks, whether they may, how often; then the parameters; then the answer."""

    async def handle(request: web.Request) -> web.StreamResponse:
        given: dict[str, Any] = {}
        if route.least is not None:
            who = await access.identify(request)
            if not who.may(route.least, route.owner):
                open_to = f"{route.least.value} and above" if route.least is not Role.OPERATOR else "operators"
                raise Forbidden(f"{route.method} {route.path} is open to {open_to}, not to the role {who.role.value} of token {who.name!r}")
            access.charge(who, route.cost)
            if "who" in route.wants:
                given["who"] = who
        else:
            who = None
        given |= await _parameters(route, request, who)
        if "accept" in route.wants:
            given["accept"] = request.headers.get("Accept", "")
        if inspect.iscoroutinefunction(route.handler):
            if "request" in route.wants:
                given["request"] = request
            made = await route.handler(**given)
            return made if isinstance(made, web.StreamResponse) else encoded(msgspec.json.encode(made))
        threads = store_threads if route.asks_store else None
        return await asyncio.get_running_loop().run_in_executor(threads, _answer, route.handler, given)

    return handle


def _answer(handler: Callable[..., Any], given: dict[str, Any]) -> web.StreamResponse:
    made = handler(**given)
    return made if isinstance(made, web.StreamResponse) else encoded(msgspec.json.encode(made))


async def _parameters(route: Route, request: web.Request, who: Principal | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "path" in route.wants:
        try:
            found["path"] = read_parameters(route.path_type, {name: [text] for name, text in request.match_info.items()})
        except BadRequest:
            raise NotFound(f"{request.path[:200]}: there is no such thing") from None
        vehicle = getattr(found["path"], "vehicle", None)
        # whichever handler this is: to an owner there is no other vehicle
        if vehicle is not None and who is not None and not who.sees(vehicle):
            raise NotFound(f"vehicle {vehicle[:40]!r}: there is no such vehicle")
    query = read_parameters(route.query_type, {name: request.query.getall(name) for name in request.query})
    if "query" in route.wants:
        found["query"] = query
    if route.body_type is not None:
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(reason="expected a body of Content-Type application/json")
        found["body"] = read_body(route.body_type, await request.read())
    return found


Id = Annotated[int, msgspec.Meta(ge=1, le=(1 << 53) - 1)]  # what JSON can say; the database's are 63 bits
Moment = Annotated[int, msgspec.Meta(ge=BEGINNING_MS, le=END_MS)]


class VehiclePath(msgspec.Struct, frozen=True):
    """Which vehicle."""

    vehicle: Annotated[str, msgspec.Meta(max_length=128)]


class TicketPath(msgspec.Struct, frozen=True):
    """Which ticket."""

    id: Id


class NumberPath(msgspec.Struct, frozen=True):
    """Which one."""

    id: Id
