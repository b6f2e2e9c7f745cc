"""What can go wrong in the simulator.

    SimulatorError           anything below; bad input, exit code 2
    ├── ScenarioError        a scenario that does not exist or that contradicts itself
    └── ReplayError          a replay that cannot begin: its log, its bus, its times
        └── ReplayFailed     a replay that began and could not go on; the work failed, exit code 1

Every message is one line.
"""

from __future__ import annotations

__all__ = ["ReplayError", "ReplayFailed", "ScenarioError", "SimulatorError"]


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
