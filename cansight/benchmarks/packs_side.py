"""One side of the packs' benchmark, in a process of its own: `main([FOLDER, DBC, ..., "--", PACK, ...])`, without packs an empty model.

Reads FOLDER/drive.log as the agent reads a bus. Prints JSON.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from dbc.compiler import load_compiled
from dbc.decoder import Decoder
from dbc.logs import open_log
from dbc.sampler import Sampler
from edge.detectors import Detectors

WARM_TICKS = 60


def main(arguments: Sequence[str]) -> None:
    split = arguments.index("--")
    folder, files, packs = Path(arguments[0]), list(arguments[1:split]), list(arguments[split + 1 :])
    compiled = load_compiled(files, folder / "cache")  # parsed in a process of its own, as on the vehicle
    decoder, sampler = Decoder(compiled, compiled.schema.channels), Sampler(compiled.schema)
    detectors = Detectors.load(packs, None, compiled.schema)
    empty = None if packs else ort.InferenceSession((folder / "empty.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    wall_ns, cpu_ns = [], []
    judged = 0
    for block in open_log(folder / "drive.log"):
        for snapshot in sampler.feed(block, decoder.decode(block)):
            wall_from, cpu_from = time.perf_counter_ns(), time.thread_time_ns()
            if empty is not None:
                empty.run(None, {"values": np.zeros(1)})
            detectors.step(snapshot)
            wall_ns.append(time.perf_counter_ns() - wall_from)
            cpu_ns.append(time.thread_time_ns() - cpu_from)
            judged += sum(one.known for slot in detectors.slots for one in slot.detectors)
    memory = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    wall, cpu = (np.array(taken[WARM_TICKS:]) / 1e6 for taken in (wall_ns, cpu_ns))
    found = {
        "ticks": len(wall),
        "signals": len(compiled.schema),
        "packs": len(detectors.running),
        "judged": judged / max(1, len(wall_ns) * len(packs)),
        "cpu_ms": np.quantile(cpu, (0.5, 0.99)).tolist(),
        "wall_ms": np.quantile(wall, (0.5, 0.99)).tolist(),
        "memory_mb": memory,
    }
    sys.stdout.write(json.dumps(found) + "\n")
