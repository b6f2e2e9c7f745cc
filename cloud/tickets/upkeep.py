"""What follows when something about a vehicle's tickets has changed: what is hidden, which clocks run, what is to be told.

It is derived anew from what is there each time, so it does not matter what changed, or whether it is asked twice.
"""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, bindparam, select, text, update

from cloud.tickets.journal import AGENT, CLOUD, Journal
from cloud.tickets.model import OPEN, SilenceRow, TicketRow
from cloud.tickets.outbox import Outbox
from cloud.tickets.policy import Condition, Flaps, Handling, Tier, worth_a_line
from cloud.tickets.settings import Policy, duration_ms
from cloud.tickets.sla import Clock
from cloud.tickets.tables import AnyRow, Tables
from cloud.tickets.telling import PASSED, Told, next_event

__all__ = ["Upkeep", "silence_fits"]

AT_ONCE = 50  # vehicles


class Upkeep:
    """`turn` and `settle` are called within the transaction that changed something."""

    def __init__(self, tables: Tables, journal: Journal, outbox: Outbox, policy: Policy, now_ms: Callable[[], int]) -> None:
        self._tables = tables
        self._journal = journal
        self._outbox = outbox
        self._policy = policy
        self._now_ms = now_ms
        flapping = policy.flapping
        self._rest_ms = duration_ms(flapping.rest)
        self._recovered_after_ms = duration_ms(flapping.recovered_after)
        self._again_after_ms = duration_ms(flapping.again_after)

    def turn(self, db: Connection, ticket_id: int, before: Condition, now: Condition, turns: int, turned_ms: int) -> None:
        """Set a ticket's new condition. While it flaps, the history has one line that says so instead of one for each turn."""
        now_ms = self._now_ms()
        flaps = Flaps(turns, turned_ms)
        if Condition.NO_DATA not in (before, now):
            flaps = flaps.turned(now_ms, self._rest_ms)
        values = {"condition": now, "condition_ms": now_ms, "turns": flaps.turns, "turned_ms": flaps.turned_ms}
        db.execute(update(TicketRow).where(TicketRow.id == ticket_id).values(values))
        most = self._policy.flapping.turns
        if flaps.turns == most and Condition.NO_DATA not in (before, now):
            self._journal.note(db, ticket_id, AGENT, "flapping", f"{most} turns without a rest of {self._policy.flapping.rest}")
        elif flaps.turns < most or Condition.NO_DATA in (before, now) or worth_a_line(flaps.turns):
            self._journal.note(db, ticket_id, AGENT, now)

    def settle_all(self) -> None:
        """Every vehicle with an open ticket: a silence has begun or ended, or time has passed. All are looked at in two questions; only
        those of which something changes are settled, some vehicles to a transaction, so that findings need not wait for a whole fleet."""
        vehicles = self._tables.read(self._unsettled)
        for start in range(0, len(vehicles), AT_ONCE):
            self._tables.write(partial(self._settle_some, vehicles[start : start + AT_ONCE]))

    def _unsettled(self, db: Connection) -> list[str]:
        now = self._now_ms()
        silences = db.execute(_ALL_SILENCES, {"the_now": now}).all()
        found = []
        for vehicle, rows in groupby(db.execute(_ALL_OPEN_TICKETS), key=lambda row: str(row.vehicle)):
            tickets = list(rows)
            if any(any(self._becomes(ticket, tickets, silences, now)[1:]) for ticket in tickets):
                found.append(vehicle)
        return found

    def _settle_some(self, vehicles: Sequence[str], db: Connection) -> None:
        for vehicle in vehicles:
            self.settle(db, vehicle)

    def settle(self, db: Connection, vehicle: str) -> None:
        """One vehicle's open tickets."""
        tickets = db.execute(_OPEN_TICKETS, {"the_vehicle": vehicle}).all()
        if not tickets:
            return
        now = self._now_ms()
        silences = db.execute(_SILENCES, {"the_vehicle": vehicle, "the_now": now}).all()
        for ticket in tickets:
            hidden, changed, event = self._becomes(ticket, tickets, silences, now)
            if changed:
                db.execute(update(TicketRow).where(TicketRow.id == ticket.id).values(changed))
            if hidden != ticket.hidden_by:
                self._journal.note(db, ticket.id, CLOUD, "hidden" if hidden else "shown", hidden or ticket.hidden_by)
            if event is not None and event != PASSED:
                self._outbox.put(db, ticket.id, vehicle, event, Tier(ticket.tier))

    def _becomes(
        self, ticket: AnyRow, tickets: Sequence[AnyRow], silences: Sequence[AnyRow], now: int
    ) -> tuple[str, dict[str, Any], str | None]:
        """What hides a ticket of these tickets of its vehicle; what of its row is to change; what is to be told of it."""
        hidden = self._hidden_by(ticket, tickets, silences, now)
        changed = self._clocks(ticket, hidden, now) | ({"hidden_by": hidden} if hidden != ticket.hidden_by else {})
        event = None if hidden else self._event(ticket, now)
        if event is not None:
            changed |= {"said": event, "said_tier": ticket.tier, "said_ms": now}
        return hidden, changed, event

    def _event(self, ticket: AnyRow, now: int) -> str | None:
        return next_event(
            Told(ticket.said, Tier(ticket.said_tier), ticket.said_ms),
            Tier(ticket.tier),
            Condition(ticket.condition),
            ticket.condition_ms,
            bool(ticket.hidden_by),
            now,
            self._recovered_after_ms,
            self._again_after_ms,
        )

    def _hidden_by(self, ticket: AnyRow, tickets: Any, silences: Any, now: int) -> str:
        red = ticket.tier == Tier.RED
        for row in silences:
            if (row.red or not red) and silence_fits(row, ticket._mapping):
                return f"{row.kind} {row.id}"
        if red:
            return ""
        for cause in tickets:
            rules = self._policy.causes.get(cause.fault_code, ())
            # what it brought about recovers a little after its cause
            over = cause.condition == Condition.RECOVERED and now - cause.condition_ms >= self._rest_ms
            if cause.id != ticket.id and not over and any(rule.covers(ticket.fault_code) for rule in rules):
                return f"ticket {cause.id}"
        return ""

    def _clocks(self, ticket: AnyRow, hidden: str, now: int) -> dict[str, Any]:
        """What changes of the two clocks."""
        rules = self._policy.clocks
        paused = bool(hidden) and rules.paused_while_hidden
        acknowledge = ticket.handling == Handling.NEW and not paused
        close = not paused and ticket.handling not in rules.paused_while_handling and ticket.condition not in rules.paused_while_condition
        changed: dict[str, Any] = {}
        for name, running in (("acknowledge", acknowledge), ("close", close)):
            clock = Clock(getattr(ticket, f"{name}_ms"), getattr(ticket, f"{name}_since_ms"))
            if running != (clock.since_ms is not None):
                turned = clock.turned(running, now)
                changed |= {f"{name}_ms": turned.elapsed_ms, f"{name}_since_ms": turned.since_ms}
        return changed


def silence_fits(silence: AnyRow, ticket: Mapping[str, Any] | Any) -> bool:
    """Whether what a silence names is this ticket's, or finding's, whatever its time and tier."""
    return (
        silence.vehicle in (None, ticket["vehicle"])
        and silence.model in (None, ticket["model"])
        and silence.pack_id in (None, ticket["pack_id"])
        and (silence.fault_code is None or fnmatchcase(ticket["fault_code"], silence.fault_code))
    )


_COLUMNS = (
    TicketRow.id,
    TicketRow.vehicle,
    TicketRow.model,
    TicketRow.pack_id,
    TicketRow.fault_code,
    TicketRow.tier,
    TicketRow.condition,
    TicketRow.condition_ms,
    TicketRow.handling,
    TicketRow.hidden_by,
    TicketRow.acknowledge_ms,
    TicketRow.acknowledge_since_ms,
    TicketRow.close_ms,
    TicketRow.close_since_ms,
    TicketRow.said,
    TicketRow.said_tier,
    TicketRow.said_ms,
)

# built once: they run for every group of findings
_OPEN_TICKETS = select(*_COLUMNS).where(TicketRow.vehicle == bindparam("the_vehicle"), text(OPEN)).order_by(TicketRow.id)
_ALL_OPEN_TICKETS = select(*_COLUMNS).where(text(OPEN)).order_by(TicketRow.vehicle, TicketRow.id)
_ALL_SILENCES = select(SilenceRow.__table__).where(
    SilenceRow.from_ms <= bindparam("the_now"), SilenceRow.to_ms > bindparam("the_now"), SilenceRow.ended_ms.is_(None)
)
_SILENCES = _ALL_SILENCES.where(SilenceRow.vehicle.is_(None) | (SilenceRow.vehicle == bindparam("the_vehicle")))
