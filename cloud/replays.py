"""Replays of the quarantine: by the running cloud at its start and when it is asked, and by the command line while none runs.

At a start everything is tried that waited for a key, a DBC or a later program: those come with new settings, so with a start. What a sink
choked on is tried when somebody asks for it; it would choke again at every start. What nothing will ever open is dropped on request.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloud.aggregator import Aggregator, Replayed
from cloud.config import CloudConfig
from cloud.database import Database
from cloud.landing import Landing
from cloud.pki_files import load_certificates
from cloud.quarantine import Item, Quarantine, Source
from cloud.streams import Streams
from cloud.vehicle_models import by_schema, load_models
from wire.recipients import load_recipient_keys

CHUNK = 64  # messages between which a live one may pass: some milliseconds of work
MOST_TOLD = 5  # reasons in a line of the log
AT_START = frozenset({Source.ARRIVAL, Source.LATER, Source.LANDED})

log = logging.getLogger(__name__)


@dataclass
class Outcome:
    """What a replay came to, or a drop, where `released` are those that were dropped. missing: positions that hold nothing."""

    released: int = 0
    still: Counter[str] = field(default_factory=Counter)
    missing: list[int] = field(default_factory=list)

    def add(self, done: Replayed) -> None:
        self.released += len(done.released)
        self.still += done.still

    def as_dict(self) -> dict[str, Any]:
        return {"released": self.released, "still": dict(self.still), "missing": self.missing}


def chunks(
    quarantine: Quarantine, positions: Collection[int] = (), sources: Collection[Source] = frozenset(Source)
) -> Iterator[list[Item]]:
    """What is held now, of these positions (none: all) and sources, in small groups, oldest first. What comes meanwhile is not in it."""
    end = quarantine.next
    group: list[Item] = []
    for item in quarantine.items(min(positions, default=0)):
        if item.position >= end:
            break
        if item.source in sources and (not positions or item.position in positions):
            group.append(item)
        if len(group) >= CHUNK:
            yield group
            group = []
    if group:
        yield group


def missing(quarantine: Quarantine, positions: Sequence[int]) -> list[int]:
    """Those of `positions` at which nothing is held."""
    held = {item.position for item in quarantine.items(min(positions))} if positions else set()
    return sorted(set(positions) - held)


def replay_stopped(config: CloudConfig, positions: Sequence[int] = ()) -> Outcome:
    """Replay while no cloud runs; the sinks take what it lands at the next start. Raises SegmentLogLocked while one runs."""
    with _stopped(config) as (aggregator, quarantine):
        outcome = Outcome(missing=missing(quarantine, positions))
        for group in chunks(quarantine, positions):
            outcome.add(aggregator.replay(group))
        return outcome


def drop_stopped(config: CloudConfig, positions: Sequence[int]) -> Outcome:
    """Drop while no cloud runs. Raises SegmentLogLocked while one runs."""
    with _stopped(config) as (aggregator, quarantine):
        return drop(aggregator, quarantine, positions)


def drop(aggregator: Aggregator, quarantine: Quarantine, positions: Sequence[int]) -> Outcome:
    """Give up what is held at these positions, for good: it is nowhere else, if its vehicle had a receipt. Raises SegmentLogError."""
    outcome = Outcome(missing=missing(quarantine, positions))
    why: Counter[str] = Counter()
    for group in chunks(quarantine, frozenset(positions)) if positions else ():
        aggregator.drop(group)
        outcome.released += len(group)
        why.update(f"{one.data[1:9].hex()}: {one.reason}" for one in group)
    for words, number in why.most_common(MOST_TOLD):
        log.warning("quarantine: %d messages were dropped on request, of vehicle %s", number, words)
    return outcome


@contextmanager
def _stopped(config: CloudConfig) -> Iterator[tuple[Aggregator, Quarantine]]:
    state = Path(config.state)
    with ExitStack() as stack:
        database = stack.enter_context(Database(config.database_url, config.broker.replica))
        models = by_schema(load_models(config.vehicle_model, state / "cache"))
        fleet_cas = load_certificates(Path(config.fleet_ca))
        streams = Streams(database, load_recipient_keys(config.recipient_keys), fleet_cas, models)
        landing = stack.enter_context(Landing(state / "landing", streams))
        quarantine = stack.enter_context(Quarantine(state / "quarantine"))
        aggregator = Aggregator(database, streams, landing, quarantine)
        aggregator.open()
        yield aggregator, quarantine
