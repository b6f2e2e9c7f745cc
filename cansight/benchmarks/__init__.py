"""The benchmarks of `cansight bench`, by name: equal results checked first, the two sides in turns, a ratio of medians.

Each is imported when it is asked for: the processes that some of them measure are started out of this package, and would have what all
the others need in their memory.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cansight.benchmarks.material import Material
    from cansight.benchmarks.result import Result

BENCHMARKS = {
    "decode": "decode.decode",
    "bulk": "bulk.bulk",
    "batch": "batch.batch",
    "offline": "offline.offline",
    "latency": "latency.latency",
    "lines": "lines.lines",
    "log-parquet": "log_tables.log_parquet",
    "mf4-parquet": "log_tables.mf4_parquet",
    "live": "live.live",
    "agent": "agent.agent",
    "packs": "packs.packs",
    "replay": "replay.replay",
    "sim-ticks": "simulate.sim_ticks",
    "sim-frames": "simulate.sim_frames",
    "fleet": "fleet.fleet",
    "cloud": "cloud_load.cloud",
    "replicas": "cloud_replicas.replicas",
    "console": "console.console",
}
"""Name -> module and function."""

__all__ = ["BENCHMARKS", "benchmark"]


def benchmark(name: str) -> Callable[[Material], list[Result]]:
    """The benchmark of this name, of BENCHMARKS."""
    module, _, function = BENCHMARKS[name].partition(".")
    found: Callable[[Material], list[Result]] = getattr(import_module(f"{__name__}.{module}"), function)
    return found
