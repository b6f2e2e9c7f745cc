"""The signals of the drive bus, from the model's state."""

from __future__ import annotations

import numpy as np

from simulator.sheet import Context, Sheet
from simulator.state import CELLS, SENSORS, Array

__all__ = ["DRIVE_PARTS", "drive_constants"]

RPM = 60 / (2 * np.pi)
PACK_NEW_KWH = 75.0
PUMP_MOST_RPM, FAN_MOST_RPM = 6000.0, 2800.0
SLIP_STIFFNESS = 14.0  # of the load
HALF_TRACK_M = 0.79
SERVICE_KM = 10_000.0  # that ReadyTime counts
NUMBER_BITS = 7  # of a cell's number
EMPTY_KG, OCCUPANT_KG = 1880.0, 78.0
BATTERY_STATE = np.array([1.0, 2.0, 3.0, 3.0])  # by the car's mode
PRECHARGE_STATE = np.array([0.0, 1.0, 2.0])  # by the contactor's


def drive_constants(c: Context, v: Sheet) -> None:
    """What stays the same for the whole run."""
    who = c.who
    v["VCU_Powertrain.DriveMode"] = who["drive_mode"]
    v["VCU_Regeneration.RegenerationLevel"] = who["regeneration_level"]
    v["VCU_Configuration.SoftwareMinor"] = 4.0
    v["EPB_Status.ParkBrakeState"] = 2.0
    v["NM_Drive.SourceNode"] = 10.0
    v["BMS_Insulation.InterlockState"] = 1.0


def measured_charge(c: Context) -> Array:
    """(n,) state of charge as the BMS estimates it."""
    charge: Array = np.clip(c.state["battery.charge"] + c.who["charge_error"], 0, 1)
    return charge


def _vehicle_control(c: Context, v: Sheet) -> None:
    s, who = c.state, c.who
    speed, torque, electric_w, ready = s["drive.speed"], s["drive.torque"], s["drive.electric_w"], s["ready"]
    friction, derating = s["drive.friction_torque"], s["derating"]
    braking = friction > 5
    regenerating = np.minimum(torque, 0.0)
    distance_km = s["drive.distance_m"] / 1000
    used_kwh = s["battery.trip_discharged_kwh"] - s["battery.trip_charged_kwh"]
    consumption = np.where(distance_km > 0.2, used_kwh / np.maximum(distance_km, 0.2) * 100, 18.0)
    wheel_n_m = -regenerating * c.car.gear_ratio
    left_kwh = measured_charge(c) * PACK_NEW_KWH * s["battery.health"]
    v["VCU_Powertrain.AcceleratorPedal"] = 100 * s["drive.pedal"]
    v["VCU_Powertrain.TorqueRequest"] = s["drive.torque_request"]
    v["VCU_Powertrain.BrakePedalPressed"] = braking
    v["VCU_Powertrain.GearPosition"] = s["body.gear"]
    v["VCU_Powertrain.PowertrainState"] = np.where(
        (derating > 0) & (ready > 0), 4.0, np.where(speed > 0.1, 3.0, np.where(ready > 0, 2.0, s["key"] > 0))
    )
    v["VCU_Powertrain.TorqueLimitCause"] = s["drive.limit_cause"]
    v["VCU_Limits.TorqueMaximum"] = c.car.motor_torque_n_m * (1 - derating) * ready
    v["VCU_Limits.TorqueMinimum"] = -s["drive.regeneration_limit"] * ready
    v["VCU_Limits.PowerMaximum"] = np.minimum(c.car.motor_power_w * (1 - derating), s["battery.discharge_limit_w"]) / 1000 * ready
    v["VCU_Limits.CreepActive"] = (speed < 2) & (torque > 1) & (s["drive.pedal"] < 0.01)
    v["VCU_Regeneration.RegenerationTorque"] = regenerating
    v["VCU_Regeneration.RegenerationPower"] = np.maximum(0.0, -electric_w / 1000)
    v["VCU_Regeneration.RegenerationTorqueLimit"] = s["drive.regeneration_limit"]
    v["VCU_Regeneration.BrakeBlending"] = 100 * wheel_n_m / np.maximum(wheel_n_m + friction, 1.0)
    v["VCU_Regeneration.OnePedalActive"] = (regenerating < -1) & ~braking
    v["VCU_Energy.DrivePower"] = electric_w / 1000
    v["VCU_Energy.AuxiliaryPower"] = s["auxiliary_w"]
    v["VCU_Energy.ClimatePower"] = s["climate_w"]
    v["VCU_Energy.AverageConsumption"] = consumption
    v["VCU_Energy.RangeEstimate"] = left_kwh / np.maximum(0.5 * (consumption + 17.0), 8.0) * 100
    v["VCU_Configuration.SoftwareMajor"] = s["drive.software"]
    v["VCU_Configuration.TyreSet"] = s["tyres.set"]
    v["VCU_Configuration.TrailerConnected"] = s["body.trailer"]
    trailer_kg = who["trailer_kg"] * s["body.trailer"]
    v["VCU_Configuration.TrailerMass"] = trailer_kg
    v["VCU_Configuration.LoadMass"] = s["drive.mass_kg"] - EMPTY_KG - trailer_kg
    v["VCU_Trip.TripDistance"] = distance_km
    v["VCU_Trip.TripEnergy"] = s["battery.trip_discharged_kwh"]
    v["VCU_Trip.TripRegeneratedEnergy"] = s["battery.trip_charged_kwh"]
    v["VCU_Trip.TripTime"] = s["trip_s"]
    v["VCU_Status.PowerDerating"] = 100 * derating
    v["VCU_Status.DeratingCause"] = s["derating_cause"]
    v["VCU_Status.WarningLamp"] = s["warning"]
    v["VCU_Status.EcoScore"] = 100 - 18 * np.abs(s["drive.acceleration"]) - 0.8 * np.maximum(0.0, consumption - 14)
    odometer = s["drive.odometer_km"]
    v["VCU_Status.ReadyTime"] = 60 * s["body.hours"] * (odometer % SERVICE_KM) / np.maximum(odometer, 1.0)
    cause = s["derating_cause"]
    level = s["loop.level"]
    pressure_low = (0.85 * s["tyres.placard_kpa"] > s["tyres.pressure_kpa"].T).any(axis=0)
    source = np.where(pressure_low, 7.0, 0.0)
    for number, there in (  # the gravest last
        (6.0, s["low.voltage"] < 11.5),
        (5.0, s["brakes.pad_mm"].T.min(axis=0) < 2.5),
        (4.0, s["battery.insulation_kohm"] < 200),
        (3.0, level < 55),
        (2.0, (cause == 2) | (cause == 3)),
        (1.0, (cause == 1) | (cause >= 4)),
    ):
        source[there] = number
    v["VCU_WarningEvent.WarningSource"] = source
    v["VCU_WarningEvent.WarningLevel"] = np.maximum(np.where(s["warning"] > 0, s["warning"] + 1, 0.0), source > 0)
    v["VCU_WarningEvent.PowerLimited"] = derating > 0
    v["VCU_WarningEvent.ChargingLocked"] = s["charging.state"] == 4
    v["EPB_Status.ParkBrakeState"] = s["body.parking"]
    v["EPB_Status.ClampForceLeft"] = s["body.clamp_kn"]
    v["EPB_Status.ClampForceRight"] = 0.98 * s["body.clamp_kn"]
    v["EPB_Status.ActuatorCurrent"] = s["body.actuator_a"]
    network(c, v, "NM_Drive", "bus.drive")


def network(c: Context, v: Sheet, message: str, bus: str) -> None:
    """Network management of a bus: why it is awake and since when, as far as the car's mode says it."""
    s = c.state
    awake, key = s[bus], s["key"]
    v[f"{message}.WakeReason"] = awake * np.where(key > 0, 1.0, np.where(s["mode"] >= 2, 2.0, np.where(s["body.door"] > 0, 3.0, 4.0)))
    v[f"{message}.NetworkState"] = awake * np.where((key > 0) | (s["mode"] >= 2), 2.0, 3.0)
    v[f"{message}.AwakeTime"] = np.where(key > 0, s["trip_s"], s["charging.session_s"])


def _motor(c: Context, v: Sheet) -> None:
    s, who = c.state, c.who
    rad_s, voltage, ready = s["drive.motor_rad_s"], s["battery.voltage"], s["ready"]
    torque = s["drive.torque"] * who["torque_gain"]
    motor_w, inverter_w, mechanical = s["drive.motor_loss_w"], s["drive.inverter_loss_w"], s["drive.mechanical_w"]
    loss = motor_w + inverter_w
    gain = np.where(mechanical >= 0, mechanical / np.maximum(mechanical + loss, 1.0), (mechanical + loss) / np.minimum(mechanical, -1.0))
    v["MCU_Motor.MotorSpeed"] = rad_s * RPM
    v["MCU_Motor.MotorTorque"] = torque
    v["MCU_Motor.MotorDcCurrent"] = s["drive.electric_w"] / voltage
    v["MCU_Motor.MotorState"] = np.where(ready < 1, s["key"] > 0, np.where(torque > 1, 2.0, np.where(torque < -1, 3.0, 1.0)))
    v["MCU_Torque.TorqueReference"] = s["drive.torque_request"]
    available = np.minimum(c.car.motor_torque_n_m, c.car.motor_power_w / np.maximum(rad_s, 1.0))
    v["MCU_Torque.TorqueAvailable"] = available * ready
    v["MCU_Torque.TorqueAvailableGenerator"] = np.minimum(available, c.car.regeneration_torque_n_m) * ready
    v["MCU_Torque.InverterEnabled"] = ready
    v["MCU_Phase.CurrentD"] = s["drive.current_d"] * ready
    v["MCU_Phase.CurrentQ"] = s["drive.current_q"] * ready
    back_emf = 0.5 * rad_s * 0.52 + 0.05 * np.abs(s["drive.current_q"])
    v["MCU_Phase.ModulationIndex"] = 100 * back_emf / (voltage / np.sqrt(3))
    v["MCU_Phase.DcLinkVoltage"] = (voltage - 0.004 * s["battery.current"]) * (s["battery.contactor"] > 0)
    v["MCU_Phase.ElectricalFrequency"] = rad_s / (2 * np.pi) * c.car.motor_pole_pairs
    v["MCU_Temperatures.StatorTemperature"] = s["drive_loop.stator_c"] + who["stator_error_c"]
    v["MCU_Temperatures.RotorTemperature"] = s["drive_loop.rotor_c"]
    v["MCU_Temperatures.InverterTemperature"] = s["drive_loop.inverter_c"]
    v["MCU_Temperatures.GearOilTemperature"] = s["drive_loop.oil_c"]
    v["MCU_Temperatures.CapacitorTemperature"] = s["drive_loop.capacitor_c"]
    v["MCU_Losses.MotorLoss"] = motor_w
    v["MCU_Losses.InverterLoss"] = inverter_w
    v["MCU_Losses.DriveEfficiency"] = np.where(np.abs(mechanical) < 500, 0.0, 100 * gain)
    v["MCU_Losses.MechanicalPower"] = mechanical / 1000
    v["MCU_Bearing.BearingTemperature"] = s["drive_loop.bearing_c"]
    v["MCU_Bearing.BearingVibration"] = s["drive.vibration_g"]


def _steering(c: Context, v: Sheet) -> None:
    s = c.state
    v["EPS_Steering.SteeringAngle"] = s["steering.angle_deg"]
    v["EPS_Steering.SteeringRate"] = s["steering.rate_deg_s"]
    v["EPS_Steering.DriverTorque"] = s["steering.hand_n_m"]
    v["EPS_Steering.AssistCurrent"] = s["steering.assist_a"]
    v["EPS_Steering.SteeringTemperature"] = s["steering.motor_c"]
    v["EPS_Status.SteeringSupplyVoltage"] = s["low.voltage"] - 0.004 * s["steering.assist_a"]  # 4 mohm of cable
    v["EPS_Status.SteeringMotorTorque"] = np.copysign(0.05 * s["steering.assist_a"], s["steering.hand_n_m"])
    v["EPS_Status.SteeringMode"] = np.where(s["ready"] > 0, np.where(s["steering.motor_c"] > 110, 2.0, 1.0), 0.0)


def _battery(c: Context, v: Sheet) -> None:
    s, who = c.state, c.who
    battery_c = s["loop.battery_c"]
    current = s["battery.current"] * who["current_gain"] + who["current_error_a"]
    voltage = s["battery.voltage"] * who["voltage_gain"]
    charge = measured_charge(c)
    health = s["battery.health"] + who["health_error"]
    contactor = s["battery.contactor"]
    v["BMS_Pack.PackVoltage"] = voltage
    v["BMS_Pack.PackCurrent"] = current
    v["BMS_Pack.PackPower"] = current * voltage / 1000
    v["BMS_Pack.ContactorState"] = contactor
    v["BMS_Limits.DischargePowerLimit"] = s["battery.discharge_limit_w"] / 1000
    v["BMS_Limits.ChargePowerLimit"] = s["battery.charge_limit_w"] / 1000
    v["BMS_Limits.DischargeCurrentLimit"] = s["battery.discharge_limit_w"] / voltage
    v["BMS_Limits.ChargeCurrentLimit"] = s["battery.charge_limit_w"] / voltage
    v["BMS_State.StateOfCharge"] = 100 * charge
    v["BMS_State.StateOfHealth"] = 100 * health
    v["BMS_State.BatteryState"] = np.where(s["protection"] > 0, 4.0, BATTERY_STATE.take(s["mode"].astype(np.intp)))
    v["BMS_State.ThermalState"] = (battery_c >= 10.0) * 1.0 + (battery_c >= 38.0) + (battery_c >= 50.0)
    v["BMS_State.RemainingEnergy"] = charge * PACK_NEW_KWH * health
    v["BMS_State.BalancingActive"] = s["battery.balancing"]
    v["BMS_Thermal.CellTemperatureMean"] = battery_c
    v["BMS_Thermal.BatteryHeat"] = s["battery.heat_w"]
    v["BMS_Thermal.CoolingRequest"] = 100 * (battery_c - 26) / 14
    v["BMS_Thermal.HeatingRequest"] = 100 * (8 - battery_c) / 6
    v["BMS_Insulation.InsulationResistance"] = s["battery.insulation_kohm"]
    v["BMS_Insulation.PrechargeState"] = PRECHARGE_STATE.take(contactor.astype(np.intp))
    v["BMS_Insulation.ContactorTemperature"] = s["battery.contactor_c"]
    v["BMS_Insulation.BusbarTemperature"] = s["battery.busbar_c"]
    v["BMS_Insulation.ContactorCycles"] = s["battery.contactor_cycles"]
    v["BMS_Throughput.ChargeThroughput"] = s["battery.charged_a_h"]
    v["BMS_Throughput.DischargeThroughput"] = s["battery.discharged_a_h"]
    v["BMS_Throughput.EquivalentCycles"] = s["battery.cycles"]
    v["BMS_EnergyMeter.EnergyCharged"] = s["battery.charged_kwh"]
    v["BMS_EnergyMeter.EnergyDischarged"] = s["battery.discharged_kwh"]
    v["BMS_EnergyMeter.FastChargeCount"] = s["battery.fast_charges"]
    v["BMS_Resistance.PackResistance"] = 1000 * s["battery.resistance"]
    v["BMS_Resistance.OpenCircuitVoltage"] = s["battery.open_circuit_v"]
    v["BMS_Resistance.CapacityRemaining"] = charge * s["battery.capacity_a_h"] * (health / s["battery.health"])
    v["BMS_Resistance.DepthOfDischarge"] = 100 * (1 - charge)
    v["BMS_Resistance.PolarisationVoltage"] = s["battery.polarisation_v"]


def _cells(c: Context, v: Sheet) -> None:
    """As the BMS measures them, each with its own sensor's error."""
    s, who = c.state, c.who
    temperature = s["cells.temperature_c"].T + who.cell_temperature_error.T  # (24, n)
    v.values[v.rows("BMS_CellVoltages.CellVoltage", CELLS)] = s["cells.voltage"].T + who.cell_voltage_error.T
    v.values[v.rows("BMS_CellTemperatures.CellTemperature", SENSORS)] = temperature
    v["BMS_Thermal.CellTemperatureMaximum"] = temperature.max(axis=0)
    v["BMS_Thermal.CellTemperatureMinimum"] = temperature.min(axis=0)


def _cell_statistics(c: Context, v: Sheet) -> None:
    """Of what the BMS measures, filtered."""
    s = c.state
    voltage = s["cells.voltage"].T + c.who.cell_voltage_error.T  # (96, n)
    # The extreme cells and their numbers in one pass: voltage in steps of 0.1 µV, the number in the low bits.
    code = (voltage * 1e7).astype(np.int64)
    code <<= NUMBER_BITS
    code += np.arange(CELLS)[:, None]
    top, bottom = code.max(axis=0), code.min(axis=0)
    highest, lowest = (top >> NUMBER_BITS) * 1e-7, (bottom >> NUMBER_BITS) * 1e-7
    top, bottom = top & (1 << NUMBER_BITS) - 1, bottom & (1 << NUMBER_BITS) - 1
    v["BMS_CellStatistics.CellVoltageMaximum"] = highest
    v["BMS_CellStatistics.CellVoltageMinimum"] = lowest
    v["BMS_CellStatistics.CellVoltageMaximumNumber"] = top + 1
    v["BMS_CellStatistics.CellVoltageMinimumNumber"] = bottom + 1
    v["BMS_CellStatistics.CellVoltageSpread"] = 1000 * (highest - lowest)
    balancing = s["battery.balancing"]
    v["BMS_CellStatistics.BalancingCells"] = np.count_nonzero(voltage > lowest + 0.006, axis=0) * balancing if balancing.any() else 0.0


def _chassis(c: Context, v: Sheet) -> None:
    s, who = c.state, c.who
    speed, acceleration = s["drive.speed"], s["drive.acceleration"]
    rolling = speed > 0.05
    mass, gradient = s["drive.mass_kg"] - who["trailer_kg"] * s["body.trailer"], s["world.gradient"]
    load_rear, load_front = mass * (0.52 * 9.81 + 0.19 * acceleration), mass * (0.48 * 9.81 - 0.19 * acceleration)
    load = np.stack([load_front, load_front, load_rear, load_rear]) / 2  # (4, n) N
    brake = s["brakes.torque_n_m"].T
    drive = s["drive.push_n"] * c.car.wheel_radius_m / 2
    torque = -brake
    torque[2:] += drive
    slip = 100 * torque / c.car.wheel_radius_m / (load * SLIP_STIFFNESS) * rolling
    turning = HALF_TRACK_M * np.radians(s["steering.yaw_deg_s"])
    side = np.array([-1.0, 1.0, -1.0, 1.0])[:, None]
    wheel = 3.6 * (speed + side * turning) * who.wheel_gain.T * (1 + slip / 100)
    v.wheels("ESP_WheelSpeed.WheelSpeed", wheel * rolling)
    v.wheels("ESP_WheelTorque.WheelTorque", torque)
    v["ESP_Motion.VehicleSpeed"] = 3.6 * speed
    v["ESP_Motion.LongitudinalAcceleration"] = acceleration + 9.81 * gradient
    v["ESP_Motion.LateralAcceleration"] = s["steering.lateral_m_s2"]
    v["ESP_Motion.YawRate"] = s["steering.yaw_deg_s"]
    pressure = s["brakes.pressure_bar"]
    v["ESP_Brake.BrakePressure"] = pressure
    v["ESP_Brake.BrakePedalTravel"] = 100 * (np.maximum(pressure, 0) / 120) ** 0.6
    v["ESP_Brake.FrictionBrakeTorque"] = s["drive.friction_torque"]
    v["ESP_Brake.AbsActive"] = slip[0] < -9
    v["ESP_Brake.TractionControlActive"] = slip[2] > 6
    v["ESP_Brake.HoldState"] = np.where(s["ready"] < 1, 0.0, np.where(speed < 0.05, 2.0, 1.0))
    v["BRK_Booster.BoosterTravel"] = 0.22 * pressure
    v["BRK_Booster.BoosterPressure"] = pressure
    v["BRK_Booster.BoosterCurrent"] = s["ready"] * (0.9 + 0.18 * pressure)
    v["BRK_Booster.BoosterTemperature"] = s["world.ambient_c"] + 0.35 * (s["drive_loop.return_c"] - s["world.ambient_c"])
    v.wheels("ESP_DiscTemperature.DiscTemperature", s["brakes.disc_c"].T)
    v["ESP_Slip.SlipFront"] = (slip[0] + slip[1]) / 2
    v["ESP_Slip.SlipRear"] = (slip[2] + slip[3]) / 2
    v["ESP_Slip.RoadGradient"] = 100 * (gradient + who["gradient_error"])
    v["ESP_Slip.VehicleMass"] = s["drive.mass_kg"]
    v["ESP_Slip.AxleLoadFront"] = load_front / 9.81
    pitch, roll, sag = 2.0 * acceleration, 4.0 * s["steering.lateral_m_s2"], -0.05 * (mass - EMPTY_KG - OCCUPANT_KG)
    v.wheels("SUS_Level.SuspensionHeight", np.stack([sag + pitch - roll, sag + pitch + roll, sag - pitch - roll, sag - pitch + roll]))


def _thermal(c: Context, v: Sheet) -> None:
    s, who = c.state, c.who
    level = s["loop.level"] + who["level_error"] + c.slosh
    running = s["loop.pump_rpm"] > 300
    v["TMS_BatteryLoop.BatteryCoolantFlow"] = s["loop.flow_l_min"] * who["flow_gain"]
    v["TMS_BatteryLoop.BatteryCoolantInletTemperature"] = s["loop.coolant_c"] + who["inlet_error_c"]
    v["TMS_BatteryLoop.BatteryCoolantOutletTemperature"] = s["loop.outlet_c"] + who["outlet_error_c"]
    v["TMS_BatteryLoop.BatteryCoolantPressure"] = s["loop.pressure_kpa"]
    v["TMS_BatteryLoop.BatteryCoolantLevel"] = level
    v["TMS_BatteryPump.BatteryPumpSpeed"] = s["loop.pump_rpm"]
    v["TMS_BatteryPump.BatteryPumpDuty"] = 100 * s["loop.pump_duty"]
    v["TMS_BatteryPump.BatteryPumpCurrent"] = s["loop.pump_w"] / s["low.voltage"]
    v["TMS_BatteryPump.BatteryPumpPower"] = s["loop.pump_w"]
    v["TMS_BatteryPump.BatteryPumpTemperature"] = s["loop.pump_c"]
    v["TMS_BatteryPump.BatteryPumpState"] = np.where(running, 1.0, np.where(s["loop.pump_duty"] > 0.1, 2.0, 0.0))
    v["TMS_DriveLoop.DriveCoolantFlow"] = s["drive_loop.flow_l_min"]
    v["TMS_DriveLoop.DriveCoolantTemperature"] = s["drive_loop.coolant_c"]
    v["TMS_DriveLoop.DriveCoolantReturnTemperature"] = s["drive_loop.return_c"]
    v["TMS_DriveLoop.DrivePumpSpeed"] = s["drive_loop.pump_rpm"]
    v["TMS_DriveLoop.DriveCoolantLevel"] = s["drive_loop.level"] + who["level_error"] + c.slosh
    v["TMS_Radiator.FanSpeed"] = s["front.fan_rpm"]
    v["TMS_Radiator.FanDuty"] = 100 * s["front.fan_duty"]
    v["TMS_Radiator.FanCurrent"] = s["front.fan_current_a"]
    v["TMS_Radiator.GrilleShutter"] = 100 * s["front.shutter"]
    v["TMS_Radiator.RadiatorAirSpeed"] = s["front.air_m_s"]
    v["TMS_Radiator.BatteryRadiatorHeat"] = s["loop.radiator_nominal_w"]
    v["TMS_Refrigerant.CompressorSpeed"] = s["climate.compressor_rpm"]
    v["TMS_Refrigerant.CompressorPower"] = s["climate.compressor_w"]
    v["TMS_Refrigerant.HighPressure"] = s["climate.high_bar"]
    v["TMS_Refrigerant.LowPressure"] = s["climate.low_bar"]
    v["TMS_Refrigerant.EvaporatorTemperature"] = s["climate.evaporator_c"]
    v["TMS_Refrigerant.ChillerValve"] = 100 * s["loop.chiller_valve"]
    heating, chilling = s["loop.heater_w"] > 50, s["loop.chiller_w"] > 50
    v["TMS_State.ThermalMode"] = np.where(heating, 3.0, np.where(chilling, 2.0, running))
    v["TMS_State.RadiatorBypass"] = s["loop.heater_w"] / 40
    v["TMS_State.BatteryHeaterPower"] = s["loop.heater_w"]
    v["TMS_State.ChillerHeat"] = s["loop.chiller_w"]
    v["TMS_State.OutsideTemperature"] = s["world.ambient_c"] + who["outside_error_c"]
    v["TMS_State.CoolantWarning"] = np.where(s["loop.level"] < 35, 2.0, s["loop.level"] < 55)


def _power(c: Context, v: Sheet) -> None:
    s, who = c.state, c.who
    out_w, in_w = s["low.voltage"] * s["low.converter_a"], s["low.converter_input_w"]
    charging = s["charging.state"]
    v["DCDC_Status.ConverterOutputVoltage"] = s["low.voltage"] + who["low_voltage_error_v"]
    v["DCDC_Status.ConverterOutputCurrent"] = s["low.converter_a"]
    v["DCDC_Status.ConverterInputCurrent"] = in_w / s["battery.voltage"]
    v["DCDC_Status.ConverterTemperature"] = s["drive_loop.converter_c"]
    v["DCDC_Status.ConverterEfficiency"] = 100 * out_w / np.maximum(in_w, 1.0)
    v["DCDC_Status.ConverterState"] = s["low.converter_on"] * np.where(s["low.converter_a"] > 200, 2.0, 1.0)
    v["OBC_Status.ChargerState"] = np.where(charging == 4, 3.0, np.where((charging == 2) & (s["charging.kind"] == 1), 2.0, charging > 0))
    v["OBC_Status.PilotState"] = s["charging.pilot"]
    v["OBC_Status.PortLid"] = s["charging.lid"]
    v["OBC_Status.ChargerTemperature"] = s["drive_loop.charger_c"]
    v["OBC_Status.PortTemperature"] = s["charging.port_c"]


DRIVE_PARTS = (_vehicle_control, _motor, _steering, _battery, _cells, _cell_statistics, _chassis, _thermal, _power)
"""Together they write every other signal, at the state's instant. A multiplexed signal always has its value; the frame picks."""
