"""A small car, its log, its settings, and an aggregator of forty lines: opens, keeps and receipts what the agent sends."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
import tomli_w
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from wire.codec import decode_rows
from wire.envelope import OpenedStream, StreamOpener, read_announcement
from wire.header import Header
from wire.messages import Kind, Message, Rows, decode_message
from wire.receipts import Status, encode_receipt, encode_request, receipt_tag
from wire.recipients import load_recipient_keys
from wire.topics import UP_FILTER, down

VEHICLE = "0123456789abcdef"
START_S = 1_700_000_000
PATIENCE_S = 60.0

DBC = """VERSION ""
NS_ :
BS_:
BU_: ECU
BO_ 256 Motor: 8 ECU
 SG_ Torque : 0|16@1- (0.1,0) [-3276.8|3276.7] "Nm" ECU
 SG_ Speed : 16|16@1+ (1,0) [0|65535] "rpm" ECU
 SG_ SecretValue : 32|32@1+ (1,0) [0|4294967295] "" ECU
BO_ 512 Cabin: 4 ECU
 SG_ Temperature : 0|8@1+ (0.5,-40) [-40|87.5] "degC" ECU
 SG_ Owner : 8|24@1+ (1,0) [0|16777215] "" ECU
BO_ 768 Never: 1 ECU
 SG_ Sent : 0|8@1+ (1,0) [0|255] "" ECU
"""
CATALOGUE = """vehicle = "test car"
[faults]
[subsystems]
all = { en = "all", zh = "全部" }
[purposes]
all = { en = "all", zh = "全部" }
[signals]
"Motor.SecretValue" = { subsystem = "all", purpose = "all", privacy = "driving", en = "secret", zh = "秘密" }
"Cabin.Owner" = { subsystem = "all", purpose = "all", privacy = "identity", en = "owner", zh = "车主" }
"""
SECRET = 0xC0FFEE99
OWNER = 0xBADCAB


def write_log(path: Path, seconds: int, frames_per_s: int = 20, start_s: int = START_S) -> Path:
    """candump text: a torque that wanders, a speed that rises, constants, and one identifier that no DBC has."""
    random = np.random.default_rng(1)
    torque = np.cumsum(random.integers(-50, 50, seconds * frames_per_s)).astype(np.int16)
    lines = []
    for number in range(seconds * frames_per_s):
        stamp = f"({start_s + number // frames_per_s}.{number % frames_per_s * 1_000_000 // frames_per_s:06d}) can0"
        motor = (
            int(torque[number]).to_bytes(2, "little", signed=True) + (number % 60000).to_bytes(2, "little") + SECRET.to_bytes(4, "little")
        )
        lines.append(f"{stamp} 100#{motor.hex().upper()}")
        if number % frames_per_s == 0:
            lines.append(f"{stamp} 200#{(bytes([100]) + OWNER.to_bytes(3, 'little')).hex().upper()}")
            lines.append(f"{stamp} 3FF#00")
    path.write_text("\n".join(lines) + "\n")
    return path


def until(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> None:
    """Waits for something to become true; the only waiting in these tests."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience_s} s for {what}"
        time.sleep(0.02)


@dataclass
class Car:
    """A vehicle with certificate, DBC and settings, and its agent as a process."""

    folder: Path
    pki: Path
    broker_port: int
    log: str
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    vehicle: str = VEHICLE
    process: subprocess.Popen[str] | None = None

    def __post_init__(self) -> None:
        from cloud import pki

        self.folder.mkdir(exist_ok=True)
        pki.vehicle(self.pki, self.vehicle)
        (self.folder / "car.dbc").write_text(DBC)
        (self.folder / "catalogue.toml").write_text(CATALOGUE)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def document(self) -> dict[str, Any]:
        certificate = self.pki / "vehicles" / self.vehicle
        document: dict[str, Any] = {
            "vehicle": self.vehicle,
            "state": str(self.state),
            "source": {"log": self.log},
            "dbc": {"files": ["car.dbc"], "catalogue": "catalogue.toml"},
            "broker": {
                "port": self.broker_port,
                "ca": str(self.pki / "fleet-ca.pem"),
                "certificate": f"{certificate}.pem",
                "key": f"{certificate}.key",
            },
            "recipients": {"files": [str(self.pki / "recipient.json")]},
            "health": {"status_s": 1.0},
            "run": {"stop_when_drained": True},
        }
        for section, values in self.overrides.items():
            document[section] = document.get(section, {}) | values
        return document

    def settings(self) -> Path:
        path = self.folder / "edge.toml"
        path.write_text(tomli_w.dumps(self.document))
        return path

    def start(self) -> None:
        command = [sys.executable, "-m", "cansight", "edge", "run", "-c", str(self.settings())]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=self.folder)

    def end(self, number: signal.Signals | None = None, timeout_s: float = PATIENCE_S) -> tuple[int, str]:
        """Exit code and stderr, after the signal or of itself."""
        assert self.process is not None
        if number is not None:
            self.process.send_signal(number)
        _, said = self.process.communicate(timeout=timeout_s)
        code, self.process = self.process.returncode, None
        return code, said

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()

    @property
    def status(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.state / "status.json").read_bytes())
        except FileNotFoundError:
            return {}
        return found


class Aggregator:
    """Opens and keeps everything, and receipts it unless `silent`. `forge`: sends a receipt with a wrong tag first."""

    def __init__(self, pki: Path, port: int, protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5) -> None:
        self.pki = pki
        self.port = port
        self.protocol = protocol
        self.landed: dict[tuple[bytes, int], bytes] = {}
        self.arrivals: list[tuple[bytes, int]] = []
        self.streams: dict[bytes, OpenedStream] = {}
        self.bodies: dict[tuple[bytes, int], tuple[Kind, bytes]] = {}
        self.waiting: dict[bytes, list[bytes]] = {}
        self.silent = False
        self.forge = False
        self.forget_announcements = False
        self.status = Status.STORED
        self.lock = threading.Lock()
        self._keys = load_recipient_keys([pki / "recipient.key"])
        self._client: mqtt.Client | None = None
        self._subscribed = threading.Event()

    def start(self) -> None:
        from cloud.pki import load_certificate

        self._ca = load_certificate(self.pki / "fleet-ca.pem")
        self._subscribed.clear()
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="aggregator", protocol=self.protocol)
        client.tls_set(str(self.pki / "fleet-ca.pem"), str(self.pki / "aggregator.pem"), str(self.pki / "aggregator.key"))
        client.on_connect = lambda client, *_: client.subscribe(UP_FILTER, qos=1)
        client.on_subscribe = lambda *_: self._subscribed.set()
        client.on_message = lambda client, _, message: self._take(client, message.payload)
        client.reconnect_delay_set(1, 1)
        client.connect("localhost", self.port)
        client.loop_start()
        self._client = client
        assert self._subscribed.wait(PATIENCE_S)

    def stop(self) -> None:
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None

    def _take(self, client: mqtt.Client, data: bytes) -> None:
        header = Header.unpack(data)
        with self.lock:
            self.arrivals.append((header.stream, header.sequence))
            if header.sequence == 0:
                if self.forget_announcements:
                    self.forget_announcements = False
                    return
                self.streams[header.stream] = read_announcement(data, self._keys, self._ca, datetime.now(UTC))
            elif header.stream not in self.streams:
                client.publish(down(header.vehicle), encode_request(header.stream), qos=1)
                return
            opened = self.streams[header.stream]
            if header.sequence:
                _, kind, body = StreamOpener(header.vehicle, header.stream, opened.key).open(data)
                self.bodies[header.stream, header.sequence] = (kind, body)
            self.landed[header.stream, header.sequence] = data
            if self.forge:
                forged = [(header.sequence, Status.STORED, os.urandom(16))]
                client.publish(down(header.vehicle), encode_receipt(header.stream, forged), qos=1)
                client.publish(down(header.vehicle), b"not a receipt", qos=1)
            if not self.silent:
                tag = receipt_tag(opened.key, header.pack(), self.status)
                client.publish(down(header.vehicle), encode_receipt(header.stream, [(header.sequence, self.status, tag)]), qos=1)

    def missing(self) -> list[tuple[bytes, int]]:
        """Sequences that a stream must have, because a later one of it arrived."""
        with self.lock:
            last: dict[bytes, int] = {}
            for stream, sequence in self.landed:
                last[stream] = max(last.get(stream, 0), sequence)
            return [(stream, number) for stream, end in last.items() for number in range(end + 1) if (stream, number) not in self.landed]

    def rows(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """tick_ms -> (raw, reason) over the schema's columns that any stream records."""
        found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for (stream, _), (kind, body) in list(self.bodies.items()):  # more may come meanwhile
            if kind is Kind.ROWS:
                rows: Rows = decode_rows(body, self.streams[stream].baseline)
                for number, tick_ms in enumerate(rows.tick_ms.tolist()):
                    found[tick_ms] = (rows.raw[number], rows.reason[number])
        return found

    def messages(self, wanted: Kind) -> list[Message]:
        return [decode_message(kind, body) for kind, body in list(self.bodies.values()) if kind is wanted]


MakeCar = Callable[..., Car]
