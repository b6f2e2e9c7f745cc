"""What happens to whole frames: lost ones, added ones, counters and checksums that are wrong.

Frames that are added take their place by their stamps between those that are there, whose stamps and order stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dbc.frames import FrameBlock, filled_flags
from simulator.checks import MessageChecks
from simulator.fields import Bytes, Field

__all__ = ["Added", "Babble", "damage_checksums", "insert", "keep", "stop_counter"]

Index = NDArray[np.intp]


@dataclass(frozen=True)
class Added:
    """a frames to be added to a block, each before the block's frame of this number."""

    before: Index  # (a,) 0..len(block)
    timestamp_ns: NDArray[np.int64]
    frame_id: int
    channel: int
    length: int
    data: Bytes  # (a, width of the block)


def keep(block: FrameBlock, these: NDArray[np.bool_]) -> FrameBlock:
    """The frames of the block that are true in (n,) `these`."""
    return FrameBlock(
        block.channels,
        block.timestamp_ns[these],
        block.frame_id[these],
        block.channel[these],
        block.length[these],
        np.ascontiguousarray(block.data[these]),
        block.entered_ns,
        None if block.flags is None else block.flags[these],
    )


def insert(block: FrameBlock, added: Added) -> FrameBlock:
    """The block with the frames between its own."""
    at = added.before
    return FrameBlock(
        block.channels,
        np.insert(block.timestamp_ns, at, added.timestamp_ns),
        np.insert(block.frame_id, at, np.uint32(added.frame_id)),
        np.insert(block.channel, at, np.uint8(added.channel)),
        np.insert(block.length, at, np.uint8(added.length)),
        np.ascontiguousarray(np.insert(block.data, at, added.data, axis=0)),
        block.entered_ns,
        None if block.flags is None else np.insert(block.flags, at, _flags(block, added)),
    )


def _flags(block: FrameBlock, added: Added) -> np.uint8:
    """Of CAN FD: as the block's frames of the same message have them."""
    assert block.flags is not None
    same = np.flatnonzero((block.frame_id == np.uint32(added.frame_id)) & (block.channel == added.channel))
    said: np.uint8 = block.flags[same[0]] if len(same) else filled_flags(None, np.array([added.length]))[0]
    return said


def stop_counter(checks: MessageChecks, data: Bytes, inside: NDArray[np.bool_], last: int | None) -> int | None:
    """Counters of (n, width) payloads stay at the last value before `inside` begins; checksums fit. Returns the last true value.

    last: of the frames before; None where there were none.
    """
    counter = checks.counter
    assert counter is not None
    before = np.flatnonzero(~inside)
    values = counter.read(data)
    if inside.any():
        first = int(np.flatnonzero(inside)[0])
        earlier = before[before < first]
        held = int(values[earlier[-1]]) if len(earlier) else int(values[first]) if last is None else last
        part = np.ascontiguousarray(data[inside])
        counter.write(part, np.full(len(part), held))
        checks.protect(part)
        data[inside] = part
        return held
    return int(values[-1]) if len(values) else last


def damage_checksums(checks: MessageChecks, data: Bytes, inside: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """Every checksum of the (n, width) payloads inside becomes another value than the right one, in place."""
    part = np.ascontiguousarray(data[inside])
    for rule in checks.checksums:
        right = rule.made(part, checks.counter)
        other = rng.integers(1, 1 << rule.field.place.bits, len(part))
        rule.field.place.write(part, (right ^ other).view(np.uint64))
    data[inside] = part


class Babble:
    """A message that is sent again and again, every `period_ns` from `from_ns` to `to_ns`, between its real frames.

    A babbling control unit repeats its last frame as it was: its counter stands still. An attacker counts on and puts the signal's forged
    value in, with a checksum that fits.
    """

    def __init__(
        self, from_ns: int, to_ns: int, period_ns: int, checks: MessageChecks, forged: tuple[Sequence[Field], float] | None
    ) -> None:
        self.to_ns, self.period_ns, self.checks, self.forged = to_ns, period_ns, checks, forged
        self.next_ns = from_ns
        self.counts = forged is not None and checks.counter is not None
        self._last: tuple[int, int, Bytes] | None = None  # frame id, channel, payload of the last real frame
        self._sent = 0  # forged since then

    def feed(self, block: FrameBlock, mine: Index) -> Added | None:
        """What is to be added to the block. mine: (m,) which of its frames are real ones of the message."""
        latest = np.maximum.accumulate(block.timestamp_ns)
        until = min(int(latest[-1]), self.to_ns - 1)
        due = np.arange(self.next_ns, until + 1, self.period_ns, dtype=np.int64)
        if len(due):
            self.next_ns = int(due[-1]) + self.period_ns
        before = np.searchsorted(latest, due, side="right")
        source = np.searchsorted(mine, before, side="left") - 1  # the real frame that came last; -1 = in an earlier block
        carried = self._last
        if carried is None:
            due, before, source = due[source >= 0], before[source >= 0], source[source >= 0]
        added = self._made(block, mine, due, before, source) if len(due) else None
        if len(mine):
            after = len(due) - int(np.searchsorted(source, len(mine) - 1)) if len(due) else 0
            at = int(mine[-1])
            self._last = (int(block.frame_id[at]), int(block.channel[at]), block.data[at, : int(block.length[at])].copy())
            self._sent = after
        else:
            self._sent += len(due)
        return added

    def _made(self, block: FrameBlock, mine: Index, due: NDArray[np.int64], before: Index, source: Index) -> Added:
        if self._last is not None:
            frame_id, channel, payload = self._last
        else:
            at = int(mine[0])
            frame_id, channel, payload = int(block.frame_id[at]), int(block.channel[at]), block.data[at, : int(block.length[at])]
        length = len(payload)
        data = np.zeros((len(due), length), np.uint8)
        data[source < 0] = payload
        data[source >= 0] = block.data[mine[source[source >= 0]], :length]
        if self.forged is not None:
            # Numbered from 1 since the real frame before them.
            number = np.arange(len(due)) - np.searchsorted(source, source) + 1
            number[source < 0] += self._sent
            if self.checks.counter is not None:
                self.checks.counter.write(data, self.checks.counter.read(data) + number * self.checks.counter.step)
            fields, value = self.forged
            for field in fields:
                there = field.place.present(data, np.full(len(data), length))
                part = np.ascontiguousarray(data[there])
                field.write(part, np.full(len(part), value))
                data[there] = part
            self.checks.protect(data)
        padded = np.zeros((len(due), block.data.shape[1]), np.uint8)
        padded[:, :length] = data
        return Added(before, due, frame_id, channel, length, padded)
