"""What the ticket queue gives to its callers: plain values, which msgspec turns into JSON as they are. Times are UTC milliseconds."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from cloud.tickets.policy import Condition, Handling, Level, Tier, Verdict
from cloud.tickets.sla import ClockView

__all__ = [
    "Brief",
    "Budget",
    "BulkResult",
    "Change",
    "Contribution",
    "Delivery",
    "Evidence",
    "FindingView",
    "Group",
    "HistoryLine",
    "Notification",
    "Page",
    "Preview",
    "SavedFilter",
    "Silence",
    "Similar",
    "Ticket",
    "TicketFilter",
    "Window",
]


class Contribution(msgspec.Struct, frozen=True):
    """A signal's part in a finding. `share` 0..1 of the score; None = the detector has no such value.

    `margin`: how far healthy drives are from `expected` at this operating point.
    """

    signal: str
    unit: str
    expected: float | None
    seen: float | None
    share: float
    margin: float | None = None


class Window(msgspec.Struct, frozen=True):
    """The ticks around the raise. `values[i][k]` belongs to `signals[i]` at `tick_ms[k]` (UTC); None = no valid value."""

    tick_ms: list[int]
    signals: list[str]
    values: list[list[float | None]]


class Evidence(msgspec.Struct, frozen=True):
    """Why a ticket opened, frozen at that moment."""

    finding_id: str
    pack_id: str
    since_ms: int
    score: float
    threshold: float
    p_value: float | None
    contributions: list[Contribution]
    window: Window


class HistoryLine(msgspec.Struct, frozen=True):
    """Something that happened to a ticket; `at_ms` is the cloud's wall clock. `erased`: who it was and what was said is deleted."""

    at_ms: int
    actor: str
    action: str
    detail: str
    number: int = 0
    erased: bool = False


class Brief(msgspec.Struct, frozen=True):
    """A ticket named by another one."""

    id: int
    vehicle: str
    fault_code: str
    tier: Tier
    condition: Condition
    handling: Handling
    verdict: Verdict | None
    opened_ms: int


class Notification(msgspec.Struct, frozen=True):
    """One row of the outbox. `owner_state`: none (the owner is not told), due, sent, withheld, displaced, dropped (its time has passed)."""

    id: int
    ticket_id: int
    vehicle: str
    event: str
    tier: Tier
    at_ms: int
    owner_ways: list[str]
    owner_state: str
    owner_reason: str
    owner_ms: int


class Delivery(msgspec.Struct, frozen=True):
    """One notification to one webhook. `last`: what the last attempt brought."""

    id: int
    notification_id: int
    ticket_id: int
    webhook: str
    event: str
    state: Literal["due", "delivered", "dead"]
    attempts: int
    next_ms: int
    made_ms: int
    done_ms: int | None
    last: str


class Ticket(msgspec.Struct, frozen=True):
    """A ticket as the API gives it. The last fields are None in lists: they come with one ticket alone.

    `hidden_by`: "silence 3", "maintenance 4" or "ticket 5" (its cause); empty = it is shown. `acknowledge` and `close` are its clocks.
    """

    id: int
    vehicle: str
    model: str
    fault_code: str
    fault_words: Mapping[str, str]  # language -> words
    action: Mapping[str, str]
    pack_id: str
    tier: Tier
    probability: float | None
    within_ms: int | None
    condition: Condition
    condition_ms: int
    flapping: bool
    handling: Handling
    verdict: Verdict | None
    assignee: str | None
    opened_ms: int
    created_ms: int
    closed_ms: int | None
    occurrences: int
    hidden_by: str
    reopened_from: int | None
    acknowledge: ClockView
    close: ClockView
    evidence: Evidence | None = None
    history: list[HistoryLine] | None = None
    linked: list[Brief] | None = None  # those it was reopened from and as, oldest first
    notifications: list[Notification] | None = None
    deliveries: list[Delivery] | None = None
    next_handlings: list[Handling] | None = None  # where people may move it now


class TicketFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which tickets. None: any. `text`: somewhere in vehicle, fault code, words or assignee. `hidden`: None = both kinds.

    `opened_from_ms` <= opened_ms < `opened_to_ms`: an owner's period. `assignee` "" = nobody.
    """

    vehicle: str | None = None
    model: str | None = None
    handling: Handling | None = None
    open: bool | None = None
    condition: Condition | None = None
    tier: Tier | None = None
    fault_code: str | None = None
    pack_id: str | None = None
    assignee: str | None = None
    text: str | None = None
    hidden: bool | None = None
    opened_from_ms: int | None = None
    opened_to_ms: int | None = None


class Page(msgspec.Struct, frozen=True):
    """Tickets, newest first; `next`: the cursor of the following page, None at the end. `counts`: by handling, of all pages and, where the
    filter names a handling, of the others too."""

    tickets: list[Ticket]
    next: int | None
    counts: dict[str, int]


class Group(msgspec.Struct, frozen=True):
    """One fault code in one vehicle model, over the fleet. `fleet_wide`: as many vehicles, within the time, as the policy calls a group."""

    model: str
    fault_code: str
    fault_words: Mapping[str, str]
    open: int
    vehicles: int
    recent_vehicles: int
    first_opened_ms: int
    last_opened_ms: int
    worst: Tier
    fleet_wide: bool
    tickets: list[int]  # the newest open ones


class Similar(msgspec.Struct, frozen=True):
    """A ticket that looks like another: `likeness` 0..1, the cosine between the shares of their signals; its fault's words by language."""

    ticket: Brief
    likeness: float
    fault_words: dict[str, str]


class FindingView(msgspec.Struct, frozen=True):
    """A finding of a vehicle. `held`: why it has no ticket ("level", "hold-off", "maintenance 4")."""

    finding_id: str
    vehicle: str
    fault_code: str
    pack_id: str
    level: Level
    raised_ms: int | None
    cleared_ms: int | None
    score: float
    ticket_id: int | None
    held: str


class Change(msgspec.Struct, frozen=True):
    """Something that happened to some ticket; `id` grows, so a reader can go on where it was."""

    id: int
    ticket_id: int
    vehicle: str
    opened_ms: int
    at_ms: int
    action: str


class Silence(msgspec.Struct, frozen=True):
    """A silence or a maintenance window. None matches everything. `state`: waiting, on or over."""

    id: int
    kind: Literal["silence", "maintenance"]
    vehicle: str | None
    model: str | None
    fault_code: str | None
    pack_id: str | None
    red: bool
    from_ms: int
    to_ms: int
    reason: str
    made_by: str
    made_ms: int
    ended_ms: int | None
    state: Literal["waiting", "on", "over"]


class Preview(msgspec.Struct, frozen=True):
    """What a silence would hide: the open tickets it fits now, and how many would have been hidden over the last `past_days` days, with
    how often a confirmed fault was among them. `open`: the newest of `open_tickets`. `red`: open red ones that it fits and hides only if
    it is told to. `fault_words`: of each fault code named here, by language."""

    open: list[Brief]
    open_tickets: int
    red: int
    past_days: int
    past_tickets: int
    past_confirmed: int
    past_vehicles: int
    by_fault_code: dict[str, int]
    fault_words: dict[str, dict[str, str]]


class Budget(msgspec.Struct, frozen=True):
    """What the owner of a vehicle was told, against what the policy allows; what waits for room is in `withheld`."""

    vehicle: str
    pushes: int
    pushes_allowed: int
    warnings: int
    warnings_allowed: int
    withheld: list[Notification]


class SavedFilter(msgspec.Struct, frozen=True):
    """A list's parameters under a name."""

    id: int
    owner: str
    name: str
    query: dict[str, Any]


class BulkResult(msgspec.Struct, frozen=True):
    """What became of one ticket of many; `error` is one line, None where it was done."""

    id: int
    error: str | None
