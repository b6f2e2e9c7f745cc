"""Tickets: one for each open fault of a vehicle, whatever the order, the repeats and the number of threads."""

import itertools
import sqlite3
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from example_fleet import FLOW, MODEL, OTHER, START_MS, VEHICLE, example_catalogue, finding

from cloud.tickets.errors import TicketError, TicketsUnusable
from cloud.tickets.policy import Condition, Handling, Span, Verdict, condition_of, may_move
from cloud.tickets.service import TicketService


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'tickets.db'}"


@pytest.fixture
def tickets(url: str) -> Iterator[TicketService]:
    with TicketService(url, {MODEL: example_catalogue()}, now_ms=lambda: START_MS) as service:
        yield service


def only(tickets: TicketService) -> tuple[Condition, Handling, int]:
    [ticket] = tickets.tickets()
    return ticket.condition, ticket.handling, ticket.occurrences


@pytest.mark.parametrize(
    ("spans", "condition"),
    [
        ([Span(1, None)], Condition.ACTIVE),
        ([Span(1, 2)], Condition.RECOVERED),
        ([Span(None, 2)], Condition.RECOVERED),
        ([Span(1, 2), Span(3, None)], Condition.ACTIVE),
        ([Span(1, None), Span(3, 4)], Condition.ACTIVE),
    ],
)
def test_a_ticket_is_active_while_any_of_its_findings_is(spans: list[Span], condition: Condition) -> None:
    assert condition_of(spans) is condition


def test_nothing_moves_out_of_closed() -> None:
    assert not any(may_move(Handling.CLOSED, to) for to in Handling)
    assert all(may_move(handling, Handling.CLOSED) for handling in Handling if handling is not Handling.CLOSED)


def test_a_finding_opens_a_ticket_with_words_and_evidence(tickets: TicketService) -> None:
    number = tickets.consume(finding())
    assert number is not None
    ticket = tickets.ticket(number)
    assert ticket is not None
    assert ticket.evidence is not None
    assert (ticket.vehicle, ticket.model, ticket.fault_code, ticket.tier) == (VEHICLE, MODEL, "coolant_leak", "unrated")
    assert (ticket.condition, ticket.handling, ticket.verdict, ticket.occurrences) == (Condition.ACTIVE, Handling.NEW, None, 1)
    assert ticket.fault_words == {"en": "Coolant leak in the battery loop", "zh": "电池冷却回路冷却液泄漏"}
    assert all(ticket.action.values())
    given = finding().finding
    assert (ticket.opened_ms, ticket.evidence.since_ms) == (given.tick_ms, given.since_ms)
    assert (ticket.evidence.score, ticket.evidence.threshold, ticket.evidence.p_value) == (given.score, given.threshold, given.p_value)
    assert [(one.signal, one.unit, one.expected, one.seen, one.share) for one in ticket.evidence.contributions] == [
        (one.signal, one.unit, one.expected, one.seen, one.share) for one in given.contributions
    ]
    assert ticket.evidence.contributions[0].signal == FLOW
    window = ticket.evidence.window
    assert (window.tick_ms, window.signals, window.values) == (given.window.tick_ms, given.window.signals, given.window.values)
    assert [(line.at_ms, line.actor, line.action) for line in ticket.history or []] == [(START_MS, "detector", "opened")]


def test_a_fault_that_the_catalogue_does_not_have_is_its_own_words(tickets: TicketService) -> None:
    tickets.consume(finding(fault_code="unheard_of"))
    [ticket] = tickets.tickets()
    assert ticket.fault_words["en"] == ticket.fault_words["zh"] == "unheard_of"


def test_a_repeat_changes_nothing(tickets: TicketService) -> None:
    assert tickets.consume(finding()) is not None
    assert tickets.consume(finding()) is None
    assert only(tickets) == (Condition.ACTIVE, Handling.NEW, 1)
    tickets.consume(finding(state="cleared"))
    assert tickets.consume(finding(state="cleared")) is None
    assert tickets.consume(finding()) is None
    assert only(tickets) == (Condition.RECOVERED, Handling.NEW, 1)


def test_clearing_recovers_and_leaves_the_handling_to_people(tickets: TicketService) -> None:
    number = tickets.consume(finding())
    assert tickets.consume(finding(state="cleared")) == number
    assert only(tickets) == (Condition.RECOVERED, Handling.NEW, 1)
    tickets.consume(finding(number=2))
    assert only(tickets) == (Condition.ACTIVE, Handling.NEW, 2)


@pytest.mark.parametrize("last_is_cleared", [True, False])
def test_any_order_of_arrival_gives_the_same_ticket(tickets: TicketService, last_is_cleared: bool) -> None:
    said = [(1, "active"), (1, "cleared"), (2, "active"), *([(2, "cleared")] if last_is_cleared else [])]
    expected = (Condition.RECOVERED if last_is_cleared else Condition.ACTIVE, Handling.NEW, 2)
    for vehicle, order in enumerate(itertools.permutations(said)):
        for number, state in (*order, order[0]):
            tickets.consume(finding(16 * vehicle + number, state, vehicle=f"{vehicle:016x}"))
        [ticket] = tickets.tickets(vehicle=f"{vehicle:016x}")
        assert (ticket.condition, ticket.handling, ticket.occurrences) == expected, order


def test_evidence_is_frozen_when_the_ticket_opens(tickets: TicketService) -> None:
    number = tickets.consume(finding(1, score=20.0))
    tickets.consume(finding(2, score=99.0, tick_ms=START_MS + 900_000))
    assert number is not None
    ticket = tickets.ticket(number)
    assert ticket is not None
    assert ticket.evidence is not None
    assert (ticket.evidence.score, ticket.opened_ms, ticket.occurrences) == (20.0, finding().finding.tick_ms, 2)


def test_other_vehicles_and_other_faults_have_tickets_of_their_own(tickets: TicketService) -> None:
    tickets.consume(finding(1))
    tickets.consume(finding(2, vehicle=OTHER))
    tickets.consume(finding(3, fault_code="other"))
    assert [(one.vehicle, one.fault_code) for one in tickets.tickets()] == [
        (VEHICLE, "other"),
        (OTHER, "coolant_leak"),
        (VEHICLE, "coolant_leak"),
    ]
    assert [one.fault_code for one in tickets.tickets(vehicle=OTHER)] == ["coolant_leak"]
    assert tickets.open_counts() == {VEHICLE: 2, OTHER: 1}


def test_after_closing_the_same_fault_opens_a_new_ticket(tickets: TicketService) -> None:
    first = tickets.consume(finding(1))
    assert first is not None
    tickets.handle(first, Handling.ACKNOWLEDGED, "ana")
    tickets.handle(first, Handling.CLOSED, "ana", Verdict.CONFIRMED)
    second = tickets.consume(finding(2))
    assert second not in (None, first)
    tickets.consume(finding(1, "cleared"))  # of the closed ticket's finding: the open one stays as it is
    assert [(one.id, one.condition, one.handling, one.verdict) for one in tickets.tickets()] == [
        (second, Condition.ACTIVE, Handling.NEW, None),
        (first, Condition.RECOVERED, Handling.CLOSED, Verdict.CONFIRMED),
    ]
    assert [one.id for one in tickets.tickets(handling=Handling.CLOSED)] == [first]
    assert tickets.open_counts() == {VEHICLE: 1}
    closed = tickets.ticket(first)
    assert closed is not None
    assert [(line.actor, line.action, line.detail) for line in closed.history or []] == [
        ("detector", "opened", "coolant-1"),
        ("ana", "acknowledged", ""),
        ("ana", "closed", "confirmed"),
        ("detector", "recovered", ""),
    ]


def test_a_ticket_cannot_be_reopened_nor_one_that_is_not_there_be_handled(tickets: TicketService) -> None:
    number = tickets.consume(finding())
    assert number is not None
    tickets.handle(number, Handling.CLOSED, "ana")
    with pytest.raises(TicketError, match="cannot go from 'closed' to 'new'"):
        tickets.handle(number, Handling.NEW, "ana")
    with pytest.raises(TicketError, match="ticket 99: there is no such ticket"):
        tickets.handle(99, Handling.CLOSED, "ana")
    assert tickets.ticket(99) is None


def test_many_findings_at_once_open_one_ticket(url: str) -> None:
    with TicketService(url) as one, TicketService(url) as other, ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda n: (one, other)[n % 2].consume(finding(n)), range(1, 41)))
        assert len(set(numbers)) == 1
        assert only(one) == (Condition.ACTIVE, Handling.NEW, 40)
        ticket = one.ticket(numbers[0] or 0)
        assert ticket is not None
        assert len(ticket.history or []) == 10  # one each to the eighth, then at 16 and 32


def test_one_finding_delivered_many_times_at_once_counts_once(url: str) -> None:
    with TicketService(url) as one, TicketService(url) as other, ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda n: (one, other)[n % 2].consume(finding()), range(24)))
        assert [number for number in numbers if number is not None] == [1]
        assert only(one) == (Condition.ACTIVE, Handling.NEW, 1)


def test_the_database_itself_refuses_a_second_open_ticket(tickets: TicketService, tmp_path: Path) -> None:
    tickets.consume(finding())
    with sqlite3.connect(tmp_path / "tickets.db") as db:
        copy = "INSERT INTO tickets SELECT NULL" + "".join(
            f", {row[1]}" for row in db.execute("PRAGMA table_info(tickets)") if row[1] != "id"
        )
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            db.execute(f"{copy} FROM tickets")
        with pytest.raises(sqlite3.IntegrityError, match="handling_known"):
            db.execute("UPDATE tickets SET handling = 'lost'")
    db.close()


def test_tickets_outlive_the_process_and_open_twice(url: str, tmp_path: Path) -> None:
    with TicketService(url) as tickets:
        tickets.consume(finding())
    with TicketService(url) as tickets:
        assert tickets.consume(finding()) is None
        assert only(tickets) == (Condition.ACTIVE, Handling.NEW, 1)
    assert stat.S_IMODE((tmp_path / "tickets.db").stat().st_mode) == 0o600


def test_the_constructor_touches_nothing(tmp_path: Path) -> None:
    service = TicketService(f"sqlite:///{tmp_path / 'none.db'}")
    assert not list(tmp_path.iterdir())
    with pytest.raises(TicketsUnusable, match="not open"):
        service.tickets()
    service.close()


def test_a_database_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database, and longer than one hundred bytes " * 4)
    for url, words in {
        f"sqlite:///{tmp_path}/missing/t.db": "No such file",
        f"sqlite:///{tmp_path}/text.db": "not a database",
        "sqlite://": "expected sqlite:// and a file",
        "mysql://user:secret@host/x": "expected sqlite:// and a file",
        "nonsense": "expected a database address",
    }.items():
        with pytest.raises(TicketsUnusable, match=words) as caught:
            TicketService(url).open()
        assert "\n" not in str(caught.value)
        assert "secret" not in str(caught.value)
