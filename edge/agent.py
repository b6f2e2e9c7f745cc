"""The agent: source -> decoder -> sampler -> detectors and recorder -> outbox -> uplink.

Three threads: `source` reads frames, `uplink` owns the socket, and this one does everything else and owns every file of the state folder.
"""

import logging
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dbc.catalogue import Catalogue
from dbc.compiler import load_compiled
from dbc.decoder import Decoder
from dbc.frames import FrameBlock
from dbc.integrity import with_checks
from dbc.protocols import Reassembler
from dbc.sampler import Sampler, Snapshot
from dbc.schema import Schema
from dbc.validity import Reason
from edge.boot_clock import BootClockFile
from edge.config import EdgeConfig
from edge.detectors import Detectors
from edge.errors import ConfigError
from edge.health import Ledger, Status, StatusFile
from edge.health_server import HealthServer
from edge.heartbeat import heartbeat
from edge.identity import load_identity
from edge.key_store import KeyFiles
from edge.outbox import Outbox
from edge.outbox_store import OutboxStore
from edge.polling import identifier
from edge.recorder import Recorder
from edge.renewal import Renewal
from edge.sources.channel import Channel
from edge.sources.choice import check, open_source
from edge.sources.clock import SteadyClock, system_instant
from edge.sources.reader import Reader
from edge.streams import Journey, Record
from edge.uplink import Uplink
from models.pack import load_public_key

POLL_S = 0.1  # how late a stop, a receipt or a partial batch is seen when no frames come
MAINTAIN_S = 0.1
STATUS_S = LOOK_S = 1.0
NS_PER_MS = 1_000_000
GRACE_NS = 700_000_000  # frames of a bus that have been stamped may be this long on their way here; a source hands over four times a second
HANDOVER_S = 0.7  # how long the source has for its last block, from SIGTERM on
GOODBYE_S = 0.5  # of the 2 s that an ignition-off leaves; sealing and syncing come first

log = logging.getLogger(__name__)


class Supervisor(Protocol):
    """Whoever started the agent and wants to know how it does: systemd, for one."""

    def ready(self) -> None: ...

    def alive(self) -> None:
        """Called at least ten times a second while the loop comes round."""

    def stopping(self) -> None: ...


def run(config: EdgeConfig, supervisor: Supervisor | None = None) -> None:
    """Run until SIGTERM, SIGINT, or the drained end of the log. Called in the main thread.

    Raises EdgeError, or the error of the package whose file it is, before anything is started when a file is missing or invalid; and
    afterwards when the source breaks, once everything that was read is sealed and synced.
    """
    stop = threading.Event()
    with ExitStack() as stack:
        agent = assembled(config, stop, stack, supervisor)
        stack.enter_context(_signals(stop))
        agent.run()


@dataclass
class Parts:
    """What the agent ties together, in the order of the pipeline."""

    reader: Reader
    live: SteadyClock | None
    boot_clock: BootClockFile
    channels: Sequence[Channel]
    reassembler: Reassembler
    decoder: Decoder
    sampler: Sampler
    detectors: Detectors
    asking: Callable[[Snapshot], None] | None
    recorder: Recorder
    outbox: Outbox
    store: OutboxStore
    uplink: Uplink
    renewal: Renewal
    ledger: Ledger
    status: Status
    status_file: StatusFile
    health: HealthServer
    supervisor: Supervisor | None


def assembled(config: EdgeConfig, stop: threading.Event, stack: ExitStack, supervisor: Supervisor | None = None) -> "Agent":
    """Read and check every file that the settings name, and open the outbox; what is opened belongs to `stack`. Raises as `run`."""
    state = Path(config.state)
    keys = KeyFiles(state / "identity")
    identity = load_identity(config, keys)
    check(config.source)
    _make_folder(state)
    compiled = load_compiled(config.dbc.files, state / "cache")
    schema = compiled.schema
    catalogue = Catalogue.load(config.dbc.catalogue) if config.dbc.catalogue else Catalogue.empty()
    compiled = with_checks(compiled, catalogue.checks)
    catalogue.check(schema.names)  # a misspelt name would record what its owner has called private
    detectors = _detectors(config, schema)
    answers = {config.polling.channel: identifier(config.polling.answer_id)} if config.polling.requests else {}
    issued_ms = int(identity.certificate.not_valid_before_utc.timestamp() * 1000)
    boot_clock = BootClockFile(state, config.clock.trust, issued_ms, system_instant)
    source = open_source(config.source, compiled, stop, boot_clock, answers)
    journey = Journey(
        boot_id=source.boot_id,
        clock=source.clock,
        schema_id=schema.schema_id,
        pack_ids=detectors.pack_ids,
        agent=f"cansight {version('cansight')}",
    )
    status = Status(
        config.vehicle,
        agent=journey.agent,
        schema=schema.schema_id.hex(),
        packs=list(detectors.pack_ids),
        signals=len(schema),
        outbox_limit_bytes=config.outbox.bytes,
    )
    outbox = Outbox(lambda most: random.uniform(0, most))
    store = stack.enter_context(OutboxStore(state / "outbox", config.outbox.bytes, outbox))
    parts = Parts(
        reader=Reader(source.frames, stop),
        live=source.live,
        boot_clock=boot_clock,
        channels=source.channels,
        reassembler=Reassembler(compiled),
        decoder=Decoder(compiled, schema.channels),
        sampler=Sampler(schema),
        detectors=detectors,
        asking=_asking(config, schema, stop, stack),
        recorder=Recorder(schema, catalogue.consent_class, identity, journey, config.batch.ticks),
        outbox=outbox,
        store=store,
        uplink=Uplink(config.broker, identity, outbox, store.lock, config.upload),
        renewal=Renewal(identity, keys, lambda most: random.uniform(0, most)),
        ledger=stack.enter_context(Ledger(config.health.ledger)),
        status=status,
        status_file=StatusFile(state, _runtime(), config.health.status_s),
        health=stack.enter_context(HealthServer(config.health.listen, status)),
        supervisor=supervisor,
    )
    packs, waiting = len(detectors.pack_ids), store.pending
    log.info("vehicle %s: %d signals, %d detectors, %d batches in the outbox", config.vehicle, len(schema), packs, waiting)
    return Agent(config, parts, stop)


class Agent:
    """The loop over ready parts."""

    def __init__(self, config: EdgeConfig, parts: Parts, stop: threading.Event) -> None:
        self._config = config.run
        self._heartbeat_s = config.health.heartbeat_s
        self._parts = parts
        self._stop = stop
        self._store = parts.store
        self._recorder = parts.recorder
        self._status = parts.status
        self._seen: NDArray[np.bool_] = np.zeros(parts.status.signals, dtype=np.bool_)
        self._maintain_s = self._look_s = self._status_s = self._beat_s = 0.0
        self._tick_ms = 0  # the newest tick's

    def run(self) -> None:
        """The loop."""
        self._parts.reader.start()
        self._parts.uplink.start()
        if self._parts.supervisor is not None:
            self._parts.supervisor.ready()
        broken: Exception | None = None
        try:
            while not self._stop.is_set():
                try:
                    block = self._parts.reader.get(POLL_S)
                except Exception as error:  # noqa: BLE001 - whatever the source raised; what was read before is recorded first
                    block, broken = None, error
                now_s = time.monotonic()
                if block is not None:
                    self._frames(block, now_s)
                elif self._parts.reader.finished and not self._status.source_finished:
                    if not self._stop.is_set():  # told to stop, a source ends, too
                        self._finish(now_s)
                else:
                    self._silent(now_s)
                    self._append(self._recorder.flush(now_s))
                self._beat(now_s)
                self._commit(now_s)
                self._report(now_s)
                if self._status.source_finished:
                    if self._config.stop_when_drained and self._status.drained:
                        break
                    if broken is not None and not self._config.stop_when_drained:
                        break
            else:
                self._hand_over()
        finally:
            self._end()
        if broken is not None:
            raise broken

    def _frames(self, block: FrameBlock, now_s: float) -> None:
        self._status.frames += len(block)
        block = self._parts.reassembler.feed(block)
        signals = self._parts.decoder.decode(block)
        self._status.frames_unknown += len(block) - signals.frames_known - self._parts.reassembler.parts
        for snapshot in self._parts.sampler.feed(block, signals):
            self._tick(snapshot, now_s)

    def _silent(self, now_s: float, grace_ns: int = GRACE_NS) -> None:
        """No frames: on a live bus time goes on all the same.

        A tick with frames that none after it has closed is the last one before a silence, and its computer may be switched off next:
        within 2 s of its first frame it is sealed, without waiting for a full batch.
        """
        if self._parts.live is None:
            return
        for snapshot in self._parts.sampler.pass_time(self._parts.live.now_ns() - grace_ns, time.time_ns()):
            self._tick(snapshot, now_s)
            if snapshot.count.any():
                self._append(self._recorder.flush())

    def _hand_over(self) -> None:
        """Told to stop: take what the source had from its bus until then, and the ticks that are over."""
        deadline_s = time.monotonic() + HANDOVER_S
        while not self._parts.reader.finished and (now_s := time.monotonic()) < deadline_s:
            if (block := self._parts.reader.get(POLL_S)) is not None:
                self._frames(block, now_s)
        self._silent(time.monotonic(), grace_ns=0)

    def _finish(self, now_s: float) -> None:
        for snapshot in self._parts.sampler.finish():
            self._tick(snapshot, now_s)
        self._append(self._recorder.flush())
        self._status.source_finished = True
        log.info("the source is finished: %d frames, %d ticks", self._status.frames, self._status.ticks)

    def _tick(self, snapshot: Snapshot, now_s: float) -> None:
        before = self._recorder.samples.recorded
        self._seen |= snapshot.reason != Reason.NOT_SEEN
        self._status.ticks += 1
        self._tick_ms = snapshot.tick_ns // NS_PER_MS
        self._append(self._recorder.snapshot(snapshot, now_s))
        self._parts.ledger.add(snapshot.tick_ns, snapshot.entered_ns, self._recorder.samples.recorded - before)
        if self._parts.asking is not None:
            self._parts.asking(snapshot)
        for finding in self._parts.detectors.step(snapshot):
            log.info("finding %s: %s, score %.3g, threshold %.3g", finding.state, finding.fault_code, finding.score, finding.threshold)
            self._status.findings += finding.state == "active"
            self._append(self._recorder.message(finding, now_s))

    def _beat(self, now_s: float) -> None:
        """Say that the loop comes round; and to the cloud, now and then and after a first tick, how the agent does."""
        self._parts.health.beat(now_s)
        if self._parts.supervisor is not None:
            self._parts.supervisor.alive()
        if self._status.ticks and now_s - self._beat_s >= self._heartbeat_s and not self._status.source_finished:
            self._beat_s = now_s
            self._append(self._recorder.message(heartbeat(self._status, self._tick_ms), now_s))

    def _append(self, records: Iterable[Record]) -> None:
        for record in records:
            self._store.append(record)
            self._status.bytes_sealed += len(record.sealed.data) if record.is_rows else 0

    def _commit(self, now_s: float) -> None:
        self._store.commit()
        if now_s - self._maintain_s >= MAINTAIN_S:
            self._maintain_s = now_s
            if self._parts.live is not None and now_s - self._look_s >= LOOK_S:
                self._look_s = now_s
                if (clock := self._parts.boot_clock.look()) is not None:
                    self._append(self._recorder.place(clock, now_s))
            # A clock that the broker's certificate was good by can be relied on.
            for gap in self._store.maintain(now_s, time.time() if self._parts.uplink.connected else None):
                log.warning("gap: batches %d to %d of a stream are lost: %s", gap.first, gap.last, gap.reason)
                self._status.gaps += 1
                self._append(self._recorder.message(gap, now_s))
            self._store.commit()
        if self._store.offered():
            self._parts.uplink.wake()
        self._parts.ledger.durable(self._recorder.waiting)

    def _report(self, now_s: float) -> None:
        status, store = self._status, self._store
        status.drained = status.source_finished and not store.pending
        if now_s - self._status_s < STATUS_S and not status.drained:
            return
        self._status_s = now_s
        self._renew(now_s)
        counts = store.counts
        status.signals_seen = int(np.count_nonzero(self._seen))
        status.samples, status.samples_changed = self._recorder.samples.recorded, self._recorder.samples.changed
        status.batches_recorded, status.batches_receipted = counts.recorded, counts.receipted
        status.batches_quarantined, status.batches_refused, status.batches_lost = counts.quarantined, counts.refused, counts.lost
        status.receipts_forged = self._parts.outbox.forged
        status.outbox_bytes = store.size_bytes
        status.in_flight = self._parts.outbox.in_flight
        status.connected = self._parts.uplink.connected
        status.clock_offset_s = self._parts.live.offset_s() if self._parts.live is not None else 0.0
        status.channels = {channel.name: channel.status for channel in self._parts.channels}
        self._parts.status_file.write(status, now_s)

    def _renew(self, now_s: float) -> None:
        uplink, renewal = self._parts.uplink, self._parts.renewal
        while uplink.certificates:
            renewal.take(uplink.certificates.popleft())
        if uplink.connected and (asked := renewal.request(now_s, datetime.now(UTC))) is not None:
            uplink.ask(asked)

    def _end(self) -> None:
        """Seal and sync what there is. Not the sampler's unfinished tick: the next run may record that second, and ticks never repeat."""
        if self._parts.supervisor is not None:
            self._parts.supervisor.stopping()
        self._append(self._recorder.flush())
        if self._status.ticks and not self._status.source_finished:
            self._append(self._recorder.message(heartbeat(self._status, self._tick_ms, stopping=True), time.monotonic()))
        self._store.commit()
        self._parts.ledger.durable(0)
        self._stop.set()
        self._parts.uplink.stop(GOODBYE_S)
        self._store.close()
        self._status_s = float("-inf")
        self._status.stopped = True
        self._report(time.monotonic())


def _detectors(config: EdgeConfig, schema: Schema) -> Detectors:
    packs = config.packs
    if not packs.folders:
        return Detectors([])
    if not packs.trusted_key:
        raise ConfigError("packs.trusted_key: is not set; packs are run only when this key has signed them")
    return Detectors.load(packs.folders, load_public_key(packs.trusted_key), schema)


def _asking(config: EdgeConfig, schema: Schema, stop: threading.Event, stack: ExitStack) -> Callable[[Snapshot], None] | None:
    """What takes the snapshots for polling; None where nothing is to be polled."""
    if not config.polling.requests:
        return None
    if config.source.log:
        raise ConfigError("polling.requests: are set, and source.log too: a recording cannot be asked")
    try:
        from edge.poller import open_poller  # python-can and can-isotp: only where they are needed
    except ImportError as error:
        raise ConfigError(f"polling.requests: are set, but {error.name} is not installed; `pip install can-isotp python-can`") from error
    return open_poller(config.polling, schema, stop, stack)


def _runtime() -> Path | None:
    """The folder in memory that systemd gives a service with RuntimeDirectory=, or another init its own way; systemd.exec(5)."""
    folder = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(folder) if folder else None


def _make_folder(state: Path) -> None:
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"state: {state}: cannot be made: {error.strerror}") from error
    if not os.access(state, os.W_OK | os.X_OK):
        raise ConfigError(f"state: {state}: the agent may not write there")


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """SIGTERM and SIGINT end the loop in order."""

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
