"""Asking the store: through the aggregator's API, or InfluxDB itself. Plain HTTP: the simulator does not import the cloud."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import numpy as np

from simulator.fleet.errors import FleetFailed
from simulator.fleet.verify import Found

__all__ = ["Api", "Influx"]

TIMEOUT_S = 30.0
POINTS = 10_000  # the API thins out what is more
TICK_MS = 1000
_NONE = Found(np.empty(0, np.int64), np.empty(0, np.float64))


class Api:
    """`GET /api/vehicles/{vehicle}/series` of `cansight cloud run`, whichever store is behind it."""

    def __init__(self, url: str, token: str = "") -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def read(self, vehicle: str, signal: str, from_ms: int, to_ms: int) -> Found:
        parts = []
        for start in range(from_ms, to_ms, POINTS * TICK_MS):
            query = {"signal": signal, "from_ms": start, "to_ms": min(to_ms, start + POINTS * TICK_MS), "points": POINTS}
            answer = _get(f"{self._url}/api/vehicles/{vehicle}/series?{urllib.parse.urlencode(query)}", self._headers)
            if answer is not None:
                parts.append(_found(answer["tick_ms"], answer["series"][signal]))
        return _joined(parts)

    def behind(self) -> int:
        """Landed messages that the store has not taken yet."""
        stats = _get(f"{self._url}/api/stats", self._headers) or {}
        return int(stats.get("sinks", {}).get("store", {}).get("behind", 0))


class Influx:
    """InfluxQL, which InfluxDB 1, 2 and 3 answer. Several series of one vehicle come one after the other, so a duplicate is seen."""

    def __init__(self, url: str, database: str, token: str = "") -> None:
        self._url = url.rstrip("/")
        self._database = database
        self._headers = {"Authorization": f"Token {token}"} if token else {}

    def read(self, vehicle: str, signal: str, from_ms: int, to_ms: int) -> Found:
        field = signal.replace("\\", "\\\\").replace('"', '\\"')
        text = f"SELECT \"{field}\" FROM signals WHERE vehicle = '{vehicle}' AND time >= {from_ms}ms AND time < {to_ms}ms"
        query = urllib.parse.urlencode({"db": self._database, "epoch": "ms", "q": text})
        answer = _get(f"{self._url}/query?{query}", self._headers) or {}
        result = answer.get("results", [{}])[0]
        if message := answer.get("error") or result.get("error"):
            raise FleetFailed(f"{self._url}: database {self._database!r}: {message}")
        parts = [_found([row[0] for row in series["values"]], [row[1] for row in series["values"]]) for series in result.get("series", [])]
        return _joined(parts)


def _found(tick_ms: list[int], values: list[float | None]) -> Found:
    return Found(np.array(tick_ms, np.int64), np.array([np.nan if value is None else value for value in values], np.float64))


def _joined(parts: list[Found]) -> Found:
    if not parts:
        return _NONE
    return Found(np.concatenate([part.tick_ms for part in parts]), np.concatenate([part.value for part in parts]))


def _get(url: str, headers: dict[str, str]) -> Any:
    """The JSON answer; None for 404 (an unknown vehicle)."""
    where = urllib.parse.urlsplit(url)
    at = f"{where.scheme}://{where.netloc}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise FleetFailed(f"{at}: the store answered {error.code}: {error.read()[:200].decode(errors='replace')}") from None
    except (OSError, ValueError) as error:
        raise FleetFailed(f"{at}: the store cannot be asked: {getattr(error, 'reason', error)}") from None
