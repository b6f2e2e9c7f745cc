"""How late: from a frame to the store's query that shows it, and from a detector's word to its ticket. The demonstration at real time.

Real processes: agents, mosquitto, the aggregator, InfluxDB. A batch is two ticks, so the first of them waits for the second, and a tick's
first frame for its end: two of the seconds of the first figure are that.
"""

import tempfile
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from cansight.benchmarks.latency_voice import Voice
from cansight.benchmarks.material import Material
from cansight.benchmarks.result import Result
from cansight.demo import services
from cansight.demo.run import Demonstration, Options
from cansight.demo.watch import latency_s
from cansight.errors import UsageError, WorkFailed
from cansight.ports import free_port

VEHICLES, DRIVE_S = 4, 75.0
SETTLING_TICKS = 10  # of each vehicle: connecting, and the first queries of a store that is empty
SETTLING_FINDINGS = 3
MOST_S, MOST_TICKET_S = 3.0, 1.0
BATCH = "2-second batches"  # the agents' default


def latency(_: Material) -> list[Result]:
    """Steady state; every batch must have its receipt and every tick must be in the store. Left out where a server is not installed."""
    if not _installed():
        return []
    with tempfile.TemporaryDirectory(prefix="cansight-bench-") as name:
        folder = Path(name) / "demo"
        options = Options(
            vehicles=VEHICLES, speed=1.0, duration_s=DRIVE_S, broker="mosquitto", influx="influxd", port=free_port(), folder=folder
        )
        with Demonstration(options) as demonstration:
            demonstration.start()
            with Voice(folder, demonstration.broker, demonstration.page) as voice:
                for _progress in demonstration.watch():
                    voice.check()
            report, watching = demonstration.report(), demonstration.watching
            assert watching is not None, "it was started"
            seen = watching.seen
            ticks_s = [latency_s(car.ledger, seen[car.vehicle].polls)[SETTLING_TICKS:] for car in demonstration.vehicles]
    if report.lost or report.ticks_extra:
        raise WorkFailed(f"bench latency: {'; '.join(report.problems)}")
    what = f"{VEHICLES} vehicles, {report.signals_seen} signals, {BATCH}: frame to queryable"
    return [
        _result(what, np.concatenate(ticks_s), MOST_S),
        _result("a detector's word to its ticket", np.array(voice.tickets_s[SETTLING_FINDINGS:]), MOST_TICKET_S),
    ]


def _result(what: str, seconds: NDArray[np.float64], most_s: float) -> Result:
    p50, p99 = np.percentile(seconds, [50, 99]).tolist()
    what = f"{what}, p99 of {len(seconds)} (p50 {p50:.2f} s, longest {seconds.max():.2f} s)"
    return Result("latency", what, "limit", "s", p99, most_s, most_s / p99, 1.0)


def _installed() -> bool:
    try:
        services.program("mosquitto", "mosquitto")
        services.program("influxd", "influxdb")
    except UsageError as missing:
        click.echo(f"latency: left out, {missing}", err=True)
        return False
    return True
