"""A vehicle that says findings at random moments, by the agent's own recorder, outbox and uplink, and watches for their tickets."""

import random
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from cansight.demo.stage import CAR_DBC, Endpoint
from cansight.demo.watch import Api
from cansight.errors import WorkFailed
from dbc.compiler import load_compiled
from edge.config import EdgeConfig
from edge.identity import load_identity
from edge.outbox import Outbox
from edge.outbox_store import OutboxStore
from edge.recorder import TECHNICAL, Recorder
from edge.streams import Journey
from edge.uplink import Uplink
from wire.messages import Clock, Contribution, FindingMessage, Window

LOOK_S = 0.01  # the tickets are asked for this often while one is awaited, so a measured latency is at most this and one answer too long
MOST_PAUSE_S = 0.6  # between a ticket and the next finding
PATIENCE_S = 30.0
GOODBYE_S = 5.0
BATCH_TICKS = 2
ROOM = 16 << 20
WINDOW_TICKS, WINDOW_SIGNALS = 60, 4


class Voice:
    """`with Voice(folder of a demonstration, ...) as voice`: speaks until the end; `tickets_s` has each finding's latency, in order."""

    def __init__(self, folder: Path, broker: Endpoint, page: Endpoint) -> None:
        self.tickets_s: list[float] = []
        self._folder, self._broker = folder, broker
        self._api = Api(page)
        self._stack = ExitStack()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="voice", daemon=True)
        self._failed: BaseException | None = None

    def __enter__(self) -> Self:
        from cloud import pki

        config = _settings(self._folder / "pki", self._folder / "voice", pki.vehicle(self._folder / "pki"), self._broker)
        compiled = load_compiled(config.dbc.files, self._folder / "voice" / "cache")
        identity = load_identity(config)
        clock = Clock(boot_ms=0, utc_ms=0, source="system")
        journey = Journey(random.randbytes(16), clock, compiled.schema.schema_id, (), "cansight benchmark")
        self._vehicle = config.vehicle
        self._recorder = Recorder(compiled.schema, lambda _: TECHNICAL, identity, journey, BATCH_TICKS)
        outbox = Outbox(lambda most: random.uniform(0, most))
        self._store = self._stack.enter_context(OutboxStore(Path(config.state) / "outbox", ROOM, outbox))
        self._uplink = Uplink(config.broker, identity, outbox, self._store.lock)
        self._uplink.start()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()
        self._uplink.stop(GOODBYE_S)
        self._api.close()
        self._stack.close()
        if error is None:
            self.check()

    def check(self) -> None:
        """Raises what has ended the thread."""
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        try:
            while not self._end.is_set():
                self._say_and_wait(f"voice_{len(self.tickets_s)}")
                self._end.wait(random.uniform(0, MOST_PAUSE_S))
        except Exception as error:  # noqa: BLE001 - handed to the main thread
            self._failed = error

    def _say_and_wait(self, fault_code: str) -> None:
        said_s = time.monotonic()
        for record in self._recorder.message(_finding(fault_code), said_s):
            self._store.append(record)
        self._store.commit()
        self._uplink.wake()
        while not self._has_ticket(fault_code):
            if time.monotonic() - said_s > PATIENCE_S:
                raise WorkFailed(f"bench latency: a finding had no ticket after {PATIENCE_S:.0f} s")
            self._store.maintain(time.monotonic())
            time.sleep(LOOK_S)
        self.tickets_s.append(time.monotonic() - said_s)

    def _has_ticket(self, fault_code: str) -> bool:
        tickets = (self._api.get("/api/tickets", vehicle=self._vehicle) or {}).get("tickets", [])
        return any(ticket["fault_code"] == fault_code for ticket in tickets)


def _finding(fault_code: str) -> FindingMessage:
    """As long as a detector's."""
    now_ms = time.time_ns() // 1_000_000
    signals = [f"Benchmark.Signal{number}" for number in range(WINDOW_SIGNALS)]
    ticks = [now_ms - 1000 * ago for ago in range(WINDOW_TICKS, 0, -1)]
    values: list[list[float | None]] = [[random.random() for _ in ticks] for _ in signals]
    return FindingMessage(
        finding_id=random.randbytes(16),
        state="active",
        pack_id="benchmark",
        fault_code=fault_code,
        tick_ms=now_ms,
        since_ms=ticks[0],
        score=2.0,
        threshold=1.0,
        p_value=0.001,
        contributions=[Contribution(signal=name, unit="", expected=0.0, seen=1.0, share=1 / WINDOW_SIGNALS) for name in signals],
        window=Window(tick_ms=ticks, signals=signals, values=values),
    )


def _settings(keys: Path, state: Path, vehicle: str, broker: Endpoint) -> EdgeConfig:
    state.mkdir(mode=0o700)
    certificate = keys / "vehicles" / vehicle
    document = {
        "vehicle": vehicle,
        "state": str(state),
        "source": {"log": "-"},
        "dbc": {"files": list(CAR_DBC)},
        "broker": {
            "host": broker.host,
            "port": broker.port,
            "ca": str(keys / "fleet-ca.pem"),
            "certificate": str(certificate.with_suffix(".pem")),
            "key": str(certificate.with_suffix(".key")),
        },
        "recipients": {"files": [str(keys / "recipient.json")]},
    }
    return msgspec.convert(document, EdgeConfig)
