"""The bits of one message's signals in recorded payloads: read, and written in place while every other bit stays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dbc.encoder import MessageEncoder
from dbc.plan import CompiledDbc
from dbc.schema import Kind, Schema
from dbc.validity import not_available_above

__all__ = ["Field", "Place", "message_fields"]

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Place:
    """Where the bits of one signal lie, from the least significant on; `selectors`: under which multiplexer values."""

    byte: NDArray[np.intp]  # (bits,)
    shift: NDArray[np.uint8]  # (bits,) in the byte, from its least significant bit
    selectors: tuple[tuple[Place, int], ...] = ()

    @property
    def bits(self) -> int:
        return len(self.byte)

    @property
    def need(self) -> int:
        """Payload bytes up to the last one."""
        return int(self.byte.max()) + 1

    def read(self, data: Bytes) -> Words:
        """(n,) unsigned, of (n, width) payloads."""
        value = np.zeros(len(data), np.uint64)
        for power, (byte, shift) in enumerate(zip(self.byte.tolist(), self.shift.tolist(), strict=True)):
            value |= (data[:, byte].astype(np.uint64) >> np.uint64(shift) & np.uint64(1)) << np.uint64(power)
        return value

    def write(self, data: Bytes, value: Words) -> None:
        """Into (n, width) payloads, in place; value: (n,) unsigned, bits beyond the signal's are not looked at."""
        for power, (byte, shift) in enumerate(zip(self.byte.tolist(), self.shift.tolist(), strict=True)):
            bit = (value >> np.uint64(power) & np.uint64(1)).astype(np.uint8) << np.uint8(shift)
            data[:, byte] = data[:, byte] & np.uint8(~(1 << shift) & 0xFF) | bit

    def mask(self, width: int) -> Bytes:
        """(width,) its bits are ones."""
        mask = np.zeros(width, np.uint8)
        np.bitwise_or.at(mask, self.byte, np.uint8(1) << self.shift)
        return mask

    def present(self, data: Bytes, length: NDArray[np.integer]) -> NDArray[np.bool_]:
        """(n,) payloads that are long enough and whose multiplexers select it."""
        there = length >= self.need
        for multiplexer, value in self.selectors:
            there = there & (multiplexer.read(data) == np.uint64(value)) & (length >= multiplexer.need)
        return there


@dataclass(frozen=True)
class Field:
    """One signal of a message, at one of its places."""

    name: str  # as in the schema
    number: int  # in the schema
    place: Place
    signed: bool
    half: bool  # 16-bit float
    highest: int  # unsigned pattern above which the sender says "no value"
    schema: Schema

    def raw(self, data: Bytes) -> NDArray[np.int64]:
        """(n,) as the schema's raw values: sign extended, half floats widened."""
        word = self.place.read(data)
        if self.half:
            return word.astype(np.uint16).view(np.float16).astype(np.float32).view(np.uint32).astype(np.int64)
        if self.signed:
            sign = np.uint64(1) << np.uint64(self.place.bits - 1)
            word = (word ^ sign) - sign
        return word.view(np.int64)

    def value(self, data: Bytes) -> NDArray[np.float64]:
        """(n,) physical."""
        return self.schema.physical(self.raw(data)[:, None], np.array([self.number]))[:, 0]

    def write(self, data: Bytes, value: NDArray[np.float64]) -> NDArray[np.float64]:
        """Write (n,) physical values in place, clipped to what the bits can carry; NaN = "no value". Returns what is there now.

        "No value" is all ones where the signal has such a pattern, else 0, which is what a sensor without supply gives.
        """
        self.place.write(data, self._words(value))
        return np.where(np.isnan(value) & self.has_no_value, np.nan, self.value(data))

    @property
    def has_no_value(self) -> bool:
        """Whether the signal has a pattern for "no value"."""
        return self.highest < (1 << self.place.bits) - 1 or bool(self.schema.kind[self.number] >= Kind.FLOAT32)

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest physical value that the bits can carry."""
        if self.schema.kind[self.number] >= Kind.FLOAT32:
            most = 65504.0 if self.half else float(np.finfo(np.float32 if self.place.bits == 32 else np.float64).max)
            return -most, most
        low, high = self._raw_bounds()
        ends = [float(self.schema.scale[self.number]) * raw + float(self.schema.offset[self.number]) for raw in (low, high)]
        return min(ends), max(ends)

    def _raw_bounds(self) -> tuple[int, int]:
        bits = self.place.bits
        return (-(1 << bits - 1), (1 << bits - 1) - 1) if self.signed else (0, self.highest)

    def _words(self, value: NDArray[np.float64]) -> Words:
        bits, missing = self.place.bits, np.isnan(value)
        scaled = (np.where(missing, 0.0, value) - self.schema.offset[self.number]) / self.schema.scale[self.number]
        if self.schema.kind[self.number] >= Kind.FLOAT32:
            low, high = self.bounds
            scaled = np.where(missing, np.nan, np.clip(scaled, low, high))
            if self.half:
                return scaled.astype(np.float16).view(np.uint16).astype(np.uint64)
            return scaled.astype(np.float32).view(np.uint32).astype(np.uint64) if bits == 32 else scaled.view(np.uint64)
        lowest, highest = self._raw_bounds()
        # float64 cannot say 2**64 - 1; its neighbour below is as good as clipped.
        low, high = (float(np.nextafter(float(end), 0.0)) if abs(end) > 2**53 else float(end) for end in (lowest, highest))
        clipped = np.clip(np.rint(scaled), low, high)
        word = clipped.astype(np.int64).view(np.uint64) if self.signed else clipped.astype(np.uint64)
        nothing = np.uint64((1 << bits) - 1 if self.has_no_value else 0)
        return np.where(missing, nothing, word)


def message_fields(compiled: CompiledDbc, encoder: MessageEncoder) -> list[Field]:
    """Every signal of the message at each of its places."""
    schema, plan = compiled.schema, compiled.plan
    above = not_available_above(compiled)
    places = [_place(encoder, row) for row in range(len(encoder.column))]
    of_column = {int(column): place for column, place in reversed(list(zip(encoder.column, places, strict=True)))}
    fields = []
    for row, place in enumerate(places):
        number = schema.index(encoder.signals[int(encoder.column[row])])
        selected = tuple((of_column[column], value) for column, value in encoder.selectors[row])
        # A signal may have several rows in the plan; their patterns for "no value" are the same.
        at = int(np.flatnonzero(plan.row_signal == number)[0])
        highest = min(int(above[at]), (1 << place.bits) - 1)
        fields.append(
            Field(
                schema.names[number],
                number,
                Place(place.byte, place.shift, selected),
                bool(plan.row_signed[at]),
                bool(encoder.half[row]),
                highest,
                schema,
            )
        )
    return fields


def _place(encoder: MessageEncoder, row: int) -> Place:
    power = np.arange(int(encoder.bits[row]))
    first, bits = int(encoder.bit[row]), int(encoder.bits[row])
    if encoder.big[row]:
        at = first + bits - 1 - power  # counted from bit 7 of byte 0 on
        return Place((at // 8).astype(np.intp), (7 - at % 8).astype(np.uint8))
    at = first + power
    return Place((at // 8).astype(np.intp), (at % 8).astype(np.uint8))
