"""A log to decoded Parquet, the whole command, against what is done today: a python-can + cantools loop, and asammdf.

Each side is a process of its own, from its start to the finished file. CANSIGHT_BENCH_FRAMES says how many frames (2,000,000; the promise
is for 5,000,000): the recording, or the simulated drive, is repeated until it has them. Our compiled DBC comes from the cache, as in every
run but the first; the rivals parse it each time, and time for that is not counted against them.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cansight.benchmarks.material import Material, whole_number
from cansight.benchmarks.result import Result
from dbc.frames import FrameBlock

FRAMES = 2_000_000
CHECKED = 200_000  # frames whose rows are compared one by one
ROUNDS = 3
MANY = 1_000_000  # beyond, one round against the loop, which takes minutes
LOOP = "log_rival_loop"


def log_parquet(material: Material) -> list[Result]:
    """candump to Parquet; the same rows in the same order, bit for bit."""
    return _compare(material, ".log", "candump", LOOP, "python-can + cantools loop", 12.0)


def mf4_parquet(material: Material) -> list[Result]:
    """MF4 to Parquet; the same rows, in asammdf's order by signal."""
    return _compare(material, ".mf4", "MF4", "log_rival_asammdf", "asammdf extract_bus_logging", 2.0)


def _compare(material: Material, suffix: str, form: str, rival: str, rival_name: str, floor: float) -> list[Result]:
    frames = whole_number("CANSIGHT_BENCH_FRAMES", FRAMES)
    with tempfile.TemporaryDirectory(prefix="cansight-bench-") as name:
        folder = Path(name)
        log, ours, theirs = folder / f"log{suffix}", folder / "ours.parquet", folder / "theirs.parquet"
        environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
        files = _one_bus(material)
        command = [sys.executable, "-m", "cansight", "log", "decode", str(log), "-o", str(ours)]
        for file in files:
            command += ["--dbc", file]
        other = [sys.executable, "-m", f"cansight.benchmarks.{rival}", str(log), str(theirs), *files]
        _write(material, log, min(frames, CHECKED))
        _run(command, environment)  # fills the cache, too
        _run(other, environment)
        _check(ours, theirs)
        written = _write(material, log, frames)
        seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(1 if rival == LOOP and frames > MANY else ROUNDS):
            for side, line in (("ours", command), ("theirs", other)):
                start = time.perf_counter()
                left_out = _run(line, environment).get("dbc_s", 0.0)
                seconds[side].append(time.perf_counter() - start - left_out)
        rows = _rows(ours)
        if rows != _rows(theirs):
            raise ValueError(f"{rows} rows are not the rival's {_rows(theirs)}")
        mine, rest = (statistics.median(seconds[side]) for side in ("ours", "theirs"))
        what = f"{form} of {written:,} frames to Parquet, {rows:,} rows, whole command"
        name = f"{'log' if form == 'candump' else 'mf4'}-parquet"
        return [Result(name, what, rival_name, "frames/s", written / mine, written / rest, rest / mine, floor)]


def _rows(path: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.ParquetFile(path).metadata.num_rows)


def _run(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:5])}: exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    last = (done.stdout.strip().splitlines() or [""])[-1]
    return json.loads(last) if last.startswith("{") else {}


def _one_bus(material: Material) -> list[str]:
    from dbc.vehicles import DBC_FILES

    return list(material.files or DBC_FILES[:1])


def _write(material: Material, log: Path, frames: int) -> int:
    """At least `frames` frames of data, each repetition later than the one before."""
    from dbc.logs.writers import open_log_writer

    blocks = list(_source(material))
    first = min(int(block.timestamp_ns.min()) for block in blocks)
    span = max(int(block.timestamp_ns.max()) for block in blocks) - first + 1_000_000
    written, turn = 0, 0
    with open_log_writer(log) as writer:
        while written < frames:
            for block in blocks:
                if written >= frames:
                    break
                n = min(len(block), frames - written)
                stamps = (block.timestamp_ns[:n] + turn * span) // 1000 * 1000  # microseconds: what both formats carry
                part = FrameBlock(
                    block.channels, stamps, block.frame_id[:n], block.channel[:n], block.length[:n], block.data[:n], block.entered_ns
                )
                writer.write(part)
                written += n
            turn += 1
    return written


def _source(material: Material) -> Iterator[FrameBlock]:
    from dbc.logs import open_log

    if material.log is not None:
        yield from open_log(material.log)
        return
    from simulator import drive

    yield from drive("healthy", 1, 60)


def _check(ours: Path, theirs: Path) -> int:
    """The two tables have the same rows; where ours says "not valid" it has a reason that the rival has not. Returns the rows."""
    import numpy as np
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    names = ["channel", "message", "signal", "timestamp"]
    tables = []
    for path in (ours, theirs):
        table = pq.read_table(path)
        table = table.set_column(0, "timestamp", pc.round(table["timestamp"], ndigits=6))  # MF4's stamps are float64 from the start on
        for name in names[:3]:
            table = table.set_column(table.column_names.index(name), name, table[name].cast("string"))
        tables.append(table.take(_order(table, names)))
    mine, other = tables
    if mine.num_rows != other.num_rows:
        raise ValueError(f"{mine.num_rows} rows are not the rival's {other.num_rows}")
    for name in names:
        if not mine[name].equals(other[name]):
            raise ValueError(f"the column {name} is not the rival's")
    valid = mine["valid"].to_numpy()
    same = mine["value"].to_numpy() == other["value"].to_numpy()
    if not (same | ~valid).all():
        at = int(np.flatnonzero(~same & valid)[0])
        raise ValueError(f"row {at}: {mine.slice(at, 1).to_pylist()} is not {other.slice(at, 1).to_pylist()}")
    return int(mine.num_rows)


def _order(table: Any, names: list[str]) -> Any:
    """Rows by name and time; of equal ones the order in the file, which is that of the frames on both sides."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    numbered = table.select(names).append_column("row", pa.array(np.arange(table.num_rows)))
    return pc.sort_indices(numbered, sort_keys=[(name, "ascending") for name in [*names, "row"]])
