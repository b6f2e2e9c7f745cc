"""What a bus last said of a signal is up to a message's period old: simulated rows, which are instants, made as late as that.

The same rule as the training's (`models.train_joint.late`), for many lanes at once, while they are being simulated.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dbc.schema import Schema
from models.train_joint import LATENESS, STATE_STEPS

__all__ = ["Lateness", "Rows"]


class Rows(Protocol):
    """The next rows of n lanes: as `models.evaluation.months.Rows`."""

    @property
    def lane(self) -> NDArray[np.intp]: ...
    @property
    def follows(self) -> NDArray[np.bool_]: ...
    @property
    def values(self) -> NDArray[np.float32]: ...


class Lateness:
    """Of each lane, each message is late by a share of its period of its own; call it with the next rows, whose values it changes."""

    def __init__(self, schema: Schema, columns: NDArray[np.intp], lanes: int, seed: int) -> None:
        """columns: (k,) of the rows' values in the schema. seed: what the shares are drawn by."""
        period_s = np.nan_to_num(schema.period_ms[columns], nan=0.0) / 1000
        message = np.unique([schema.names[at].partition(".")[0] for at in columns.tolist()], return_inverse=True)[1]
        steps = (schema.maximum[columns] - schema.minimum[columns]) / schema.scale[columns]
        self._some = np.flatnonzero((period_s > 0) & ~((steps > 0) & (steps < STATE_STEPS)))  # states do not lie between two of theirs
        share = np.random.default_rng((seed, len(columns))).uniform(0, LATENESS, (int(message.max()) + 1, lanes))
        back = np.minimum(share[message] * period_s[:, None], 1.0)
        self._back = back[self._some].astype(np.float32)
        scale, offset = schema.scale[columns][self._some], schema.offset[columns][self._some]
        self._scale, self._steps, self._offset = (of.astype(np.float32)[:, None] for of in (scale, 1 / scale, offset))
        self._before = np.zeros((len(self._some), lanes), np.float32)

    def __call__(self, rows: Rows) -> None:
        """In place. A row that does not follow the one before by a second is taken as it is."""
        back, before = self._back[:, rows.lane], self._before[:, rows.lane]
        for values, follows in zip(rows.values, rows.follows, strict=True):
            now = values[self._some]
            change = before - now
            change *= back
            change *= follows
            change += now
            change -= self._offset
            change *= self._steps
            np.rint(change, out=change)
            change *= self._scale
            change += self._offset
            values[self._some] = change
            before = now
        self._before[:, rows.lane] = before
