"""Small schemas and batches for the cloud's tests."""

from collections.abc import Sequence

import numpy as np

from cloud.events import TickRows
from dbc.schema import Kind, Schema

VEHICLE = "0123456789abcdef"
START_MS = 1_700_000_000_000


def make_schema(signals: int = 6, channels: tuple[str, ...] = ("can0", "can1")) -> Schema:
    """Signal i is "M<i // 4>.S<i>", scale 0.1, on the channels in turn; the last one is a float64."""
    nan = np.full(signals, np.nan)
    kind = np.full(signals, Kind.INT, np.uint8)
    kind[-1] = Kind.FLOAT64
    scale = np.full(signals, 0.1)
    scale[-1] = 1.0
    return Schema(
        channels=channels,
        names=tuple(f"M{i // 4}.S{i}" for i in range(signals)),
        units=("",) * signals,
        kind=kind,
        scale=scale,
        offset=np.zeros(signals),
        minimum=nan,
        maximum=nan,
        channel=(np.arange(signals) % len(channels)).astype(np.uint8),
        period_ms=nan,
        choices=(None,) * signals,
    )


def make_rows(
    ticks: Sequence[int],
    *,
    schema: Schema | None = None,
    stream: bytes = b"s" * 16,
    sequence: int = 1,
    vehicle: str = VEHICLE,
    replay: bool = False,
    seed: int = 0,
    columns: Sequence[int] | None = None,
    consent_class: str = "technical",
) -> TickRows:
    """A batch at START_MS + 1000 * tick. A value depends on (seed, tick, signal) alone, so any cut into batches has the same values."""
    schema = schema or make_schema()
    which = np.arange(len(schema), dtype=np.int32) if columns is None else np.array(columns, np.int32)
    axis = np.array(ticks, np.int64)
    raw = ((seed + 7) * (axis[:, None] + 11) * (which[None, :] + 3)) % 2003 - 1000
    floats = schema.kind[which] == Kind.FLOAT64
    raw[:, floats] = (raw[:, floats] / 7.0).view(np.int64)
    return TickRows(
        vehicle=vehicle,
        model="sample",
        stream=stream,
        sequence=sequence,
        received_ms=START_MS,
        replay=replay,
        schema=schema,
        columns=which,
        tick_ms=START_MS + 1000 * axis,
        raw=raw.astype(np.int64),
        reason=np.zeros(raw.shape, np.uint8),
        consent_class=consent_class,
    )
