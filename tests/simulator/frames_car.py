"""What the tests of frames and ticks share: one car's drive with the model's values beside its frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dbc.compiler import CompiledDbc
from dbc.decoder import Decoder
from dbc.frames import FrameBlock
from simulator.cars import Cars
from simulator.cast import START_NS, Cast
from simulator.trip import CarFrames

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Driven:
    """blocks: a second each. ends: (seconds + 1, signals) the model's values at every second's end, without noise."""

    blocks: list[FrameBlock]
    ends: Values


def drive(
    compiled: CompiledDbc, seconds: int, seed: int = 1, plan: str = "drive", noise: float = 1.0, fixed: Mapping[str, float] | None = None
) -> Driven:
    cars = Cars(Cast(seed=seed, plan=plan, fixed=dict(fixed or {})))
    frames = CarFrames(cars, compiled, START_NS, noise=noise)
    blocks, ends = [], [frames.values.copy()]
    for _ in range(seconds):
        blocks.append(frames.second())
        ends.append(frames.values.copy())
    return Driven(blocks, np.array(ends))


def decoded(compiled: CompiledDbc, blocks: list[FrameBlock]) -> tuple[NDArray[np.int64], NDArray[np.int32], Values, NDArray[np.uint8]]:
    """(p,) each, of every value in the frames: stamp, signal, value, reason."""
    decoder = Decoder(compiled, blocks[0].channels)
    parts = [decoder.decode(block) for block in blocks]
    return (
        np.concatenate([part.timestamp_ns for part in parts]),
        np.concatenate([part.signal for part in parts]),
        np.concatenate([part.value for part in parts]),
        np.concatenate([part.reason for part in parts]),
    )
