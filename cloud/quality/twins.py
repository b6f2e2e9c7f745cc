"""Sensors against their twins: signals of which the catalogue says that they measure one quantity."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from cloud.events import MOST_LAYOUTS, VALID, TickRows
from cloud.quality.day import Batch
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

    def compare(self, batches: Iterable[tuple[TickRows, Batch]]) -> None:
        """Note with each how its twins compare; only those whose sequence says so, the same ones when they come again."""
        layouts: dict[tuple[bytes, bytes], list[tuple[TickRows, Batch]]] = defaultdict(list)
        for rows, batch in batches:
            if rows.sequence % EVERY == 0:
                layouts[rows.schema.schema_id, rows.columns.tobytes()].append((rows, batch))
        for key, alike in layouts.items():
            groups = self._groups.get(key)
            if groups is None:
                if len(self._groups) >= MOST_LAYOUTS:
                    self._groups.clear()
                groups = self._groups[key] = self._find(alike[0][0])
            for places, floor in groups:
                _count(alike, places, floor)

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


def _count(batches: list[tuple[TickRows, Batch]], places: NDArray[np.intp], floor: float) -> None:
    """Of one layout, one group of twins."""
    schema, columns = batches[0][0].schema, batches[0][0].columns[places]
    values = schema.physical(np.concatenate([rows.raw[:, places] for rows, _ in batches]), columns)
    values[np.concatenate([rows.reason[:, places] for rows, _ in batches]) != VALID] = np.nan
    judged, off = far_apart(values, floor)
    ticks = np.array([len(rows.tick_ms) for rows, _ in batches])
    compared, bad = (np.add.reduceat(one, ticks.cumsum() - ticks, dtype=np.int64) for one in (judged, off))
    names = [schema.names[column] for column in columns.tolist()]
    for (_, batch), its_compared, its_bad in zip(batches, compared.tolist(), bad.tolist(), strict=True):
        for name, seen, wrong in zip(names, its_compared, its_bad, strict=True):
            if seen:
                before = batch.twins.get(name, (0, 0))
                batch.twins[name] = before[0] + seen, before[1] + wrong


def far_apart(values: NDArray[np.float64], floor: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """values (t, k), NaN = none -> (t, k) whether a signal had a twin, (t, k) whether it then was further than TWIN_RULE from the median of
    them all, as a share of that median or of `floor`, whichever is more. Of two that differ both are named: which of them is right, nobody
    knows."""
    there = np.isfinite(values)
    judged = there & (there.sum(axis=1) >= 2)[:, None]
    off = np.zeros_like(judged)
    rows = judged.any(axis=1)
    middle = _medians(values[rows])[:, None]
    # of two the median is their mean, and each is half as far from it as from the other
    pair = np.where(there[rows].sum(axis=1) == 2, 2.0, 1.0)[:, None]
    apart = pair * np.abs(values[rows] - middle) > TWIN_RULE * np.maximum(np.abs(middle), floor)
    off[rows] = apart & judged[rows]
    return judged, off


def _medians(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """values (t, k), at least one in each row not NaN -> (t,). np.nanmedian takes ten times as long for a few rows."""
    ordered = np.sort(values, axis=1)  # NaN last
    there, row = np.isfinite(values).sum(axis=1), np.arange(len(values))
    middle: NDArray[np.float64] = (ordered[row, (there - 1) // 2] + ordered[row, there // 2]) / 2
    return middle
