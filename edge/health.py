"""What the agent says of itself: status.json, whether it is alive and ready, and the ledger of ticks that latency is measured with."""

import logging
import os
import time
from collections import deque
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from edge.errors import ConfigError
from edge.files import replace_file
from edge.sources.channel import ChannelStatus, State

STATUS_FILE = "status.json"
NS_PER_MS = 1_000_000

log = logging.getLogger(__name__)


class Status(msgspec.Struct):
    """The file's content. Counters run since this start of the agent; `batches_*` include what an earlier run left without a receipt."""

    vehicle: str
    agent: str = ""  # its version
    schema: str = ""  # id of the DBC's schema, hexadecimal
    packs: list[str] = msgspec.field(default_factory=list)  # ids of the packs that run
    packs_refused: list[str] = msgspec.field(default_factory=list)  # one line for each that does not, and why
    packs_relearning: list[str] = msgspec.field(default_factory=list)  # one line for each that learns its vehicle anew, and why
    packs_shadow: list[str] = msgspec.field(default_factory=list)  # one line for each that is tried in shadow, and how far it is
    pid: int = msgspec.field(default_factory=os.getpid)
    started_utc_ms: int = msgspec.field(default_factory=lambda: time.time_ns() // NS_PER_MS)
    updated_utc_ms: int = 0
    frames: int = 0
    frames_unknown: int = 0  # of an identifier that no DBC has
    signals: int = 0  # in the schema
    signals_seen: int = 0  # that any frame has carried
    ticks: int = 0
    samples: int = 0  # valid values recorded
    samples_changed: int = 0  # of these, other than at the tick before
    batches_recorded: int = 0
    batches_receipted: int = 0  # the cloud has said stored, quarantined or refused
    batches_quarantined: int = 0
    batches_refused: int = 0
    batches_lost: int = 0  # that gaps stand for
    receipts_forged: int = 0
    bytes_sealed: int = 0  # batches of rows, envelope included
    findings: int = 0
    gaps: int = 0
    outbox_bytes: int = 0
    outbox_limit_bytes: int = 0
    in_flight: int = 0
    connected: bool = False
    clock_offset_s: float = 0.0  # the system's clock less the axis of the ticks, of a live source: how far it was set since the start
    certificate_days: int = 0  # that the vehicle's certificate is still good for, by its own clock; below 0: it is over
    channels: dict[str, ChannelStatus] = msgspec.field(default_factory=dict)  # of a live source
    source_finished: bool = False
    drained: bool = False
    stopped: bool = False  # ended in order: everything is sealed and synced
    every_s: float = 0.0  # this file is written at least so often; 0 = every second


class StatusFile:
    """Writes the status, and does not wear the flash with it: a small file a second is 350 MB of pages a day; the outbox writes 460.

    In `runtime`, a folder in memory (systemd's RuntimeDirectory), it is written at every call, and a link in `state` leads there. Without
    one it stands beside the outbox, and is written when something has changed that someone waits for, else every `every_s`.
    A file that cannot be written is said once and does not stop the agent.
    """

    def __init__(self, state: Path, runtime: Path | None, every_s: float) -> None:
        self.path = (runtime or state) / STATUS_FILE
        self.every_s = 0.0 if runtime else every_s
        self._link = state / STATUS_FILE if runtime else None
        self._due_s = float("-inf")
        self._news: tuple[object, ...] = ()
        self._failed = False

    def write(self, status: Status, now_s: float) -> None:
        """now_s: monotonic."""
        news = _news(status)
        if now_s < self._due_s and news == self._news:
            return
        self._due_s, self._news = now_s + self.every_s, news
        status.updated_utc_ms = time.time_ns() // NS_PER_MS
        status.every_s = self.every_s
        try:
            if self._link is not None:
                _lead(self._link, self.path)
                self._link = None
            replace_file(self.path, msgspec.json.format(msgspec.json.encode(status)) + b"\n", durable=False)
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.error("%s: cannot be written: %s", self.path, error.strerror)
            self._failed = True


def _news(status: Status) -> tuple[object, ...]:
    """What someone waits for; the counters that always run are not among it."""
    counted = status.findings, status.gaps, status.batches_quarantined, status.batches_refused, status.receipts_forged
    states = [channel.state for channel in status.channels.values()]
    return (status.connected, status.source_finished, status.drained, status.stopped, *counted, *states)


def _lead(link: Path, to: Path) -> None:
    """Make `link` a symbolic link to `to`, whatever it was. Raises OSError."""
    if link.is_symlink() and link.readlink() == to:
        return
    temporary = link.with_name(f".{link.name}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(to)
    temporary.replace(link)


class Ledger:
    """CSV `tick_ms,entered_ns,samples`: each tick, the wall clock at which its first frame entered the source, and how many valid values
    were recorded of it: a tick without any is not in a store. "" keeps none.

    A line is the vehicle's word: it is written when the tick's batches are durable (where the flash failed, a gap stands for them), so from
    there on the tick is owed to the cloud, whatever is killed.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: TextIOWrapper | None = None
        self._waiting: deque[str] = deque()  # lines of ticks that are not durable yet

    def __enter__(self) -> Self:
        if self._path:
            try:
                self._file = Path(self._path).open("a", encoding="ascii", buffering=1)
            except OSError as error:
                raise ConfigError(f"health.ledger: {self._path}: cannot be written: {error.strerror}") from error
            if self._file.tell() == 0:
                self._file.write("tick_ms,entered_ns,samples\n")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, tick_ns: int, entered_ns: int, samples: int) -> None:
        """Note a tick that was recorded."""
        if self._file is not None:
            self._waiting.append(f"{tick_ns // NS_PER_MS},{entered_ns},{samples}\n")

    def durable(self, but: int) -> None:
        """Write all that was noted but the newest `but` ticks, which still wait for a full batch."""
        if self._file is not None:
            while len(self._waiting) > but:
                self._file.write(self._waiting.popleft())


def troubles(status: Status, silent_s: float, patience_s: float) -> tuple[list[str], list[str]]:
    """What keeps the agent from being alive, and from being ready. silent_s: since its loop last came round."""
    dead = [f"the loop has not come round for {silent_s:.0f} s"] if silent_s > patience_s else []
    unready = list(dead)
    if not status.connected:
        unready.append("the broker is away; batches stay in the outbox")
    unready += [f"{name}: {said.state}" for name, said in status.channels.items() if said.state in (State.DOWN, State.BUS_OFF)]
    return dead, unready
