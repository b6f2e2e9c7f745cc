"""What can go wrong in the simulator.

    SimulatorError           anything below; bad input, exit code 2
    └── ScenarioError        a scenario that does not exist or that contradicts itself

Every message is one line.
"""

from __future__ import annotations

__all__ = ["ScenarioError", "SimulatorError"]


class SimulatorError(Exception):
    """Base of every error of this package."""

    exit_code = 2


class ScenarioError(SimulatorError):
    """A scenario that does not exist, or whose times and sizes contradict each other."""
