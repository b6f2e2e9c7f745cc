"""Which signals a detector can learn from: not constants, counters, checksums, enumerations, copies of another, or mostly missing ones.

Each is recognised by what the DBC says, by its name, or by how it behaves, so that a table without a DBC is screened too. Two kinds are
left out for another reason than that nothing can be learned from them:

- what says when or where in a recording a tick is (clocks, odometers, totals, whatever only rises) or which recording it is (constant in
  each, different in all). A detector that knows these has learned its training files, not the car; and each new drive lies outside them.
- what says whose car it is (class `identity` of the catalogue, or VIN in its name). It is never recorded, so it can never be judged.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dbc.catalogue import IDENTITY, Catalogue
from models.tables import Drive, Table

__all__ = ["screen"]

_BOOKKEEPING = re.compile(r"alive|counter|cntr|checksum|chksum|crc|rolling|(?:^|_)(?:cnt|ctr|chk|cs|mux)$", re.IGNORECASE)
"""Of the signal's own name, without its message's."""
_CLOCK = {"clock", "clk", "odometer", "odo", "odocount", "mileage", "uptime", "elapsed", "epoch", "timestamp", "utc", "runtime"}
_CLOCK |= {"rollcode", "row", "rownumber", "rowindex"}
"""Words of a name that say when or where; `time` alone is none (an injection has one)."""
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_CONSTANT, _SWITCH = "constant", "switch"
_RISES = 8
"""Rises in a drive from which on a signal that never falls is taken for a total: fewer are an outside temperature."""
_CODE = 2.0**32
_STATES = 16
"""Of an enumeration that no DBC declares: states are numbered closely."""
_MISSING = 0.2
"""A row with a missing value cannot be scored, so a signal that is missing more often than this would silence the detector."""
_SAME = 0.99999
"""Correlation over which two signals are one (the same quantity in two messages or units); quantised copies lie lower and both stay."""


def screen(
    table: Table,
    fitted: Sequence[Drive],
    context: Collection[int] = (),
    catalogue: Catalogue | None = None,
    twins: Collection[int] = (),
) -> tuple[list[int], dict[str, str]]:
    """The table's usable columns, and the reason why each of the others was dropped.

    fitted: the drives that decide; a signal that moves only in the drives held out cannot be learned. context: columns that describe the
    operating point; of these, constants and switches stay, because another state of theirs is another operating point (a heater that no
    training drive used). catalogue: says which signals are of the class identity; without one, names do. twins: columns of parts that ought
    to be alike; they stay though one copies the other.
    """
    catalogue = catalogue or Catalogue.empty()
    values = np.concatenate([drive.values for drive in fitted])
    dropped: dict[str, str] = {}
    keep: list[int] = []
    for at, name in enumerate(table.names):
        choices = table.schema.choices[int(table.columns[at])] if table.schema is not None and table.columns is not None else None
        reason = "identity: says whose car it is" if catalogue.consent_class(name) == IDENTITY else _unusable(name, values[:, at], choices)
        reason = reason or _of_the_recording([drive.values[:, at] for drive in fitted])
        if reason and not (at in context and reason in (_CONSTANT, _SWITCH)):
            dropped[name] = reason
        else:
            keep.append(at)
    copies = _copies(values[:, keep])
    copies = {copy: first for copy, first in copies.items() if not {keep[copy], keep[first]} <= set(twins)}
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
    if _says_when(name):
        return "clock or distance by its name"
    if choices and np.isin(distinct, np.array(list(choices), np.float64)).mean() > 0.5:
        return "enumeration"
    whole = bool((distinct == np.round(distinct)).all())
    if whole and distinct.size == 2:
        return _SWITCH
    if whole and np.abs(distinct).max() > _CODE:
        return "code by its size: no quantity has so many steps"
    if whole and _is_counter(valid, distinct):
        return "counter by its behaviour"
    if whole and distinct.size > 16 and _is_noise(valid, distinct):
        return "checksum by its behaviour"
    if whole and np.ptp(distinct) < _STATES and _jumps(valid):
        return "enumeration by its behaviour"
    return ""


def _says_when(name: str) -> bool:
    words = [word.lower() for word in _WORD.findall(name.rpartition(".")[2])]
    return not _CLOCK.isdisjoint(words) or not _CLOCK.isdisjoint(one + other for one, other in pairwise(words))


def _of_the_recording(drives: Sequence[NDArray[np.float64]]) -> str:
    """Why a signal says where in a recording a tick is, or which recording it is."""
    valid = [column[np.isfinite(column)] for column in drives]
    valid = [column for column in valid if column.size]
    if all(_is_total(column) for column in valid):
        return "only rises or only falls: says how long or how far, not how it is"
    firsts = np.array([column[0] for column in valid])
    still = all(bool((column == column[0]).all()) for column in valid)
    if still and len(firsts) >= 4 and np.unique(firsts).size >= 0.8 * len(firsts):
        return "constant in each drive and different in all: says which drive it is"
    return ""


def _is_total(column: NDArray[np.float64]) -> bool:
    """Moves at least _RISES times and in one direction only. A total that wraps falls by most of its span, and moves at most ticks."""
    steps = np.diff(column)
    span = float(np.ptp(column))
    for way in (steps, -steps):
        wraps = int((way < -span / 2).sum())
        if (way > 0).sum() >= (len(way) / 2 if wraps else _RISES) and not ((way < 0) & (way >= -span / 2)).any():
            return True
    return False


def _jumps(valid: NDArray[np.float64]) -> bool:
    """More often than not from a state to one that is not beside it: what a quantity cannot do and an enumeration does."""
    distinct, index = np.unique(valid, return_inverse=True)
    steps = np.abs(np.diff(index))
    changes = steps[steps > 0]
    return distinct.size > 2 and changes.size >= 6 and float((changes > 1).mean()) > 0.5


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
