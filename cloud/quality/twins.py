"""Sensors against their twins: signals of which the catalogue says that they measure one quantity."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cloud.events import VALID, TickRows
from cloud.quality.day import Day
from cloud.quality.figures import TWIN_RULE
from dbc.catalogue import Catalogue

__all__ = ["Twins", "far_apart"]

EVERY = 8  # of a stream's batches one is compared: enough for a day, and cheap
FLOOR = 0.1  # of the greatest value that a twin may have: below it 2 % would be less than a sensor's own resolution

_Group = tuple[NDArray[np.intp], float]  # places in the batch, and the floor


class Twins:
    """Remembers where a batch's twins are."""

    def __init__(self, catalogues: Mapping[str, Catalogue | None]) -> None:
        self._catalogues = catalogues
        self._groups: dict[tuple[bytes, bytes], list[_Group]] = {}

    def compare(self, rows: TickRows, day: Day) -> None:
        """Count into `day`; only batches whose sequence says so, so that the same ones are compared when they come again."""
        if rows.sequence % EVERY:
            return
        key = rows.schema.schema_id, rows.columns.tobytes()
        groups = self._groups.get(key)
        if groups is None:
            groups = self._groups[key] = self._find(rows)
        for places, floor in groups:
            values = rows.schema.physical(rows.raw[:, places], rows.columns[places])
            values[rows.reason[:, places] != VALID] = np.nan
            compared, off = far_apart(values, floor)
            for place, ticks, bad in zip(places.tolist(), compared.tolist(), off.tolist(), strict=True):
                if ticks:
                    counted = day.twins.setdefault(rows.schema.names[rows.columns[place]], [0, 0])
                    counted[0] += ticks
                    counted[1] += bad

    def _find(self, rows: TickRows) -> list[_Group]:
        catalogue = self._catalogues.get(rows.model)
        if catalogue is None:
            return []
        place = {}
        for at, column in enumerate(rows.columns.tolist()):
            name = rows.schema.names[column]
            place[name] = place[name.partition(":")[2] or name] = at
        found = []
        for names in catalogue.twins.values():
            places = np.array([place[name] for name in names if name in place], np.intp)
            if len(places) < 2:
                continue
            bounds = np.abs([rows.schema.minimum[rows.columns[places]], rows.schema.maximum[rows.columns[places]]])
            greatest = float(np.nanmin(np.nanmax(bounds, axis=0))) if np.isfinite(bounds).any() else 0.0
            found.append((places, FLOOR * greatest))
        return found


def far_apart(values: NDArray[np.float64], floor: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """values (t, k), NaN = none -> (k,) ticks at which a signal had a twin, (k,) at how many of them it was further than TWIN_RULE from
    the median of them all, as a share of that median or of `floor`, whichever is more. Of two that differ both are named: which of them is
    right, nobody knows."""
    there = np.isfinite(values)
    judged = there & (there.sum(axis=1) >= 2)[:, None]
    if not judged.any():
        none = np.zeros(values.shape[1], np.int64)
        return none, none
    rows = judged.any(axis=1)
    middle = _medians(values[rows])[:, None]
    # of two the median is their mean, and each is half as far from it as from the other
    pair = np.where(there[rows].sum(axis=1) == 2, 2.0, 1.0)[:, None]
    apart = pair * np.abs(values[rows] - middle) > TWIN_RULE * np.maximum(np.abs(middle), floor)
    return judged.sum(axis=0), (apart & judged[rows]).sum(axis=0)


def _medians(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """values (t, k), at least one in each row not NaN -> (t,). np.nanmedian takes ten times as long for a few rows."""
    ordered = np.sort(values, axis=1)  # NaN last
    there, row = np.isfinite(values).sum(axis=1), np.arange(len(values))
    middle: NDArray[np.float64] = (ordered[row, (there - 1) // 2] + ordered[row, there // 2]) / 2
    return middle
