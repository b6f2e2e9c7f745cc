"""Twenty vehicles for the ledger: real agents that read a small car's frames from standard input, and the drive that goes on whoever dies.

A vehicle's tick n has one frame of each message; `Car.Count` is n, so a value in the store says which tick it was recorded at. What is
written while an agent is dead is lost, as a bus's frames are: the ledger begins with what the agent has recorded.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import processes

BASE_S = 1_700_000_000
DBC = """VERSION ""

BU_: ECU

BO_ 256 Car: 8 ECU
 SG_ Count : 0|32@1+ (1,0) [0|0] "" ECU
 SG_ Speed : 32|16@1+ (0.01,0) [0|300] "km/h" ECU
 SG_ Torque : 48|16@1- (0.1,0) [-3000|3000] "Nm" ECU

BO_ 257 Body: 4 ECU
 SG_ Doors : 0|4@1+ (1,0) [0|15] "" ECU
 SG_ Outside : 8|8@1+ (0.5,-40) [-40|80] "degC" ECU
"""
PROBE = "Car.Count"
LEDGER_HEAD = "tick_ms,entered_ns,samples\n"


@dataclass
class Vehicle:
    """One agent: started and started again with the same settings and state folder; its standard input is the bus."""

    vehicle: str
    config: Path
    ledger: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None
    ledger_at_start: int = 0  # bytes
    tick: int = 0  # the last one that was written to the bus
    _bus: int = -1  # the writing end of the agent's standard input
    _lock: threading.Lock = field(default_factory=threading.Lock)  # the bus is the drive's thread's, the process the main one's

    def start(self) -> None:
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        with self.log.open("ab") as said:
            command = [sys.executable, "-m", "cansight", "edge", "run", "-c", str(self.config)]
            process = subprocess.Popen(command, stdin=read_end, stdout=said, stderr=said, env=_quiet())
        os.close(read_end)
        with self._lock:
            self.process, self._bus = process, write_end
        self.ledger_at_start = self.ledger.stat().st_size if self.ledger.exists() else len(LEDGER_HEAD)

    def drive(self, tick: int) -> None:
        """One second's frames on the bus, whether somebody listens or not."""
        stamp = BASE_S + tick - 0.5
        speed, torque = 9000 + 37 * tick % 5000, tick * tick % 20000
        car = tick.to_bytes(4, "little") + speed.to_bytes(2, "little") + torque.to_bytes(2, "little")
        lines = f"({stamp:.6f}) can0 100#{car.hex().upper()}\n({stamp + 0.1:.6f}) can0 101#{tick // 7 % 16:02X}{tick // 9 % 200:02X}0000\n"
        with self._lock:
            self.tick = tick
            if self._bus >= 0:
                with contextlib.suppress(BlockingIOError, BrokenPipeError):
                    os.write(self._bus, lines.encode())

    def end_of_drive(self) -> None:
        """The bus falls silent for good; the agent ends when every batch has its receipt."""
        with self._lock:
            if self._bus >= 0:
                os.close(self._bus)
                self._bus = -1

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.end_of_drive()

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def drained(self) -> bool:
        return self.process is not None and self.process.poll() == 0


class Fleet:
    """The vehicles, and the thread that drives them all at `ticks_s` ticks a second of wall time, until `stop`."""

    def __init__(self, vehicles: list[Vehicle], ticks_s: float) -> None:
        self.vehicles = vehicles
        self.tick = 0
        self._pause_s = 1 / ticks_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drive", daemon=True)
        self._counted: dict[str, tuple[int, int]] = {}  # vehicle -> bytes of its ledger that were counted, ticks in them

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def drive(self) -> None:
        self.tick += 1
        for vehicle in self.vehicles:
            vehicle.drive(self.tick)

    @staticmethod
    def at_work(vehicle: Vehicle) -> bool:
        """Whether its agent has recorded anything since it was started."""
        return vehicle.ledger.exists() and vehicle.ledger.stat().st_size > vehicle.ledger_at_start

    def recorded(self) -> int:
        """Ticks that the agents have on the flash, by their ledgers."""
        for vehicle in self.vehicles:
            size, ticks = self._counted.get(vehicle.vehicle, (0, -1))  # the first line is the head
            if vehicle.ledger.exists() and vehicle.ledger.stat().st_size > size:
                with vehicle.ledger.open("rb") as stream:
                    stream.seek(size)
                    more = stream.read()
                self._counted[vehicle.vehicle] = size + len(more), ticks + more.count(b"\n")
        return sum(ticks for _, ticks in self._counted.values())

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._stop.wait(max(0.0, due_s - time.monotonic())):
            due_s = max(due_s + self._pause_s, time.monotonic() - 1)
            self.drive()


def enrol(folder: Path, pki: Path, port: int, number: int) -> list[Vehicle]:
    """Certificates and settings of `number` vehicles that reach their broker at `port`. Their DBC is compiled once, for all of them."""
    from cloud.pki import vehicle as enrolled
    from dbc.compiler import load_compiled

    dbc = folder / "car.dbc"
    dbc.write_text(DBC)
    files = [f"{dbc}@can0"]
    load_compiled(files, folder / "cache")
    vehicles = []
    for _ in range(number):
        name = enrolled(pki)
        config = processes.edge_settings(folder, pki, port, name, Path("-"), files, source={"log": "-"}, health={"heartbeat_s": 5.0})
        shutil.copytree(folder / "cache", folder / name / "cache")
        vehicles.append(Vehicle(name, config, folder / f"{name}.csv", folder / f"{name}.log"))
    return vehicles


def _quiet() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
