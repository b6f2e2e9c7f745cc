"""Raw values into payloads: the inverse of the decoder, for the simulator and for tests.

A message of at most 8 bytes is two 64-bit words, one for each byte order, into which every signal is
shifted; a longer one is cut bit by bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dbc.errors import SignalUnknown
from dbc.frames import EFF_FLAG
from dbc.plan import SELECTOR_BITS, CompiledDbc

__all__ = ["MessageEncoder", "message_encoders", "pack_message"]

WORD_BYTES = 8
CHANNEL_SHIFT = 32  # message_key = channel << 32 | identifier


@dataclass(frozen=True)
class MessageEncoder:
    """Packs one message; r rows (ways to place a signal), m signals in the schema's order."""

    name: str
    channel: str
    frame_id: int  # with EFF_FLAG
    length: int  # bytes
    period_ms: float  # NaN = not declared
    signals: tuple[str, ...]  # the schema's names, in the order of the columns
    column: NDArray[np.intp]  # (r,) column of the row's signal
    big: NDArray[np.bool_]  # (r,)
    bit: NDArray[np.int64]  # (r,) as in DecodePlan.row_bit
    bits: NDArray[np.int64]  # (r,) length of the signal
    half: NDArray[np.bool_]  # (r,) 16-bit float
    selectors: tuple[tuple[tuple[int, int], ...], ...]  # (r,) each a path of (column of the multiplexer, value); () = always there

    def pack(self, raw: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Payloads of n frames. raw: (n, m) int64; what the multiplexers do not select is ignored. Returns (n, length) uint8."""
        value = raw[:, self.column]  # (n, r)
        for row in np.flatnonzero(self.half).tolist():
            single = value[:, row].astype(np.uint32).view(np.float32)
            value[:, row] = single.astype(np.float16).view(np.uint16)
        for row, path in enumerate(self.selectors):
            for multiplexer, chosen in path:
                value[:, row] *= raw[:, multiplexer] == chosen
        word = value.view(np.uint64)
        return self._pack_words(word) if self.length <= WORD_BYTES else self._pack_bits(word)

    def _pack_words(self, value: NDArray[np.uint64]) -> NDArray[np.uint8]:
        mask = np.uint64(2**64 - 1) >> (64 - self.bits).astype(np.uint64)
        shift = np.where(self.big, 64 - self.bit - self.bits, self.bit).astype(np.uint64)
        placed = (value & mask) << shift
        little = np.bitwise_or.reduce(placed[:, ~self.big], axis=1).astype("<u8")
        big = np.bitwise_or.reduce(placed[:, self.big], axis=1).astype(">u8")
        payload = little.view(np.uint8) | big.view(np.uint8)
        return np.ascontiguousarray(payload.reshape(-1, WORD_BYTES)[:, : self.length])

    def _pack_bits(self, value: NDArray[np.uint64]) -> NDArray[np.uint8]:
        field = np.zeros((len(value), 8 * self.length), np.uint8)  # most significant bit of byte 0 first
        for row in range(len(self.column)):
            power = np.arange(int(self.bits[row]), dtype=np.int64)
            first, bits = int(self.bit[row]), int(self.bits[row])
            at = first + bits - 1 - power if self.big[row] else (first + power) // 8 * 8 + 7 - (first + power) % 8
            field[:, at] |= ((value[:, row, None] >> power.astype(np.uint64)) & np.uint64(1)).astype(np.uint8)
        return np.packbits(field, axis=1)


def message_encoders(compiled: CompiledDbc) -> list[MessageEncoder]:
    """An encoder for every message, in the order of the plan (by channel, then identifier)."""
    return [_encoder(compiled, number) for number in range(len(compiled.plan.message_names))]


def pack_message(
    compiled: CompiledDbc, message: str, raw: Mapping[str, NDArray[np.int64]], *, channel: str | None = None
) -> NDArray[np.uint8]:
    """Payloads of one message's frames, from raw values by signal name without the message ("PackVoltage").

    raw: (n,) int64 each; a signal that is not named is 0. channel: needed where two channels have a message of this name.
    Returns (n, length) uint8. Raises SignalUnknown for a message or signal that the DBC does not have.
    """
    for number, name in enumerate(compiled.plan.message_names):
        on = compiled.schema.channels[int(compiled.plan.message_key[number]) >> CHANNEL_SHIFT]
        if name == message and channel in (None, on):
            encoder = _encoder(compiled, number)
            break
    else:
        raise SignalUnknown(f"{message}.*")
    columns = {name.rpartition(".")[2]: column for column, name in enumerate(encoder.signals)}
    frames = np.zeros((len(next(iter(raw.values()))) if raw else 1, len(columns)), np.int64)
    for signal, values in raw.items():
        if signal not in columns:
            raise SignalUnknown(f"{message}.{signal}")
        frames[:, columns[signal]] = values
    return encoder.pack(frames)


def _encoder(compiled: CompiledDbc, message: int) -> MessageEncoder:
    plan, schema = compiled.plan, compiled.schema
    length = int(plan.message_length[message])
    placed = [
        (row, path)
        for row, path in zip(*_rows_below(compiled, int(plan.message_node[message]), ()), strict=True)
        if plan.row_need[row] <= length  # a signal beyond the message's end has no place in its frames
    ]
    row = np.array([number for number, _ in placed], np.intp)
    numbers = sorted({int(signal) for signal in plan.row_signal[row]})
    columns = {number: column for column, number in enumerate(numbers)}
    key = int(plan.message_key[message])
    return MessageEncoder(
        name=plan.message_names[message],
        channel=schema.channels[key >> CHANNEL_SHIFT],
        frame_id=key & (EFF_FLAG | 0x1FFF_FFFF),
        length=length,
        period_ms=float(schema.period_ms[numbers[0]]) if numbers else float("nan"),
        signals=tuple(schema.names[number] for number in numbers),
        column=np.array([columns[int(signal)] for signal in plan.row_signal[row]], np.intp),
        big=plan.row_big[row],
        bit=plan.row_bit[row].astype(np.int64),
        bits=plan.row_length[row].astype(np.int64),
        half=plan.row_half[row],
        selectors=tuple(tuple((columns[number], value) for number, value in path) for _, path in placed),
    )


def _rows_below(compiled: CompiledDbc, node: int, path: tuple[tuple[int, int], ...]) -> tuple[list[int], list[tuple[tuple[int, int], ...]]]:
    """Rows of a node and of its children, each with its path of (signal number of the multiplexer, value)."""
    plan = compiled.plan
    first, count = int(plan.node_first[node]), int(plan.node_count[node])
    rows = list(range(first, first + count))
    paths = [path] * count
    slot_first, slots = int(plan.node_slot_first[node]), int(plan.node_slot_count[node])
    for slot in range(slot_first, slot_first + slots):
        multiplexer = int(plan.row_signal[plan.slot_row[slot]])
        for child in np.flatnonzero(plan.child_key >> np.uint64(SELECTOR_BITS) == slot):
            value = int(plan.child_key[child]) & ((1 << SELECTOR_BITS) - 1)
            below = _rows_below(compiled, int(plan.child_node[child]), (*path, (multiplexer, value)))
            rows += below[0]
            paths += below[1]
    return rows, paths
