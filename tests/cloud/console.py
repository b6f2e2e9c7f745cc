"""Visits to the console in a real browser, for the tests of the page."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from example_fleet import TOKENS
from playwright import sync_api

expect = sync_api.expect
expect.set_options(timeout=30_000)  # ms: on a loaded machine a first draw takes seconds

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
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 800}


@contextmanager
def chromium(path: str) -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def visit(browser: Any, url: str, viewport: dict[str, int] = DESK, token: str = "", locale: str = "en-US", **options: Any) -> Iterator[Any]:
    """A page of a browser that has logged in. Whatever it complains of, or asks of another host, fails the test."""
    context = browser.new_context(viewport=viewport, timezone_id="Asia/Shanghai", locale=locale, **options)
    origin = url.partition("/#")[0]
    assert context.request.post(f"{origin}/api/session", data={"token": token or TOKENS[origin]}).ok
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if not request.url.startswith(origin + "/") else None)
    page.goto(url)
    yield page
    context.close()
    assert not complaints, complaints


def drawn(page: Any, lines: int) -> Any:
    """The chart, once so many lines are drawn in it."""
    chart = page.locator(".chart")
    expect(chart).to_have_attribute("data-drawn", str(lines))
    return chart
