"""From the model's state to what control units send: every signal, its noise, and how it goes from one second to the next."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbc.schema import Schema
from simulator.sheet import Context, Sheet
from simulator.signals_body import BODY_PARTS, body_constants
from simulator.signals_drive import DRIVE_PARTS, drive_constants
from simulator.signals_energy import ENERGY_PARTS, energy_constants
from simulator.state import Array

__all__ = ["FLASH_ON_S", "FLASH_S", "Signals", "Traits", "flashing"]

PARTS = (*DRIVE_PARTS, *BODY_PARTS, *ENERGY_PARTS)
FLASH_S, FLASH_ON_S = 0.7, 0.35  # of an indicator: 85 flashes a minute; UN Regulation 48 allows 60 to 120
FLASHING = ("BCM_Lights.TurnLightLeft", "BCM_Lights.TurnLightRight")

# Standard deviation of what a sensor adds, in the signal's unit, from the typical accuracy of such sensors; by regular expression of the
# whole name. What is not here is computed by a control unit, or set: it has none.
NOISE: dict[str, float] = {
    r"MCU_Motor\.MotorSpeed": 1.0,
    r"MCU_Motor\.MotorDcCurrent": 0.15,
    r"MCU_Phase\.DcLinkVoltage": 0.15,
    r"MCU_Temperatures\.(Stator|GearOil|Capacitor)Temperature": 0.15,
    r"MCU_Temperatures\.InverterTemperature": 0.2,
    r"MCU_Bearing\.BearingTemperature": 0.15,
    r"MCU_Bearing\.BearingVibration": 0.004,
    r"MCU_Detail\.PhaseCurrent[UVW]": 0.4,
    r"MCU_Detail\.(Switch|Winding)Temperature[UVW]": 0.2,
    r"EPS_Steering\.SteeringAngle": 0.05,
    r"EPS_Steering\.DriverTorque": 0.02,
    r"EPS_Status\.SteeringSupplyVoltage": 0.02,
    r"EPB_Status\.ClampForce(Left|Right)": 0.02,
    r"BMS_Pack\.PackVoltage": 0.08,
    r"BMS_Pack\.PackCurrent": 0.1,
    r"BMS_CellVoltages\.CellVoltage\d\d": 0.0003,
    r"BMS_CellTemperatures\.CellTemperature\d\d": 0.05,
    r"BMS_ModuleVoltage\.ModuleVoltage\d\d": 0.0006,
    r"BMS_ModuleResistance\.ModuleResistance\d\d": 0.01,
    r"BMS_Thermal\.CellTemperatureMean": 0.06,
    r"BMS_Insulation\.InsulationResistance": 6.0,
    r"BMS_Insulation\.(Contactor|Busbar)Temperature": 0.1,
    r"BMS_PackDetail\.LinkVoltage": 0.06,
    r"BMS_PackDetail\.CurrentShunt": 0.03,
    r"BMS_PackDetail\.CurrentHall": 0.3,
    r"BMS_PackDetail\.ContactorDrop(Positive|Negative)": 0.6,
    r"BMS_PackDetail\.Insulation(Positive|Negative)": 12.0,
    r"BMS_PackDetail\.(Fuse|Shunt)Temperature": 0.1,
    r"BMS_PackDetail\.BatteryHumidity": 0.3,
    r"BMS_PackDetail\.BatteryHousingPressure": 0.5,
    r"ESP_WheelSpeed\.WheelSpeed\w+": 0.02,
    r"ESP_Motion\.(Longitudinal|Lateral)Acceleration": 0.03,
    r"ESP_Motion\.YawRate": 0.06,
    r"ESP_Brake\.BrakePressure": 0.05,
    r"BRK_Booster\.BoosterTravel": 0.02,
    r"BRK_Booster\.BoosterPressure": 0.05,
    r"BRK_Booster\.(BoosterCurrent|BoosterTemperature)": 0.1,
    r"ESP_Slip\.RoadGradient": 0.05,
    r"ESP_Slip\.VehicleMass": 6.0,
    r"SUS_Level\.SuspensionHeight\w+": 0.4,
    r"TMS_BatteryLoop\.BatteryCoolantFlow": 0.055,
    r"TMS_BatteryLoop\.BatteryCoolant(Inlet|Outlet)Temperature": 0.08,
    r"TMS_BatteryLoop\.BatteryCoolantPressure": 0.5,
    r"TMS_BatteryLoop\.BatteryCoolantLevel": 0.8,
    r"TMS_BatteryPump\.BatteryPumpSpeed": 3.0,
    r"TMS_BatteryPump\.BatteryPumpCurrent": 0.01,
    r"TMS_BatteryPump\.BatteryPumpTemperature": 0.1,
    r"TMS_DriveLoop\.DriveCoolantFlow": 0.06,
    r"TMS_DriveLoop\.DriveCoolant(Return)?Temperature": 0.08,
    r"TMS_DriveLoop\.DrivePumpSpeed": 3.0,
    r"TMS_DriveLoop\.DriveCoolantLevel": 0.8,
    r"TMS_Radiator\.FanSpeed": 4.0,
    r"TMS_Radiator\.FanCurrent": 0.03,
    r"TMS_Refrigerant\.HighPressure": 0.03,
    r"TMS_Refrigerant\.LowPressure": 0.01,
    r"TMS_Refrigerant\.EvaporatorTemperature": 0.1,
    r"TMS_State\.OutsideTemperature": 0.08,
    r"TMS_Detail\.Radiator(Inlet|Outlet)Temperature": 0.1,
    r"TMS_Detail\.SuperHeat": 0.1,
    r"DCDC_Status\.ConverterOutputVoltage": 0.01,
    r"DCDC_Status\.ConverterOutputCurrent": 0.2,
    r"DCDC_Status\.ConverterTemperature": 0.1,
    r"DCDC_Detail\.ConverterInputVoltage": 0.1,
    r"DCDC_Detail\.Converter(Switch|Transformer)Temperature": 0.15,
    r"OBC_Status\.(Charger|Port)Temperature": 0.1,
    r"OBC_Detail\.GridVoltage\d": 0.3,
    r"OBC_Detail\.GridCurrent\d": 0.03,
    r"OBC_Detail\.ChargerSwitchTemperature": 0.15,
    r"CCS_Charging\.InletTemperature(Positive|Negative)": 0.1,
    r"ADAS_Front\.LeadDistance": 0.05,
    r"ADAS_Lane\.LaneQuality": 1.0,
    r"ADAS_Objects\.ObjectDistance\d": 0.08,
    r"ADAS_Objects\.ObjectLateralOffset\d": 0.03,
    r"RAD_Corner\.CornerDistance(Left|Right)": 0.1,
    r"SRS_Crash\.Shock(Longitudinal|Lateral)": 0.1,
    r"SRS_Crash\.CrashSupplyVoltage": 0.02,
    r"TPMS_Pressure\.TyrePressure\w+": 0.4,
    r"TPMS_Temperature\.TyreTemperature\w+": 0.2,
    r"CLIM_Cabin\.CabinTemperature": 0.08,
    r"CLIM_Cabin\.CabinHumidity": 0.3,
    r"CLIM_Cabin\.CabinCo2": 6.0,
    r"CLIM_Air\.VentTemperature": 0.15,
    r"CLIM_Filter\.FilterPressureDrop": 0.6,
    r"CLIM_Filter\.Particles(Outside|Cabin)": 0.5,
    r"BCM_Wipers\.WiperCurrent": 0.02,
    r"BCM_Controls\.WheelTouchForce": 0.2,
    r"BCM_LowVoltage\.LowVoltage": 0.01,
    r"BCM_LowVoltage\.LowVoltageCurrent": 0.05,
    r"BCM_LowVoltage\.LowVoltageTemperature": 0.1,
    r"BCM_Loads\.(Lighting|Blower|Pump)Current": 0.05,
    r"BCM_Loads\.InfotainmentCurrent": 0.1,
    r"GNSS_Position\.(Latitude|Longitude)": 4e-6,
    r"GNSS_Motion\.Altitude": 0.4,
    r"GNSS_Motion\.GroundSpeed": 0.06,
}
# Sensors that have no noise at zero: they count pulses, or there is nothing to measure.
QUIET = re.compile(
    r"MCU_Motor\.MotorSpeed|ESP_WheelSpeed\.WheelSpeed\w+|GNSS_Motion\.GroundSpeed|OBC_Detail\.Grid(Voltage|Current)\d|TMS_Detail\.SuperHeat"
    r"|TMS_Radiator\.Fan(Speed|Current)|TMS_BatteryPump\.BatteryPump(Speed|Current)|TMS_DriveLoop\.DrivePumpSpeed|BCM_Wipers\.WiperCurrent"
)
# Besides states (signals with a value table), what does not go smoothly from one second to the next: numbers, counts, clocks, and what
# begins anew with a trip or a charge.
HELD = re.compile(
    r"GNSS_Time\.\w+|GNSS_Motion\.(Heading|Satellites)|GW_Vin\.\w+|NM_\w+\.\w+|VCU_Trip\.\w+|VCU_Configuration\.\w+|VCU_Status\.ReadyTime"
    r"|VCU_Energy\.(AverageConsumption|RangeEstimate)|BMS_CellStatistics\.(CellVoltageM\w+Number|BalancingCells)|BMS_PackDetail\.BalancingCurrent"
    r"|BMS_Insulation\.ContactorCycles|BMS_EnergyMeter\.FastChargeCount|CHG_Session\.\w+|CCS_Charging\.TimeToFull|IC_Service\.\w+|IC_Display\.\w+"
    r"|ADAS_Front\.(CruiseSetSpeed|TimeGap)|ADAS_Lane\.SpeedLimit|ADAS_Objects\.\w+|ADAS_Path\.PathSpeed|ADAS_Brake\.\w+|CLIM_Cabin\.CabinSetpoint"
    r"|SRS_Occupants\.(RearSeats|SeatHeater\w+)|BCM_AccessEvent\.\w+|TPMS_Temperature\.PlacardPressure|MCU_Detail\.SwitchingFrequency"
    r"|OBC_Detail\.(GridFrequency|PilotDuty|CableLimit)|DCDC_Detail\.ConverterTarget|EPB_Status\.ActuatorCurrent"
)


class Traits:
    """What is known of every signal besides its value; m signals in the schema's order."""

    def __init__(self, schema: Schema) -> None:
        noise = re.compile("|".join(f"(?P<n{number}>{pattern})" for number, pattern in enumerate(NOISE)))
        deviations = list(NOISE.values())
        found = [noise.fullmatch(name) for name in schema.names]
        self.deviation: Array = np.array([deviations[int(match.lastgroup[1:])] if match and match.lastgroup else 0.0 for match in found])
        self.quiet: NDArray[np.bool_] = np.array([QUIET.fullmatch(name) is not None for name in schema.names])
        self.held: NDArray[np.bool_] = np.array(
            [HELD.fullmatch(name) is not None or words is not None for name, words in zip(schema.names, schema.choices, strict=True)]
        )
        self.flashing: NDArray[np.bool_] = np.isin(schema.names, FLASHING)
        with np.errstate(invalid="ignore"):
            self.lowest: Array = np.rint((schema.minimum - schema.offset) / schema.scale)
            self.highest: Array = np.rint((schema.maximum - schema.offset) / schema.scale)


def flashing(time_s: Array) -> NDArray[np.bool_]:
    """Whether an indicator that is asked for is lit at these seconds of the run."""
    lit: NDArray[np.bool_] = time_s % FLASH_S < FLASH_ON_S
    return lit


class _Seen(Sheet):
    """Remembers which rows are written and read."""

    def __init__(self, schema: Schema, vehicles: int) -> None:
        super().__init__(schema, np.full((len(schema), vehicles), np.nan))
        self.begin()

    def begin(self) -> None:
        """The next part is about to write."""
        self.read: set[int] = set()
        self._before = self.values.copy()

    def wrote(self) -> set[int]:
        """Since then."""
        new = ~np.isnan(self.values) & (np.isnan(self._before) | (self.values != self._before))
        return set(np.flatnonzero(new.any(axis=1)).tolist())

    def __getitem__(self, name: str) -> Array:
        self.read.add(self.row[name])
        return super().__getitem__(name)

    def rows(self, prefix: str, count: int) -> slice | NDArray[np.intp]:
        rows = super().rows(prefix, count)
        self.read |= set(np.arange(len(self.values))[rows].tolist())
        return rows


class Signals:
    """Writes the signals of n vehicles, as the sensors would give them without noise.

    `write` fills `values` (signals, n) float64, physical, in the schema's order, from the state as it is now. Counters, checksums and
    multiplexers are 0; an indicator is 1 while it is asked for.
    """

    def __init__(self, schema: Schema, context: Context) -> None:
        self.context, self._schema = context, schema
        self.traits = Traits(schema)
        self._sheet = Sheet(schema, np.empty((0, 0)))
        self._constants = Sheet(schema, np.zeros((len(schema), context.state.vehicles)))
        for constants in (drive_constants, body_constants, energy_constants):
            constants(context, self._constants)
        self._parts: tuple[Callable[[Context, Sheet], None], ...] = PARTS

    def only(self, rows: Collection[int]) -> None:
        """`write` these signals from now on, and whatever else takes no longer: parts that none of them needs are left out."""
        seen = _Seen(self._schema, self.context.state.vehicles)
        wrote, read = [], []
        for part in PARTS:
            seen.begin()
            part(self.context, seen)
            wrote.append(seen.wrote())
            read.append(seen.read)
        wanted, chosen = set(rows), set[int]()
        for at in reversed(range(len(PARTS))):  # what a part reads, one before it has written
            if wrote[at] & wanted:
                chosen.add(at)
                wanted |= read[at]
        self._parts = tuple(part for at, part in enumerate(PARTS) if at in chosen)

    def start(self) -> Array:
        """(signals, n) with what stays the same for the whole run; to be filled by `write` again and again."""
        return self._constants.values.copy()

    def write(self, values: NDArray[Any]) -> None:
        """values: as `start` gave it, or as an earlier `write` left it."""
        self._sheet.values = values
        for part in self._parts:
            part(self.context, self._sheet)
