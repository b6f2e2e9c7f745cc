"""Who asks: a token in the Authorization header, or the page's session cookie; and whether they ask too often.

A token that is found good is believed for REMEMBERED_S without another look into the database, so that is how long a revoked one lives on.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

from aiohttp import web

from cloud.api.guard import SECURE, Forbidden, TooOften, Unauthenticated
from cloud.api.rates import RATES, STRANGERS, Bucket, Rate, take
from cloud.roles import Principal, Role
from cloud.tokens import SESSION_MS, Tokens

__all__ = ["Access"]

REMEMBERED_S = 1.0
MOST_REMEMBERED = 10_000  # principals, and addresses of strangers


class Access:
    """Used from the event loop alone."""

    def __init__(self, tokens: Tokens, rates: Mapping[Role, Rate] = RATES, now_s: Callable[[], float] = time.monotonic) -> None:
        self._tokens = tokens
        self._rates = rates
        self._now_s = now_s
        self._known: dict[tuple[str, str], tuple[float, Principal]] = {}
        self._buckets: dict[int, Bucket] = {}
        self._strangers: dict[str, Bucket] = {}

    async def identify(self, request: web.Request) -> Principal:
        """Raises Unauthenticated, Forbidden for a change that another site may have made the browser ask for, and TooOften."""
        kind, _, secret = request.headers.get("Authorization", "").partition(" ")
        if kind:
            if kind.lower() != "bearer" or not secret:
                raise Unauthenticated("Authorization: expected `Bearer TOKEN`")
            return await self._known_as("token", secret.strip(), request)
        session = request.cookies.get(cookie_name(request), "")
        if not session:
            raise Unauthenticated("expected a token (`Authorization: Bearer TOKEN`, made by `cansight cloud token create`) or a session")
        if request.method not in ("GET", "HEAD"):
            require_same_origin(request)
        return await self._known_as("session", session, request)

    async def exchange(self, request: web.Request, token: str) -> tuple[Principal, str]:
        """Who holds the token, and a new session for it. Raises as `identify`."""
        who = await self._known_as("token", token, request)
        return who, await asyncio.to_thread(self._tokens.begin_session, who)

    async def end(self, request: web.Request) -> None:
        """End the session that the request's cookie names."""
        if session := request.cookies.get(cookie_name(request), ""):
            self._known.pop(("session", session), None)
            await asyncio.to_thread(self._tokens.end_session, session)

    def charge(self, who: Principal, cost: float) -> None:
        """Raises TooOften."""
        self._buckets[who.token], wait_s = take(self._buckets.get(who.token), self._rates[who.role], cost, self._now_s())
        if wait_s:
            raise TooOften(wait_s)

    async def _known_as(self, kind: str, secret: str, request: web.Request) -> Principal:
        now_s = self._now_s()
        good_until_s, who = self._known.get((kind, secret), (now_s, None))
        if who is not None and now_s < good_until_s:
            return who
        self._known.pop((kind, secret), None)
        found = await asyncio.to_thread(self._tokens.holder if kind == "token" else self._tokens.visitor, secret)
        if found is None:
            self._charge_stranger(request.remote or "")
            raise Unauthenticated(f"this {kind} is not known, or no longer good")
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        self._known[kind, secret] = (now_s + REMEMBERED_S, found)
        return found

    def _charge_stranger(self, address: str) -> None:
        if len(self._strangers) >= MOST_REMEMBERED:
            self._strangers.clear()
        self._strangers[address], wait_s = take(self._strangers.get(address), STRANGERS, 1.0, self._now_s())
        if wait_s:
            raise TooOften(wait_s)


def cookie_name(request: web.Request) -> str:
    """Cookies are shared by a host's ports, so each has a name of its own. Over TLS no other host can set it (RFC 6265bis, 4.1.3)."""
    return f"{'__Host-' if request.app[SECURE] else ''}cansight-{request.url.port}"


def set_cookie(request: web.Request, response: web.Response, session: str) -> None:
    """The session's cookie; "" takes it away."""
    response.set_cookie(
        cookie_name(request),
        session,
        max_age=SESSION_MS // 1000 if session else 0,
        path="/",
        httponly=True,
        samesite="Strict",
        secure=request.app[SECURE],
    )


def require_same_origin(request: web.Request) -> None:
    """A browser says where a request comes from (Fetch Metadata; Origin). Raises Forbidden where that is not this API's own page."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        good = site == "same-origin"
    else:
        good = request.headers.get("Origin") == f"{'https' if request.app[SECURE] else 'http'}://{request.headers.get('Host', '')}"
    if not good:
        raise Forbidden("a change by session must come from the API's own page; use a token in the Authorization header")
