"""The worker that sends webhooks, as the Standard Webhooks specification (https://www.standardwebhooks.com, 1.0) has them: the receiver
checks `webhook-signature` = "v1," + base64(HMAC-SHA256(secret, id + "." + timestamp + "." + body)) and remembers `webhook-id`, which is
also sent as `Idempotency-Key`: at least once becomes exactly once.

A secret that begins with `whsec_` is base64 behind it, as the specification says; any other is taken as its bytes are.
"""

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import logging
import random
from collections.abc import Callable
from email.utils import parsedate_to_datetime

import aiohttp
from sqlalchemy.exc import DBAPIError

from cloud.tickets.errors import PolicyError, TicketsUnusable
from cloud.tickets.retry import GIVE_UP_MS, pause_ms, verdict_of
from cloud.tickets.webhooks import Letter, Webhooks

__all__ = ["WebhookSender", "signature"]

AT_ONCE = 16  # deliveries under way
TIMEOUT_S = 10.0
MOST_IDLE_S = 5.0  # another replica may have written a delivery
AGENT = "cansight"

log = logging.getLogger(__name__)


class WebhookSender:
    """`async with WebhookSender(...)`: `once()` sends what is due now; `run()` goes on until it is cancelled."""

    def __init__(self, webhooks: Webhooks, now_ms: Callable[[], int], jitter: Callable[[], float] = random.random) -> None:
        self._webhooks = webhooks
        self._now_ms = now_ms
        self._jitter = jitter
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "WebhookSender":
        # trust_env is off: a proxy of this machine's environment is not asked; redirects are not followed: the signed URL is the one meant
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), headers={"User-Agent": AGENT})
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def run(self) -> None:
        """Send for ever. What goes wrong with the tables or a secret's file is said once and tried again."""
        said = ""
        while True:
            try:
                while await self.once():
                    pass
                due_ms = await asyncio.to_thread(self._webhooks.next_due_ms)
                said = ""
            except (DBAPIError, PolicyError, TicketsUnusable) as error:
                if str(error) != said:
                    log.warning("webhooks cannot be sent (%s); trying again", error)
                said, due_ms = str(error), None
            wait_s = MOST_IDLE_S if due_ms is None else (due_ms - self._now_ms()) / 1000
            await asyncio.sleep(min(MOST_IDLE_S, max(0.05, wait_s)))

    async def once(self) -> int:
        """Send what is due now, a few at a time; how many were tried."""
        letters = await asyncio.to_thread(self._webhooks.claim, AT_ONCE)
        if letters:
            targets = await asyncio.to_thread(self._webhooks.secrets)
            await asyncio.gather(*(self._send(letter, *targets[letter.webhook]) for letter in letters))
        return len(letters)

    async def _send(self, letter: Letter, url: str, secret: bytes) -> None:
        assert self._session is not None, "the sender is used outside its `async with`"
        body = letter.payload.encode()
        timestamp = str(self._now_ms() // 1000)
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": f'"{letter.key}"',
            "webhook-id": letter.key,
            "webhook-timestamp": timestamp,
            "webhook-signature": signature(secret, letter.key, timestamp, body),
        }
        status, asked_ms = None, None
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                status, last = answer.status, f"{answer.status} {answer.reason or ''}".strip()
                asked_ms = _retry_after_ms(answer.headers.get("Retry-After"), self._now_ms())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            last = f"{type(error).__name__}: {error}".splitlines()[0].removesuffix(": ")
        verdict = verdict_of(status)
        now = self._now_ms()
        if verdict == "delivered":
            await asyncio.to_thread(self._webhooks.settle, letter, "delivered", now, last)
        elif verdict == "dead" or now - letter.made_ms >= GIVE_UP_MS:
            log.warning(
                "webhook %s: delivery %d is given up (%s); `cansight tickets webhooks replay` sends it again",
                letter.webhook,
                letter.id,
                last,
            )
            await asyncio.to_thread(self._webhooks.settle, letter, "dead", now, last)
        else:
            again = now + pause_ms(letter.attempts + 1, self._jitter(), asked_ms)
            await asyncio.to_thread(self._webhooks.settle, letter, "due", again, last)


def signature(secret: bytes, key: str, timestamp: str, body: bytes) -> str:
    """The `webhook-signature` header."""
    raw = secret
    if secret.startswith(b"whsec_"):
        with contextlib.suppress(binascii.Error):
            raw = base64.b64decode(secret.removeprefix(b"whsec_"), validate=True)
    signed = hmac.new(raw, key.encode() + b"." + timestamp.encode() + b"." + body, hashlib.sha256)
    return "v1," + base64.b64encode(signed.digest()).decode()


def _retry_after_ms(header: str | None, now_ms: int) -> int | None:
    """RFC 9110 10.2.3: seconds, or a date."""
    if header is None:
        return None
    if header.strip().isdigit():
        return int(header.strip()[:9]) * 1000
    try:
        return max(0, int(parsedate_to_datetime(header).timestamp() * 1000) - now_ms)
    except (ValueError, TypeError):
        return None
