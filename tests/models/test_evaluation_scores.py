"""NAB score and VUS-PR: hand-worked examples, the references' own values, and what must hold for any score."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.nab import PROFILES, Profile, nab_parts, scaled_sigmoid
from models.evaluation.vus import vus_pr

EVEN = Profile(1.0, 1.0, 1.0)
# Weights and expected values of the benchmark's own tests (numenta/NAB, tests/unit/scorer_test.py and tests/integration/scorer_test.py).
THEIRS = Profile(1.1, 0.11, 1.2)


def test_sigmoid_has_the_published_values() -> None:
    assert scaled_sigmoid(-1.0) == pytest.approx(0.98661, abs=5e-6)
    assert scaled_sigmoid(-0.5) == pytest.approx(0.84828, abs=5e-6)
    assert scaled_sigmoid(0.0) == 0.0
    assert scaled_sigmoid(1.0) == pytest.approx(-0.98661, abs=5e-6)
    assert scaled_sigmoid(3.0) == -1.0


@pytest.mark.parametrize(
    ("windows", "detections", "profile", "raw"),
    [
        ([], [], THEIRS, 0.0),
        ([], [1, 3], THEIRS, -2 * 0.11),
        ([(1, 2), (4, 5)], [], THEIRS, -2 * 1.2),
        ([(1, 2)], [2], THEIRS, 0.8482836399575131 * 1.1 / 0.9866142981514305),
        ([(1, 2), (4, 5)], [2], THEIRS, 0.8482836399575131 * 1.1 / 0.9866142981514305 - 1.2),
        ([(4, 5)], [4, 5], THEIRS, 1.1),
        ([(1, 2), (4, 5)], [2, 4], THEIRS, 0.8482836399575131 * 1.1 / 0.9866142981514305 + 1.1),
        ([(20, 24), (60, 64)], [20, 21, 27], EVEN, -0.9540),  # a hit, a second one, one behind the window, a miss
    ],
)
def test_nab_gives_what_the_benchmark_gives(windows: list[tuple[int, int]], detections: list[int], profile: Profile, raw: float) -> None:
    assert nab_parts(windows, detections, profile).raw == pytest.approx(raw, abs=5e-5)


def test_nab_is_0_for_silence_and_100_for_a_perfect_detector() -> None:
    windows = [(10, 30), (50, 80)]
    for profile in PROFILES.values():
        parts = nab_parts(windows, [10, 50], profile)
        assert parts.raw == pytest.approx(parts.perfect)
        assert nab_parts(windows, [], profile).raw == parts.null


# One score over 600 ticks with three labels, one of which runs to the end; values of the authors' `vus` 0.0.6, RangeAUC_volume_opt.
ROWS = np.arange(600)
LABEL = ((ROWS >= 100) & (ROWS < 160)) | ((ROWS >= 180) & (ROWS < 190)) | (ROWS >= 450)
SCORE = np.round(np.abs(np.sin(ROWS * ROWS * 0.37)) + 0.8 * ((ROWS >= 120) & (ROWS < 200)) + 0.3 * (ROWS > 500), 3)


@pytest.mark.parametrize(
    ("window", "expected"),
    [(0, 0.5711793590007059), (1, 0.5711793590007059), (7, 0.5999940462838158), (40, 0.7320452942159889), (100, 0.8067083677947826)],
)
def test_vus_pr_is_that_of_its_authors(window: int, expected: float) -> None:
    assert vus_pr(LABEL, SCORE, window) == pytest.approx(expected, abs=1e-12)


def test_vus_pr_by_hand() -> None:
    """Four ticks, the last faulty, no slope. Over 250 thresholds every one of the four ranks is a threshold."""
    label = np.array([False, False, False, True])
    assert vus_pr(label, np.array([0.1, 0.2, 0.3, 0.9]), 0) == 1.0
    assert vus_pr(label, np.array([0.1, 0.2, 0.9, 0.3]), 0) == 0.5  # found at the second rank: precision 1/2
    assert vus_pr(label, np.array([0.2, 0.3, 0.9, 0.1]), 0) == 0.25


def test_vus_pr_of_a_score_that_knows_nothing_is_the_share_of_labels() -> None:
    random = np.random.default_rng(11)
    label = np.zeros(3000, bool)
    label[400:700] = label[2000:2300] = True
    values = [vus_pr(label, random.random(3000), 0) for _ in range(40)]
    assert np.mean([value for value in values if value is not None]) == pytest.approx(0.2, abs=0.01)
    assert vus_pr(label, np.zeros(3000), 0) == pytest.approx(0.2)


def test_vus_pr_needs_both_kinds_of_label() -> None:
    assert vus_pr(np.zeros(10, bool), np.ones(10), 3) is None
    assert vus_pr(np.ones(10, bool), np.ones(10), 3) is None


@given(st.integers(0, 2**32 - 1), st.integers(0, 30))
@settings(max_examples=30, deadline=None)
def test_vus_pr_looks_at_ranks_alone_and_is_a_share(seed: int, window: int) -> None:
    random = np.random.default_rng(seed)
    label = np.repeat(random.random(20) < 0.4, 15)
    score = random.integers(0, 20, 300).astype(float)
    value = vus_pr(label, score, window)
    if value is None:
        assert label.all() or not label.any()
        return
    assert 0 <= value <= 1 + 1e-12
    assert vus_pr(label, 3 * score + 7, window) == value
