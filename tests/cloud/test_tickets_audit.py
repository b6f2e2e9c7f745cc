"""The audit trail: whatever is done to it behind the service's back is found."""

import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from example_fleet import OTHER, VEHICLE, finding
from sqlalchemy import text
from ticket_queue import DAY, Clock, ticket_queue

from cloud.tickets.errors import TicketsUnusable
from cloud.tickets.policy import Handling, Verdict
from cloud.tickets.service import TicketService

ON_BOTH = pytest.mark.parametrize("trail", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def trail(request: pytest.FixtureRequest, tmp_path: Path, make_tables: Callable[[str], str]) -> Iterator[tuple[TicketService, Clock, Path]]:
    """Two tickets that were worked on, one of them closed, and the first day's export."""
    with ticket_queue(tmp_path, url=make_tables(getattr(request, "param", "sqlite"))) as (tickets, clock):
        tickets.consume(finding(1))
        tickets.consume(finding(2, vehicle=OTHER))
        tickets.desk.assign(1, "ben", "ana")
        tickets.desk.comment(1, "the owner is abroad", "ben")
        tickets.handle(1, Handling.CLOSED, "ben", Verdict.CONFIRMED)
        assert tickets.audit.export_daily() is not None
        assert tickets.audit.export_daily() is None
        clock.on(DAY)
        yield tickets, clock, tmp_path / "audit"


def tamper(tickets: TicketService, *statements: str) -> list[str]:
    """Change the tables as somebody with a database client would; what verifying says then."""

    def work(db):  # type: ignore[no-untyped-def]
        for statement in statements:
            assert db.execute(text(statement)).rowcount

    tickets.tables.write(work)
    return [f"ticket {problem.ticket_id}: {problem.words}" for problem in tickets.audit.verify().problems]


@ON_BOTH
def test_an_untouched_trail_holds_and_its_key_is_private(trail: tuple[TicketService, Clock, Path]) -> None:
    tickets, clock, folder = trail
    tickets.consume(finding(2, "cleared", vehicle=OTHER))
    assert tickets.audit.export_daily() is not None
    clock.on(DAY)
    found = tickets.audit.verify()
    assert (found.problems, found.tickets, found.entries, found.exports, found.erased) == ([], 2, 6, 2, 0)
    assert stat.S_IMODE((folder / "audit.key").stat().st_mode) == 0o600
    assert [head.number for head in tickets.audit.heads()] == [3, 1]


ENTRY = 'UPDATE ticket_audit SET entry = replace(entry, \'"action":"comment"\', \'"action":"commend"\') WHERE number = 2'
GONE = ("DELETE FROM ticket_events WHERE ticket_id = 1 AND number = 3", "DELETE FROM ticket_audit WHERE ticket_id = 1 AND number = 3")


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        pytest.param([ENTRY], "entry 2: altered: its hash is another one", id="altered entry"),
        pytest.param(["DELETE FROM ticket_audit WHERE ticket_id = 1 AND number = 1"], "entry 1: removed", id="removed"),
        pytest.param(list(GONE), "cut off: the signed head is entry 3, the last one there is 2", id="cut off"),
        pytest.param(
            [*GONE, "UPDATE ticket_heads SET number = 2, hash = (SELECT hash FROM ticket_audit WHERE ticket_id = 1 AND number = 2)"],
            "the signature of its head is not one of a trusted key",
            id="cut off with its head",
        ),
        pytest.param(
            [
                "UPDATE ticket_audit SET number = 9 WHERE ticket_id = 1 AND number = 1",
                "UPDATE ticket_audit SET number = 1 WHERE ticket_id = 1 AND number = 2",
                "UPDATE ticket_audit SET number = 2 WHERE ticket_id = 1 AND number = 9",
            ],
            "entry 1: reordered: it was written as entry 2 of ticket 1",
            id="reordered",
        ),
        pytest.param(
            ["UPDATE ticket_audit SET ticket_id = 2, number = 1 WHERE ticket_id = 1 AND number = 1"],
            "entry 1: reordered: it was written as entry 1 of ticket 1",
            id="put elsewhere",
        ),
        pytest.param(
            [f"DELETE FROM ticket_{table} WHERE ticket_id = 1" for table in ("events", "audit", "heads")],
            "cut off: 2025-10-09.json names entry 3, the last one there is -1",
            id="all of a ticket's",
        ),
        pytest.param(["UPDATE ticket_events SET detail = 'at home' WHERE action = 'comment'"], "history line 2: altered", id="line"),
        pytest.param(["UPDATE ticket_events SET salt = NULL WHERE action = 'comment'"], "history line 2: altered", id="half erased"),
        pytest.param(["DELETE FROM ticket_events WHERE action = 'comment'"], "history line 2: removed", id="line removed"),
        pytest.param(
            ["UPDATE tickets SET verdict = 'false alarm' WHERE id = 1"],
            "its verdict was altered: 'false alarm', by its chain 'confirmed'",
            id="verdict",
        ),
        pytest.param(["UPDATE tickets SET evidence = '{}' WHERE id = 1"], "its evidence was altered", id="evidence"),
    ],
)
def test_what_is_done_behind_its_back_is_found(trail: tuple[TicketService, Clock, Path], statements: list[str], words: str) -> None:
    tickets, _, _ = trail
    assert any(words in line for line in tamper(tickets, *statements)), words


def test_a_whole_chain_written_anew_without_the_key_is_found(trail: tuple[TicketService, Clock, Path], tmp_path: Path) -> None:
    """An intruder who writes a chain by this very program has no key that anybody trusts."""
    tickets, _, folder = trail
    (folder / "audit.key").rename(tmp_path / "kept.key")
    (folder / "audit.pub").rename(tmp_path / "kept.pub")
    tickets.open()  # makes another key
    tickets.desk.comment(1, "nothing to see here", "mallory")
    (folder / "audit.pub").unlink()
    (tmp_path / "kept.pub").rename(folder / "audit.pub")
    assert any("the signature of its head" in problem.words for problem in tickets.audit.verify().problems)


def test_exports_that_were_altered_or_removed_are_found(trail: tuple[TicketService, Clock, Path]) -> None:
    tickets, clock, folder = trail
    for _ in range(2):
        tickets.audit.export_daily()
        clock.on(DAY)
    first, second, _ = sorted((folder / "heads").glob("*.json"))
    content = json.loads(first.read_text())
    content["heads"][0][1] = 2
    first.write_text(json.dumps(content))
    words = [problem.words for problem in tickets.audit.verify().problems]
    assert any(str(first) in line and "its signature is not" in line for line in words)
    assert any(str(second) in line and "was removed or altered" in line for line in words)
    second.unlink()
    assert any("was removed or altered" in problem.words for problem in tickets.audit.verify().problems)
    (folder / "audit.pub").unlink()
    with pytest.raises(TicketsUnusable, match=r"expected the audit's public key audit\.pub"):
        tickets.audit.verify()


@ON_BOTH
def test_a_person_is_forgotten_and_the_chain_holds(trail: tuple[TicketService, Clock, Path]) -> None:
    tickets, _, _ = trail
    assert tickets.audit.forget("ben") == 3
    ticket = tickets.ticket(1)
    assert ticket is not None
    assert "ben" not in str(ticket)
    assert "abroad" not in str(ticket)
    assert [line.erased for line in ticket.history or []] == [False, True, True, True]
    found = tickets.audit.verify()
    assert (found.problems, found.erased) == ([], 3)
    assert not any("ben" in entry.entry or VEHICLE in entry.entry for entry in tickets.audit.chain(1))
