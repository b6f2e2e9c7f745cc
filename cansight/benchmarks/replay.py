"""Replay: whether it keeps time at 4,000 frames/s, and how fast it is when it need not, against python-can's player.

Both sides play the same candump log into the same kind of socket: a pair that carries struct can_frame to a process that receives them,
for this kernel may have no SocketCAN. The kernel stamps each frame as it is sent. The frames that arrive are compared first. python-can's
side is its player's own loop (can.MessageSync, bus.send), its reader and its SocketcanBus; only what opens the socket is replaced.
CANSIGHT_BENCH_SECONDS says how long the log is (20; the promise is for 120).
"""

import contextlib
import itertools
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cansight.benchmarks.material import Material, whole_number
from cansight.benchmarks.result import Result
from dbc.frames import FrameBlock
from dbc.logs import write_candump

RATE = 4000  # frames/s: a full bus of 500 kbit/s
SECONDS = 20
FAST_FRAMES = 120_000
TURNS = 3
IDENTIFIERS = 40
START_NS = 1_700_000_000_000_000_000
SO_SNDBUFFORCE = 32
SEND_BYTES = 8 << 20  # of the pair: 10,000 frames, so that a receiver that is kept from the processor holds nobody up
MOST_OFF = 0.002  # of the log's length
MOST_LATE_MS = 2.0

Player = Callable[[Path, socket.socket], None]


@dataclass(frozen=True)
class _Arrived:
    digest: str
    stamp_ns: NDArray[np.int64]  # (n,) when each frame was sent
    took_s: float  # of the player, start to end


def replay(_: Material) -> list[Result]:
    """A made-up log, whatever the material: the promise is for a rate."""
    seconds = whole_number("CANSIGHT_BENCH_SECONDS", SECONDS)
    with tempfile.TemporaryDirectory(prefix="cansight-bench-") as name:
        folder = Path(name)
        return [*_in_time(folder, seconds), *_fast(folder)]


def _in_time(folder: Path, seconds: int) -> list[Result]:
    log = folder / "paced.log"
    due_ns = _write(log, seconds * RATE)
    ours, rival = _turn(folder, log, len(due_ns), _ours(1.0)), _turn(folder, log, len(due_ns), _rival(timestamps=True))
    _check_equal(ours, rival)
    (off, late_ms), (off_rival, late_rival_ms) = _punctual(due_ns, ours), _punctual(due_ns, rival)
    what = f"a log of {seconds} s at {RATE:,} frames/s"
    length, late = f"{what}: off its length", f"{what}: 99th percentile of |sent - due|"
    return [
        Result("replay", length, "limit", "%", off * 100, MOST_OFF * 100, MOST_OFF / max(off, 1e-9), 1.0),
        Result("replay", late, "limit", "ms", late_ms, MOST_LATE_MS, MOST_LATE_MS / max(late_ms, 1e-9), 1.0),
        Result("replay", length, "python-can's player", "%", off * 100, off_rival * 100, off_rival / max(off, 1e-9)),
        Result("replay", late, "python-can's player", "ms", late_ms, late_rival_ms, late_rival_ms / max(late_ms, 1e-9)),
    ]


def _punctual(due_ns: NDArray[np.int64], arrived: _Arrived) -> tuple[float, float]:
    """By what share the length was missed, and the 99th percentile of |sent - due| in ms, both from the first frame on."""
    sent_ns, due_ns = arrived.stamp_ns - arrived.stamp_ns[0], due_ns - due_ns[0]
    off = abs(int(sent_ns[-1]) - int(due_ns[-1])) / int(due_ns[-1])
    return off, float(np.percentile(np.abs(sent_ns - due_ns), 99)) / 1e6


def _fast(folder: Path) -> list[Result]:
    log = folder / "fast.log"
    frames = len(_write(log, FAST_FRAMES))
    sides: dict[str, Player] = {"ours": _ours(None), "rival": _rival(timestamps=False)}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _turn_number in range(TURNS):
        arrived = {side: _turn(folder, log, frames, player) for side, player in sides.items()}
        _check_equal(arrived["ours"], arrived["rival"])
        for side, found in arrived.items():
            seconds[side].append(found.took_s)
    mine, other = (frames / statistics.median(taken) for taken in seconds.values())
    what = "--fast, from the log to raw CAN frames"
    return [
        Result("replay", what, "python-can's player without its gaps", "frames/s", mine, other, mine / other, 5.0),
        *_virtual(log, frames),
    ]


def _virtual(log: Path, frames: int) -> list[Result]:
    """Onto python-can's own virtual bus, where both sides make one Python object a frame; its player, as it is, puts gaps of 0.1 ms between
    frames even when it ignores their times."""
    import can

    def ours() -> None:
        from simulator.replay import Ahead, play
        from simulator.replay_routes import Target
        from simulator.replay_sinks import PythonCan
        from simulator.replay_timetable import FAST_FRAMES as BLOCK
        from simulator.replay_timetable import Timetable

        with Ahead(Timetable([str(log)], lambda _log, _channel: 0, block_frames=BLOCK)) as ahead, PythonCan(Target("virtual", "x")) as sink:
            play(ahead, [sink], speed=None)

    def rival(gap: float, most: int) -> None:
        with can.Bus(interface="virtual", channel="x") as bus, can.LogReader(log) as reader:
            for message in itertools.islice(can.MessageSync(reader, timestamps=False, gap=gap), most):
                bus.send(message)

    some = frames // 10
    taken = [_seconds(ours), _seconds(lambda: rival(0.0001, some)) * frames / some, _seconds(lambda: rival(0.0, frames))]
    mine, player, gapless = (frames / seconds for seconds in taken)
    what = "--fast, onto python-can's virtual bus"
    return [
        Result("replay", what, "python-can's player", "frames/s", mine, player, mine / player, 5.0),
        Result("replay", what, "python-can's player without its gaps", "frames/s", mine, gapless, mine / gapless),
    ]


def _seconds(side: Callable[[], None]) -> float:
    """Median of the turns."""
    taken = []
    for _ in range(TURNS):
        start = time.perf_counter()
        side()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _write(log: Path, frames: int) -> NDArray[np.int64]:
    """A candump log of one bus; returns the stamps, ns."""
    random = np.random.default_rng(1)
    number = np.arange(frames)
    stamp_ns = START_NS + ((number + 0.9 * random.random(frames)) * (1e9 / RATE)).astype(np.int64) // 1000 * 1000
    block = FrameBlock(
        ("can0",),
        stamp_ns,
        (0x100 + number % IDENTIFIERS).astype(np.uint32),
        np.zeros(frames, np.uint8),
        np.full(frames, 8, np.uint8),
        random.integers(0, 256, (frames, 8), np.uint8),
        0,
    )
    with log.open("wb") as stream:
        write_candump(stream, block)
    return stamp_ns


def _turn(folder: Path, log: Path, frames: int, player: Player) -> _Arrived:
    stamps = folder / "stamps.npy"
    with contextlib.ExitStack() as stack:
        mine, theirs = (stack.enter_context(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
        try:
            mine.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, SEND_BYTES)
        except OSError:  # without CAP_NET_ADMIN: as much as net.core.wmem_max allows
            mine.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        command = [sys.executable, "-m", "cansight.benchmarks.replay_side", str(theirs.fileno()), str(frames), str(stamps)]
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, pass_fds=[theirs.fileno()]))
        stack.callback(process.kill)
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError("bench replay: the receiver did not start")
        start = time.perf_counter()
        player(log, mine)
        took_s = time.perf_counter() - start
        digest = process.stdout.readline().strip()
    return _Arrived(digest, np.load(stamps), took_s)


def _ours(speed: float | None) -> Player:
    from simulator.replay import Ahead, play
    from simulator.replay_sinks import RawCan
    from simulator.replay_timetable import FAST_FRAMES, PACED_FRAMES, Timetable

    def player(log: Path, out: socket.socket) -> None:
        timetable = Timetable([str(log)], lambda _log, _channel: 0, block_frames=FAST_FRAMES if speed is None else PACED_FRAMES)
        with Ahead(timetable) as ahead, RawCan("pair", out.dup) as sink:
            ahead.wait()
            play(ahead, [sink], speed=speed, real_time=True)

    return player


def _rival(*, timestamps: bool) -> Player:
    import can
    from can.interfaces.socketcan.socketcan import SocketcanBus

    class PairBus(SocketcanBus):
        def __init__(self, made: socket.socket) -> None:
            self.socket, self.channel, self._bcm_sockets = made, "pair", {}
            can.BusABC.__init__(self, channel="pair")

        def _apply_filters(self, filters: Any) -> None:
            self._is_filtered = True

    def player(log: Path, out: socket.socket) -> None:
        bus = PairBus(out.dup())
        try:
            with can.LogReader(log) as reader:
                for message in can.MessageSync(reader, timestamps=timestamps, gap=0.0001 if timestamps else 0.0):
                    bus.send(message, 1.0)  # its player gives no time and stops at the first full buffer
        finally:
            bus.shutdown()

    return player


def _check_equal(ours: _Arrived, rival: _Arrived) -> None:
    if ours.digest != rival.digest:
        raise ValueError("bench replay: the two sides' frames are not the same")
