"""Every shipped pack on 250 signals: what a tick costs the agent's thread, and what the packs take of its memory.

A process of its own decodes and samples a simulated drive as the agent does, so the packs find the caches as they do on the road: full of
something else. What they take of the memory is the difference to the same process with one session of an empty model.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from cansight.benchmarks import agent_car, packs_side
from cansight.benchmarks.material import Material
from cansight.benchmarks.result import Result
from cansight.errors import WorkFailed

TURNS = 3
DRIVE_S = 420
MOST_MS, MOST_MB = 3.0, 25.0
LEAST_JUDGED = 0.5  # of the packs' ticks: one that says "not known here" may cost less


def packs(_: Material) -> list[Result]:
    """Checked: every pack ran to the end, and most of their ticks were judged. A simulated drive, whatever the material."""
    from dbc.logs import write_candump
    from simulator import drive

    with tempfile.TemporaryDirectory(prefix="cansight-bench-") as name:
        folder = Path(name)
        files, _names = agent_car.dbc_files(folder, agent_car.wanted())
        with (folder / "drive.log").open("wb") as log:
            for block in drive("healthy", 2, DRIVE_S):
                write_candump(log, block)
        (folder / "empty.onnx").write_bytes(_empty())
        turns = [[_turn(folder, files, side) for side in ("packs", "empty")] for _ in range(TURNS)]
    mine = [one for one, _ in turns]
    wanted, many = len(agent_car.manifests()), mine[0]["packs"]
    if any(one["packs"] != wanted or one["judged"] < LEAST_JUDGED for one in mine):
        raise WorkFailed(f"bench packs: {many} of {wanted} packs ran, {min(one['judged'] for one in mine):.0%} of their ticks were judged")
    (middle, p99), wall = (tuple(statistics.median(one[key][at] for one in mine) for at in (0, 1)) for key in ("cpu_ms", "wall_ms"))
    memory = statistics.median(full["memory_mb"] - empty["memory_mb"] for full, empty in turns)
    what = (
        f"a tick of {many} packs, {mine[0]['signals']} signals, p99 of the processor's time over {mine[0]['ticks']} ticks "
        f"(median {middle:.2g}; by the clock {wall[0]:.2g} and {wall[1]:.2g} ms)"
    )
    return [
        Result("packs", what, "limit", "ms", p99, MOST_MS, MOST_MS / p99, 1.0),
        Result("packs", "resident memory above one empty session", "limit", "MB", memory, MOST_MB, MOST_MB / memory, 1.0),
    ]


def _turn(folder: Path, files: list[str], side: str) -> dict[str, Any]:
    program = f"from {packs_side.__name__} import main; import sys; main(sys.argv[1:])"
    shown = [str(manifest.parent) for manifest in agent_car.manifests()] if side == "packs" else []
    ran = subprocess.run([sys.executable, "-c", program, str(folder), *files, "--", *shown], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise WorkFailed(f"bench packs: {' '.join(ran.stderr.split())[-300:]}")
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def _empty() -> bytes:
    """A model that gives back what it is given."""
    import onnx
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [1]) for name in ("values", "same")]
    graph = helper.make_graph([helper.make_node("Identity", ["values"], ["same"])], "empty", ends[:1], ends[1:])
    model: bytes = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    onnx.checker.check_model(onnx.load_model_from_string(model))
    return model
