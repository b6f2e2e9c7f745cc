"""The demonstration itself: broker, aggregator, agents and simulator as processes of this machine, watched from outside.

The order is the pipeline's: the broker and the store first, then the aggregator, the agents, and last the frames. A broker, store or
aggregator that dies is started again, as an operator's service manager would; nothing may be lost by it.
"""

import contextlib
import itertools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cansight.demo import services
from cansight.demo.interrupts import holding_interrupts, ignoring_interrupts, stop_on_signals
from cansight.demo.processes import Child, Processes
from cansight.demo.report import Report, percentiles
from cansight.demo.stage import CAR_CATALOGUE, CAR_DBC, Endpoint, Stage, Vehicle, require_free
from cansight.demo.watch import Api, Watch
from cansight.errors import UsageError, WorkFailed
from cansight.ports import free_port

POLL_S = 0.1  # the store is asked this often, so a measured latency is at most this much too long
WORDS_S = 5.0  # without a terminal, a line of progress this often
LOOK_BLOCKS = 50  # blocks of a log that are looked at to find a DBC's channel
DRAIN_S = 90.0  # after the last frame: until every batch has its receipt and every tick is queryable
FLEET_SCENARIOS = ("coolant_leak", "healthy")  # the first vehicle leaks, the others do not


@dataclass(frozen=True)
class Options:
    """What the command line asked for. `duration_s` is simulated time; `speed` is simulated seconds per second."""

    vehicles: int = 2
    speed: float = 10.0
    duration_s: float = 300.0
    seed: int = 1
    log: Path | None = None
    dbc: tuple[str, ...] = ()
    broker: str = ""  # "": embedded; "mosquitto": started here; mqtts://HOST:PORT: the user's, with `pki`
    influx: str = ""  # "": embedded; "influxd": started here; http://HOST:PORT: the user's
    pki: Path | None = None
    port: int = 8460
    folder: Path | None = None


class Demonstration:
    """One run. `watch()` yields while frames flow; afterwards `report()` measures, and the page stays up until `close`."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.page = Endpoint("127.0.0.1", options.port)
        self.broker = Endpoint("localhost", 0)
        self.api = Api(self.page)
        self.processes = Processes()
        self.vehicles: list[Vehicle] = []
        self.agents: list[Child] = []
        self.watching: Watch | None = None
        self._stack = contextlib.ExitStack()
        self._started = 0.0
        self._restarts = 0
        self._files: tuple[str, ...] = ()

    def __enter__(self) -> "Demonstration":
        self._stack.enter_context(stop_on_signals())
        return self

    def __exit__(self, *_: object) -> None:
        with ignoring_interrupts():
            self.api.close()
            self._stack.close()

    @property
    def url(self) -> str:
        """The page's address; the token after # logs the reader in, and the page takes it out of the address at once."""
        return f"http://{self.page.host}:{self.page.port}/#token={self.page.token}"

    def start(self) -> None:
        """Lay out the folder and start every process, in the pipeline's order; returns when frames flow."""
        options = self.options
        self._check()
        self._started = time.monotonic()
        if options.folder is None:
            with holding_interrupts():
                folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="cansight-demo-")))
        else:
            folder = options.folder.resolve()
            folder.mkdir(mode=0o700, parents=True)
        self._stack.enter_context(self.processes)
        self.broker = self._endpoint()
        stage = Stage(folder, self.broker, self.page, options.pki)
        stage.prepare()
        broker = self._start_broker(stage)
        store = self._start_store(stage)
        model, files, catalogue = ("cansight_ev", CAR_DBC, CAR_CATALOGUE) if options.log is None else ("recorded", self._files, None)
        packs = stage.sign_packs() if options.log is None else []
        settings = stage.cloud(model, files, catalogue, store)
        self.page = replace(self.page, token=stage.operators_token(settings))
        self.api = Api(self.page)
        aggregator = Child("aggregator", ["cloud", "run", "-c", str(settings)], stage.log("cloud"), restart=True)
        if broker is not None:
            services.wait_until(lambda: services.listening(self.broker), broker, "starting the broker")
        self.processes.start(aggregator)
        for number in range(options.vehicles):
            scenario = "" if options.log else FLEET_SCENARIOS[min(number, len(FLEET_SCENARIOS) - 1)]
            self.vehicles.append(stage.vehicle(model, scenario, options.seed + number, options.log, options.speed, files, catalogue, packs))
        self.watching = Watch(self.api, self.vehicles)
        # Frames flow only once somebody can take them: else the first latencies would be those of starting up.
        services.wait_until(self.api.ready, aggregator, "starting the aggregator")
        for vehicle in self.vehicles:
            name = f"agent of {vehicle.vehicle}"
            self.agents.append(
                self.processes.start(Child(name, ["edge", "run", "-c", str(vehicle.config)], stage.log(f"edge-{vehicle.vehicle}")))
            )
        for vehicle, agent in zip(self.vehicles, self.agents, strict=True):
            services.wait_until(partial(self._agent_runs, vehicle, agent), agent, "starting the agent")
        if options.log is None:
            for vehicle in self.vehicles:
                self.processes.start(self._simulator(stage, vehicle))

    def watch(self) -> Iterator[dict[str, Any]]:
        """Watch until every agent has drained and every tick is queryable; yields the counts so far.

        Raises WorkFailed when a process that may not die does, or when draining takes longer than DRAIN_S.
        """
        options = self.options
        flow_s = options.duration_s / options.speed if options.log is None and options.speed else None
        deadline = None if flow_s is None else time.monotonic() + 2 * flow_s + DRAIN_S
        while True:
            due = time.monotonic() + POLL_S
            self._restarts += len(self.processes.supervise())
            self._watch.poll_newest()
            statuses = [self._watch.status(vehicle) for vehicle in self.vehicles]
            yield self._progress(statuses)
            drained = all(agent.returncode == 0 for agent in self.agents)
            if deadline is None and (drained or all(status.get("source_finished") for status in statuses)):
                deadline = time.monotonic() + DRAIN_S
            if drained and self._watch.all_visible():
                return
            if deadline is not None and time.monotonic() > deadline:
                return  # the report says what is missing
            time.sleep(max(0.0, due - time.monotonic()))

    def report(self) -> Report:
        """Measure what arrived, by the agents' own counts and by the store's query."""
        watch = self._watch
        statuses = [watch.status(vehicle) for vehicle in self.vehicles]
        missing = [watch.missing(vehicle) for vehicle in self.vehicles]
        expected = [vehicle.vehicle for vehicle in self.vehicles if vehicle.scenario == "coolant_leak"]
        tickets = self._tickets(expected)

        def total(key: str) -> int:
            return sum(int(status.get(key, 0)) for status in statuses)

        return Report(
            vehicles=len(self.vehicles),
            frames=total("frames"),
            frames_unknown=total("frames_unknown"),
            signals=max((status.get("signals", 0) for status in statuses), default=0),
            signals_seen=max((status.get("signals_seen", 0) for status in statuses), default=0),
            ticks=total("ticks"),
            samples=total("samples"),
            samples_changed=total("samples_changed"),
            bytes_sealed=total("bytes_sealed"),
            batches_recorded=total("batches_recorded"),
            batches_receipted=total("batches_receipted"),
            batches_unread=total("batches_quarantined") + total("batches_refused"),
            ticks_missing=sum(lost for lost, _ in missing),
            ticks_extra=sum(extra for _, extra in missing),
            latency_s=percentiles(watch.latencies_s()),
            findings=total("findings"),
            tickets=tickets,
            tickets_expected=expected,
            restarts=self._restarts,
            duration_s=time.monotonic() - self._started,
        )

    def supervise_until_interrupted(self) -> None:
        """Keep the page up; returns at Ctrl-C."""
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                self.processes.supervise()
                time.sleep(0.5)

    def _agent_runs(self, vehicle: Vehicle, agent: Child) -> bool:
        return bool(self._watch.status(vehicle)) or agent.returncode == 0  # 0: a short log, already sent and receipted

    @property
    def _watch(self) -> Watch:
        assert self.watching is not None, "start() comes first"
        return self.watching

    def _check(self) -> None:
        """Everything the user can have got wrong, before anything is started."""
        options = self.options
        require_free(options.port, "--port")
        if options.folder is not None and options.folder.exists():
            raise UsageError(f"{options.folder} exists already; a demonstration makes its folder itself")
        if options.influx not in ("", "influxd"):
            parts = _parts(options.influx)
            if parts is None or parts.scheme not in ("http", "https"):
                raise UsageError(f"--influx {options.influx}: expected http://HOST:PORT or influxd (which starts one here)")
            if not services.listening(Endpoint(str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80))):
                raise UsageError(f"--influx {options.influx}: nobody listens there")
        if options.log is None:
            return
        if not options.dbc:
            raise UsageError(f"{options.log}: a recorded log needs the DBC that describes its frames: --dbc FILE[@CHANNEL]")
        self._files = tuple(described(options.log, entry) for entry in options.dbc)

    def _endpoint(self) -> Endpoint:
        broker = self.options.broker
        if broker in ("", "mosquitto"):
            return Endpoint("localhost", free_port())
        parts = _parts(broker)
        if parts is None or parts.scheme not in ("mqtts", "ssl"):
            raise UsageError(
                f"--broker {broker}: expected mqtts://HOST:PORT or mosquitto (which starts one here); without TLS nothing is sent"
            )
        if self.options.pki is None:
            raise UsageError(
                f"--broker {broker}: name the folder of certificates that this broker trusts with --pki DIR (cansight pki init DIR)"
            )
        if not (self.options.pki / "fleet-ca.pem").is_file():
            raise UsageError(f"--pki {self.options.pki}: holds no fleet-ca.pem; make the fleet's certificates with cansight pki init DIR")
        return Endpoint(str(parts.hostname), parts.port or 8883)

    def _start_broker(self, stage: Stage) -> Child | None:
        if self.options.broker == "":
            arguments = ["cloud", "broker", "--pki", str(stage.pki), "--host", self.broker.host, "--port", str(self.broker.port)]
            return self.processes.start(Child("broker", arguments, stage.log("broker"), restart=True))
        if self.options.broker == "mosquitto":
            return self.processes.start(services.mosquitto(stage.folder / "broker", stage.pki, self.broker, stage.log("broker")))
        if not services.listening(self.broker):
            raise UsageError(f"--broker {self.options.broker}: nobody listens there")
        return None

    def _start_store(self, stage: Stage) -> dict[str, object]:
        influx = self.options.influx
        if influx == "":
            return {"kind": "embedded"}
        if influx == "influxd":
            child, influx = services.influxd(stage.folder / "influx", stage.log("influx"))
            self.processes.start(child)
            parts = urlsplit(influx)
            services.wait_until(lambda: services.listening(Endpoint(str(parts.hostname), int(parts.port or 0))), child, "starting InfluxDB")
        return {"kind": "influx", "influx": {"url": influx}}

    def _simulator(self, stage: Stage, vehicle: Vehicle) -> Child:
        arguments = [
            "sim",
            "drive",
            "--scenario",
            vehicle.scenario,
            "--seed",
            str(vehicle.seed),
            "--duration",
            f"{self.options.duration_s:g}s",
        ]
        arguments += ["-o", str(vehicle.source), "--truth", str(vehicle.state / "truth.json"), "--speed", f"{vehicle.speed:g}"]
        return Child(f"simulator of {vehicle.vehicle}", arguments, stage.log(f"sim-{vehicle.vehicle}"))

    def _progress(self, statuses: list[dict[str, Any]]) -> dict[str, Any]:
        ticks = sum(status.get("ticks", 0) for status in statuses)
        expected = self.options.duration_s * len(self.vehicles) if self.options.log is None else None
        recorded = sum(status.get("batches_recorded", 0) for status in statuses)
        receipted = sum(status.get("batches_receipted", 0) for status in statuses)
        findings = sum(status.get("findings", 0) for status in statuses)
        return {
            "ticks": ticks,
            "expected": expected,
            "words": f"{sum(status.get('frames', 0) for status in statuses):,} frames, {receipted:,} of {recorded:,} batches receipted, "
            f"{findings} findings" + (f", {self._restarts} restarts" if self._restarts else ""),
        }

    def _tickets(self, expected: list[str]) -> list[dict[str, Any]]:
        """All tickets with their evidence; waits a moment for those that must come: tickets follow the landing log at their own pace."""
        deadline = time.monotonic() + (5.0 if expected else 0.0)
        while True:
            found = (self.api.get("/api/tickets") or {}).get("tickets", [])
            if {ticket["vehicle"] for ticket in found} >= set(expected) or time.monotonic() > deadline:
                return [self.api.get(f"/api/tickets/{ticket['id']}") or ticket for ticket in found]
            time.sleep(POLL_S)


def _parts(url: str) -> SplitResult | None:
    """A URL with a host, in parts; None for anything else."""
    try:
        parts = urlsplit(url)
        return parts if parts.hostname and parts.port != 0 else None  # asking for the port checks it
    except ValueError:
        return None


def follow(demonstration: Demonstration, console: Console) -> None:
    """Show the run's progress: a bar on a terminal, otherwise a line every few seconds."""
    if not console.is_terminal:
        said = -WORDS_S
        for progress in demonstration.watch():
            if time.monotonic() - said >= WORDS_S:
                said = time.monotonic()
                console.print(f"{progress['ticks']:,} ticks, {progress['words']}", highlight=False)
        return
    columns = (TextColumn("{task.completed:,.0f} ticks"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("")
        for progress in demonstration.watch():
            bar.update(task, completed=progress["ticks"], total=progress["expected"], description=progress["words"])


def described(log: Path, entry: str) -> str:
    """`entry` with its channel: the one that the user names, else the channel of the log with most frames of this DBC.

    Raises UsageError when it describes none there, and the errors of the log's and the DBC's readers.
    """
    from dbc.compiler import compile_dbc
    from dbc.dbc_file import parse_file_argument
    from dbc.logs import open_log
    from dbc.logs.info import described_frames

    compiled = compile_dbc([entry])
    with open_log(log) as reader:
        found = described_frames(itertools.islice(reader, LOOK_BLOCKS), compiled)
    named = "@" in Path(entry).name
    channel = parse_file_argument(entry).channel if named else max(found, key=found.__getitem__, default="")
    if not found.get(channel):
        there = ", ".join(f"{name} with {count}" for name, count in found.items()) or "no channel"
        raise UsageError(
            f"{entry}: describes no frame of {log}{f' on {channel}' if named else ''} (frames it knows: {there}); is it this bus's DBC?"
        )
    return entry if named else f"{entry}@{channel}"


__all__ = ["Demonstration", "Options", "WorkFailed", "follow"]
