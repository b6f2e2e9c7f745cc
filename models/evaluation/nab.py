"""The score of the Numenta Anomaly Benchmark (Lavin and Ahmad 2015, ICMLA, section II; weights: its file config/profiles.json).

Each labelled window gives the weight of a true positive, scaled by how early the first detection in it comes, or takes the weight of a
false negative; each detection elsewhere takes the weight of a false positive, less shortly after a window. 0 is a detector that says
nothing, 100 one that says everything at once and nothing else; more noise than sense is below 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["PROFILES", "NabParts", "Profile", "nab_parts", "scaled_sigmoid"]

FAR = 3.0
"""Window lengths behind a window, from which on a false positive counts in full."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a right detection gives, and what a wrong and a missing one cost."""

    true_positive: float
    false_positive: float
    false_negative: float


PROFILES = {
    "standard": Profile(1.0, 0.11, 1.0),
    "reward_low_fp": Profile(1.0, 0.22, 1.0),
    "reward_low_fn": Profile(1.0, 0.055, 2.0),
}


@dataclass(frozen=True, slots=True)
class NabParts:
    """Of one drive: its score, and those of a detector that says nothing and of a perfect one. Sums over drives are what is compared."""

    raw: float
    null: float
    perfect: float


def scaled_sigmoid(position: float) -> float:
    """Of a position in a window: -1 its first row, 0 just behind its last."""
    return -1.0 if position >= FAR else 2 / (1 + float(np.exp(5 * position))) - 1


def nab_parts(windows: Sequence[tuple[int, int]], detections: Sequence[int], profile: Profile) -> NabParts:
    """windows: first and last row, in order, without overlap. detections: rows."""
    null, perfect = -profile.false_negative * len(windows), profile.true_positive * len(windows)
    raw, left = 0.0, sorted(detections)
    behind: tuple[int, int] | None = None
    for first, last in windows:
        while left and left[0] < first:
            raw += profile.false_positive * _past(behind, left.pop(0))
        inside = [row for row in left if row <= last]
        left = left[len(inside) :]
        if inside:
            position = -(last - inside[0] + 1) / (last - first + 1)
            raw += profile.true_positive * scaled_sigmoid(position) / scaled_sigmoid(-1.0)
        else:
            raw -= profile.false_negative
        behind = (first, last)
    raw += sum(profile.false_positive * _past(behind, row) for row in left)
    return NabParts(raw, null, perfect)


def _past(window: tuple[int, int] | None, row: int) -> float:
    """What a false positive is worth at this row, behind this window."""
    if window is None:
        return -1.0
    length = window[1] - window[0]
    return scaled_sigmoid((row - window[1]) / length) if length else -1.0
