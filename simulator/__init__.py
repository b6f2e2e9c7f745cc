"""A workbench for vehicle engineers: an electric car with ground truth and faults that develop, on three CAN buses.

scenario + seed -> Play (Cars and the courses of their faults, a step a second)
    -> Trip: signals -> frames of one car at each message's cycle -> Disturbances -> FrameBlock (1 s) -> pace
    -> Ticks: signals of many cars, once a second
A recorded log -> inject_log -> the same faults of sensors and network in it, and the truth.
"""

from simulator.cast import START_NS
from simulator.drive_truth import Truth, truth
from simulator.errors import ScenarioError, SimulatorError
from simulator.pacing import pace
from simulator.scenario import SCENARIOS, Scenario, scenario
from simulator.trip import Trip, drive

__all__ = [
    "SCENARIOS",
    "START_NS",
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
