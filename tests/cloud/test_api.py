"""The API: right answers, one clear line for wrong questions, and nothing for other sites."""

import http.client
import json
import sqlite3
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from example_fleet import FLOW, INLET, MODEL, OTHER, START_MS, TOKENS, VEHICLE, example_fleet, served

from cloud.api import Backend
from cloud.api.guard import api_tls_context
from cloud.api.system import QuarantineQuery, System
from cloud.config import ApiConfig
from cloud.errors import CloudError
from cloud.quarantine import Kept, Quarantine, Source
from cloud.store import Series, SignalValue, Store, VehicleSummary
from cloud.tickets.policy import Handling
from cloud.tickets.service import TicketService
from cloud.tokens import Tokens

TICKS = 60


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Store, TicketService]]:
    with example_fleet(tmp_path_factory.mktemp("fleet"), TICKS) as (url, store, tickets, _):
        yield url, store, tickets


def ask(
    url: str, path: str, headers: dict[str, str] | None = None, method: str = "GET", token: str | None = None
) -> tuple[http.client.HTTPResponse, bytes]:
    """One request, exactly as written: no redirects, no tidied path, the Host header as given; the operator's unless `token` says whose."""
    secret = TOKENS.get(url, "") if token is None else token
    headers = ({"Authorization": f"Bearer {secret}"} if secret else {}) | (headers or {})
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def get(url: str, path: str) -> Any:
    answer, body = ask(url, path)
    assert answer.status == 200, body
    return json.loads(body)


def refused(url: str, path: str, status: int, **more: Any) -> str:
    answer, body = ask(url, path, **more)
    assert answer.status == status, body
    line = json.loads(body)["error"]
    assert "\n" not in line
    return str(line)


def test_vehicles_are_listed_with_what_is_known_of_them(fleet: tuple[str, Store, TicketService]) -> None:
    url, store, _ = fleet
    answer = get(url, "/api/vehicles")
    first, second = answer["vehicles"]
    assert (answer["next"], answer["counts"]) == (None, {"online": 1, "silent": 1})
    assert first["online_ms"] > START_MS
    assert first == {
        "vehicle": VEHICLE,
        "model": MODEL,
        "last_tick_ms": START_MS + 1000 * (TICKS - 1),
        "open_tickets": 1,
        "online_ms": first["online_ms"],
        "gone_ms": None,
        "state": "online",
        "tiers": {"unrated": 1},
        "completeness": None,
    }
    assert (second["vehicle"], second["open_tickets"], second["online_ms"]) == (OTHER, 0, None)
    shown = get(url, f"/api/vehicles/{VEHICLE}")
    assert shown == first | {"signals": len(store.signals(VEHICLE)), "status": None, "online_ms": shown["online_ms"]}
    pages = [get(url, "/api/vehicles?order=attention&limit=1")]
    pages.append(get(url, f"/api/vehicles?order=attention&limit=1&cursor={pages[0]['next']}"))
    assert [(one["vehicles"][0]["vehicle"], one["found"]) for one in pages] == [(OTHER, 2), (VEHICLE, 2)]  # who is silent comes first
    assert pages[1]["next"] is None


def test_signals_have_value_unit_and_words(fleet: tuple[str, Store, TicketService]) -> None:
    url, store, _ = fleet
    signals = {one["signal"]: one for one in get(url, f"/api/vehicles/{VEHICLE}/signals")}
    assert {name: one["value"] for name, one in signals.items()} == {one.signal: one.value for one in store.signals(VEHICLE)}
    assert signals[INLET]["unit"] == "degC"
    assert signals[INLET]["words"] == "Battery coolant temperature, inlet"
    chinese = {one["signal"]: one["words"] for one in get(url, f"/api/vehicles/{VEHICLE}/signals?lang=zh")}
    assert chinese[INLET] != signals[INLET]["words"]
    assert any(one["choice"] for one in signals.values())


def test_a_series_is_what_the_store_has(fleet: tuple[str, Store, TicketService]) -> None:
    url, store, _ = fleet
    span = f"from_ms={START_MS}&to_ms={START_MS + 10_000}"
    answer = get(url, f"/api/vehicles/{VEHICLE}/series?signal={FLOW}&signal={INLET}&{span}")
    stored = store.series(VEHICLE, [FLOW, INLET], START_MS, START_MS + 10_000, 600)
    assert answer["tick_ms"] == stored.tick_ms.tolist() == list(range(START_MS, START_MS + 10_000, 1000))
    assert answer["series"] == {name: values.tolist() for name, values in stored.values.items()}
    assert answer["units"][INLET] == "degC"
    assert get(url, f"/api/vehicles/{VEHICLE}/series?signal={FLOW}")["tick_ms"][-1] == START_MS + 1000 * (TICKS - 1)
    assert len(get(url, f"/api/vehicles/{VEHICLE}/series?signal={FLOW}&points=10")["tick_ms"]) <= 14


def test_newest_is_the_stores_newest(fleet: tuple[str, Store, TicketService]) -> None:
    url, store, _ = fleet
    assert get(url, f"/api/vehicles/{VEHICLE}/newest") == {"tick_ms": store.newest(VEHICLE)}


def test_tickets_are_listed_and_shown(fleet: tuple[str, Store, TicketService]) -> None:
    url, _, tickets = fleet
    [listed] = get(url, "/api/tickets")["tickets"]
    assert get(url, "/api/tickets")["counts"]["new"] == 1
    assert get(url, f"/api/tickets?vehicle={VEHICLE}&handling=new")["tickets"][0]["id"] == listed["id"]
    assert get(url, f"/api/tickets?vehicle={OTHER}")["tickets"] == get(url, "/api/tickets?handling=in+workshop")["tickets"] == []
    shown = get(url, f"/api/tickets/{listed['id']}")
    evidence, history = shown.pop("evidence"), shown.pop("history")
    running = shown.pop("sla"), listed.pop("sla")  # they run on between two answers
    assert running[0].keys() == running[1].keys() == {"acknowledge", "close"}
    assert shown.items() >= listed.items()
    assert (listed["fault_words"], listed["tier"], listed["condition"]) == ("Coolant leak in the battery loop", "unrated", "active")
    assert get(url, "/api/tickets?lang=zh")["tickets"][0]["fault_words"] == "电池冷却回路冷却液泄漏"
    assert evidence["contributions"][0] == {
        "signal": FLOW,
        "words": "Battery coolant flow",
        "unit": "l/min",
        "expected": 10.41,
        "seen": 9.52,
        "share": 0.58,
        "margin": None,
        "sentence": evidence["explanation"]["signals"][0],
    }
    assert next((one["fault_code"], one["words"]) for one in evidence["resembles"]) == ("coolant_leak", "Coolant leak in the battery loop")
    assert get(url, f"/api/tickets/{listed['id']}?lang=zh")["evidence"]["resembles"][0]["words"] == "电池冷却回路冷却液泄漏"
    assert {len(values) for values in evidence["window"]["values"]} == {len(evidence["window"]["tick_ms"])}
    assert [line["action"] for line in history] == ["opened"]
    assert {one.handling for one in tickets.tickets()} == {Handling.NEW}


def test_stats_and_health(fleet: tuple[str, Store, TicketService]) -> None:
    url, _, _ = fleet
    assert get(url, "/api/stats")["landed"] == 2
    assert get(url, "/healthz") == get(url, "/readyz") == {"ok": True}


SERIES = f"/api/vehicles/{VEHICLE}/series"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (SERIES, "signal: expected 1 to 32 of them, found 0"),
        (f"{SERIES}?signal=" + "&signal=".join(map(str, range(33))), "signal: expected 1 to 32 of them, found 33"),
        (f"{SERIES}?signal=TMS_BatteryLoop.BatteryCoolantFlou", "did you mean TMS_BatteryLoop.BatteryCoolantFlow"),
        (f"{SERIES}?signal={FLOW}&points=1", "points: expected a whole number from 2 to 10000, found '1'"),
        (f"{SERIES}?signal={FLOW}&points=1e3", "points: expected a whole number from 2 to 10000, found '1e3'"),
        (f"{SERIES}?signal={FLOW}&points=%D9%A1%D9%A2", "points: expected a whole number"),
        (f"{SERIES}?signal={FLOW}&from_ms=-", "from_ms: expected a whole number"),
        (f"{SERIES}?signal={FLOW}&from_ms=99999999999999999", "from_ms: expected a whole number"),
        (f"{SERIES}?signal={FLOW}&from_ms=5&to_ms=5", "from_ms: expected a time before to_ms (5), found 5"),
        (f"{SERIES}?signal={FLOW}&to_ms=1&to_ms=2", "to_ms: expected it once, found it 2 times"),
        (
            f"{SERIES}?signal={FLOW}&form_ms=5",
            "'form_ms': there is no such parameter here; expected only signal, from_ms, to_ms, points, bands, format",
        ),
        ("/api/tickets?handling=lost", "handling: expected one of new, acknowledged, scheduled, in workshop, closed, found 'lost'"),
        ("/api/tickets?lang=de", "lang: expected one of en, zh, found 'de'"),
        ("/api/vehicles?x=%0d%0aSet-Cookie:a", "there is no such parameter here; expected only q, state, order, limit, cursor"),
        ("/api/stats?x=1", "there is no such parameter here; expected none"),
        ("/api/tickets?cursor=e30", "cursor: expected the `next` of an answer to the same question, found 'e30'"),
    ],
)
def test_a_wrong_parameter_is_400_and_one_line(fleet: tuple[str, Store, TicketService], path: str, words: str) -> None:
    assert words in refused(fleet[0], path, 400)


@pytest.mark.parametrize(
    "path",
    [
        "/api/vehicles/0000000000000000/signals",
        "/api/vehicles/0000000000000000/newest",
        f"/api/vehicles/0000000000000000/series?signal={FLOW}",
        "/api/tickets/77",
        "/api/tickets/x",
        "/api/tickets/999999999999999999999999",
        "/api/nothing",
        "/static/none.js",
        "/static/index.html",
        "/static/..%2fapi.py",
        "/static/../api.py",
    ],
)
def test_what_is_not_there_is_404(fleet: tuple[str, Store, TicketService], path: str) -> None:
    assert refused(fleet[0], path, 404)


def test_only_reading_is_possible(fleet: tuple[str, Store, TicketService]) -> None:
    assert "Method Not Allowed" in refused(fleet[0], "/api/tickets", 405, method="POST")


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "localhost@evil.example", "0.0.0.0", "[::]", ""]
)
def test_a_foreign_host_header_gets_nothing(fleet: tuple[str, Store, TicketService], host: str) -> None:
    for path in ("/", "/api/vehicles", "/static/app.js", "/healthz"):
        assert "Host: expected localhost" in refused(fleet[0], path, 403, headers={"Host": host})


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8460", "127.0.0.1", "[::1]:99"])
def test_this_machines_names_are_served_on_any_port(fleet: tuple[str, Store, TicketService], host: str) -> None:
    assert ask(fleet[0], "/api/vehicles", {"Host": host})[0].status == 200


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/vehicles", "/api/tickets/77", "/api/nothing", "/api/tickets?x=1"])
def test_every_answer_carries_the_security_headers(fleet: tuple[str, Store, TicketService], path: str) -> None:
    answer, _ = ask(fleet[0], path)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "aiohttp" not in answer.headers["Server"]
    assert answer.headers["Cache-Control"] if answer.status == 200 else True


def test_the_chart_library_comes_from_its_package_compressed_and_is_asked_for_again(fleet: tuple[str, Store, TicketService]) -> None:
    url, _, _ = fleet
    answer, zipped = ask(url, "/static/uplot.js", {"Accept-Encoding": "gzip"})
    assert (answer.status, answer.headers["Content-Encoding"]) == (200, "gzip")
    assert len(zipped) < 60_000
    _, plain = ask(url, "/static/uplot.js")
    assert b"uPlot" in plain
    again, body = ask(url, "/static/uplot.js", {"If-None-Match": answer.headers["ETag"]})
    assert (again.status, body) == (304, b"")
    _, index = ask(url, "/")
    assert index.count(b"modulepreload") > 10


def test_the_page_names_no_other_host_and_has_no_inline_code(fleet: tuple[str, Store, TicketService]) -> None:
    import cloud.assets

    for path in cloud.assets.PAGE.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, path
        assert "https://" not in text, path
        assert "innerHTML" not in text, path
    _, index = ask(fleet[0], "/")
    assert b"<style" not in index
    assert index.count(b"<script") == index.count(b"></script>")
    assert b" style=" not in index
    assert b" onclick=" not in index


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org", ""])
def test_listening_elsewhere_without_tls_is_refused(host: str) -> None:
    with pytest.raises(CloudError, match=r"api\.host: expected a loopback address"):
        api_tls_context(ApiConfig(host=host))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_listening_on_loopback_is_allowed(host: str) -> None:
    assert api_tls_context(ApiConfig(host=host)) is None


class FaultyStore:
    """A store for what the real one cannot be made to do at will: hang, be away, have a bug, hold values that are not finite."""

    def __init__(self) -> None:
        self.hanging, self.go = threading.Event(), threading.Event()
        self.error: Exception | None = None
        self.valid = True

    def vehicles(self) -> list[VehicleSummary]:
        if self.error is not None:
            raise self.error
        return [VehicleSummary("00000000000000aa", "unknown", START_MS)]

    def newest(self, vehicle: str) -> int | None:
        if vehicle == "slow":
            self.hanging.set()
            assert self.go.wait(60)
        if self.error is not None:
            raise self.error
        return START_MS if self.valid else None

    def signals(self, vehicle: str) -> list[SignalValue]:
        return []

    def series(self, vehicle: str, signals: list[str], from_ms: int, to_ms: int, points: int) -> Series:
        return Series(np.array([1, 2, 3]), {signals[0]: np.array([np.nan, np.inf, 0.5])})


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[tuple[str, FaultyStore]]:
    store = FaultyStore()
    database = f"sqlite:///{tmp_path / 't.db'}"
    with TicketService(database) as tickets, Tokens(database) as tokens, served(Backend(store, tickets, tokens)) as url:  # type: ignore[arg-type]
        yield url, store


def test_the_quarantine_is_listed_page_by_page(tmp_path: Path) -> None:
    with Quarantine(tmp_path / "quarantine") as quarantine:
        quarantine.put_all(
            [Kept(Source.ARRIVAL, 5, f"no {'key' if number % 3 else 'DBC'}", bytes([1, *bytes(8), number])) for number in range(9)]
        )
        quarantine.release(list(islice(quarantine.items(), 2, 4)))
        api = System(Backend(None, None, None, quarantine=quarantine))  # type: ignore[arg-type]  # what it stands on here
        pages, first = [], 0
        while first is not None:
            page = api.quarantine(QuarantineQuery(first=first, limit=3))
            assert (page.held, page.reasons) == (7, {"no key": 5, "no DBC": 2})
            pages.append([item.position for item in page.items])
            first = page.next
        assert pages == [[0, 1, 4], [5, 6, 7], [8]]
        assert api.quarantine(QuarantineQuery(vehicle="f" * 16)).items == []


def test_a_slow_store_holds_up_nobody_else(faulty: tuple[str, FaultyStore]) -> None:
    url, store = faulty
    slow = threading.Thread(target=ask, args=[url, "/api/vehicles/slow/newest"])
    slow.start()
    assert store.hanging.wait(60)
    assert get(url, "/healthz") == {"ok": True}
    store.go.set()
    slow.join()


def test_a_vehicle_whose_values_are_all_invalid_is_there(faulty: tuple[str, FaultyStore]) -> None:
    url, store = faulty
    store.valid = False
    assert get(url, "/api/vehicles/00000000000000aa")["last_tick_ms"] == START_MS
    refused(url, "/api/vehicles/00000000000000bb", 404)


def test_a_store_that_is_away_is_503_with_its_reason(faulty: tuple[str, FaultyStore]) -> None:
    url, store = faulty
    store.error = CloudError("http://127.0.0.1:8086: no answer")
    assert refused(url, "/api/vehicles", 503) == "http://127.0.0.1:8086: no answer"
    assert refused(url, "/readyz", 503) == "http://127.0.0.1:8086: no answer"
    assert get(url, "/healthz") == {"ok": True}


def test_a_ticket_database_that_fails_is_503_with_its_reason(faulty: tuple[str, FaultyStore], tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "t.db") as database:
        database.execute("DROP TABLE tickets")
    database.close()
    assert "no such table" in refused(faulty[0], "/api/tickets", 503)
    assert "no such table" in refused(faulty[0], "/readyz", 503)


def test_a_bug_is_logged_and_gives_nothing_away(faulty: tuple[str, FaultyStore], caplog: pytest.LogCaptureFixture) -> None:
    url, store = faulty
    store.error = RuntimeError("secret detail")
    assert "secret" not in refused(url, "/api/vehicles", 500)
    assert "secret detail" in caplog.text


def test_values_that_are_not_finite_are_null_and_a_model_may_be_unknown(faulty: tuple[str, FaultyStore]) -> None:
    answer = get(faulty[0], f"/api/vehicles/00000000000000aa/series?signal={quote('A.<b>')}")
    assert answer == {"tick_ms": [1, 2, 3], "series": {"A.<b>": [None, None, 0.5]}, "units": {"A.<b>": ""}}
