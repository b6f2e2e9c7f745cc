"""Why a value is, or is not, to be trusted.

A value that is missing or invalid is NaN with one of these reasons; a zero is never invented.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["STALE_FLOOR_MS", "STALE_PERIODS", "Reason"]


class Reason(IntEnum):
    """Validity of one value, as a uint8 beside it. Numbers are part of the wire format: never renumber."""

    VALID = 0
    NOT_SEEN = 1  # no frame with this signal so far
    STALE = 2  # the message has a declared period and stopped coming
    SHORT_FRAME = 3  # the frame ended before the signal did
    NOT_AVAILABLE = 4  # the sender itself says "no value"
    OUT_OF_RANGE = 5
    COUNTER = 6  # alive counter stood still or jumped
    CHECKSUM = 7


STALE_PERIODS = 10.0  # a signal is stale when it is older than this many of its declared periods,
STALE_FLOOR_MS = 10_000.0  # and older than this: a declared period is a wish; real cars send a "100 ms" message up to 6 s apart
