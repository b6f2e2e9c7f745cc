"""Everybody can use the console: no accessibility fault that axe calls serious, in both languages and themes, at a desk and on a phone."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import axe_playwright_python.sync_playwright as axe
import pytest
from console import DESK, PHONE, chromium, drawn, expect, visit
from example_fleet import OTHER, VEHICLE, example_fleet, finding

import cloud.assets
from cloud.api.quality import REASONS_ZH
from cloud.store import Store
from cloud.tickets.budget import WEEK_MS, Told, withheld
from cloud.tickets.policy import Tier
from cloud.tickets.rating import _words as prognosis_words
from cloud.tickets.service import TicketService
from cloud.tickets.settings import Prognosis
from cloud.tickets.silences import SilenceRequest
from edge.outbox_store import AGED, DAMAGED, FULL
from wire.errors import WireError

SERIOUS = ("serious", "critical")
VIEWS = ("fleet", "tickets", "tickets/1", "tickets/2", f"vehicles/{VEHICLE}", "detectors", "silences", "system")


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Any]:
    with chromium(chromium_path) as browser:
        yield browser


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Store, TicketService]]:
    with example_fleet(tmp_path_factory.mktemp("fleet")) as (url, store, tickets, _):
        tickets.consume(finding(2, vehicle=OTHER))
        now_ms = time.time_ns() // 1_000_000
        tickets.silences.make("silence", SilenceRequest(now_ms, now_ms + WEEK_MS, "test drive", vehicle=OTHER), "B. Meier")
        yield url, store, tickets


@pytest.mark.parametrize(("locale", "scheme", "viewport"), [("en-US", "light", DESK), ("zh-CN", "dark", PHONE)], ids=["desk", "phone"])
def test_no_serious_fault_and_nothing_wider_than_the_window(
    browser: Any, fleet: tuple[str, Store, TicketService], locale: str, scheme: str, viewport: dict[str, int]
) -> None:
    found: list[str] = []

    def look(where: str) -> None:
        faults = [fault for fault in axe.Axe().run(page).response["violations"] if fault["impact"] in SERIOUS]
        found.extend(f"{where}: {fault['id']}: {fault['nodes'][0]['html'][:200]}" for fault in faults)
        if page.evaluate("document.documentElement.scrollWidth") > viewport["width"]:
            found.append(f"{where}: wider than the window")

    with visit(browser, fleet[0], viewport, locale=locale, color_scheme=scheme) as page:
        for view in VIEWS:
            page.goto(f"{fleet[0]}/#/{view}")
            if view.startswith("vehicles"):
                drawn(page, 3)
                page.fill("#search", "coolant")  # every row is like the others; axe reads them all
            elif view.startswith("tickets/"):
                drawn(page, 4)
            else:
                expect(page.locator("tbody tr, .empty strong, .figure").first).to_be_visible()
            look(view)
        page.keyboard.press("Control+k")
        expect(page.locator("[role=option]").first).to_be_visible()
        look("palette")
        page.keyboard.press("Escape")
        page.click("button[title='Sign out'], button[title='退出登录']")
        expect(page.locator("#token")).to_be_visible()
        look("log-in")
        assert page.locator("html").get_attribute("lang") == locale[:2]
        assert page.locator("html").get_attribute("data-theme") == scheme
    assert not found


def test_theme_and_language_are_chosen_and_stay(browser: Any, fleet: tuple[str, Store, TicketService]) -> None:
    with visit(browser, fleet[0], color_scheme="light") as page:
        expect(page.locator("h1")).to_have_text("Fleet")
        page.get_by_role("button", name=re.compile("^Theme")).click()
        page.get_by_role("button", name=re.compile("^Theme: light")).click()
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        page.get_by_role("button", name="中文").click()
        expect(page.locator("h1")).to_have_text("车队")
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_the_keyboard_is_enough(browser: Any, fleet: tuple[str, Store, TicketService]) -> None:
    with visit(browser, fleet[0]) as page:
        expect(page.locator("tbody tr")).to_have_count(2)
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")  # the skip link
        assert page.evaluate("document.activeElement.id") == "main"
        page.keyboard.press("j")
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text(VEHICLE)
        drawn(page, 3)
        page.keyboard.press("/")
        page.keyboard.type("battery coolant pump duty")
        for _ in range(2):  # past "drawn only"? it stands before the search; the list's first box comes next
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.type") == "checkbox":
                break
        page.keyboard.press("Space")
        drawn(page, 4)
        page.get_by_role("button", name="Take TMS_BatteryPump.BatteryPumpDuty off the chart").press("Enter")
        drawn(page, 3)
        page.keyboard.press("g")
        page.keyboard.press("t")
        expect(page.locator("h1")).to_have_text("Tickets")


def test_both_languages_have_the_words_that_the_page_uses_and_no_others(browser: Any, fleet: tuple[str, Store, TicketService]) -> None:
    with visit(browser, fleet[0]) as page:
        texts = page.evaluate(
            "Promise.all([import('/static/texts_en.js'), import('/static/texts_zh.js')]).then(([{en}, {zh}]) => ({en, zh}))"
        )
    shape = {name: json.dumps(_keys(text)) for name, text in texts.items()}
    assert shape["en"] == shape["zh"]
    used = "\n".join(path.read_text(encoding="utf-8") for path in cloud.assets.PAGE.glob("*.js") if not path.stem.startswith("texts_"))
    words = set(re.findall(r'\bt\("(\w+)"', used)) | {
        word for pair in re.findall(r'\bt\([^()"]*\? "(\w+)" : "(\w+)"', used) for word in pair
    }
    assert words <= set(texts["en"]["words"])
    assert set(re.findall(r'\bnamed\("(\w+)"', used)) == set(texts["en"]["names"])
    made = set(re.findall(r'"(\w+)"', used)) | {"tierAny", "conditionAny", "assigneeAny"}  # what is made of the field's name
    assert {word for word in texts["en"]["words"] if word not in made and word.removesuffix("One") not in made} == set()


def test_what_the_cloud_writes_by_itself_is_said_in_the_readers_words(browser: Any, fleet: tuple[str, Store, TicketService]) -> None:
    now, week = 10 * WEEK_MS, WEEK_MS
    pushes, warnings = ([Told(now - age, Tier.BLUE, push=True) for age in ages] for ages in ((0,), (week, 2 * week)))
    lines = [
        *(f"{kind} 3" for kind in ("silence", "maintenance", "ticket")),
        "coolant-1, again after ticket 7",
        "coolant-1, 16x",
        "6 turns without a rest of 10m",
        "14d after it clears",
        prognosis_words(Prognosis(0.97, 48 * 3_600_000, True, "p-2")),
        prognosis_words(None),
        withheld(pushes, Tier.BLUE, True, now, 1, 2),
        withheld(warnings, Tier.BLUE, True, now, 1, 2),
        "withheld by budget: displaced by the red notification 5",
        "路试 (ended by 王)",
        "schema 0011223344556677 is not of any vehicle model in the settings; add its DBC files",
        "vehicle 0011223344556677: header.version: expected 1, found 99",
        "sink lake: placing: 17",
        "ticket 3: cannot go from 'closed' to 'in workshop'",
        "POST /1 is open to service and above, not to the role read-only of token '王'",
        "maintenance 3: there is no such maintenance, or it is over",
        "silence: expected at most 90d: what is never wanted is a matter for the policy or the pack",
    ]
    with visit(browser, fleet[0], locale="zh-CN") as page:
        said = page.evaluate(
            "lines => import('/static/said.js').then(({said, explained}) => lines.map(line => explained(said(line))))", lines
        )
    assert [one for one in said if re.search("[A-Za-z]{3,}", re.sub("coolant-1|schema|DBC|POST", "", one))] == []
    assert said[5] == "6 次反复，其间没有 10 分钟的平静"
    assert set(REASONS_ZH) == {FULL, DAMAGED, AGED}


def test_the_lines_that_have_chinese_words_are_lines_that_the_cloud_writes() -> None:
    page = cloud.assets.PAGE
    lines = re.findall(r"^  \[/(.*)/s?, ", (page / "lines_zh.js").read_text(encoding="utf-8"), re.MULTILINE)
    written = "\n".join(path.read_text(encoding="utf-8") for name in ("cloud", "wire") for path in (page.parents[1] / name).rglob("*.py"))
    ours = [re.sub(r"\\([.?])", r"\1", line) for line in lines if "Error" not in line and "Errno" not in line]  # those are others' words
    longest = {max(re.split(r"\(\?.*?\)|\\[a-z()]\+?|\[.*?\]\+?\??|[\^$(){}*'+]", line), key=len).strip("?") for line in ours}
    assert len(longest) > 40
    assert {words for words in longest if words not in written} == set()


def test_every_kind_of_refusal_has_words() -> None:
    refused = {one.__name__ for one in _all_kinds(WireError) if one.__module__.startswith(("cloud.", "wire."))}
    refused -= {"StreamError", "SegmentLogError", "SegmentLogLocked", "UnknownStream"}  # of the sender, of the disk, and what is asked for
    (words,) = re.findall(r"refusalKinds: \{(.*?)\n    \}", (cloud.assets.PAGE / "texts_zh.js").read_text(encoding="utf-8"), re.DOTALL)
    assert refused - set(re.findall(r"(\w+): \"", words)) == set()


def _all_kinds(kind: type[Exception]) -> set[type[Exception]]:
    return {found for below in kind.__subclasses__() for found in (below, *_all_kinds(below))}


def _keys(text: dict[str, Any]) -> dict[str, Any]:
    return {name: _keys(value) if isinstance(value, dict) else None for name, value in sorted(text.items())}


def test_the_tokens_are_the_only_colours() -> None:
    for path in cloud.assets.PAGE.glob("*.css"):
        if path.name != "tokens.css":
            assert not re.search(r"#[0-9a-fA-F]{3,8}\b(?![^{]*\{)", path.read_text(encoding="utf-8")), path


def test_every_file_of_the_page_is_small() -> None:
    assert {path.name: size for path in cloud.assets.PAGE.iterdir() if (size := path.stat().st_size) > 40_000} == {}
