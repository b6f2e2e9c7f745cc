"""Which signals a detector can learn from: not constants, counters, checksums, enumerations, copies of another, or mostly missing ones.

Each is recognised by what the DBC says, by its name, or by how it behaves, so that a table without a DBC is screened too.
"""

import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.tables import Drive, Table

__all__ = ["screen"]

_BOOKKEEPING = re.compile(r"alive|counter|cntr|checksum|chksum|crc|rolling|(?:^|_)(?:cnt|ctr|chk|cs|mux)$", re.IGNORECASE)
"""Of the signal's own name, without its message's."""
_CONSTANT, _SWITCH = "constant", "switch"
_MISSING = 0.2
"""A row with a missing value cannot be scored, so a signal that is missing more often than this would silence the detector."""
_SAME = 0.99999
"""Correlation over which two signals are one (the same quantity in two messages or units); quantised copies lie lower and both stay."""


def screen(table: Table, fitted: Sequence[Drive], context: Collection[int] = ()) -> tuple[list[int], dict[str, str]]:
    """The table's usable columns, and the reason why each of the others was dropped.

    fitted: the drives that decide; a signal that moves only in the drives held out cannot be learned. context: columns that describe the
    operating point; of these, constants and switches stay, because another state of theirs is another operating point (a heater that no
    training drive used).
    """
    values = np.concatenate([drive.values for drive in fitted])
    dropped: dict[str, str] = {}
    keep: list[int] = []
    for at, name in enumerate(table.names):
        choices = table.schema.choices[int(table.columns[at])] if table.schema is not None and table.columns is not None else None
        reason = _unusable(name, values[:, at], choices)
        if reason and not (at in context and reason in (_CONSTANT, _SWITCH)):
            dropped[name] = reason
        else:
            keep.append(at)
    copies = _copies(values[:, keep])
    dropped |= {table.names[keep[copy]]: f"copy of {table.names[keep[original]]}" for copy, original in copies.items()}
    return [column for at, column in enumerate(keep) if at not in copies], dropped


def _unusable(name: str, column: NDArray[np.float64], choices: Mapping[int, str] | None) -> str:
    valid = column[np.isfinite(column)]
    if valid.size == 0:
        return "never valid"
    if valid.size < (1 - _MISSING) * column.size:
        return f"valid in {valid.size / column.size:.0%} of the ticks only"
    distinct = np.unique(valid)
    if distinct.size == 1:
        return _CONSTANT
    if _BOOKKEEPING.search(name.rpartition(".")[2]):
        return "counter or checksum by its name"
    if choices and np.isin(distinct, np.array(list(choices), np.float64)).mean() > 0.5:
        return "enumeration"
    whole = bool((distinct == np.round(distinct)).all())
    if whole and distinct.size == 2:
        return _SWITCH
    if whole and _is_counter(valid, distinct):
        return "counter by its behaviour"
    if whole and distinct.size > 16 and _is_noise(valid, distinct):
        return "checksum by its behaviour"
    return ""


def _is_counter(valid: NDArray[np.float64], distinct: NDArray[np.float64]) -> bool:
    """Steps by the same amount at nearly every tick, modulo its span or, where it does not step through all of it, a power of two."""
    if valid.size < 20:
        return False
    span = distinct[-1] - distinct[0] + 1
    power = 2.0 ** np.ceil(np.log2(span))
    for modulus in (span, power, 2 * power):
        steps, counts = np.unique(np.mod(np.diff(valid), modulus), return_counts=True)
        most = int(np.argmax(counts))
        if steps[most] != 0 and counts[most] > 0.9 * counts.sum():
            return True
    return False


def _is_noise(valid: NDArray[np.float64], distinct: NDArray[np.float64]) -> bool:
    """Fills its range evenly and no value has to do with the next: what a checksum looks like at 1 Hz."""
    if valid.size < 100 or distinct.size < 0.2 * min(valid.size, distinct[-1] - distinct[0] + 1):
        return False
    centred = valid - valid.mean()
    variance = float(centred @ centred)
    even = (distinct[-1] - distinct[0]) ** 2 / 12
    return abs(float(centred[1:] @ centred[:-1])) < 0.1 * variance and 0.7 < variance / valid.size / even < 1.3


def _copies(values: NDArray[np.float64]) -> dict[int, int]:
    """The earlier column that a column copies."""
    rows = values[np.isfinite(values).all(axis=1)]
    if rows.shape[0] < 3 or rows.shape[1] < 2:
        return {}
    centred = rows - rows.mean(axis=0)
    norm = np.sqrt((centred**2).sum(axis=0))
    norm[norm == 0] = np.inf
    correlation = np.abs((centred / norm).T @ (centred / norm))
    copies: dict[int, int] = {}
    for at in range(rows.shape[1]):
        same = [int(earlier) for earlier in np.flatnonzero(correlation[at, :at] > _SAME) if int(earlier) not in copies]
        if same:
            copies[at] = same[0]
    return copies
