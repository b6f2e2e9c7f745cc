"""Every fault there is: its code in the signal catalogue, what it does, how it grows, where it shows.

Severity is the one number that all physical faults share: 0 healthy, 1 fully developed (what `words` says; a workshop would find it),
2 failed (what `failure` says). Between onset and development it follows `law`, from there to the failure it grows evenly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.errors import ScenarioError

__all__ = ["DAY_S", "DEVELOPED", "FAILED", "KINDS", "LAWS", "FaultKind", "fault_kind"]

DAY_S = 86_400.0
DEVELOPED, FAILED = 1.0, 2.0  # severities

Law = Callable[[NDArray[np.float64]], NDArray[np.float64]]
STEEPNESS = 3.0  # of the exponential laws: half of the growth falls into the last quarter of the time

# Severity of a share 0..1 of the time from onset to development; each is 0 at 0 and 1 at 1.
LAWS: Mapping[str, Law] = {
    "step": lambda share: np.ones_like(share),
    "linear": lambda share: share,
    "root": np.sqrt,
    "square": np.square,
    "exponential": lambda share: np.expm1(STEEPNESS * share) / np.expm1(STEEPNESS),
    "saturating": lambda share: np.expm1(-STEEPNESS * share) / np.expm1(-STEEPNESS),
}


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One kind of fault. `signals` are those that the fault itself changes; what follows from them is the model's business."""

    code: str  # of the catalogue
    group: str  # physical, sensor, network, attack
    words: str  # at severity 1
    law: str = "step"
    source: str = ""  # of the law
    failure: str = ""  # what happens at severity 2; "" = it does not fail
    development_s: float = 0.0  # default, from onset to severity 1
    failure_s: float = 0.0  # default, from severity 1 to the failure
    places: int = 1  # wheels or cells of which one has the fault
    signals: tuple[str, ...] = ()


def _of(message: str, *signals: str) -> tuple[str, ...]:
    return tuple(f"{message}.{signal}" for signal in signals)


def _wheels(message: str, signal: str) -> tuple[str, ...]:
    return _of(message, *(f"{signal}{wheel}" for wheel in ("FrontLeft", "FrontRight", "RearLeft", "RearRight")))


_PHYSICAL = (
    FaultKind(
        "coolant_leak",
        "physical",
        "the battery's coolant loop has lost 9 % of its reservoir: flow -3 %, coolant +1.2 °C",
        "linear",
        "a hole of constant size under constant pressure loses coolant at a constant rate (Torricelli)",
        "the pump draws air, the battery's protection takes the power away",
        5 * DAY_S,
        2 * DAY_S,
        signals=(
            *_of("TMS_BatteryLoop", "BatteryCoolantFlow", "BatteryCoolantInletTemperature", "BatteryCoolantOutletTemperature"),
            *_of("TMS_BatteryLoop", "BatteryCoolantPressure", "BatteryCoolantLevel"),
            *_of("TMS_BatteryPump", "BatteryPumpCurrent", "BatteryPumpPower", "BatteryPumpTemperature"),
            "TMS_Radiator.BatteryRadiatorHeat",
            "TMS_Detail.BatteryHeatRejected",
        ),
    ),
    FaultKind(
        "coolant_pump_degraded",
        "physical",
        "the battery's coolant pump gives 15 % less flow at the same speed and draws 20 % more current",
        "exponential",
        "wear-out of bearing and impeller feeds itself: Gebraeel et al., IIE Transactions 37 (2005), exponential degradation",
        "the pump stands still",
        21 * DAY_S,
        7 * DAY_S,
        signals=(
            *_of("TMS_BatteryPump", "BatteryPumpCurrent", "BatteryPumpPower", "BatteryPumpTemperature"),
            *_of("TMS_BatteryLoop", "BatteryCoolantFlow", "BatteryCoolantPressure"),
        ),
    ),
    FaultKind(
        "radiator_fan_degraded",
        "physical",
        "the radiator's fan turns 15 % slower at the same duty and draws 25 % more current",
        "exponential",
        "as coolant_pump_degraded: bearing wear",
        "the fan stands still",
        21 * DAY_S,
        10 * DAY_S,
        signals=_of("TMS_Radiator", "FanSpeed", "FanCurrent", "RadiatorAirSpeed"),
    ),
    FaultKind(
        "cell_imbalance",
        "physical",
        "one cell has 8 % less capacity and 40 % more resistance than its neighbours",
        "linear",
        "a cell with higher leakage or less capacity drifts away with each cycle (Plett, Battery Management Systems, vol. 2, chapter 5)",
        "the weak cell meets its lower limit: power is taken away",
        60 * DAY_S,
        30 * DAY_S,
        96,
        _of("BMS_CellStatistics", "CellVoltageMinimum", "CellVoltageSpread", "CellVoltageMinimumNumber"),
    ),
    FaultKind(
        "battery_resistance_high",
        "physical",
        "the pack's internal resistance is 30 % above what its age explains",
        "square",
        "resistance grows faster than capacity falls, late in life (Schuster et al., J. Energy Storage 1 (2015))",
        "the pack cannot give the power of an overtaking any more",
        90 * DAY_S,
        45 * DAY_S,
        signals=(
            "BMS_Resistance.PackResistance",
            *_of("BMS_Estimator", "OhmicResistance", "HealthByResistance"),
            *_of("BMS_Limits", "DischargePowerLimit", "DischargeCurrentLimit"),
            *_of("BMS_ModuleResistance", *(f"ModuleResistance{number:02d}" for number in range(1, 25))),
        ),
    ),
    FaultKind(
        "insulation_low",
        "physical",
        "the insulation resistance is a tenth of a healthy one, near the 500 ohm/V of ISO 6469-3",
        "linear",
        "moisture and tracking lower the logarithm of the resistance steadily",
        "below 100 ohm/V: the contactors stay open",
        14 * DAY_S,
        5 * DAY_S,
        signals=("BMS_Insulation.InsulationResistance", *_of("BMS_PackDetail", "InsulationPositive", "InsulationNegative")),
    ),
    FaultKind(
        "battery_ageing",
        "physical",
        "the capacity is 6 % below what age and use explain",
        "root",
        "a growing surface layer: capacity falls with the root of time (Wang et al., J. Power Sources 196 (2011))",
        "state of health below 70 %",
        180 * DAY_S,
        180 * DAY_S,
        signals=(
            *_of("BMS_State", "StateOfHealth", "RemainingEnergy"),
            "BMS_Resistance.CapacityRemaining",
            *_of("BMS_Estimator", "CapacityEstimate", "HealthByCapacity", "EnergyAvailable"),
        ),
    ),
    FaultKind(
        "brake_drag",
        "physical",
        "one brake does not release: 25 N m of friction at the wheel",
        "saturating",
        "a corroding calliper sticks more and more, up to what the seal's retraction is (Limpert, Brake Design and Safety, chapter 5)",
        "the disc glows, the brake fades",
        5 * DAY_S,
        3 * DAY_S,
        4,
        _wheels("ESP_DiscTemperature", "DiscTemperature"),
    ),
    FaultKind(
        "brake_pad_worn",
        "physical",
        "30 % of one axle's pad is left",
        "linear",
        "wear is proportional to the work done (Archard, J. Applied Physics 24 (1953))",
        "2 mm are left, the legal end of a pad",
        60 * DAY_S,
        30 * DAY_S,
        4,
        (*_wheels("BRK_PadWear", "PadThickness"), "BRK_PadWear.PadRemaining"),
    ),
    FaultKind(
        "tyre_pressure_low",
        "physical",
        "a slow puncture has taken one tyre 10 % under the placard",
        "saturating",
        "through a small hole pressure falls in proportion to itself",
        "the tyre is flat",
        7 * DAY_S,
        5 * DAY_S,
        4,
        (*_wheels("TPMS_Pressure", "TyrePressure"), "TPMS_Pressure.TyreWarning"),
    ),
    FaultKind(
        "cabin_filter_clogged",
        "physical",
        "the cabin filter's efficiency is down by 20 %, its pressure drop has doubled",
        "linear",
        "dust gathers in proportion to the air that went through (Thomas et al., J. Aerosol Science 32 (2001))",
        "the blower cannot clear the windscreen",
        60 * DAY_S,
        60 * DAY_S,
        signals=(
            *_of("CLIM_Filter", "FilterPressureDrop", "FilterEfficiency", "ParticlesCabin"),
            *_of("CLIM_Air", "AirFlow", "VentTemperature"),
        ),
    ),
    FaultKind(
        "low_voltage_battery_weak",
        "physical",
        "the 12 V battery has half of its capacity and twice its resistance",
        "square",
        "sulphation and corrosion speed up with what is already lost (Ruetschi, J. Power Sources 127 (2004))",
        "the car does not wake up",
        45 * DAY_S,
        14 * DAY_S,
        signals=_of("BCM_LowVoltage", "LowVoltage", "LowVoltageCharge", "LowVoltageHealth", "LowVoltageResistance"),
    ),
    FaultKind(
        "motor_bearing_worn",
        "physical",
        "a bearing of the motor loses 400 W at 10,000 rpm and heats the gear oil",
        "exponential",
        "Gebraeel et al., IIE Transactions 37 (2005), exponential degradation of bearings",
        "the bearing seizes, the motor is switched off",
        30 * DAY_S,
        10 * DAY_S,
        signals=(
            *_of("MCU_Bearing", "BearingVibration", "BearingTemperature"),
            *_of("MCU_Temperatures", "GearOilTemperature", "RotorTemperature"),
            *_of("MCU_Losses", "MotorLoss", "DriveEfficiency"),
        ),
    ),
)
_SENSOR = (
    FaultKind("sensor_stuck", "sensor", "one signal keeps the value that it had"),
    FaultKind("sensor_drift", "sensor", "one signal moves away from its true value at a steady rate", "linear"),
    FaultKind("sensor_noise", "sensor", "one signal carries additional white noise"),
    FaultKind("sensor_offset", "sensor", "one signal is off by a constant"),
    FaultKind("sensor_dropout", "sensor", "one signal says 'no value' for moments at a time"),
)
_NETWORK = (
    FaultKind("control_unit_silent", "network", "a control unit or one of its messages is not sent any more"),
    FaultKind("control_unit_babbling", "network", "a control unit sends a message again and again, as fast as it can"),
    FaultKind("counter_error", "network", "alive counters stand still"),
    FaultKind("checksum_error", "network", "checksums do not fit their messages"),
)
# The five of the SynCAN data set (Hanselmann et al., CANet, IEEE Access 8 (2020)), by a sender who keeps counters and checksums.
_ATTACK = (
    FaultKind("attack_plateau", "attack", "one signal is overwritten with a constant"),
    FaultKind("attack_drift", "attack", "one signal is overwritten so that it leaves its true value slowly", "linear"),
    FaultKind("attack_playback", "attack", "one signal is overwritten with what it was before"),
    FaultKind("attack_suppression", "attack", "a message is kept off the bus"),
    FaultKind("attack_flooding", "attack", "forged frames of a message are sent between the real ones, at a high rate"),
)
KINDS: Mapping[str, FaultKind] = {kind.code: kind for kind in (*_PHYSICAL, *_SENSOR, *_NETWORK, *_ATTACK)}


def fault_kind(code: str) -> FaultKind:
    """The fault of this code. Raises ScenarioError with the codes there are."""
    if code not in KINDS:
        raise ScenarioError(f"no fault {code!r}; there are: {', '.join(KINDS)}")
    return KINDS[code]
