"""Frame identifiers to messages: a table for 11-bit ones, a hash without collisions for 29-bit ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dbc.frames import EFF_FLAG, SFF_MASK, FrameBlock
from dbc.plan import DecodePlan

__all__ = ["Identifiers"]

Index = NDArray[np.intp]

STANDARD_IDS = SFF_MASK + 2  # the last stands for every longer identifier, and for one with flags
LONGER = np.uint32(SFF_MASK + 1)
HASH_BITS = range(8, 18)
MULTIPLIERS = 64  # tried at each size
GOLDEN = 0x9E37_79B9_7F4A_7C15  # 2**64 / golden ratio: Knuth's multiplicative hash


class Identifiers:
    """Finds what belongs to each frame of a block: `of_message` by message, 0 for frames that no DBC knows."""

    def __init__(self, plan: DecodePlan, schema_channels: tuple[str, ...], of_message: Index) -> None:
        self._channels = schema_channels
        self._maps: dict[tuple[str, ...], Index] = {}
        standard = np.zeros((len(schema_channels) + 1) * STANDARD_IDS, np.intp)  # the last channel is "in no DBC"
        is_standard = (plan.message_key & np.uint64(EFF_FLAG)) == 0
        keys = plan.message_key[is_standard]
        place = (keys >> np.uint64(32)).astype(np.intp) * STANDARD_IDS + (keys & np.uint64(SFF_MASK)).astype(np.intp)
        standard[place] = of_message[is_standard]
        self._standard = standard
        self._extended = _Hash(plan.message_key[~is_standard], of_message[~is_standard])

    def match(self, block: FrameBlock) -> Index:
        """(n,) of each frame. Remote and error frames have flags that no key has, and match none."""
        channel = self._channel_map(block.channels)
        place = np.minimum(block.frame_id, LONGER).astype(np.intp)
        if len(channel) > 1:
            place += channel.take(block.channel)
        elif channel[0]:
            place += channel[0]
        found = self._standard.take(place)
        if self._extended:
            other = np.flatnonzero(block.frame_id & np.uint32(EFF_FLAG))
            if len(other):
                key = block.frame_id.take(other).astype(np.uint64)
                key |= (channel // STANDARD_IDS).astype(np.uint64).take(block.channel.take(other)) << np.uint64(32)
                found[other] = self._extended.find(key)
        return found

    def _channel_map(self, channels: tuple[str, ...]) -> Index:
        """Of a block's channels: first place in the table; that of the channel after the last where no DBC is for it."""
        known = self._maps.get(channels)
        if known is None:
            there = self._channels
            known = np.array([there.index(name) if name in there else len(there) for name in channels] or [len(there)], np.intp)
            known *= STANDARD_IDS
            self._maps[channels] = known
        return known


class _Hash:
    """A multiplier and a size without collisions are looked for once; where there are none, keys are searched for."""

    def __init__(self, keys: NDArray[np.uint64], values: Index) -> None:
        self._keys, self._values = keys, values  # sorted by key
        self._multiplier = self._shift = np.uint64(0)
        self._places: Index | None = None
        for bits in HASH_BITS:
            if 1 << bits < len(keys):
                continue
            for number in range(MULTIPLIERS):
                multiplier, shift = np.uint64(GOLDEN * (2 * number + 1) & 2**64 - 1), np.uint64(64 - bits)
                place = (keys * multiplier >> shift).astype(np.intp)
                if len(np.unique(place)) == len(keys):
                    self._multiplier, self._shift = multiplier, shift
                    self._places = np.zeros(1 << bits, np.intp)
                    self._places[place] = np.arange(len(keys))
                    return

    def __bool__(self) -> bool:
        return len(self._keys) > 0

    def find(self, key: NDArray[np.uint64]) -> Index:
        if self._places is not None:
            near = self._places.take((key * self._multiplier >> self._shift).astype(np.intp))
        else:
            near = np.minimum(self._keys.searchsorted(key), len(self._keys) - 1)
        found: Index = self._values.take(near)
        found *= self._keys.take(near) == key
        return found
