"""The simulator: ticks of a thousand vehicles against one vehicle at a time, frames of one car against real time.

Both run on one core; its time is the process's CPU time, so that other work on the machine does not count.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np

from cansight.benchmarks.material import Material
from cansight.benchmarks.result import ROUNDS, Result

VEHICLES = 1000
WARM_S = 20  # until all drive
TICKS, ALONE_TICKS = 20, 60  # of a turn
LEAST_TICKS = 100_000.0  # vehicle-seconds a second
FRAMES_S = 30
LEAST_SPEED = 20.0  # times real time
SEED = 1


def sim_ticks(material: Material) -> list[Result]:
    """Vehicles that drive, all signals, with noise, in raw steps; the truth of a vehicle is the same alone and among a thousand."""
    from dbc.compiler import compile_dbc
    from dbc.vehicles import DBC_FILES
    from simulator.cars import Cars
    from simulator.cast import START_NS, Cast
    from simulator.ticks import Ticks

    schema = compile_dbc(DBC_FILES).schema
    many = Ticks(Cars(Cast(SEED, tuple(range(VEHICLES)))), schema, START_NS, (SEED,), np.float32)
    alone = Ticks(Cars(Cast(SEED, (VEHICLES // 2,))), schema, START_NS, (SEED,), np.float32)
    values, value = np.empty((1, len(schema), VEHICLES), np.float32), np.empty((1, len(schema), 1), np.float32)
    for _ in range(WARM_S):
        many.next(1, values)
        alone.next(1, value)
    if not np.allclose(many.model.state.block[:, VEHICLES // 2], alone.model.state.block[:, 0], rtol=1e-9, atol=1e-9):
        raise AssertionError("a vehicle is not the same alone and among others")
    taken = _cpu_s(lambda: [many.next(1, values) for _ in range(TICKS)], lambda: [alone.next(1, value) for _ in range(ALONE_TICKS)])
    ours, rival = VEHICLES * TICKS / taken[0], ALONE_TICKS / taken[1]
    what = f"ticks of {VEHICLES:,} driving vehicles, {len(schema)} signals with noise, float32, one core"
    return [
        Result("sim-ticks", what, "one vehicle at a time", "vehicle-s/s", ours, rival, ours / rival),
        Result("sim-ticks", what, "promised", "vehicle-s/s", ours, LEAST_TICKS, ours / LEAST_TICKS, 1.0),
    ]


def sim_frames(material: Material) -> list[Result]:
    """A healthy drive on three buses, from the model to blocks of frames; two runs give the same bytes."""
    from dbc.compiler import compile_dbc
    from dbc.vehicles import DBC_FILES
    from simulator import Trip, scenario

    compiled = compile_dbc(DBC_FILES)
    what = scenario("healthy")
    one, two = (Trip(what, SEED, compiled=compiled) for _ in range(2))
    frames = 0
    for _ in range(WARM_S):
        block, again = one.second(), two.second()
        if not (np.array_equal(block.data, again.data) and np.array_equal(block.timestamp_ns, again.timestamp_ns)):
            raise AssertionError("two runs of one seed differ")
        frames = len(block)
    (taken,) = _cpu_s(lambda: [one.second() for _ in range(FRAMES_S)])
    speed = FRAMES_S / taken
    text = f"frames of one car, {frames:,} a second on three buses, {len(compiled.schema)} signals, one core"
    return [Result("sim-frames", text, "real time", "s/s", speed, 1.0, speed, LEAST_SPEED)]


def _cpu_s(*sides: Callable[[], object]) -> list[float]:
    """Median CPU seconds of one turn of each side; they take turns."""
    seconds: list[list[float]] = [[] for _ in sides]
    for _ in range(ROUNDS):
        for taken, side in zip(seconds, sides, strict=True):
            start = time.process_time()
            side()
            taken.append(time.process_time() - start)
    return [statistics.median(taken) for taken in seconds]
