"""Months of ticks at once: the same judgement as the runtime's, without a call of onnxruntime for each tick.

The graph that `models/graph.py` builds is a function of its constants, and NumPy computes it for a whole drive (`models/fit.py`; the
training checks that both agree). So the constants are read back out of the graph. What is read back is held against the runtime at ticks
of the drive itself, and a pack of any other make, or one that differs anywhere, is scored tick by tick.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from models.fit import Detector, score_drive
from models.graph import PRODUCER
from models.runtime import PackRuntime, Score
from models.tables import Drive
from models.vehicle import VehicleJudgement, judge_vehicle

__all__ = ["BatchJudge", "detector_of"]

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
    """Whole recordings of a vehicle at once; None from `judge` where the pack must be scored tick by tick."""

    def __init__(self, runtime: PackRuntime) -> None:
        self._runtime = runtime
        self._detector = detector_of(runtime.pack.model)
        self._checked = False

    def judge(self, drive: Drive) -> VehicleJudgement | None:
        """As `models.vehicle.judge_vehicle`."""
        if self._detector is None or not (np.diff(drive.tick_ms) > 0).all():
            return None
        manifest = self._runtime.pack.manifest
        own = manifest.baselines()
        for first in range(0, len(drive.tick_ms), PIECE):
            if self._checked:
                break
            piece = drive.rows(first, first + PIECE)
            for baseline in (None, own.bound / 2) if own is not None else (None,):
                scored = score_drive(self._detector, piece, fast=True, baseline=baseline)
                if not self._agrees(piece, scored.score, scored.known, baseline):
                    self._detector = None
                    return None
                self._checked = bool(np.isfinite(scored.score).any())
        return judge_vehicle(manifest, self._detector, drive)

    def at(self, drive: Drive, row: int, baseline: NDArray[np.float64] | None = None) -> Score:
        """What the runtime says of one tick of a recording, with the vehicle's own baseline (m,) in force there."""
        self._runtime.set_baseline(baseline)
        self._runtime.reset()
        for before in range(max(0, row - self._runtime.window + 1), row):
            self._runtime.score(drive.values[before], int(drive.tick_ms[before]))
        return self._runtime.score(drive.values[row], int(drive.tick_ms[row]))

    def _agrees(self, drive: Drive, score: NDArray[np.float64], known: NDArray[np.bool_], baseline: NDArray[np.float64] | None) -> bool:
        if not len(score):
            return True
        rows = np.linspace(0, len(score) - 1, CHECKED).astype(np.int64)
        for row in np.unique(np.append(rows, np.argmax(np.nan_to_num(score)))).tolist():
            result, found = self.at(drive, row, baseline), float(score[row])
            if result.score is None:
                if not np.isnan(found):
                    return False
            elif not abs(result.score - found) <= AGREEMENT * max(1.0, abs(result.score)) or result.known != bool(known[row]):
                return False
        return True
