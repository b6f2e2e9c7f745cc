"""The demonstration's processes: started, watched, started again when they die, and stopped by process id.

Each child has a session of its own, so that Ctrl-C reaches this program alone and it can stop them in the pipeline's order; the kernel ends
them when this program is killed (PR_SET_PDEATHSIG, prctl(2)).
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from cansight.demo.interrupts import holding_interrupts
from cansight.errors import WorkFailed

PR_SET_PDEATHSIG = 1
STOP_S = 5.0  # the agent and the aggregator promise to be down within 2 s of SIGTERM; a loaded machine gets more
MAX_RESTARTS = 10

_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass
class Child:
    """One process of the demonstration: `cansight ARGUMENTS`, or another program when `program` is given."""

    name: str
    arguments: list[str]
    log: Path
    restart: bool = False
    program: list[str] = field(default_factory=lambda: [sys.executable, "-m", "cansight"])
    restarts: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; its output goes to `log`, which the error message quotes when it dies."""
        with holding_interrupts(), self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.program, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        return None if self.process is None else self.process.poll()

    def last_line(self) -> str:
        """What it said last: the reason when it died."""
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return lines[-1].removeprefix("cansight: ") if lines else "it said nothing"

    def supervise(self) -> bool:
        """Start it again if it died and may be restarted; True when it did. Raises WorkFailed when it died otherwise, or too often."""
        code = self.returncode
        if code is None or (code == 0 and not self.restart):
            return False
        if not self.restart or self.restarts >= MAX_RESTARTS:
            raise WorkFailed(f"the {self.name} ended with exit code {code}: {self.last_line()}")
        self.restarts += 1
        self.start()
        return True

    def terminate(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def wait(self, deadline: float) -> None:
        """Wait until `deadline` (monotonic), then kill."""
        if self.process is None:
            return
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Processes:
    """All children, in the order of their start; leaving the `with` block stops them in the opposite order."""

    def __init__(self) -> None:
        self.children: list[Child] = []

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        for child in reversed(self.children):
            child.terminate()
        deadline = time.monotonic() + STOP_S
        for child in reversed(self.children):
            child.wait(deadline)

    def start(self, child: Child) -> Child:
        self.children.append(child)
        child.start()
        return child

    def supervise(self) -> list[Child]:
        """The children that had died and were started again."""
        return [child for child in self.children if child.supervise()]
