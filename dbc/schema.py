"""The schema: what both halves must agree on to read raw values.

Light on purpose (NumPy only): a vehicle and a cloud that hold the same schema id read the same raw integers as the same quantities.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from dbc.errors import SignalUnknown

__all__ = ["Kind", "Schema"]

EXACT = float(2**53)  # integers up to here are exact in float64


class Kind(IntEnum):
    """What the 64 bits of a raw value are. Raw values always travel as int64; the others are bit-cast into it."""

    INT = 0
    UINT = 1
    FLOAT32 = 2  # the low 32 bits
    FLOAT64 = 3


@dataclass(frozen=True)
class Schema:
    """n signals, in a fixed order. Equal schema ids mean equal schemas.

    `names` are "Message.Signal", or "channel:Message.Signal" only where the short name is not unique.
    """

    channels: tuple[str, ...]
    names: tuple[str, ...]
    units: tuple[str, ...]  # "" = none declared
    kind: NDArray[np.uint8]  # (n,) of Kind
    scale: NDArray[np.float64]  # (n,)
    offset: NDArray[np.float64]  # (n,)
    minimum: NDArray[np.float64]  # (n,) physical; NaN = none declared
    maximum: NDArray[np.float64]  # (n,) physical; NaN = none declared
    channel: NDArray[np.uint8]  # (n,) index into channels
    period_ms: NDArray[np.float64]  # (n,) of the signal's message; NaN = not declared
    choices: tuple[Mapping[int, str] | None, ...]  # words of raw values
    schema_id: bytes = field(init=False)  # 16 bytes: SHA-256 of the canonical form of everything above, truncated
    _index: dict[str, int] = field(init=False, repr=False)
    _some_float: bool = field(init=False, repr=False)
    _whole_scaled: NDArray[np.bool_] = field(init=False, repr=False)
    _exact_limit: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "schema_id", _digest(self))
        object.__setattr__(self, "_index", {name: number for number, name in enumerate(self.names)})
        object.__setattr__(self, "_some_float", bool((self.kind >= Kind.FLOAT32).any()))
        object.__setattr__(self, "_whole_scaled", _whole_scaled(self))
        object.__setattr__(self, "_exact_limit", _exact_limit(self))

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        return self.schema_id == other.schema_id if isinstance(other, Schema) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.schema_id)

    def index(self, name: str) -> int:
        """The number of the signal of this name. Raises SignalUnknown with the closest names."""
        number = self._index.get(name)
        if number is None:
            raise SignalUnknown(name, difflib.get_close_matches(name, self.names, n=3))
        return number

    def physical(self, raw: NDArray[np.int64], columns: NDArray[np.integer] | None = None) -> NDArray[np.float64]:
        """Physical values of raw values: exactly cantools' scaled values, as float64.

        raw: (..., m) int64. columns: (m,) the signal of each column; without it m is the number of signals and they are in order.
        Returns (..., m) float64.
        """
        # `take` on ready-made indices is several times faster than indexing; columns None = all, in order.
        at = None if columns is None else columns.astype(np.intp, copy=False)
        scale, offset = (self.scale, self.offset) if at is None else (self.scale.take(at), self.offset.take(at))
        number = raw.astype(np.float64, order="C")
        if not raw.size:
            return number
        odd = None
        if self._may_be_odd(raw, at):
            odd = _Odd(self, raw, at)
            odd.read_unsigned(number)
        if self._some_float:
            kind = np.broadcast_to(self.kind if at is None else self.kind.take(at), raw.shape)
            single, double = kind == Kind.FLOAT32, kind == Kind.FLOAT64
            with np.errstate(invalid="ignore"):  # widening a signalling not-a-number is one
                number[single] = raw[single].astype(np.uint32).view(np.float32)
            number[double] = raw[double].view(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # a hostile float payload may overflow; it then is inf, as in Python
            number *= scale
            number += offset
        if odd is not None:
            odd.scale_as_whole_numbers(number)
        return number

    def _may_be_odd(self, raw: NDArray[np.int64], at: NDArray[np.intp] | None) -> bool:
        """Whether there is a value beyond the exact ones, or an unsigned one that reads as negative."""
        least, most = int(raw.min()), int(raw.max())
        if most > self._exact_limit or least < -self._exact_limit:
            return True
        if least >= 0:
            return False
        unsigned = (self.kind if at is None else self.kind.take(at)) == Kind.UINT
        return bool(((raw < 0) & unsigned).any())


class _Odd:
    """The few raw values of an array that float64 alone gets wrong: unsigned from 2**63 on, and wide ones with a whole scale."""

    def __init__(self, schema: Schema, raw: NDArray[np.int64], at: NDArray[np.intp] | None) -> None:
        self.schema = schema
        flat = raw.reshape(-1)
        self.places = np.flatnonzero(flat.view(np.uint64) > np.uint64(schema._exact_limit))  # the negative ones too
        columns = self.places % raw.shape[-1]
        self.columns = columns if at is None else at.take(columns)
        self.raw = flat.take(self.places)
        self.unsigned = (self.raw < 0) & (schema.kind.take(self.columns) == Kind.UINT)

    def read_unsigned(self, number: NDArray[np.float64]) -> None:
        if self.unsigned.any():
            number.reshape(-1)[self.places[self.unsigned]] = self.raw[self.unsigned].view(np.uint64)

    def scale_as_whole_numbers(self, value: NDArray[np.float64]) -> None:
        """Recompute in whole numbers what float64 rounds twice: cantools multiplies Python integers and rounds once, at the end."""
        schema, limit = self.schema, self.schema._exact_limit
        wide = schema._whole_scaled.take(self.columns) & ((self.raw > limit) | (self.raw < -limit) | self.unsigned)
        if not wide.any():
            return
        for place, column, raw in zip(self.places[wide].tolist(), self.columns[wide].tolist(), self.raw[wide].tolist(), strict=True):
            number = raw & (2**64 - 1) if schema.kind[column] == Kind.UINT else raw
            scale, offset = float(schema.scale[column]), float(schema.offset[column])
            value.reshape(-1)[place] = float(number * int(scale) + (int(offset) if offset.is_integer() else offset))


def _whole_scaled(schema: Schema) -> NDArray[np.bool_]:
    """(n,) signals that cantools scales in whole numbers, a scale of 1 left out. With fractional scales Python rounds as NumPy does."""
    scale, offset = schema.scale, schema.offset
    with np.errstate(invalid="ignore"):
        whole = (schema.kind <= Kind.UINT) & np.isfinite(scale) & (scale == np.floor(scale))
    return np.asarray(whole & ~((scale == 1) & (offset == 0)))


def _exact_limit(schema: Schema) -> int:
    """Raw values up to here, either side of 0, need no correction, whichever signal they are of."""
    whole = schema._whole_scaled
    room = EXACT - np.abs(np.nan_to_num(schema.offset[whole]))
    return max(0, int((room / np.maximum(1, np.abs(schema.scale[whole]))).min(initial=EXACT)))


def _digest(schema: Schema) -> bytes:
    """The schema id. Floats go in as hexadecimal, so that the form is the same on every machine."""

    def floats(values: NDArray[np.float64]) -> list[str]:
        return [float(value).hex() for value in values]

    form = [
        "cansight schema 1",
        list(schema.channels),
        list(schema.names),
        list(schema.units),
        schema.kind.tolist(),
        floats(schema.scale),
        floats(schema.offset),
        floats(schema.minimum),
        floats(schema.maximum),
        schema.channel.tolist(),
        floats(schema.period_ms),
        [None if words is None else sorted((int(raw), str(word)) for raw, word in words.items()) for words in schema.choices],
    ]
    return hashlib.sha256(json.dumps(form, ensure_ascii=True, separators=(",", ":")).encode()).digest()[:16]
