"""The runtime under the detectors keeps no device id and opens no connection of its own."""

import os
import subprocess
import sys
from pathlib import Path

SCORE = """
import os, sys, time
import numpy as np
from models.pack import Pack
from models.runtime import PackRuntime
pack = Pack.load(sys.argv[1])
runtime = PackRuntime(pack)
runtime.score(np.full(len(pack.manifest.signals), 20.0))
links = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
print(*(link for link in links if link.startswith("socket:") or "onnxruntime.db" in link), sep="\\n")
"""


def test_scoring_leaves_no_file_and_no_connection(tmp_path: Path) -> None:
    packs = Path(__file__).parents[2] / "models" / "packs"
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(home), "TMPDIR": str(temporary), "XDG_CACHE_HOME": str(home / ".cache"), "ORT_DISABLE_TELEMETRY": "0"}
    run = subprocess.run(
        [sys.executable, "-c", SCORE, str(packs / "coolant")],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=True,
        cwd=packs.parents[1],
    )
    assert run.stdout.split() == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
