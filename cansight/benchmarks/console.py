"""The console's vehicle page in Chromium: how long until it is painted, and until a day of 86,400 ticks is drawn.

The store holds 50 vehicle-days of 250 signals at 1 Hz, embedded; the page is visited by a browser that has never been here. What it is
measured against is the promise, not a rival: one second each, on an idle machine.
"""

import asyncio
import shutil
import statistics
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cansight.benchmarks.material import Material
from cansight.benchmarks.result import Result
from cansight.errors import UsageError

if TYPE_CHECKING:
    from aiohttp import web

    from cloud.store import Store

VEHICLES = 50
DAY_S = 86_400
SIGNALS = 250
DRAWN = 3  # signals in the chart, each in a panel of its own where their units differ
VISITS = 5
PROMISE_MS = 1000.0
CHUNK_S = 3600
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
# asked at every frame; true only after the frame in which the lines were drawn
CHARTED = "() => document.querySelector('.chart')?.dataset.drawn === '%d' && performance.now()" % DRAWN  # noqa: UP031 - braces are the script's


def console(_material: Material) -> list[Result]:
    """First paint, and the chart of a day. Raises UsageError where there is no browser."""
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError as error:
        raise UsageError("bench console: it needs playwright; pip install cansight[dev]") from error
    if chromium is None:
        raise UsageError("bench console: it needs the program chromium (Debian package chromium)")
    from cloud.api import Backend, make_app
    from cloud.roles import Role
    from cloud.stores.embedded import EmbeddedStore
    from cloud.tickets.service import TicketService
    from cloud.tokens import Tokens

    with tempfile.TemporaryDirectory(prefix="cansight-console-") as name:
        folder = Path(name)
        tables = f"sqlite:///{folder / 'tickets.db'}"
        with EmbeddedStore(folder / "store.db") as store, TicketService(tables) as tickets, Tokens(tables) as tokens:
            vehicle, signals = _fill(store)
            token = tokens.create("bench", Role.READ_ONLY)
            app = make_app(Backend(store, tickets, tokens))
            query = "&".join([*(f"s={one}" for one in signals), f"r={DAY_S}"])
            painted, charted = [], []
            with _serving(app) as url, sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
                for _ in range(VISITS):
                    context = browser.new_context(viewport={"width": 1280, "height": 800})
                    context.request.post(f"{url}/api/session", data={"token": token})
                    page = context.new_page()
                    page.goto(f"{url}/#/vehicles/{vehicle}?{query}", wait_until="commit")
                    charted.append(float(page.wait_for_function(CHARTED, timeout=60_000).json_value()))
                    painted.append(float(page.evaluate(PAINTED)))
                    context.close()
                browser.close()
    what = f"vehicle page of {SIGNALS} signals over {VEHICLES} vehicle-days"
    return [_result(f"{what}, first paint", painted), _result(f"{what}, chart of {DRAWN} signals over 24 h at 1 Hz", charted)]


def _result(what: str, found: list[float]) -> Result:
    median = statistics.median(found)
    return Result("console", what, "promise", "ms", median, PROMISE_MS, PROMISE_MS / median, 1.0)


def _fill(store: "Store") -> tuple[str, list[str]]:
    """Days of signals that wander, the same for every vehicle. Gives a vehicle, and the signals to draw."""
    from cloud.events import TickRows
    from dbc.compiler import compile_dbc
    from dbc.vehicles import DBC_FILES

    schema = compile_dbc(DBC_FILES).schema
    columns = np.flatnonzero(schema.scale != 0)[:SIGNALS].astype(np.int32)
    random = np.random.default_rng(1)
    start_ms = 1_790_000_000_000 // 3_600_000 * 3_600_000
    for part in range(DAY_S // CHUNK_S):
        raw = 1000 + np.cumsum(random.integers(-1, 2, (CHUNK_S, len(columns))), axis=0)
        reason = np.zeros((60, len(columns)), np.uint8)
        for number in range(VEHICLES):
            rows = []
            for minute in range(CHUNK_S // 60):
                inside = slice(60 * minute, 60 * minute + 60)
                tick_ms = start_ms + 1000 * (part * CHUNK_S + np.arange(CHUNK_S, dtype=np.int64)[inside])
                sequence = part * CHUNK_S // 60 + minute + 1
                rows.append(
                    TickRows(
                        vehicle=f"{number:016x}",
                        model="benchmark",
                        stream=number.to_bytes(16, "big"),
                        sequence=sequence,
                        received_ms=int(tick_ms[-1]),
                        replay=False,
                        schema=schema,
                        columns=columns,
                        tick_ms=tick_ms,
                        raw=raw[inside],
                        reason=reason,
                    )
                )
            store.write(rows)
    drawn: list[str] = []
    units: set[str] = set()
    for column in columns:
        if schema.units[column] and schema.units[column] not in units and len(drawn) < DRAWN:
            units.add(schema.units[column])
            drawn.append(schema.names[column])
    return f"{VEHICLES // 2:016x}", drawn


@contextmanager
def _serving(app: "web.Application") -> Iterator[str]:
    """The application on a free loopback port, in a thread of its own; its address."""
    from aiohttp import web

    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app, access_log=None)
    stop = asyncio.Event()
    ready = threading.Event()
    failed: list[BaseException] = []

    async def run() -> None:
        try:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            ready.set()
            await stop.wait()
        finally:
            await runner.cleanup()

    def work() -> None:
        try:
            loop.run_until_complete(run())
        except BaseException as error:  # noqa: BLE001 - told to the thread that waits
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=work, name="console")
    thread.start()
    ready.wait()
    if failed:
        raise failed[0]
    try:
        address: Any = runner.addresses[0]
        yield f"http://{address[0]}:{address[1]}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
