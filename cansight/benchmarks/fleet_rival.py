"""The usual simulator of vehicles: one paho client with a thread of its own for each, named JSON, a PUBACK for an answer.

`python -m cansight.benchmarks.fleet_rival PKI PORT SECONDS ID...`: prints one JSON line. No sealing, receipts, resending: it does less.
"""

import json
import ssl
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from wire.topics import up

SIGNALS, TICKS = 200, 2
PATIENCE_S = 120.0


class Counter:
    """PUBACKs, counted in every client's network thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.acknowledged = self.connected = 0

    def on_publish(self, *_: Any) -> None:
        with self.lock:
            self.acknowledged += 1

    def on_connect(self, *_: Any) -> None:
        with self.lock:
            self.connected += 1


def main(arguments: list[str]) -> None:
    """Publish from every vehicle's thread for SECONDS; processor time is counted from the first batch to the last PUBACK."""
    pki, port, seconds, vehicles = Path(arguments[0]), int(arguments[1]), int(arguments[2]), arguments[3:]
    counter = Counter()
    clients = [_client(pki, vehicle, counter) for vehicle in vehicles]
    for client in clients:
        client.connect("localhost", port, 60)
        client.loop_start()
    deadline_s = time.monotonic() + PATIENCE_S
    while counter.connected < len(clients) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    start_s, cpu_s = time.monotonic() + 0.5, time.process_time()
    batches = seconds // TICKS
    threads = [
        threading.Thread(target=_drive, args=(client, vehicle, number, len(clients), start_s, batches))
        for number, (client, vehicle) in enumerate(zip(clients, vehicles, strict=True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deadline_s = time.monotonic() + PATIENCE_S
    while counter.acknowledged < batches * len(clients) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    cpu_s = time.process_time() - cpu_s
    sys.stdout.write(json.dumps({"batches": counter.acknowledged, "cpu_s": cpu_s}) + "\n")
    sys.stdout.flush()
    for client in clients:
        client.disconnect()


def _client(pki: Path, vehicle: str, counter: Counter) -> mqtt.Client:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=pki / "fleet-ca.pem")
    context.load_cert_chain(pki / "vehicles" / f"{vehicle}.pem", pki / "vehicles" / f"{vehicle}.key")
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=vehicle, protocol=MQTTProtocolVersion.MQTTv5)
    client.tls_set_context(context)
    client.on_publish, client.on_connect = counter.on_publish, counter.on_connect
    return client


def _drive(client: mqtt.Client, vehicle: str, number: int, vehicles: int, start_s: float, batches: int) -> None:
    rng = np.random.default_rng(number)
    names = [f"Message{signal // 8}.Signal{signal}" for signal in range(SIGNALS)]
    raw = rng.integers(0, 4000, SIGNALS)
    topic = up(vehicle)
    for batch in range(batches):
        due_s = start_s + batch * TICKS + TICKS * number / vehicles
        time.sleep(max(0.0, due_s - time.monotonic()))
        ticks = []
        for tick in range(TICKS):
            raw = raw + rng.integers(-8, 9, SIGNALS) * (rng.random(SIGNALS) < 0.45)
            ticks.append({"t": batch * TICKS + tick} | dict(zip(names, (raw * 0.1).tolist(), strict=True)))
        client.publish(topic, json.dumps(ticks, separators=(",", ":")).encode(), qos=1)


if __name__ == "__main__":
    main(sys.argv[1:])
