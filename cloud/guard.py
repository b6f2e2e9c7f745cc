"""What stands in front of every API handler: who may ask, how errors look, which headers every answer carries.

The API has no log-in yet, so it answers this machine alone. Two things keep it so: it only ever listens on a loopback address
(`require_loopback`), and it refuses a Host header that names anything else. Without the second, a web page that the operator happens to
have open could rebind its own name to 127.0.0.1 and read fleet data through their browser.
"""

import ipaddress
import logging
import re
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web
from sqlalchemy.exc import OperationalError

from cloud.errors import CloudError
from cloud.tickets.errors import TicketError
from dbc.errors import DbcError

__all__ = ["BadRequest", "answer", "guard", "require_loopback", "secure"]

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
# Any port: it is whatever a tunnel chose, and a rebound name keeps the attacker's name, not this machine's.
LOOPBACK_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)

log = logging.getLogger(__name__)


class BadRequest(CloudError):
    """A request's parameter is not as it must be."""


def require_loopback(host: str) -> None:
    """Raises CloudError when `host` is not this machine's own loopback: there is no log-in yet."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise CloudError(
            f"api.host: expected a loopback address (127.0.0.1, ::1 or localhost), found {host!r}; the API has no log-in yet, "
            "so reach it from elsewhere through an SSH tunnel"
        )


def answer(body: object, status: int = 200) -> web.Response:
    """A JSON answer; numbers that are not finite become null. Live data is never cached."""
    return web.Response(
        body=msgspec.json.encode(body),
        status=status,
        content_type="application/json",
        charset="utf-8",
        headers={"Cache-Control": "no-store"},
    )


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses foreign Host headers and turns every error into {"error": one line}."""
    host = request.headers.get("Host", "")
    if LOOPBACK_HOST.fullmatch(host) is None:
        return answer({"error": f"Host: expected localhost, 127.0.0.1 or [::1], found {host[:100]!r}"}, 403)
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return answer({"error": f"{request.method} {request.path[:200]}: {error.reason}"}, error.status)
    except (BadRequest, TicketError, DbcError) as error:
        return answer({"error": str(error)}, 400 if error.exit_code == 2 else 503)
    except CloudError as error:
        return answer({"error": str(error)}, 503)
    except OperationalError as error:  # the tables: locked for too long, the disk full or gone
        log.warning("%s %s: the ticket queue's database: %s", request.method, request.path, error.orig)
        return answer({"error": f"the ticket queue's database: {error.orig}"}, 503)
    except Exception:  # a bug: the log gets its trace, the reader one line that gives nothing away
        log.exception("%s %s failed", request.method, request.path)
        return answer({"error": "this is a fault in Cansight; its log says more"}, 500)


async def secure(_request: web.Request, response: web.StreamResponse) -> None:
    """Puts the security headers on every answer (aiohttp signal `on_response_prepare`)."""
    response.headers.update(HEADERS)
