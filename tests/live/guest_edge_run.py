"""`cansight edge run` on two virtual buses: what was on them is sealed in its outbox, and only the fleet's key opens it."""

import json
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from prepared_car import FILES, VEHICLE
from vcan import CAR, sender, until

from cloud.pki import load_certificate
from wire.codec import decode_rows
from wire.envelope import StreamOpener, read_announcement
from wire.header import Header
from wire.messages import Kind
from wire.receipts import TAG_BYTES, Status
from wire.recipients import load_recipient_keys
from wire.segment_log import SegmentLog

SECONDS = 5
START_S = 90.0  # an emulated processor imports slowly


def test_an_agent_on_two_buses_seals_what_they_say(tmp_path: Path) -> None:
    pki = CAR / "pki"
    shutil.copytree(CAR / "state", tmp_path / "state")
    certificate = pki / "vehicles" / VEHICLE
    settings: dict[str, Any] = {
        "vehicle": VEHICLE,
        "state": "state",
        "source": {"socketcan": ["vcan0", "vcan1"]},
        "dbc": {"files": [f"{CAR}/{file}" for file in FILES]},
        "broker": {"port": 1, "ca": f"{pki}/fleet-ca.pem", "certificate": f"{certificate}.pem", "key": f"{certificate}.key"},
        "recipients": {"files": [f"{pki}/recipient.json"]},
        "health": {"status_s": 1.0},
    }
    (tmp_path / "edge.toml").write_text(tomli_w.dumps(settings))
    status_file = tmp_path / "state" / "status.json"

    def status() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(status_file.read_bytes()) if status_file.exists() else {}
        return found

    began_ms = time.time_ns() // 1_000_000
    command = [sys.executable, "-m", "cansight", "edge", "run", "-c", str(tmp_path / "edge.toml")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as agent, ending(agent):
        until(lambda: status() or agent.poll() is not None, "the agent", START_S)
        assert agent.poll() is None, agent.communicate()[1]
        sent: dict[int, tuple[int, int, int]] = {}  # UTC ms -> what was said last by then
        with sender("vcan0") as drive, sender("vcan1") as body:
            start = time.monotonic()
            for number in range(SECONDS * 100):
                time.sleep(max(0.0, start + number / 100 - time.monotonic()))
                drive.send(struct.pack("=IB3xHh4x", 0x100, 8, number, -number))
                body.send(struct.pack("=IB3xH6x", 0x200, 2, number))
                drive.send(struct.pack("=IB3x8x", 0x7DF, 8))  # of no DBC: the kernel keeps it
                sent[time.time_ns() // 1_000_000] = (number, -number, number)
        until(lambda: status().get("ticks", 0) >= SECONDS and status().get("frames", 0) >= SECONDS * 200, "the ticks and the last frames")
        agent.send_signal(signal.SIGTERM)
        said = agent.communicate(timeout=60)[1]
        assert agent.returncode == 0, said
    final = status()
    assert (final["frames"], final["frames_unknown"]) == (SECONDS * 200, 0), final
    assert {name: (channel["frames"], channel["frames_dropped"]) for name, channel in final["channels"].items()} == {
        "vcan0": (SECONDS * 100, 0),
        "vcan1": (SECONDS * 100, 0),
    }
    assert final["batches_recorded"] >= SECONDS // 2
    assert "Traceback" not in said

    rows = opened(tmp_path / "state" / "outbox", pki)
    assert len(rows) == final["ticks"] >= SECONDS
    assert all(began_ms <= tick_ms <= time.time_ns() // 1_000_000 + 1000 for tick_ms in rows)
    for tick_ms, raw in rows.items():
        by_then = [values for at, values in sent.items() if at < tick_ms]
        if by_then:
            assert abs(int(raw[0]) - by_then[-1][0]) <= 20  # the tick's last frame: within 0.2 s of what was sent when the tick ended
            assert (raw[1], raw[0]) == (-raw[0], raw[0])


@contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[None]:
    """Whatever fails, the process does not stay."""
    try:
        yield
    finally:
        process.kill()


def opened(outbox: Path, pki: Path) -> dict[int, np.ndarray]:
    """tick_ms -> raw values of all rows in the outbox, opened with the recipient's key."""
    keys, ca = load_recipient_keys([pki / "recipient.key"]), load_certificate(pki / "fleet-ca.pem")
    sealed: dict[bytes, dict[int, bytes]] = {}
    for lane in ("reserved", "bulk"):
        with SegmentLog(outbox / lane) as log:
            for _, payload in log.read():
                at = TAG_BYTES * len(Status)
                data = payload[at + 1 + payload[at] :]
                header = Header.unpack(data)
                sealed.setdefault(header.stream, {})[header.sequence] = data
    for path in (outbox / "streams").iterdir():  # u32 CRC, then a record
        data = path.read_bytes()[4:]
        at = TAG_BYTES * len(Status)
        sealed.setdefault(bytes.fromhex(path.name), {})[0] = data[at + 1 + data[at] :]
    found: dict[int, np.ndarray] = {}
    for stream, batches in sealed.items():
        announced = read_announcement(batches[0], keys, ca, datetime.now(UTC))
        assert announced.announcement.clock is not None
        assert announced.announcement.clock.source == "system"
        shift = announced.announcement.clock.utc_ms - announced.announcement.clock.boot_ms
        opener = StreamOpener(VEHICLE, stream, announced.key)
        for sequence, data in batches.items():
            if sequence:
                _, kind, body = opener.open(data)
                if kind is Kind.ROWS:
                    rows = decode_rows(body, announced.baseline)
                    found |= dict(zip((rows.tick_ms + shift).tolist(), rows.raw, strict=True))
    return found
