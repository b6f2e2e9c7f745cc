"""Days without a connection: what the outbox takes on the flash, and what it writes for each byte that it keeps."""

import dataclasses
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from cansight.benchmarks.material import Material
from cansight.benchmarks.result import Result
from dbc.sampler import Snapshot
from edge.identity import Identity
from edge.outbox import Outbox
from edge.outbox_store import OutboxStore
from edge.recorder import IDENTITY, TECHNICAL, Recorder
from edge.streams import Journey
from wire.messages import Clock

SIGNALS, BATCH_TICKS = 250, 2
MEASURED_H = 1
DAYS, DAILY_H = 7, 5  # of the hours a day two are driven and three charged: a vehicle-month is 40 h of driving and 60 h of charging
MOST_MB, MOST_ALWAYS_MB = 150.0, 250.0
MOST_WRITTEN = 4.0  # file bytes for each byte of sealed batches
ROOM = 1 << 30
VEHICLE = "0123456789abcdef"


@dataclass(frozen=True)
class Flash:
    """payload: bytes of sealed batches; kept: of the outbox's files; written: passed to the kernel; device: what it wrote to the disk."""

    hours: float
    payload: int
    kept: int
    written: int
    device: int


def offline(material: Material) -> list[Result]:
    """An hour, driven all the time and cut off from the start; days of it are that many hours."""
    with tempfile.TemporaryDirectory(prefix="cansight-bench-") as folder:
        found = drive_offline(material, Path(folder), MEASURED_H)
    hourly = found.kept / found.hours / 1e6
    some, always = hourly * DAYS * DAILY_H, hourly * DAYS * 24
    ratio = found.written / found.payload
    what = f"{SIGNALS} signals at 1 Hz, {DAYS} days offline"
    wear = f"file bytes written a byte of sealed batches ({found.device / found.payload:.0f} of the disk's, whose least is a page a commit)"
    return [
        Result("offline", f"{what}, 2 h driven and 3 h charged a day", "limit", "MB", some, MOST_MB, MOST_MB / some, 1.0),
        Result("offline", f"{what}, always driven", "limit", "MB", always, MOST_ALWAYS_MB, MOST_ALWAYS_MB / always, 1.0),
        Result("offline", wear, "limit", "bytes", ratio, MOST_WRITTEN, MOST_WRITTEN / ratio, 1.0),
    ]


def drive_offline(material: Material, folder: Path, hours: float) -> Flash:
    """Record so many hours as the agent does, a commit and a look after the files each second, with the drive to and fro."""
    schema = material.compiled.schema
    seen = material.seen
    chosen = set(seen[np.linspace(0, len(seen) - 1, min(SIGNALS, len(seen))).astype(np.intp)].tolist())
    classes = {name: TECHNICAL if number in chosen else IDENTITY for number, name in enumerate(schema.names)}
    journey = Journey(bytes(16), Clock(boot_ms=0, utc_ms=0, source="log"), schema.schema_id, (), "cansight benchmark")
    recorder = Recorder(schema, classes.__getitem__, _identity(folder), journey, BATCH_TICKS)
    payload = 0
    before = _written()
    with OutboxStore(folder / "outbox", ROOM, Outbox(lambda most: most)) as store:
        for number, snapshot in enumerate(_to_and_fro(material.snapshots, round(hours * 3600))):
            for record in recorder.snapshot(snapshot, float(number)):
                payload += len(record.sealed.data)
                store.append(record)
            store.commit()
            store.maintain(float(number))
        kept = sum(path.stat().st_size for path in (folder / "outbox").rglob("*") if path.is_file())
    after = _written()
    return Flash(hours, payload, kept, after["wchar"] - before["wchar"], after["write_bytes"] - before["write_bytes"])


def _to_and_fro(snapshots: list[Snapshot], ticks: int) -> Iterator[Snapshot]:
    there = snapshots[len(snapshots) // 4 :]  # signals that come late are there by then
    order = [*there, *there[-2:0:-1]]
    for number in range(ticks):
        yield dataclasses.replace(order[number % len(order)], tick_ns=(number + 1) * 1_000_000_000)


def _written() -> dict[str, int]:
    """Linux's account of this process: man 5 proc_pid_io."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}


def _identity(folder: Path) -> Identity:
    import ssl

    from cloud import pki
    from wire.recipients import read_recipient

    keys = folder / "pki"
    pki.init(keys)
    pki.vehicle(keys, VEHICLE)
    stem = keys / "vehicles" / VEHICLE
    certificate, key = pki.load_certificate(stem.with_suffix(".pem")), pki.load_key(stem.with_suffix(".key"))
    ca = pki.load_certificate(keys / "fleet-ca.pem")
    recipient = read_recipient((keys / "recipient.json").read_bytes(), ca, datetime.now(UTC).timestamp())
    return Identity(VEHICLE, certificate, key, (recipient,), ssl.create_default_context())
