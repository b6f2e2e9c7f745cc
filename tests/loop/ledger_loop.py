"""The loop of real processes under blows: agents, mosquitto, `cansight cloud run`, InfluxDB, and a proxy in each link between them."""

import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import ledger_vehicles
from ledger_blows import AGENT, AGGREGATOR, AGGREGATOR_LINK, BROKER, LINK, LINKS, STORE, STORE_LINK, VEHICLES_LINK, Blow

import processes
import servers
from link_proxy import LinkProxy
from simulator.fleet.errors import FleetFailed
from simulator.fleet.stores import Api

PATIENCE_S = 200.0  # without a batch more, or for the end to come
PAUSE_S = 0.02
CUT_BYTES = 4000  # a cut comes within so many bytes


class Loop:
    """`with Loop(...) as loop`: everything runs. `work` until so much is recorded, `drain` until it is in the store; `stop` the cloud."""

    def __init__(
        self, folder: Path, pki: Path, mosquitto: servers.Server, influxdb: servers.HttpServer, vehicles: int, ticks_s: float
    ) -> None:
        self.folder, self.influxdb = folder, influxdb
        self.sent = 0  # messages of the vehicles that the broker took: what was sent again counts again
        self.struck: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self._pki, self._mosquitto = pki, mosquitto
        self._size, self._ticks_s = vehicles, ticks_s
        self._stack = ExitStack()
        self._due: list[tuple[float, str, Callable[[], object]]] = []  # (when, what, how) of what is to be put right
        self._away: set[str] = set()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            brokers, stores = self._mosquitto.port, self.influxdb.port
            ends = zip(LINKS, (brokers, brokers, stores), strict=True)
            self.links = {name: stack.enter_context(LinkProxy(port)) for name, port in ends}
            vehicles = ledger_vehicles.enrol(self.folder, self._pki, self.links[VEHICLES_LINK].port, self._size)
            self.fleet = ledger_vehicles.Fleet(vehicles, self._ticks_s)
            store = {"kind": "influx", "influx": {"url": f"http://127.0.0.1:{self.links[STORE_LINK].port}", "version": "1"}}
            port = self.links[AGGREGATOR_LINK].port
            files = [f"{self.folder / 'car.dbc'}@can0"]
            self.cloud_config, self.api = processes.cloud_settings(self.folder, self._pki, port, files, store)
            stack.callback(self._end)
            self._start_cloud()
            for vehicle in vehicles:
                vehicle.start()
            self.fleet.start()
            processes.until(lambda: self._ready() and all(map(self.fleet.at_work, vehicles)), "everybody to be at work")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, trace)

    def work(self, ticks: int, blows: list[Blow]) -> None:
        """Until the agents have recorded `ticks`, struck by `blows` evenly meanwhile."""
        waiting = list(blows)
        newest, heard_s = 0, time.monotonic()
        while waiting or (newest < ticks):
            recorded = self.fleet.recorded()
            if recorded > newest:
                newest, heard_s = recorded, time.monotonic()
            assert time.monotonic() - heard_s < PATIENCE_S, f"nothing is recorded: {self.said()}"
            done = len(blows) - len(waiting)
            if waiting and recorded * (len(blows) + 1) >= ticks * (done + 1) and self._strike(waiting[0]):
                waiting.pop(0)
            self._mend()
            self._check()
            time.sleep(PAUSE_S)
        self.fleet.stop()

    def drain(self) -> None:
        """Everything is up again and nothing more is recorded: the agents end when every batch has its receipt; then the sinks catch up."""
        while self._due:
            self._mend()
            time.sleep(PAUSE_S)
        self.fleet.drive()  # closes the tick before it
        for vehicle in self.fleet.vehicles:
            vehicle.end_of_drive()
        deadline_s = time.monotonic() + PATIENCE_S
        while not all(vehicle.drained for vehicle in self.fleet.vehicles) or self._behind():
            self._check()
            assert time.monotonic() < deadline_s, f"not drained: {self.said()}"
            time.sleep(PAUSE_S)

    def stop(self) -> None:
        """The cloud ends in order, and its folder is free to be read."""
        self.cloud.terminate()
        assert self.cloud.wait(30) == 0, self.said()
        self.sent = len(re.findall(rb"Received PUBLISH from [0-9a-f]{16} ", self._mosquitto.log.read_bytes()))

    def said(self) -> str:
        """The last words of whoever is not as it should be."""
        logs = [self.folder / "cloud.log", *(vehicle.log for vehicle in self.fleet.vehicles if not vehicle.drained)]
        words = {log.name: log.read_text(errors="replace").splitlines()[-3:] for log in logs if log.exists()}
        return "\n".join(f"{name}: {line}" for name, lines in words.items() for line in lines)

    def _strike(self, blow: Blow) -> bool:
        """False when the target is away already; it is struck when it is back."""
        if blow.target == LINK:
            return self._cut(blow)
        if blow.target == AGENT:
            alive = [vehicle for vehicle in self.fleet.vehicles if vehicle.alive and (blow.starting or self.fleet.at_work(vehicle))]
            if not alive:
                return False
            victim = alive[int(blow.choice * len(alive))]
            victim.kill()
            self._later(blow, victim.vehicle, victim.start)
            return True
        if blow.target in self._away:
            return False
        if blow.target == AGGREGATOR:
            if not (blow.starting or self._ready()):
                return False
            self.cloud.kill()
            self.cloud.wait()
            self._later(blow, blow.target, self._start_cloud)
            return True
        server = self._mosquitto if blow.target == BROKER else self.influxdb
        server.kill()
        self._later(blow, blow.target, server.start)
        return True

    def _cut(self, blow: Blow) -> bool:
        if blow.link in self._away:
            return False
        link = self.links[blow.link]
        match blow.fault:
            case "reset":
                link.reset()
            case "hang up":
                link.hang_up()
            case "cut in a packet":
                link.cut(up=int(blow.choice * CUT_BYTES))
            case "half open":
                link.half_open()
            case "refuse":
                link.refuse()
                self._later(blow, blow.link, link.listen)
                return True
            case "freeze":
                link.freeze()
                self._later(blow, blow.link, link.thaw)
                return True
        self._count(blow)
        return True

    def _later(self, blow: Blow, what: str, mend: Callable[[], object]) -> None:
        self._count(blow)
        self._away.add(what)
        self._due.append((time.monotonic() + blow.away_s, what, mend))

    def _count(self, blow: Blow) -> None:
        self.struck[blow.target] += 1
        if blow.fault:
            self.faults[f"{blow.link} link: {blow.fault}"] += 1

    def _mend(self) -> None:
        for entry in [entry for entry in self._due if entry[0] <= time.monotonic()]:
            self._due.remove(entry)
            _, what, mend = entry
            mend()
            self._away.discard(what)

    def _start_cloud(self) -> None:
        self.cloud = processes.cansight("cloud", "run", "-c", self.cloud_config, log=self.folder / "cloud.log")

    def _ready(self) -> bool:
        """Whether the aggregator takes batches."""
        return bool((processes.get(f"{self.api}/api/stats") or {}).get("connected"))

    def _behind(self) -> bool:
        try:
            return Api(self.api, processes.TOKENS[self.api]).behind() > 0
        except FleetFailed:  # it is starting
            return True

    def _check(self) -> None:
        """Nobody dies but by our hand."""
        assert AGGREGATOR in self._away or self.cloud.poll() is None, self.said()
        for vehicle in self.fleet.vehicles:
            assert vehicle.vehicle in self._away or vehicle.alive or vehicle.drained, vehicle.log.read_text(errors="replace")[-2000:]
        for what, server in ((BROKER, self._mosquitto), (STORE, self.influxdb)):
            assert what in self._away or (server.process is not None and server.process.poll() is None), server.log_text[-2000:]

    def _end(self) -> None:
        self.fleet.stop()
        for vehicle in self.fleet.vehicles:
            if vehicle.process is not None:
                vehicle.kill()
        if self.cloud.poll() is None:
            self.cloud.kill()
            self.cloud.wait()
