"""What a vehicle is: its model's schema and catalogue, by what the store says of it; and how far its values reach into a period."""

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cloud.api.backend import Backend
from cloud.api.guard import NotFound
from cloud.store import Series, SignalValue, Store, VehicleSummary

if TYPE_CHECKING:
    from dbc.catalogue import Catalogue
    from dbc.schema import Schema

__all__ = ["VehicleModels", "last_values", "newest_within", "probe", "unknown"]

STEP_MS = 3_600_000
STEPS = 24
"""A period's last tick is looked for this far before its end; a car that stood for longer has none to show."""


NOBODY = "0" * 16  # a vehicle's id that is nobody's: the chance is 2 to the -64
FRESH_S = 2.0
"""Who asks for all vehicles within this time gets the same answer: for thousands of them the store works for tenths of a second."""


class VehicleModels:
    """Each vehicle's model, as the store last said."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._of: dict[str, VehicleSummary] = {}
        self._good_until_s = 0.0
        self._asking = threading.Lock()

    def summaries(self) -> list[VehicleSummary]:
        with self._asking:
            if time.monotonic() >= self._good_until_s:
                self._of = {one.vehicle: one for one in self._backend.store.vehicles()}
                self._good_until_s = time.monotonic() + FRESH_S
            return list(self._of.values())

    def summary(self, vehicle: str) -> VehicleSummary:
        """A vehicle as it was when the store was last asked for all. Raises NotFound."""
        if vehicle not in self._of:
            self.summaries()
        if vehicle not in self._of:
            raise unknown(vehicle)
        return self._of[vehicle]

    def of(self, vehicle: str) -> "tuple[Schema | None, Catalogue | None]":
        """The schema and catalogue of a vehicle; None, None when it is unknown or its model is no longer configured."""
        if vehicle not in self._of:
            self.summaries()
        known = self._of.get(vehicle)
        return self.named(known.model) if known is not None else (None, None)

    def named(self, model: str) -> "tuple[Schema | None, Catalogue | None]":
        return self._backend.models.get(model, (None, None))


def probe(store: Store) -> None:
    """One small question, whatever the fleet's size. Raises as the store's queries do."""
    store.newest(NOBODY)


def unknown(vehicle: str) -> NotFound:
    return NotFound(f"vehicle {vehicle[:40]!r}: the store has no values of it")


def newest_within(store: Store, models: VehicleModels, one: VehicleSummary, from_ms: int, to_ms: int) -> int | None:
    """The vehicle's newest tick in [from_ms, to_ms); None where there is none, or it is further before the end than STEPS hours."""
    newest = store.newest(one.vehicle)
    if newest is None or newest < from_ms:
        return None
    if newest < to_ms:
        return newest
    schema, _ = models.named(one.model)
    names: Sequence[str] = schema.names if schema is not None else [value.signal for value in store.signals(one.vehicle)]
    for end in range(to_ms, max(from_ms, to_ms - STEPS * STEP_MS), -STEP_MS):
        ticks = store.series(one.vehicle, list(names), max(from_ms, end - STEP_MS), end, STEP_MS).tick_ms
        if len(ticks):
            return int(ticks[-1])
    return None


def last_values(series: Series) -> list[SignalValue]:
    """Each signal's last valid value in a series that is not thinned out."""
    found = []
    for signal, values in series.values.items():
        valid = np.flatnonzero(~np.isnan(values))
        if len(valid):
            found.append(SignalValue(signal, float(values[valid[-1]]), int(series.tick_ms[valid[-1]])))
    return sorted(found, key=lambda one: one.signal)
