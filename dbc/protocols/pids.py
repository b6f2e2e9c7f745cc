"""The PIDs of OBD-II mode 01: lengths, quantities, units. Formulae of SAE J1979 (ISO 15031-5); A is the first data byte."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["PIDS", "Pid", "Quantity"]


@dataclass(frozen=True, slots=True)
class Quantity:
    """physical = raw x scale + offset. Big-endian, as everything in OBD."""

    name: str
    unit: str
    bit: int  # of the most significant bit, from A's most significant on
    bits: int
    scale: float = 1
    offset: float = 0
    signed: bool = False

    @property
    def range(self) -> tuple[float, float]:
        """The physical values that the raw ones can mean."""
        low, high = (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1) if self.signed else (0, (1 << self.bits) - 1)
        return low * self.scale + self.offset, high * self.scale + self.offset


@dataclass(frozen=True, slots=True)
class Pid:
    number: int
    length: int  # data bytes
    quantities: tuple[Quantity, ...]


PERCENT = 100 / 255  # 0..255 as 0..100 %
TRIM = 100 / 128  # 0..255 as -100..99.2 %
LAMBDA = 2 / 65536
VOLT_8 = 8 / 65536


def _at(byte: int, name: str, unit: str = "", bits: int = 8, scale: float = 1, offset: float = 0, signed: bool = False) -> Quantity:
    return Quantity(name, unit, 8 * byte, bits, scale, offset, signed)


def _percent(byte: int, name: str) -> Quantity:
    return _at(byte, name, "%", 8, PERCENT)


def _trim(byte: int, name: str) -> Quantity:
    return _at(byte, name, "%", 8, TRIM, -100)


def _celsius(byte: int, name: str) -> Quantity:
    return _at(byte, name, "degC", 8, 1, -40)


def _celsius_fine(byte: int, name: str) -> Quantity:
    return _at(byte, name, "degC", 16, 0.1, -40)


def _torque(byte: int, name: str) -> Quantity:
    return _at(byte, name, "%", 8, 1, -125)


def _bit(byte: int, bit: int, name: str) -> Quantity:
    return Quantity(name, "", 8 * byte + 7 - bit, 1)


def _pid(number: int, length: int, *quantities: Quantity) -> Pid:
    return Pid(number, length, quantities)


def _each(*names: str, step: int = 1, first: int = 1, like: Quantity) -> tuple[Quantity, ...]:
    """The same quantity for several sensors; the first of them at byte `first` (A, byte 0, says which sensors there are)."""
    return tuple(replace(like, name=name, bit=8 * (first + step * number)) for number, name in enumerate(names))


_OXYGEN = ("Bank1Sensor1", "Bank1Sensor2", "Bank1Sensor3", "Bank1Sensor4", "Bank2Sensor1", "Bank2Sensor2", "Bank2Sensor3", "Bank2Sensor4")

PIDS: tuple[Pid, ...] = (
    *(_pid(n, 4, _at(0, f"PidsSupported{n + 1:02X}To{n + 0x20:02X}", "", 32)) for n in range(0x00, 0xE0, 0x20)),
    _pid(0x01, 4, _bit(0, 7, "MalfunctionIndicatorLamp"), Quantity("TroubleCodeCount", "", 1, 7), _at(1, "MonitorStatus", "", 24)),
    _pid(0x02, 2, _at(0, "FreezeFrameTroubleCode", "", 16)),
    _pid(0x03, 2, _at(0, "FuelSystem1Status"), _at(1, "FuelSystem2Status")),
    _pid(0x04, 1, _percent(0, "CalculatedEngineLoad")),
    _pid(0x05, 1, _celsius(0, "EngineCoolantTemperature")),
    _pid(0x06, 1, _trim(0, "ShortTermFuelTrimBank1")),
    _pid(0x07, 1, _trim(0, "LongTermFuelTrimBank1")),
    _pid(0x08, 1, _trim(0, "ShortTermFuelTrimBank2")),
    _pid(0x09, 1, _trim(0, "LongTermFuelTrimBank2")),
    _pid(0x0A, 1, _at(0, "FuelPressure", "kPa", 8, 3)),
    _pid(0x0B, 1, _at(0, "IntakeManifoldPressure", "kPa")),
    _pid(0x0C, 2, _at(0, "EngineSpeed", "rpm", 16, 0.25)),
    _pid(0x0D, 1, _at(0, "VehicleSpeed", "km/h")),
    _pid(0x0E, 1, _at(0, "TimingAdvance", "deg", 8, 0.5, -64)),
    _pid(0x0F, 1, _celsius(0, "IntakeAirTemperature")),
    _pid(0x10, 2, _at(0, "MassAirFlow", "g/s", 16, 0.01)),
    _pid(0x11, 1, _percent(0, "ThrottlePosition")),
    _pid(0x12, 1, _at(0, "SecondaryAirStatus")),
    _pid(0x13, 1, _at(0, "OxygenSensorsPresent2Banks")),
    *(
        _pid(0x14 + n, 2, _at(0, f"OxygenVoltage{place}", "V", 8, 0.005), _trim(1, f"OxygenFuelTrim{place}"))
        for n, place in enumerate(_OXYGEN)
    ),
    _pid(0x1C, 1, _at(0, "ObdStandard")),
    _pid(0x1D, 1, _at(0, "OxygenSensorsPresent4Banks")),
    _pid(0x1E, 1, _bit(0, 0, "PowerTakeOffActive")),
    _pid(0x1F, 2, _at(0, "TimeSinceEngineStart", "s", 16)),
    _pid(0x21, 2, _at(0, "DistanceWithLampOn", "km", 16)),
    _pid(0x22, 2, _at(0, "FuelRailPressureRelative", "kPa", 16, 0.079)),
    _pid(0x23, 2, _at(0, "FuelRailGaugePressure", "kPa", 16, 10)),
    *(
        _pid(0x24 + n, 4, _at(0, f"LambdaVoltageRatio{place}", "", 16, LAMBDA), _at(2, f"LambdaVoltage{place}", "V", 16, VOLT_8))
        for n, place in enumerate(_OXYGEN)
    ),
    _pid(0x2C, 1, _percent(0, "CommandedEgr")),
    _pid(0x2D, 1, _trim(0, "EgrError")),
    _pid(0x2E, 1, _percent(0, "CommandedEvaporativePurge")),
    _pid(0x2F, 1, _percent(0, "FuelLevel")),
    _pid(0x30, 1, _at(0, "WarmUpsSinceCodesCleared")),
    _pid(0x31, 2, _at(0, "DistanceSinceCodesCleared", "km", 16)),
    _pid(0x32, 2, _at(0, "EvaporativeVaporPressure", "Pa", 16, 0.25, 0, True)),
    _pid(0x33, 1, _at(0, "BarometricPressure", "kPa")),
    *(
        _pid(
            0x34 + n,
            4,
            _at(0, f"LambdaCurrentRatio{place}", "", 16, LAMBDA),
            _at(2, f"LambdaCurrent{place}", "mA", 16, 1 / 256, -128),
        )
        for n, place in enumerate(_OXYGEN)
    ),
    *(
        _pid(0x3C + n, 2, _celsius_fine(0, f"CatalystTemperature{place}"))
        for n, place in enumerate(("Bank1Sensor1", "Bank2Sensor1", "Bank1Sensor2", "Bank2Sensor2"))
    ),
    _pid(0x41, 4, _at(0, "MonitorStatusThisDriveCycle", "", 32)),
    _pid(0x42, 2, _at(0, "ControlModuleVoltage", "V", 16, 0.001)),
    _pid(0x43, 2, _at(0, "AbsoluteLoad", "%", 16, PERCENT)),
    _pid(0x44, 2, _at(0, "CommandedLambda", "", 16, LAMBDA)),
    _pid(0x45, 1, _percent(0, "RelativeThrottlePosition")),
    _pid(0x46, 1, _celsius(0, "AmbientAirTemperature")),
    _pid(0x47, 1, _percent(0, "AbsoluteThrottlePositionB")),
    _pid(0x48, 1, _percent(0, "AbsoluteThrottlePositionC")),
    _pid(0x49, 1, _percent(0, "AcceleratorPedalPositionD")),
    _pid(0x4A, 1, _percent(0, "AcceleratorPedalPositionE")),
    _pid(0x4B, 1, _percent(0, "AcceleratorPedalPositionF")),
    _pid(0x4C, 1, _percent(0, "CommandedThrottleActuator")),
    _pid(0x4D, 2, _at(0, "TimeWithLampOn", "min", 16)),
    _pid(0x4E, 2, _at(0, "TimeSinceCodesCleared", "min", 16)),
    _pid(
        0x4F,
        4,
        _at(0, "MaximumLambda"),
        _at(1, "MaximumOxygenVoltage", "V"),
        _at(2, "MaximumOxygenCurrent", "mA"),
        _at(3, "MaximumIntakePressure", "kPa", 8, 10),
    ),
    _pid(0x50, 4, _at(0, "MaximumMassAirFlow", "g/s", 8, 10)),
    _pid(0x51, 1, _at(0, "FuelType")),
    _pid(0x52, 1, _percent(0, "EthanolShare")),
    _pid(0x53, 2, _at(0, "AbsoluteEvaporativePressure", "kPa", 16, 0.005)),
    _pid(0x54, 2, _at(0, "EvaporativeVaporPressureWide", "Pa", 16, 1, 0, True)),
    *(
        _pid(0x55 + n, 2, _trim(0, f"{term}OxygenTrimBank{first}"), _trim(1, f"{term}OxygenTrimBank{first + 2}"))
        for n, (term, first) in enumerate((("ShortTerm", 1), ("LongTerm", 1), ("ShortTerm", 2), ("LongTerm", 2)))
    ),
    _pid(0x59, 2, _at(0, "FuelRailAbsolutePressure", "kPa", 16, 10)),
    _pid(0x5A, 1, _percent(0, "RelativeAcceleratorPosition")),
    _pid(0x5B, 1, _percent(0, "HybridBatteryRemainingLife")),
    _pid(0x5C, 1, _celsius(0, "EngineOilTemperature")),
    _pid(0x5D, 2, _at(0, "FuelInjectionTiming", "deg", 16, 1 / 128, -210)),
    _pid(0x5E, 2, _at(0, "EngineFuelRate", "L/h", 16, 0.05)),
    _pid(0x5F, 1, _at(0, "EmissionRequirements")),
    _pid(0x61, 1, _torque(0, "DriverDemandTorque")),
    _pid(0x62, 1, _torque(0, "ActualEngineTorque")),
    _pid(0x63, 2, _at(0, "EngineReferenceTorque", "Nm", 16)),
    _pid(
        0x64,
        5,
        *_each(
            "EngineTorqueIdle",
            "EngineTorquePoint1",
            "EngineTorquePoint2",
            "EngineTorquePoint3",
            "EngineTorquePoint4",
            first=0,
            like=_torque(0, ""),
        ),
    ),
    _pid(0x65, 2, _at(0, "AuxiliarySupported"), _at(1, "AuxiliaryStatus")),
    _pid(0x66, 5, *_each("MassAirFlowSensorA", "MassAirFlowSensorB", step=2, like=_at(0, "", "g/s", 16, 1 / 32))),
    _pid(0x67, 3, *_each("EngineCoolantTemperature1", "EngineCoolantTemperature2", like=_celsius(0, ""))),
    _pid(
        0x68,
        7,
        *_each(*(f"IntakeAirTemperatureBank{bank}Sensor{n}" for bank in (1, 2) for n in (1, 2, 3)), like=_celsius(0, "")),
    ),
    _pid(
        0x69,
        7,
        _percent(1, "CommandedEgrA"),
        _percent(2, "ActualEgrA"),
        _trim(3, "EgrErrorA"),
        _percent(4, "CommandedEgrB"),
        _percent(5, "ActualEgrB"),
        _trim(6, "EgrErrorB"),
    ),
    _pid(
        0x6A,
        5,
        *_each(
            "CommandedIntakeAirFlowA", "RelativeIntakeAirFlowA", "CommandedIntakeAirFlowB", "RelativeIntakeAirFlowB", like=_percent(0, "")
        ),
    ),
    _pid(
        0x6B,
        5,
        *_each(*(f"EgrTemperatureBank{bank}Sensor{n}" for bank in (1, 2) for n in (1, 2)), like=_celsius(0, "")),
    ),
    _pid(
        0x6C,
        5,
        *_each(
            "CommandedThrottleActuatorA",
            "RelativeThrottlePositionA",
            "CommandedThrottleActuatorB",
            "RelativeThrottlePositionB",
            like=_percent(0, ""),
        ),
    ),
    _pid(
        0x6D,
        11,
        _at(1, "CommandedFuelRailPressureA", "kPa", 16, 10),
        _at(3, "FuelRailPressureA", "kPa", 16, 10),
        _celsius(5, "FuelRailTemperatureA"),
        _at(6, "CommandedFuelRailPressureB", "kPa", 16, 10),
        _at(8, "FuelRailPressureB", "kPa", 16, 10),
        _celsius(10, "FuelRailTemperatureB"),
    ),
    _pid(
        0x6E,
        9,
        *_each(
            "CommandedInjectionPressureA",
            "InjectionPressureA",
            "CommandedInjectionPressureB",
            "InjectionPressureB",
            step=2,
            like=_at(0, "", "kPa", 16, 10),
        ),
    ),
    _pid(0x6F, 3, *_each("TurboInletPressureA", "TurboInletPressureB", like=_at(0, "", "kPa"))),
    _pid(
        0x70,
        10,
        *_each(
            "CommandedBoostPressureA",
            "BoostPressureA",
            "CommandedBoostPressureB",
            "BoostPressureB",
            step=2,
            like=_at(0, "", "kPa", 16, 1 / 32),
        ),
        _at(9, "BoostPressureControlStatus"),
    ),
    _pid(
        0x71,
        6,
        *_each("CommandedTurbineGeometryA", "TurbineGeometryA", "CommandedTurbineGeometryB", "TurbineGeometryB", like=_percent(0, "")),
        _at(5, "TurbineGeometryControlStatus"),
    ),
    _pid(0x72, 5, *_each("CommandedWastegateA", "WastegateA", "CommandedWastegateB", "WastegateB", like=_percent(0, ""))),
    _pid(0x73, 5, *_each("ExhaustPressureBank1", "ExhaustPressureBank2", step=2, like=_at(0, "", "kPa", 16, 0.01))),
    _pid(0x74, 5, *_each("TurboSpeedA", "TurboSpeedB", step=2, like=_at(0, "", "rpm", 16, 10))),
    _pid(
        0x77,
        5,
        *_each(*(f"ChargeAirTemperatureBank{bank}Sensor{n}" for bank in (1, 2) for n in (1, 2)), like=_celsius(0, "")),
    ),
    *(
        _pid(number, 9, *_each(*(f"{name}Bank{bank}Sensor{n}" for n in (1, 2, 3, 4)), step=2, like=_celsius_fine(0, "")))
        for number, name, bank in ((0x78, "ExhaustGasTemperature", 1), (0x79, "ExhaustGasTemperature", 2))
    ),
    *(
        _pid(
            number,
            7,
            _at(1, f"ParticleFilterDeltaPressureBank{bank}", "kPa", 16, 0.01, 0, True),
            _at(3, f"ParticleFilterInletPressureBank{bank}", "kPa", 16, 0.01),
            _at(5, f"ParticleFilterOutletPressureBank{bank}", "kPa", 16, 0.01),
        )
        for number, bank in ((0x7A, 1), (0x7B, 2))
    ),
    _pid(
        0x7C,
        9,
        *_each(
            *(f"ParticleFilter{side}TemperatureBank{bank}" for bank in (1, 2) for side in ("Inlet", "Outlet")),
            step=2,
            like=_celsius_fine(0, ""),
        ),
    ),
    _pid(0x7F, 13, *_each("EngineRunTime", "EngineIdleTime", "EnginePtoTime", step=4, like=_at(0, "", "s", 32))),
    _pid(0x83, 5, *_each("NoxConcentrationBank1Sensor1", "NoxConcentrationBank2Sensor1", step=2, like=_at(0, "", "ppm", 16))),
    _pid(0x84, 1, _celsius(0, "ManifoldSurfaceTemperature")),
    _pid(
        0x85,
        10,
        _at(1, "ReagentConsumption", "L/h", 16, 0.005),
        _at(3, "ReagentConsumptionDemanded", "L/h", 16, 0.005),
        _percent(5, "ReagentTankLevel"),
        _at(6, "NoxWarningRunTime", "s", 32),
    ),
    _pid(0x86, 5, *_each("ParticulateMassBank1", "ParticulateMassBank2", step=2, like=_at(0, "", "mg/m3", 16, 0.0125))),
    _pid(0x87, 5, *_each("IntakeManifoldPressureA", "IntakeManifoldPressureB", step=2, like=_at(0, "", "kPa", 16, 1 / 32))),
    _pid(0x8D, 1, _percent(0, "AbsoluteThrottlePositionG")),
    _pid(0x8E, 1, _torque(0, "EngineFrictionTorque")),
    _pid(0x9D, 4, _at(0, "EngineFuelRateMass", "g/s", 16, 0.02), _at(2, "VehicleFuelRateMass", "g/s", 16, 0.02)),
    _pid(0x9E, 2, _at(0, "ExhaustFlowRate", "kg/h", 16, 0.2)),
    _pid(0xA2, 2, _at(0, "CylinderFuelRate", "mg/stroke", 16, 1 / 32)),
    _pid(0xA4, 4, Quantity("TransmissionGear", "", 8, 4), _at(2, "TransmissionRatio", "", 16, 0.001)),
    _pid(0xA6, 4, _at(0, "Odometer", "km", 32, 0.1)),
)
