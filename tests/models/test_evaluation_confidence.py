"""Confidence intervals against published tables, and against what they promise."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.confidence import binomial, bootstrap, poisson, quantile, rate, share, statistic
from models.evaluation.figures import event_auroc


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.3085), (1, 10, 0.0025, 0.4450), (5, 10, 0.1871, 0.8129), (10, 10, 0.6915, 1.0), (81, 263, 0.2527, 0.3676)],
)
def test_binomial_is_the_published_interval(successes: int, trials: int, low: float, high: float) -> None:
    """Of ten: Clopper and Pearson's table; 81 of 263: Newcombe 1998 (Statistics in Medicine 17), table I, method 5."""
    assert binomial(successes, trials) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("count", "low", "high"), [(0, 0.0, 3.689), (1, 0.02532, 5.572), (10, 4.795, 18.39), (100, 81.36, 121.6)])
def test_poisson_is_the_published_interval(count: int, low: float, high: float) -> None:
    """The exact limits as tables print them."""
    assert poisson(count, 1.0) == pytest.approx((low, high), rel=5e-4)


def test_ten_findings_in_two_thousand_months_are_under_the_promised_bound() -> None:
    """One-sided 95 % = the upper end of the two-sided 90 %: the product's arithmetic."""
    assert poisson(10, 2000.0, 0.90)[1] == pytest.approx(0.0085, abs=5e-5)


def test_nothing_seen_is_no_certainty() -> None:
    assert binomial(0, 0) == (0.0, 1.0)
    assert poisson(0, 0.0) == (0.0, math.inf)
    nothing = share(np.zeros(3), np.zeros(3))
    assert (nothing.value, nothing.low, nothing.high) == (None, None, None)
    none_false = rate(np.zeros(5), np.ones(5))
    assert none_false.value == 0.0
    assert none_false.high == pytest.approx(3.689 / 5, rel=1e-3)


@given(st.integers(1, 400), st.data())
@settings(max_examples=40, deadline=None)
def test_binomial_bounds_are_where_the_tails_are(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    low, high = binomial(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    mirrored = binomial(trials - successes, trials)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high), abs=1e-9)
    if successes:
        tail = sum(math.comb(trials, k) * low**k * (1 - low) ** (trials - k) for k in range(successes, trials + 1))
        assert tail == pytest.approx(0.025, abs=1e-6)


def test_findings_that_come_in_swarms_widen_the_interval() -> None:
    """Thirty false findings of one odd car are not thirty cars with one: the exact interval alone would promise too much."""
    one_car = rate(np.array([30.0] + [0.0] * 9), np.ones(10))
    spread = rate(np.array([1.0] * 10), np.ones(10))
    assert one_car.method == "wider of Garwood and bootstrap over drives"
    assert one_car.low == 0.0
    assert one_car.high is not None
    assert one_car.high > poisson(30, 10.0)[1]
    assert spread.method == "Garwood"


def test_bootstrap_of_a_mean_is_the_normal_one_and_the_same_each_time() -> None:
    values = np.random.default_rng(3).normal(5.0, 2.0, 400)
    counts = np.stack([values, np.ones(400)], axis=1)
    drawn = bootstrap(counts, lambda sums: sums[:, 0] / sums[:, 1])
    assert drawn is not None
    half = 1.96 * values.std(ddof=1) / 20
    assert drawn == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)
    assert drawn == bootstrap(counts, lambda sums: sums[:, 0] / sums[:, 1])
    alone = statistic(counts[:1], lambda sums: sums[:, 0] / sums[:, 1])
    assert (alone.low, alone.high, alone.method) == (None, None, "too few drives for an interval")


def test_drives_that_are_all_alike_leave_a_doubt() -> None:
    none_false = statistic(np.array([[0.0, 300.0]] * 60), lambda sums: sums[:, 0] / sums[:, 1])
    assert (none_false.value, none_false.low) == (0.0, 0.0)
    assert none_false.high == pytest.approx(binomial(0, 60)[1])
    all_right = statistic(np.array([[300.0, 300.0]] * 60), lambda sums: sums[:, 0] / sums[:, 1])
    assert (all_right.low, all_right.high) == (pytest.approx(binomial(60, 60)[0]), 1.0)


def test_quantile_is_bounded_by_order_statistics() -> None:
    """Of ten values the 2nd and 9th bound the median at 97.9 % (Conover's table of the binomial); of five no two do."""
    ten = quantile(np.arange(10.0, 110.0, 10.0), 0.5)
    assert (ten.value, ten.low, ten.high) == (55.0, 20.0, 90.0)
    five = quantile(np.arange(5.0), 0.5)
    assert (five.low, five.high) == (None, None)


def test_event_auroc_counts_pairs() -> None:
    events = [np.array([3.0, 1.0]), np.array([2.0])]
    blocks = [np.array([0.0, 1.0]), np.array([2.5])]
    # 3 beats all three; 1 beats one and ties one; 2 beats two: (3 + 1.5 + 2) of 9.
    assert event_auroc(events, blocks).value == pytest.approx(6.5 / 9)
    assert event_auroc([np.zeros(0)], [np.ones(3)]).value is None
