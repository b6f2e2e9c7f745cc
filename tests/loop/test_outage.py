"""The network is away for an hour, and comes back slow: live data goes first, the backlog drains behind it, and everything is stored once.

Real agent, mosquitto and aggregator; the link is a proxy. The short form records a quarter of an hour fast, before the agent's restart in a
garage without coverage. With CANSIGHT_SOAK=1 the hour is an hour, with the agent alive, and latency is judged: live p99 under 5 s again
within 10 s of the network's return. The figures are printed (`pytest -s`).
"""

import json
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import ledger_books
import numpy as np
import pytest

import processes
import servers
from cansight.demo.stage import Endpoint
from cansight.demo.stage import Vehicle as Watched
from cansight.demo.watch import POINTS, Api, Watch, latency_s, read_ledger
from link_proxy import LinkProxy
from wire.messages import Rows

SOAK = bool(os.environ.get("CANSIGHT_SOAK"))
OUTAGE_S = 3600 if SOAK else 900  # of driving that waits
MESSAGES = 32  # of eight signals each: 256 signals
SLICES = 8  # of a second: in each, every eighth message
LATENCY_S, BYTES_PER_S = 0.05, 32 << 10  # of the link that is back: 256 kbit/s, 100 ms there and back
PROBE = "M0.S0"
LIVE_TICKS = 8 if SOAK else 3  # that are looked at, at least


def dbc() -> str:
    lines = ['VERSION ""', "NS_ :", "BS_:", "BU_: ECU"]
    for message in range(MESSAGES):
        lines.append(f"BO_ {256 + message} M{message}: 8 ECU")
        lines += [f' SG_ S{signal} : {8 * signal}|8@1+ (1,0) [0|255] "" ECU' for signal in range(8)]
    return "\n".join(lines) + "\n"


class Frames:
    """Signals that wander: half of them now and then, half of them never."""

    def __init__(self) -> None:
        self._random = random.Random(7)
        self._values = [bytearray(self._random.randbytes(8)) for _ in range(MESSAGES)]

    def lines(self, stamp_s: float, messages: range) -> str:
        text = []
        for message in messages:
            value = self._values[message]
            value[self._random.randrange(4)] += self._random.choice([0, 1]) if value[0] < 250 else -value[0] + 1
            for place in range(4):
                value[place] %= 250
            text.append(f"({stamp_s:.6f}) can0 {256 + message:03X}#{value.hex().upper()}\n")
        return "".join(text)


class Bus(threading.Thread):
    """Writes frames into a FIFO as time passes."""

    def __init__(self, fifo: Path) -> None:
        super().__init__(daemon=True)
        self._fifo = fifo
        self._over = threading.Event()

    def run(self) -> None:
        frames, began_s, number = Frames(), time.time(), 0
        with self._fifo.open("w", buffering=1 << 16) as bus:
            while not self._over.wait(max(0.0, began_s + number / SLICES - time.time())):
                bus.write(frames.lines(time.time(), range(number % SLICES, MESSAGES, SLICES)))
                bus.flush()
                number += 1

    def end(self) -> None:
        self._over.set()
        self.join()


class Loop:
    """Broker, link, aggregator, one vehicle."""

    def __init__(self, folder: Path, pki: Path, broker: servers.Server, stack: ExitStack) -> None:
        from cloud.pki import vehicle as enrol

        self.folder, self.pki = folder, pki
        self.vehicle = enrol(pki)
        self.link = stack.enter_context(LinkProxy(broker.port))
        self.dbc = [f"{folder / 'car.dbc'}@can0"]
        (folder / "car.dbc").write_text(dbc())
        self.ledger = folder / f"{self.vehicle}.csv"
        cloud, url = processes.cloud_settings(folder, pki, broker.port, self.dbc, {"kind": "embedded"})
        self.settings, self.cloud = cloud, processes.cansight("cloud", "run", "-c", cloud, log=folder / "cloud.log")
        stack.callback(self.cloud.wait)
        stack.callback(self.cloud.terminate)
        endpoint = Endpoint("127.0.0.1", int(url.rpartition(":")[2]), processes.TOKENS[url])
        state = folder / self.vehicle
        watched = Watched(self.vehicle, "mustang", "", Path(), 1.0, 0, Path(), state)
        self.watch = Watch(Api(endpoint), [watched])
        self._stack = stack
        processes.until(self.watch.api.ready, "the aggregator")

    def agent(self, source: Path, name: str) -> tuple[object, Path]:
        settings = processes.edge_settings(
            self.folder, self.pki, self.link.port, self.vehicle, source, self.dbc, run={"stop_when_drained": False}
        )
        log = self.folder / f"{name}.log"
        process = processes.cansight("edge", "run", "-c", settings, log=log)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process, log

    def stored(self, from_ms: int, to_ms: int) -> list[int]:
        found: list[int] = []
        for begin in range(from_ms, to_ms, POINTS * 1000):
            part = {"from_ms": begin, "to_ms": min(to_ms, begin + POINTS * 1000), "points": POINTS}
            answer = self.watch.api.get(f"/api/vehicles/{self.vehicle}/series", signal=[PROBE], **part)
            found += (answer or {}).get("tick_ms", [])
        return found

    def landed_before(self, tick_ms: int) -> int:
        """Ticks that landed before this one. Ends the aggregator."""
        self.cloud.terminate()
        assert self.cloud.wait(30) == 0
        landed = 0
        for opened in ledger_books.opened_messages(self.settings, ledger_books.Books()):
            if isinstance(opened.message, Rows):
                if tick_ms in opened.message.tick_ms:
                    return landed
                landed += len(opened.message.tick_ms)
        raise AssertionError(f"tick {tick_ms} never landed")

    @property
    def landed(self) -> int:
        return int((self.watch.api.get("/api/stats") or {}).get("landed", 0))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.mark.timeout(OUTAGE_S + 600)
def test_after_an_outage_live_data_goes_first_and_nothing_is_lost(
    tmp_path: Path, pki: Path, mosquitto: servers.Server, stack: ExitStack
) -> None:
    loop = Loop(tmp_path, pki, mosquitto, stack)
    loop.link.freeze()
    began_s = time.time()
    if not SOAK:
        log, frames, start_s = tmp_path / "drive.log", Frames(), int(began_s) - OUTAGE_S - 60
        log.write_text("".join(frames.lines(start_s + second, range(MESSAGES)) for second in range(OUTAGE_S)))
        before, said = loop.agent(log, "before")
        processes.until(lambda: "the source is finished" in said.read_text(), "the drive to be recorded")
        before.terminate()  # type: ignore[attr-defined]
        assert before.wait(20) == 0  # type: ignore[attr-defined]
    fifo = tmp_path / "bus"
    os.mkfifo(fifo)
    bus = Bus(fifo)
    bus.start()
    agent, _ = loop.agent(fifo, "agent")
    outage = len(read_ledger(loop.ledger)) if not SOAK else 0
    if SOAK:
        processes.until(lambda: time.time() - began_s >= OUTAGE_S, "the outage to be over", OUTAGE_S + 60)
    processes.until(lambda: len(read_ledger(loop.ledger)) >= outage + 4, "live ticks")
    recorded = read_ledger(loop.ledger)
    loop.link.latency_s, loop.link.bytes_per_s = LATENCY_S, BYTES_PER_S
    back_ns, up_bytes, landed_before = time.time_ns(), loop.link.bytes_up, loop.landed
    loop.link.thaw()

    first_live_s = drained_s = float("nan")
    looked_ns = back_ns
    while np.isnan(drained_s) or len(loop.watch.seen[loop.vehicle].polls) < LIVE_TICKS:
        loop.watch.poll_newest()
        now_ns = time.time_ns()
        assert now_ns - back_ns < 120e9, (tmp_path / "agent.log").read_text()
        newest = loop.watch.seen[loop.vehicle].newest_ms
        if np.isnan(first_live_s) and newest >= recorded[-1, 0]:
            first_live_s = (now_ns - back_ns) / 1e9
        if np.isnan(drained_s) and now_ns - looked_ns > 500e6:
            looked_ns = now_ns
            if len(loop.stored(int(recorded[0, 0]), int(recorded[-1, 0]) + 1)) == len(recorded):
                drained_s = (now_ns - back_ns) / 1e9
        time.sleep(0.01)
    bus.end()
    rows = read_ledger(loop.ledger)  # what is sealed when the agent is told to end stays in its outbox
    processes.until(loop.watch.all_visible, "the last tick")
    agent.terminate()  # type: ignore[attr-defined]
    assert agent.wait(20) == 0, (tmp_path / "agent.log").read_text()  # type: ignore[attr-defined]
    loop.watch.poll_newest()

    latency = latency_s(loop.ledger, loop.watch.seen[loop.vehicle].polls)[: len(rows)]
    entered_s = (rows[: len(latency), 1] - back_ns) / 1e9
    again = latency[(entered_s > 0) & (entered_s < drained_s)]
    after_10 = latency[entered_s > (10.0 if SOAK else first_live_s)]
    figures = {
        "backlog, ticks": len(recorded),
        "backlog, kB up": round((loop.link.bytes_up - up_bytes) / 1000),
        "messages landed": loop.landed - landed_before,
        "network back to live data in the store, s": round(first_live_s, 2),
        "backlog drained, s": round(drained_s, 1),
        "live latency while it drains, s: p50, p99, n": [*_percentiles(again), len(again)],
        "live latency later, s: p50, p99, n": [*_percentiles(after_10), len(after_10)],
    }
    print(json.dumps(figures, indent=1))
    stored = loop.stored(int(rows[0, 0]), int(rows[-1, 0]) + 1)
    assert len(stored) == len(set(stored))
    assert sorted(stored) == sorted(rows[:, 0].tolist())
    before_live = loop.landed_before(int(recorded[-1, 0])) / len(recorded)
    print(f"of the backlog landed before live data: {before_live:.3f}")
    assert before_live < 0.5, "live data waited behind the backlog"
    if SOAK:
        assert first_live_s < 10.0
        assert len(after_10), "the backlog was gone before anything could be judged"
        assert _percentiles(after_10)[1] < 5.0


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    return (round(float(np.percentile(values, 50)), 2), round(float(np.percentile(values, 99)), 2)) if len(values) else (0.0, 0.0)
