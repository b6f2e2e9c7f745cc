"""`sim fleet` against a real mosquitto: 3,000 vehicles from one process; processor time a batch against a paho client and thread each."""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from cansight.benchmarks.broker import broker_and_receipts, find_mosquitto
from cansight.benchmarks.material import Material
from cansight.benchmarks.result import Result
from cansight.errors import WorkFailed

VEHICLES = 3000
SECONDS = 20
SIGNALS = 200
RIVALS = 300  # threads of a rival process: thousands do not come up on two cores; its time a batch grows with them
RIVAL_SECONDS = 10
TURNS = 3
ON_TIME = 0.98  # of the nominal rate: what a run of 20 s reaches with its last batch receipted


def fleet(_: Material) -> list[Result]:
    """Every batch of ours is sealed and receipted, its tag checked; the rival's only acknowledged. Left out where there is no mosquitto."""
    mosquitto = find_mosquitto("fleet")
    if mosquitto is None:
        return []
    from cansight.commands.sim_fleet import issue
    from simulator.fleet import vehicle_id

    with tempfile.TemporaryDirectory(prefix="cansight-bench-") as name, broker_and_receipts(Path(name), mosquitto) as (pki, port):
        issue(pki, [vehicle_id(1, number) for number in range(VEHICLES)], lambda words, share: None)
        mine, other = [], []
        for turn in range(TURNS):
            ours = _fleet(pki, port, RIVALS, RIVAL_SECONDS)
            mine.append(ours["cpu_s"] / ours["rows_receipted"])
            rivals = [vehicle_id(1, number) for number in range(RIVALS * turn, RIVALS * (turn + 1))]
            theirs = _json([sys.executable, "-m", "cansight.benchmarks.fleet_rival", str(pki), str(port), str(RIVAL_SECONDS), *rivals])
            if theirs["batches"] != RIVALS * RIVAL_SECONDS // 2:
                raise WorkFailed(
                    f"bench fleet: the rival's broker acknowledged {theirs['batches']} of {RIVALS * RIVAL_SECONDS // 2} batches"
                )
            other.append(theirs["cpu_s"] / theirs["batches"])
        live = _fleet(pki, port, VEHICLES, SECONDS)
        prepared = _fleet(pki, port, VEHICLES, SECONDS, "--prepared")
    ours_s, theirs_s = statistics.median(mine), statistics.median(other)
    results = [
        Result(
            "fleet",
            f"{RIVALS} vehicles, {SIGNALS} signals x 2 ticks: processor time a batch, encoded, sealed, sent, receipted",
            "a paho client and thread for each vehicle, JSON in clear, no receipts",
            "µs",
            ours_s * 1e6,
            theirs_s * 1e6,
            theirs_s / ours_s,
            1.0,
        )
    ]
    nominal = VEHICLES / 2
    for how, report in (("sealed live", live), ("sealed before", prepared)):
        rate, cpu_us = report["batches_per_s"], report["cpu_us_per_batch"]
        what = f"{VEHICLES:,} vehicles from one process, {how}, {cpu_us:.0f} µs of processor time a batch: receipted"
        results.append(Result("fleet", what, "one batch each 2 s", "batches/s", rate, nominal, rate / nominal, ON_TIME))
    return results


def _fleet(pki: Path, port: int, vehicles: int, seconds: int, *more: str) -> dict[str, Any]:
    arguments = ["--vehicles", str(vehicles), "--broker", f"mqtts://localhost:{port}", "--pki", str(pki), "--duration", f"{seconds}s"]
    return _json([sys.executable, "-m", "cansight", "sim", "fleet", *arguments, "--signals", str(SIGNALS), "--json", *more])


def _json(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WorkFailed(f"bench fleet: {' '.join(command[2:5])}: {done.stderr.strip()[-300:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
