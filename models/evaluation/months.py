"""Vehicle-months while they are simulated: all packs on many cars, each judged against its own baseline, which it has learned before.

First every car drives until each pack has its baseline (`learn`), then what counts of its life is judged (`judge`); all in lanes that run
beside each other, and what the packs noticed becomes findings (stitched.py).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.baseline import BaselineState
from models.evaluation.stitched import Found, findings
from models.evaluation.stream import EVIDENCE, RAISED, Event, StreamJudge, Ticks
from models.pack import Pack

__all__ = ["Follow", "Judged", "Learned", "Peaks", "Rows", "judge", "learn", "signals_of", "stitch"]


class Rows(Protocol):
    """The next rows of n lanes, as `simulator.months.Stretch`."""

    @property
    def lane(self) -> NDArray[np.intp]: ...
    @property
    def time_s(self) -> NDArray[np.float64]: ...
    @property
    def tick(self) -> NDArray[np.bool_]: ...
    @property
    def follows(self) -> NDArray[np.bool_]: ...
    @property
    def values(self) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Judged:
    """What all packs noticed. found: all findings. judged: (packs, lanes) ticks that each judged. peaks: of each, with floors."""

    found: tuple[Found, ...]
    judged: NDArray[np.int64]
    peaks: tuple["Peaks", ...] = ()


@dataclass(frozen=True)
class Learned:
    """baselines: (m, vehicles) of each pack, NaN where it has none, or not enough healthy drives. raised: how often each alarm rose."""

    baselines: tuple[NDArray[np.float64], ...]
    raised: tuple[int, ...]


@dataclass(frozen=True)
class Peaks:
    """Of one pack: (n,) drives in which a score over the floor lasted; `drive` is its number in the vehicle's life.

    drives: vehicle -> how many drives it had.
    """

    vehicle: NDArray[np.int64]
    drive: NDArray[np.int64]
    time_s: NDArray[np.float64]
    score: NDArray[np.float64]
    drives: dict[int, int]


def peaks(judge: StreamJudge, vehicle: Sequence[int]) -> Peaks:
    """After `stitch`."""
    begins: dict[int, int] = {}
    total: dict[int, int] = defaultdict(int)
    for lane, number in enumerate(vehicle):
        begins[lane] = total[number]
        total[number] += int(judge.state.drives[lane])
    time_of = {(event.lane, event.drive): event.time_s for event in judge.events if event.kind == EVIDENCE}
    rows = [(vehicle[lane], begins[lane] + drive, time_of[lane, drive], score) for lane, drive, score in judge.peaks]
    table = np.array(rows, np.float64).reshape(-1, 4)
    return Peaks(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2], table[:, 3], dict(total))


def signals_of(packs: Sequence[Pack]) -> list[str]:
    """What they look at, each signal once."""
    return list(dict.fromkeys(name for pack in packs for name in pack.manifest.names))


class Follow:
    """Puts some rows that came before in front of the next ones, and counts the ticks that follow one another."""

    def __init__(self, lanes: int, back: int) -> None:
        self._lanes, self._back = lanes, back
        self._run = np.zeros(lanes, np.int64)
        self._lane = np.zeros(0, np.intp)
        self._before = np.zeros((back, 0, 0), np.float32)

    def __call__(self, rows: Rows) -> Ticks:
        lane = rows.lane
        if len(self._lane):
            before = self._before if len(lane) == len(self._lane) else self._before[:, :, np.searchsorted(self._lane, lane)]
        else:
            before = np.zeros((self._back, *rows.values.shape[1:]), np.float32)
        values = np.concatenate([before, rows.values])
        run, whole = self._run[lane], np.empty(rows.tick.shape, np.int64)
        for at, (tick, follows) in enumerate(zip(rows.tick, rows.follows, strict=True)):
            run = (run * follows + 1) * tick
            whole[at] = run
        self._run[lane] = run
        self._lane, self._before = lane, values[len(values) - self._back :].copy()
        return Ticks(lane, self._back, rows.time_s, values, whole)


def learn(packs: Sequence[Pack], stretches: Iterable[Rows], vehicle: Sequence[int], vehicles: int) -> Learned:
    """What each pack knows of each vehicle after these ticks.

    vehicle: (lanes,) whose ticks a lane has, 0 to vehicles - 1; each lane is one drive, and a vehicle's are in the order of their times.
    All are judged as a vehicle is that has no baseline yet: what would raise the alarm then does not enter it.
    """
    signals = signals_of(packs)
    judges = [StreamJudge(pack, signals, len(vehicle), learning=True) for pack in packs]
    _run(judges, stretches, len(vehicle))
    baselines = []
    for judge in judges:
        judge.finish()
        rule = judge.pack.manifest.baselines()
        own = np.full((judge.monitored, vehicles), np.nan)
        if rule is not None:
            states = [BaselineState()] * vehicles
            for lane, of in enumerate(vehicle):
                for mean in judge.state.means[lane].drives:
                    states[of] = rule.add(states[of], np.array(mean))
            for of, state in enumerate(states):
                value = rule.value(state)
                if value is not None:
                    own[:, of] = value
        baselines.append(own)
    return Learned(tuple(baselines), tuple(sum(event.kind == RAISED for event in judge.events) for judge in judges))


def judge(
    packs: Sequence[Pack],
    stretches: Iterable[Rows],
    vehicle: Sequence[int],
    baselines: Sequence[NDArray[np.float64]],
    floors: Sequence[float] | None = None,
) -> Judged:
    """What the packs notice. vehicle: (lanes,) as `learn`; a vehicle's lanes are numbered in the order of their times.

    baselines: (m, vehicles) of each pack, in force from the first tick on. floors: instead of the packs' thresholds, to see what is below.
    """
    signals = signals_of(packs)
    lanes = len(vehicle)
    floors_of: Sequence[float | None] = floors or [None] * len(packs)
    judges = [
        StreamJudge(pack, signals, lanes, False, own[:, np.asarray(vehicle)], floor)
        for pack, own, floor in zip(packs, baselines, floors_of, strict=True)
    ]
    _run(judges, stretches, lanes)
    found = [one for each in judges for one in stitch(each, vehicle)]
    judged = np.array([each.state.judged for each in judges])
    return Judged(tuple(found), judged, tuple(peaks(each, vehicle) for each in judges) if floors else ())


def stitch(judge: StreamJudge, vehicle: Sequence[int]) -> list[Found]:
    """The findings of one pack in all vehicles."""
    manifest = judge.pack.manifest
    lanes_of: dict[int, list[int]] = defaultdict(list)
    for lane, number in enumerate(vehicle):
        lanes_of[number].append(lane)
    events: dict[int, list[Event]] = defaultdict(list)
    for event in judge.events:
        events[event.lane].append(event)
    judge.finish()
    drives = dict(enumerate(judge.state.drives.tolist()))
    rule = manifest.drive_rule()
    return [
        one
        for number, lanes in lanes_of.items()
        if any(lane in events for lane in lanes)
        for one in findings(number, manifest.fault_code, rule.need, rule.of, lanes, drives, events)
    ]


def _run(judges: Sequence[StreamJudge], stretches: Iterable[Rows], lanes: int) -> None:
    follow = Follow(lanes, max((judge.back for judge in judges), default=0))
    for rows in stretches:
        ticks = follow(rows)
        for judge in judges:
            judge.feed(ticks)
