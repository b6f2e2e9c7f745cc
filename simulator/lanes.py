"""Fewer cars beside each other: those that have not come to the end of their time go on alone, exactly as they were."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.play import Play
from simulator.state import State

__all__ = ["narrowed"]

Numbers = NDArray[np.intp]


def narrowed(play: Play, lanes: Numbers) -> Play:
    """A play of these of the vehicles (by their places in it), which goes on where `play` is. They are fewer than all.

    All that a car is lies in arrays with one axis over the vehicles (a test holds the model to it), so these are taken over one by one.
    """
    cast = play.cars.cast
    vehicles = [play.vehicles[lane] for lane in lanes.tolist()]
    later_s = [cast.later_s[lane] for lane in lanes.tolist()] if cast.later_s else ()
    few = Play(play.what, play.seed, vehicles, cast.start_ns, later_s)
    _take(play.cars, few.cars, lanes, play.state, few.state, set())
    few.state.block[:] = play.state.block[:, lanes]
    return few


def _take(old: Any, new: Any, lanes: Numbers, old_state: State, new_state: State, seen: set[int]) -> None:
    if id(new) in seen or isinstance(new, State):
        return
    seen.add(id(new))
    for key, value in _parts(new):
        before = _part(old, key)
        if isinstance(value, np.ndarray):
            if np.may_share_memory(before, old_state.block):
                continue  # a view of the state, which is taken over as a whole
            axes = [axis for axis, (many, few) in enumerate(zip(before.shape, value.shape, strict=True)) if many != few]
            if len(axes) != 1 or before.shape[axes[0]] != old_state.vehicles:
                continue  # not of vehicles
            mine = before.take(lanes, axes[0])
            if np.may_share_memory(value, new_state.block):
                setattr(new, key, mine)
            else:
                value[...] = mine
        elif isinstance(value, dict | list) or type(value).__module__.startswith("simulator."):
            _take(before, value, lanes, old_state, new_state, seen)


def _parts(of: Any) -> list[tuple[Any, Any]]:
    if isinstance(of, dict):
        return list(of.items())
    if isinstance(of, list):
        return list(enumerate(of))
    return list(getattr(of, "__dict__", {}).items())


def _part(of: Any, key: Any) -> Any:
    return of[key] if isinstance(of, dict | list) else getattr(of, key)
