"""The agent's memory over a day: the car of `cansight bench agent` with its packs, replayed as fast as it goes, every batch receipted.

CANSIGHT_SOAK=1: 24 hours of vehicle time in some minutes. The short form is the first 10 minutes of them.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import servers
from cansight.benchmarks import agent_car
from cansight.benchmarks.broker import broker_and_receipts

SOAK = os.environ.get("CANSIGHT_SOAK") == "1"
MINUTES = 24 * 60 if SOAK else 10
START_S = 1_700_000_000
WARM = 0.25  # of the time; queues, windows and caches are as large as they get
MOST_GROWTH_MB = 3.0  # of what is resident: allocators are not even
MOST_MB = 115.0


def write_day(path: Path, messages: agent_car.Wanted, seconds: int) -> None:
    """candump text: every message once a second, payloads of a simulated drive."""
    frames, count = agent_car.frames(messages), sum(map(len, messages))
    lines: list[bytes] = []
    with path.open("wb") as stream:
        for second in range(seconds):
            for number in range(count):
                bus, frame = next(frames)
                identifier, length = int.from_bytes(frame[:4], "little"), frame[4]
                mark = b"##1" if len(frame) > 16 else b"#"
                lines.append(
                    b"(%d.%06d) can%d %03X%s%s\n"
                    % (START_S + second, number * 1000, bus, identifier, mark, frame[8 : 8 + length].hex().encode())
                )
            if len(lines) > 50_000 or second == seconds - 1:
                stream.writelines(lines)
                lines.clear()


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def test_memory_is_flat_and_small(tmp_path: Path) -> None:
    mosquitto = servers.program("mosquitto", "mosquitto")
    messages, seconds = agent_car.wanted(), MINUTES * 60
    car = tmp_path / "car"
    car.mkdir()
    write_day(car / "day.log", messages, seconds)
    with broker_and_receipts(tmp_path, mosquitto) as (pki, port):
        settings = agent_car.build(
            car, pki, port, messages, source={"log": str(car / "day.log")}, run={"stop_when_drained": True}, health={"status_s": 1.0}
        )
        command = [sys.executable, "-m", "cansight", "edge", "run", "-c", str(settings)]
        seen: list[tuple[int, float]] = []
        with (car / "agent.log").open("w") as said, subprocess.Popen(command, stderr=said) as agent:
            try:
                while agent.poll() is None:
                    try:
                        ticks = status(car)["ticks"]
                        seen.append((ticks, resident_mb(agent.pid)))
                    except (FileNotFoundError, ProcessLookupError):  # not yet; no more
                        pass
                    time.sleep(0.2 if SOAK else 0.02)
            finally:
                agent.kill()
    assert agent.returncode == 0, (car / "agent.log").read_text()
    last = status(car)
    assert last["ticks"] == seconds
    assert last["batches_receipted"] == last["batches_recorded"] > seconds / 2
    assert last["packs"]
    before = max(resident for ticks, resident in seen if ticks <= WARM * seconds)
    after = max(resident for ticks, resident in seen if ticks > WARM * seconds)
    assert after - before <= MOST_GROWTH_MB, seen[:: max(1, len(seen) // 50)]
    assert after <= MOST_MB
    if SOAK:
        shutil.rmtree(car)


def status(car: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((car / "state" / "status.json").read_bytes())
    return found
