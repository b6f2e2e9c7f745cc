"""Series as files and as bands, and lists page by page."""

import http.client
import io
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import pyarrow as pa
import pytest
from example_fleet import FLOW, INLET, OTHER, START_MS, TOKENS, VEHICLE, example_fleet, finding
from pyarrow import csv, parquet

from cloud.store import Store
from cloud.tickets.service import TicketService
from cloud.tickets.settings import Prognosis

TICKS = 300
SERIES = f"/api/vehicles/{VEHICLE}/series?signal={FLOW}&signal={INLET}"
WHOLE = f"{SERIES}&from_ms={START_MS}&to_ms={START_MS + 1000 * TICKS}"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Store, TicketService]]:
    with example_fleet(tmp_path_factory.mktemp("exports"), TICKS) as (url, store, tickets, _):
        yield url, store, tickets


def ask(url: str, path: str, accept: str = "*/*") -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {TOKENS[url]}", "Accept": accept})
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def get(url: str, path: str) -> Any:
    answer, body = ask(url, path)
    assert answer.status == 200, body
    return json.loads(body)


def test_a_file_has_every_tick_and_value_with_its_unit(fleet: tuple[str, Store, TicketService]) -> None:
    url, store, _ = fleet
    stored = store.series(VEHICLE, [FLOW, INLET], START_MS, START_MS + 1000 * TICKS, 1 << 30)
    answer, body = ask(url, f"{WHOLE}&format=parquet")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{VEHICLE}-{START_MS}-{START_MS + 1000 * TICKS}.parquet"'
    table = parquet.read_table(io.BytesIO(body))
    assert table.schema.field("time").type == pa.timestamp("ms", "UTC")
    assert table.schema.field(INLET).metadata == {b"unit": b"degC"}
    assert table.column("time").cast(pa.int64()).to_pylist() == stored.tick_ms.tolist()
    for signal in (FLOW, INLET):
        np.testing.assert_array_equal(table.column(signal).to_numpy(), stored.values[signal])
    again, body = ask(url, f"{WHOLE}&points=10", accept="text/csv")
    assert again.headers["Content-Type"] == "text/csv"
    read = csv.read_csv(io.BytesIO(body))
    assert read.column_names == ["time", FLOW, INLET]
    np.testing.assert_array_equal(read.column(FLOW).to_numpy(), stored.values[FLOW])
    assert read.num_rows == TICKS


def test_an_accept_header_that_names_json_too_gets_json(fleet: tuple[str, Store, TicketService]) -> None:
    for accept in ("application/json", "text/csv;q=0.5, application/json", "*/*", "nonsense"):
        assert ask(fleet[0], SERIES, accept)[0].headers["Content-Type"].startswith("application/json")


def test_too_long_an_export_is_refused(fleet: tuple[str, Store, TicketService]) -> None:
    answer, body = ask(fleet[0], f"{SERIES}&from_ms=0&to_ms={START_MS}&format=csv")
    assert (answer.status, json.loads(body)["error"]) == (400, "from_ms, to_ms: expected at most 10 days for csv, found 20370.4")


def test_bands_hold_every_value(fleet: tuple[str, Store, TicketService]) -> None:
    url, store, _ = fleet
    bands = get(url, f"{WHOLE}&points=20&bands=1")
    stored = store.series(VEHICLE, [FLOW], START_MS, START_MS + 1000 * TICKS, 1 << 30)
    assert bands["bucket_ms"] >= 2000
    assert len(bands["tick_ms"]) <= 14
    for at_ms, low, high in zip(bands["tick_ms"], bands["min"][FLOW], bands["max"][FLOW], strict=True):
        inside = stored.values[FLOW][(stored.tick_ms >= at_ms) & (stored.tick_ms < at_ms + bands["bucket_ms"])]
        assert (low, high) == (inside.min(), inside.max())
    whole = get(url, f"{WHOLE}&points=10000&bands=1")
    assert (whole["bucket_ms"], whole["min"]) == (0, whole["max"])


def test_a_request_for_32_long_names_is_answered(fleet: tuple[str, Store, TicketService]) -> None:
    names = "&".join(f"signal={quote('信' * 80)}{number}" for number in range(32))
    answer, body = ask(fleet[0], f"/api/vehicles/{VEHICLE}/series?{names}")
    assert (answer.status, "there is no signal" in body.decode() or "信" in body.decode()) == (400, True)


def test_pages_follow_each_other_without_a_gap_or_a_repeat(fleet: tuple[str, Store, TicketService]) -> None:
    url, _, tickets = fleet
    for number in range(2, 9):
        tickets.consume(finding(number, fault_code=f"code_{number}", vehicle=OTHER if number % 2 else VEHICLE))
    for number, probability in ((3, 0.7), (5, 0.97), (6, 0.7)):
        vehicle = OTHER if number % 2 else VEHICLE
        tickets.rating.rate(vehicle, f"code_{number}", [Prognosis(probability, 24 * 3_600_000, True, "p")])
    lists = (
        ("/api/tickets?limit=3", "tickets", "id"),
        ("/api/tickets?order=urgency&limit=3", "tickets", "id"),
        ("/api/vehicles?limit=1", "vehicles", "vehicle"),
        ("/api/audit/heads?limit=2", "heads", "ticket_id"),
    )
    for path, name, key in lists:
        whole = [one[key] for one in get(url, path.rpartition("limit=")[0])[name]]
        found, cursor, pages = [], "", 0
        while cursor is not None:
            answer = get(url, path + (f"&cursor={quote(cursor)}" if cursor else ""))
            found += [one[key] for one in answer[name]]
            cursor, pages = answer["next"], pages + 1
            if path.startswith("/api/tickets") and pages == 1:
                tickets.consume(finding(99, fault_code="meanwhile"))  # a new one does not shift the pages
        assert found == whole
        assert pages == -(-len(whole) // int(path.rpartition("=")[2]))
    urgent = get(url, "/api/tickets?order=urgency")["tickets"]
    assert [one["fault_code"] for one in urgent[:3]] == ["code_5", "code_6", "code_3"]  # red, then yellow, the newest first
    assert [one["id"] for one in urgent[3:]] == [one["id"] for one in get(url, "/api/tickets?tier=unrated")["tickets"]]
    assert get(url, f"/api/tickets?vehicle={OTHER}&q=CODE_3")["counts"]["new"] == 1
    assert get(url, "/api/vehicles?q=a91e")["vehicles"][0]["vehicle"] == OTHER
    assert [one["vehicle"] for one in get(url, "/api/vehicles?state=silent")["vehicles"]] == [OTHER]
