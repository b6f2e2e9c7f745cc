"""A vehicle's whole recording at once: what `PackJudge` says of it tick by tick, in NumPy.

Which drives may enter a vehicle's baseline depends on the alarms in them, and those on the baseline. So all are taken for healthy first,
what alarmed is taken out, and the rest is judged again, until nothing changes: what is said of a drive depends on drives before it alone,
so each round settles at least one more, and two or three settle all.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.alarm import Alarm
from models.baseline import in_force
from models.drives import Drives, Level, first_ticks
from models.fit import Detector, Deviations, deviations, known_ticks
from models.manifest import Manifest
from models.tables import Drive

__all__ = ["Finding", "VehicleJudgement", "findings_of", "judge_vehicle", "judged_ticks", "lasting", "spans"]

PIECE = 50_000
"""Ticks whose features are computed together: a year's would need gigabytes."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Rows of a recording at which the alarm rose, reached ticket level (None: never) and cleared (None: not by its end)."""

    raised: int
    ticket: int | None
    cleared: int | None

    @property
    def level(self) -> Level:
        """That it reached."""
        return Level.SEEN if self.ticket is None else Level.TICKET


@dataclass(frozen=True)
class VehicleJudgement:
    """score: (n,) judged scores, NaN where a tick has none or is not known. active: (n,) whether a finding is, after each tick.

    drives: (d,) rows of the first judged ticks of the drives. baselines: (d, m) in force at each, NaN: none yet; None: the pack has none.
    """

    score: NDArray[np.float64]
    active: NDArray[np.bool_]
    findings: tuple[Finding, ...]
    drives: NDArray[np.int64]
    baselines: NDArray[np.float64] | None


def judge_vehicle(manifest: Manifest, detector: Detector, drive: Drive, fast: bool = True) -> VehicleJudgement:
    """Judge all drives of a vehicle that the pack has never seen before.

    drive: its ticks, of the manifest's columns, with ascending times. fast: as `models.fit.score_drive`.
    """
    rows, deviation = judged_ticks(detector, drive, fast)
    return findings_of(manifest, detector, drive.tick_ms, rows, deviation)


def judged_ticks(detector: Detector, drive: Drive, fast: bool = True) -> tuple[NDArray[np.int64], Deviations]:
    """The rows (j,) of a drive that are judged, and what the monitored signals deviate there."""
    rows, parts = [], []
    back = detector.window - 1
    for first in range(0, len(drive.tick_ms), PIECE):
        start, end = max(0, first - back), min(first + PIECE, len(drive.tick_ms))
        piece = drive.rows(start, end)
        part, ends = deviations(detector, piece, fast)
        use = known_ticks(detector, piece, ends)[ends] & (ends >= first - start)
        rows.append(ends[use] + start)
        parts.append(part.rows(use))
    if not rows:
        return np.zeros(0, np.int64), Deviations(np.zeros((0, len(detector.monitored))), np.ones((1, 1)))
    basis = parts[0].basis if all(part.basis.shape == (1, 1) for part in parts) else np.concatenate([part.whole_basis() for part in parts])
    return np.concatenate(rows), Deviations(np.concatenate([part.units for part in parts]), basis)


def findings_of(
    manifest: Manifest, detector: Detector, tick_ms: NDArray[np.int64], rows: NDArray[np.int64], deviation: Deviations
) -> VehicleJudgement:
    """`judge_vehicle` of what `judged_ticks` gave. tick_ms: (n,) of the whole recording."""
    alarm, sure, drives, rule = manifest.alarm(), manifest.sure(), manifest.drive_rule(), manifest.baselines()
    times = tick_ms[rows]
    first = first_ticks(times, drives.gap_ms)
    counts = np.diff(first, append=len(rows))
    means = np.add.reduceat(deviation.offsets(), first, axis=0) / counts[:, None] if rule is not None and len(first) else None
    own = None
    short = held = counts < drives.least_ticks
    while True:
        if rule is not None and means is not None:
            own = in_force(rule, means, ~held)
        score = deviation.scores(detector, None if own is None else np.repeat(own, counts, axis=0))
        evidence = lasting(alarm, times, score)
        raised, cleared = spans(alarm, times, score, evidence)
        active = _between(len(rows), raised, cleared)
        if rule is None:
            break
        ended = np.zeros(len(rows), bool)
        ended[cleared] = True
        before, held = held, short | _any_in(active | evidence | ended, first)
        if (held == before).all():
            break
    seen = _any_in(evidence, first)
    confirming = evidence & np.repeat(_evidence_before(drives, seen, counts) + 1 >= drives.need, counts)
    if sure is not None:
        confirming |= lasting(sure, times, score)
    found = []
    for at, begin in enumerate(raised.tolist()):
        end = int(cleared[at]) if at < len(cleared) else None
        ticket = np.flatnonzero(confirming[begin:end])
        found.append(
            Finding(int(rows[begin]), int(rows[begin + ticket[0]]) if len(ticket) else None, None if end is None else int(rows[end]))
        )
    judged = np.full(len(tick_ms), np.nan)
    judged[rows] = score
    whole = _between(
        len(tick_ms),
        np.array([one.raised for one in found], np.int64),
        np.array([one.cleared for one in found if one.cleared is not None], np.int64),
    )
    return VehicleJudgement(judged, whole, tuple(found), rows[first], own)


def lasting(rule: Alarm, times: NDArray[np.int64], score: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,) what `Alarm.persists` says after each of these scored ticks, times ascending: whether they would raise the alarm."""
    over = score >= rule.raise_at
    if not over.any():
        return np.zeros(len(score), bool)
    begin = _stretch(rule, times)
    place = np.arange(len(score))
    counted = over & (place - begin >= rule.warmup)
    total = np.concatenate([[0], np.cumsum(counted)])
    return np.asarray(total[place + 1] - total[np.maximum(place - rule.of + 1, begin)] >= rule.need)


def spans(
    rule: Alarm, times: NDArray[np.int64], score: NDArray[np.float64], evidence: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(r,) scored ticks at which the alarm rises, and (c,) those at which it clears, r - 1 <= c <= r. evidence: of `lasting`."""
    rises = np.flatnonzero(evidence)
    if not len(rises):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    begin = _stretch(rule, times)
    place = np.arange(len(score))
    loud = (score >= rule.clear_below) | (place - begin < rule.warmup)
    last_loud = np.maximum.accumulate(np.where(loud, place, -1))
    calm = np.flatnonzero(place - np.maximum(last_loud, begin - 1) >= rule.of)
    raised, cleared = [], []
    at = 0
    while (where := int(np.searchsorted(rises, at))) < len(rises):
        raised.append(int(rises[where]))
        end = int(np.searchsorted(calm, raised[-1] + 1))
        if end == len(calm):
            break
        at = int(calm[end])
        cleared.append(at)
    return np.array(raised, np.int64), np.array(cleared, np.int64)


def _stretch(rule: Alarm, times: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) the tick at which the stretch without a gap begins that each tick is in."""
    begin = np.zeros(len(times), np.int64)
    fresh = np.flatnonzero(np.diff(times) > rule.gap_ms) + 1
    begin[fresh] = fresh
    return np.maximum.accumulate(begin)


def _between(size: int, raised: NDArray[np.int64], cleared: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(size,) whether each place is between a raise and its clearing."""
    change = np.zeros(size + 1, np.int64)
    change[raised] += 1
    change[cleared] -= 1
    return np.cumsum(change[:size]) > 0


def _any_in(flags: NDArray[np.bool_], first: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(d,) whether any tick (n,) of each drive is set."""
    return np.logical_or.reduceat(flags, first) if len(first) else np.zeros(0, bool)


def _evidence_before(drives: Drives, seen: NDArray[np.bool_], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """(d,) how many of the of - 1 drives before each one that count had evidence."""
    counting = np.flatnonzero(seen | (counts >= drives.least_ticks))
    total = np.concatenate([[0], np.cumsum(seen[counting])])
    place = np.searchsorted(counting, np.arange(len(seen)))  # drives that count before this one
    return np.asarray(total[place] - total[np.maximum(place - (drives.of - 1), 0)], np.int64)
