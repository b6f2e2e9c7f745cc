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
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "schema_id", _digest(self))
        object.__setattr__(self, "_index", {name: number for number, name in enumerate(self.names)})

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
        kind = self.kind if columns is None else self.kind[columns]
        scale = self.scale if columns is None else self.scale[columns]
        offset = self.offset if columns is None else self.offset[columns]
        number = raw.astype(np.float64)
        if (raw < 0).any():
            unsigned = (raw < 0) & (kind == Kind.UINT)
            if unsigned.any():
                number[unsigned] = raw.view(np.uint64)[unsigned].astype(np.float64)
        floats = kind >= Kind.FLOAT32
        if floats.any():
            single, double = np.broadcast_to(kind == Kind.FLOAT32, raw.shape), np.broadcast_to(kind == Kind.FLOAT64, raw.shape)
            number[single] = raw[single].astype(np.uint32).view(np.float32).astype(np.float64)
            number[double] = raw[double].view(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # a hostile float payload may overflow; it then is inf, as in Python
            value = number * scale + offset
            beyond = (np.abs(value) > EXACT) | (np.abs(number) > EXACT)
        if beyond.any():
            _correct_wide(value, raw, np.broadcast_to(kind, raw.shape), scale, offset, beyond)
        return value


def _correct_wide(
    value: NDArray[np.float64],
    raw: NDArray[np.int64],
    kind: NDArray[np.uint8],
    scale: NDArray[np.float64],
    offset: NDArray[np.float64],
    beyond: NDArray[np.bool_],
) -> None:
    """Recompute in whole numbers what float64 rounds twice: cantools multiplies Python integers and rounds once, at the end."""
    scale, offset = np.broadcast_to(scale, raw.shape), np.broadcast_to(offset, raw.shape)
    for place in zip(*np.nonzero(beyond & (kind <= Kind.UINT)), strict=True):
        factor, addend = float(scale[place]), float(offset[place])
        if factor.is_integer():
            whole = int(raw[place]) & (2**64 - 1) if kind[place] == Kind.UINT else int(raw[place])
            value[place] = float(whole * int(factor) + (int(addend) if addend.is_integer() else addend))


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
