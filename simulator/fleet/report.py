"""What a fleet's run came to: counts, latencies, processor time."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from wire.receipts import Status

__all__ = ["Counts", "OutageReport", "Report", "percentiles"]


@dataclass
class Counts:
    """Since the fleet's first tick. A batch is rows or an announcement; sent counts every sending of it."""

    sealed: int = 0
    sent: int = 0
    receipted: int = 0
    stored: int = 0
    quarantined: int = 0
    refused: int = 0
    undelivered: int = 0  # the broker took it and said that it went to nobody
    strange: int = 0  # messages down that are no receipt
    bytes_sealed: int = 0
    values: int = 0  # signal-samples sealed
    connections: int = 0
    breaks: int = 0  # connections that ended by themselves, and attempts that failed
    holes: int = 0  # times a vehicle's scenario took its network away
    reasons: Counter[str] = field(default_factory=Counter)

    def note(self, status: Status) -> None:
        self.receipted += 1
        if status is Status.STORED:
            self.stored += 1
        elif status is Status.QUARANTINED:
            self.quarantined += 1
        else:
            self.refused += 1


@dataclass(frozen=True)
class OutageReport:
    """reconnected_s and drained_s: from the network's return until the last of the vehicles had a connection, and held no backlog;
    None: not before the fleet stopped."""

    start_s: float
    length_s: float
    vehicles: int
    reconnected_s: float | None
    drained_s: float | None


@dataclass(frozen=True)
class Report:
    """`complete`: every batch has its receipt. latency: from the last tick of a batch to its receipt; late: how much later than due the
    fleet's own loop cut a batch, which says whether this process was the limit. *_s: seconds."""

    vehicles: int
    signals: int
    ticks_per_batch: int
    seed: int
    probe: str
    duration_s: float
    connect_s: float
    drain_s: float
    counts: Counts
    rows_receipted: int  # batches of rows, without the announcements
    unreceipted: int
    forged: int
    latency_s: dict[str, float]
    late_s: dict[str, float]
    cpu_s: float
    outages: tuple[OutageReport, ...]

    @property
    def complete(self) -> bool:
        return not self.unreceipted and not self.forged

    @property
    def cpu_us_per_batch(self) -> float:
        """Processor time of this process from the first tick to the last receipt, by batches of rows receipted."""
        return self.cpu_s / max(1, self.rows_receipted) * 1e6

    @property
    def batches_per_s(self) -> float:
        """Batches of rows receipted, from the first tick to the last receipt; a vehicle's first batch is cut a batch's time after it."""
        return self.rows_receipted / max(1.0, self.duration_s + self.drain_s - (self.ticks_per_batch - 1))

    def as_json(self) -> dict[str, Any]:
        document = asdict(self)
        document["counts"]["reasons"] = dict(self.counts.reasons)
        return document | {
            "complete": self.complete,
            "batches_per_s": round(self.batches_per_s, 1),
            "cpu_us_per_batch": round(self.cpu_us_per_batch, 1),
        }

    def lines(self) -> list[str]:
        """For people."""
        counts = self.counts
        latency = self.latency_s
        lines = [
            f"{self.vehicles:,} vehicles, {self.signals} signals at 1 Hz, {self.ticks_per_batch} ticks a batch, {self.duration_s:.0f} s"
            f" (connected in {self.connect_s:.1f} s, drained in {self.drain_s:.1f} s)",
            f"batches: {counts.sealed:,} sealed, {counts.sent:,} sent, {counts.receipted:,} receipted ({self.batches_per_s:,.0f}/s): "
            f"{counts.stored:,} stored, {counts.quarantined:,} quarantined, {counts.refused:,} refused; "
            f"{self.unreceipted:,} without receipt",
            f"tick to receipt: p50 {latency['p50']:.3f} s, p99 {latency['p99']:.3f} s, longest {latency['longest']:.3f} s;"
            f" cut late by p99 {self.late_s['p99']:.3f} s, at most {self.late_s['longest']:.3f} s",
            f"{counts.bytes_sealed / max(1, counts.values):.2f} B a value sealed; {self.cpu_us_per_batch:.0f} µs of processor time a batch",
        ]
        if counts.breaks or counts.strange or counts.undelivered or self.forged:
            said = "; ".join(f"{count} x {reason}" for reason, count in counts.reasons.most_common(3))
            lines.append(
                f"connections: {counts.connections:,} made, {counts.breaks:,} broken or failed ({said}); {counts.undelivered} batches that"
                f" nobody listened to, {counts.strange} strange messages, {self.forged} forged receipts"
            )
        if counts.holes:
            lines.append(f"coverage: {counts.holes:,} times a vehicle had no network, as its scenario says")
        for outage in self.outages:
            back = "not all came back" if outage.reconnected_s is None else f"all back in {outage.reconnected_s:.1f} s"
            drained = "not drained" if outage.drained_s is None else f"drained in {outage.drained_s:.1f} s"
            lines.append(f"outage at {outage.start_s:.0f} s for {outage.length_s:.0f} s of {outage.vehicles:,} vehicles: {back}, {drained}")
        return lines


def percentiles(values: np.ndarray[Any, np.dtype[np.float32]]) -> dict[str, float]:
    """p50, p99 and the longest; zeros where there are none."""
    if not len(values):
        return {"p50": 0.0, "p99": 0.0, "longest": 0.0}
    p50, p99 = np.percentile(values, [50, 99])
    return {"p50": round(float(p50), 4), "p99": round(float(p99), 4), "longest": round(float(values.max()), 4)}
