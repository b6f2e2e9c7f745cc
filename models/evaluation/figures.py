"""From what each drive counts to the figures of an evaluation, each with its confidence interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.confidence import Figure, bootstrap, poisson, quantile, rate, share, statistic
from models.evaluation.events import DriveCounts
from models.evaluation.nab import PROFILES

__all__ = ["Evaluation", "evaluate", "event_auroc"]

TICKS_PER_HOUR = 3600


@dataclass(frozen=True)
class Evaluation:
    """All figures. Shares are between 0 and 1, NAB scores at most 100, times in seconds, rates per vehicle-month."""

    drives: int
    ticks: int
    judged: Figure
    months: float
    """vehicle-months of healthy ticks"""
    event_precision: Figure
    event_recall: Figure
    before_failure: Figure
    """of the events whose failure is known: found before it"""
    with_spare: Figure
    """of these: found at least `spare_s` before it"""
    spare_s: float
    wrong_code: int
    alarmed_drives: Figure
    """of the drives with a healthy tick: those with a false finding"""
    false_findings_per_month: Figure
    false_findings_upper: float | None
    """95 % one-sided (Garwood)"""
    false_tickets_per_month: Figure
    """of these, those that reached ticket level"""
    false_tickets_upper: float | None
    point_f1: Figure
    point_precision: Figure
    false_alarm_rate: Figure
    miss_rate: Figure
    always_alarm_f1: float | None
    """What an alarm that never ends would reach here: below it an F1 says nothing."""
    nab: dict[str, Figure]
    vus_pr: Figure
    labelled: float | None
    """share of the ticks that are labelled faulty: the VUS-PR of a score that knows nothing, but for the slopes"""
    event_auroc: Figure
    delay_median_s: Figure
    delay_p90_s: Figure

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        plain: dict[str, Any] = {}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if isinstance(value, Figure):
                value = value.to_dict()
            elif isinstance(value, dict):
                value = {key: figure.to_dict() for key, figure in value.items()}
            plain[name] = value
        return plain


def evaluate(
    drives: Sequence[DriveCounts], healthy_blocks: Sequence[NDArray[np.float64]], month_hours: float, spare_s: float = 0.0
) -> Evaluation:
    """healthy_blocks: `block_maxima` of each drive. month_hours: observed hours that make a vehicle-month."""

    def of(name: str) -> NDArray[np.float64]:
        return np.array([getattr(drive, name) for drive in drives], np.float64)

    points = np.stack([of(name) for name in ("true_positive", "false_positive", "false_negative", "true_negative")], axis=1)
    months = of("healthy") / TICKS_PER_HOUR / month_hours
    false = of("false")
    delays = np.array([delay for drive in drives for delay in drive.delay_s])
    vus = np.array([[drive.vus_pr, 1.0] for drive in drives if drive.vus_pr is not None], np.float64).reshape(-1, 2)
    faulty = float(points[:, 0].sum() + points[:, 2].sum())
    spared = np.array([sum(spare >= max(spare_s, 1e-9) for spare in drive.spare_s) for drive in drives], np.float64)
    return Evaluation(
        drives=len(drives),
        ticks=int(of("ticks").sum()),
        judged=statistic(np.stack([of("judged"), of("ticks")], axis=1), lambda sums: sums[:, 0] / sums[:, 1]),
        months=float(months.sum()),
        event_precision=share(of("right"), of("findings")),
        event_recall=share(of("found"), of("events")),
        before_failure=share(of("in_time"), of("failing")),
        with_spare=share(spared, of("failing")),
        spare_s=spare_s,
        wrong_code=int(of("wrong_code").sum()),
        alarmed_drives=share((false > 0).astype(np.float64), (of("healthy") > 0).astype(np.float64)),
        false_findings_per_month=rate(false, months),
        false_findings_upper=poisson(int(false.sum()), float(months.sum()), 0.90)[1] if months.sum() > 0 else None,
        false_tickets_per_month=rate(of("false_tickets"), months),
        false_tickets_upper=poisson(int(of("false_tickets").sum()), float(months.sum()), 0.90)[1] if months.sum() > 0 else None,
        point_f1=_of_points(points, faulty, lambda s: 2 * s[:, 0] / (2 * s[:, 0] + s[:, 1] + s[:, 2])),
        point_precision=_of_points(points, faulty, lambda s: s[:, 0] / (s[:, 0] + s[:, 1])),
        false_alarm_rate=statistic(points, lambda s: s[:, 1] / (s[:, 1] + s[:, 3])),
        miss_rate=_of_points(points, faulty, lambda s: s[:, 2] / (s[:, 0] + s[:, 2])),
        always_alarm_f1=float(2 * faulty / (faulty + points.sum())) if faulty else None,
        nab={name: _nab(drives, name) for name in PROFILES},
        vus_pr=statistic(vus, lambda sums: sums[:, 0] / sums[:, 1]),
        labelled=faulty / float(points.sum()) if faulty else None,
        event_auroc=event_auroc([np.array(drive.event_score) for drive in drives], healthy_blocks),
        delay_median_s=quantile(delays, 0.5),
        delay_p90_s=quantile(delays, 0.9),
    )


def event_auroc(events: Sequence[NDArray[np.float64]], blocks: Sequence[NDArray[np.float64]]) -> Figure:
    """P(an event's highest score > that of a healthy stretch of usual event length), ties half; bootstrap over drives.

    events, blocks: of each drive, (e,) and (b,) highest scores.
    """
    positive, negative = np.concatenate([*events, np.zeros(0)]), np.sort(np.concatenate([*blocks, np.zeros(0)]))
    if not len(positive) or not len(negative):
        return Figure(None, None, None, len(positive), "no events, or no healthy stretch as long as one")
    drives = len(events)
    wins = np.zeros((drives, drives))
    for row, own in enumerate(events):
        for column, of in enumerate(blocks):
            if len(own) and len(of):
                ordered = np.sort(of)
                under, up_to = np.searchsorted(ordered, own), np.searchsorted(ordered, own, side="right")
                wins[row, column] = float((under + up_to).sum()) / 2
    sizes = np.array([[len(own), len(of)] for own, of in zip(events, blocks, strict=True)], np.float64)

    def auroc(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        won = ((weights @ wins) * weights).sum(axis=1)
        counted = weights @ sizes
        return np.asarray(won / (counted[:, 0] * counted[:, 1]), np.float64)

    drawn = bootstrap(np.eye(drives), auroc)
    value = float(auroc(np.ones((1, drives)))[0])
    low, high = drawn if drawn is not None else (None, None)
    return Figure(value, low, high, len(positive), "bootstrap over drives" if drawn is not None else "too few drives for an interval")


def _of_points(points: NDArray[np.float64], faulty: float, of: Any) -> Figure:
    if not faulty:
        return Figure(None, None, None, len(points), "no tick is labelled faulty")
    return statistic(points, of)


def _nab(drives: Sequence[DriveCounts], profile: str) -> Figure:
    parts = np.array([[d.nab[profile].raw, d.nab[profile].null, d.nab[profile].perfect] for d in drives], np.float64).reshape(-1, 3)
    if not parts[:, 2].any():
        return Figure(None, None, None, len(drives), "no events")
    return statistic(parts, lambda s: 100 * (s[:, 0] - s[:, 1]) / (s[:, 2] - s[:, 1]), proportion=False)
