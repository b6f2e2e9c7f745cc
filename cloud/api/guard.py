"""What stands in front of every handler: where the API may listen, how errors look, which headers every answer carries.

On a loopback address the API speaks plain HTTP and refuses a Host header that names anything else: else a web page that the operator
happens to have open could rebind its own name to 127.0.0.1 and speak to the API from there. Anywhere else it speaks TLS only.
"""

import ipaddress
import logging
import math
import re
import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
from aiohttp import web

from cloud.errors import CloudError
from cloud.tables import TABLES_AWAY, one_line
from cloud.tickets.errors import NoSuchTicket, TicketError
from dbc.errors import DbcError
from wire.errors import SegmentLogError

__all__ = [
    "SECURE",
    "BadRequest",
    "Forbidden",
    "NotFound",
    "TooOften",
    "Unauthenticated",
    "answer",
    "api_tls_context",
    "guard",
    "secure",
]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# No origin but this one, no inline script, style or eval; Plotly is content with that (its own rules are in the page's style sheet).
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Server": "cansight",  # not which versions of what
}
A_YEAR_S = 365 * 24 * 3600
# Any port: it is whatever a tunnel chose, and a rebound name keeps the attacker's name, not this machine's.
LOOPBACK_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)
SECURE = web.AppKey("secure", bool)
"""Whether the application is served over TLS."""

log = logging.getLogger(__name__)


class BadRequest(CloudError):
    """A request's parameter is not as it must be."""


class Unauthenticated(CloudError):
    """The request has no token or session that is good."""


class Forbidden(CloudError):
    """The token's role does not let its holder do this."""


class NotFound(CloudError):
    """There is no such thing, or not for this token."""


class TooOften(CloudError):
    """The token's requests come faster than it may ask."""

    def __init__(self, wait_s: float) -> None:
        self.wait_s = max(1, math.ceil(wait_s))
        super().__init__(f"too many requests; try again in {self.wait_s} s")


class Listens(Protocol):
    """`cloud.config.ApiConfig`, as far as it is needed here."""

    @property
    def host(self) -> str: ...
    @property
    def certificate(self) -> str: ...
    @property
    def key(self) -> str: ...


def api_tls_context(config: Listens) -> ssl.SSLContext | None:
    """The API's TLS, None where it speaks plain HTTP on loopback.

    Raises CloudError where one of certificate and key is missing or cannot be used, and for another host than loopback without them.
    """
    if bool(config.certificate) != bool(config.key):
        lacking, there = ("key", "certificate") if config.certificate else ("certificate", "key")
        raise CloudError(f"api.{lacking}: is missing; api.{there} is given, and TLS needs both")
    if config.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(config.certificate, config.key, password=lambda: "")  # no prompt
        except (OSError, ssl.SSLError, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise CloudError(f"api.certificate {config.certificate} and api.key {config.key}: cannot be used: {reason}") from error
        return context
    try:
        loopback = config.host == "localhost" or ipaddress.ip_address(config.host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise CloudError(
            f"api.host: expected a loopback address (127.0.0.1, ::1 or localhost), found {config.host!r}; tokens must not travel "
            "in the clear, so name api.certificate and api.key, or reach it from elsewhere through an SSH tunnel"
        )
    return None


def answer(body: object, status: int = 200) -> web.Response:
    """A JSON answer; numbers that are not finite become null. Live data is never cached."""
    return encoded(msgspec.json.encode(body), status)


def encoded(body: bytes, status: int = 200) -> web.Response:
    """A JSON answer that is encoded already."""
    return web.Response(body=body, status=status, content_type="application/json", charset="utf-8", headers={"Cache-Control": "no-store"})


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses foreign Host headers on plain HTTP and turns every error into {"error": one line}."""
    host = request.headers.get("Host", "")
    if not request.app[SECURE] and LOOPBACK_HOST.fullmatch(host) is None:
        return answer({"error": f"Host: expected localhost, 127.0.0.1 or [::1], found {host[:100]!r}"}, 403)
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        refusal = answer({"error": f"{request.method} {request.path[:200]}: {error.reason}"}, error.status)
        if "Allow" in error.headers:
            refusal.headers["Allow"] = error.headers["Allow"]
        return refusal
    except Unauthenticated as error:
        refusal = answer({"error": str(error)}, 401)
        refusal.headers["WWW-Authenticate"] = "Bearer"
        return refusal
    except TooOften as error:
        refusal = answer({"error": str(error)}, 429)
        refusal.headers["Retry-After"] = str(error.wait_s)
        return refusal
    except Forbidden as error:
        return answer({"error": str(error)}, 403)
    except (NotFound, NoSuchTicket) as error:
        return answer({"error": str(error)}, 404)
    except (BadRequest, TicketError, DbcError) as error:
        return answer({"error": str(error)}, 400 if error.exit_code == 2 else 503)
    except (CloudError, SegmentLogError) as error:
        return answer({"error": str(error)}, 503)
    except TABLES_AWAY as error:  # the tables: locked for too long, the disk full or gone
        log.warning("%s %s: the database: %s", request.method, request.path, one_line(error))
        return answer({"error": f"the database: {one_line(error)}"}, 503)
    except Exception:  # a bug: the log gets its trace, the reader one line that gives nothing away
        log.exception("%s %s failed", request.method, request.path)
        return answer({"error": "this is a fault in Cansight; its log says more"}, 500)


async def secure(request: web.Request, response: web.StreamResponse) -> None:
    """Puts the security headers on every answer (aiohttp signal `on_response_prepare`)."""
    response.headers.update(HEADERS)
    if request.app[SECURE]:
        response.headers["Strict-Transport-Security"] = f"max-age={A_YEAR_S}"
