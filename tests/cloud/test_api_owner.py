"""An owner's token sees one vehicle in one period only: every route of the table is asked everything, and no answer holds anything else.

The requests are made from the routes' declarations, so that a new route, or a new parameter, is tested or fails the test.
"""

import io
import itertools
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from example_fleet import FLOW, INLET, MODEL, OTHER, VEHICLE, Drive, example_catalogue, example_schema, finding, serving
from pyarrow import csv, parquet

from cloud.api import Backend, make_app
from cloud.api.application import PAGE, ROUTES
from cloud.api.rates import Rate
from cloud.api.route import Route
from cloud.roles import Role
from cloud.stores.embedded import EmbeddedStore
from cloud.tickets.policy import Handling
from cloud.tickets.service import TicketService
from cloud.tokens import Tokens

FROM_MS, TO_MS = 1_760_000_000_000, 1_760_000_060_000
CLOCK_MS = range(1_700_000_000_000, 1_900_000_000_000)  # a whole number in here is taken for a time
SECRETS = ("code_before", "code_after", "code_other", OTHER, "the-assignee", "the-comment", "the-operator")

# What each parameter is asked with, beside nothing.
ASKED: dict[str, list[str]] = {
    "signal": [FLOW, INLET],
    "from_ms": ["0", str(FROM_MS - 10_000)],
    "to_ms": [str(1 << 53), str(TO_MS + 10_000)],
    "points": ["2", "10000"],
    "bands": ["1", "0"],
    "format": ["json", "csv", "parquet"],
    "vehicle": [VEHICLE, OTHER],
    "model": [MODEL],
    "handling": ["new", "in workshop"],
    "open": ["1", "0"],
    "condition": ["active"],
    "tier": ["unrated"],
    "fault_code": ["code_before", "code_inside", "code_after", "code_other"],
    "pack_id": ["coolant-1"],
    "assignee": ["the-assignee", ""],
    "hidden": ["1", "0"],
    "q": ["code", "the-assignee", OTHER],
    "state": ["online", "silent"],
    "order": ["attention"],
    "limit": ["1", "500"],
    "cursor": ["OTk5", "WzAsMCwiIl0"],  # 999, [0,0,""]
    "lang": ["zh"],
    "from_day": ["2025-10-09", "1970-01-01"],
    "to_day": ["2025-10-09"],
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[Route], dict[str, str], set[float]]]:
    """A vehicle with values and tickets before, in and after the period, and another one: URL, routes, tokens, others' values."""
    folder = tmp_path_factory.mktemp("owner")
    schema, catalogue = example_schema(), example_catalogue()
    database = f"sqlite:///{folder / 'cansight.db'}"
    mine, others = set[float](), set[float]()
    with EmbeddedStore(folder / "store.db") as store, TicketService(database, {MODEL: catalogue}) as tickets, Tokens(database) as tokens:
        for vehicle, start_ms, seed in ((VEHICLE, FROM_MS - 60_000, 1), (VEHICLE, FROM_MS, 2), (VEHICLE, TO_MS, 3), (OTHER, FROM_MS, 4)):
            rows = Drive(schema, vehicle, seed, start_ms).batch(60)
            store.write([rows])
            (mine if (vehicle, start_ms) == (VEHICLE, FROM_MS) else others).update(rows.value.ravel().tolist())
        for number, (vehicle, tick_ms, code) in enumerate(
            (
                (VEHICLE, FROM_MS - 1000, "code_before"),
                (VEHICLE, FROM_MS + 30_000, "code_inside"),
                (VEHICLE, TO_MS, "code_after"),
                (OTHER, FROM_MS + 30_000, "code_other"),
            ),
            start=1,
        ):
            event = finding(number, vehicle=vehicle, tick_ms=tick_ms, fault_code=code)
            tickets.consume(event)
            if code == "code_inside":  # what it names may be a value of the others by chance
                mine.update(float(number) for one in event.finding.contributions for number in (one.expected, one.seen, one.share))
        tickets.desk.assign(2, "the-assignee", "the-operator")
        tickets.desk.comment(2, "the-comment", "the-operator")
        tickets.handle(2, Handling.IN_WORKSHOP, "the-operator")
        secrets = {
            "owner": tokens.create("owner", Role.OWNER, VEHICLE, FROM_MS, TO_MS),
            "operator": tokens.create("the-operator", Role.OPERATOR),
        }
        now_ms = CLOCK_MS.stop - 1
        backend = Backend(store, tickets, tokens, lambda: {"online_ms": {VEHICLE: now_ms, OTHER: now_ms}}, {MODEL: (schema, catalogue)})
        app = make_app(backend, rates=dict.fromkeys(Role, Rate(1e6, 1e6)))
        with serving(app) as url:
            # small whole numbers are counts and limits as well as values
            yield url, app[ROUTES], secrets, {value for value in others - mine if not float(value).is_integer() or abs(value) > 10_000}


def ask(url: str, path: str, token: str, method: str = "GET") -> tuple[int, str, bytes]:
    request = urllib.request.Request(url + path, method=method, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read()


def paths(route: Route) -> list[str]:
    """Its path with every vehicle and every ticket."""
    pools = {"vehicle": [VEHICLE, OTHER], "id": ["1", "2", "3", "4"]}
    names = [field.encode_name for field in msgspec.structs.fields(route.path_type)]
    return [route.path.format(**dict(zip(names, chosen, strict=True))) for chosen in itertools.product(*(pools[name] for name in names))]


def queries(route: Route) -> Iterator[str]:
    """What is required, then each parameter with each of its values, then the widest of all times with each."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(route.query_type)}
    base = {name: ASKED[name][0] for name, field in fields.items() if field.required}
    wide = {name: ASKED[name][0] for name in ("from_ms", "to_ms") if name in fields}
    yield urlencode(base)
    for name in fields:
        for value in ASKED[name]:
            yield urlencode(base | {name: value})
            yield urlencode(base | wide | {name: value})


def leaks(kind: str, body: bytes, values: set[float]) -> list[str]:
    """What in an answer is not the owner's."""
    if kind.startswith("application/json"):
        document = json.loads(body)
    else:
        table = csv.read_csv(io.BytesIO(body)) if kind.startswith("text/csv") else parquet.read_table(io.BytesIO(body))
        times = table.column("time").cast(pa.timestamp("ms", "UTC")).cast(pa.int64()).to_pylist()
        document = {"tick_ms": times, "series": [table.column(name).to_pylist() for name in table.column_names if name != "time"]}
    return list(_found(document, values))


def _found(value: Any, values: set[float]) -> Iterator[str]:
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _found(name, values)
            if name == "handling" and one == Handling.IN_WORKSHOP:
                yield "where the ticket went after the period"
            yield from _found(one, values)
    elif isinstance(value, list):
        for one in value:
            yield from _found(one, values)
    elif isinstance(value, str):
        yield from (f"{secret} in {value[:200]!r}" for secret in SECRETS if secret in value)
    elif isinstance(value, int) and value in CLOCK_MS:
        if not FROM_MS <= value < TO_MS:
            yield f"time {value}"
    elif isinstance(value, float) and value in values:
        yield f"value {value}"


def test_every_route_shows_an_owner_the_vehicle_in_the_period_and_nothing_else(
    fleet: tuple[str, list[Route], dict[str, str], set[float]],
) -> None:
    url, routes, secrets, values = fleet
    seen, leaked_to_operators = set(), set()
    for route in routes:
        if route.least is None or route.method == "DELETE" or route.path == "/api/openapi.json":
            continue  # nothing of the fleet is in them
        for path in paths(route):
            if not route.owner:
                assert ask(url, path, secrets["owner"], route.method)[0] == 403, f"{route.method} {path}"
                continue
            assert route.method == "GET", f"{route.method} {path}: nothing is an owner's to change"
            for query in queries(route):
                where = f"{path}?{query}"
                status, kind, body = ask(url, where, secrets["owner"])
                assert status in (200, 400, 404), (where, body)
                if status != 200:
                    body = body.replace(OTHER.encode(), b"")  # a refusal says what was asked
                assert route.path == "/api/me" or not leaks(kind, body, values), where
                if OTHER in path:
                    assert status == 404, where
                if status == 200:
                    seen.add(route.path)
                    if route.path not in leaked_to_operators:
                        status, kind, body = ask(url, where, secrets["operator"])
                        if status == 200 and leaks(kind, body, values):
                            leaked_to_operators.add(route.path)
    # the owner does see something on each, and what is looked for is there for others to see
    open_routes = {route.path for route in routes if route.owner and route.method == "GET"} - {"/api/openapi.json"}
    assert seen == open_routes
    assert leaked_to_operators == open_routes


def test_what_is_the_owners_is_there(fleet: tuple[str, list[Route], dict[str, str], set[float]]) -> None:
    url, _, secrets, _ = fleet

    def get(path: str) -> Any:
        return json.loads(ask(url, path, secrets["owner"])[2])

    assert get("/api/me") == {"name": "owner", "role": "owner", "vehicle": VEHICLE, "from_ms": FROM_MS, "to_ms": TO_MS}
    [vehicle] = get("/api/vehicles")["vehicles"]
    assert (vehicle["vehicle"], vehicle["last_tick_ms"], vehicle["open_tickets"]) == (VEHICLE, TO_MS - 1000, 1)
    series = get(f"/api/vehicles/{VEHICLE}/series?signal={FLOW}&from_ms=0&to_ms={1 << 53}&points=10000")
    assert series["tick_ms"]
    assert get(f"/api/vehicles/{VEHICLE}/series?signal={FLOW}")["tick_ms"] == list(range(FROM_MS, TO_MS, 1000))
    signals = {one["signal"]: one for one in get(f"/api/vehicles/{VEHICLE}/signals")}
    assert signals[FLOW]["value"] == get(f"/api/vehicles/{VEHICLE}/series?signal={FLOW}")["series"][FLOW][-1]
    [ticket] = get("/api/tickets")["tickets"]
    assert (ticket["fault_code"], ticket["handling"], ticket["sla"]) == ("code_inside", "new", None)
    shown = get(f"/api/tickets/{ticket['id']}")
    assert shown["evidence"]["window"]["tick_ms"] == list(range(FROM_MS, FROM_MS + 31_000, 1000))
    assert {len(values) for values in shown["evidence"]["window"]["values"]} == {31}


def test_a_series_of_months_is_thinned_within_the_period(fleet: tuple[str, list[Route], dict[str, str], set[float]]) -> None:
    """A bucket that begins before the period holds only what is in it."""
    url, _, secrets, values = fleet
    for span_ms in (100_000, 10_000_000, 10_000_000_000):
        query = f"signal={quote(FLOW)}&from_ms={FROM_MS - span_ms}&to_ms={TO_MS + span_ms}&points=2&bands=1"
        status, kind, body = ask(url, f"/api/vehicles/{VEHICLE}/series?{query}", secrets["owner"])
        assert (status, leaks(kind, body, values)) == (200, [])
        assert np.all(np.array(json.loads(body)["tick_ms"]) >= FROM_MS)


def test_nothing_is_served_that_is_not_declared(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'cansight.db'}"
    with TicketService(database) as tickets, Tokens(database) as tokens:
        app = make_app(Backend(EmbeddedStore(tmp_path / "store.db"), tickets, tokens))
        declared = {(route.method, route.path) for route in app[ROUTES]} | {("GET", path) for path in PAGE}
        served = {(one.method, one.resource.canonical) for one in app.router.routes() if one.resource is not None and one.method != "HEAD"}
        assert served == declared
        assert {route.path for route in app[ROUTES] if route.least is None} == {"/healthz", "/readyz", "/api/session"}
        assert len(declared) == len(app[ROUTES]) + len(PAGE)
        told = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
        for route in app[ROUTES]:
            line = next((line for line in told.splitlines() if line.startswith(f"| `{route.method} {route.path}` ")), "")
            least = route.least.value if route.least is not None else "none"
            assert line.endswith(f" | {least} | {'yes' if route.owner else ''} |"), f"docs/api.md: {route.method} {route.path}"
