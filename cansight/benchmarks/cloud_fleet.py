"""The fleet that loads the cloud, at the least cost: batches sealed and PUBLISH packets made before the run, one thread, two looks at each
vehicle in the time of a batch.

`python -m cansight.benchmarks.cloud_fleet PKI PORT VEHICLES SECONDS RAMP`: says `ready` when everything is sealed and every vehicle
connected. A line on its standard input starts it, another one ends it, SECONDS at the latest; when every batch has its receipt it prints
one JSON line.

What goes over the wire is what agents send: MQTT 5 at QoS 1 in TLS 1.3, a connection, a certificate and a stream of its own for each
vehicle, each PUBACK by itself, a batch again where its receipt does not come. Streams are opened one by one over RAMP seconds, as vehicles
are started at any time. Receipts are counted as they come; their tags are checked after the run.
"""

import gc
import json
import select
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cansight.benchmarks.cloud_vehicle import Vehicle, publish
from cansight.commands.sim_fleet import issue
from dbc.catalogue import Catalogue
from dbc.compiler import compile_dbc
from dbc.vehicles import CATALOGUE, DBC_FILES
from simulator.fleet import Trust, prepare, vehicle_id
from simulator.fleet.drives import Walks
from simulator.fleet.plan import BOOT_MS
from simulator.fleet.prepared import Prepared, Work
from simulator.fleet.sealing import CONSENT_CLASS, Journey, Sealer
from wire.envelope import StreamSealer
from wire.header import Header
from wire.messages import Clock
from wire.receipts import Receipt, decode_downlink, receipt_key, tag_for, tags_match
from wire.topics import up

SEED, SIGNALS, TICKS = 1, 200, 2
GRAIN_S = 0.02  # between two wakings: each is for many vehicles, and a batch is late by no more
DRAIN_S = 120.0
ANNOUNCE_S = 0.002  # processor time of an announcement, with room
_GOLDEN = 0.618_033_988_749_895  # multiples of it, modulo 1, are spread evenly however many there are (Weyl, 1916)


class Load:
    """All vehicles. `open`, then `drive`, then `report`."""

    def __init__(self, pki: Path, port: int, vehicles: int, seconds: int, ramp_s: float) -> None:
        self._pki = pki
        self._port = port
        self._trust = Trust(pki)
        self._batches = seconds // TICKS
        self._ids = [vehicle_id(SEED, number) for number in range(vehicles)]
        self._offset_s = (np.arange(vehicles) * _GOLDEN % 1.0) * max(ramp_s, TICKS)
        self._first_ms = BOOT_MS + (self._offset_s * 1000).astype(np.int64)
        self._ready: list[Prepared] = []
        self._vehicles: list[Vehicle] = []
        self._late = array("f")

    def open(self) -> None:
        """Seal everything, connect all. Raises WorkFailed."""
        issue(self._pki, self._ids, lambda words, share: None)
        self._trust.read()
        compiled, catalogue = compile_dbc(DBC_FILES), Catalogue.load(CATALOGUE)
        schema = compiled.schema
        technical = [number for number, name in enumerate(schema.names) if catalogue.consent_class(name) == CONSENT_CLASS]
        columns = np.array(technical[:SIGNALS], np.intp)
        work = Work(Walks(schema, columns, SEED), self._ids, self._first_ms, self._batches, TICKS, probe=0)
        for one in prepare(work):
            topic = up(self._ids[one.number])
            packets = [b"", *(publish(topic, one.batch(sequence), sequence + 1) for sequence in range(1, self._batches + 1))]
            self._vehicles.append(Vehicle(self._trust.keys(self._ids[one.number]), self._port, packets))
            self._ready.append(Prepared(one.number, one.stream, one.key, b"", one.ends[:0], one.probe[:0], one.first))
        self._schema, self._columns = schema, columns

    def drive(self, ended: Callable[[], bool]) -> None:
        """Each vehicle's batches at their time, and half a batch's time later a look at what has come."""
        start_s = self._announce()
        gc.freeze()  # what was prepared is not garbage, and is not to be looked through
        vehicles, offset_s, late = self._vehicles, self._offset_s.tolist(), self._late
        # (second within a batch's time, whether to send, whose), as they come: a vehicle's first tick is over a second after its start
        turns = sorted(
            (at, sends, number)
            for number, offset in enumerate(offset_s)
            for at, sends in ((offset % TICKS, False), ((offset + 1.0) % TICKS, True))
        )
        base_s = start_s
        left = len(vehicles)
        while left and not ended():
            for at, sends, number in turns:
                due_s = base_s + at
                now_s = time.monotonic()
                if due_s > now_s:
                    time.sleep(max(due_s - now_s, GRAIN_S))
                    if ended():
                        break
                    now_s = time.monotonic()
                vehicle = vehicles[number]
                sequence = vehicle.sent
                if sends and 0 < sequence <= self._batches:
                    vehicle.send(sequence, now_s)
                    late.append(now_s - due_s)
                    left -= sequence == self._batches
                elif not sends and sequence:
                    vehicle.look(now_s)
                elif not sends and due_s >= start_s + offset_s[number] - 1e-3:
                    vehicle.send(0, now_s)
            base_s += TICKS
        deadline_s = time.monotonic() + DRAIN_S
        while any(vehicle.held for vehicle in vehicles) and time.monotonic() < deadline_s:
            for vehicle in vehicles:
                if vehicle.held:
                    vehicle.look(time.monotonic())
            time.sleep(TICKS / 10)

    def _announce(self) -> float:
        """Seal the announcements, which carry the clock; the monotonic second at which the first vehicle starts."""
        lead_s = 1.0 + len(self._ids) * ANNOUNCE_S
        start_s, start_ms = time.monotonic() + lead_s, time.time_ns() // 1_000_000 + round(lead_s * 1000)
        clock = Clock(boot_ms=BOOT_MS, utc_ms=start_ms, source="system")
        journey = Journey(self._schema.schema_id, self._columns, len(self._schema), self._trust.recipients, clock)
        for vehicle, one in zip(self._vehicles, self._ready, strict=True):
            keys = self._trust.keys(self._ids[one.number])
            sealer = StreamSealer(keys.vehicle, one.stream, one.key)
            sealed = Sealer(keys, journey).open(one.first, int(self._first_ms[one.number]), 0.0, sealer)
            vehicle.packets[0] = publish(up(keys.vehicle), sealed.data, 1)
        return start_s

    def report(self) -> dict[str, float | int]:
        """batches, announcements apart; forged: receipts whose tag is not the stream's; again: what was sent more than once."""
        forged = sum(map(self._forged, self._vehicles, self._ready))
        return {
            "batches": sum(max(0, vehicle.sent - 1) for vehicle in self._vehicles),
            "unreceipted": sum(len(vehicle.held) for vehicle in self._vehicles),
            "forged": forged,
            "again": sum(vehicle.again for vehicle in self._vehicles),
            "late_s": float(np.percentile(np.array(self._late), 99)) if self._late else 0.0,
        }

    def _forged(self, vehicle: Vehicle, ready: Prepared) -> int:
        key, name = receipt_key(ready.key), self._ids[ready.number]
        forged = 0
        for payload in vehicle.receipts:
            said = decode_downlink(payload)
            assert isinstance(said, Receipt)
            for entry in said.entries:
                header = Header(name, said.stream, entry.sequence).pack()
                forged += said.stream != ready.stream or not tags_match(tag_for(key, header, entry.status), entry.tag)
        return forged


def main(arguments: list[str]) -> None:
    """From `ready` to the report."""
    load = Load(Path(arguments[0]), int(arguments[1]), int(arguments[2]), int(arguments[3]), float(arguments[4]))
    load.open()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    load.drive(lambda: bool(select.select([sys.stdin], [], [], 0)[0]))
    sys.stdout.write(json.dumps(load.report()) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
