"""`cansight tickets`, against a served API."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from example_fleet import OTHER, TOKENS, VEHICLE, example_fleet, finding

from cloud.tickets.service import TicketService


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[tuple[str, TicketService]]:
    with example_fleet(tmp_path, 5) as (url, _, tickets, _):
        yield url, tickets


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"CANSIGHT_TOKEN": next((TOKENS[one] for one in arguments if one in TOKENS), "")}
    command = [sys.executable, "-m", "cansight", "tickets", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_list_and_show(fleet: tuple[str, TicketService]) -> None:
    url, tickets = fleet
    tickets.consume(finding(2, vehicle=OTHER, fault_code="\x1b[31mred"))
    listed = run("--url", url, "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert [line.split()[:2] for line in listed.stdout.splitlines()] == [["ID", "VEHICLE"], ["2", OTHER], ["1", VEHICLE]]
    assert "\x1b" not in listed.stdout  # a vehicle's words must not steer the terminal
    assert [one["id"] for one in json.loads(run("--url", url, "list", "--vehicle", VEHICLE, "--json").stdout)] == [1]
    assert run("--url", url, "list", "--handling", "closed").stdout == "no tickets\n"
    shown = run("--url", url, "show", "1").stdout
    assert "Ticket 1: Coolant leak in the battery loop\n" in shown
    assert "10.41     9.52  l/min  58%    Battery coolant flow (TMS_BatteryLoop.BatteryCoolantFlow)\n" in shown
    assert json.loads(run("--url", url, "show", "1", "--json").stdout)["evidence"]["threshold"] == 12.5
    assert "Coolant leak in the battery loop: Battery coolant flow is too low\n" in shown
    assert "Battery coolant flow: 9.52 l/min seen; a healthy car shows about 10.41 l/min at this operating point, so it is " in shown
    assert "在此工况下，正常车辆约为10.41 l/min" in run("--url", url, "show", "1", "--lang", "zh").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["show", "99"], 2, "ticket 99: there is no such ticket"),
        (["--url", "nonsense", "list"], 2, "--url: expected an address such as http://127.0.0.1:8460, found 'nonsense'"),
        (["list", "--handling", "lost"], 2, "'lost' is not one of"),
        (["--url", "http://127.0.0.1:1", "list"], 1, "http://127.0.0.1:1: no answer"),
    ],
)
def test_what_goes_wrong_is_one_line(fleet: tuple[str, TicketService], arguments: list[str], code: int, words: str) -> None:
    url = [] if "--url" in arguments else ["--url", fleet[0]]
    result = run(*url, *arguments)
    assert (result.returncode, result.stdout) == (code, "")
    assert result.stderr.startswith("cansight: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_ticket_is_worked_to_its_end_and_counted(fleet: tuple[str, TicketService]) -> None:
    url, tickets = fleet
    for arguments, says in (
        (["ack", "1", "--note", "on it"], "ticket 1: acknowledged\n"),
        (["assign", "1", "ben"], "ticket 1: ben's\n"),
        (["close", "1", "--verdict", "confirmed"], "ticket 1: closed, confirmed\n"),
        (["verdict", "1", "false alarm"], "ticket 1: false alarm\n"),
    ):
        assert run("--url", url, *arguments).stdout == says
    ticket = tickets.ticket(1)
    assert ticket is not None
    assert [line.action for line in ticket.history or []] == ["opened", "acknowledged", "assigned", "closed", "verdict", "held off"]
    assert run("--url", url, "precision").stdout.splitlines()[1].split()[:4] == ["0", "1", "0", "0%"]
    tickets.consume(finding(2, vehicle=OTHER))
    silence = ["--fault-code", "coolant_*", "--for", "2h", "--reason", "recall"]
    assert run("--url", url, "silence", "preview", *silence).stdout.startswith("it would hide 1 open tickets: 2\n")
    assert run("--url", url, "silence", "make", *silence).stdout.startswith("silence 1: from ")
    assert "hidden by   silence 1\n" in run("--url", url, "show", "2").stdout
    listed = run("--url", url, "list").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["ID", "1", "1"]
    assert listed[-1] == "1 hidden by a silence, a maintenance window or their cause; --hidden lists them"
    assert [line.split()[0] for line in run("--url", url, "list", "--hidden").stdout.splitlines()] == ["ID", "2"]


def test_the_audit_is_verified_without_the_api(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    settings = tmp_path / "cloud.toml"
    broker = 'ca = "x"\ncertificate = "x"\nkey = "x"'
    settings.write_text(
        f'state = "state"\nfleet_ca = "x"\nrecipient_keys = ["x"]\n[broker]\n{broker}\n[[vehicle_model]]\nname = "m"\ndbc = ["x"]\n'
    )
    database = tmp_path / "state" / "cansight.db"
    with TicketService(f"sqlite:///{database}", audit_folder=tmp_path / "state" / "audit") as tickets:
        tickets.consume(finding())
    good = run("audit", "verify", "-c", str(settings))
    assert (good.returncode, good.stdout.splitlines()[-1]) == (0, "nothing was altered, removed, reordered or cut off")
    exported = run("audit", "export", "-c", str(settings)).stdout.strip()
    assert Path(exported).parent == tmp_path / "state" / "audit" / "heads"
    with contextlib.closing(sqlite3.connect(database)) as db, db:
        db.execute("UPDATE ticket_events SET actor = 'somebody else'")
    bad = run("audit", "verify", "-c", str(settings))
    assert bad.returncode == 1
    assert bad.stdout.startswith("ticket 1: history line 0: altered\n")
    assert bad.stderr == "cansight: 1 things are wrong with the audit trail\n"
