"""A fleet of the example vehicle for the tests of tickets, API and page: real schema, real catalogue, real store, made-up drives."""

import asyncio
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from cloud.api import MAX_LINE_BYTES, Backend, make_app
from cloud.events import FindingEvent, TickRows
from cloud.roles import Role
from cloud.store import Store
from cloud.stores.embedded import EmbeddedStore
from cloud.tickets.service import TicketService
from cloud.tokens import Tokens
from dbc.catalogue import Catalogue
from dbc.compiler import load_compiled
from dbc.schema import Kind, Schema
from wire.messages import Contribution, FindingMessage, Window

EXAMPLE = Path(__file__).parents[2] / "dbc" / "vehicles" / "cansight_ev"
MODEL = "cansight_ev"
VEHICLE = "5f0c1d9a7be24c38"
OTHER = "a91e44d07c6b2f15"
START_MS = 1_760_000_000_000
HOUR_MS = 3_600_000  # ahead: the first vehicle is not called silent, however slow the machine
FLOW = "TMS_BatteryLoop.BatteryCoolantFlow"
INLET = "TMS_BatteryLoop.BatteryCoolantInletTemperature"
PRESSURE = "TMS_BatteryLoop.BatteryCoolantPressure"


def example_schema() -> Schema:
    return load_compiled([f"{EXAMPLE / 'drive.dbc'}@can0", f"{EXAMPLE / 'body.dbc'}@can1"], None).schema


def example_catalogue() -> Catalogue:
    return Catalogue.load(EXAMPLE / "catalogue.toml")


class Drive:
    """Raw values that wander within each signal's range, tick after tick."""

    def __init__(self, schema: Schema, vehicle: str, seed: int, start_ms: int = START_MS) -> None:
        self.schema, self.vehicle, self.tick_ms, self.sequence = schema, vehicle, start_ms, 0
        self.stream = seed.to_bytes(16, "big")
        self.random = np.random.default_rng(seed)
        low = np.nan_to_num(schema.minimum, nan=0.0)
        high = np.nan_to_num(schema.maximum, nan=100.0)
        self.low, self.high = low, np.where(high > low, high, low + 1)
        self.level = low + (self.high - low) * self.random.uniform(0.3, 0.7, len(schema))

    def batch(self, ticks: int) -> TickRows:
        step = (self.high - self.low) * 0.004
        walk = self.level + np.cumsum(self.random.normal(0, 1, (ticks, len(self.schema))) * step, axis=0)
        value = np.clip(walk, self.low, self.high)
        self.level = value[-1]
        times = self.tick_ms + 1000 * np.arange(ticks, dtype=np.int64)
        self.tick_ms += 1000 * ticks
        self.sequence += 1
        reason = np.zeros(value.shape, np.uint8)
        columns = np.arange(len(self.schema), dtype=np.int32)
        return TickRows(
            vehicle=self.vehicle,
            model=MODEL,
            stream=self.stream,
            sequence=self.sequence,
            received_ms=int(times[-1]),
            replay=False,
            schema=self.schema,
            columns=columns,
            tick_ms=times,
            raw=self._raw(value),
            reason=reason,
        )

    def _raw(self, value: NDArray[np.float64]) -> NDArray[np.int64]:
        scale = np.where(self.schema.scale == 0, 1, self.schema.scale)
        raw = np.round((value - self.schema.offset) / scale).astype(np.int64)
        for column in np.flatnonzero(self.schema.kind == Kind.FLOAT32):
            raw[:, column] = value[:, column].astype(np.float32).view(np.int32)
        for column in np.flatnonzero(self.schema.kind == Kind.FLOAT64):
            raw[:, column] = value[:, column].view(np.int64)
        return raw


def finding(
    number: int = 1,
    state: str = "active",
    vehicle: str = VEHICLE,
    tick_ms: int = START_MS + 240_000,
    fault_code: str = "coolant_leak",
    score: float = 31.7,
) -> FindingEvent:
    """A leak: flow falls, the inlet warms, the score climbs over its threshold."""
    ticks = np.arange(tick_ms - 119_000, tick_ms + 1000, 1000)
    grow = np.clip((np.arange(120) - 55) / 65, 0, 1)
    noise = np.random.default_rng(number).normal(0, 1, (4, 120))
    series = {
        "score": 4.2 + 0.5 * np.abs(noise[0]) + 27 * grow**1.6,
        FLOW: 10.4 - 0.9 * grow + 0.04 * noise[1],
        INLET: 27.1 + 1.4 * grow + 0.05 * noise[2],
        PRESSURE: 131.0 - 5.0 * grow + 0.3 * noise[3],
    }
    return FindingEvent(
        vehicle=vehicle,
        model=MODEL,
        stream=b"\x01" * 16,
        sequence=number,
        received_ms=tick_ms + 900,
        replay=False,
        finding=FindingMessage(
            finding_id=number.to_bytes(16, "big"),
            state="active" if state == "active" else "cleared",
            pack_id="coolant-1",
            fault_code=fault_code,
            tick_ms=tick_ms,
            since_ms=tick_ms - 40_000,
            score=score,
            threshold=12.5,
            p_value=0.00021,
            contributions=[
                Contribution(signal=FLOW, unit="l/min", expected=10.41, seen=9.52, share=0.58),
                Contribution(signal=INLET, unit="degC", expected=27.1, seen=28.5, share=0.29),
                Contribution(signal=PRESSURE, unit="kPa", expected=131.2, seen=126.0, share=0.13),
            ],
            window=Window(
                tick_ms=ticks.tolist(),
                signals=list(series),
                values=[[None if i in (20, 21) else float(v) for i, v in enumerate(values)] for values in series.values()],
            ),
        ),
    )


@contextmanager
def serving(app: web.Application, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The application on a free loopback port, in a thread of its own; its address without a slash at the end."""
    loop = asyncio.new_event_loop()
    started: asyncio.Future[str] = loop.create_future()
    stop = asyncio.Event()

    async def run() -> None:
        runner = web.AppRunner(app, max_line_size=MAX_LINE_BYTES)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
            await site.start()
            started.set_result(site.name)
            ready.set()
            await stop.wait()
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
            ready.set()
            raise
        finally:
            await runner.cleanup()

    ready = threading.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=[run()], name="api")
    thread.start()
    ready.wait()
    try:
        port = site_port(app, started.result())
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def site_port(_app: web.Application, name: str) -> int:
    return int(name.rpartition(":")[2])


@contextmanager
def example_fleet(folder: Path, ticks: int = 300) -> Iterator[tuple[str, Store, TicketService, Drive]]:
    """A served fleet of two vehicles, the first with an open ticket: its address, store, tickets and the first's drive."""
    schema, catalogue = example_schema(), example_catalogue()
    url = f"sqlite:///{folder / 'tickets.db'}"
    with EmbeddedStore(folder / "store.db") as store, TicketService(url, {MODEL: catalogue}) as tickets, Tokens(url) as tokens:
        drive = Drive(schema, VEHICLE, 1)
        store.write([drive.batch(ticks), Drive(schema, OTHER, 2).batch(20)])
        tickets.consume(finding())
        stats = {"landed": 2, "online_ms": {VEHICLE: time.time_ns() // 1_000_000 + HOUR_MS}}
        with served(Backend(store, tickets, tokens, lambda: stats, {MODEL: (schema, catalogue)})) as url:
            yield url, store, tickets, drive


TOKENS: dict[str, str] = {}
"""The operator's token of each address that `served` has given."""


@contextmanager
def served(backend: Backend) -> Iterator[str]:
    """The API on these parts, with an operator's token in TOKENS."""
    with serving(make_app(backend)) as url:
        TOKENS[url] = backend.tokens.create("tests", Role.OPERATOR)
        yield url
