"""Volume under the surface of precision and recall, VUS-PR (Paparrizos et al. 2022, PVLDB 15, 2774-2787; equal to its authors' RangeAUC).

The labels get slopes of 0, 1, ... `window` ticks at their ends, because nobody labels an onset to the second; for each width the area under
precision over recall is taken over 250 thresholds, and the mean of these areas is the volume. Threshold-free: it says what a score
could do, and not what the alarm does. Without slopes a score that knows nothing reaches the share of labelled ticks.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["THRESHOLDS", "vus_pr"]

THRESHOLDS = 250
"""Of the reference; the figures that are published were made with it."""


def vus_pr(label: NDArray[np.bool_], score: NDArray[np.float64], window: int) -> float | None:
    """label, score: (n,), without NaN. window: the widest slope's ticks. None unless there are both kinds of label.

    Time: n (window + log n).
    """
    ticks, positive = len(label), int(label.sum())
    if not 0 < positive < ticks:
        return None
    edges = np.flatnonzero(np.diff(np.concatenate([[False], label, [False]]).astype(np.int8)))
    first, last = edges[::2], edges[1::2] - 1
    order = np.argsort(-score, kind="stable")
    at = np.linspace(0, ticks - 1, THRESHOLDS).astype(np.int64)
    threshold = score[order][at]
    predicted = np.searchsorted(-score[order], -threshold, side="right")  # ticks at or over each threshold
    inside = np.concatenate([[0], np.cumsum(label[order])])[predicted]
    areas = [_area(first, last, score, order, predicted, threshold, inside, width) for width in range(window + 1)]
    return float(np.mean(areas))


def _area(
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    score: NDArray[np.float64],
    order: NDArray[np.int64],
    predicted: NDArray[np.int64],
    threshold: NDArray[np.float64],
    inside: NDArray[np.int64],
    width: int,
) -> float:
    ticks, positive = len(score), int((last - first + 1).sum())
    reach = width // 2
    slope = np.zeros(ticks)
    for begin, end in zip(first, last, strict=True):
        after = np.arange(end + 1, min(end + reach + 1, ticks))
        before = np.arange(max(begin - reach, 0), begin)
        if reach:
            slope[after] += np.sqrt(1 - (after - end) / width)
            slope[before] += np.sqrt(1 - (begin - before) / width)
    for begin, end in zip(first, last, strict=True):
        slope[begin : end + 1] = 0.0  # a slope that runs into the next label
    slope = np.minimum(slope, 1.0)
    outside = np.concatenate([[0.0], np.cumsum(slope[order])])[predicted]
    true = inside + outside
    recall = np.minimum(true / (positive + outside / 2), 1.0)
    found = np.mean([score[a : b + 1].max() >= threshold for a, b in _ranges(first, last, reach, ticks)], axis=0)
    recall = np.concatenate([[0.0], recall * found])
    return float(np.diff(recall) @ (true / predicted))


def _ranges(first: NDArray[np.int64], last: NDArray[np.int64], reach: int, ticks: int) -> list[tuple[int, int]]:
    """Labels with their slopes; those that touch are one."""
    ranges: list[tuple[int, int]] = []
    begin = max(int(first[0]) - reach, 0)
    for at in range(len(first) - 1):
        if last[at] + reach < first[at + 1] - reach:
            ranges.append((begin, int(last[at]) + reach))
            begin = int(first[at + 1]) - reach
    ranges.append((begin, min(int(last[-1]) + reach, ticks - 1)))
    return ranges
