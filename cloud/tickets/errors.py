"""Errors of the ticket queue.

CloudError
└── TicketError          a ticket that is not there, or cannot be moved as asked
    └── TicketsUnusable  the tables cannot be opened (exit 1)
"""

from cloud.errors import CloudError

__all__ = ["TicketError", "TicketsUnusable"]


class TicketError(CloudError):
    """What was asked of the ticket queue cannot be done."""


class TicketsUnusable(TicketError):
    """The ticket queue's database cannot be opened."""

    exit_code = 1
