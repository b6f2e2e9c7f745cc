"""The benchmarks of `cansight bench`, by name: equal results checked first, the two sides in turns, a ratio of medians."""

from collections.abc import Callable

from cansight.benchmarks.agent import agent
from cansight.benchmarks.batch import batch
from cansight.benchmarks.bulk import bulk
from cansight.benchmarks.cloud_load import cloud
from cansight.benchmarks.cloud_replicas import replicas
from cansight.benchmarks.console import console
from cansight.benchmarks.decode import decode
from cansight.benchmarks.fleet import fleet
from cansight.benchmarks.latency import latency
from cansight.benchmarks.lines import lines
from cansight.benchmarks.live import live
from cansight.benchmarks.log_tables import log_parquet, mf4_parquet
from cansight.benchmarks.material import Material
from cansight.benchmarks.offline import offline
from cansight.benchmarks.packs import packs
from cansight.benchmarks.replay import replay
from cansight.benchmarks.result import Result
from cansight.benchmarks.simulate import sim_frames, sim_ticks

BENCHMARKS: dict[str, Callable[[Material], list[Result]]] = {
    "decode": decode,
    "bulk": bulk,
    "batch": batch,
    "offline": offline,
    "latency": latency,
    "lines": lines,
    "log-parquet": log_parquet,
    "mf4-parquet": mf4_parquet,
    "live": live,
    "agent": agent,
    "packs": packs,
    "replay": replay,
    "sim-ticks": sim_ticks,
    "sim-frames": sim_frames,
    "fleet": fleet,
    "cloud": cloud,
    "replicas": replicas,
    "console": console,
}

__all__ = ["BENCHMARKS", "Material", "Result"]
