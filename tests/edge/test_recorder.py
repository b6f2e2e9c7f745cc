"""Snapshots to sealed batches: classes apart, identity never, N ticks a batch, a new key every hour."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from edge_helpers import VEHICLE
from test_edge_detectors import schema

from cloud import pki as fleet
from dbc.sampler import Snapshot
from dbc.schema import Schema
from dbc.validity import Reason
from edge.finding_limit import BURST, REFILL_MS
from edge.identity import Identity
from edge.outbox import Lane
from edge.recorder import ROTATION_S, SETTLING_TICKS, Recorder
from edge.streams import Journey, Record
from wire.codec import decode_rows
from wire.envelope import OpenedStream, StreamOpener, read_announcement
from wire.messages import Clock, FindingMessage, Gap, Kind, Rows, Window, decode_message
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


def test_a_stream_lives_an_hour_on_a_bus_that_sleeps_for_weeks_too(identity: Identity, pki: Path) -> None:
    reader, made = Reader(pki), recorder(identity, batch_ticks=5, classes={})
    reader.take(made.snapshot(snapshot(1), 0.0))
    gap = Gap(stream=bytes(16), first=1, last=2, reason="the outbox was full")
    for minute in range(24 * 60):
        reader.take(made.message(gap, 60.0 * minute))
    assert len(reader.said) == 24 * 60
    assert len(reader.streams) == 24
    assert [rows.tick_ms.tolist() for rows in reader.rows["technical"]] == [[1000]]
    reader.take(made.snapshot(snapshot(2), 60.0 * 24 * 60))
    assert len(list(reader.streams.values())[-1].columns), "and ticks have one with their columns"


def test_the_first_streams_of_a_run_are_short_and_the_next_know_what_widths_to_expect(identity: Identity, pki: Path) -> None:
    reader, made = Reader(pki), recorder(identity, batch_ticks=4, classes=dict.fromkeys(schema().names[1:], "driving"))
    for second in range(1, SETTLING_TICKS[1] + 10):
        reader.take(made.snapshot(snapshot(second, second * second), float(second)))
    reader.take(made.flush())
    for consent_class, rows in reader.rows.items():
        assert [tick for one in rows for tick in one.tick_ms.tolist()] == [1000 * second for second in range(1, SETTLING_TICKS[1] + 10)]
        streams = [one for one in reader.streams.values() if one.announcement.consent_class == consent_class]
        assert [one.baseline is not None and one.baseline.widths is not None for one in streams] == [False, True, True]
        begins = [int(one.baseline.tick_ms[0]) // 1000 for one in streams if one.baseline is not None]
        assert begins == [1, 33, 301]  # at the first batch's end after 30 ticks, and after 300


def finding(number: int, second: int, state: Literal["active", "cleared"] = "active", fault_code: str = "F-1") -> FindingMessage:
    return FindingMessage(
        finding_id=number.to_bytes(16, "big"), state=state, pack_id="loop", fault_code=fault_code, tick_ms=second * 1000,
        since_ms=0, score=2.0, threshold=1.0, p_value=None, contributions=[], window=Window(tick_ms=[], signals=[], values=[]),
    )  # fmt: skip


def test_a_detector_that_flaps_is_limited_and_its_repeats_are_counted(identity: Identity, pki: Path) -> None:
    reader, made = Reader(pki), recorder(identity, classes={})
    for number in range(100):
        reader.take(made.message(finding(number, 10 * number), 0.0))
        reader.take(made.message(finding(number, 10 * number + 5, "cleared"), 0.0))
    said = [one for one in reader.said if isinstance(one, FindingMessage)]
    raised = [one for one in said if one.state == "active"]
    assert len(raised) == BURST + 990_000 // REFILL_MS
    assert {one.finding_id for one in said if one.state == "cleared"} == {one.finding_id for one in raised}
    # One more is raised and stays: it goes out as soon as there is room, and says how many did not.
    reader.take(made.message(finding(100, 1000), 0.0))
    reader.take(made.message(finding(7, 1000, fault_code="F-2"), 0.0))
    assert reader.said[-1] == finding(7, 1000, fault_code="F-2"), "another detector is not concerned"
    reader.take(made.snapshot(snapshot(1100), 0.0))
    assert reader.said[-1] == finding(7, 1000, fault_code="F-2")
    reader.take(made.snapshot(snapshot(1000 + REFILL_MS // 1000), 0.0))
    last = reader.said[-1]
    assert isinstance(last, FindingMessage)
    assert last.finding_id == (100).to_bytes(16, "big")
    said = [one for one in reader.said if isinstance(one, FindingMessage) and one.fault_code == "F-1"]
    assert sum(one.repeats for one in said) + len([one for one in said if one.state == "active"]) == 101


def test_a_fault_that_lasts_is_said_however_much_came_before(identity: Identity, pki: Path) -> None:
    reader, made = Reader(pki), recorder(identity, classes={})
    for number in range(20):  # raised again and again without being cleared: the newest of those held back is kept
        reader.take(made.message(finding(number, number), 0.0))
    reader.take(made.snapshot(snapshot(REFILL_MS // 1000 + 20), 0.0))
    last = reader.said[-1]
    assert isinstance(last, FindingMessage)
    assert (last.finding_id, last.repeats) == ((19).to_bytes(16, "big"), 20 - BURST - 1)


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
    reader.take(made.message(gap, 0.0))  # before the first snapshot: in a stream without columns
    assert reader.said == [gap]
    reader.take(made.snapshot(snapshot(1), 0.0))
    reader.take(made.message(gap, 0.0))
    assert reader.said == [gap, gap]
    assert set(reader.rows) == set()
    assert {opened.announcement.consent_class for opened in reader.streams.values()} == {"technical", "driving"}


def test_a_clock_that_is_set_back_begins_a_new_batch(identity: Identity, pki: Path) -> None:
    reader, made = Reader(pki), recorder(identity)
    for second in (1001, 1002, 1003, 5, 6):
        reader.take(made.snapshot(snapshot(second, second), 0.0))
    reader.take(made.flush())
    assert [one.tick_ms.tolist() for one in reader.rows["technical"]] == [[1_001_000, 1_002_000], [1_003_000], [5_000, 6_000]]
