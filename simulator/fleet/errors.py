"""What can go wrong with a fleet.

SimulatorError
└── FleetError           what was asked for cannot be done; bad input, exit code 2
    └── FleetFailed      it was begun and did not work (the broker is away, too few open files), exit code 1
"""

from __future__ import annotations

from simulator.errors import SimulatorError

__all__ = ["FleetError", "FleetFailed"]


class FleetError(SimulatorError):
    """Base of this package's errors: one line that says what was expected and what was found."""


class FleetFailed(FleetError):
    """The work was begun and failed."""

    exit_code = 1
