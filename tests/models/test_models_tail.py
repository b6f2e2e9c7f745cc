"""What a manifest promises is what unseen drives do: thresholds set on draws of known laws, against those laws."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from models.calibrate import thresholds
from models.manifest import Persistence
from models.tail import counted, effective_drives, fit_tail

Law = tuple[Callable[[np.random.Generator, int], NDArray[np.float64]], Callable[[float], float]]


def _over(z: float) -> float:
    return math.erfc(z / math.sqrt(2)) / 2


LAWS: dict[str, Law] = {
    "exponential": (lambda random, n: random.exponential(1, n), lambda x: math.exp(-x)),
    "squared normal, highest of 20": (
        lambda random, n: np.asarray((random.normal(size=(n, 20)) ** 2).max(axis=1)),
        lambda x: -math.expm1(20 * math.log1p(-2 * _over(math.sqrt(x)))),
    ),
    "lognormal": (lambda random, n: np.exp(random.normal(size=n)), lambda x: _over(math.log(x))),
    "heavy, third moment without end": (lambda random, n: random.pareto(3, n), lambda x: (1 + x) ** -3),
    "with an end": (lambda random, n: random.uniform(size=n), lambda x: max(0.0, 1 - x)),
}


@pytest.mark.parametrize("law", LAWS)
def test_the_promise_is_what_unseen_drives_do(law: str) -> None:
    draw, over = LAWS[law]
    random = np.random.default_rng(7)
    true, promised, kept = np.zeros((40, 2)), np.zeros((40, 2)), np.zeros((40, 2))
    for row in range(40):
        highest = draw(random, 525)
        tail = fit_tail(highest, 525)
        assert tail is not None
        for column, budget in enumerate((1e-3, 1e-4)):
            at = max(tail.threshold(budget), float(highest.max()))
            chance = tail.chance(at)
            true[row, column], promised[row, column], kept[row, column] = over(at), chance.expected, over(at) <= chance.upper
    assert (true.mean(axis=0) <= 2 * promised.mean(axis=0)).all()
    assert (kept.mean(axis=0) >= 0.85).all()  # of 40 draws, of a bound that is to hold in 95 of 100


def test_nothing_is_promised_beyond_a_tenth_of_what_counting_shows() -> None:
    tail = fit_tail(np.random.default_rng(1).exponential(1, 525), 525)
    assert tail is not None
    chance = tail.chance(1e6)
    assert chance.expected == pytest.approx(1 / 5260)
    assert chance.upper == pytest.approx((1 - 0.05 ** (1 / 525)) / 10)


def test_counting_is_right_whatever_the_law() -> None:
    random = np.random.default_rng(2)
    beyond = 1 - random.uniform(size=(20_000, 50)).max(axis=1)  # the true chance of being over the highest of 50
    chance = counted(50)
    assert beyond.mean() == pytest.approx(chance.expected, rel=0.03)
    assert (beyond <= chance.upper).mean() == pytest.approx(0.95, abs=0.01)


def test_drives_of_one_vehicle_count_for_fewer() -> None:
    random = np.random.default_rng(3)
    vehicle = np.repeat(np.arange(100), 10)
    apart = random.exponential(1, 1000)
    alike = np.repeat(random.exponential(1, 100), 10) + random.exponential(0.01, 1000)
    assert effective_drives(apart, vehicle) > 700
    assert 90 < effective_drives(alike, vehicle) < 130
    assert effective_drives(apart, np.arange(1000)) == 1000
    assert effective_drives(apart, np.repeat(np.arange(4), 250)) == 4


def test_confirmation_over_drives_is_counted_and_not_supposed() -> None:
    """Were a vehicle's drives independent, two of three would be far rarer than one; where it is as loud in all, they are not."""
    random = np.random.default_rng(4)
    persistence = Persistence(need=1, of=1, warmup_ticks=0, gap_s=5)
    vehicle = np.repeat(np.arange(3000), 4)
    apart = random.exponential(1, 12_000)
    alike = np.repeat(random.exponential(1, 3000), 4) + random.exponential(0.001, 12_000)
    found = []
    for highest in (apart, alike):
        _, _, budget = thresholds([np.array([one]) for one in highest], persistence, 1e-2, vehicle=vehicle, confirm=(2, 3))
        assert budget.finding is not None
        assert budget.ticket is not None
        found.append(budget.ticket.expected / budget.finding.expected)
    assert found[0] < 0.3
    assert found[1] > 0.5


def test_few_drives_promise_what_counting_shows() -> None:
    persistence = Persistence(need=1, of=1, warmup_ticks=0, gap_s=5)
    random = np.random.default_rng(5)
    for count, kind in ((3, "highest"), (40, "gumbel"), (600, "pareto")):
        threshold, calibration, budget = thresholds([random.exponential(1, 1) for _ in range(count)], persistence, 1e-3)
        assert (budget.tail, budget.drives) == (kind, count)
        assert threshold.raise_at > calibration.highest
        assert budget.finding is not None
        if kind != "pareto":
            assert budget.finding.expected == pytest.approx(1 / (count + 1))
