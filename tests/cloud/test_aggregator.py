"""The aggregator without a broker: what lands, what is refused, what is answered, and what a restart remembers."""

import contextlib
import dataclasses
import errno
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cloud_samples import make_schema
from cloud_vehicle import Vehicle, receipts
from cryptography import x509
from sqlalchemy.exc import OperationalError

import cloud.streams
from cloud.aggregator import REQUEST_EVERY_MS, Aggregator, Arrival
from cloud.database import Database
from cloud.landing import Landing
from cloud.quarantine import Quarantine
from cloud.streams import Opened, Streams
from cloud.vehicle_models import VehicleModel
from wire.codec import encode_rows
from wire.envelope import Sealed
from wire.errors import SegmentLogError
from wire.messages import Clock, Kind, Rows
from wire.receipts import AnnouncementRequest, Status, decode_downlink
from wire.recipients import load_recipient_keys
from wire.topics import down, up


@dataclasses.dataclass
class Place:
    """One aggregator and what it stands on."""

    aggregator: Aggregator
    database: Database
    landing: Landing
    quarantine: Quarantine
    now_ms: int  # the certificates are made now, so messages are received now

    def give(self, *messages: Sealed, topic: str | None = None, after_ms: int = 0) -> list[tuple[str, bytes]]:
        return self.aggregator.take([Arrival(topic or up(m.header.vehicle), m.data, self.now_ms + after_ms) for m in messages])

    def landed(self) -> list[tuple[bytes, int]]:
        return [(bytes(data[9:25]), int.from_bytes(data[25:29], "big")) for _, _, data in self.landing.raw(0)]


@contextlib.contextmanager
def aggregator(folder: Path, pki: Path, schema: Any) -> Iterator[Place]:
    with ExitStack() as stack:
        database = stack.enter_context(Database(f"sqlite:///{folder / 'cansight.db'}"))
        keys = load_recipient_keys([pki / "recipient.key"])
        fleet_ca = x509.load_pem_x509_certificate((pki / "fleet-ca.pem").read_bytes())
        models = {schema.schema_id: VehicleModel("sample", schema, None)} if schema is not None else {}
        streams = Streams(database, keys, fleet_ca, models)
        landing = stack.enter_context(Landing(folder / "landing", streams))
        quarantine = stack.enter_context(Quarantine(folder / "quarantine"))
        made = Aggregator(database, streams, landing, quarantine)
        made.open()
        yield Place(made, database, landing, quarantine, time.time_ns() // 1_000_000)


@pytest.fixture
def vehicle(pki: Path) -> Vehicle:
    return Vehicle(pki, make_schema())


@pytest.fixture
def place(tmp_path: Path, pki: Path, vehicle: Vehicle) -> Iterator[Place]:
    with aggregator(tmp_path / "cloud", pki, vehicle.schema) as made:
        yield made


def statuses(messages: list[tuple[str, bytes]]) -> dict[int, int]:
    return {sequence: status for (_, sequence), (status, _) in receipts(messages).items()}


def test_an_announced_stream_lands_and_every_receipt_has_the_tag_the_vehicle_expects(place: Place, vehicle: Vehicle) -> None:
    sent = [vehicle.announcement, vehicle.rows(range(2)), vehicle.finding(2), vehicle.gap(7, 9)]
    answers = place.give(*sent)
    assert {topic for topic, _ in answers} == {down(vehicle.id)}
    got = receipts(answers)
    for sealed in sent:
        assert got[sealed.header.stream, sealed.header.sequence] == (Status.STORED, sealed.tags[Status.STORED])
    assert place.landed() == [(s.header.stream, s.header.sequence) for s in sent]
    assert place.aggregator.counts.landed == 4
    assert place.aggregator.counts.findings == 1


def test_a_repeat_gets_its_receipt_again_and_lands_once(place: Place, vehicle: Vehicle) -> None:
    sent = [vehicle.announcement, vehicle.rows(range(2))]
    first = receipts(place.give(*sent, *sent))
    assert receipts(place.give(*sent)) == first
    assert len(place.landed()) == 2
    assert place.aggregator.counts.duplicates == 4


def test_a_restart_remembers_what_has_landed_and_can_open_its_streams(tmp_path: Path, pki: Path, place: Place, vehicle: Vehicle) -> None:
    sent = [vehicle.announcement, vehicle.rows(range(2)), vehicle.rows(range(2, 4))]
    before = receipts(place.give(*sent))
    place.aggregator.save(place.now_ms)
    late = vehicle.rows(range(4, 6))
    before |= receipts(place.give(late))
    place.landing.__exit__(None, None, None)
    place.quarantine.__exit__(None, None, None)
    with aggregator(tmp_path / "cloud", pki, vehicle.schema) as again:
        assert receipts(again.give(*sent, late)) == before
        assert again.aggregator.counts.duplicates == 4
        more = vehicle.rows(range(6, 8))
        assert statuses(again.give(more)) == {4: Status.STORED}
        read = [opened for _, opened in again.landing.read(0, 100)]
        assert all(isinstance(opened, Opened) for opened in read)
        assert [opened.header.sequence for opened in read if isinstance(opened, Opened)] == [0, 1, 2, 3, 4]


def test_a_group_that_is_too_large_for_the_memory_is_decoded_and_read_in_parts(
    place: Place, vehicle: Vehicle, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 10 * len(vehicle.schema)
    monkeypatch.setattr(cloud.streams, "MOST_CELLS", most)
    sent = [vehicle.announcement, *(vehicle.rows(range(tick, tick + 2)) for tick in range(0, 60, 2)), vehicle.finding(9)]
    assert set(receipts(place.give(*sent)).values()) == {(Status.STORED, one.tags[Status.STORED]) for one in sent}
    rows, at, parts = [], 0, 0
    while found := place.landing.read(at, 1000):
        messages = [one.message for _, one in found if isinstance(one, Opened)]
        mine = [message for message in messages if isinstance(message, Rows)]
        assert sum(one.raw.size for one in mine) < most + 2 * len(vehicle.schema)
        assert [number for number, _ in found] == list(range(at, at + len(found)))
        rows += mine
        at, parts = at + len(found), parts + 1
    assert (at, len(rows)) == (32, 30)
    assert parts >= 6
    assert [one.tick_ms.tolist() for one in rows] == [[1000 * tick, 1000 * tick + 1000] for tick in range(0, 60, 2)]


def test_a_batch_without_its_announcement_is_asked_for_and_not_receipted(place: Place, vehicle: Vehicle) -> None:
    batches = [vehicle.rows(range(2)), vehicle.rows(range(2, 4))]
    answers = place.give(*batches)
    assert [decode_downlink(payload) for _, payload in answers] == [AnnouncementRequest(vehicle.sealer.stream)]
    assert place.give(*batches, after_ms=REQUEST_EVERY_MS - 1) == []
    assert len(place.give(*batches, after_ms=REQUEST_EVERY_MS)) == 1
    assert place.landed() == []
    assert statuses(place.give(*batches[::-1], vehicle.announcement, *batches)) == {0: 1, 1: 1, 2: 1}


def test_what_does_not_authenticate_gets_no_receipt(place: Place, vehicle: Vehicle, pki: Path) -> None:
    other = Vehicle(pki, vehicle.schema)
    place.give(vehicle.announcement, other.announcement)
    batch = vehicle.rows(range(2))
    flipped = dataclasses.replace(batch, data=batch.data[:-1] + bytes([batch.data[-1] ^ 1]))
    header = dataclasses.replace(batch, data=batch.data[:28] + bytes([batch.data[28] ^ 2]) + batch.data[29:])
    foreign = dataclasses.replace(batch, data=bytes.fromhex("01" + other.id) + batch.data[9:])
    for sealed in (flipped, header, foreign, dataclasses.replace(batch, data=b""), dataclasses.replace(batch, data=b"\xff" * 60)):
        assert place.give(sealed, topic=vehicle.topic) == []
        assert place.give(sealed, topic=other.topic) == []
    assert place.give(batch, topic=other.topic) == []
    assert place.give(batch, topic="cansight/1/aggregator/up") == []
    assert place.give(batch, topic="cansight/2/up") == []
    assert place.aggregator.counts.landed == 2
    assert statuses(place.give(batch)) == {1: Status.STORED}
    # its sequence has landed, but another vehicle does not get a receipt for it
    assert receipts(place.give(foreign, topic=other.topic)) == {}


def test_an_announcement_that_is_not_genuine_is_refused(place: Place, vehicle: Vehicle, pki: Path, tmp_path: Path) -> None:
    from cloud.pki import init

    init(tmp_path / "other-fleet")
    stranger = Vehicle(tmp_path / "other-fleet", vehicle.schema)
    assert place.give(stranger.announcement) == []
    data = vehicle.announcement.data
    for cut in (29, 100, len(data) // 2, len(data) - 1):
        assert place.give(dataclasses.replace(vehicle.announcement, data=data[:cut])) == []
    assert place.aggregator.counts.refused == 5
    assert statuses(place.give(vehicle.announcement)) == {0: Status.STORED}


def test_authentic_but_unreadable_messages_are_quarantined_with_their_reason(place: Place, vehicle: Vehicle) -> None:
    wide = np.zeros((1, len(vehicle.schema) + 3), np.int64)
    extra = encode_rows(Rows(np.array([0], np.int64), wide, wide.astype(np.uint8)), None)
    bad = [
        vehicle.sealer.seal(Kind.ROWS, b"\x07nonsense"),
        vehicle.sealer.seal(Kind.FINDING, b"\x00\xc1"),
        vehicle.sealer.seal(Kind.ROWS, extra),
    ]
    bad.append(vehicle.sealer.seal(99, b""))  # type: ignore[arg-type]  # a kind of a later version
    good = vehicle.rows(range(2))
    answers = receipts(place.give(vehicle.announcement, *bad, good, *bad))
    for sealed in bad:
        assert answers[sealed.header.stream, sealed.header.sequence] == (Status.QUARANTINED, sealed.tags[Status.QUARANTINED])
    kept = list(place.quarantine.items())
    assert [item.data for item in kept] == [sealed.data for sealed in bad]
    assert all(item.reason for item in kept)
    assert "9 columns" in kept[2].reason or "found 9" in kept[2].reason
    assert place.aggregator.counts.quarantined == 4
    assert len(place.landed()) == 2


def test_rows_of_a_schema_that_is_not_configured_are_quarantined(tmp_path: Path, pki: Path, vehicle: Vehicle) -> None:
    with aggregator(tmp_path / "bare", pki, None) as bare:
        answers = bare.give(vehicle.announcement, vehicle.rows(range(2)), vehicle.finding(3))
        assert statuses(answers) == {0: Status.STORED, 1: Status.QUARANTINED, 2: Status.STORED}
        assert vehicle.schema.schema_id.hex() in next(bare.quarantine.items()).reason
        assert "add its DBC" in next(bare.quarantine.items()).reason


def test_a_full_disk_lands_nothing_answers_nothing_and_is_survived(place: Place, vehicle: Vehicle, monkeypatch: pytest.MonkeyPatch) -> None:
    place.give(vehicle.announcement)
    batch = vehicle.rows(range(2))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.fdatasync", full)
        with pytest.raises(SegmentLogError):
            place.give(batch)
    assert place.aggregator.counts.landed == 1
    assert statuses(place.give(batch)) == {1: Status.STORED}
    assert place.aggregator.counts.duplicates == 0
    assert [sequence for _, sequence in place.landed()] == [0, 1]
    assert [opened.header.sequence for _, opened in place.landing.read(0, 9) if isinstance(opened, Opened)] == [0, 1]


def test_what_could_not_be_saved_is_saved_the_next_time(tmp_path: Path, pki: Path, vehicle: Vehicle) -> None:
    with aggregator(tmp_path / "cloud", pki, vehicle.schema) as place:
        place.give(vehicle.announcement, batch := vehicle.rows(range(2)))
        with place.database._tables.writing() as connection:
            connection.exec_driver_sql("ALTER TABLE landed RENAME TO elsewhere")
        with pytest.raises(OperationalError):
            place.aggregator.save(place.now_ms)
        with place.database._tables.writing() as connection:
            connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO landed")
        place.aggregator.save(place.now_ms)
    with aggregator(tmp_path / "cloud", pki, vehicle.schema) as place:
        place.give(batch)
        assert (place.aggregator.counts.duplicates, place.aggregator.counts.landed) == (1, 0)


def test_a_repeat_of_a_stream_that_is_no_longer_in_memory_gets_the_same_receipt(
    place: Place, vehicle: Vehicle, pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.landed.REMEMBERED", 0)
    other = Vehicle(pki, vehicle.schema)
    bad = vehicle.sealer.seal(Kind.ROWS, b"\x07nonsense")
    sent = [vehicle.announcement, bad, vehicle.rows(range(2))]
    first = receipts(place.give(*sent))
    place.aggregator.save(place.now_ms)
    place.give(other.announcement)
    assert len(place.aggregator._landed) == 1, "the other's"
    with place.database._tables.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE landed RENAME TO elsewhere")
    late = vehicle.rows(range(2, 4))
    for message in (sent[2], late):
        with pytest.raises(OperationalError):
            place.give(message, other.finding(2))
        place.aggregator.tables_away = False
    with place.database._tables.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO landed")
    assert receipts(place.give(*sent)) == first
    assert statuses(place.give(late)) == {3: Status.STORED}
    assert (place.aggregator.counts.landed, place.aggregator.counts.duplicates) == (4, 3)
    place.aggregator.save(place.now_ms)
    place.give(other.finding(3))
    assert receipts(place.give(*sent)) == first, "what was added later did not take the place of what was there"


def test_while_the_tables_are_away_known_streams_land_and_what_is_new_comes_again(place: Place, pki: Path) -> None:
    vehicle, other = Vehicle(pki, make_schema(), clock=None), Vehicle(pki, make_schema())
    place.give(vehicle.announcement)
    known, dated = vehicle.rows(range(2)), vehicle.say(Clock(boot_ms=0, utc_ms=place.now_ms, source="system"))
    new = [other.announcement, other.rows(range(2)), dated]
    with place.database._tables.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE streams RENAME TO elsewhere")
    with pytest.raises(OperationalError):
        place.give(known, *new, dated)
    assert place.landed() == [(vehicle.sealer.stream, 0)]
    answers = place.give(known, *new, dated)
    assert statuses(answers) == {known.header.sequence: Status.STORED}
    assert len(answers) == 1, "nothing is asked for that could not be kept"
    with place.database._tables.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO streams")
    assert statuses(place.give(*new)) == {}, "until who watches the tables says that they are back"
    place.aggregator.tables_away = False
    assert set(receipts(place.give(*new))) == {(one.header.stream, one.header.sequence) for one in new}
    assert len(place.landed()) == 5
    assert place.database.stream(other.sealer.stream) is not None
    assert place.database.clock(vehicle.id, vehicle.boot_id) is not None


def test_nothing_on_the_disk_holds_a_value_or_the_key(tmp_path: Path, place: Place, vehicle: Vehicle) -> None:
    place.give(vehicle.announcement, vehicle.rows(range(200)), vehicle.finding(7))
    place.aggregator.save(place.now_ms)
    for path in (tmp_path / "cloud").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert vehicle.sealer.key not in data
            assert b"coolant_leak" not in data
