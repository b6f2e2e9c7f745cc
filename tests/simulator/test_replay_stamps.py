"""Stamps of a log become times that never go back."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.replay_stamps import LONGEST_GAP_NS, SURE_FRAMES, SteadyStamps

S = 1_000_000_000
DAY_S = 86_400


def placed(seconds: list[float], blocks: list[int] | None = None) -> tuple[list[float], SteadyStamps]:
    """The times in seconds of stamps that come in blocks of these sizes (one block), as the timetable feeds them."""
    stamps = np.array([round(second * S) for second in seconds], np.int64)
    steady, found, waiting = SteadyStamps(), [], np.zeros(0, np.int64)
    edges = np.cumsum(blocks or [len(seconds)])
    for part in [*np.split(stamps, edges), None]:
        if part is not None:
            waiting = np.concatenate([waiting, part])
        at_ns = steady.place(waiting, at_end=part is None)
        found += at_ns.tolist()
        waiting = waiting[len(at_ns) :]
    assert not len(waiting)
    return [at_ns / S for at_ns in found], steady


def test_stamps_that_rise_are_kept() -> None:
    assert placed([5.0, 5.0, 5.2, 6.1])[0] == [5.0, 5.0, 5.2, 6.1]


def test_a_frame_a_little_earlier_than_the_one_before_is_due_at_once() -> None:
    assert placed([5.0, 5.3, 5.1, 5.4])[0] == [5.0, 5.3, 5.3, 5.4]


def test_a_gap_is_kept_and_one_of_more_than_a_day_is_cut_to_a_second() -> None:
    run = [100 + number / 10 for number in range(SURE_FRAMES)]
    assert placed([0.0, *run])[0] == [0.0, *run]
    found, steady = placed([0.0, *[second + 2 * DAY_S for second in run]])
    assert found == pytest.approx([0.0, *[second - 99 for second in run]])
    assert steady.gaps_cut == 1


@pytest.mark.parametrize("wild", [4e9, 60.0, -60.0, -1e9])
def test_a_few_stray_stamps_are_due_with_the_frame_before_them(wild: float) -> None:
    found, steady = placed([0.0, 0.1, wild, wild, 0.2, 0.3])
    assert found == [0.0, 0.1, 0.1, 0.1, 0.2, 0.3]
    assert (steady.stray, steady.set_back, steady.gaps_cut) == (2, 0, 0)


def test_a_clock_that_was_set_back_goes_on_where_it_was() -> None:
    found, steady = placed([1000.0, 1000.5, *[400 + number / 10 for number in range(20)]])
    assert found == pytest.approx([1000.0, 1000.5, *[1000.5 + number / 10 for number in range(20)]])
    assert steady.set_back == 1


def test_a_sparse_log_keeps_its_times() -> None:
    seconds = [10.0 * number for number in range(30)]
    assert placed(seconds)[0] == placed(seconds, [1] * 30)[0] == seconds


def test_the_last_frames_of_a_log_are_believed() -> None:
    assert placed([0.0, 0.1, 50.0])[0] == [0.0, 0.1, 50.0]


def test_stamps_at_the_ends_of_int64_do_no_harm() -> None:
    found, _ = placed([-9e9, 9e9, -9e9, 9e9, 0.0, 0.1])
    assert all(later >= earlier for earlier, later in itertools.pairwise(found))


steps = st.sampled_from([0.0, 0.001, 0.3, 0.999, 1.001, 30.0, 4000.0, -0.5, -1.001, -4000.0, DAY_S * 3.0])


@given(st.lists(steps, min_size=1, max_size=60), st.lists(st.integers(1, 9), max_size=20))
def test_times_never_go_back_and_do_not_depend_on_the_blocks(step_s: list[float], blocks: list[int]) -> None:
    seconds = np.cumsum(step_s).tolist()
    found, _ = placed(seconds)
    assert found == placed(seconds, blocks)[0]
    assert all(0 <= later - earlier <= LONGEST_GAP_NS / S for earlier, later in itertools.pairwise(found))
