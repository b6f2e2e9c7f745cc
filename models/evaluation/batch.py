"""Months of ticks at once: the same judgement as the runtime's, without a call of onnxruntime for each tick.

The graph that `models/graph.py` builds is a function of its constants, and NumPy computes it for a whole drive (`models/fit.py`; the
training checks that both agree). So the constants are read back out of the graph. What is read back is held against the runtime at ticks
of the drive itself, and a pack of any other make, or one that differs anywhere, is scored tick by tick.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from models.alarm import Alarm
from models.fit import Detector, score_drive
from models.graph import PRODUCER
from models.runtime import PackRuntime, Score
from models.tables import Drive

__all__ = ["BatchJudge", "alarms", "detector_of"]

CHECKED = 40
"""Ticks of the first drive at which batch and runtime must agree, besides its highest score."""
AGREEMENT = 1e-9
PIECE = 50_000
"""Ticks that are computed together: a year's features would need gigabytes."""


def detector_of(model: bytes) -> Detector | None:
    """The constants of a graph of ours; None where it is of another make."""
    graph = onnx.load_from_string(model)
    if graph.producer_name != PRODUCER:
        return None
    of = {one.name: numpy_helper.to_array(one) for one in graph.graph.initializer}
    try:
        has_context = "context" in of
        monitored, window = of["monitored"], int(of["last_tick"]) + 1
        nothing = np.zeros(0)
        pairs = np.stack([of["pair_left"], of["pair_right"]], axis=1) if has_context else np.zeros((0, 2), np.int64)
        return Detector(
            average=int(np.count_nonzero(of["recent"])),
            kernel=of["kernel"] if has_context else np.zeros((0, window)),
            window=window,
            monitored=monitored,
            context=of["context"] if has_context else np.zeros(0, np.int64),
            centre=of["centre"] if has_context else nothing,
            spread=of["spread"] if has_context else nothing,
            pairs=pairs,
            weights=of["weights"] if has_context else np.zeros((0, len(monitored))),
            bias=of["bias"],
            scale=of["scale"],
            form=of["form"],
            low=of["low"],
            high=of["high"],
            layers=tuple(
                (of[f"layer_{at}_weights"], of[f"layer_{at}_bias"])
                for at in range(sum(name.endswith("_weights") and name.startswith("layer_") for name in of))
            ),
            own="fixed" in of,
            fixed=of.get("fixed", nothing),
            slope=of.get("slope", nothing),
            learning=1 / float(of["learning"]) if "learning" in of else 1.0,
            separate=any(node.op_type == "ReduceMax" and node.output[0] == "score" for node in graph.graph.node),
        )
    except KeyError:
        return None


class BatchJudge:
    """Judged scores (n,) of whole drives; None from `scores` where the pack must be scored tick by tick."""

    def __init__(self, runtime: PackRuntime) -> None:
        self._runtime = runtime
        self._detector = detector_of(runtime.pack.model)
        self._checked = False

    def scores(self, drive: Drive) -> NDArray[np.float64] | None:
        """NaN where a tick has no score or is not known."""
        if self._detector is None:
            return None
        judged = np.full(len(drive.tick_ms), np.nan)
        back = self._detector.window - 1
        for first in range(0, len(judged), PIECE):
            start, end = max(0, first - back), min(first + PIECE, len(judged))
            piece = Drive(drive.source, drive.tick_ms[start:end], drive.values[start:end])
            scored = score_drive(self._detector, piece, fast=True)
            if not self._checked:
                if not self._agrees(piece, scored.score, scored.known):
                    self._detector = None
                    return None
                self._checked = bool(np.isfinite(scored.score).any())
            judged[first:end] = np.where(scored.known, scored.score, np.nan)[first - start :]
        return judged

    def at(self, drive: Drive, row: int) -> Score:
        """What the runtime says of one tick of a drive."""
        self._runtime.reset()
        for before in range(max(0, row - self._runtime.window + 1), row):
            self._runtime.score(drive.values[before], int(drive.tick_ms[before]))
        return self._runtime.score(drive.values[row], int(drive.tick_ms[row]))

    def _agrees(self, drive: Drive, score: NDArray[np.float64], known: NDArray[np.bool_]) -> bool:
        if not len(score):
            return True
        rows = np.linspace(0, len(score) - 1, CHECKED).astype(np.int64)
        for row in np.unique(np.append(rows, np.argmax(np.nan_to_num(score)))).tolist():
            result, found = self.at(drive, row), float(score[row])
            if result.score is None:
                if not np.isnan(found):
                    return False
            elif not abs(result.score - found) <= AGREEMENT * max(1.0, abs(result.score)) or result.known != bool(known[row]):
                return False
        return True


def alarms(rule: Alarm, tick_ms: NDArray[np.int64], score: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """What `Alarm.step` says tick by tick: (n,) whether the alarm is active after it, and the rows at which it rose.

    score: (n,) NaN where there is none. Only the ticks of an active alarm are stepped.
    """
    ticks = len(score)
    active = np.zeros(ticks, bool)
    valid = np.flatnonzero(np.isfinite(score))
    newer = np.ones(len(valid), bool)
    if len(valid):
        newer[1:] = tick_ms[valid[1:]] > np.maximum.accumulate(tick_ms[valid])[:-1]
    valid = valid[newer]
    over = score[valid] >= rule.raise_at
    if not over.any():
        return active, np.zeros(0, np.int64)
    times = tick_ms[valid]
    begins = np.flatnonzero(np.concatenate([[True], np.diff(times) > rule.gap_ms]))
    segment = np.searchsorted(begins, np.arange(len(valid)), side="right") - 1
    place = np.arange(len(valid)) - begins[segment]  # scored ticks since the gap
    counted = over & (place >= rule.warmup)
    total = np.concatenate([[0], np.cumsum(counted)])
    first = np.maximum(np.arange(len(valid)) - rule.of + 1, begins[segment])
    enough = (total[np.arange(len(valid)) + 1] - total[first] >= rule.need) & (place >= rule.warmup)
    raised: list[int] = []
    at = 0
    while True:
        rises = np.flatnonzero(enough[at:])
        if not len(rises):
            break
        begin = at + int(rises[0])
        end, at = _cleared(rule, times, score[valid], begin, begins, segment)
        raised.append(int(valid[begin]))
        active[valid[begin] : (valid[end] if end < len(valid) else ticks)] = True
        if end >= len(valid):
            break
        # After clearing, the excesses before it are forgotten; `of` quiet ticks came before, so none is left in any case.
    return active, np.array(raised, np.int64)


def _cleared(
    rule: Alarm,
    times: NDArray[np.int64],
    score: NDArray[np.float64],
    begin: int,
    begins: NDArray[np.int64],
    segment: NDArray[np.int64],
) -> tuple[int, int]:
    """The scored tick at which an alarm that rose at `begin` clears (len = never), and from where on it may rise again."""
    quiet = 0
    for at in range(begin + 1, len(score)):
        place = at - int(begins[segment[at]])
        if place == 0:
            quiet = 0
        if place < rule.warmup:
            continue
        quiet = quiet + 1 if score[at] < rule.clear_below else 0
        if quiet >= rule.of:
            return at, at + 1
    return len(score), len(score)
