"""A workbench for vehicle engineers: an electric car with ground truth and injectable faults, on two CAN buses.

scenario + seed -> Vehicle (state, 10 steps a second) -> signals -> FrameMaker -> FrameBlock (1 s) -> pace
"""

from simulator.errors import ScenarioError, SimulatorError
from simulator.faults import CoolantLeak
from simulator.pacing import pace
from simulator.scenario import SCENARIOS, Scenario, Truth, scenario, truth
from simulator.trip import START_NS, Trip, drive

__all__ = [
    "SCENARIOS",
    "START_NS",
    "CoolantLeak",
    "Scenario",
    "ScenarioError",
    "SimulatorError",
    "Trip",
    "Truth",
    "drive",
    "pace",
    "scenario",
    "truth",
]
