"""A ticket's life: what opens it, hides it, tells of it, ends it; on one clock that the test turns."""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from example_fleet import MODEL, OTHER, START_MS, VEHICLE, finding
from sqlalchemy import Engine
from sqlalchemy import event as database_event
from ticket_queue import DAY, HOUR, MINUTE, SECOND, Clock, ticket_queue

from cloud.events import FindingEvent
from cloud.tickets.errors import NoSuchTicket, TicketError
from cloud.tickets.handling import Action
from cloud.tickets.policy import Condition, Handling, Tier, Verdict
from cloud.tickets.service import Ticket, TicketService
from cloud.tickets.settings import Prognosis
from cloud.tickets.silences import SilenceRequest
from cloud.tickets.views import TicketFilter
from cloud.tickets.watch import Heard

SOAK = bool(os.environ.get("CANSIGHT_SOAK"))
RED = [Prognosis(0.95, 48 * HOUR, True, "prognosis-1")]
YELLOW = [Prognosis(0.7, 7 * DAY, True, "prognosis-1")]


@pytest.fixture(params=["sqlite", "postgresql"])
def queue(request: pytest.FixtureRequest, tmp_path: Path, make_tables: Callable[[str], str]) -> Iterator[tuple[TicketService, Clock]]:
    with ticket_queue(tmp_path, url=make_tables(request.param)) as made:
        yield made


def said(number: int, state: str = "active", level: str = "ticket", vehicle: str = VEHICLE, pack: str = "", **more: Any) -> FindingEvent:
    event = finding(number, state, vehicle, **more)
    return replace(event, finding=msgspec.structs.replace(event.finding, level=level, pack_id=pack or event.finding.pack_id))


def one(tickets: TicketService, number: int | None) -> Ticket:
    assert number is not None
    ticket = tickets.ticket(number)
    assert ticket is not None
    return ticket


def told(tickets: TicketService, number: int | None) -> list[str]:
    return [row.event for row in one(tickets, number).notifications or []]


def test_ten_thousand_findings_at_once_are_one_ticket(queue: tuple[TicketService, Clock]) -> None:
    tickets, _ = queue
    events = [finding(number) for number in range(1, (10_000 if SOAK else 1_000) + 1)]
    started = time.perf_counter()
    with ThreadPoolExecutor(128) as pool:
        numbers = set(pool.map(tickets.consume, events))
    took = time.perf_counter() - started
    assert numbers == {1}
    assert one(tickets, 1).occurrences == len(events)
    assert told(tickets, 1) == ["opened"]
    assert len(one(tickets, 1).history or []) <= 18
    print(f"{len(events)} findings from 128 threads: {took:.1f} s, {len(events) / took:.0f}/s")


def test_a_finding_that_flaps_for_an_hour_is_one_ticket_and_told_of_twice(queue: tuple[TicketService, Clock]) -> None:
    tickets, clock = queue
    events = []
    lasting = 3600 if SOAK else 600
    for second in range(lasting):
        at = clock.ms + second * SECOND
        events.append(said(1 + second // 2, "active" if second % 2 == 0 else "cleared", tick_ms=at))
    for event in events:
        tickets.consume(event)
        clock.on(SECOND)
    assert [ticket.flapping for ticket in tickets.tickets()] == [True]
    assert told(tickets, 1) == ["opened"]
    clock.on(10 * MINUTE)
    tickets.watch.pulse()
    assert told(tickets, 1) == ["opened", "recovered"]
    ticket = one(tickets, 1)
    assert (ticket.occurrences, ticket.condition, ticket.flapping) == (lasting // 2, Condition.RECOVERED, False)
    assert "flapping" in [line.action for line in ticket.history or []]
    assert len(ticket.history or []) < 60


@pytest.mark.parametrize("cleared", [True, False])
def test_what_was_only_seen_opens_nothing_until_it_is_confirmed_in_any_order(queue: tuple[TicketService, Clock], cleared: bool) -> None:
    tickets, _ = queue
    seen: dict[str, Any] = {"level": "seen", "tick_ms": START_MS}
    confirmed: dict[str, Any] = {"level": "ticket", "tick_ms": START_MS + DAY, "score": 44.0}
    events = [seen, confirmed, *([{"state": "cleared", "tick_ms": START_MS + 2 * DAY}] if cleared else [])]
    for number, order in enumerate(itertools.permutations(events), 1):
        vehicle = f"{number:016x}"
        numbers = {tickets.consume(said(number, vehicle=vehicle, **event)) for event in (*order, *order)}
        assert numbers <= {None, number}
        ticket = one(tickets, number)
        assert (ticket.vehicle, ticket.occurrences) == (vehicle, 1)
        assert ticket.condition == (Condition.RECOVERED if cleared else Condition.ACTIVE)
        assert ticket.evidence is not None
        assert ticket.evidence.score == 44.0  # the confirming message's
        assert [(view.raised_ms, view.level) for view in tickets.queue.findings(vehicle, 0, 1 << 53)] == [(START_MS, "ticket")]


def test_a_finding_below_ticket_level_is_kept_and_makes_an_open_ticket_pending(queue: tuple[TicketService, Clock]) -> None:
    tickets, _ = queue
    assert tickets.consume(said(1, level="seen")) is None
    assert tickets.tickets() == []
    assert [(view.held, view.ticket_id) for view in tickets.queue.findings(VEHICLE, 0, 1 << 53)] == [("level", None)]
    number = tickets.consume(said(2, tick_ms=START_MS + 10 * MINUTE))
    tickets.consume(said(2, "cleared", tick_ms=START_MS + 20 * MINUTE))
    tickets.consume(said(3, level="seen", tick_ms=START_MS + 30 * MINUTE))
    ticket = one(tickets, number)
    assert (ticket.condition, ticket.occurrences) == (Condition.PENDING, 1)


def test_what_a_pack_raised_later_takes_the_place_of_what_it_never_cleared(queue: tuple[TicketService, Clock]) -> None:
    tickets, _ = queue
    number = tickets.consume(said(1, tick_ms=START_MS))  # the agent lost its power here
    tickets.consume(said(2, tick_ms=START_MS + DAY))
    tickets.consume(said(2, "cleared", tick_ms=START_MS + DAY + MINUTE))
    assert one(tickets, number).condition is Condition.RECOVERED
    tickets.consume(said(3, pack="coolant-2", tick_ms=START_MS + DAY))
    assert one(tickets, number).condition is Condition.ACTIVE  # another pack speaks for itself


def test_a_ticket_that_opens_again_is_linked_to_the_one_before(queue: tuple[TicketService, Clock]) -> None:
    tickets, clock = queue
    numbers = []
    for count in range(3):
        numbers.append(tickets.consume(said(count + 1, tick_ms=clock.ms)))
        tickets.handle(numbers[-1] or 0, Handling.CLOSED, "ana", Verdict.CONFIRMED)
        clock.on(DAY)
    assert [link.id for link in one(tickets, numbers[1]).linked or []] == [numbers[0], numbers[2]]
    assert one(tickets, numbers[2]).reopened_from == numbers[1]
    clock.on(90 * DAY)
    late = tickets.consume(said(9, tick_ms=clock.ms))
    assert one(tickets, late).reopened_from is None


def test_a_false_alarm_is_held_off_until_fourteen_days_after_it_clears(queue: tuple[TicketService, Clock]) -> None:
    tickets, clock = queue
    first = tickets.consume(said(1, tick_ms=clock.ms)) or 0
    tickets.handle(first, Handling.CLOSED, "ana", Verdict.FALSE_ALARM)
    clock.on(20 * DAY)
    assert tickets.consume(said(2, pack="coolant-2", tick_ms=clock.ms)) is None  # the first has not cleared yet
    tickets.consume(said(2, "cleared", pack="coolant-2", tick_ms=clock.on(HOUR)))
    tickets.consume(said(1, "cleared", tick_ms=clock.ms))
    assert tickets.consume(said(3, tick_ms=clock.on(13 * DAY))) is None
    tickets.watch.pulse()
    assert [ticket.id for ticket in tickets.tickets()] == [first]
    clock.on(2 * DAY)  # it is still active when the hold-off ends
    tickets.watch.pulse()
    again, _ = tickets.tickets()
    assert (again.reopened_from, again.condition, told(tickets, again.id)) == (first, Condition.ACTIVE, ["opened"])
    assert [view.held for view in tickets.queue.findings(VEHICLE, 0, 1 << 53)] == ["", "hold-off, over", ""]


def test_a_rising_tier_ends_a_hold_off_and_another_verdict_takes_it_back(queue: tuple[TicketService, Clock]) -> None:
    tickets, clock = queue
    first = tickets.consume(said(1, tick_ms=clock.ms)) or 0
    tickets.consume(said(1, "cleared", tick_ms=clock.on(MINUTE)))
    tickets.handle(first, Handling.CLOSED, "ana", Verdict.FALSE_ALARM)
    assert tickets.consume(said(2, tick_ms=clock.on(DAY))) is None
    assert tickets.rating.rate(VEHICLE, "coolant_leak", [Prognosis(0.99, HOUR, False, "not calibrated")]) is None
    second = tickets.rating.rate(VEHICLE, "coolant_leak", RED)
    assert (one(tickets, second).tier, one(tickets, second).probability) == (Tier.RED, 0.95)
    other = tickets.consume(said(5, vehicle=OTHER, tick_ms=clock.ms)) or 0
    tickets.handle(other, Handling.CLOSED, "ana", Verdict.FALSE_ALARM)
    tickets.desk.judge(other, Verdict.CONFIRMED, "ana", "the workshop found it after all")
    assert tickets.consume(said(6, vehicle=OTHER, tick_ms=clock.on(DAY))) not in (None, other)


def test_a_silence_shows_first_what_it_would_hide_and_hides_no_red(queue: tuple[TicketService, Clock]) -> None:
    tickets, clock = queue
    first, other = tickets.consume(said(1)), tickets.consume(said(2, vehicle=OTHER))
    tickets.rating.rate(OTHER, "coolant_leak", RED)
    asked = SilenceRequest(clock.ms, clock.ms + DAY, "a recall is on its way", fault_code="coolant_*")
    preview = tickets.silences.preview(asked)
    assert ([brief.id for brief in preview.open], preview.red, preview.past_tickets, preview.past_vehicles) == ([first], 1, 2, 2)
    assert all(not ticket.hidden_by for ticket in tickets.tickets())
    silence = tickets.silences.make("silence", asked, "ana")
    assert [(ticket.id, ticket.hidden_by) for ticket in tickets.tickets()] == [(other, ""), (first, f"silence {silence.id}")]
    assert one(tickets, first).acknowledge.paused
    third = tickets.consume(said(3, vehicle="ffff", tick_ms=clock.ms))
    assert told(tickets, third) == []
    clock.on(DAY)
    tickets.watch.pulse()
    assert (told(tickets, third), one(tickets, third).hidden_by) == (["opened"], "")
    assert [made.state for made in tickets.silences.list(over=True)] == ["over"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fault_code": None}, "would hide everything"),
        ({"fault_code": "*"}, "would hide everything"),
        ({"reason": " "}, "reason: expected some words"),
        ({"to_ms": START_MS - 1}, "expected a time after from_ms"),
        ({"to_ms": START_MS + 91 * DAY}, "expected at most 90d"),
    ],
)
def test_a_silence_that_makes_no_sense_is_refused(queue: tuple[TicketService, Clock], change: dict[str, Any], words: str) -> None:
    asked = msgspec.structs.replace(SilenceRequest(START_MS, START_MS + DAY, "recall", fault_code="coolant_leak"), **change)
    with pytest.raises(TicketError, match=words.replace("(", "\\(")):
        queue[0].silences.make("silence", asked, "ana")


def test_findings_in_a_maintenance_window_open_nothing_unless_they_last(queue: tuple[TicketService, Clock]) -> None:
    tickets, clock = queue
    with pytest.raises(TicketError, match="expected a vehicle"):
        tickets.silences.make("maintenance", SilenceRequest(clock.ms, clock.ms + HOUR, "workshop", model=MODEL), "ana")
    window = tickets.silences.make("maintenance", SilenceRequest(clock.ms, clock.ms + HOUR, "workshop", vehicle=VEHICLE), "ana")
    assert tickets.consume(said(1, tick_ms=clock.on(MINUTE))) is None
    tickets.consume(said(1, "cleared", tick_ms=clock.on(MINUTE)))
    assert tickets.consume(said(2, fault_code="brake_drag", tick_ms=clock.ms)) is None
    assert tickets.consume(said(3, vehicle=OTHER, tick_ms=clock.ms)) == 1
    clock.on(HOUR)
    assert tickets.consume(said(4, fault_code="motor_bearing_worn", tick_ms=window.to_ms - 1)) is None  # it came late
    tickets.watch.pulse()
    assert sorted(ticket.fault_code for ticket in tickets.tickets(VEHICLE)) == ["brake_drag", "motor_bearing_worn"]
    with pytest.raises(NoSuchTicket):
        tickets.silences.end(window.id, "maintenance", "ana")


def test_a_low_12_v_battery_hides_its_consequences_in_any_order_until_it_is_over(queue: tuple[TicketService, Clock]) -> None:
    tickets, clock = queue
    before = tickets.consume(said(1, fault_code="sensor_dropout"))
    cause = tickets.consume(said(2, fault_code="low_voltage_battery_weak"))
    codes = [f"sensor_{number}" for number in range(20)]
    hidden = [tickets.consume(said(10 + number, fault_code=code)) for number, code in enumerate(codes)]
    other = tickets.consume(said(3, vehicle=OTHER, fault_code="sensor_dropout"))
    leak = tickets.consume(said(4))
    shown = tickets.queue.page(TicketFilter(hidden=False)).tickets
    assert {ticket.id for ticket in shown} == {cause, other, leak}
    assert {one(tickets, number).hidden_by for number in (before, *hidden)} == {f"ticket {cause}"}
    assert told(tickets, before) == ["opened"]  # it was told before its cause was known
    assert [told(tickets, number) for number in hidden] == [[]] * 20
    for number, code in enumerate(codes[1:], 11):
        tickets.consume(said(number, "cleared", fault_code=code))
    tickets.consume(said(2, "cleared", fault_code="low_voltage_battery_weak"))
    clock.on(10 * MINUTE)
    tickets.watch.pulse()
    assert [told(tickets, number) for number in hidden] == [["opened"]] + [[]] * 19  # one is still there, the others never were a matter
    assert not any(ticket.hidden_by for ticket in tickets.tickets())


def test_a_quiet_fleet_costs_as_many_questions_whatever_its_size(tmp_path: Path) -> None:
    with ticket_queue(tmp_path) as (tickets, clock):
        questions: list[str] = []

        def note(*given: Any) -> None:
            questions.append(given[2])

        def asked() -> int:
            questions.clear()
            tickets.watch.pulse({vehicle: Heard(clock.ms) for vehicle in tickets.open_counts()})
            tickets.queue.groups()
            return len(questions)

        tickets.consume(said(0))
        database_event.listen(Engine, "before_cursor_execute", note)
        asked()  # the day's first exports the audit's heads, too
        few = asked()
        tickets.consume_all([said(number, vehicle=f"{number:016x}", fault_code=f"fault_{number % 7}") for number in range(1, 120)])
        assert asked() == few
        database_event.remove(Engine, "before_cursor_execute", note)
        plan = "EXPLAIN QUERY PLAN " + next(one for one in questions if "ticket_findings.held" in one and "LIKE" in one)
        with tickets.tables.reading() as db:
            steps = [row[3] for row in db.exec_driver_sql(plan, ("level", "level", "%, over", "ticket"))]
        assert all("held_findings" in step for step in steps if "ticket_findings" in step), steps
        tickets.silences.make("silence", SilenceRequest(clock.ms, clock.ms + HOUR, "recall", fault_code="fault_3"), "ana")
        hidden = [ticket for ticket in tickets.tickets() if ticket.hidden_by]
        assert {ticket.fault_code for ticket in hidden} == {"fault_3"}
        assert len(hidden) == 17


def test_no_data_is_not_recovery(queue: tuple[TicketService, Clock]) -> None:
    tickets, clock = queue
    leak = tickets.consume(said(1))
    drag = tickets.consume(said(2, fault_code="brake_drag"))
    tickets.consume(said(2, "cleared", fault_code="brake_drag"))
    worn = tickets.consume(said(3, fault_code="motor_bearing_worn"))
    tickets.watch.pulse({VEHICLE: Heard(clock.ms)})
    last = clock.ms
    clock.on(16 * MINUTE)
    tickets.watch.pulse({VEHICLE: Heard(last, asleep=True)})
    assert one(tickets, leak).condition is Condition.ACTIVE  # it sleeps
    tickets.watch.pulse({VEHICLE: Heard(last)})
    conditions = [one(tickets, number).condition for number in (leak, drag, worn)]
    assert conditions == [Condition.NO_DATA, Condition.RECOVERED, Condition.NO_DATA]
    assert one(tickets, leak).close.paused
    assert not one(tickets, leak).acknowledge.paused
    tickets.consume(said(3, "cleared", fault_code="motor_bearing_worn", tick_ms=clock.ms))  # it speaks again
    tickets.watch.pulse({VEHICLE: Heard(clock.ms)})
    conditions = [one(tickets, number).condition for number in (leak, drag, worn)]
    assert conditions == [Condition.ACTIVE, Condition.RECOVERED, Condition.RECOVERED]
    assert told(tickets, leak) == ["opened"]


def test_the_clocks_run_by_tier_and_pause_for_an_appointment(queue: tuple[TicketService, Clock]) -> None:
    tickets, clock = queue
    number = tickets.consume(said(1)) or 0
    clock.on(20 * MINUTE)
    assert not one(tickets, number).acknowledge.breached  # unrated: a day
    tickets.rating.rate(VEHICLE, "coolant_leak", RED)
    assert one(tickets, number).acknowledge.breached  # red: a quarter of an hour, and what has passed counts
    tickets.handle(number, Handling.ACKNOWLEDGED, "ana")
    clock.on(HOUR)
    tickets.handle(number, Handling.SCHEDULED, "ana", detail="Monday 9:00")
    clock.on(5 * DAY)
    ticket = one(tickets, number)
    assert (ticket.acknowledge.done, ticket.acknowledge.elapsed_ms) == (True, 20 * MINUTE)
    assert (ticket.close.paused, ticket.close.elapsed_ms, ticket.close.due_ms) == (True, 80 * MINUTE, None)
    tickets.handle(number, Handling.IN_WORKSHOP, "ana")
    assert one(tickets, number).close.due_ms == clock.ms + 2 * DAY - 80 * MINUTE
    tickets.handle(number, Handling.CLOSED, "ana", Verdict.CONFIRMED)
    clock.on(DAY)
    assert one(tickets, number).close.elapsed_ms == 80 * MINUTE


def test_an_owners_budget_withholds_yellow_and_never_red(queue: tuple[TicketService, Clock]) -> None:
    tickets, clock = queue
    for number, code in enumerate(["coolant_leak", "brake_drag", "motor_bearing_worn", "insulation_low"], 1):
        tickets.consume(said(number, fault_code=code))
    tickets.rating.rate(VEHICLE, "coolant_leak", YELLOW)
    [due] = tickets.outbox.owner_due()
    assert (due.event, due.tier, due.owner_ways) == ("tier raised", Tier.YELLOW, ["app"])
    tickets.rating.rate(VEHICLE, "brake_drag", YELLOW)
    budget = tickets.outbox.budget(VEHICLE)
    assert (budget.pushes, budget.warnings) == (1, 1)
    assert [row.owner_reason for row in budget.withheld] == ["withheld by budget: 1 pushes in 7 days, at most 1"]
    tickets.rating.rate(VEHICLE, "motor_bearing_worn", RED)  # displaces the yellow one that has not gone out yet
    assert [(row.tier, row.owner_ways) for row in tickets.outbox.owner_due()] == [(Tier.RED, ["push", "phone"])]
    assert [row.owner_state for row in tickets.outbox.budget(VEHICLE).withheld] == ["displaced", "withheld"]
    tickets.rating.rate(VEHICLE, "insulation_low", RED)
    assert len(tickets.outbox.owner_due()) == 2
    for row in tickets.outbox.owner_due():
        tickets.outbox.owner_sent(row.id)
    tickets.consume(said(2, "cleared", fault_code="brake_drag"))
    clock.on(8 * DAY)
    tickets.watch.pulse()
    assert tickets.outbox.owner_due() == []  # two warnings this month
    clock.on(23 * DAY)
    tickets.watch.pulse()
    assert [row.ticket_id for row in tickets.outbox.owner_due()] == [1]
    assert tickets.outbox.withheld() == []  # the brake's has recovered meanwhile and was dropped
    dropped = [row.owner_state for row in one(tickets, 2).notifications or []]
    assert dropped == ["none", "dropped", "none"]


def test_people_assign_comment_and_judge_one_or_many(queue: tuple[TicketService, Clock]) -> None:
    tickets, clock = queue
    first, second = tickets.consume(said(1)) or 0, tickets.consume(said(2, vehicle=OTHER)) or 0
    tickets.desk.assign(first, "ben", "ana")
    tickets.desk.comment(first, "the owner is abroad", "ana")
    assert [ticket.id for ticket in tickets.queue.page(TicketFilter(assignee="ben")).tickets] == [first]
    assert [ticket.id for ticket in tickets.queue.page(TicketFilter(text="BEN")).tickets] == [first]
    assert [ticket.id for ticket in tickets.queue.page(TicketFilter(assignee="")).tickets] == [second]
    done = tickets.desk.bulk([first, 99, second], Action(to=Handling.CLOSED, verdict=Verdict.NO_FAULT_FOUND), "ana")
    assert [(result.id, result.error) for result in done] == [(first, None), (99, "ticket 99: there is no such ticket"), (second, None)]
    tickets.desk.judge(first, Verdict.CONFIRMED, "ben", "the hose was loose")
    history = [(line.actor, line.action, line.detail) for line in one(tickets, first).history or []]
    assert history[1:] == [
        ("ana", "assigned", "ben"),
        ("ana", "comment", "the owner is abroad"),
        ("ana", "closed", "no fault found"),
        ("ben", "verdict", "confirmed: the hose was loose"),
    ]
    [precision] = tickets.queue.precision()
    assert (precision.pack_id, precision.tier, precision.right, precision.wrong, precision.share) == ("coolant-1", "unrated", 1, 1, 0.5)
    assert 0 < precision.low < 0.5 < precision.high < 1
    assert tickets.queue.precision(from_ms=clock.ms + 1) == []
    with pytest.raises(TicketError, match="expected one of to"):
        tickets.desk.bulk([first], Action(), "ana")
    fresh = tickets.consume(said(3, tick_ms=START_MS + HOUR)) or 0
    with pytest.raises(TicketError, match="a verdict comes with closing it, or after"):
        tickets.desk.judge(fresh, Verdict.CONFIRMED, "ana")


def test_the_queue_in_pages_groups_and_likenesses(queue: tuple[TicketService, Clock]) -> None:
    tickets, _ = queue
    for number in range(7):
        tickets.consume(said(number + 1, vehicle=f"{number:016x}"))
    tickets.consume(said(20, vehicle=VEHICLE, fault_code="brake_drag"))
    seen, cursor = [], None
    while True:
        page = tickets.queue.page(limit=3, cursor=cursor)
        seen += [ticket.id for ticket in page.tickets]
        if (cursor := page.next) is None:
            break
    assert seen == [8, 7, 6, 5, 4, 3, 2, 1]
    assert page.counts == {"new": 8, "acknowledged": 0, "scheduled": 0, "in workshop": 0, "closed": 0}
    leak, drag = tickets.queue.groups()
    assert (leak.fault_code, leak.vehicles, leak.fleet_wide, leak.tickets[0]) == ("coolant_leak", 7, True, 7)
    assert (drag.fault_code, drag.vehicles, drag.fleet_wide) == ("brake_drag", 1, False)
    similar = tickets.queue.similar(1)
    assert {(like.ticket.id, like.likeness) for like in similar} == {(number, 1.0) for number in range(2, 9)}
    assert tickets.queue.similar(1, which=TicketFilter(vehicle=VEHICLE))[0].ticket.id == 8
    changes = tickets.queue.changes(0)
    assert [change.action for change in changes] == ["opened"] * 8
    assert tickets.queue.changes(changes[5].id)[0].ticket_id == 7
    saved = tickets.filters.save("ana", "leaks", {"fault_code": "coolant_leak"})
    assert tickets.filters.list("ana") == [saved]
    with pytest.raises(NoSuchTicket):
        tickets.filters.delete("ben", saved.id)
