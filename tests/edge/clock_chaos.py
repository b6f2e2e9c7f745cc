"""A computer whose clock is wrong, the agent's parts on it, and the cloud's up to the store: what happened, and what a query returns.

Each frame carries when it was really sent, in tenths of a second since the story began. So whatever the computer believed, each tick that
the store returns tells how far from the truth it was placed, which are missing, and which are there twice.
"""

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from edge_helpers import DBC, VEHICLE

from cloud import pki as fleet
from cloud.aggregator import Aggregator, Arrival
from cloud.database import Database
from cloud.landing import Landing
from cloud.quarantine import Quarantine
from cloud.runner import Runner
from cloud.sinks import StoreSink
from cloud.stores.embedded import EmbeddedStore
from cloud.streams import Streams
from cloud.vehicle_models import VehicleModel
from dbc.compiler import compile_dbc
from dbc.decoder import Decoder
from dbc.frames import FrameBlock
from dbc.plan import CompiledDbc
from dbc.sampler import Sampler, Snapshot
from edge.boot_clock import BootClockFile, Trust
from edge.identity import Identity
from edge.outbox import Outbox
from edge.outbox_store import OutboxStore
from edge.recorder import Recorder
from edge.sources.clock import Instant, SteadyClock
from edge.streams import Journey, Record
from wire.receipts import AnnouncementRequest, decode_downlink
from wire.recipients import load_recipient_keys
from wire.topics import up

S = 1_000_000_000
MS = 1_000_000
SENT = "Motor.SecretValue"  # 32 bits: when the frame was sent
FRAMES_S = 0.1
HANDED_OVER = 3  # frames in a block
DAY_S = 86_400.0


@dataclass
class Computer:
    """true_ns: what UTC is. real_ns: what the computer takes it for. kept: the kernel says that somebody keeps its clock."""

    true_ns: int
    real_ns: int
    boot_ns: int = 5 * S
    kept: bool = False
    boots: int = 1

    def passes(self, seconds: float) -> None:
        step = round(seconds * S)
        self.true_ns, self.real_ns, self.boot_ns = self.true_ns + step, self.real_ns + step, self.boot_ns + step

    def is_set(self, error_s: float = 0.0, *, kept: bool = False) -> None:
        """Somebody sets the clock, to the truth and so much more."""
        self.real_ns, self.kept = self.true_ns + round(error_s * S), kept

    def boots_again(self, real_ns: int, off_s: float = 600.0) -> None:
        self.true_ns += round(off_s * S)
        self.real_ns, self.boot_ns, self.kept, self.boots = real_ns, 5 * S, False, self.boots + 1

    def instant(self) -> Instant:
        return Instant(self.boot_ns, self.real_ns)


@dataclass
class Run:
    """One run of the agent: `edge/agent.py`'s loop without its threads, on the computer's clocks."""

    computer: Computer
    state: Path
    identity: Identity
    compiled: CompiledDbc
    start_ns: int
    trust: Trust = "auto"
    recorded: list[int] = field(default_factory=list)  # SENT of each tick that was recorded, over all runs
    stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "Run":
        computer, schema = self.computer, self.compiled.schema
        self.boot_clock = BootClockFile(
            self.state, self.trust, 0, computer.instant, kept=lambda: computer.kept, boot=f"boot {computer.boots}"
        )
        boot = self.boot_clock.open()
        self.clock = SteadyClock(computer.instant)
        journey = Journey(boot.axis_id, boot.clock(self.clock.start(boot.offset_ns) // MS), schema.schema_id, (), "cansight test")
        self.decoder, self.sampler = Decoder(self.compiled, schema.channels), Sampler(schema)
        self.recorder = Recorder(schema, lambda name: "driving" if name == SENT else "technical", self.identity, journey, 2)
        self.outbox = Outbox(lambda most: most / 2)
        self.store = self.stack.enter_context(OutboxStore(self.state / "outbox", 64 << 20, self.outbox))
        self.waiting: list[int] = []  # stamps of the kernel, and what the frames say
        self.said: list[int] = []
        self.column = schema.names.index(SENT)
        return self

    def __exit__(self, *_: object) -> None:
        self.keep(self.recorder.flush())
        self.store.close()
        self.stack.close()

    @property
    def now_s(self) -> float:
        return self.computer.boot_ns / S

    def drives(self, seconds: float) -> None:
        for _ in range(round(seconds / FRAMES_S)):
            self.computer.passes(FRAMES_S)
            self.waiting.append(self.computer.real_ns)
            self.said.append((self.computer.true_ns - self.start_ns) // (S // 10))
            if len(self.waiting) >= HANDED_OVER:
                self.hands_over()

    def hands_over(self) -> None:
        self.computer.passes(0.001)
        data = np.zeros((len(self.said), 8), np.uint8)
        data[:, 4:] = np.array(self.said, "<u4").view(np.uint8).reshape(-1, 4)
        stamps = self.clock.place(np.array(self.waiting))
        n = len(stamps)
        block = FrameBlock(("can0",), stamps, np.full(n, 256, np.uint32), np.zeros(n, np.uint8), np.full(n, 8, np.uint8), data, 0)
        self.waiting, self.said = [], []
        self.take(self.sampler.feed(block, self.decoder.decode(block)))
        self.looks()

    def sleeps(self, seconds: float) -> None:
        """No frames; the computer wakes now and then."""
        if self.waiting:
            self.hands_over()
        for _ in range(20):
            self.computer.passes(seconds / 20)
            self.take(self.sampler.pass_time(self.clock.now_ns() - S, 0))
            self.keep(self.recorder.flush(self.now_s))
            self.looks()

    def looks(self) -> None:
        if (clock := self.boot_clock.look()) is not None:
            self.keep(self.recorder.place(clock, self.now_s))

    def take(self, snapshots: list[Snapshot]) -> None:
        for snapshot in snapshots:
            if not snapshot.reason[self.column]:
                self.recorded.append(int(snapshot.raw[self.column]))
            self.keep(self.recorder.snapshot(snapshot, self.now_s))

    def keep(self, records: list[Record]) -> None:
        for record in records:
            self.store.append(record)
        self.store.commit()
        self.store.maintain(self.now_s)

    def uploads(self, cloud: "Cloud") -> None:
        """Everything, at the present time, until all of it has receipts."""
        self.keep(self.recorder.flush())
        self.outbox.connect()
        while self.store.pending:
            self.store.maintain(self.now_s)
            due = self.outbox.due(self.now_s)
            for answer in cloud.arrives([batch.data for batch in due], self.computer.true_ns // MS):
                said = decode_downlink(answer)
                if isinstance(said, AnnouncementRequest):
                    self.outbox.request(said.stream, self.now_s)
                    continue
                for entry in said.entries:
                    self.outbox.receipt(said.stream, entry.sequence, entry.status, entry.tag, self.now_s)
            if not due:
                self.computer.passes(0.05)
        self.outbox.disconnect(self.now_s)


class Cloud:
    """From an arrival to a query. `with Cloud(...) as cloud`; entered again it is a restart on the same folder."""

    def __init__(self, folder: Path, pki: Path, compiled: CompiledDbc) -> None:
        self.folder, self.pki, self.compiled = folder, pki, compiled

    def __enter__(self) -> "Cloud":
        self.stack = ExitStack()
        self.database = self.stack.enter_context(Database(f"sqlite:///{self.folder / 'cansight.db'}"))
        models = {self.compiled.schema.schema_id: VehicleModel("sample", self.compiled.schema, None)}
        ca = fleet.load_certificate(self.pki / "fleet-ca.pem")
        streams = Streams(self.database, load_recipient_keys([self.pki / "recipient.key"]), ca, models)
        self.landing = self.stack.enter_context(Landing(self.folder / "landing", streams))
        self.quarantine = self.stack.enter_context(Quarantine(self.folder / "quarantine"))
        self.aggregator = Aggregator(self.database, streams, self.landing, self.quarantine)
        self.aggregator.open()
        self.store = self.stack.enter_context(EmbeddedStore(self.folder / "store.db"))
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def arrives(self, messages: list[bytes], received_ms: int) -> list[bytes]:
        """The answers; everything that has landed is in the store afterwards, or waits."""
        answers = self.aggregator.take([Arrival(up(VEHICLE), data, received_ms) for data in messages])
        assert not self.aggregator.counts.refusals, self.aggregator.counts.refusals
        return [payload for _, payload in answers]

    def settles(self) -> None:
        async def main() -> None:
            runner = Runner(StoreSink(self.store), self.landing, self.quarantine, self.database)
            runner.stop()
            await runner.run()

        asyncio.run(main())

    def placed(self, start_ns: int) -> tuple[list[int], list[float]]:
        """SENT of every tick of the store, and how many seconds after that it was placed: 0.1 to the next frame, 0.1 of rounding."""
        self.settles()
        series = self.store.series(VEHICLE, [SENT], 0, 1 << 43, 1 << 40)
        there = ~np.isnan(series.values[SENT])
        sent = series.values[SENT][there].astype(np.int64)
        late_ms = series.tick_ms[there] - start_ns // MS - sent * 100
        return sent.tolist(), (late_ms / 1000).tolist()


@dataclass
class Story:
    """A vehicle with a wrong clock, and its cloud."""

    computer: Computer
    cloud: Cloud
    state: Path
    identity: Identity
    compiled: CompiledDbc
    start_ns: int
    recorded: list[int] = field(default_factory=list)

    def run(self, trust: Trust = "auto") -> Run:
        return Run(self.computer, self.state, self.identity, self.compiled, self.start_ns, trust, self.recorded)

    def nothing_is_placed(self) -> None:
        assert self.cloud.placed(self.start_ns) == ([], [])

    def all_is_right(self, error_s: float = 0.0) -> None:
        """Every tick that was recorded is in the store, once, and where it belongs within error_s."""
        sent, late_s = self.cloud.placed(self.start_ns)
        assert sorted(sent) == sorted(self.recorded), sorted(set(sent) ^ set(self.recorded))
        wrong = [(value, late) for value, late in zip(sent, late_s, strict=True) if not -0.01 - error_s <= late <= 0.21 + error_s]
        assert not wrong, wrong


def compiled_dbc(folder: Path) -> CompiledDbc:
    (folder / "car.dbc").write_text(DBC)
    return compile_dbc([str(folder / "car.dbc")])
