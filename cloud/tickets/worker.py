"""The ticket queue's own work beside what is asked of it: a pulse now and then, and the webhooks."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from sqlalchemy.exc import DBAPIError

from cloud.tables import TABLES_AWAY
from cloud.tickets.errors import TicketsUnusable
from cloud.tickets.sender import WebhookSender
from cloud.tickets.service import TicketService
from cloud.tickets.watch import Heard

__all__ = ["run_tickets"]

PULSE_S = 15.0

log = logging.getLogger(__name__)


async def run_tickets(tickets: TicketService, heard: Callable[[], Mapping[str, Heard]], now_ms: Callable[[], int]) -> None:
    """Until it is cancelled. `heard` may block: it is called in a thread. What goes wrong with the tables is said and tried again."""
    async with WebhookSender(tickets.webhooks, now_ms) as sender, asyncio.TaskGroup() as group:
        group.create_task(_pulse(tickets, heard), name="tickets' pulse")
        if tickets.policy.webhook:
            group.create_task(sender.run(), name="webhooks")


async def _pulse(tickets: TicketService, heard: Callable[[], Mapping[str, Heard]]) -> None:
    said = ""
    while True:
        try:
            await asyncio.to_thread(lambda: tickets.watch.pulse(heard()))
            said = ""
        except (DBAPIError, TicketsUnusable, OSError, *TABLES_AWAY) as error:
            if str(error) != said:
                log.warning("the tickets cannot be looked after (%s); trying again", error)
            said = str(error)
        await asyncio.sleep(PULSE_S)
