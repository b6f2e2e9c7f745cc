"""What can go wrong in the simulator.

    SimulatorError           anything below; bad input, exit code 2
    ├── ScenarioError        a scenario that does not exist or that contradicts itself
    │   └── InjectionError   a fault that cannot be put into this log
    ├── ReplayError          a replay that cannot begin: its log, its bus, its times
    │   └── ReplayFailed     a replay that began and could not go on; the work failed, exit code 1
    ├── TruthError           a truth file that cannot be written
    └── DatasetError         a data set that cannot be made as asked, or not in this folder
        └── DatasetWorkerError  a process that worked on it was ended; exit code 1

Every message is one line.
"""

from __future__ import annotations

__all__ = [
    "DatasetError",
    "DatasetWorkerError",
    "InjectionError",
    "ReplayError",
    "ReplayFailed",
    "ScenarioError",
    "SimulatorError",
    "TruthError",
]


class SimulatorError(Exception):
    """Base of every error of this package."""

    exit_code = 2


class ScenarioError(SimulatorError):
    """A scenario that does not exist, or whose times and sizes contradict each other."""


class ReplayError(SimulatorError):
    """A replay that cannot begin: its log has no such frames, its bus is not there or is not allowed, its times contradict each other."""


class ReplayFailed(ReplayError):
    """A replay that began and could not go on."""

    exit_code = 1


class InjectionError(ScenarioError):
    """A fault that cannot be put into this log: it has no such frame, or not enough of them."""


class TruthError(SimulatorError):
    """A truth file that cannot be written."""


class DatasetError(SimulatorError):
    """A data set that cannot be made as it was asked for, or not in this folder."""


class DatasetWorkerError(DatasetError):
    """The request was right, and a process that worked on it did not come to its end."""

    exit_code = 1
