"""Faults that can be injected, and what is true about them."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.errors import ScenarioError

__all__ = ["CoolantLeak"]


@dataclass(frozen=True, slots=True)
class CoolantLeak:
    """The battery's coolant loop loses coolant: air is drawn into the pump and gathers in the radiator.

    The pump then moves less coolant at the same speed (Gülich, "Centrifugal Pumps", chapter 13: two-phase flow lowers head and flow), and
    the air in the radiator keeps part of it from giving off heat. Fully developed, the flow is lower by `flow_loss` and the coolant warmer
    by `temperature_rise_c` than in the same car without the leak. In a car this takes days; `onset_s` and `development_s`
    compress it into a drive.
    """

    onset_s: float = 120.0
    development_s: float = 120.0  # from onset to full development
    flow_loss: float = 0.03
    temperature_rise_c: float = 1.2
    level_loss: float = 9.0  # percent of the reservoir

    fault_code = "coolant_leak"

    # What the leak changes by itself.
    affected_signals = (
        "TMS_BatteryLoop.BatteryCoolantFlow",
        "TMS_BatteryLoop.BatteryCoolantInletTemperature",
        "TMS_BatteryLoop.BatteryCoolantOutletTemperature",
        "TMS_BatteryLoop.BatteryCoolantPressure",
        "TMS_BatteryLoop.BatteryCoolantLevel",
        "TMS_BatteryPump.BatteryPumpCurrent",
        "TMS_BatteryPump.BatteryPumpPower",
        "TMS_BatteryPump.BatteryPumpTemperature",
        "TMS_Radiator.BatteryRadiatorHeat",
    )

    # Where a little changes too: the battery warms by some hundredths, and resistance, power, pump, fan, 12 V load and refrigerant follow.
    consequent_messages = (
        *("BMS_CellStatistics", "BMS_CellTemperatures", "BMS_CellVoltages", "BMS_EnergyMeter", "BMS_Insulation", "BMS_Limits", "BMS_Pack"),
        *("BMS_Resistance", "BMS_State", "BMS_Thermal", "BMS_Throughput", "MCU_Motor", "MCU_Phase", "MCU_Temperatures"),
        *("VCU_Energy", "VCU_Regeneration", "VCU_Status", "VCU_Trip"),
        *("TMS_BatteryLoop", "TMS_BatteryPump", "TMS_DriveLoop", "TMS_Radiator", "TMS_Refrigerant", "TMS_State"),
        *("DCDC_Status", "OBC_Status", "BCM_Loads", "BCM_LowVoltage", "CLIM_Air", "CLIM_Cabin", "CLIM_Filter", "IC_Display"),
    )

    def __post_init__(self) -> None:
        if self.onset_s < 0 or self.development_s <= 0:
            raise ScenarioError(
                f"coolant_leak: expected onset >= 0 s and development > 0 s, found {self.onset_s} s and {self.development_s} s"
            )
        if not 0 < self.flow_loss < 0.5 or not 0 <= self.temperature_rise_c < 10:
            raise ScenarioError(
                f"coolant_leak: expected a flow loss of 0..0.5 and a rise of 0..10 °C, found {self.flow_loss} and {self.temperature_rise_c}"
            )

    def severity(self, time_s: float) -> float:
        """0 before the onset, 1 fully developed; linear between: a hole that stays the same loses coolant at a steady rate."""
        return min(1.0, max(0.0, (time_s - self.onset_s) / self.development_s))
