"""What a vehicle holds until it has a receipt. The rules are the agent's own outbox; who makes a fleet hands them in.

The simulator does not import the agent. It states here what it needs of the outbox, and what a batch looks like to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from wire.receipts import Status

__all__ = ["Custody", "Held", "Key", "Rules"]

Key = tuple[bytes, int]  # stream, sequence


class Held(Protocol):
    """A sealed batch in the vehicle's custody. attempts: how often it was sent."""

    @property
    def key(self) -> Key: ...

    data: bytes
    attempts: int


class Custody(Protocol):
    """Which batch is sent when, and what ends the vehicle's custody of it. Pure; times are seconds of any monotonic clock."""

    forged: int

    @property
    def held(self) -> int: ...

    def put(self, batch: Any, /) -> None: ...

    def due(self, now_s: float, /) -> Sequence[Held]: ...

    def wake_s(self) -> float | None: ...

    def receipt(self, stream: bytes, sequence: int, status: Status, tag: bytes, now_s: float, /) -> Held | None: ...

    def request(self, stream: bytes, now_s: float, /) -> bool: ...

    def undelivered(self, key: Key, now_s: float, /) -> None: ...

    def connect(self) -> None: ...

    def disconnect(self, now_s: float, /) -> None: ...

    def forget_stream(self, stream: bytes, /) -> None: ...

    def take_answered(self) -> Sequence[Held]: ...


@dataclass(frozen=True)
class Rules:
    """outbox(uniform): a new outbox; uniform gives a random number from 0 to its argument. batch(stream, sequence, reserved, data,
    tags): a batch as the outbox takes it; reserved: an announcement, sent before rows."""

    outbox: Callable[[Callable[[float], float]], Custody]
    batch: Callable[[bytes, int, bool, bytes, Mapping[Status, bytes]], Held]
