"""A vehicle's rows to sealed batches: one stream, announced, its key changed every hour, as the agent's recorder does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.fleet.keys import VehicleKeys
from wire.codec import encode_rows
from wire.envelope import StreamSealer, announce
from wire.messages import Announcement, Clock, Kind, Rows, pack_columns
from wire.receipts import Status
from wire.recipients import Recipient

__all__ = ["AGENT", "CONSENT_CLASS", "ROTATION_S", "Journey", "Sealer", "baseline_of", "encoded"]

ROTATION_S = 3600.0  # a content key lives an hour
CONSENT_CLASS = "technical"
CAMPAIGN = "default"
AGENT = "cansight sim fleet"


@dataclass(frozen=True)
class Journey:
    """What every announcement of the fleet says. columns: (m,) signals of the schema, of n_signals."""

    schema_id: bytes
    columns: NDArray[np.intp]
    n_signals: int
    recipients: tuple[Recipient, ...]
    clock: Clock

    @property
    def bitmap(self) -> bytes:
        recorded = np.zeros(self.n_signals, dtype=np.bool_)
        recorded[self.columns] = True
        return pack_columns(recorded)


@dataclass(frozen=True, slots=True)
class Sealed:
    """What goes into custody."""

    stream: bytes
    sequence: int
    data: bytes
    tags: Mapping[Status, bytes]


def baseline_of(raw: NDArray[np.int64], tick_ms: int) -> Rows:
    """raw: (m,) of the first tick that the stream records."""
    return Rows(np.array([tick_ms], np.int64), raw[np.newaxis], np.zeros((1, len(raw)), np.uint8))


def encoded(tick_ms: NDArray[np.int64], raw: NDArray[np.int64], baseline: Rows) -> bytes:
    """The body of a batch of valid rows."""
    return encode_rows(Rows(tick_ms, raw, np.zeros(raw.shape, np.uint8)), baseline)


class Sealer:
    """One vehicle's streams. Used by one thread."""

    def __init__(self, keys: VehicleKeys, journey: Journey) -> None:
        self._keys = keys
        self._journey = journey
        self._boot_id = os.urandom(16)
        self._sealer: StreamSealer | None = None
        self._baseline: Rows | None = None
        self.opened_s = 0.0

    def open(self, raw: NDArray[np.int64], tick_ms: int, opened_s: float, sealer: StreamSealer | None = None) -> Sealed:
        """A new stream from this tick on; returns its announcement. `sealer`: of batches that were sealed before, else a new key."""
        self._sealer = sealer or StreamSealer.start(self._keys.vehicle)
        self._baseline = baseline_of(raw, tick_ms)
        self.opened_s = opened_s
        announcement = Announcement(
            boot_id=self._boot_id,
            clock=self._journey.clock,
            schema_id=self._journey.schema_id,
            consent_class=CONSENT_CLASS,
            columns=self._journey.bitmap,
            pack_ids=[],
            campaign_id=CAMPAIGN,
            agent=AGENT,
            baseline=encode_rows(self._baseline, None),
        )
        sealed = announce(self._sealer, announcement, self._journey.recipients, self._keys.certificate, self._keys.key)
        return Sealed(self._sealer.stream, 0, sealed.data, sealed.tags)

    def rows(self, tick_ms: NDArray[np.int64], raw: NDArray[np.int64]) -> Sealed:
        """A batch: tick_ms (t,), raw (t, m)."""
        assert self._sealer is not None
        assert self._baseline is not None, "the stream is not open"
        sealed = self._sealer.seal(Kind.ROWS, encoded(tick_ms, raw, self._baseline))
        return Sealed(sealed.header.stream, sealed.header.sequence, sealed.data, sealed.tags)
