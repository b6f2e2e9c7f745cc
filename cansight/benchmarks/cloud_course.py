"""A fleet's drive through one cloud or several, looked at now and then: what each process has spent, how late values were in the store.

Streams are opened one by one, as vehicles are started at any time. What is measured begins when the opening's backlog is gone, which is
when of CALM_LOOKS looks in a row half of what was stored since the one before was less than CALM_S late; where that is not within LIMIT_S
it begins then, and says so.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cansight.benchmarks.fleet import cpu_s
from cansight.errors import WorkFailed
from cloud.delays import BACKLOG_S, WITHIN_S

__all__ = ["LIMIT_S", "Course", "Look", "Stats", "drive", "ramp_s"]

OPENED_PER_S = 50  # streams; a fleet of 3,000 opens less than one a second, as a stream lasts for an hour
LEAST_RAMP_S = 10
CALM_S = 3.0
CALM_LOOKS = 10
LIMIT_S = 180.0
LOOK_S = 2.0
PATIENCE_S = 600.0  # for batches to be sealed and vehicles to connect, and for the last receipts

Stats = Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Look:
    """So far: processor time of each process, s; batches landed; ticks less than 1, 2 … WITHIN_S late; ticks received after a minute."""

    at_s: float
    cpu_s: tuple[float, ...]
    landed: int
    within: list[int]
    backlog: int

    def since(self, first: "Look") -> list[int]:
        """Ticks stored between the two, less than 1, 2 … WITHIN_S late; the last number is of all."""
        counts = [late - _at(first.within, place) for place, late in enumerate(self.within)] or [0]
        return [*counts, counts[-1] + self.backlog - first.backlog]


@dataclass(frozen=True)
class Course:
    """first: when what is measured began; end: when the fleet was told to end; last: when all was stored. settled_s: how long after the
    opening that was, None: the backlog was not gone after LIMIT_S."""

    first: Look
    end: Look
    last: Look
    settled_s: float | None
    report: dict[str, Any]

    @property
    def cores(self) -> list[float]:
        """Of the processes, while the fleet drove."""
        return [(b - a) / (self.end.at_s - self.first.at_s) for a, b in zip(self.first.cpu_s, self.end.cpu_s, strict=True)]

    @property
    def batches(self) -> int:
        return self.last.landed - self.first.landed

    def cpu_us(self, values: int) -> list[float]:
        """Of the processes, a value, where a batch has so many."""
        return [(b - a) / (self.batches * values) * 1e6 for a, b in zip(self.first.cpu_s, self.last.cpu_s, strict=True)]

    def late_s(self, share: float) -> float:
        """As late, or less, was this share of the ticks."""
        return _late_s(self.last.since(self.first), share)


def ramp_s(vehicles: int) -> int:
    """How long the fleet's streams take to open."""
    return max(LEAST_RAMP_S, vehicles // OPENED_PER_S)


def drive(
    pki: Path, port: int, vehicles: int, seconds: int, clouds: Sequence[Stats], pids: Sequence[int], stored: Callable[[int], None]
) -> Course:
    """The fleet's drive. pids: of the processes whose time is told; the fleet's own is told last. `stored(ticks)` returns when the store
    has them all. Raises WorkFailed."""
    ramp = ramp_s(vehicles)
    with _fleet(pki, port, vehicles, seconds + ramp + round(LIMIT_S), ramp) as load:

        def look() -> Look:
            told = [stats() for stats in clouds]
            spent = tuple(cpu_s(pid) for pid in (*pids, load.pid))
            backlog = sum(one["delays"]["start"]["backlog"] for one in told)
            return Look(time.monotonic(), spent, sum(one["landed"] for one in told), _together([one["within"] for one in told]), backlog)

        _say(load, "start")
        opened_s = time.monotonic() + ramp
        before, first, settled_s, calm = look(), None, None, 0
        while first is None or before.at_s < first.at_s + seconds:
            time.sleep(LOOK_S)
            if load.poll() is not None:
                _line(load)  # it has nothing to say but why
            now = look()
            if first is None and now.at_s >= opened_s:
                calm = calm + 1 if now.within and _late_s(now.since(before), 0.5) <= CALM_S else 0
                if calm >= CALM_LOOKS:
                    settled_s = now.at_s - opened_s
                first = now if settled_s is not None or now.at_s > opened_s + LIMIT_S else None
            before = now
        _say(load, "end")
        report = json.loads(_line(load))
        if report["unreceipted"] or report["forged"]:
            raise WorkFailed(f"bench cloud: {report['unreceipted']} batches have no receipt, {report['forged']} a forged one")
        stored(2 * report["batches"])
        return Course(first, before, look(), settled_s, report)


@contextmanager
def _fleet(pki: Path, port: int, vehicles: int, seconds: int, ramp: int) -> Iterator["subprocess.Popen[str]"]:
    numbers = [str(number) for number in (port, vehicles, seconds, ramp)]
    command = [sys.executable, "-m", "cansight.benchmarks.cloud_fleet", str(pki), *numbers]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as load:
        try:
            if _line(load).strip() != "ready":
                raise WorkFailed("bench cloud: the fleet is not ready")
            yield load
        finally:
            load.kill()


def _say(load: "subprocess.Popen[str]", word: str) -> None:
    assert load.stdin is not None
    load.stdin.write(f"{word}\n")
    load.stdin.flush()


def _line(load: "subprocess.Popen[str]") -> str:
    assert load.stdout is not None
    assert load.stderr is not None
    line = load.stdout.readline()
    if not line:
        raise WorkFailed(f"bench cloud: the fleet: {load.stderr.read().strip()[-300:]}")
    return line


def _together(lists: list[list[int]]) -> list[int]:
    """Counts of several clouds: each list's last one stands for all that follow."""
    told = [one for one in lists if one]
    return [sum(one[min(place, len(one) - 1)] for one in told) for place in range(max(map(len, told), default=0))]


def _late_s(counts: list[int], share: float) -> float:
    if not counts[-1]:
        return float("inf")
    place = next(place for place, one in enumerate(counts) if one >= share * counts[-1])
    return (place + 1) * WITHIN_S if place < len(counts) - 1 else BACKLOG_S


def _at(sums: list[int], place: int) -> int:
    return sums[min(place, len(sums) - 1)] if sums else 0
