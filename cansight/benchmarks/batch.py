"""Batches: bytes per signal-sample, and the time to encode and seal, against JSON columns + zlib."""

import json
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cansight.benchmarks.material import Material
from cansight.benchmarks.result import Result, medians_s
from wire.codec import decode_rows, encode_rows
from wire.envelope import StreamSealer
from wire.messages import Kind, Rows

TICKS = (2, 5)


def batch(material: Material) -> list[Result]:
    """A drive at 1 Hz in batches that stand alone; the stream's announced baseline is the first tick, and its cost is not counted."""
    columns = material.seen
    tick_ms = np.array([snapshot.tick_ns // 1_000_000 for snapshot in material.snapshots])
    raw = np.stack([snapshot.raw[columns] for snapshot in material.snapshots])
    reason = np.stack([snapshot.reason[columns] for snapshot in material.snapshots])
    names = [material.compiled.schema.names[column] for column in columns]
    baseline = Rows(tick_ms[:1], raw[:1], reason[:1])
    results = []
    for ticks in TICKS:
        batches = list(cut(tick_ms[1:], raw[1:], reason[1:], ticks))
        samples = sum(rows.raw.size for rows in batches)
        sealer = StreamSealer.start("0" * 16)
        ours = theirs = 0
        for rows in batches:
            body = encode_rows(rows, baseline)
            back = decode_rows(body, baseline)
            if not (
                np.array_equal(back.raw, rows.raw)
                and np.array_equal(back.reason, rows.reason)
                and np.array_equal(back.tick_ms, rows.tick_ms)
            ):
                raise ValueError("a batch does not come back as it was")
            ours += len(sealer.seal(Kind.ROWS, body).data)
            theirs += len(json_columns(rows, names))
        what = f"{len(names)} signals x {ticks} ticks, sealed"
        results.append(
            Result("batch", what, "JSON columns + zlib, in clear", "B/sample", ours / samples, theirs / samples, theirs / ours, 4.0)
        )
    rows = next(cut(tick_ms[1:], raw[1:], reason[1:], 2))
    mine, other = medians_s(lambda: sealer.seal(Kind.ROWS, encode_rows(rows, baseline)), lambda: json_columns(rows, names))
    what = f"encode and seal {len(names)} signals x 2 ticks"
    results.append(Result("batch", what, "JSON columns + zlib, in clear", "µs", mine * 1e6, other * 1e6, other / mine))
    return results


def cut(tick_ms: NDArray[np.int64], raw: NDArray[np.int64], reason: NDArray[np.uint8], ticks: int) -> Iterator[Rows]:
    """Full batches of `ticks` ticks."""
    for start in range(0, len(tick_ms) - ticks + 1, ticks):
        yield Rows(tick_ms[start : start + ticks], raw[start : start + ticks], reason[start : start + ticks])


def json_columns(rows: Rows, names: list[str]) -> bytes:
    """What a plain telematics client sends: times and one named column for each signal, compressed."""
    document = {"t": rows.tick_ms.tolist(), **dict(zip(names, rows.raw.T.tolist(), strict=True))}
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode())
