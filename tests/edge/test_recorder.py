"""Snapshots to sealed batches: classes apart, identity never, N ticks a batch, a new key every hour."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from edge_helpers import VEHICLE
from test_edge_detectors import schema

from cloud import pki as fleet
from dbc.sampler import Snapshot
from dbc.schema import Schema
from dbc.validity import Reason
from edge.identity import Identity
from edge.outbox import Lane
from edge.recorder import ROTATION_S, Recorder
from edge.streams import Journey, Record
from wire.codec import decode_rows
from wire.envelope import OpenedStream, StreamOpener, read_announcement
from wire.messages import Clock, Gap, Kind, Rows, decode_message
from wire.recipients import load_recipient_keys, read_recipient

CLASSES = {"Loop.Flow": "driving", "Loop.Pressure": "identity", "Pump.Speed": "location"}


@pytest.fixture
def identity(pki: Path) -> Identity:
    fleet.vehicle(pki, VEHICLE)
    import ssl

    certificate = fleet.load_certificate(pki / "vehicles" / f"{VEHICLE}.pem")
    key = fleet.load_key(pki / "vehicles" / f"{VEHICLE}.key")
    recipient = read_recipient((pki / "recipient.json").read_bytes(), fleet.load_certificate(pki / "fleet-ca.pem"), 0.0)
    return Identity(VEHICLE, certificate, key, (recipient,), ssl.create_default_context())


def recorder(identity: Identity, batch_ticks: int = 2, classes: dict[str, str] = CLASSES, of: Schema | None = None) -> Recorder:
    of = of or schema()
    journey = Journey(bytes(16), Clock(boot_ms=0, utc_ms=0, source="log"), of.schema_id, ("loop",), "cansight test")
    return Recorder(of, lambda name: classes.get(name, "technical"), identity, journey, batch_ticks)


def snapshot(second: int, change: int = 0) -> Snapshot:
    raw = np.arange(7, dtype=np.int64) * 1000 + change
    reason = np.array([0, 0, 0, 0, 0, 0, Reason.NOT_SEEN], dtype=np.uint8)
    return Snapshot(second * 1_000_000_000, 0, raw, reason, np.where(reason == 0, raw / 100, np.nan))


class Reader:
    """Opens records as the cloud does."""

    def __init__(self, pki: Path) -> None:
        self.keys = load_recipient_keys([pki / "recipient.key"])
        self.ca = fleet.load_certificate(pki / "fleet-ca.pem")
        self.streams: dict[bytes, OpenedStream] = {}
        self.rows: dict[str, list[Rows]] = {}
        self.said: list[object] = []

    def take(self, records: list[Record]) -> None:
        for record in records:
            header = record.sealed.header
            if header.sequence == 0:
                assert header.stream not in self.streams
                self.streams[header.stream] = read_announcement(record.sealed.data, self.keys, self.ca, datetime.now(UTC))
                continue
            opened = self.streams[header.stream]
            assert opened.announcement.consent_class == record.consent_class
            _, kind, body = StreamOpener(VEHICLE, header.stream, opened.key).open(record.sealed.data)
            if kind is Kind.ROWS:
                assert (record.lane, record.is_rows) == (Lane.BULK, True)
                self.rows.setdefault(record.consent_class, []).append(decode_rows(body, opened.baseline))
            else:
                assert (record.lane, record.is_rows) == (Lane.RESERVED, False)
                self.said.append(decode_message(kind, body))


def test_each_consent_class_has_its_stream_and_identity_has_none(identity: Identity, pki: Path) -> None:
    reader, made, names = Reader(pki), recorder(identity), schema().names
    for second in range(1, 7):
        reader.take(made.snapshot(snapshot(second, second), 0.0))
    columns = {opened.announcement.consent_class: [names[at] for at in opened.columns] for opened in reader.streams.values()}
    assert columns == {
        "technical": ["Other.Signal", "Loop.Inlet", "Loop.Outlet", "Pump.Current"],
        "driving": ["Loop.Flow"],
        "location": ["Pump.Speed"],
    }
    for consent_class, rows in reader.rows.items():
        assert [one.tick_ms.tolist() for one in rows] == [[1000, 2000], [3000, 4000], [5000, 6000]]
        at = [names.index(name) for name in columns[consent_class]]
        for one in rows:
            for number, tick_ms in enumerate(one.tick_ms.tolist()):
                expected = snapshot(tick_ms // 1000, tick_ms // 1000)
                np.testing.assert_array_equal(one.raw[number], expected.raw[at])
                np.testing.assert_array_equal(one.reason[number], expected.reason[at])
    assert made.samples.recorded == 6 * 5
    assert made.samples.changed == 6 * 5
    made.snapshot(snapshot(7, 6), 0.0)
    assert (made.samples.recorded, made.samples.changed) == (7 * 5, 6 * 5)


def test_an_announcement_says_what_is_needed_to_read_the_stream(identity: Identity, pki: Path) -> None:
    reader, made = Reader(pki), recorder(identity)
    reader.take(made.snapshot(snapshot(5), 0.0))
    for opened in reader.streams.values():
        announcement = opened.announcement
        assert announcement.clock == Clock(boot_ms=0, utc_ms=0, source="log")
        assert (announcement.schema_id, announcement.pack_ids, announcement.agent) == (schema().schema_id, ["loop"], "cansight test")
        assert opened.baseline is not None
        assert opened.baseline.tick_ms.tolist() == [5000]


def test_a_stream_lives_an_hour(identity: Identity, pki: Path) -> None:
    reader, made = Reader(pki), recorder(identity, batch_ticks=5, classes={})
    reader.take(made.snapshot(snapshot(1), 10.0))
    reader.take(made.snapshot(snapshot(2), 10.0 + ROTATION_S - 0.1))
    assert (len(reader.streams), reader.rows) == (1, {})
    reader.take(made.snapshot(snapshot(3), 10.0 + ROTATION_S))
    assert len(reader.streams) == 2
    assert [rows.tick_ms.tolist() for rows in reader.rows["technical"]] == [[1000, 2000]]  # sealed under the old key
    reader.take(made.flush())
    assert [rows.tick_ms.tolist() for rows in reader.rows["technical"]] == [[1000, 2000], [3000]]


def test_a_batch_that_is_not_full_waits_only_a_little_longer_than_it_takes_to_fill(identity: Identity, pki: Path) -> None:
    reader, made = Reader(pki), recorder(identity, batch_ticks=3, classes={})
    reader.take(made.snapshot(snapshot(1), 100.0))
    reader.take(made.flush(103.9))
    assert reader.rows == {}
    reader.take(made.flush(104.0))
    assert [rows.tick_ms.tolist() for rows in reader.rows["technical"]] == [[1000]]
    assert made.flush() == []


def test_messages_travel_in_the_technical_stream_even_when_it_has_no_signals(identity: Identity, pki: Path) -> None:
    reader, made = Reader(pki), recorder(identity, classes=dict.fromkeys(schema().names, "driving"))
    gap = Gap(stream=bytes(16), first=1, last=2, reason="test")
    assert made.message(gap) == []  # no stream yet
    reader.take(made.snapshot(snapshot(1), 0.0))
    assert reader.said == [gap]
    reader.take(made.message(gap))
    assert reader.said == [gap, gap]
    assert set(reader.rows) == set()
    assert {opened.announcement.consent_class for opened in reader.streams.values()} == {"technical", "driving"}


def test_a_clock_that_is_set_back_begins_a_new_batch(identity: Identity, pki: Path) -> None:
    reader, made = Reader(pki), recorder(identity)
    for second in (1001, 1002, 1003, 5, 6):
        reader.take(made.snapshot(snapshot(second, second), 0.0))
    reader.take(made.flush())
    assert [one.tick_ms.tolist() for one in reader.rows["technical"]] == [[1_001_000, 1_002_000], [1_003_000], [5_000, 6_000]]
