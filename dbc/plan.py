"""The decode plan: a DBC as flat arrays, and its form on disk.

    message ── root node ── rows                (signals that are always there)
                   └─ slots ── child nodes ── rows      (signals under a value of a multiplexer; slots nest)

A *row* is one way to cut one signal out of a payload. A signal under several multiplexer values has a row in each of their nodes.
A *node* is a run of rows that are present together, little-endian ones first; a *slot* is a multiplexer of a node, with one child node
per known value.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbc.schema import Schema

__all__ = ["ANY_SOURCE", "NOT_PGN", "PLAN_VERSION", "CompiledDbc", "DecodePlan", "dump", "parse"]

PLAN_VERSION = 3  # of this layout; part of the cache key

NOT_PGN = -1  # message_pgn of a message that is matched by its whole identifier
ANY_SOURCE = -1  # message_source of a message that is bound to the first source address seen
SELECTOR_BITS = 48  # child_key = slot << SELECTOR_BITS | raw value of the multiplexer


@dataclass(frozen=True)
class DecodePlan:
    """m messages, k nodes, r rows, s slots, c children. Arrays are in the order of messages, nodes in preorder."""

    # messages, sorted by key
    message_names: tuple[str, ...]
    message_key: NDArray[np.uint64]  # (m,) channel << 32 | identifier with EFF_FLAG
    message_length: NDArray[np.uint16]  # (m,) bytes that the DBC declares; over 64 only for payloads that come in several frames
    message_pgn: NDArray[np.int32]  # (m,) J1939: its frames are those of this parameter group, whatever their priority and
    #                                      (PDU1) destination; they are decoded under message_key. NOT_PGN = by identifier
    message_source: NDArray[np.int16]  # (m,) J1939: source address of its frames; ANY_SOURCE = the first one seen
    message_node: NDArray[np.int32]  # (m,) root node
    message_check: NDArray[np.int32]  # (m,) of the c messages with an alive counter or a checksum; -1 = of none
    # nodes
    node_message: NDArray[np.int32]  # (k,)
    node_first: NDArray[np.int32]  # (k,) first row
    node_count: NDArray[np.int32]  # (k,) rows
    node_need: NDArray[np.uint16]  # (k,) payload bytes that its rows need
    node_slot_first: NDArray[np.int32]  # (k,)
    node_slot_count: NDArray[np.int32]  # (k,)
    # rows
    row_signal: NDArray[np.int32]  # (r,) index into the schema
    row_big: NDArray[np.bool_]  # (r,) big-endian (Motorola)
    row_bit: NDArray[np.uint16]  # (r,) little-endian: number of the least significant bit; big-endian: of the most significant,
    #                                   counted from the payload's first bit (bit 7 of byte 0) on
    row_length: NDArray[np.uint8]  # (r,) bits, 1..64
    row_signed: NDArray[np.bool_]  # (r,)
    row_half: NDArray[np.bool_]  # (r,) 16-bit float: widened to FLOAT32 when decoded
    row_need: NDArray[np.uint16]  # (r,) payload bytes up to the signal's last
    # slots and their children
    slot_row: NDArray[np.int32]  # (s,) the multiplexer's row
    child_key: NDArray[np.uint64]  # (c,) sorted; slot << 48 | multiplexer value
    child_node: NDArray[np.int32]  # (c,)
    # alive counters and checksums (dbc/integrity.py)
    check_counter: NDArray[np.int32]  # (c,) row; -1 = none
    check_checksum: NDArray[np.int32]  # (c,) row; -1 = none
    check_profile: NDArray[np.int8]  # (c,) number in PROFILES; -1 = none
    check_data_id: NDArray[np.uint8]  # (c, 16) as bytes, the low one first; zero padded


@dataclass(frozen=True)
class CompiledDbc:
    """Schema and plan of one or more DBC files, each on its channel."""

    schema: Schema
    plan: DecodePlan
    notes: tuple[str, ...] = ()  # what was left out or replaced, one line each


def dump(compiled: CompiledDbc) -> bytes:
    """The compiled DBC as bytes (a NumPy .npz without pickles)."""
    words: dict[str, Any] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for prefix, part in (("schema", compiled.schema), ("plan", compiled.plan)):
        for item in fields(part):
            if not item.init:
                continue
            value = getattr(part, item.name)
            if isinstance(value, np.ndarray):
                arrays[f"{prefix}.{item.name}"] = value
            else:
                words[f"{prefix}.{item.name}"] = value
    words["notes"] = compiled.notes
    words["schema.choices"] = [None if choice is None else sorted(choice.items()) for choice in compiled.schema.choices]
    arrays["words"] = np.frombuffer(json.dumps(words).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def parse(data: bytes) -> CompiledDbc:
    """The inverse of `dump`. Raises ValueError for anything else."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        values: dict[str, Any] = json.loads(arrays.pop("words").tobytes()) | arrays
        values["schema.choices"] = [None if choice is None else dict(choice) for choice in values["schema.choices"]]

        def part(prefix: str) -> dict[str, Any]:
            picked = {name.removeprefix(f"{prefix}."): value for name, value in values.items() if name.startswith(f"{prefix}.")}
            return {name: tuple(value) if isinstance(value, list) else value for name, value in picked.items()}

        return CompiledDbc(Schema(**part("schema")), DecodePlan(**part("plan")), tuple(values["notes"]))
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        KeyError,
        TypeError,
        EOFError,
        RuntimeError,
    ) as error:  # RuntimeError: zipfile's "not implemented"
        raise ValueError(f"not a compiled DBC: {error}") from error
