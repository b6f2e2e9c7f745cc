"""The ticket rules: pure functions, and the file that sets them."""

from pathlib import Path

import pytest

from cloud.tickets.budget import DAY_MS, Told, displaced, withheld
from cloud.tickets.errors import PolicyError
from cloud.tickets.policy import Condition, Flaps, Level, Span, Tier, condition_of, held_off, worth_a_line
from cloud.tickets.precision import precisions, wilson
from cloud.tickets.retry import pause_ms, verdict_of
from cloud.tickets.settings import Prognosis, load_policy
from cloud.tickets.sla import Clock
from cloud.tickets.watch import Heard, silent

HOUR_MS = 3_600_000
POLICY = load_policy()


def prognosis(probability: float, hours: int, calibrated: bool = True) -> Prognosis:
    return Prognosis(probability, hours * HOUR_MS, calibrated, "prognosis-1")


@pytest.mark.parametrize(
    ("prognoses", "tier"),
    [
        ([], Tier.UNRATED),
        ([prognosis(0.99, 48, calibrated=False)], Tier.UNRATED),  # nothing is red without a calibrated probability
        ([prognosis(0.91, 48)], Tier.RED),
        ([prognosis(0.90, 48)], Tier.YELLOW),  # red is more than 90 %
        ([prognosis(0.95, 49)], Tier.YELLOW),  # not within 48 h
        ([prognosis(0.60, 168)], Tier.YELLOW),
        ([prognosis(0.59, 168)], Tier.UNRATED),
        ([prognosis(0.75, 24 * 30)], Tier.BLUE),
        ([prognosis(0.99, 24 * 31)], Tier.UNRATED),
        ([prognosis(0.3, 48), prognosis(0.7, 168)], Tier.YELLOW),
        ([prognosis(0.95, 48), prognosis(0.2, 168, calibrated=False)], Tier.RED),
    ],
)
def test_a_tier_needs_a_calibrated_probability_within_its_time(prognoses: list[Prognosis], tier: Tier) -> None:
    assert POLICY.tier_of("coolant_leak", prognoses) is tier


def test_a_due_date_is_blue_and_nothing_else_is_without_a_probability() -> None:
    assert POLICY.tier_of("yearly_check_due") is Tier.BLUE
    assert POLICY.tier_of("coolant_leak") is Tier.UNRATED


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[tiers.red]\nprobability = 90", "tiers.red.probability: Expected `float` <= 1".replace("`", "")),
        ("[tiers.red]\nprobability = 0.3", "tiers.red.probability: expected at least 0.5, found 0.3"),
        ("[tiers.yellow]\nprobability = 0.95", "tiers.yellow.probability: expected at most that of red (0.9)"),
        ('[tiers.red]\nwithin = "30d"', "tiers.yellow.within: expected at least that of red (30d), found 7d"),
        ('[tiers.unrated]\nprobability = 0.1\nwithin = "1d"', "tiers.unrated: expected no probability"),
        ('[tiers.red]\nowner = ["pigeon"]', "tiers.red.owner[0]: Invalid enum value 'pigeon'"),
        ('[hold_off]\nafter_false_alarm = "a fortnight"', "hold_off.after_false_alarm"),
        ("[hold_of]\nx = 1", "unknown field hold_of"),
        ('[[inhibition]]\ncause = "a"\nhides = ["*"]', "inhibition[0].hides: expected other fault codes than the cause 'a'"),
        ('[[webhook]]\nname = "w"\nurl = "ftp://x"\nsecret_file = "s"', "webhook[0].url"),
        ('[[webhook]]\nname = "w"\nurl = "https://x"\nsecret_file = "none"', "none: the secret of webhook 'w' cannot be read"),
        ("[tiers", "expected the ticket policy in TOML"),
    ],
)
def test_a_policy_that_cannot_be_used_is_one_line_with_file_and_key(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "tickets.toml"
    path.write_text(text)
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    assert words in str(caught.value).replace("`", "")
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_policy_leaves_out_is_as_shipped(tmp_path: Path) -> None:
    (tmp_path / "tickets.toml").write_text("[budget]\npushes_a_week = 0\n")
    policy = load_policy(tmp_path / "tickets.toml")
    assert (policy.budget.pushes_a_week, policy.budget.warnings_a_month) == (0, 2)
    assert policy.tiers == POLICY.tiers


def test_no_data_is_not_recovery_and_does_not_undo_one() -> None:
    assert condition_of([Span(1, None)], has_data=False) is Condition.NO_DATA
    assert condition_of([Span(1, 2)], has_data=False) is Condition.RECOVERED
    assert condition_of([Span(1, None, Level.SEEN)]) is Condition.PENDING
    assert condition_of([Span(1, None, Level.SEEN), Span(1, None)]) is Condition.ACTIVE


def test_silence_is_measured_from_when_somebody_listened() -> None:
    limits = (15 * 60_000, 7 * DAY_MS)
    assert silent(Heard(0), 0, 15 * 60_000, *limits)
    assert not silent(Heard(0), 60_000, 15 * 60_000, *limits)  # the cloud itself was away for the first minute
    assert not silent(Heard(0, asleep=True), 0, 6 * DAY_MS, *limits)
    assert silent(Heard(0, asleep=True), 0, 7 * DAY_MS, *limits)


def test_a_false_alarm_is_held_off_until_it_clears_and_fourteen_days_more() -> None:
    pause = 14 * DAY_MS
    assert held_off(raised_ms=100 * DAY_MS, verdict_ms=DAY_MS, still_active=True, cleared_ms=None, pause_ms=pause)
    assert held_off(16 * DAY_MS, DAY_MS, False, 3 * DAY_MS, pause)
    assert not held_off(17 * DAY_MS, DAY_MS, False, 3 * DAY_MS, pause)
    assert held_off(14 * DAY_MS, DAY_MS, False, 0, pause)  # cleared before the verdict: counted from the verdict
    assert not held_off(15 * DAY_MS, DAY_MS, False, 0, pause)


def test_ten_thousand_repeats_leave_a_few_lines() -> None:
    assert sum(map(worth_a_line, range(1, 10_001))) == 18


def test_flapping_is_turning_without_a_rest() -> None:
    flaps = Flaps()
    for second in range(10):
        flaps = flaps.turned(second * 1000, 600_000)
    assert flaps.flapping(10_000, 6, 600_000)
    assert not flaps.flapping(9_000 + 600_000, 6, 600_000)
    assert flaps.turned(9_000 + 600_000, 600_000).turns == 1


def test_red_is_never_withheld_counts_and_displaces() -> None:
    told = [Told(0, Tier.YELLOW, push=True)]
    assert "1 pushes in 7 days" in withheld(told, Tier.YELLOW, True, DAY_MS, 1, 2)
    assert withheld(told, Tier.BLUE, False, DAY_MS, 1, 2) == ""  # a reminder is no push
    assert withheld(told, Tier.YELLOW, True, 7 * DAY_MS, 1, 2) == ""
    both = [*told, Told(8 * DAY_MS, Tier.RED, push=True)]
    assert withheld(both, Tier.RED, True, 9 * DAY_MS, 1, 2) == ""
    assert "2 warnings in 30 days" in withheld(both, Tier.BLUE, False, 9 * DAY_MS, 1, 2)
    waiting = [Told(0, Tier.YELLOW, True, gone=False, id=1), Told(1, Tier.BLUE, False, gone=False, id=2), Told(2, Tier.RED, True, False, 3)]
    assert displaced(waiting, 3, 1, 2) == [2, 1]  # the least urgent first, and the yellow push gives way to the red one
    assert displaced([Told(0, Tier.YELLOW, True, gone=True, id=1), waiting[2]], 3, 1, 2) == []  # what is gone is gone


def test_a_clock_keeps_what_has_run_when_it_pauses() -> None:
    clock = Clock(0, 1000).turned(False, 4000)
    assert (clock.elapsed(99_000), clock.since_ms) == (3000, None)
    again = clock.turned(True, 10_000)
    view = again.view(5000, False, 11_000)
    assert (view.elapsed_ms, view.due_ms, view.paused, view.breached) == (4000, 12_000, False, False)
    assert again.view(5000, False, 12_001).breached
    assert clock.view(5000, False, 99_000).due_ms is None
    assert Clock(0, 5000).elapsed(1000) == 0  # the wall clock was set back


def test_the_interval_is_wilsons() -> None:
    low, high = wilson(8, 10)
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)  # Newcombe 1998's method 3, computed by hand
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(5, 5)[1] == 1.0
    assert wilson(0, 5)[0] == 0.0
    found = precisions(
        [("p", "red", "confirmed", 8), ("p", "red", "false alarm", 1), ("p", "red", "no fault found", 1), ("p", "red", None, 3)]
    )
    assert [(one.right, one.wrong, one.undecided, one.share) for one in found] == [(8, 2, 3, 0.8)]
    assert (found[0].low, found[0].high) == (low, high)


def test_a_retrys_pause_doubles_to_an_hour_and_honours_what_is_asked() -> None:
    assert [pause_ms(attempt, 0.999) // 1000 for attempt in (1, 2, 3, 12)] == [4, 9, 19, 3596]
    assert pause_ms(1, 0.0) == 500
    assert pause_ms(1, 0.5, 60_000) == 60_000
    assert pause_ms(1, 0.5, 10**9) == 3_600_000
    assert [verdict_of(status) for status in (200, 204, 301, 404, 410, 500, None)] == [
        "delivered",
        "delivered",
        "again",
        "again",
        "dead",
        "again",
        "again",
    ]
