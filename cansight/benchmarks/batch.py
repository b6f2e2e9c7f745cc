"""Batches: bytes per signal-sample on the wire, and the time to encode and seal, against JSON + zlib and protobuf + snappy.

A signal-sample is one valid value of one signal at one tick, unchanged ones included. Ours are counted as they leave the vehicle: the
agent's own recorder over the whole drive, from its first tick on, each message with its MQTT PUBLISH and its TLS record, and each stream's
announcement spread over its hour. The rivals are counted bare: compressed payloads in clear, no topic, no TLS, no authentication.
The promise is for a recorded drive: the simulated car puts noise on four signals of five.
"""

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from cansight.benchmarks.batch_rivals import Batch, json_columns, protobuf_signals
from cansight.benchmarks.material import Material
from cansight.benchmarks.result import Result, medians_s
from dbc.validity import Reason
from edge.identity import Identity
from edge.recorder import ROTATION_S, Recorder
from edge.streams import Journey, Record
from wire.codec import decode_rows, encode_rows, with_expected_widths
from wire.envelope import OpenedStream, StreamOpener, StreamSealer, read_announcement
from wire.messages import Clock, Kind, Rows
from wire.topics import up

MOST = {2: 0.32, 5: 0.21}  # ticks in a batch -> bytes per signal-sample
LESS_THAN_PROTOBUF, LESS_THAN_JSON = 15.0, 8.0
TIMED_SIGNALS, TIMED_TICKS, MOST_S = 250, 2, 200e-6
TLS_RECORD = 5 + 1 + 16  # header, content type, AEAD tag: RFC 8446, 5.2
PUBLISH = 1 + 2 + 2 + 2 + 1  # fixed header, remaining length, topic length, packet id, no properties: MQTT 5, 3.3
VEHICLE = "0123456789abcdef"


def batch(material: Material) -> list[Result]:
    """Every batch is opened and compared with what was recorded, on all sides, before anything is counted."""
    with tempfile.TemporaryDirectory(prefix="cansight-bench-") as folder:
        fleet = _Fleet(Path(folder))
        return [*(result for ticks in MOST for result in _sizes(material, fleet, ticks)), *_time(material)]


class _Fleet:
    """Keys of a vehicle and of the cloud."""

    def __init__(self, folder: Path) -> None:
        import ssl

        from cloud import pki
        from wire.recipients import load_recipient_keys, read_recipient

        pki.init(folder / "pki")
        pki.vehicle(folder / "pki", VEHICLE)
        self.ca = pki.load_certificate(folder / "pki" / "fleet-ca.pem")
        self.keys = load_recipient_keys([folder / "pki" / "recipient.key"])
        stem = folder / "pki" / "vehicles" / VEHICLE
        recipient = read_recipient((folder / "pki" / "recipient.json").read_bytes(), self.ca, datetime.now(UTC).timestamp())
        certificate, key = pki.load_certificate(stem.with_suffix(".pem")), pki.load_key(stem.with_suffix(".key"))
        self.identity = Identity(VEHICLE, certificate, key, (recipient,), ssl.create_default_context())

    def open(self, records: list[Record]) -> Iterator[tuple[OpenedStream, Rows]]:
        """The rows of sealed records, as the cloud opens them."""
        streams: dict[bytes, OpenedStream] = {}
        for record in records:
            header, data = record.sealed.header, record.sealed.data
            if header.sequence == 0:
                streams[header.stream] = read_announcement(data, self.keys, self.ca, datetime.now(UTC))
            elif record.is_rows:
                opened = streams[header.stream]
                _, _, body = StreamOpener(VEHICLE, header.stream, opened.key).open(data)
                yield opened, decode_rows(body, opened.baseline)


def _sizes(material: Material, fleet: _Fleet, ticks: int) -> list[Result]:
    schema, snapshots = material.compiled.schema, material.snapshots
    journey = Journey(bytes(16), Clock(boot_ms=0, utc_ms=0, source="log"), schema.schema_id, (), "cansight benchmark")
    recorder = Recorder(schema, lambda _: "technical", fleet.identity, journey, ticks)
    records = [record for snapshot in snapshots for record in recorder.snapshot(snapshot, snapshot.tick_ns / 1e9)]
    records += recorder.flush()
    _check(material, fleet, records)

    samples, changed = recorder.samples.recorded, recorder.samples.changed
    drive_s = (snapshots[-1].tick_ns - snapshots[0].tick_ns) / 1e9 + 1
    share = min(1.0, drive_s / ROTATION_S)  # of an announcement's hour; the first streams of a run are short, and theirs count as well
    ours = sum(_on_the_wire(record.sealed.data) * (1 if record.is_rows else share) for record in records)
    sealed = sum(len(record.sealed.data) for record in records if record.is_rows)

    columns = material.seen
    names = [schema.names[column] for column in columns]
    values = np.stack([snapshot.value[columns] for snapshot in snapshots])
    times = [snapshot.tick_ns // 1_000_000 for snapshot in snapshots]
    parts: list[Batch] = [(times[at : at + ticks], values[at : at + ticks]) for at in range(0, len(times), ticks)]
    to_json, from_json = json_columns(names)
    to_protobuf, from_protobuf = protobuf_signals()
    json_bytes = protobuf_bytes = 0
    for part in parts:
        packed = to_json(part)
        again = from_json(packed)
        if again[0] != part[0] or not np.array_equal(again[1], part[1], equal_nan=True):
            raise ValueError("the rival's JSON does not come back as it was")
        json_bytes += len(packed)
        packed = to_protobuf(part)
        valid = {(part[0][i], j): float(part[1][i, j]) for i, j in zip(*np.nonzero(~np.isnan(part[1])), strict=True)}
        if from_protobuf(packed) != valid:
            raise ValueError("the rival's protobuf does not come back as it was")
        protobuf_bytes += len(packed)

    mine = ours / samples
    what = f"{len(names)} signals, {len(snapshots)} ticks at 1 Hz, {ticks} a batch"
    full = (
        f"{what}: MQTT, TLS and announcements counted ({sealed / samples:.3f} sealed batches alone; {ours / changed:.2f} a changed sample)"
    )
    recorded = material.log is not None
    rivals = (("protobuf + snappy, bare", protobuf_bytes, LESS_THAN_PROTOBUF), ("JSON columns + zlib, bare", json_bytes, LESS_THAN_JSON))
    return [
        Result("batch", full, "limit", "B/sample", mine, MOST[ticks], MOST[ticks] / mine, 1.0 if recorded else None),
        *(
            Result("batch", what, name, "B/sample", mine, size / samples, size / ours, floor if recorded else 4.0)
            for name, size, floor in rivals
        ),
    ]


def _check(material: Material, fleet: _Fleet, records: list[Record]) -> None:
    """Raw values and reasons of every tick come back as they were."""
    found = {}
    for opened, rows in fleet.open(records):
        for tick_ms, raw, reason in zip(rows.tick_ms.tolist(), rows.raw, rows.reason, strict=True):
            found[tick_ms] = (opened.columns, raw, reason)
    for snapshot in material.snapshots:
        columns, raw, reason = found.pop(snapshot.tick_ns // 1_000_000)
        if not (np.array_equal(raw, snapshot.raw[columns]) and np.array_equal(reason, snapshot.reason[columns])):
            raise ValueError("a batch does not come back as it was")
    if found:
        raise ValueError(f"{len(found)} ticks come back that were not recorded")


def _on_the_wire(sealed: bytes) -> int:
    """Bytes of one message: the PUBLISH in TLS records of at most 16 KiB."""
    publish = PUBLISH + len(up(VEHICLE)) + len(sealed)
    return publish + TLS_RECORD * (1 + (publish - 1) // (1 << 14))


def _time(material: Material) -> list[Result]:
    """The signals that change come first, so that there is more to encode than in a fair share of them."""
    snapshots, seen = material.snapshots, material.seen
    changing = np.ptp(np.stack([snapshot.raw[seen] for snapshot in snapshots]), axis=0) > 0
    columns = seen[np.argsort(~changing, kind="stable")][:TIMED_SIGNALS]
    tick_ms = np.array([snapshot.tick_ns // 1_000_000 for snapshot in snapshots])
    raw = np.stack([snapshot.raw[columns] for snapshot in snapshots])
    reason = np.stack([snapshot.reason[columns] for snapshot in snapshots])
    half = len(tick_ms) // 2
    history = Rows(tick_ms[:half], raw[:half], reason[:half])
    baseline = with_expected_widths(Rows(tick_ms[half : half + 1], raw[half : half + 1], reason[half : half + 1]), history)
    at = max(half, len(tick_ms) - TIMED_TICKS)
    rows = Rows(tick_ms[at : at + TIMED_TICKS], raw[at : at + TIMED_TICKS], reason[at : at + TIMED_TICKS])
    names = [material.compiled.schema.names[column] for column in columns]
    part = (rows.tick_ms.tolist(), np.where(rows.reason == Reason.VALID, rows.raw.astype(np.float64), np.nan))
    sealer = StreamSealer.start(VEHICLE)
    to_json, to_protobuf = json_columns(names)[0], protobuf_signals()[0]
    sides = (lambda: sealer.seal(Kind.ROWS, encode_rows(rows, baseline)), lambda: to_json(part), lambda: to_protobuf(part))
    mine, json_s, protobuf_s = medians_s(*sides)
    what = f"encode and seal {len(columns)} signals ({int(changing.sum())} of the drive's change) x {len(rows.raw)} ticks"
    return [
        Result("batch", what, "limit", "µs", mine * 1e6, MOST_S * 1e6, MOST_S / mine, 1.0),
        Result("batch", what, "JSON columns + zlib, bare", "µs", mine * 1e6, json_s * 1e6, json_s / mine),
        Result("batch", what, "protobuf + snappy, bare", "µs", mine * 1e6, protobuf_s * 1e6, protobuf_s / mine),
    ]
