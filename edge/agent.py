"""The agent: source -> decoder -> sampler -> detectors and recorder -> outbox -> uplink.

Three threads: `source` reads frames, `uplink` owns the socket, and this one does everything else and owns every file of the state folder.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from types import FrameType

import numpy as np
from numpy.typing import NDArray

from dbc.frames import FrameBlock
from dbc.sampler import Snapshot
from dbc.validity import Reason
from edge.config import EdgeConfig
from edge.heartbeat import beat_pause_s, heartbeat
from edge.parts import Parts, Supervisor, open_parts
from edge.streams import Record

POLL_S = 0.1  # how late a stop, a receipt or a partial batch is seen when no frames come
MAINTAIN_S = 0.1
STATUS_S = LOOK_S = 1.0
NS_PER_MS = 1_000_000
GRACE_NS = 700_000_000  # frames of a bus that have been stamped may be this long on their way here; a source hands over four times a second
HANDOVER_S = 0.7  # how long the source has for its last block, from SIGTERM on
PARTING_S = 1.5  # from the ignition's end on each tick is sealed at once: the open one is over within a second, and handed over then
GOODBYE_S = 0.5  # of the 2 s that an ignition-off leaves; sealing and syncing come first

log = logging.getLogger(__name__)


def run(config: EdgeConfig, supervisor: Supervisor | None = None) -> None:
    """Run until SIGTERM, SIGINT, or the drained end of the log. Called in the main thread.

    Raises EdgeError, or the error of the package whose file it is, before anything is started when a file is missing or invalid; and
    afterwards when the source breaks, once everything that was read is sealed and synced.
    """
    stop = threading.Event()
    with ExitStack() as stack:
        parts = open_parts(config, stop, stack, supervisor)
        stack.enter_context(_signals(stop, parts.packs.ask))
        Agent(config, parts, stop).run()


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
        self._maintain_s = self._look_s = self._status_s = 0.0
        self._beat_s = float("-inf")
        self._began_s = _boot_s()
        self._parting_s = float("-inf")  # until then the computer may be switched off at any moment
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
        if now_s < self._parting_s:
            self._append(self._recorder.flush())
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
        pause_s = beat_pause_s(self._heartbeat_s, connected=self._parts.uplink.connected)
        if self._status.ticks and now_s - self._beat_s >= pause_s and not self._status.source_finished:
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
                self._look(now_s)
            # A clock that the broker's certificate was good by can be relied on.
            utc_s = time.time() if self._parts.uplink.connected else None
            for gap in self._store.maintain(now_s, utc_s, _boot_s() - self._began_s):
                log.warning("gap: batches %d to %d of a stream are lost: %s", gap.first, gap.last, gap.reason)
                self._status.gaps += 1
                self._append(self._recorder.message(gap, now_s))
            self._store.commit()
        if self._store.offered():
            self._parts.uplink.wake()
        self._parts.ledger.durable(self._recorder.waiting)

    def _look(self, now_s: float) -> None:
        """What a live vehicle may have come to know: the time, and that its ignition is off."""
        if (clock := self._parts.boot_clock.look()) is not None:
            self._append(self._recorder.place(clock, now_s))
        if self._parts.ignition.went_off():
            self._parting_s = now_s + PARTING_S
            self._append(self._recorder.flush())

    def _report(self, now_s: float) -> None:
        status, store = self._status, self._store
        status.drained = status.source_finished and not store.pending
        if now_s - self._status_s < STATUS_S and not status.drained:
            return
        self._status_s = now_s
        self._renew(now_s)
        self._parts.packs.look(now_s)
        self._recorder.packs(self._parts.detectors.pack_ids)
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
        status.certificate_days = self._parts.renewal.days_left(datetime.now(UTC))
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
        self._parts.packs.close()
        self._stop.set()
        self._parts.uplink.stop(GOODBYE_S)
        self._store.close()
        self._status_s = float("-inf")
        self._status.stopped = True
        self._report(time.monotonic())


def _boot_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # which counts while the computer is suspended, too


@contextmanager
def _signals(stop: threading.Event, reload: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT end the loop in order; so does SIGHUP from a terminal that is closed. From elsewhere it means: new packs."""

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    def on_hangup(_number: int, _frame: FrameType | None) -> None:
        if os.isatty(0):
            stop.set()
        else:
            reload()

    handlers = {signal.SIGTERM: on_signal, signal.SIGINT: on_signal, signal.SIGHUP: on_hangup}
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
