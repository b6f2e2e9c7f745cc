"""What one drive counts, by hand."""

import numpy as np
import pytest

from models.evaluation.events import Event, Judged, block_maxima, count, healthy_scores
from models.evaluation.figures import evaluate

CODE = "coolant_leak"


def judged(ticks: int, alarms: list[tuple[int, int]], score: np.ndarray | None = None) -> Judged:
    """alarms: rows from .. up to before .."""
    alarm = np.zeros(ticks, bool)
    for first, behind in alarms:
        alarm[first:behind] = True
    return Judged(
        "drive",
        1000 * np.arange(ticks, dtype=np.int64),
        alarm.astype(float) if score is None else score,
        alarm,
        np.array([first for first, _ in alarms], np.int64),
    )


def event(first: int, behind: int, code: str | None = CODE, failed: int | None = None) -> Event:
    return Event(1000 * first, 1000 * behind, code, None if failed is None else 1000 * failed)


def test_a_drive_by_hand() -> None:
    """100 ticks; faults at 20-39 and 60-79; alarms at 5-7 (false), 25-49 (right, stays too long), 90-91 (false)."""
    one = count(judged(100, [(5, 8), (25, 50), (90, 92)]), [event(20, 40), event(60, 80)], CODE, 0)
    assert (one.events, one.found, one.findings, one.right, one.false) == (2, 1, 3, 1, 2)
    assert (one.true_positive, one.false_negative) == (15, 25)
    assert (one.false_positive, one.true_negative) == (3 + 10 + 2, 60 - 15)
    assert one.delay_s == (5.0,)
    assert one.healthy == 60
    figures = evaluate([one, one], [np.zeros(0)] * 2, 100.0)
    assert figures.event_recall.value == 0.5
    assert figures.event_precision.value == pytest.approx(1 / 3)
    assert figures.point_f1.value == pytest.approx(2 * 15 / (2 * 15 + 15 + 25))
    assert figures.false_alarm_rate.value == pytest.approx(15 / 60)
    assert figures.miss_rate.value == pytest.approx(25 / 40)
    assert figures.always_alarm_f1 == pytest.approx(2 * 40 / (40 + 100))
    assert figures.false_findings_per_month.value == pytest.approx(4 / (120 / 360_000))


def test_an_alarm_that_was_already_up_finds_nothing() -> None:
    one = count(judged(100, [(10, 60)]), [event(20, 40)], CODE, 0)
    assert (one.found, one.right, one.false) == (0, 0, 1)
    assert one.true_positive == 20  # at each of its ticks it was up, which is what points count


def test_one_tick_of_a_long_fault_is_one_tick() -> None:
    """Point-adjusted F1 would be 1 here."""
    one = count(judged(100, [(50, 51)]), [event(50, 100)], CODE, 0)
    assert evaluate([one], [np.zeros(0)], 100.0).point_f1.value == pytest.approx(2 / 51)


def test_a_finding_in_another_fault_has_the_wrong_code_and_its_ticks_count_for_nobody() -> None:
    one = count(judged(100, [(30, 40)]), [event(20, 60, "coolant_pump_degraded")], CODE, 0)
    assert (one.events, one.wrong_code, one.false, one.right) == (0, 1, 0, 0)
    assert (one.healthy, one.false_positive, one.true_negative) == (60, 0, 60)
    assert evaluate([one], [np.zeros(0)], 100.0).event_precision.value == 0.0


def test_found_before_failure_and_with_time_to_spare() -> None:
    late = count(judged(100, [(55, 60)]), [event(20, 60, failed=50)], CODE, 0)
    early = count(judged(100, [(30, 60)]), [event(20, 60, failed=50)], CODE, 0)
    missed = count(judged(100, []), [event(20, 60, failed=50)], CODE, 0)
    never = count(judged(100, [(30, 60)]), [event(20, 60)], CODE, 0)
    figures = evaluate([late, early, missed, never], [np.zeros(0)] * 4, 100.0, spare_s=15.0)
    assert (figures.event_recall.value, figures.event_recall.of) == (0.75, 4)
    assert (figures.before_failure.value, figures.before_failure.of) == (pytest.approx(1 / 3), 3)
    assert figures.with_spare.value == pytest.approx(1 / 3)
    assert evaluate([late, early, missed, never], [np.zeros(0)] * 4, 100.0, spare_s=25.0).with_spare.value == 0.0


def test_rows_of_the_baseline_count_nothing() -> None:
    one = count(judged(100, [(5, 8), (25, 50)]), [event(0, 10), event(20, 40)], CODE, 0, first_row=10)
    assert (one.ticks, one.events, one.found, one.findings) == (90, 1, 1, 1)
    assert one.delay_s == (5.0,)


def test_a_tick_without_a_judgement_is_a_tick_without_an_alarm() -> None:
    score = np.full(100, np.nan)
    score[:50] = 1.0
    one = count(judged(100, [], score), [event(40, 60)], CODE, 0)
    assert (one.judged, one.false_negative) == (50, 20)


def test_a_fault_without_a_tick_is_not_in_the_data() -> None:
    """The car was parked from before its onset to after its repair."""
    one = count(judged(100, []), [Event(500_000, 600_000, CODE)], CODE, 0)
    assert one.events == 0


def test_healthy_stretches_leave_every_fault_out() -> None:
    score = np.arange(100.0)
    scores = healthy_scores(judged(100, [], score), [event(20, 60), event(80, 90, "other")])
    assert len(scores) == 50
    assert block_maxima(scores, 20).tolist() == [19.0, 79.0]
    assert block_maxima(scores, 60).tolist() == []
