"""The ledger's books: what the agents recorded, what the cloud landed, and what the store's query returns."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import ledger_vehicles
import numpy as np
from ledger_vehicles import BASE_S, Vehicle

from cansight import settings
from cansight.demo.watch import read_ledger
from cloud.app import Parts
from cloud.config import CloudConfig
from cloud.database import Database
from cloud.landing import Landing
from cloud.streams import Opened, Streams
from cloud.vehicle_models import by_schema
from simulator.fleet.ledger import Written
from simulator.fleet.stores import Influx
from simulator.fleet.verify import Comparison, compare
from wire.messages import Gap, Rows
from wire.segment_log import SegmentLog

DATABASE = "cansight_replay"
NO_FAULTS = ("landed", "rows", "torn")


@dataclass
class Books:
    """Counts; those after `rows` are 0 where custody holds."""

    landed: int = 0  # batches, announcements and messages included
    rows: int = 0  # batches of ticks
    landed_twice: int = 0
    missing: int = 0  # sequences before the last one of their stream that never landed, without the next line's
    torn: int = 0  # last but one: a row and a message of one commit lie in two logs, and a kill may come between them
    disordered: int = 0  # ticks that are not after those of the sequence before
    put_aside: int = 0
    gaps_said: int = 0  # no flash was full or damaged
    damaged: int = 0
    landed_not_stored: int = 0  # ticks
    stored_not_landed: int = 0
    ticks: Comparison = field(default_factory=Comparison)  # the agents' ledgers against the store's query
    recorded_twice: int = 0  # ticks, in an agent's own ledger

    @property
    def faults(self) -> dict[str, int]:
        """Everything that should be 0 and is not; the ticks' comparison is beside it."""
        counts = {name: count for name, count in vars(self).items() if isinstance(count, int) and name not in NO_FAULTS}
        return {name: count for name, count in counts.items() if count}


def compared(url: str, vehicles: list[Vehicle], cloud_config: Path) -> Books:
    """All of it, with the cloud stopped and the store running."""
    books = Books()
    landed = _landed(cloud_config, books)
    influx = Influx(url, DATABASE)
    for vehicle in vehicles:
        ticks = read_ledger(vehicle.ledger)[:, 0]
        books.recorded_twice += int((np.diff(ticks) <= 0).sum())
        found = influx.read(vehicle.vehicle, ledger_vehicles.PROBE, BASE_S * 1000, (BASE_S + vehicle.tick + 10) * 1000)
        counts = ticks // 1000 - BASE_S
        books.ticks.add(compare(Written(vehicle.vehicle, ticks, counts, np.ones(len(ticks), np.bool_)), found, 1.0, 0.0))
        there = set(found.tick_ms.tolist())
        books.landed_not_stored += len(landed[vehicle.vehicle] - there)
        books.stored_not_landed += len(there - landed[vehicle.vehicle])
    return books


def _landed(cloud_config: Path, books: Books) -> dict[str, set[int]]:
    """Ticks in the landing log by vehicle; every message of it is counted in `books`."""
    seen: Counter[tuple[bytes, int]] = Counter()
    rows: dict[bytes, dict[int, list[int]]] = defaultdict(dict)
    ticks: dict[str, set[int]] = defaultdict(set)
    for opened in opened_messages(cloud_config, books):
        header = opened.header
        seen[header.stream, header.sequence] += 1
        books.gaps_said += isinstance(opened.message, Gap)
        if isinstance(opened.message, Rows):
            rows[header.stream][header.sequence] = opened.message.tick_ms.tolist()
            ticks[header.vehicle].update(opened.message.tick_ms.tolist())
    last: dict[bytes, int] = {}
    for stream, sequence in seen:
        last[stream] = max(sequence, last.get(stream, 0))
    books.landed = len(seen)
    books.rows = sum(len(batches) for batches in rows.values())
    books.landed_twice = sum(seen.values()) - len(seen)
    books.torn = sum((stream, sequence - 1) not in seen for stream, sequence in last.items() if sequence)
    books.missing = sum(last.values()) + len(last) - len(seen) - books.torn
    for batches in rows.values():
        order = np.array([tick for sequence in sorted(batches) for tick in batches[sequence]])
        books.disordered += int((np.diff(order) <= 0).sum())
    return ticks


def opened_messages(cloud_config: Path, books: Books) -> Iterator[Opened]:
    """What the landing log holds, in the order in which it came. The cloud is stopped."""
    config = settings.load(cloud_config, CloudConfig)
    parts, state = Parts(config), Path(config.state)
    with Database(config.database_url) as database, SegmentLog(state / "quarantine") as quarantine:
        books.put_aside = len(list(quarantine.read()))
        streams = Streams(database, parts.recipient_keys, parts.fleet_cas, by_schema(parts.models))
        with Landing(state / "landing", streams) as landing:
            position = 0
            while found := landing.read(position, 1000):
                for number, opened in found:
                    position = number + 1
                    assert isinstance(opened, Opened), opened
                    yield opened
            books.damaged = len(landing.gaps)
