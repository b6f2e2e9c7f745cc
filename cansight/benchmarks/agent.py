"""The whole agent as a process of its own: processor time and memory at 12,000 and 4,000 frames/s, and what SIGTERM leaves behind.

Live frames of three buses, 250 signals, every shipped pack, sealed, on the flash, sent over TLS to a real mosquitto and receipted. What is
counted is all that the process takes of the processor, every thread and the kernel on its behalf.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cansight.benchmarks import agent_car
from cansight.benchmarks.agent_car import CHANNELS, Wanted
from cansight.benchmarks.broker import broker_and_receipts, find_mosquitto
from cansight.benchmarks.live import before_others
from cansight.benchmarks.material import Material
from cansight.benchmarks.result import Result
from cansight.errors import WorkFailed
from edge.outbox import MAX_IN_FLIGHT

LIMITS = {12_000: 0.05, 4_000: 0.025}  # frames/s: share of a core
MOST_MB = 115.0
MOST_END_S = 2.0
TURNS = 3
WARM_S, TURN_S = 4.0, 20.0
LATE_S = 0.005  # see `live`: frames in bursts cost a receiver less than paced ones
SEND_BYTES = 4 << 20
PATIENCE_S = 60.0
CPUCLOCK_SCHED = 2  # of a process's clock: what clock_getcpuclockid(3) gives, which Python has for threads alone


@dataclass(frozen=True)
class Turn:
    """cpu, kernel: of a core, by rate; late: part of the frames that came in bursts; end_s: from SIGTERM to the process's end.

    flash_mb_h: bytes that it makes the kernel write to the disk, an hour; sealed_mb_h: of its batches of rows.
    """

    cpu: dict[int, float]
    kernel: dict[int, float]
    late: float
    memory_mb: float
    end_s: float
    flash_mb_h: float
    sealed_mb_h: float
    signals: int
    packs: int


def agent(_: Material) -> list[Result]:
    """Checked in every turn: no frame was dropped, every one was handed over although SIGTERM came in mid-stream, every pack ran, and
    every batch had its receipt but those that were in flight at the end. A simulated drive, whatever the material.
    Left out where there is no mosquitto."""
    mosquitto = find_mosquitto("agent")
    if mosquitto is None:
        return []
    messages = agent_car.wanted()
    with tempfile.TemporaryDirectory(prefix="cansight-bench-") as name, broker_and_receipts(Path(name), mosquitto) as (pki, port):
        turns = [_turn(Path(name) / "car", pki, port, messages) for _ in range(TURNS)]
    packs = turns[0].packs
    results = []
    for rate, most in LIMITS.items():
        mine = statistics.median(turn.cpu[rate] for turn in turns)
        kernel = statistics.median(turn.kernel[rate] for turn in turns)
        late, many = statistics.median(turn.late for turn in turns), "s" * (packs > 1)
        what = (
            f"the whole agent, {len(CHANNELS)} buses, {rate:,} paced frames/s, {turns[0].signals} signals, {packs} pack{many}, "
            f"sealing, TLS ({kernel * 100:.1f} of it in the kernel; {late:.1%} of the frames came late)"
        )
        results.append(Result("agent", what, "limit", "% of a core", mine * 100, most * 100, most / mine, 1.0))
    memory, end_s = max(turn.memory_mb for turn in turns), max(turn.end_s for turn in turns)
    results.append(Result("agent", "its resident memory at its most", "limit", "MB", memory, MOST_MB, MOST_MB / memory, 1.0))
    what = "SIGTERM at 12,000 frames/s: every frame handed over, sealed, synced, ended"
    results.append(Result("agent", what, "limit", "s", end_s, MOST_END_S, MOST_END_S / end_s, 1.0))
    flash, sealed = (statistics.median(getattr(turn, name) for turn in turns) for name in ("flash_mb_h", "sealed_mb_h"))
    what = "written to the flash in an hour of driving, in pages, a commit each two seconds"
    results.append(Result("agent", what, "bytes of the batches alone", "MB", flash, sealed, sealed / flash))
    return results


def _turn(folder: Path, pki: Path, port: int, messages: Wanted) -> Turn:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    settings = agent_car.build(folder, pki, port, messages)
    with _agent(settings) as (process, out), before_others():
        sender = _Sender(out, messages)
        usage: dict[int, float] = {}
        kernel: dict[int, float] = {}
        status = _wait(process, folder, "connected")
        flash, began_s = _written(process.pid), time.monotonic()  # what a start writes is no hour's
        for rate in reversed(LIMITS):  # the highest last: SIGTERM comes then
            sender.send(rate, WARM_S)
            before, start_s = _cpu_s(process.pid), time.monotonic()
            sender.send(rate, TURN_S)
            after, took_s = _cpu_s(process.pid), time.monotonic() - start_s
            usage[rate], kernel[rate] = (after[0] - before[0]) / took_s, (after[1] - before[1]) / took_s
        flash_mb_h = (_written(process.pid) - flash) / (time.monotonic() - began_s) * 3600 / 1e6
        sealing_s = time.monotonic() - began_s
        memory = int(Path(f"/proc/{process.pid}/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
        sender.send(max(LIMITS), 0.4)  # so that SIGTERM finds frames of less than a block
        process.send_signal(signal.SIGTERM)
        began_s = time.monotonic()
        process.wait(PATIENCE_S)
        end_s = time.monotonic() - began_s
    last = _status(folder)
    _check(last, sender.sent, len(status["packs"]), len(list((folder).glob("*/manifest.json"))))
    sealed_mb_h = last["bytes_sealed"] / sealing_s * 3600 / 1e6
    return Turn(usage, kernel, sender.late / sender.sent, memory, end_s, flash_mb_h, sealed_mb_h, status["signals"], len(status["packs"]))


def _check(last: dict[str, Any], sent: int, ran: int, packs: int) -> None:
    if last["frames"] != sent or last["frames_unknown"]:
        dropped = sum(channel["frames_dropped"] for channel in last["channels"].values())
        raise WorkFailed(
            f"bench agent: of {sent:,} frames {last['frames']:,} were taken ({last['frames_unknown']} unknown); {dropped} dropped"
        )
    if ran != packs:
        raise WorkFailed(f"bench agent: {ran} of {packs} packs ran")
    if last["batches_receipted"] < last["batches_recorded"] - MAX_IN_FLIGHT:
        raise WorkFailed(f"bench agent: {last['batches_receipted']} of {last['batches_recorded']} batches were receipted")


class _Sender:
    """Paces frames, one a bus at a time, as three buses deliver them."""

    def __init__(self, out: list[socket.socket], messages: Wanted) -> None:
        self._out = out
        self._frames = agent_car.frames(messages)
        self.sent = 0
        self.late = 0

    def send(self, rate: int, seconds: float) -> None:
        """`rate` frames/s on all buses together."""
        step, start_s = len(self._out), time.perf_counter()
        for number in range(0, round(rate * seconds), step):
            ahead_s = number / rate - (time.perf_counter() - start_s)
            if ahead_s > 0:
                time.sleep(ahead_s)
            elif ahead_s < -LATE_S:
                self.late += step
            for _ in range(step):
                bus, frame = next(self._frames)
                try:
                    self._out[bus].send(frame)
                except TimeoutError:
                    raise WorkFailed("bench agent: the agent takes no frames") from None
            self.sent += step


@contextlib.contextmanager
def _agent(settings: Path) -> Iterator[tuple[subprocess.Popen[str], list[socket.socket]]]:
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in CHANNELS]
    ends = [theirs.fileno() for _, theirs in pairs]
    program = f"from {agent_car.__name__} import main; import sys; main(sys.argv[1:])"
    command = [sys.executable, "-c", program, str(settings), *map(str, ends)]
    with contextlib.ExitStack() as stack:
        for mine, theirs in pairs:
            stack.enter_context(mine)
            stack.enter_context(theirs)
            mine.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
            mine.settimeout(PATIENCE_S)
        said = stack.enter_context((settings.parent / "agent.log").open("w"))
        process = stack.enter_context(subprocess.Popen(command, stderr=said, text=True, pass_fds=ends))
        stack.callback(process.kill)
        yield process, [mine for mine, _ in pairs]


def _wait(process: subprocess.Popen[str], folder: Path, fact: str) -> dict[str, Any]:
    deadline_s = time.monotonic() + PATIENCE_S
    while not (status := _status(folder)).get(fact):
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise WorkFailed(f"bench agent: the agent is not {fact}: {(folder / 'agent.log').read_text()[-300:].strip()}")
        time.sleep(0.05)
    return status


def _status(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / "state" / "status.json").read_bytes())
    except FileNotFoundError:
        return {}
    return found


def _written(pid: int) -> int:
    """Bytes that the process has made the kernel write to a disk: man 5 proc_pid_io."""
    return int(Path(f"/proc/{pid}/io").read_text().partition("\nwrite_bytes: ")[2].split()[0])


def _cpu_s(pid: int) -> tuple[float, float]:
    """What the process has taken of the processor so far, and of this in the kernel."""
    clock = (~pid << 3) | CPUCLOCK_SCHED
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()  # man 5 proc_pid_stat: from the third on
    return time.clock_gettime(clock), int(fields[12]) / os.sysconf("SC_CLK_TCK")
