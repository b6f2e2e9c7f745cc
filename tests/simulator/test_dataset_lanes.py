"""Cars that go on alone are the same cars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from simulator.lanes import narrowed
from simulator.play import Play
from simulator.scenario import scenario
from simulator.state import State

DAY_S = 86_400.0
LATER_S = [DAY_S * day for day in (0, 20, 30, 200, 272, 276, 279, 281, 283)]


STEPS = 2500


KEPT = ((0, 2, 3, 8), (5,), (1, 4, 6, 7, 8))


@dataclass
class Parting:
    """Nine cars go on together: their state before each step, what the step says, their phases after it. few: some of them, before that."""

    few: dict[tuple[int, ...], Play]
    blocks: list[NDArray[np.float64]]
    steps: list[NDArray[np.generic]]
    phases: list[list[int]]


@pytest.fixture(scope="module")
def parting() -> Parting:
    play = Play(scenario("fleet_year"), 3, [0, 10, 22, 47, 0, 31, 52, 68, 0], None, LATER_S)
    for _ in range(2000):
        play.advance()
    found = Parting({kept: narrowed(play, np.array(kept)) for kept in KEPT}, [], [], [])
    for _ in range(STEPS):
        found.blocks.append(play.state.block.copy())
        found.steps.append(play.advance().copy())
        found.phases.append(play.cars.journeys.phase.tolist())
    return found


@pytest.mark.parametrize("kept", KEPT)
def test_some_of_the_cars_go_on_as_they_do_among_all(kept: tuple[int, ...], parting: Parting) -> None:
    few, lanes = parting.few[kept], list(kept)
    for number in range(STEPS):
        # to the rounding of vector and scalar arithmetic, which a lane meets by its place
        assert np.allclose(parting.blocks[number][:, lanes], few.state.block, rtol=1e-9, atol=1e-9, equal_nan=True), number
        assert np.array_equal(parting.steps[number][lanes], few.advance())
    assert len({phases[lane] for phases in parting.phases for lane in lanes}) >= 3


def test_whatever_a_car_is_lies_in_arrays_over_the_vehicles() -> None:
    """What `narrowed` stands on: besides such arrays the model has only what is the same for all, or lasts for one step."""
    vehicles = 7
    play = Play(scenario("fleet_year"), 3, range(vehicles), None, LATER_S[:vehicles])
    before = _others(play.cars, vehicles, set())
    for _ in range(300):
        play.advance()
    assert _others(play.cars, vehicles, set()) == before


def _others(of: Any, vehicles: int, seen: set[int]) -> dict[str, Any]:
    """Numbers and texts that are not in such arrays, by the path of attributes."""
    if id(of) in seen or isinstance(of, State):
        return {}
    seen.add(id(of))
    found: dict[str, Any] = {}
    parts = of.items() if isinstance(of, dict) else enumerate(of) if isinstance(of, list | tuple) else vars(of).items()
    for key, value in parts:
        if isinstance(value, np.ndarray):
            if vehicles not in value.shape and str(key) != "new_day":
                found[str(key)] = value.tolist()
        elif isinstance(value, int | float | str | None):
            found[str(key)] = value
        elif isinstance(value, dict | list | tuple) or (type(value).__module__.startswith("simulator.") and hasattr(value, "__dict__")):
            found |= {f"{key}.{name}": other for name, other in _others(value, vehicles, seen).items()}
    return found
