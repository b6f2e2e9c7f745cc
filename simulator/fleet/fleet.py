"""The loop: one thread and one epoll for every vehicle's connection, and each vehicle's batches at their time.

connect all ─▶ announce ─▶ ticks: cut, seal, offer; receipts; outages ─▶ drain ─▶ goodbye

A vehicle's k-th batch is due at its own moment within the seconds that a batch takes, so the load is even, as that of vehicles that were
started at any time.
"""

from __future__ import annotations

import heapq
import itertools
import select
import socket
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dbc.schema import Schema
from simulator.fleet.custody import Held, Key, Rules
from simulator.fleet.errors import FleetFailed
from simulator.fleet.keys import Trust, vehicle_id
from simulator.fleet.ledger import Ledger
from simulator.fleet.limits import require_files
from simulator.fleet.link import Endpoint, Link
from simulator.fleet.outages import Outage
from simulator.fleet.plan import BOOT_MS, TICK_MS, Plan
from simulator.fleet.prepared import Prepared, Values, Work
from simulator.fleet.report import Counts, OutageReport, Report, percentiles
from simulator.fleet.sealing import ROTATION_S, Journey, Sealed, Sealer
from simulator.fleet.sources import Source
from simulator.fleet.vehicle import CONNECT_S, Vehicle
from wire.envelope import StreamSealer
from wire.header import Header
from wire.messages import Clock
from wire.receipts import Status, receipt_key, tag_for

__all__ = ["Fleet", "probe_of"]

CONNECTING = 64  # handshakes at a time while the fleet is started; a storm has no such bound
LOOK_S = 0.5  # how often each vehicle's outbox is asked whether something is due again
SAVE_S = 1.0
CUTS_IN_A_ROW = 16  # batches cut before the sockets are looked at again
ANNOUNCE_S = 0.002  # processor time of an announcement, with room
PATIENCE_S = 120.0  # for the whole fleet to connect
POLL_S = 0.2
GRAIN_S = 0.02  # between two looks at the sockets of thousands of vehicles: one waking is for many of them, and a batch is late by no more
GRAIN_OF_S = 1e-5  # of a vehicle's: a small fleet looks at once


@dataclass
class _Storm:
    """An outage under way."""

    start_s: float
    length_s: float
    vehicles: list[Vehicle]
    away: set[int] = field(default_factory=set)  # numbers without a connection since
    behind: set[int] = field(default_factory=set)  # numbers with a backlog
    reconnected_s: float | None = None
    drained_s: float | None = None


def probe_of(schema: Schema, columns: NDArray[np.intp]) -> int:
    """Of the columns (m,), that whose values the ledger keeps: of the widest declared range, so that a wrong tick has another value."""
    span = (schema.maximum[columns] - schema.minimum[columns]) / np.abs(schema.scale[columns])
    return int(np.argmax(np.nan_to_num(span, nan=0.0, posinf=0.0)))


class Fleet:
    """`Fleet(...).run()`. columns: (m,) signals that every vehicle records. scenarios: (n) names, for the ledger.

    holes: (n) of each vehicle when it has no network, (begin, end) s since the first tick; beside the plan's outages of many at once.
    """

    def __init__(
        self,
        plan: Plan,
        schema: Schema,
        columns: NDArray[np.intp],
        values: Values,
        trust: Trust,
        endpoint: Endpoint,
        rules: Rules,
        ledger: Ledger | None = None,
        scenarios: Sequence[str] = (),
        holes: Sequence[Sequence[tuple[float, float]]] = (),
    ) -> None:
        self.plan = plan
        self.endpoint = endpoint
        self.jitter = plan.jitter
        self.counts = Counts()
        self._schema = schema
        self._columns = columns
        self._values = values
        self._trust = trust
        self._rules = rules
        self.ledger = ledger
        self._scenarios = scenarios
        self._holes = sorted((begin, end, number) for number, mine in enumerate(holes) for begin, end in mine)
        self._probe = probe_of(schema, columns)
        self._first_ms = plan.first_ms()
        self._share: list[float] = plan.share().tolist()
        self._links: dict[int, Link] = {}
        self._connects: list[tuple[float, int, Vehicle]] = []
        self._pushes = itertools.count()
        self._waiting: dict[Key, float] = {}  # sealed rows without a receipt -> monotonic s of their last tick
        self._latency = array("f")
        self._late = array("f")
        self._storms: list[_Storm] = []
        self._prepared: list[Prepared] = []
        self._connecting = 0
        self._arrived: set[int] = set()  # numbers of vehicles that had a connection
        self._vehicles: list[Vehicle] = []
        self._source: Source | None = None
        self._block: NDArray[np.int64] | None = None
        self._start_utc_ms = 0
        self._looked_s = self._saved_s = self._started_s = self._turned_s = 0.0
        self._grain_s = min(GRAIN_S, GRAIN_OF_S * plan.vehicles)
        self._steps = np.arange(plan.ticks_per_batch, dtype=np.int64) * TICK_MS
        self._stop = False

    @property
    def ids(self) -> list[str]:
        """Of every vehicle, by number."""
        return [vehicle_id(self.plan.seed, number) for number in range(self.plan.vehicles)]

    @property
    def probe(self) -> str:
        """The signal whose values the ledger keeps."""
        return self._schema.names[int(self._columns[self._probe])]

    @property
    def connected(self) -> int:
        return sum(vehicle.connected for vehicle in self._vehicles)

    @property
    def held(self) -> int:
        """Batches without a receipt."""
        return sum(vehicle.custody.held for vehicle in self._vehicles)

    def stop(self) -> None:
        """Cut no more batches; drain and end. From a signal handler."""
        self._stop = True

    def work(self) -> Work:
        """What `prepare` seals before the run."""
        plan = self.plan
        return Work(self._values, self.ids, self._first_ms, plan.batches, plan.ticks_per_batch, self._probe)

    def run(self, prepared: Iterable[Prepared] = (), progress: Callable[[str, float], None] = lambda words, share: None) -> Report:
        """From the first connection to the last receipt. progress(words, 0..1) is called now and then.

        FleetFailed when the broker cannot be reached or the files are too few. What is not receipted in the end is in the report.
        """
        self.plan.check()
        self._trust.read()
        require_files(self.plan.vehicles)
        self._vehicles = [
            Vehicle(number, self._trust.keys(name), self._rules, self, np.random.default_rng([self.plan.seed, number]).random)
            for number, name in enumerate(self.ids)
        ]
        self._prepared = list(prepared)
        self._resolve()
        with select.epoll() as self._epoll:
            try:
                connect_s = self._connect(progress)
                self._announce()
                cpu_s = time.process_time()
                self._tick(progress)
                ended_s = time.monotonic()
                self._drain(progress)
                cpu_s = time.process_time() - cpu_s
                drain_s = time.monotonic() - ended_s
            finally:
                unreceipted = self.held
                for vehicle in self._vehicles:
                    vehicle.stop()
                self._save()
        return Report(
            vehicles=self.plan.vehicles,
            signals=len(self._columns),
            ticks_per_batch=self.plan.ticks_per_batch,
            seed=self.plan.seed,
            probe=self.probe,
            duration_s=round(ended_s - self._started_s, 3),
            connect_s=round(connect_s, 3),
            drain_s=round(drain_s, 3),
            counts=self.counts,
            rows_receipted=len(self._latency),
            unreceipted=unreceipted,
            forged=sum(vehicle.custody.forged for vehicle in self._vehicles),
            latency_s=percentiles(np.array(self._latency, np.float32)),
            late_s=percentiles(np.array(self._late, np.float32)),
            cpu_s=round(cpu_s, 3),
            outages=tuple(
                OutageReport(storm.start_s, storm.length_s, len(storm.vehicles), storm.reconnected_s, storm.drained_s)
                for storm in self._storms
            ),
        )

    # the phases

    def _resolve(self) -> None:
        host, port = self.endpoint.host, self.endpoint.port
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        except OSError as error:
            raise FleetFailed(f"broker {host}:{port}: {error.strerror}") from None
        self.endpoint.choose(family, address)

    def _connect(self, progress: Callable[[str, float], None]) -> float:
        """The first vehicle alone, so that a broker that is away is named at once; then all."""
        began_s = time.monotonic()
        waiting = list(reversed(self._vehicles))
        first = self._vehicles[0]
        while (here := len(self._arrived)) < len(self._vehicles):
            now_s = time.monotonic()
            if not here and (self.counts.breaks or now_s - began_s > CONNECT_S):
                reason = next(iter(self.counts.reasons), "no answer")
                raise FleetFailed(f"broker {self.endpoint.host}:{self.endpoint.port}: vehicle {first.id} cannot connect: {reason}")
            if now_s - began_s > PATIENCE_S + len(self._vehicles) * 0.02 or self._stop:
                reason = next((f": {reason}" for reason, _ in self.counts.reasons.most_common(1)), "")
                total = len(self._vehicles)
                raise FleetFailed(
                    f"broker {self.endpoint.host}:{self.endpoint.port}: {self.connected} of {total} vehicles are connected"
                    f" after {now_s - began_s:.0f} s{reason}"
                )
            while waiting and self._connecting < (CONNECTING if here else 1):
                self._connecting += 1
                waiting.pop().connect(now_s)
            self._turn(now_s, POLL_S / 10)
            progress("connecting", here / len(self._vehicles))
        return time.monotonic() - began_s

    def _announce(self) -> None:
        """Open every stream, so that the first ticks cost what the later ones do."""
        plan, n = self.plan, self.plan.vehicles
        self._source = None if self._prepared else self._values(range(n))
        self._block = self._next_block()
        lead_s = max(1.0, n * ANNOUNCE_S)
        self._started_s = time.monotonic() + lead_s
        self._start_utc_ms = time.time_ns() // 1_000_000 + round(lead_s * 1000)
        clock = Clock(boot_ms=BOOT_MS, utc_ms=self._start_utc_ms, source="system" if plan.speed == 1 else "log")
        journey = Journey(self._schema.schema_id, self._columns, len(self._schema), self._trust.recipients, clock)
        self._sealers = [Sealer(vehicle.keys, journey) for vehicle in self._vehicles]
        self._tag_keys = [receipt_key(ready.key) for ready in self._prepared]
        self._note_run()
        first = self._block[0] if self._block is not None else None
        for vehicle in self._vehicles:
            now_s = time.monotonic()
            if first is None:
                ready = self._prepared[vehicle.number]
                self._open(vehicle, ready.first, 0, now_s, StreamSealer(vehicle.id, ready.stream, ready.key))
            else:
                self._open(vehicle, first[vehicle.number], 0, now_s)
            if vehicle.number % CUTS_IN_A_ROW == 0:
                self._turn(now_s, 0.0)

    def _tick(self, progress: Callable[[str, float], None]) -> None:
        """Batch after batch, each vehicle's at its own moment."""
        plan = self.plan
        order = sorted(range(plan.vehicles), key=self._share.__getitem__)
        share_s = [share * plan.ticks_per_batch for share in self._share]
        outages = sorted(plan.outages, key=lambda outage: outage.start_s)
        holes = deque(self._holes)
        said_s = 0.0
        for batch in range(plan.batches):
            if batch:
                self._block = self._next_block()
            for place, number in enumerate(order):
                due_s = self._started_s + (share_s[number] + (batch + 1) * plan.ticks_per_batch - 1) / plan.speed
                now_s = time.monotonic()
                while now_s < due_s or place % CUTS_IN_A_ROW == 0:
                    self._turn(now_s, min(POLL_S, max(0.0, due_s - now_s)))
                    now_s = time.monotonic()
                    while outages and now_s >= self._started_s + outages[0].start_s / plan.speed:
                        self._break(outages.pop(0), now_s)
                    while holes and now_s >= self._started_s + holes[0][0] / plan.speed:
                        _, end, inside = holes.popleft()
                        self._vehicles[inside].lose_network(now_s, self._started_s + end / plan.speed)
                        self.counts.holes += 1
                    if self._stop:
                        return
                    if now_s >= due_s:
                        break
                if now_s - said_s >= 1.0:
                    said_s = now_s
                    progress("driving", batch / plan.batches)
                self._cut(self._vehicles[number], batch, due_s, now_s)

    def _drain(self, progress: Callable[[str, float], None]) -> None:
        """Until every batch has its receipt, at most drain_s."""
        began_s = now_s = time.monotonic()
        held = self.held
        while held and now_s - began_s < self.plan.drain_s:
            self._turn(now_s, 0.05)
            now_s = time.monotonic()
            held = self.held
            progress("draining", 1.0)
        self._look_at_storms(now_s)

    # one turn of the loop

    def _turn(self, now_s: float, wait_s: float) -> None:
        """Look at the sockets, connect who is due, and now and then at every vehicle."""
        if wait_s > 0 and (rest_s := self._turned_s + self._grain_s - now_s) > 0:
            time.sleep(rest_s)
            now_s = time.monotonic()
            wait_s = max(0.0, wait_s - rest_s)
        self._turned_s = now_s
        connects = self._connects
        if connects:
            wait_s = max(0.0, min(wait_s, connects[0][0] - now_s))
        links = self._links
        for descriptor, mask in self._epoll.poll(wait_s):
            if (link := links.get(descriptor)) is not None:
                link.event(mask, time.monotonic())
        now_s = time.monotonic()
        while connects and connects[0][0] <= now_s:
            heapq.heappop(connects)[2].connect(now_s)
        if now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            for vehicle in self._vehicles:
                vehicle.look(now_s)
            self._look_at_storms(now_s)
        if now_s - self._saved_s >= SAVE_S:
            self._saved_s = now_s
            self._save()

    def _save(self) -> None:
        if self.ledger is not None:
            self.ledger.save()

    def _next_block(self) -> NDArray[np.int64] | None:
        """(ticks of a batch, n, m)."""
        if self._source is None:
            return None
        return np.stack([self._source.next() for _ in range(self.plan.ticks_per_batch)])

    def _cut(self, vehicle: Vehicle, batch: int, due_s: float, now_s: float) -> None:
        """Seal a vehicle's batch and offer it."""
        number, count = vehicle.number, self.plan.ticks_per_batch
        first = batch * count * TICK_MS
        if self._block is None:
            ready = self._prepared[number]
            probe = ready.probe[batch * count : (batch + 1) * count]
            header = Header(vehicle.id, ready.stream, batch + 1).pack()
            tags = {status: tag_for(self._tag_keys[number], header, status) for status in Status}
            sealed = Sealed(ready.stream, batch + 1, ready.batch(batch + 1), tags)
        else:
            raw = self._block[:, number]
            probe = raw[:, self._probe]
            sealer = self._sealers[number]
            # the first stream is cut short by a part that is each vehicle's own: not all open a stream in one second of the hour
            if first / TICK_MS - sealer.opened_s >= ROTATION_S * (1 if sealer.opened_s else 1 - self._share[number] / 2):
                self._open(vehicle, raw[0], first, now_s)
            sealed = sealer.rows(self._first_ms[number] + first + self._steps, raw)
        self._late.append(now_s - due_s)
        self._waiting[sealed.stream, sealed.sequence] = due_s
        self.counts.values += count * len(self._columns)
        self._put(vehicle, sealed, int(self._first_ms[number]) - BOOT_MS + first + self._start_utc_ms, probe, now_s)

    def _open(self, vehicle: Vehicle, raw: NDArray[np.int64], first: int, now_s: float, sealer: StreamSealer | None = None) -> None:
        tick_ms = int(self._first_ms[vehicle.number]) + first
        sealed = self._sealers[vehicle.number].open(raw, tick_ms, first / TICK_MS, sealer)
        self._put(vehicle, sealed, None, raw[:0], now_s)

    def _put(self, vehicle: Vehicle, sealed: Sealed, first_ms: int | None, probe: NDArray[np.int64], now_s: float) -> None:
        """Into custody and into the ledger, then what is due onto the air."""
        self.counts.sealed += 1
        self.counts.bytes_sealed += len(sealed.data)
        if self.ledger is not None:
            size, at_s = len(sealed.data), now_s - self._started_s
            self.ledger.sealed(vehicle.number, sealed.stream, sealed.sequence, first_ms, probe, size, at_s)
        vehicle.custody.put(self._rules.batch(sealed.stream, sealed.sequence, first_ms is None, sealed.data, sealed.tags))
        vehicle.offer(now_s)

    def _note_run(self) -> None:
        if self.ledger is None:
            return
        column = self._columns[self._probe]
        self.ledger.note_run(
            {
                "vehicles": self.plan.vehicles,
                "duration_s": self.plan.duration_s,
                "ticks_per_batch": self.plan.ticks_per_batch,
                "signals": len(self._columns),
                "seed": self.plan.seed,
                "speed": self.plan.speed,
                "start_utc_ms": self._start_utc_ms,
                "schema_id": self._schema.schema_id.hex(),
                "probe": self.probe,
                "scale": float(self._schema.scale[column]),
                "offset": float(self._schema.offset[column]),
                "replay": self.plan.speed != 1,
            }
        )
        scenarios = self._scenarios or [""] * self.plan.vehicles
        self.ledger.note_vehicles([(vehicle.number, vehicle.id, scenarios[vehicle.number]) for vehicle in self._vehicles])

    # outages

    def _break(self, outage: Outage, now_s: float) -> None:
        chosen = [self._vehicles[number] for number in outage.vehicles(self.plan.vehicles, self.plan.seed)]
        until_s = self._started_s + (outage.start_s + outage.length_s) / self.plan.speed
        for vehicle in chosen:
            vehicle.lose_network(now_s, until_s)
        numbers = {vehicle.number for vehicle in chosen}
        self._storms.append(_Storm(outage.start_s, outage.length_s, chosen, set(numbers), set(numbers)))
        if self.ledger is not None:
            self.ledger.note_outage(outage.start_s, outage.length_s, len(chosen))

    def _look_at_storms(self, now_s: float) -> None:
        for storm in self._storms:
            if storm.drained_s is not None:
                continue
            since_s = now_s - self._started_s - (storm.start_s + storm.length_s) / self.plan.speed
            if since_s < 0:
                continue
            here = [vehicle for vehicle in storm.vehicles if vehicle.connected]
            storm.away.difference_update(vehicle.number for vehicle in here)
            storm.behind.difference_update(vehicle.number for vehicle in here if vehicle.custody.held <= 1)
            if not storm.away and storm.reconnected_s is None:
                storm.reconnected_s = round(since_s, 2)
            if not storm.behind:
                storm.drained_s = round(since_s, 2)

    # what the vehicles say

    def watch(self, link: Link, descriptor: int, mask: int) -> None:
        if not mask:
            self._epoll.unregister(descriptor)
            del self._links[descriptor]
        elif descriptor in self._links:
            self._epoll.modify(descriptor, mask)
        else:
            self._epoll.register(descriptor, mask)
            self._links[descriptor] = link

    def connect_at(self, vehicle: Vehicle, at_s: float) -> None:
        heapq.heappush(self._connects, (at_s, next(self._pushes), vehicle))

    def has_opened(self, vehicle: Vehicle, now_s: float) -> None:
        self.counts.connections += 1
        if vehicle.number not in self._arrived:
            self._arrived.add(vehicle.number)
            self._connecting -= 1

    def has_closed(self, vehicle: Vehicle, reason: str, now_s: float) -> None:
        self.counts.breaks += 1
        self.counts.reasons[reason] += 1

    def sent(self, batch: Held) -> None:
        self.counts.sent += 1

    def undelivered(self) -> None:
        self.counts.undelivered += 1

    def receipted(self, key: Key, attempts: int, status: Status, now_s: float) -> None:
        self.counts.note(status)
        due_s = self._waiting.pop(key, None)
        if due_s is not None:
            self._latency.append(now_s - due_s)
        if self.ledger is not None:
            self.ledger.receipted(*key, attempts, status, now_s - self._started_s)

    def strange(self, reason: str) -> None:
        self.counts.strange += 1
        self.counts.reasons[reason] += 1
