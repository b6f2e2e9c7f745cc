"""`cansight tickets`, against a served API."""

import json
import os
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
