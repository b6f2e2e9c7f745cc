"""The threshold stage: N of M raise, M quiet ticks clear, and nothing else does."""

from collections.abc import Sequence

from models.alarm import Alarm, AlarmState, Transition

RULE = Alarm(raise_at=10.0, clear_below=5.0, need=3, of=4, warmup=2, gap_ms=5000)


def run(
    scores: Sequence[float | None], rule: Alarm = RULE, state: AlarmState | None = None, start: int = 0
) -> tuple[AlarmState, list[tuple[int, str]]]:
    state = state or AlarmState()
    events = []
    for at, score in enumerate(scores):
        state, transition = rule.step(state, score, start + 1000 * at)
        if transition is not None:
            events.append((at, transition.name))
    return state, events


def test_three_of_four_ticks_raise_it_and_since_is_the_first_of_them() -> None:
    state, events = run([0, 0, 11, 1, 11, 12])
    assert events == [(5, "RAISED")]
    assert state.active
    assert state.since_ms == 2000


def test_three_ticks_that_are_too_far_apart_do_not() -> None:
    assert run([0, 0, 11, 1, 1, 11, 1, 1, 11])[1] == []


def test_the_threshold_itself_counts_as_over() -> None:
    assert run([0, 0, 10, 10, 10])[1] == [(4, "RAISED")]


def test_the_warm_up_is_looked_at_and_not_judged() -> None:
    assert run([99, 99, 99, 99])[1] == []
    assert run([99, 99, 99, 99, 99])[1] == [(4, "RAISED")]


def test_a_score_between_the_thresholds_neither_raises_nor_clears() -> None:
    state, events = run([0, 0, 11, 11, 11, *[7] * 50])
    assert events == [(4, "RAISED")]
    assert state.active


def test_quiet_ticks_in_a_row_clear_it_and_one_that_is_not_begins_anew() -> None:
    state, events = run([0, 0, 11, 11, 11, 1, 1, 1, 6, 1, 1, 1, 1])
    assert events == [(4, "RAISED"), (12, "CLEARED")]
    assert not state.active
    assert state.since_ms is None


def test_it_can_be_raised_again_after_it_was_cleared() -> None:
    assert [name for _, name in run([0, 0, 11, 11, 11, 1, 1, 1, 1, 11, 11, 11])[1]] == ["RAISED", "CLEARED", "RAISED"]


def test_no_score_changes_nothing_and_no_data_is_not_recovery() -> None:
    active, _ = run([0, 0, 11, 11, 11])
    same, events = run([None] * 100, state=active, start=5000)
    assert same == active
    assert events == []


def test_a_gap_forgets_the_ticks_before_it_and_warms_up_again_but_keeps_an_active_alarm() -> None:
    almost, _ = run([0, 0, 11, 11])
    assert run([11, 11, 11, 11], state=almost, start=60_000)[1] == []
    active, _ = run([0, 0, 11, 11, 11])
    after, events = run([0, 0, 0, 0, 0], state=active, start=60_000)
    assert events == []
    assert after.active
    assert after.since_ms == 2000
    assert run([0], state=after, start=65_000)[1] == [(0, "CLEARED")]


def test_a_tick_that_is_not_newer_is_ignored() -> None:
    state, _ = run([0, 0, 11, 11])
    assert RULE.step(state, 99.0, 3000) == (state, None)
    assert RULE.step(state, 99.0, 4000)[1] is Transition.RAISED
