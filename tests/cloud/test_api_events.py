"""Live events over a real connection: nothing missed after a break, nothing kept from ending."""

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from example_fleet import OTHER, START_MS, VEHICLE, finding, serving

from cloud.api import Backend, make_app
from cloud.api.events import Hub
from cloud.roles import Role
from cloud.stores.embedded import EmbeddedStore
from cloud.tickets.service import TicketService
from cloud.tokens import Tokens


class Fleet:
    """A served API whose vehicles are heard when a test says so."""

    def __init__(self, folder: Path) -> None:
        self.heard: dict[str, int] = {VEHICLE: time.time_ns() // 1_000_000}
        self.database = f"sqlite:///{folder / 'cansight.db'}"
        self.store = EmbeddedStore(folder / "store.db")

    @contextmanager
    def served(self) -> Iterator["Fleet"]:
        with self.store, TicketService(self.database) as self.tickets, Tokens(self.database) as self.tokens:
            self.secret = self.tokens.create("reader", Role.READ_ONLY)
            stats = {"landed": 5, "sinks": {}}
            self.backend = Backend(self.store, self.tickets, self.tokens, lambda: stats | {"online_ms": dict(self.heard)})
            with serving(make_app(self.backend)) as self.url:
                yield self

    @contextmanager
    def reading(self, query: str = "", **headers: str) -> Iterator[Iterator[dict[str, Any]]]:
        """Events as they come: {"id", "event", "data"}."""
        with closing(http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)) as connection:
            said = {"Authorization": f"Bearer {self.secret}"} | {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request("GET", f"/api/events{query}", headers=said)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            assert answer.headers["Content-Type"] == "text/event-stream"
            yield _events(answer)


def _events(answer: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    event: dict[str, Any] = {}
    for line in answer:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if not name and event.get("event"):
            yield {"id": int(event["id"]), "event": event["event"], "data": json.loads(event["data"])}
        event = {} if not name else event | {name: value}


def first(events: Iterator[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(event for event in events if event["event"] == kind)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path).served() as fleet:
        yield fleet


def test_a_reader_is_told_and_misses_no_ticket_when_it_comes_again(fleet: Fleet) -> None:
    with fleet.reading() as events:
        told = first(events, "system")
        assert told["data"]["landed"] == 5
        number = fleet.tickets.consume(finding(1))
        opened = first(events, "ticket")
        data = opened["data"]
        assert (data["ticket_id"], data["vehicle"], data["opened_ms"]) == (number, VEHICLE, START_MS + 240_000)
        assert opened["id"] == opened["data"]["id"]
    fleet.tickets.consume(finding(2, vehicle=OTHER))
    with fleet.reading(Last_Event_ID=str(opened["id"])) as events:
        missed = next(event for event in events if event["data"].get("vehicle") == OTHER)
        assert missed["event"] == "ticket"
        assert missed["id"] > opened["id"]
    with fleet.reading(f"?last_event_id={opened['id']}") as events:
        told = [next(events)["id"]]
        while told[-1] < missed["id"]:
            told.append(next(events)["id"])
        assert told == list(range(opened["id"] + 1, missed["id"] + 1))  # each once, in order


def test_a_vehicle_is_told_when_it_turns_and_each_time_to_who_looks_at_it(fleet: Fleet) -> None:
    with fleet.reading() as everybody, fleet.reading(f"?vehicle={VEHICLE}") as one:
        assert first(everybody, "vehicle")["data"]["state"] == first(one, "vehicle")["data"]["state"] == "online"
        fleet.heard[VEHICLE] += 1
        assert any(event["data"]["online_ms"] == fleet.heard[VEHICLE] for event in one if event["event"] == "vehicle")
        fleet.heard[OTHER] = 0
        assert first(everybody, "vehicle")["data"] == {"vehicle": OTHER, "state": "silent", "online_ms": 0, "gone_ms": None}


def test_a_large_fleet_that_is_heard_cuts_nobody_off(fleet: Fleet) -> None:
    fleet.heard |= {f"{number:016x}": fleet.heard[VEHICLE] for number in range(3000)}

    async def look() -> None:
        hub = Hub(fleet.backend)
        number, _ = await hub.enter(VEHICLE)
        await hub.next_round()
        assert hub.messages[0][0] == number + 1, "of what has turned at once nothing is left out"
        assert {json.loads(message.data)["vehicle"] for _, _, message in hub.messages if message.kind == "vehicle"} == set(fleet.heard)
        number = hub.number
        fleet.heard |= {vehicle: ms + 1 for vehicle, ms in fleet.heard.items()}
        await hub.next_round()
        assert hub.number == number + 1, "nobody looks at the others"
        hub.leave(VEHICLE)
        await hub.stop(web.Application())

    asyncio.run(look())


def test_a_revoked_token_ends_the_stream(fleet: Fleet) -> None:
    with fleet.reading() as events:
        first(events, "system")
        fleet.tokens.revoke("reader")
        assert all(event["event"] in ("system", "vehicle") for event in events)  # and then it has ended


def test_the_end_of_the_cloud_waits_for_no_reader(tmp_path: Path) -> None:
    ended = threading.Event()

    def read(fleet: Fleet, started: threading.Event) -> None:
        with fleet.reading() as events:
            first(events, "system")
            started.set()
            list(events)
            ended.set()

    with Fleet(tmp_path).served() as fleet:
        started = threading.Event()
        reader = threading.Thread(target=read, args=[fleet, started])
        reader.start()
        assert started.wait(60)
    reader.join(60)
    assert ended.is_set()
