"""Webhooks against a real HTTP server: signed, retried, given up, replayed."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from example_fleet import VEHICLE, finding, serving
from ticket_queue import DAY, HOUR, SECOND, policy_of, ticket_queue

from cloud.tickets.errors import NoSuchTicket
from cloud.tickets.policy import Handling, Verdict
from cloud.tickets.sender import WebhookSender
from cloud.tickets.service import TicketService

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


class Receiver:
    """Keeps what it is sent; answers with `statuses` in order, then with 204."""

    def __init__(self, *statuses: int, headers: dict[str, str] | None = None) -> None:
        self.statuses = list(statuses)
        self.headers = headers or {}
        self.got: list[tuple[dict[str, str], bytes]] = []

    async def take(self, request: web.Request) -> web.Response:
        self.got.append((dict(request.headers), await request.read()))
        status = self.statuses.pop(0) if self.statuses else 204
        return web.Response(status=status, headers=self.headers if status >= 300 else {})

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/hook", self.take)
        return app


def hooked(folder: Path, url: str, more: str = "") -> Any:
    (folder / "hook.secret").write_text(SECRET + "\n")
    return policy_of(folder, f'[[webhook]]\nname = "crm"\nurl = "{url}/hook"\nsecret_file = "hook.secret"\n{more}')


def send(tickets: TicketService, now_ms: Callable[[], int], jitter: float = 0.5) -> int:
    async def main() -> int:
        async with WebhookSender(tickets.webhooks, now_ms, lambda: jitter) as sender:
            return await sender.once()

    return asyncio.run(main())


def test_a_delivery_is_signed_as_the_standard_says_and_names_no_person(tmp_path: Path) -> None:
    receiver = Receiver()
    with serving(receiver.app()) as url, ticket_queue(tmp_path, hooked(tmp_path, url)) as (tickets, clock):
        tickets.consume(finding(1))
        tickets.desk.assign(1, "ben", "ana")
        tickets.handle(1, Handling.CLOSED, "ana", Verdict.CONFIRMED, "a hose")
        assert send(tickets, clock) == 2
        assert send(tickets, clock) == 0
        opened, closed = sorted(receiver.got, key=lambda one: json.loads(one[1])["id"])
        headers, body = opened
        signed = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
        expected = hmac.new(b"0123456789abcdef0123456789abcdef", signed, hashlib.sha256).digest()
        assert headers["webhook-signature"] == "v1," + base64.b64encode(expected).decode()
        assert headers["webhook-timestamp"] == str(clock.ms // SECOND)
        assert headers["Idempotency-Key"] == '"ticket-1-0-crm"'
        said = json.loads(body)
        assert (said["type"], said["ticket"]["vehicle"], said["ticket"]["tier"]) == ("ticket.opened", VEHICLE, "unrated")
        assert json.loads(closed[1])["ticket"]["verdict"] == "confirmed"
        assert b"ben" not in body + closed[1]
        assert [one.state for one in tickets.webhooks.deliveries()] == ["delivered", "delivered"]


def test_a_receiver_that_fails_is_asked_again_later_under_the_same_key(tmp_path: Path) -> None:
    receiver = Receiver(500, 429, headers={"Retry-After": "90"})
    with serving(receiver.app()) as url, ticket_queue(tmp_path, hooked(tmp_path, url)) as (tickets, clock):
        tickets.consume(finding(1))
        assert send(tickets, clock) == 1
        [due] = tickets.webhooks.deliveries("due")
        assert (due.attempts, due.last, due.next_ms) == (1, "500 Internal Server Error", clock.ms + 90 * SECOND)
        clock.on(90 * SECOND - 1)
        assert send(tickets, clock) == 0
        clock.on(1)
        assert send(tickets, clock) == 1
        clock.on(90 * SECOND)
        assert send(tickets, clock) == 1
        assert [one.state for one in tickets.webhooks.deliveries()] == ["delivered"]
        assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
        assert len({headers["webhook-signature"] for headers, _ in receiver.got}) == 3  # the time is signed too
        assert len({body for _, body in receiver.got}) == 1


def test_what_is_given_up_is_a_dead_letter_that_can_be_replayed(tmp_path: Path) -> None:
    receiver = Receiver(410)
    with serving(receiver.app()) as url, ticket_queue(tmp_path, hooked(tmp_path, url)) as (tickets, clock):
        tickets.consume(finding(1))
        send(tickets, clock)
        [dead] = tickets.webhooks.deliveries("dead")
        assert (tickets.webhooks.list()[0].dead, dead.last) == (1, "410 Gone")
        tickets.webhooks.replay(dead.id)
        assert send(tickets, clock) == 1
        assert [one.state for one in tickets.webhooks.deliveries()] == ["delivered"]
        with pytest.raises(NoSuchTicket):
            tickets.webhooks.replay(99)


def test_a_receiver_that_is_not_there_costs_a_few_tries_a_day_and_then_none(tmp_path: Path) -> None:
    with ticket_queue(tmp_path, hooked(tmp_path, "http://127.0.0.1:1")) as (tickets, clock):
        tickets.consume(finding(1))
        tries = 0
        while tickets.webhooks.deliveries("due"):
            tries += send(tickets, clock, jitter=0.999)
            clock.ms = max(clock.ms, tickets.webhooks.next_due_ms() or 0)
        [dead] = tickets.webhooks.deliveries("dead")
        assert 70 < tries == dead.attempts < 100
        assert 3 * DAY <= clock.ms - dead.made_ms < 3 * DAY + HOUR
        assert "Cannot connect" in dead.last


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_only_one_of_two_senders_sends_a_delivery(tmp_path: Path, make_tables: Callable[[str], str], kind: str) -> None:
    receiver = Receiver()
    with serving(receiver.app()) as url, ticket_queue(tmp_path, hooked(tmp_path, url), make_tables(kind)) as (tickets, clock):
        for number in range(1, 13):
            tickets.consume(finding(number, vehicle=f"{number:016x}"))

        async def main() -> int:
            async with WebhookSender(tickets.webhooks, clock) as one, WebhookSender(tickets.webhooks, clock) as other:
                return sum(await asyncio.gather(one.once(), other.once()))

        assert asyncio.run(main()) == 12
        assert len({headers["webhook-id"] for headers, _ in receiver.got}) == len(receiver.got) == 12


def test_a_webhook_is_told_only_what_it_asked_for(tmp_path: Path) -> None:
    policy = hooked(tmp_path, "http://127.0.0.1:1", 'events = ["closed"]\ntiers = ["red"]\n')
    with ticket_queue(tmp_path, policy) as (tickets, _):
        tickets.consume(finding(1))
        tickets.handle(1, Handling.CLOSED, "ana")
        assert tickets.webhooks.deliveries() == []
