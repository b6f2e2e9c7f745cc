"""The console in a real browser: what operators and service advisors do with it, from the fleet to a closed ticket."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from console import DESK, chromium, drawn, expect, visit
from example_fleet import FLOW, INLET, OTHER, START_MS, TOKENS, VEHICLE, Drive, example_fleet, finding, served
from ticket_queue import policy_of

from cloud.api import Backend
from cloud.quarantine import Kept, Quarantine, Source
from cloud.roles import Role
from cloud.store import Series, SignalValue, Store, VehicleSummary
from cloud.tickets.policy import Handling, Verdict
from cloud.tickets.service import TicketService
from cloud.tokens import Tokens

Fleet = tuple[str, Store, TicketService, Drive]


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Any]:
    with chromium(chromium_path) as browser:
        yield browser


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with example_fleet(tmp_path) as fleet:
        yield fleet


def test_a_token_in_the_address_or_typed_logs_in_and_is_seen_nowhere(browser: Any, fleet: Fleet) -> None:
    url, token = fleet[0], TOKENS[fleet[0]]
    context = browser.new_context(viewport=DESK)
    page = context.new_page()
    page.goto(f"{url}/#token={token}")
    expect(page.locator("h1")).to_have_text("Fleet")
    expect(page).not_to_have_url(re.compile(re.escape(token)))
    assert page.evaluate("document.cookie") == ""
    context.clear_cookies()  # the session is over: the page asks for a token again
    page.fill("#token", "wrong")
    page.keyboard.press("Enter")
    expect(page.locator("[role=alert]")).to_contain_text("not known")
    page.fill("#token", token)
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Fleet")
    page.click("button[aria-label='Sign out']")
    expect(page.locator("#token")).to_be_visible()
    page.reload()
    expect(page.locator("#token")).to_be_visible()
    context.close()


def test_from_the_fleet_to_a_signals_chart(browser: Any, fleet: Fleet) -> None:
    url, store, _, drive = fleet
    with visit(browser, url) as page:
        # who is silent comes first
        expect(page.locator(".fleet tbody tr").first).to_contain_text(re.compile(f"{OTHER}.*silent for"))
        page.click(f"tbody a:has-text('{VEHICLE}')")
        expect(page.locator("h1")).to_have_text(VEHICLE)
        expect(page.locator(".signals li")).to_have_count(len(store.signals(VEHICLE)))
        drawn(page, 3)  # the open ticket's contributors
        page.fill("#search", "coolant inlet °C")
        expect(page.locator(".signals li:visible .words").first).to_have_text("Battery coolant temperature, inlet")
        assert 0 < page.locator(".signals li:visible").count() < 10
        page.fill("#search", "ambient temperature")
        page.locator(".signals li:visible label").first.click()
        drawn(page, 4)
        expect(page.locator(".panels")).to_have_attribute("aria-label", re.compile("°C"))
        expect(page.locator(".uplot")).to_have_count(3)  # a panel for each unit
        expect(page).to_have_url(re.compile("[?&]s="))  # the choice can be shared
        expect(page.locator(".lane.found .span")).to_have_attribute("href", "#/tickets/1")
        expect(page.locator(".below")).to_contain_text("has not said what it runs")

        # live: the next batch is on the page without a reload
        page.fill("#search", "")
        flow = page.locator(f'.signals label[title="{FLOW}"] .value')
        expect(flow).to_have_text(re.compile(r"\d"))
        before = flow.text_content()
        batch = drive.batch(30)
        store.write([batch])
        expect(flow).not_to_have_text(before or "")
        assert float(flow.text_content() or "nan") == pytest.approx(batch.value[-1, drive.schema.index(FLOW)], rel=1e-5)

        # closer by dragging, and out again
        box = page.locator(".u-over").first.bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.96, box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] - 4, box["y"] + 20, steps=3)
        page.mouse.up()
        expect(page.get_by_role("button", name="Live")).to_have_attribute("aria-pressed", "false")
        expect(page).to_have_url(re.compile(r"[?&]from=\d+&to=\d+"))
        page.get_by_role("button", name="Zoom out").click()
        page.get_by_role("button", name="24 h").click()
        expect(page.get_by_role("button", name="Live")).to_have_attribute("aria-pressed", "true")
        expect(page.locator(".under .note")).to_contain_text("Least to greatest value in each")
        with page.expect_download() as download:
            page.get_by_role("link", name="CSV").click()
        assert download.value.path().read_text().startswith('"time","')

        page.fill("#search", "no such thing")
        expect(page.locator(".picker .none")).to_have_text("No signal has “no such thing” in its name, words or unit.")


def test_a_tickets_day_from_its_evidence_to_its_verdict(browser: Any, fleet: Fleet) -> None:
    url, _, tickets, _ = fleet
    tickets.consume(finding(2, vehicle=OTHER))
    with visit(browser, f"{url}/#/tickets") as page:
        page.click(f"tbody tr:has-text('{VEHICLE}') a")
        expect(page.locator("h1")).to_have_text("Coolant leak in the battery loop")
        expect(page.locator(".about")).to_have_text(re.compile("unrated.*active.*new"))
        first = page.locator(".reasons li").first
        expect(first).to_contain_text(
            re.compile(r"Battery coolant flow: 9\.52 l/min seen; a healthy car shows about 10\.41 l/min .* 0\.89 l/min too low\..*58 %")
        )
        drawn(page, 4)  # the score and three signals
        expect(page.locator(".panels")).to_have_attribute("aria-label", re.compile("Anomaly score between"))
        expect(page.locator(".lines.tall li")).to_contain_text([re.compile(f"#2 Coolant leak.*{OTHER[:8]}")])  # a similar ticket

        page.keyboard.press("e")
        expect(page.locator(".about")).to_contain_text("acknowledged")
        page.fill("textarea[name=text]", "Owner called; the car stays parked.")
        page.get_by_role("button", name="Comment").click()
        expect(page.locator(".history .said")).to_contain_text("Owner called")
        page.get_by_role("button", name="Schedule…").click()
        page.fill("dialog [name=detail]", "Thursday 9:00")
        page.get_by_role("button", name="Save").click()
        expect(page.locator(".about")).to_contain_text("scheduled")
        tickets.consume(finding(1, "cleared"))  # the vehicle's word comes by itself
        expect(page.locator(".about")).to_contain_text("recovered")
        page.get_by_role("button", name="Close…").click()
        page.check("dialog input[value=confirmed]")
        page.fill("dialog [name=detail]", "Hose clamp loose")
        page.locator("dialog").get_by_role("button", name="Close").click()
        expect(page.locator(".about")).to_contain_text("confirmed")
        expect(page.locator(".history li").last).to_contain_text("confirmed: Hose clamp loose")
        page.click("nav a:has-text('Detectors')")
        expect(page.locator("tbody tr").first).to_contain_text(re.compile("coolant-1.*100 %"))
    closed = tickets.ticket(1)
    assert closed is not None
    assert (closed.handling, closed.verdict) == (Handling.CLOSED, Verdict.CONFIRMED)


def test_the_queue_by_keyboard_with_filters_that_stay_and_many_at_once(browser: Any, fleet: Fleet) -> None:
    url, _, tickets, _ = fleet
    for number in range(2, 5):
        tickets.consume(finding(number, vehicle=OTHER, fault_code=f"fault_{number}"))
    with visit(browser, f"{url}/#/tickets") as page:
        expect(page.locator("tbody tr")).to_have_count(4)
        page.keyboard.press("j")
        page.keyboard.press("x")
        page.keyboard.press("j")
        page.keyboard.press("x")
        expect(page.locator(".bulk")).to_contain_text("2 chosen")
        page.keyboard.press("e")
        expect(page.locator(".tabs button", has_text="Acknowledged")).to_contain_text("2")
        page.keyboard.press("]")
        page.keyboard.press("]")
        expect(page.locator("tbody tr")).to_have_count(2)
        page.keyboard.press("/")
        page.keyboard.type("fault_4")
        expect(page.locator("tbody tr")).to_have_count(1)
        page.get_by_role("button", name="Save filter").click()
        page.fill("dialog [name=name]", "Fours")
        page.get_by_role("button", name="Save", exact=True).click()
        page.get_by_role("button", name=re.compile("^Open")).click()
        page.fill("input[type=search]", "")
        expect(page.locator("tbody tr")).to_have_count(4)
        page.reload()
        page.get_by_role("button", name="Fours", exact=True).click()
        expect(page.locator("tbody tr")).to_have_count(1)
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("fault_4")
        page.go_back()
        expect(page.locator("tbody tr")).to_have_count(1)
        page.keyboard.press("?")
        expect(page.locator("dialog")).to_contain_text("acknowledge")
        page.keyboard.press("Escape")
        page.keyboard.press("Control+k")
        page.keyboard.type(VEHICLE[:6])
        expect(page.locator("[role=option]").first).to_contain_text(VEHICLE)
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text(VEHICLE)


def test_a_silence_says_what_it_would_hide_and_hides_it(browser: Any, fleet: Fleet) -> None:
    with visit(browser, f"{fleet[0]}/#/silences") as page:
        page.get_by_role("button", name="New silence…").click()
        page.fill("dialog [name=fault_code]", "coolant_*")
        expect(page.locator(".preview")).to_contain_text(
            re.compile(f"It would hide 1 open ticket now:.*Coolant leak in the battery loop.*{VEHICLE}")
        )
        page.fill("dialog [name=reason]", "known fault of this software")
        page.get_by_role("button", name="Hide").click()
        expect(page.locator("tbody tr")).to_contain_text(["known fault of this software"])
        page.click("nav a:has-text('Tickets')")
        expect(page.locator(".queue .empty")).to_be_visible()
        page.get_by_label("hidden ones too").check()
        expect(page.locator("tbody tr")).to_have_count(1)
        page.click("tbody a")
        page.get_by_role("link", name="silence 1").first.click()
        page.get_by_role("button", name="End now").click()
        expect(page.locator("tbody tr.over")).to_have_count(1)


def test_the_system_page_says_what_is_wrong(browser: Any, tmp_path: Path) -> None:
    sink = {"position": 7, "behind": 201, "error": "InfluxDB: no answer", "unreadable": 0}
    delay = {"ticks": 9, "backlog": 0, "p50_s": 1.4, "p99_s": 6.2, "greatest_s": 7.0}
    stats = {
        "connected": False,
        "replica": "a",
        "waiting": 3,
        "sinks": {"store": sink},
        "landing_gaps": [(4, 6)],
        "delays": {"recent": delay, "start": delay},
    }
    url = f"sqlite:///{tmp_path / 't.db'}"
    (tmp_path / "hook.secret").write_text(f"whsec_{base64.b64encode(bytes(32)).decode()}\n")
    hooks = policy_of(tmp_path, '[[webhook]]\nname = "crm"\nurl = "https://crm.example"\nsecret_file = "hook.secret"\n')
    with (
        TicketService(url, policy=hooks) as tickets,
        Tokens(url) as tokens,
        Quarantine(tmp_path / "quarantine") as quarantine,
        served(Backend(HostileStore(), tickets, tokens, lambda: stats, quarantine=quarantine)) as url,  # type: ignore[arg-type]
        visit(browser, f"{url}/#/system") as page,
    ):
        expect(page.locator(".heading .note")).to_contain_text("Replica a: latency, queues, quarantine")
        expect(page.locator(".quarantine .empty")).to_have_text("Nothing has been put aside.")
        expect(page.locator(".letters .empty")).to_be_visible()
        alerts = page.locator(".notice.bad")
        expect(alerts).to_have_text([re.compile("Broker: not connected"), "time series: InfluxDB: no answer"])
        expect(page.locator(".figure.warn", has_text="Latency")).to_contain_text("6.2")
        expect(page.locator(".figure", has_text="Behind")).to_contain_text("201")
        expect(page.locator(".counts")).to_have_text("Damaged records3")
        quarantine.put_all([Kept(Source.LATER, START_MS, "a later version", bytes([9, *bytes(7), number])) for number in range(25)])
        expect(page.locator(".quarantine td.number").first).to_have_text("25")
        page.locator(".quarantine").get_by_text("Each message").click()
        expect(page.locator(".quarantine details tbody tr")).to_have_count(20)
        page.get_by_role("button", name="Next page").click()
        expect(page.locator(".quarantine details tbody tr")).to_have_count(5)
        expect(page.locator(".quarantine details tbody tr").last).to_contain_text("0000000000000018")
        for number in range(1, 4):
            tickets.consume(finding(number, vehicle=f"{number:016x}"))
        for letter in tickets.webhooks.claim(10):
            tickets.webhooks.settle(letter, "dead", 0, "410 Gone" if letter.id < 3 else "no answer")
        expect(page.locator(".letters .note").first).to_have_text("crm: 0 delivered, 0 on their way, 3 given up")
        gone = page.locator(".letters tbody tr", has_text="410 Gone").filter(has_text=re.compile("crm410 Gone2"))
        gone.get_by_role("button", name="Send again").click()
        expect(page.locator(".letters .note").first).to_have_text("crm: 0 delivered, 2 on their way, 1 given up")
        expect(gone).to_have_count(0)


def test_an_owner_sees_one_vehicle_and_no_more(browser: Any, tmp_path: Path) -> None:
    with example_fleet(tmp_path, 60) as (url, _, tickets, _), Tokens(f"sqlite:///{tmp_path / 'tickets.db'}") as tokens:
        tickets.consume(finding(2, vehicle=OTHER, fault_code="other"))
        token = tokens.create("owner", Role.OWNER, VEHICLE, START_MS, None)
        with visit(browser, url, token=token) as page:
            expect(page.locator("h1")).to_have_text(VEHICLE)
            expect(page.locator(".nav a")).to_have_count(2)
            drawn(page, 3)
            page.click("nav a:has-text('Tickets')")
            expect(page.locator("tbody tr")).to_have_count(1)
            page.click("tbody a")
            expect(page.locator("h1")).to_have_text("Coolant leak in the battery loop")
            expect(page.locator(".actions button, .comment")).to_have_count(0)
            page.click(".brand")
            expect(page.locator("h1")).to_have_text(VEHICLE)
            page.goto(f"{url}/#/system")
            expect(page.locator("main")).to_contain_text("Nothing here")


def test_a_cloud_that_goes_away_is_said_and_noticed_again(browser: Any, fleet: Fleet) -> None:
    context = browser.new_context(viewport=DESK)
    page = context.new_page()
    page.goto(f"{fleet[0]}/#token={TOKENS[fleet[0]]}")
    expect(page.locator(".state")).to_have_text("Live")
    page.route("**/api/**", lambda route: route.abort())
    expect(page.locator(".state")).to_have_text("No answer from the cloud, trying again")
    page.unroute("**/api/**")
    expect(page.locator(".state")).to_have_text("Live")
    page.goto(f"{fleet[0]}/#/tickets/77")
    expect(page.locator("main")).to_contain_text("there is no such ticket")
    page.goto(f"{fleet[0]}/#/vehicles/0000000000000000")
    expect(page.locator("main")).to_contain_text("Nothing here")
    context.close()


def test_the_page_is_there_before_its_chart_library_is(browser: Any, fleet: Fleet) -> None:
    held: list[Any] = []
    context = browser.new_context(viewport=DESK)
    context.request.post(f"{fleet[0]}/api/session", data={"token": TOKENS[fleet[0]]})
    page = context.new_page()
    page.route("**/uplot.js", lambda route: held.append(route))
    with page.expect_request("**/uplot.js"):
        page.goto(f"{fleet[0]}/#/vehicles/{VEHICLE}?s={INLET}&r=300", wait_until="commit")
    expect(page.locator(".signals li").first).to_be_visible()
    expect(page.locator(".chart .note")).to_have_text("Loading the chart…")
    page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length === 1")  # said once the frame is shown
    held[0].continue_()
    drawn(page, 1)  # what the address says
    expect(page.locator(".chart .note")).to_be_hidden()
    expect(page.locator(f'.signals label[title="{INLET}"] input')).to_be_checked()
    context.close()


HOSTILE = 'M.<img src=x onerror="document.title=1">&amp;'


class HostileStore:
    """Names that a DBC file may hold and a page must not run."""

    def vehicles(self) -> list[VehicleSummary]:
        return [VehicleSummary("00000000000000aa", "<b>model</b>", START_MS)]

    def newest(self, vehicle: str) -> int | None:
        return START_MS

    def signals(self, vehicle: str) -> list[SignalValue]:
        return [SignalValue(HOSTILE, 1.5, START_MS)]

    def series(self, vehicle: str, signals: list[str], from_ms: int, to_ms: int, points: int) -> Series:
        return Series(np.array([START_MS - 1000, START_MS]), {name: np.array([1.0, 1.5]) for name in signals})


def test_names_stay_text(browser: Any, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 't.db'}"
    with (
        TicketService(url) as tickets,
        Tokens(url) as tokens,
        served(Backend(HostileStore(), tickets, tokens)) as url,  # type: ignore[arg-type]
    ):
        tickets.consume(finding(vehicle="00000000000000aa", fault_code="<script>document.title=2</script>"))
        with visit(browser, f"{url}/#/vehicles/00000000000000aa") as page:
            expect(page.locator(".signals .name")).to_have_text(HOSTILE)
            page.locator(".signals input").check()
            drawn(page, 1)
            page.locator(".banners a").click()
            expect(page.locator("h1")).to_have_text("<script>document.title=2</script>")
            expect(page).to_have_title("Ticket 1 · Cansight")
            assert page.locator("img:not([src='/static/icon.svg'])").count() == 0
