"""`docs/operators.md` as it is written: every command and click of it, in its order, on one demonstration with mosquitto and InfluxDB."""

import json
import os
import re
import signal
import string
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright import sync_api

import processes
import servers
from cansight.demo.stage import CAR_DBC
from cansight.main import main
from cloud import pki

expect = sync_api.expect

TEXT = (Path(__file__).parents[2] / "docs" / "operators.md").read_text(encoding="utf-8")
FLOW = "TMS_BatteryLoop.BatteryCoolantFlow"


class Day:
    """The document's steps, each of which must be the next one. `values`: what $NAMES stand for."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.values: dict[str, str] = {}
        self._capsys = capsys
        found = re.finditer(r"^```sh\n(.*?)^```|\*\*(.+?)\*\*", TEXT, re.DOTALL | re.MULTILINE)
        self.steps = [step[1].strip() if step[1] else f"click {step[2]}" for step in found if step[2] != "bold"]

    def next(self, step: str) -> str:
        """The document's next step, which begins so."""
        assert self.steps, f"the document ends before {step}"
        assert self.steps[0].startswith(step), f"the document goes on with {self.steps[0]!r}, not {step!r}"
        return self.steps.pop(0)

    def run(self, command: str, url: str = "") -> str:
        """Run it as it stands there; what it says."""
        words = string.Template(self.next(f"cansight {command}")).substitute(self.values)
        arguments = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', words)][1:]
        if arguments[0] == "tickets" and url:
            arguments[1:1] = ["--url", url]
        with pytest.raises(SystemExit) as done:
            main(arguments)
        said = self._capsys.readouterr()
        assert not done.value.code, (words, said.err)
        return said.out

    def click(self, locator: Any, words: str) -> None:
        self.next(f"click {words}")
        locator.click()


@pytest.fixture
def demonstration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[Day, str, Path]]:
    """The demonstration of the document, with its page's address and its log. The cars drive faster."""
    servers.program("mosquitto", "mosquitto")
    servers.program("influxd", "influxdb")
    day = Day(tmp_path, capsys)
    monkeypatch.chdir(tmp_path)
    command = day.next("cansight demo").split()[1:]
    log = tmp_path / "demo.log"
    with log.open("wb") as stream:
        faster = ["--port", str(servers.free_port()), "--speed", "20"]
        process = subprocess.Popen(
            [sys.executable, "-m", "cansight", *command, *faster], stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
        )
    try:

        def printed() -> str:
            found = re.search(r"The page: (\S+)", log.read_text())
            return found[1] if found else ""

        processes.until(lambda: bool(printed()) or process.poll() is not None, "the page")
        assert process.poll() is None, log.read_text()
        yield day, printed(), log
        assert process.poll() is None, log.read_text()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def lose_power(folder: Path) -> str:
    """A third vehicle, which drives a few seconds and then loses its power: its agent is killed. Its id."""
    cloud = tomllib.loads((folder / "day" / "cloud.toml").read_text())
    certificates = folder / "day" / "pki"
    vehicle = pki.vehicle(certificates)
    log = folder / "short.log"
    now = int(time.time()) - 10
    log.write_text("".join(f"({now + tick / 10:.6f}) can0 {0xA0:03X}#1122334455667788\n" for tick in range(60)))
    config = processes.edge_settings(
        folder,
        certificates,
        cloud["broker"]["port"],
        vehicle,
        log,
        list(CAR_DBC),
        run={"stop_when_drained": False},
        health={"status_s": 1.0},
    )
    agent = processes.cansight("edge", "run", "-c", config, log=folder / "silent.log")
    status = folder / vehicle / "status.json"

    def receipted() -> bool:
        try:
            said = json.loads(status.read_text())
            return bool(said["batches_receipted"] == said["batches_recorded"] > 0)
        except (OSError, ValueError):
            return False

    processes.until(lambda: receipted() or agent.poll() is not None, "its first batches")
    assert agent.poll() is None, (folder / "silent.log").read_text()
    agent.kill()
    agent.wait()
    return vehicle


def card(page: Any, title: str) -> Any:
    return page.locator(".card", has=page.get_by_role("heading", name=title, exact=True))


def seconds(ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ms / 1000))


@pytest.mark.timeout(300)
def test_an_operators_day(demonstration: tuple[Day, str, Path], monkeypatch: pytest.MonkeyPatch, chromium_path: str) -> None:
    day, address, log = demonstration
    url = address.partition("/#")[0]
    day.next("export CANSIGHT_TOKEN=$(cat day/operator.token)")
    monkeypatch.setenv("CANSIGHT_TOKEN", (day.folder / "day" / "operator.token").read_text())
    processes.TOKENS[url] = os.environ["CANSIGHT_TOKEN"]
    assert urlsplit(address).fragment == f"token={processes.TOKENS[url]}"
    silent = lose_power(day.folder)
    processes.until(lambda: "The page stays open" in log.read_text(), "the end of the drive")
    (ticket,) = processes.get(f"{url}/api/tickets?fault_code=coolant_leak")["tickets"]
    day.values |= {"TICKET": str(ticket["id"]), "VEHICLE": ticket["vehicle"], "SIGNAL": FLOW}
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-US")
        context.set_default_timeout(30_000)
        expect.set_options(timeout=30_000)
        page = context.new_page()
        page.goto(address)

        # who is silent?
        day.click(page.locator("a.figure", has_text="Silent vehicles"), "Silent vehicles")  # a link as soon as one is silent
        page.wait_for_url("**?state=silent")
        expect(page.locator(".fleet tbody tr", has_text=silent)).to_contain_text("silent for")
        day.click(page.locator(f"tbody a:has-text('{silent}')"), "vehicle")
        expect(page.locator(".about").first).to_contain_text("newest data")
        expect(card(page, "Versions")).to_contain_text("running")
        assert day.run("cloud quarantine list") == "the quarantine is empty\n"

        # take a ticket
        day.click(page.locator("nav a:has-text('Tickets')"), "Tickets")
        day.click(page.locator("tbody tr", has_text=ticket["vehicle"]).locator("a").first, "coolant leak")
        expect(page.locator("h1")).to_have_text("Coolant leak in the battery loop")
        expect(page.locator(".about")).to_contain_text("new")
        day.click(page.get_by_role("button", name="Acknowledge"), "Acknowledge")
        expect(page.locator(".about")).to_contain_text("acknowledged")
        day.click(page.get_by_role("button", name="Assign…"), "Assign…")
        expect(page.locator("dialog [name=to]")).to_have_value("demo")
        day.click(page.locator("dialog").get_by_role("button", name="Save"), "Save")
        expect(page.locator(".about")).to_contain_text("assigned to demo")

        # judge its evidence
        reason = page.locator(".reasons li").first
        expect(reason).to_contain_text(re.compile("seen; a healthy car shows .* too (low|high)"))
        expect(page.locator(".panels")).to_have_attribute("aria-label", re.compile("Anomaly score between"))
        shown = day.run("tickets show", url)
        assert "Coolant leak" in shown
        assert reason.locator("strong").inner_text() in shown
        day.click(card(page, "Facts").locator(f"a:has-text('{ticket['vehicle']}')"), "vehicle")
        expect(page.locator("h1")).to_have_text(ticket["vehicle"])
        expect(page.locator(".chart")).to_have_attribute("data-drawn", re.compile("[123]"))
        day.run("tickets comment", url)
        page.go_back()
        expect(page.locator(".history .said")).to_contain_text("looks like a leak")

        # schedule it
        day.click(page.get_by_role("button", name="Schedule…"), "Schedule…")
        page.fill("dialog [name=detail]", "Thursday 9:00, bay 2")
        day.click(page.locator("dialog").get_by_role("button", name="Save"), "Save")
        expect(page.locator(".about")).to_contain_text("scheduled")
        assert "in workshop" in day.run("tickets workshop", url)

        # close it with a verdict
        assert day.run("tickets precision", url) == "no ticket is closed\n"
        expect(page.locator(".about")).to_contain_text("in workshop")
        day.click(page.get_by_role("button", name="Close…"), "Close…")
        day.click(page.locator("dialog input[value=confirmed]"), "confirmed")
        page.fill("dialog [name=detail]", "Hose clamp loose")
        day.click(page.locator("dialog").get_by_role("button", name="Close", exact=True), "Close")
        expect(page.locator(".about")).to_contain_text("confirmed")

        # see precision move
        day.click(page.locator("nav a:has-text('Detectors')"), "Detectors")
        pack = ticket["pack_id"]
        expect(page.locator("tbody tr").first).to_contain_text(re.compile(f"{re.escape(pack)}.*100 %"))
        assert re.search(rf"^1 +0 +0 +100% +21% to 100% +unrated +{re.escape(pack)}$", day.run("tickets precision", url), re.MULTILINE)
        browser.close()

    # ask InfluxDB for the raw window
    window = processes.get(f"{url}/api/tickets/{ticket['id']}")["evidence"]["window"]["tick_ms"]
    day.values |= {"FROM": seconds(window[0]), "TO": seconds(window[-1] + 1000)}
    rows = day.run("cloud query raw_window").splitlines()
    assert rows[0].split() == ["time", FLOW]
    assert {row.split()[0] for row in rows[1:]} >= {seconds(ms) for ms in window}
    assert "nothing was altered, removed, reordered or cut off" in day.run("tickets audit verify")
    assert day.steps == []
