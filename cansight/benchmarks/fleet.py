"""`sim fleet` against a real mosquitto: 3,000 vehicles from one process; processor time a batch against a paho client and thread each.

Some two and a half minutes on two free cores. Broker and receipts run beside the fleet: where they and it have less than two cores to
themselves, batches come late, and the result says so.
"""

import json
import os
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
SECONDS = 12
SIGNALS = 200
RIVALS = 300  # threads of a rival process: thousands do not come up on two cores; its time a batch grows with them
RIVAL_SECONDS = 6
TURNS = 3
RATE = 0.96  # of the nominal rate: what a run of 12 s reaches with its last batch receipted
LATE_S = 1.0  # half of the time that a batch takes: later than that, 99 % of them must not be sent
PATIENCE_S = 100.0  # for one run


def fleet(_: Material) -> list[Result]:
    """Every batch of ours is sealed and receipted, its tag checked; the rival's only acknowledged. Left out where there is no mosquitto."""
    mosquitto = find_mosquitto("fleet")
    if mosquitto is None:
        return []
    from cansight.commands.sim_fleet import issue
    from simulator.fleet import vehicle_id

    pids: list[int] = []
    with tempfile.TemporaryDirectory(prefix="cansight-bench-") as name, broker_and_receipts(Path(name), mosquitto, pids) as (pki, port):
        issue(pki, [vehicle_id(1, number) for number in range(VEHICLES)], lambda words, share: None)
        started = tuple(pids)
        live = fleet_report(pki, port, VEHICLES, SECONDS, watch=started)
        prepared = fleet_report(pki, port, VEHICLES, SECONDS, "--prepared", watch=started)
        mine, other = [], []
        for turn in range(TURNS):
            ours = fleet_report(pki, port, RIVALS, RIVAL_SECONDS)
            mine.append(ours["cpu_s"] / ours["rows_receipted"])
            rivals = [vehicle_id(1, number) for number in range(RIVALS * turn, RIVALS * (turn + 1))]
            theirs = _json([sys.executable, "-m", "cansight.benchmarks.fleet_rival", str(pki), str(port), str(RIVAL_SECONDS), *rivals])
            if theirs["batches"] != RIVALS * RIVAL_SECONDS // 2:
                raise WorkFailed(
                    f"bench fleet: the rival's broker acknowledged {theirs['batches']} of {RIVALS * RIVAL_SECONDS // 2} batches"
                )
            other.append(theirs["cpu_s"] / theirs["batches"])
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
        rate = report["batches_per_s"]
        parts = f"{report['cpu_us_per_batch']:.0f} µs of processor time a batch, broker {report['beside_us'][0]:.0f}, receipts"
        what = f"{VEHICLES:,} vehicles from one process, {how} ({parts} {report['beside_us'][1]:.0f}, those with all handshakes): receipted"
        results.append(Result("fleet", what, "one batch each 2 s", "batches/s", rate, nominal, rate / nominal, RATE))
        late_s = max(report["late_s"]["p99"], 1e-3)
        results.append(
            Result("fleet", f"the same, {how}: sent late, at p99", "promised", "ms", late_s * 1e3, LATE_S * 1e3, LATE_S / late_s, 1.0)
        )
    return results


def fleet_report(
    pki: Path, port: int, vehicles: int, seconds: int, *more: str, watch: tuple[int, ...] = (), patience_s: float = PATIENCE_S
) -> dict[str, Any]:
    """The fleet's own report; beside_us: processor time a batch of the processes to watch, over the whole run."""
    arguments = ["--vehicles", str(vehicles), "--broker", f"mqtts://localhost:{port}", "--pki", str(pki), "--duration", f"{seconds}s"]
    before = [cpu_s(pid) for pid in watch]
    report = _json([sys.executable, "-m", "cansight", "sim", "fleet", *arguments, "--signals", str(SIGNALS), "--json", *more], patience_s)
    spent = [cpu_s(pid) - first for pid, first in zip(watch, before, strict=True)]
    return report | {"beside_us": [one_s / report["rows_receipted"] * 1e6 for one_s in spent]}


def cpu_s(pid: int) -> float:
    """Of a process so far, user and system (proc(5): fields 14 and 15 of stat, counted behind the name in brackets)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _json(command: list[str], patience_s: float = PATIENCE_S) -> dict[str, Any]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=patience_s)
    except subprocess.TimeoutExpired:
        raise WorkFailed(f"bench fleet: {' '.join(command[2:5])}: not done after {patience_s:.0f} s") from None
    if done.returncode:
        raise WorkFailed(f"bench fleet: {' '.join(command[2:5])}: {done.stderr.strip()[-300:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
