"""Random numbers that depend on (seed, vehicle, purpose, counter) and on nothing else.

A vehicle's course must be the same whether it is simulated alone or among a thousand, and whichever second comes first. So numbers are not
drawn one after another from a stream; each is a hash of its place: the 64-bit mixer of Steele, Lea and Flood, "Fast splittable pseudorandom
number generators", OOPSLA 2014 (SplitMix64), which passes BigCrush on a counter.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simulator.state import Array

__all__ = ["Dice", "Gusts", "Numbers"]

Words = NDArray[np.uint64]
Numbers = NDArray[np.intp]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MASK = 0xFFFF_FFFF_FFFF_FFFF


def _mixed(x: Words) -> Words:
    x = x ^ (x >> np.uint64(30))
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


@functools.cache
def _purpose(name: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little"))


class Dice:
    """Of vehicles: seed is the fleet's, numbers are the vehicles' numbers in it (n)."""

    def __init__(self, seed: int, numbers: Sequence[int]) -> None:
        start = _mixed(np.array([seed & MASK, seed >> 64 & MASK], np.uint64))
        with np.errstate(over="ignore"):
            self.key: Words = _mixed(np.asarray(numbers, np.uint64) * GOLDEN + start[0] + start[1] * GOLDEN)

    def words(self, purpose: str, count: int = 1, counter: NDArray[np.int64] | int = 0, of: Numbers | None = None) -> Words:
        """(count, n) random 64-bit words. counter: (n,) which draw of this purpose it is. of: only these vehicles."""
        key = self.key if of is None else self.key[of]
        place = np.asarray(counter).astype(np.uint64) * np.uint64(count) + np.arange(count, dtype=np.uint64)[:, None]
        return _mixed(_mixed(key ^ _purpose(purpose)) + place * GOLDEN)

    def uniform(
        self, purpose: str, low: float = 0.0, high: float = 1.0, counter: NDArray[np.int64] | int = 0, of: Numbers | None = None
    ) -> Array:
        """(n,) uniform numbers in [low, high)."""
        result: Array = low + (high - low) * self.uniforms(purpose, 1, counter, of)[0]
        return result

    def uniforms(self, purpose: str, count: int, counter: NDArray[np.int64] | int = 0, of: Numbers | None = None) -> Array:
        """(count, n) uniform numbers in [0, 1)."""
        return (self.words(purpose, count, counter, of) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def normals(self, purpose: str, count: int, counter: NDArray[np.int64] | int = 0, of: Numbers | None = None) -> Array:
        """(count, n) standard normal numbers (Box and Muller 1958)."""
        pairs = self.uniforms(purpose, 2 * count, counter, of)
        result: Array = np.sqrt(-2 * np.log1p(-pairs[:count])) * np.cos(2 * np.pi * pairs[count:])
        return result

    def normal(self, purpose: str, mean: float = 0.0, deviation: float = 1.0, most: float = np.inf) -> Array:
        """(n,) normal numbers; none is further than `most` from the mean."""
        result: Array = mean + np.clip(deviation * self.normals(purpose, 1)[0], -most, most)
        return result

    def choice(self, purpose: str, values: Sequence[float], counter: NDArray[np.int64] | int = 0, of: Numbers | None = None) -> Array:
        """(n,) of the values, each as likely; repeat a value to make it more likely."""
        chosen: Array = np.asarray(values, np.float64)[(self.uniform(purpose, 0, len(values), counter, of)).astype(np.intp)]
        return chosen


class Gusts:
    """Unrest for every second: the sum of four uniform numbers, as good as normal for what only shakes (variance 1, within 3.46)."""

    def __init__(self, dice: Dice, purpose: str, count: int) -> None:
        self.key = _mixed(dice.key ^ _purpose(purpose))
        self.count = count
        self._offsets: Words = np.arange(count, dtype=np.uint64)[:, None] * GOLDEN

    def at(self, time_s: Array) -> Array:
        """(count, n) for the seconds time_s (n,)."""
        start = time_s.astype(np.uint64)
        start *= np.uint64(self.count)
        start *= GOLDEN
        start += self.key
        parts = _mixed(start + self._offsets).view(np.uint16).reshape(self.count, len(start), 4)
        total: Array = parts.sum(axis=2, dtype=np.float64)
        total -= 2 * 65535
        total *= 1 / (65536 * np.sqrt(4 / 12))
        return total
