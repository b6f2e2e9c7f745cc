"""The page's log-in: a token is exchanged for a session in a cookie that scripts cannot read."""

from typing import Annotated

import msgspec
from aiohttp import web

from cloud.api.access import Access, require_same_origin, set_cookie
from cloud.api.guard import answer
from cloud.api.route import Route
from cloud.roles import Principal, Role

__all__ = ["Sessions"]


class Me(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who asks. Vehicle and period are an owner's: [from_ms, to_ms), without to_ms until further notice."""

    name: str
    role: Role
    vehicle: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None


class LogIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token."""

    token: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Done(msgspec.Struct, frozen=True):
    """It is done."""

    ok: bool


class Sessions:
    """Log in, log out, who am I."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/api/me", self.me, Role.READ_ONLY, owner=True),
            Route("POST", "/api/session", self.begin, None),
            Route("DELETE", "/api/session", self.end, Role.READ_ONLY, owner=True),
        ]

    def me(self, who: Principal) -> Me:
        """Who the token belongs to, and what it may."""
        return _me(who)

    async def begin(self, request: web.Request, body: LogIn) -> Me:
        """Exchange a token for a session: a cookie (HttpOnly, SameSite=Strict, Secure over TLS) that stands for it for a week."""
        if "Sec-Fetch-Site" in request.headers or "Origin" in request.headers:
            require_same_origin(request)  # another site may not log its visitor in
        who, session = await self._access.exchange(request, body.token.strip())
        response = answer(_me(who))
        set_cookie(request, response, session)
        return response  # type: ignore[return-value]  # declared as what its body is

    async def end(self, request: web.Request) -> Done:
        """End the session, here and in the browser."""
        await self._access.end(request)
        response = answer(Done(True))
        set_cookie(request, response, "")
        return response  # type: ignore[return-value]


def _me(who: Principal) -> Me:
    return Me(who.name, who.role, who.vehicle, who.from_ms, who.to_ms)
