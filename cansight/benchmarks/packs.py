"""The shipped packs: what a tick costs the agent's thread, and what they take of its memory.

Twice: those of the car's faults on 250 signals; and all, with those over the bus and over every signal, on the whole car, every message of
which these look at. A process of its own decodes and samples a simulated drive as the agent does, so the packs find the caches as on the
road: full of something else. What they take of the memory is the difference to the same process with one session of an empty model.
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
WHOLE = 10_000  # signals: more than the car has
LEAST_JUDGED = 0.5  # of the packs' ticks: one that says "not known here" may cost less


def packs(_: Material) -> list[Result]:
    """Checked: every pack ran to the end, and most of their ticks were judged. A simulated drive, whatever the material."""
    from dbc.logs import write_candump
    from simulator import drive

    faults, network = agent_car.manifests(), agent_car.manifests("network_packs")
    cars = {"part": (agent_car.wanted(), faults), "whole": (agent_car.wanted(WHOLE), [*faults, *network])}
    with tempfile.TemporaryDirectory(prefix="cansight-bench-") as name:
        log = Path(name) / "drive.log"
        with log.open("wb") as stream:
            for block in drive("healthy", 2, DRIVE_S):
                write_candump(stream, block)
        (Path(name) / "empty.onnx").write_bytes(_empty())
        results = []
        for car, (messages, manifests) in cars.items():
            folder = Path(name) / car
            folder.mkdir()
            (folder / "drive.log").symlink_to(log)
            (folder / "empty.onnx").symlink_to(log.with_name("empty.onnx"))
            files, _names = agent_car.dbc_files(folder, messages)
            shown = [str(manifest.parent) for manifest in manifests]
            results += _results(shown, [(_turn(folder, files, shown), _turn(folder, files, [])) for _ in range(TURNS)])
    return results


def _results(shown: list[str], turns: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[Result]:
    """Of the same packs' turns, each with one of the empty model."""
    mine = [one for one, _ in turns]
    many = mine[0]["packs"]
    if any(one["packs"] != len(shown) or one["judged"] < LEAST_JUDGED for one in mine):
        raise WorkFailed(
            f"bench packs: {many} of {len(shown)} packs ran, {min(one['judged'] for one in mine):.0%} of their ticks were judged"
        )
    (middle, p99), wall = (tuple(statistics.median(one[key][at] for one in mine) for at in (0, 1)) for key in ("cpu_ms", "wall_ms"))
    memory = statistics.median(full["memory_mb"] - empty["memory_mb"] for full, empty in turns)
    packs = f"{many} packs, {mine[0]['signals']} signals"
    what = (
        f"a tick of {packs}, p99 of the processor's time over {mine[0]['ticks']} ticks "
        f"(median {middle:.2g}; by the clock {wall[0]:.2g} and {wall[1]:.2g} ms)"
    )
    return [
        Result("packs", what, "limit", "ms", p99, MOST_MS, MOST_MS / p99, 1.0),
        Result("packs", f"resident memory of {packs} above one empty session", "limit", "MB", memory, MOST_MB, MOST_MB / memory, 1.0),
    ]


def _turn(folder: Path, files: list[str], shown: list[str]) -> dict[str, Any]:
    """shown: folders of packs; without any the empty model runs."""
    program = f"from {packs_side.__name__} import main; import sys; main(sys.argv[1:])"
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
