"""What a training leaves for its report: the pack, and the data behind its threshold."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.fit import Detector, Scored, remainders
from models.pack import Pack
from models.tables import Drive, Table

__all__ = ["Trained"]


@dataclass(frozen=True)
class Trained:
    """table: the recordings with the columns of the pack. fitted, held: of these, those that were fitted on and those that calibrate.
    scored: of each drive of `held`, by the fleet's baseline.

    judged: the known scores of each calibration drive that had enough of them; judged_drives, judged_scored: those drives. With baselines:
    of vehicles that have learned theirs.
    """

    pack: Pack
    detector: Detector
    table: Table
    fitted: tuple[Drive, ...]
    held: tuple[Drive, ...]
    scored: tuple[Scored, ...]
    judged: tuple[NDArray[np.float64], ...]
    judged_drives: tuple[Drive, ...]
    judged_scored: tuple[Scored, ...]
    judged_baselines: tuple[NDArray[np.float64] | None, ...] = ()
    """The vehicle's own (m,) in each of them; None: the fleet's."""
    parts: tuple[NDArray[np.float64], ...] = ()
    """Of the rung following: (n, m) what each signal has in the score at the known ticks of each."""

    def remainders(self) -> Iterator[NDArray[np.float64]]:
        """(n, m) what remains of the monitored signals in each calibration drive, scaled, at its known ticks."""
        for drive, scored, own in zip(self.judged_drives, self.judged_scored, self.judged_baselines, strict=True):
            remains, ends = remainders(self.detector, drive, baseline=own)
            yield remains[scored.known[ends]]
