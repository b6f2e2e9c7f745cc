"""What one drive counts: labelled faults on one side, what the pack said on the other.

Nothing is adjusted in the detector's favour. A finding is right if the alarm *rises* inside a fault; one that rose before it is false,
however long it stays, and a fault under an alarm that was already up is missed. A tick is found if the alarm is active at that tick: that
one tick of a fault was found says nothing of its other ticks (point-adjusted F1, which says so, rates random scores above every detector:
Kim et al. 2022, AAAI 36). A tick without a judgement is a tick without an alarm.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.evaluation.nab import PROFILES, NabParts, nab_parts
from models.evaluation.vus import vus_pr

__all__ = ["DriveCounts", "Event", "Judged", "block_maxima", "count", "healthy_scores"]


@dataclass(frozen=True, slots=True)
class Event:
    """A labelled fault: from `begin_ms` up to before `end_ms`.

    fault_code: None: of the pack's own kind, as a column of labels says it. failed_ms: when the part fails; None: not known, or never.
    """

    begin_ms: int
    end_ms: int
    fault_code: str | None = None
    failed_ms: int | None = None


@dataclass(frozen=True)
class Judged:
    """A drive's n ticks as the vehicle judged them.

    score: (n,) NaN where a tick has none or lies outside the trained range. alarm: (n,) whether it is active after the tick.
    raised: rows at which it rose. ticket: of each, the row at which the finding reached ticket level, -1: never; None: at once.
    """

    source: str
    tick_ms: NDArray[np.int64]
    score: NDArray[np.float64]
    alarm: NDArray[np.bool_]
    raised: NDArray[np.int64]
    ticket: NDArray[np.int64] | None = None
    contributions: tuple[dict[str, float], ...] = ()
    """of each raising: signals with their shares of the score"""
    outside: dict[str, int] = field(default_factory=dict)
    """signals that left the trained range and its margin, with their ticks"""
    raise_at: float = 0.0
    """the score that alarms"""


@dataclass(frozen=True)
class DriveCounts:
    """What one drive adds to every figure."""

    source: str
    ticks: int
    judged: int
    """ticks with a score inside the trained range"""
    healthy: int
    """ticks outside every fault"""
    events: int
    found: int
    failing: int
    """events of which the time of failure is known"""
    in_time: int
    """of these: found before it"""
    findings: int
    right: int
    wrong_code: int
    """findings inside a fault of another code"""
    false: int
    """findings outside every fault"""
    false_tickets: int
    """of these: those that reached ticket level"""
    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int
    delay_s: tuple[float, ...]
    """from a fault's onset to the finding, of those found"""
    spare_s: tuple[float, ...]
    """from the finding to the failure; -inf of failing events that were not found"""
    vus_pr: float | None
    nab: dict[str, NabParts]
    event_score: tuple[float, ...]
    """highest score in each event"""
    event_ticks: tuple[int, ...]


def count(judged: Judged, events: Sequence[Event], fault_code: str, vus_window: int, first_row: int = 0) -> DriveCounts:
    """Everything that this drive counts.

    events: of any code; those of `fault_code` or of none are the pack's to find, the ticks of the others count neither as faulty nor as
    healthy. first_row: rows before it (a baseline was learned there) count nothing. An event without a tick is left out.
    """
    time, rows = judged.tick_ms[first_row:], len(judged.tick_ms) - first_row
    alarm = judged.alarm[first_row:]
    score = np.nan_to_num(judged.score[first_row:], nan=0.0)
    counts = judged.raised >= first_row
    raised = judged.raised[counts] - first_row
    tickets = np.ones(len(raised), bool) if judged.ticket is None else judged.ticket[counts] >= 0
    own = _spans(time, [event for event in events if event.fault_code in (None, fault_code)])
    label, other = np.zeros(rows, bool), np.zeros(rows, bool)
    for _, first, last in own:
        label[first : last + 1] = True
    for _, first, last in _spans(time, [event for event in events if event.fault_code not in (None, fault_code)]):
        other[first : last + 1] = True
    other &= ~label

    delay: list[float] = []
    spare: list[float] = []
    in_time = 0
    for event, first, last in own:
        inside = raised[(raised >= first) & (raised <= last)]
        found_ms = int(time[inside[0]]) if len(inside) else None
        if found_ms is not None:
            delay.append((found_ms - event.begin_ms) / 1000)
        if event.failed_ms is not None:
            spare.append((event.failed_ms - found_ms) / 1000 if found_ms is not None else -np.inf)
            in_time += spare[-1] > 0
    plain = ~other
    return DriveCounts(
        source=judged.source,
        ticks=rows,
        judged=int(np.isfinite(judged.score[first_row:]).sum()),
        healthy=int((~label & plain).sum()),
        events=len(own),
        found=len(delay),
        failing=len(spare),
        in_time=in_time,
        findings=len(raised),
        right=int(label[raised].sum()),
        wrong_code=int(other[raised].sum()),
        false=int((~label & plain)[raised].sum()),
        false_tickets=int((~label & plain)[raised[tickets]].sum()),
        true_positive=int((alarm & label).sum()),
        false_positive=int((alarm & ~label & plain).sum()),
        false_negative=int((~alarm & label).sum()),
        true_negative=int((~alarm & ~label & plain).sum()),
        delay_s=tuple(delay),
        spare_s=tuple(spare),
        vus_pr=vus_pr(label[plain], score[plain], vus_window),
        nab={name: nab_parts(_apart(own), raised[~other[raised]].tolist(), profile) for name, profile in PROFILES.items()},
        event_score=tuple(float(np.float32(score[first : last + 1].max())) for _, first, last in own),
        event_ticks=tuple(last - first + 1 for _, first, last in own),
    )


def healthy_scores(judged: Judged, events: Sequence[Event], first_row: int = 0) -> NDArray[np.float32]:
    """(h,) scores of the healthy ticks, one after another; 0 where a tick has none."""
    time = judged.tick_ms[first_row:]
    healthy = np.ones(len(time), bool)
    for event in events:
        healthy &= (time < event.begin_ms) | (time >= event.end_ms)
    return np.nan_to_num(judged.score[first_row:], nan=0.0)[healthy].astype(np.float32)


def block_maxima(scores: NDArray[np.float32], ticks: int) -> NDArray[np.float64]:
    """(b,) the highest of each stretch of `ticks` scores: what an event's highest score must stand out from."""
    blocks = len(scores) // ticks
    return scores[: blocks * ticks].reshape(blocks, ticks).max(axis=1).astype(np.float64) if blocks else np.zeros(0)


def _spans(time: NDArray[np.int64], events: Sequence[Event]) -> list[tuple[Event, int, int]]:
    """The events that have ticks, with first and last row, in the order of time."""
    spans = []
    for event in sorted(events, key=lambda event: event.begin_ms):
        first, behind = np.searchsorted(time, [event.begin_ms, event.end_ms])
        if behind > first:
            spans.append((event, int(first), int(behind) - 1))
    return spans


def _apart(spans: Sequence[tuple[Event, int, int]]) -> list[tuple[int, int]]:
    """Windows without overlap: events that touch rows of each other are one."""
    windows: list[tuple[int, int]] = []
    for _, first, last in spans:
        if windows and first <= windows[-1][1]:
            windows[-1] = (windows[-1][0], max(windows[-1][1], last))
        else:
            windows.append((first, last))
    return windows
