"""Errors of the ticket queue.

CloudError
├── PolicyError          tickets.toml cannot be used
└── TicketError          a ticket that is not there, or cannot be moved as asked
    ├── NoSuchTicket     there is none of that number
    └── TicketsUnusable  the tables cannot be opened (exit 1)
"""

from cloud.errors import CloudError

__all__ = ["NoSuchTicket", "PolicyError", "TicketError", "TicketsUnusable"]


class PolicyError(CloudError):
    """The ticket policy cannot be used; the line says file, key, what was expected and what was found."""


class TicketError(CloudError):
    """What was asked of the ticket queue cannot be done."""


class NoSuchTicket(TicketError):
    """There is no ticket, silence, filter or delivery of that number."""


class TicketsUnusable(TicketError):
    """The ticket queue's database cannot be opened."""

    exit_code = 1
