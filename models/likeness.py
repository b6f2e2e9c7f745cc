"""Which known fault a finding looks like: its contributions beside the signals in which the catalogue says that each fault shows."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from dbc.catalogue import FaultCode

__all__ = ["resembles"]

LEAST = 0.3
"""Cosine; under it there is nothing in common that is worth a word."""
MOST = 3


class Part(Protocol):
    """A signal's share, 0..1, of a finding's score."""

    @property
    def signal(self) -> str: ...

    @property
    def share(self) -> float: ...


def resembles(parts: Iterable[Part], faults: Mapping[str, FaultCode]) -> Sequence[tuple[FaultCode, float]]:
    """The faults that look like the finding, most first, each with the cosine between its shares and the fault's signals, all alike.

    A fault that the catalogue gives no signals (of any sensor, of any bus) is never among them.
    """
    shares = {part.signal: part.share for part in parts}
    length = math.sqrt(sum(share * share for share in shares.values()))
    if not length:
        return []
    found = [
        (fault, sum(shares.get(signal, 0.0) for signal in fault.signals) / (length * math.sqrt(len(fault.signals))))
        for fault in faults.values()
        if fault.signals
    ]
    return sorted((one for one in found if one[1] >= LEAST), key=lambda one: (-one[1], one[0].code))[:MOST]
