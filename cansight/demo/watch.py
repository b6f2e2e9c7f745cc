"""Watches the demonstration from outside, as a user would: by the page's API and by what each agent says of itself.

Latency is measured at the end of the chain: from the instant the first frame of a tick entered the agent's source (the agent's ledger) to
the first answer of the store's query that shows the tick.
"""

import http.client
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
from numpy.typing import NDArray

from cansight.demo.stage import Endpoint, Vehicle

POINTS = 10_000  # the most that one answer of the API holds; at 1 Hz a window of as many seconds is never thinned out
WINDOW_MS = POINTS * 1000
SIGNALS = 32  # the most that the API takes in one request
ASK_S = 2.0  # an answer that takes longer counts as none; the next poll asks again


class Api:
    """GET of the aggregator's API over one kept connection; None while it cannot be reached."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._connection: http.client.HTTPConnection | None = None

    def get(self, path: str, **parameters: str | int | list[str]) -> Any:
        """The decoded JSON answer; None when the aggregator is away, or does not know (404, 503)."""
        status, body = self._ask(path + ("?" + urlencode(parameters, doseq=True) if parameters else ""))
        return json.loads(body) if status == 200 else None

    def ready(self) -> bool:
        """Whether the aggregator can take batches."""
        return self._ask("/readyz")[0] == 200

    def _ask(self, path: str) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self.endpoint.host, self.endpoint.port, timeout=ASK_S)
        try:
            headers = {"Authorization": f"Bearer {self.endpoint.token}"} if self.endpoint.token else {}
            self._connection.request("GET", path, headers=headers)
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):  # it is being restarted: that is the point of some demonstrations
            self.close()
            return 0, b""

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass
class Seen:
    """When each tick of one vehicle became visible."""

    newest_ms: int = -1
    polls: list[tuple[int, int]] = field(default_factory=list)  # (wall ns of the answer, newest tick in it), rising


@dataclass
class Watch:
    """What has been seen of all vehicles so far."""

    api: Api
    vehicles: list[Vehicle]
    seen: dict[str, Seen] = field(default_factory=dict)

    def poll_newest(self) -> None:
        """Ask the store for each vehicle's newest tick and note when the answer was there."""
        for vehicle in self.vehicles:
            answer = self.api.get(f"/api/vehicles/{quote(vehicle.vehicle)}/newest")
            seen = self.seen.setdefault(vehicle.vehicle, Seen())
            newest = (answer or {}).get("tick_ms")
            if newest is not None and newest > seen.newest_ms:
                seen.newest_ms = newest
                seen.polls.append((time.time_ns(), newest))

    def status(self, vehicle: Vehicle) -> dict[str, Any]:
        """What the agent says of itself; {} before its first word."""
        try:
            status: dict[str, Any] = json.loads(vehicle.status.read_bytes())
        except (OSError, ValueError):
            return {}
        return status

    def all_visible(self) -> bool:
        """Whether the store's query shows every vehicle's last recorded tick."""
        for vehicle in self.vehicles:
            ledger = read_ledger(vehicle.ledger)
            if len(ledger) and self.seen.get(vehicle.vehicle, Seen()).newest_ms < ledger[-1, 0]:
                return False
        return True

    def latencies_s(self) -> NDArray[np.float64]:
        """Seconds from frame to queryable, one for each tick that has been seen."""
        return np.concatenate([latency_s(vehicle.ledger, self.seen.get(vehicle.vehicle, Seen()).polls) for vehicle in self.vehicles])

    def missing(self, vehicle: Vehicle) -> tuple[int, int]:
        """(ticks of the ledger that the store's query does not return, ticks that it returns and the ledger does not have)."""
        recorded = set(read_ledger(vehicle.ledger)[:, 0].tolist())
        if not recorded:
            return 0, 0
        path = f"/api/vehicles/{quote(vehicle.vehicle)}"
        signals = [entry["signal"] for entry in self.api.get(f"{path}/signals") or []]
        parts = -(-len(signals) // SIGNALS)
        stored: set[int] = set()
        for part in range(parts):
            for from_ms in range(min(recorded), max(recorded) + 1, WINDOW_MS):
                asked = {"from_ms": from_ms, "to_ms": from_ms + WINDOW_MS, "points": POINTS}
                answer = self.api.get(f"{path}/series", signal=signals[part::parts], **asked)
                stored.update((answer or {}).get("tick_ms", []))
            if recorded <= stored:  # nearly always with the first few: a signal may be first seen late in a log, or fall silent
                break
        return len(recorded - stored), len(stored - recorded)


def read_ledger(path: Path) -> NDArray[np.int64]:
    """(n, 2) int64: the tick in ms and the wall clock in ns at which its first frame entered the source, of every tick with a valid value.

    The others are in no store: what is missing or invalid is never written. A torn last line is left out.
    """
    rows = []
    if path.exists():
        for line in path.read_text().split("\n")[1:-1]:
            tick_ms, entered_ns, samples = line.split(",")
            if samples != "0":
                rows.append((int(tick_ms), int(entered_ns)))
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def latency_s(ledger: Path, polls: list[tuple[int, int]]) -> NDArray[np.float64]:
    """Seconds from entry to the first answer that showed the tick, for every tick of the ledger that any answer showed."""
    rows = read_ledger(ledger)
    if not len(rows) or not polls:
        return np.empty(0)
    answered_ns, newest_ms = np.array(polls, dtype=np.int64).T
    first = np.searchsorted(newest_ms, rows[:, 0])  # the first answer whose newest tick is this one or a later one
    shown = first < len(polls)
    latency: NDArray[np.float64] = (answered_ns[first[shown]] - rows[shown, 1]) / 1e9
    return latency
