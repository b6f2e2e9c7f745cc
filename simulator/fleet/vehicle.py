"""One vehicle of a fleet: what it holds, its connection, and its pauses between attempts to connect.

The pauses are the agent's: 1 s doubling to 60 s, each drawn between 0 and that (full jitter), anew after a connection that held. Without
jitter every vehicle tries at the instant the network is back, and again each second: the storm that jitter prevents.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from simulator.fleet.custody import Held, Key, Rules
from simulator.fleet.keys import VehicleKeys
from simulator.fleet.link import Endpoint, Link
from wire.errors import WireError
from wire.receipts import AnnouncementRequest, Status, decode_downlink

__all__ = ["Fleetwide", "Vehicle"]

CONNECT_S = 10.0  # TCP, TLS, CONNACK and SUBACK
FIRST_PAUSE_S, MAX_PAUSE_S = 1.0, 60.0
STEADY_S = 10.0
STORM_PAUSE_S = 1.0  # between attempts of a vehicle without jitter
WINDOW = 16  # the most that the outbox gives at once
NO_SUBSCRIBERS = 0x10
FAILURE = 0x80


class Fleetwide(Protocol):
    """What every vehicle tells the fleet and shares with it."""

    endpoint: Endpoint
    jitter: bool

    def watch(self, link: Link, descriptor: int, mask: int) -> None: ...

    def connect_at(self, vehicle: Vehicle, at_s: float) -> None:
        """Call `vehicle.connect` then."""

    def has_opened(self, vehicle: Vehicle, now_s: float) -> None: ...

    def has_closed(self, vehicle: Vehicle, reason: str, now_s: float) -> None: ...

    def sent(self, batch: Held) -> None: ...

    def undelivered(self) -> None: ...

    def receipted(self, key: Key, attempts: int, status: Status, now_s: float) -> None: ...

    def strange(self, reason: str) -> None:
        """A message on a down topic that is no receipt."""


class Vehicle:
    """`connect` when the fleet says so; from then on it connects again by itself until `stop`."""

    def __init__(self, number: int, keys: VehicleKeys, rules: Rules, fleet: Fleetwide, chance: Callable[[], float] = random.random) -> None:
        self.number = number
        self.keys = keys
        self.custody = rules.outbox(lambda most: most * chance())
        self.offline_until_s = 0.0
        self._chance = chance
        self._fleet = fleet
        self._link: Link | None = None
        self._pause_s = FIRST_PAUSE_S
        self._opened_s = 0.0
        self._published: dict[int, Key] = {}
        self._stopped = False
        self._held_back = False

    @property
    def id(self) -> str:
        return self.keys.vehicle

    @property
    def connected(self) -> bool:
        return self._link is not None and self._link.open

    def connect(self, now_s: float) -> None:
        """Try now. Where there is no network it fails at once, as it does on a vehicle."""
        if self._link is not None or self._stopped:
            return
        if now_s < self.offline_until_s:
            self._again(now_s)
            return
        self._link = Link(self.id, self.keys.tls, self._fleet.endpoint, self, self._fleet.watch)
        self._link.start(now_s)

    def lose_network(self, now_s: float, until_s: float) -> None:
        """No network until then; the connection breaks without a word."""
        self.offline_until_s = max(self.offline_until_s, until_s)
        if self._link is not None:
            self._link.abort()
            self._ended(now_s)
            self._again(now_s)

    def offer(self, now_s: float) -> None:
        """Send what the outbox says is due."""
        link = self._link
        if link is None or not link.open or not self.custody.held:
            return
        self._held_back = len(self._published) > max(0, link.receive_max - WINDOW)
        if self._held_back:  # a slow broker: its PUBACKs come before more does
            return
        for batch in self.custody.due(now_s):
            packet_id = link.publish(batch.data, now_s)
            if packet_id is None:
                return  # the connection broke; what was not sent comes again
            self._published[packet_id] = batch.key
            self._fleet.sent(batch)

    def look(self, now_s: float) -> None:
        """Now and then: what is due again, a connection attempt that takes too long, a connection that is silent."""
        link = self._link
        if link is None:
            return
        if not link.open:
            if now_s - link.began_s > CONNECT_S:
                link.abort()
                self.closed(f"no answer within {CONNECT_S:.0f} s", now_s)
            return
        link.keep(now_s)
        if self.custody.held:
            wake_s = self.custody.wake_s()
            if wake_s is not None and wake_s <= now_s:
                self.offer(now_s)

    def stop(self) -> None:
        """Say goodbye; nothing connects again."""
        self._stopped = True
        if self._link is not None:
            self._link.goodbye()
            self._link = None

    # the link's words

    def opened(self, now_s: float) -> None:
        self._opened_s = now_s
        self.custody.connect()
        self._fleet.has_opened(self, now_s)
        self.offer(now_s)

    def acknowledged(self, packet_id: int, reason: int, now_s: float) -> None:
        key = self._published.pop(packet_id, None)
        if key is not None and (reason == NO_SUBSCRIBERS or reason >= FAILURE):
            self.custody.undelivered(key, now_s)
            self._fleet.undelivered()
        if self._held_back and not self._published:
            self.offer(now_s)

    def heard(self, payload: bytes, now_s: float) -> None:
        try:
            said = decode_downlink(payload)
        except WireError as error:
            self._fleet.strange(str(error))
            return
        if isinstance(said, AnnouncementRequest):
            self.custody.request(said.stream, now_s)
        else:
            for entry in said.entries:
                self.custody.receipt(said.stream, entry.sequence, entry.status, entry.tag, now_s)
                for batch in self.custody.take_answered():
                    self._fleet.receipted(batch.key, batch.attempts, entry.status, now_s)
        self.offer(now_s)

    def closed(self, reason: str, now_s: float) -> None:
        steady = self._opened_s and now_s - self._opened_s >= STEADY_S
        self._ended(now_s)
        self._fleet.has_closed(self, reason, now_s)
        if steady:
            self._pause_s = FIRST_PAUSE_S
        self._again(now_s)

    def _ended(self, now_s: float) -> None:
        was_open = bool(self._opened_s)
        self._link = None
        self._opened_s = 0.0
        self._published.clear()
        if was_open:
            self.custody.disconnect(now_s)

    def _again(self, now_s: float) -> None:
        """Arrange for the next attempt."""
        if self._fleet.jitter:
            self._fleet.connect_at(self, now_s + self._pause_s * self._chance())
            self._pause_s = min(MAX_PAUSE_S, 2 * self._pause_s)
        elif now_s < self.offline_until_s:
            self._fleet.connect_at(self, self.offline_until_s)
        else:
            self._fleet.connect_at(self, now_s + STORM_PAUSE_S)
