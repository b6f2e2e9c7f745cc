"""Why a value is, or is not, to be trusted.

A value that is missing or invalid is NaN with one of these reasons; a zero is never invented.
"""

from __future__ import annotations

import re
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dbc.plan import CompiledDbc

__all__ = ["STALE_FLOOR_MS", "STALE_PERIODS", "Flag", "Reason", "not_available_above"]


class Reason(IntEnum):
    """Validity of one value, as a uint8 beside it. Numbers are part of the wire format: never renumber."""

    VALID = 0
    NOT_SEEN = 1  # no frame with this signal so far
    STALE = 2  # the message has a period and stopped coming
    SHORT_FRAME = 3  # the frame ended before the signal did
    NOT_AVAILABLE = 4  # the sender itself says "no value"
    OUT_OF_RANGE = 5  # not given by the decoder: see Flag.OUT_OF_RANGE
    COUNTER = 6  # alive counter stood still or jumped
    CHECKSUM = 7


class Flag(IntFlag):
    """What is odd about a valid value."""

    OUT_OF_RANGE = 1  # beyond the bounds that the DBC declares
    CONSTANT = 2  # has changed before, and stands still for far longer than it ever did


STALE_PERIODS = 10.0  # a signal is stale when it is older than this many of its periods,
STALE_FLOOR_MS = 10_000.0  # and older than this: a declared period is a wish; real cars send a "100 ms" message up to 6 s apart

NO_VALUE = re.compile(
    r"\b(sna|n/?a|n\.a\.?|(not|un) ?(available|avail|valid|defined)|unavailable|invalid|undefined|no ?(data|signal|value))\b"
)
ERROR = re.compile(r"\b(err(or)?|fault(y)?|fail(ure|ed)?|reserved|not used)\b")  # what J1939 keeps just below "not available"
NEVER = np.uint64(2**64 - 1)
MOST_WORDS = 16  # at the top of a value table that may say "no value", one below the other


def not_available_above(compiled: CompiledDbc) -> NDArray[np.uint64]:
    """(r,) for every row of the plan: bits (unsigned) above this say that there is no value; 2**64 - 1 = none do.

    - The DBC's value table calls all ones so ("SNA", "invalid"), and perhaps the values just below.
    - All ones is beyond the range that the DBC declares: an unsigned signal that counts to 250 of 255.
    - The message is of J1939 (J1939-71, 5.1.4): whole bytes from 0xFE.. on, two bits from 0b10 and four from 0b1110 on, unless the value
      table gives them another meaning; otherwise all ones.
    """
    plan, schema = compiled.plan, compiled.schema
    j1939 = np.zeros(len(plan.row_signal), np.bool_)
    for node in np.flatnonzero(plan.message_pgn[plan.node_message] >= 0).tolist():
        j1939[plan.node_first[node] : plan.node_first[node] + plan.node_count[node]] = True
    above = np.full(len(plan.row_signal), NEVER)
    with np.errstate(over="ignore", invalid="ignore"):
        ones = (2.0 ** plan.row_length.astype(np.int64) - 1) * schema.scale[plan.row_signal] + schema.offset[plan.row_signal]
        low, high = schema.minimum[plan.row_signal], schema.maximum[plan.row_signal]
        beyond = (low < high) & ((ones > high) | (ones < low)) & ~plan.row_signed & (schema.kind[plan.row_signal] <= 1)
    for row in range(len(above)):
        length = int(plan.row_length[row])
        top = (1 << length) - 1
        if length == 1 or schema.kind[plan.row_signal[row]] > 1:
            continue
        words = {raw & top: _plain(word) for raw, word in (schema.choices[plan.row_signal[row]] or {}).items()}
        lowest = top + 1  # first pattern that is no value
        while lowest > 1 and top - lowest < MOST_WORDS and NO_VALUE.search(words.get(lowest - 1, "")):
            lowest -= 1
        if beyond[row] and top not in words:
            lowest = min(lowest, top)
        if j1939[row] and not plan.row_signed[row]:
            lowest = min(lowest, _j1939_lowest(length, words))
        if lowest <= top:
            above[row] = lowest - 1
    return above


def _j1939_lowest(length: int, words: dict[int, str]) -> int:
    top = (1 << length) - 1
    lowest = 0xFE << length - 8 if length % 8 == 0 else top - 1 if length in (2, 4) else top
    meant = [raw for raw, word in words.items() if raw >= lowest and not (NO_VALUE.search(word) or ERROR.search(word))]
    return max([lowest, *(raw + 1 for raw in meant)])


def _plain(word: str) -> str:
    """`SignalNotAvailable`, `Signal_Not_Available`, `signal not available`: one form."""
    return re.sub(r"[\s_-]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", word)).strip().lower()
