"""Asking the API for the tickets' commands, and printing what it answers."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click

from cansight.errors import UsageError, WorkFailed

TIMEOUT_S = 10.0
TOKEN = "CANSIGHT_TOKEN"
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the API is on this machine; a proxy would not find it


@dataclass(frozen=True)
class Api:
    """Where it is, and the token to ask with; "": none."""

    url: str
    token: str


def get(api: Api, path: str, asked: Mapping[str, object] | None = None) -> Any:
    """The API's answer. What is asked as None is left out. Raises UsageError with the API's own line where it refused, WorkFailed where
    nothing sensible answered."""
    parameters = {name: value for name, value in (asked or {}).items() if value is not None}
    return _ask(api, "GET", f"{path}{'?' + urllib.parse.urlencode(parameters) if parameters else ''}")


def post(api: Api, path: str, body: Mapping[str, object]) -> Any:
    """The same of something that changes; what is None is left out."""
    return _ask(api, "POST", path, {name: value for name, value in body.items() if value is not None})


def delete(api: Api, path: str) -> Any:
    """The same of something that goes."""
    return _ask(api, "DELETE", path)


def _ask(api: Api, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
    address = f"{api.url}{path}"
    headers = {"Authorization": f"Bearer {api.token}"} if api.token else {}
    data = json.dumps(body).encode() if body is not None else None
    if data is not None:
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(address, data=data, headers=headers, method=method)
    try:
        with _OPENER.open(request, timeout=TIMEOUT_S) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            try:
                line = json.load(error)["error"]
            except (ValueError, KeyError, TypeError):
                raise WorkFailed(f"{address}: answered {error.code} {error.reason}; is that Cansight's API?") from None
        if error.code == 401:
            line += f"; name a token with --token-file or in {TOKEN}"
        raise (UsageError if error.code < 500 else WorkFailed)(line) from None
    except ValueError:
        raise WorkFailed(f"{address}: answered something else than JSON; is that Cansight's API?") from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise WorkFailed(f"{api.url}: no answer ({reason}); is `cansight cloud run` running, and --url its address?") from None


def say(line: str) -> None:
    """One line as text: words that came off a vehicle must not steer the terminal."""
    click.echo("".join(character if character.isprintable() else "?" for character in line))


def table(rows: list[tuple[Any, ...]]) -> None:
    """Aligned columns; the last one, the longest, as long as it is."""
    texts = [[str(field) for field in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        say("  ".join(field.ljust(width) for field, width in zip(row, widths, strict=True)).rstrip())


def number(value: float | None) -> str:
    """Four figures; "-" where there is none."""
    return "-" if value is None else f"{value:.4g}"


def when(ms: int) -> str:
    """A time in this machine's zone."""
    return datetime.fromtimestamp(ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
