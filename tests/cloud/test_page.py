"""The page in a real browser: a vehicle, its signals, a chart, a ticket with its evidence."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from example_fleet import FLOW, INLET, OTHER, START_MS, TOKENS, VEHICLE, Drive, example_fleet, finding, served

from cloud.api import Backend
from cloud.store import Series, SignalValue, Store, VehicleSummary
from cloud.tickets.policy import Handling
from cloud.tickets.service import TicketService
from cloud.tokens import Tokens

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect
expect.set_options(timeout=30_000)  # ms: a loaded machine draws its first chart in seconds

# No update, sync or safe-browsing traffic: a request to another host would then be the page's own.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DRAWN = ".plot .scatterlayer .trace:has(path.js-line)"  # a line with a hole in it is several paths
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[tuple[str, Store, TicketService, Drive]]:
    with example_fleet(tmp_path, 120) as fleet:
        yield fleet


@contextmanager
def visit(browser: Any, url: str, viewport: dict[str, int] = DESK, **options: Any) -> Iterator[Any]:
    """A page of a browser that has logged in. Whatever it complains of, or asks of another host, fails the test."""
    context = browser.new_context(viewport=viewport, timezone_id="Asia/Shanghai", locale="en-US", **options)
    log_in(context, url)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    origin = url.partition("/#")[0] + "/"
    page.on("request", lambda request: complaints.append(request.url) if not request.url.startswith(origin) else None)
    page.goto(url)
    yield page
    context.close()
    assert not complaints


def log_in(context: Any, url: str) -> None:
    origin = url.partition("/#")[0]
    assert context.request.post(f"{origin}/api/session", data={"token": TOKENS[origin]}).ok


def test_a_token_in_the_address_or_typed_logs_in_and_is_seen_nowhere(browser: Any, fleet: tuple[str, Store, TicketService, Drive]) -> None:
    url, token = fleet[0], TOKENS[fleet[0]]
    context = browser.new_context(viewport=DESK)
    page = context.new_page()
    page.goto(f"{url}/#token={token}&vehicle={VEHICLE}")
    expect(page.locator("h1")).to_have_text(VEHICLE)
    assert token not in page.url
    assert page.evaluate("document.cookie") == ""
    context.clear_cookies()  # the session is over: the page asks for a token again
    page.fill("#token", "wrong")
    page.keyboard.press("Enter")
    expect(page.locator("[role=alert]")).to_contain_text("not known")
    page.fill("#token", token)
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(VEHICLE)
    context.close()


def row(page: Any, signal: str) -> Any:
    return page.locator(f'.signals label[title="{signal}"]')


def test_from_the_fleet_to_a_signals_chart(browser: Any, fleet: tuple[str, Store, TicketService, Drive]) -> None:
    url, store, _, drive = fleet
    with visit(browser, url) as page:
        expect(page.locator("#vehicles a")).to_have_count(2)
        page.click(f"#vehicles a:has-text('{OTHER}')")
        expect(page.locator("h1")).to_have_text(OTHER)
        page.click(f"#vehicles a:has-text('{VEHICLE}')")
        expect(page.locator("h1")).to_have_text(VEHICLE)
        expect(page.locator(".signals li")).to_have_count(len(store.signals(VEHICLE)))
        expect(page.locator(DRAWN)).to_have_count(3)  # the open ticket's contributors
        page.fill("#search", "coolant inlet °C")
        expect(page.locator(".signals li:visible .words").first).to_have_text("Battery coolant temperature, inlet")
        shown = page.locator(".signals li:visible").count()
        assert 0 < shown < 10
        page.fill("#search", "ambient temperature")
        page.locator(".signals li:visible label").first.click()
        expect(page.locator(DRAWN)).to_have_count(4)
        expect(page.locator(".plot .infolayer text", has_text="°C")).to_have_count(1)
        expect(page.locator(".xtitle")).to_have_text("local time (UTC+08:00)")
        assert "s=" in page.url  # the choice can be shared

        # live: the next batch is on the page without a reload
        page.fill("#search", "")
        before = row(page, FLOW).locator(".value").text_content()
        batch = drive.batch(30)
        store.write([batch])
        expect(row(page, FLOW).locator(".value")).not_to_have_text(before or "")
        value = batch.value[-1, drive.schema.index(FLOW)]
        assert float(row(page, FLOW).locator(".value").text_content() or "nan") == pytest.approx(value, rel=1e-5)

        page.fill("#search", "no such thing")
        expect(page.locator(".picker .note")).to_have_text("No signal has “no such thing” in its name, words or unit.")


def test_a_ticket_opens_with_its_evidence(browser: Any, fleet: tuple[str, Store, TicketService, Drive]) -> None:
    url, _, tickets, _ = fleet
    with visit(browser, url) as page:
        page.click("#tickets a:has-text('Coolant leak in the battery loop')")
        expect(page.locator("h1")).to_have_text("Coolant leak in the battery loop")
        expect(page.locator(".pills")).to_have_text(re.compile("active.*new.*unrated"))
        first = page.locator(".contributions tbody tr").first
        expect(first.locator(".words")).to_have_text("Battery coolant flow")
        assert first.locator("td").all_text_contents() == ["10.41", "9.52", "l/min", "58 %"]
        expect(page.locator(DRAWN)).to_have_count(4)  # the score and three signals
        expect(page.locator(".annotation-text", has_text="threshold 12.5")).to_be_visible()
        expect(page.locator(".history li")).to_have_count(1)

        tickets.consume(finding(2))
        expect(page.locator(".facts")).to_contain_text("2 times")
        tickets.consume(finding(1, "cleared"))
        tickets.consume(finding(2, "cleared"))
        expect(page.locator(".pills")).to_have_text(re.compile("recovered.*new.*unrated"))
        tickets.handle(1, Handling.CLOSED, "ana")
        expect(page.locator("#tickets")).to_have_text("None. A finding on a vehicle opens one.")

        page.go_back()
        expect(page.locator("h1")).to_have_text(VEHICLE)


def test_an_address_of_nothing_says_so(browser: Any, fleet: tuple[str, Store, TicketService, Drive]) -> None:
    context = browser.new_context()
    log_in(context, fleet[0])
    page = context.new_page()
    page.goto(f"{fleet[0]}/#ticket=77")
    expect(page.locator("main")).to_contain_text("There is no such vehicle or ticket")
    page.goto(f"{fleet[0]}/#vehicle=0000000000000000")
    expect(page.locator("main")).to_contain_text("There is no such vehicle or ticket")
    context.close()


def test_the_page_is_there_before_plotly_is(browser: Any, fleet: tuple[str, Store, TicketService, Drive]) -> None:
    held: list[Any] = []
    context = browser.new_context(viewport=DESK)
    log_in(context, fleet[0])
    page = context.new_page()
    page.route("**/plotly.min.js*", lambda route: held.append(route))
    page.goto(f"{fleet[0]}/#vehicle={VEHICLE}", wait_until="commit")
    expect(page.locator(".signals li").first).to_be_visible()
    expect(page.locator(".chart .note")).to_have_text("Loading the chart…")
    assert page.evaluate("performance.getEntriesByName('first-contentful-paint').length") == 1
    held[0].continue_()
    expect(page.locator(DRAWN)).to_have_count(3)
    expect(page.locator(".chart .note")).to_be_hidden()
    context.close()


def test_the_keyboard_is_enough(browser: Any, fleet: tuple[str, Store, TicketService, Drive]) -> None:
    with visit(browser, fleet[0]) as page:
        expect(page.locator(".signals li").first).to_be_visible()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")  # the skip link
        assert page.evaluate("document.activeElement.id") == "main"
        page.locator("#vehicles a").nth(1).focus()
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text(OTHER)
        expect(page.locator(DRAWN).first).to_be_visible()
        drawn = page.locator(DRAWN).count()
        page.keyboard.press("/")
        page.keyboard.type("battery coolant pump duty")
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        expect(page.locator(DRAWN)).to_have_count(drawn + 1)
        page.get_by_role("button", name="Take TMS_BatteryPump.BatteryPumpDuty off the chart").press("Enter")
        expect(page.locator(DRAWN)).to_have_count(drawn)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, DESK], ids=["phone", "desk"])
def test_nothing_is_wider_than_the_window_and_colours_follow_the_system(
    browser: Any, fleet: tuple[str, Store, TicketService, Drive], scheme: str, viewport: dict[str, int]
) -> None:
    with visit(browser, fleet[0], viewport, color_scheme=scheme) as page:
        for selector, drawn in (("#vehicles a", 3), ("#tickets a", 4)):
            page.goto(fleet[0])
            page.locator(selector).first.click()
            expect(page.locator(DRAWN)).to_have_count(drawn)
            assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
            light = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every((part) => Number(part) > 200)")
            assert light == (scheme == "light")


def test_a_cloud_that_goes_away_is_said_and_noticed_again(browser: Any, fleet: tuple[str, Store, TicketService, Drive]) -> None:
    context = browser.new_context(viewport=DESK)
    log_in(context, fleet[0])
    page = context.new_page()
    page.goto(fleet[0])
    expect(page.locator("#state")).to_have_text("Live")
    page.route("**/api/**", lambda route: route.abort())
    expect(page.locator("#state")).to_have_text("No answer from the cloud, trying again")
    page.unroute("**/api/**")
    expect(page.locator("#state")).to_have_text("Live")
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
        import numpy as np

        return Series(np.array([START_MS - 1000, START_MS]), {name: np.array([1.0, 1.5]) for name in signals})


def test_names_stay_text(browser: Any, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 't.db'}"
    with TicketService(database) as tickets, Tokens(database) as tokens, served(Backend(HostileStore(), tickets, tokens)) as url:  # type: ignore[arg-type]
        tickets.consume(finding(fault_code="<script>document.title=2</script>"))
        with visit(browser, url) as page:
            expect(page.locator(".signals .name")).to_have_text(HOSTILE)
            page.locator(".signals input").check()
            expect(page.locator(DRAWN)).to_have_count(1)
            box = page.locator(".plot").bounding_box()
            page.mouse.move(box["x"] + box["width"] - 18, box["y"] + 100)
            expect(page.locator(".hoverlayer text").first).to_be_attached()
            page.locator("#tickets a").click()
            expect(page.locator("h1")).to_have_text("<script>document.title=2</script>")
            assert page.title() == "Cansight"
            assert page.locator("img:not([src='/static/icon.svg'])").count() == 0


def test_a_recent_ticket_shows_the_time_of_day_alone(browser: Any, fleet: tuple[str, Store, TicketService, Drive]) -> None:
    url, _, tickets, _ = fleet
    tickets.consume(finding(7, vehicle=OTHER, fault_code="other", tick_ms=time.time_ns() // 1_000_000))
    with visit(browser, url) as page:
        expect(page.locator("#tickets .second").first).to_have_text(re.compile(r"^a91e44d0 · (\d\d:\d\d:\d\d|.*, \d\d:\d\d) · new$"))
        assert page.locator("#tickets a").count() == 2
        expect(page.locator(f'#vehicles a:has-text("{VEHICLE}") .badge')).to_have_text("1 ticket")


def test_the_address_says_what_is_drawn(browser: Any, fleet: tuple[str, Store, TicketService, Drive]) -> None:
    with visit(browser, f"{fleet[0]}/#vehicle={VEHICLE}&s={INLET}&r=60") as page:
        expect(page.locator(DRAWN)).to_have_count(1)
        expect(page.locator(".ranges input:checked")).to_have_value("60")
        expect(row(page, INLET).locator("input")).to_be_checked()
