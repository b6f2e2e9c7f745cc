"""What share of the operating range a training has seen: cell by cell, one signal at a time and two together."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["CELLS", "LEAST", "PAIR_CELLS", "occupancy", "pairs_covered"]

CELLS = 20
PAIR_CELLS = 10
LEAST = 10
"""Ticks in a cell from which on it counts as seen: fewer are a passage, not an operating point."""


def occupancy(values: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.int64]:
    """(c, CELLS) ticks in each cell between low and high of c signals (n, c)."""
    cell = _cells(values, low, high, CELLS)
    return np.stack([np.bincount(column[column >= 0], minlength=CELLS) for column in cell.T])


def pairs_covered(values: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """(c, c) share of the PAIR_CELLS² cells of each two signals that have LEAST ticks; on the diagonal, of one signal's cells.

    Two signals of a car never fill their square (no speed without power): the figure is for comparing trainings, not for reaching 1.
    """
    cell = _cells(values, low, high, PAIR_CELLS)
    count = cell.shape[1]
    covered = np.zeros((count, count))
    for one in range(count):
        for other in range(one, count):
            valid = (cell[:, one] >= 0) & (cell[:, other] >= 0)
            if one == other:
                seen = np.bincount(cell[valid, one], minlength=PAIR_CELLS)
            else:
                seen = np.bincount(cell[valid, one] * PAIR_CELLS + cell[valid, other], minlength=PAIR_CELLS**2)
            covered[one, other] = covered[other, one] = (seen >= LEAST).mean()
    return covered


def _cells(values: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64], cells: int) -> NDArray[np.int64]:
    """(n, c) each value's cell; -1 where it has none."""
    width = np.where(high > low, high - low, 1.0)
    with np.errstate(invalid="ignore"):
        at = np.floor((values - low) / width * cells)
    at = np.where(values == high, cells - 1, at)
    return np.where(np.isfinite(at) & (at >= 0) & (at < cells), np.nan_to_num(at, nan=-1.0), -1.0).astype(np.int64)
