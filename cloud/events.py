"""What leaves the landing log for the sinks: one opened message, placed on UTC.

Every event carries (stream, sequence): the key by which a sink makes itself idempotent.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wire.codec import MAX_CELLS

if TYPE_CHECKING:
    from dbc.schema import Schema
    from wire.messages import FindingMessage, Gap, StatusMessage

MOST_LAYOUTS = 256  # schemas with a choice of columns that anybody remembers: hostile ones must not grow it; honest vehicles have a handful
VALID = 0  # dbc.validity.Reason.VALID; every other reason means "there is no value"


@dataclass(eq=False)  # not frozen: that one is made in ten times the time
class TickRows:
    """Some signals of one vehicle at some ticks: one batch.

    `tick_ms` (t,) int64 UTC; `raw` (t, m) int64 as the schema says (unsigned and float bit patterns are bit-cast);
    `reason` (t, m) uint8, 0 = valid; `columns` (m,) int32 indices into the schema's signals.
    """

    vehicle: str
    model: str
    stream: bytes
    sequence: int
    received_ms: int
    replay: bool  # the clock is a recorded log's: kept apart from live data
    schema: "Schema"
    columns: NDArray[np.int32]
    tick_ms: NDArray[np.int64]
    raw: NDArray[np.int64]
    reason: NDArray[np.uint8]
    consent_class: str = "technical"

    @cached_property
    def value(self) -> NDArray[np.float64]:
        """(t, m) float64 physical values; NaN where the reason is not VALID."""
        value = self.schema.physical(self.raw, self.columns)
        value[self.reason != VALID] = np.nan
        return value


def work_out_values(batches: Iterable[TickRows]) -> None:
    """`value` of each, of all of one layout at once: for a batch alone the arrays' fixed cost is most of it."""
    layouts: dict[tuple[bytes, bytes, int], list[TickRows]] = defaultdict(list)
    for batch in batches:
        if "value" not in vars(batch):
            layouts[batch.schema.schema_id, batch.columns.tobytes(), len(batch.raw)].append(batch)
    for alike in layouts.values():
        most = max(1, MAX_CELLS // max(1, alike[0].raw.size))  # of the largest batches one at a time: memory is bounded
        for first in range(0, len(alike), most):
            _work_out(alike[first : first + most])


def _work_out(batches: list[TickRows]) -> None:
    """Of one layout."""
    value = batches[0].schema.physical(np.stack([batch.raw for batch in batches]), batches[0].columns)
    reason = np.stack([batch.reason for batch in batches])
    if reason.any():
        value[reason != VALID] = np.nan
    for batch, its_own in zip(batches, value, strict=True):
        vars(batch)["value"] = its_own


@dataclass(frozen=True)
class FindingEvent:
    """What a detector said. In `finding`, tick_ms, since_ms and window.tick_ms are UTC (they were placed when the event was made)."""

    vehicle: str
    model: str
    stream: bytes
    sequence: int
    received_ms: int
    replay: bool
    finding: "FindingMessage"


@dataclass(frozen=True)
class GapEvent:
    """Batches the vehicle recorded and had to drop: `gap.first` to `gap.last` of `gap.stream`, with the reason."""

    vehicle: str
    model: str
    stream: bytes
    sequence: int
    received_ms: int
    replay: bool
    gap: "Gap"


@dataclass(frozen=True)
class StatusEvent:
    """What an agent said of itself. `tick_ms` is UTC: placed by its boot's clock, or the time of arrival where that is not known."""

    vehicle: str
    model: str
    stream: bytes
    sequence: int
    received_ms: int
    replay: bool
    tick_ms: int
    status: "StatusMessage"


Event = TickRows | FindingEvent | GapEvent | StatusEvent
