"""Rows to bytes and back: columns that differ from the announced baseline, as deltas, compressed. Layout: docs/wire.md, "Rows"."""

from wire.messages import Rows


def encode_rows(rows: Rows, baseline: Rows | None) -> bytes:
    """The body of a ROWS batch. `baseline` is one tick, or None (then columns are relative to zero and valid)."""
    raise NotImplementedError


def decode_rows(data: bytes, baseline: Rows | None) -> Rows:
    """The inverse of `encode_rows` with the same baseline; FormatError for anything else."""
    raise NotImplementedError
