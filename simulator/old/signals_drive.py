"""The signals of the drive bus, from the model's state."""

from __future__ import annotations

import numpy as np

from simulator.old.battery import OPEN_CIRCUIT_V
from simulator.old.parameters import CELLS, TEMPERATURE_SENSORS
from simulator.old.signals import Array, Context

__all__ = ["drive_signals"]

RPM = 60 / (2 * np.pi)
PACK_NEW_KWH = 75.0
READY_MIN_PER_KM = 1.6  # minutes of driving for each kilometre of the odometer


def drive_signals(c: Context) -> dict[str, Array]:
    """ "Message.Signal" -> (n,) physical values; a multiplexed signal has its value at every step, the frame picks."""
    return _vehicle_control(c) | _motor(c) | _battery(c) | _cells(c) | _chassis(c) | _thermal(c) | _power(c)


def _vehicle_control(c: Context) -> dict[str, Array]:
    s, n, who = c.state, c.noise, c.who
    speed, torque, motor_w = s["drive.speed"], s["drive.torque"], s["drive.electric_w"]
    braking = s["drive.friction_torque"] > 5
    regenerating = np.minimum(torque, 0.0)
    distance_km = s["drive.distance_m"] / 1000
    used_kwh = s["battery.discharged_kwh"] - s["battery.charged_kwh"]
    consumption = np.where(distance_km > 0.2, used_kwh / np.maximum(distance_km, 0.2) * 100, 18.0)
    wheel_n_m = -regenerating * c.car.gear_ratio
    left_kwh = s["battery.charge"] * PACK_NEW_KWH * who.state_of_health
    hard = np.abs(s["drive.acceleration"])
    return {
        "VCU_Powertrain.AcceleratorPedal": 100 * s["drive.pedal"],
        "VCU_Powertrain.TorqueRequest": s["drive.torque_request"],
        "VCU_Powertrain.BrakePedalPressed": braking.astype(float),
        "VCU_Powertrain.GearPosition": s["body.gear"],
        "VCU_Powertrain.DriveMode": c.constant(who.drive_mode),
        "VCU_Powertrain.PowertrainState": np.where(s["derating"] > 0, 4.0, np.where(speed > 0.1, 3.0, 1.0 + s["ready"])),
        "VCU_Powertrain.TorqueLimitCause": s["drive.limit_cause"],
        "VCU_Regeneration.RegenerationTorque": regenerating,
        "VCU_Regeneration.RegenerationPower": np.maximum(0.0, -motor_w / 1000),
        "VCU_Regeneration.RegenerationTorqueLimit": s["drive.regeneration_limit"],
        "VCU_Regeneration.BrakeBlending": 100 * wheel_n_m / np.maximum(wheel_n_m + s["drive.friction_torque"], 1.0),
        "VCU_Regeneration.RegenerationLevel": c.constant(who.regeneration_level),
        "VCU_Regeneration.OnePedalActive": ((regenerating < -1) & ~braking).astype(float),
        "VCU_Energy.DrivePower": motor_w * s["ready"] / 1000,
        "VCU_Energy.AuxiliaryPower": s["auxiliary_w"],
        "VCU_Energy.ClimatePower": s["climate_w"],
        "VCU_Energy.AverageConsumption": consumption,
        "VCU_Energy.RangeEstimate": left_kwh / np.maximum(0.5 * (consumption + 17.0), 8.0) * 100,
        "VCU_Trip.TripDistance": distance_km,
        "VCU_Trip.TripEnergy": s["battery.discharged_kwh"],
        "VCU_Trip.TripRegeneratedEnergy": s["battery.charged_kwh"],
        "VCU_Trip.TripTime": s["time_s"],
        "VCU_Status.PowerDerating": 100 * s["derating"],
        "VCU_Status.DeratingCause": s["derating_cause"],
        "VCU_Status.WarningLamp": np.where(s["derating"] > 0.5, 2.0, (s["derating"] > 0).astype(float)),
        "VCU_Status.EcoScore": np.clip(100 - 18 * hard - 0.8 * np.maximum(0.0, consumption - 14), 0, 100),
        "VCU_Status.ReadyTime": who.odometer_km % 10_000 * READY_MIN_PER_KM + s["time_s"] / 60,
        "BMS_Limits.DischargePowerLimit": s["battery.discharge_limit_w"] / 1000,
        "BMS_Limits.ChargePowerLimit": s["battery.charge_limit_w"] / 1000,
        "BMS_Limits.DischargeCurrentLimit": s["battery.discharge_limit_w"] / s["battery.voltage"],
        "BMS_Limits.ChargeCurrentLimit": s["battery.charge_limit_w"] / s["battery.voltage"],
        "EPB_Status.ParkBrakeState": s["body.parking"],
        "EPB_Status.ClampForceLeft": s["body.clamp_kn"],
        "EPB_Status.ClampForceRight": 0.98 * s["body.clamp_kn"],
        "EPB_Status.ActuatorCurrent": np.abs(s["body.actuator_a"] + n(0.02) * (s["body.actuator_a"] > 0)),
    }


def _motor(c: Context) -> dict[str, Array]:
    s, n = c.state, c.noise
    rad_s, torque, voltage = s["drive.motor_rad_s"], s["drive.torque"], s["battery.voltage"]
    loss, mechanical = s["drive.motor_loss_w"] + s["drive.inverter_loss_w"], s["drive.mechanical_w"]
    gain = np.where(mechanical >= 0, mechanical / np.maximum(mechanical + loss, 1.0), (mechanical + loss) / np.minimum(mechanical, -1.0))
    state = np.where(s["ready"] < 1, 1.0, np.where(torque > 1, 2.0, np.where(torque < -1, 3.0, 1.0)))
    back_emf = 0.5 * rad_s * 0.52 + 0.05 * np.abs(s["drive.current_q"])
    return {
        "MCU_Motor.MotorSpeed": rad_s * RPM + n(1.0) * (rad_s > 0),
        "MCU_Motor.MotorTorque": torque,
        "MCU_Motor.MotorDcCurrent": s["drive.electric_w"] * s["ready"] / voltage + n(0.15),
        "MCU_Motor.MotorState": state,
        "MCU_Phase.CurrentD": s["drive.current_d"] * s["ready"],
        "MCU_Phase.CurrentQ": s["drive.current_q"] * s["ready"],
        "MCU_Phase.ModulationIndex": np.clip(100 * back_emf / (voltage / np.sqrt(3)), 0, 100),
        "MCU_Phase.DcLinkVoltage": voltage - 0.004 * s["battery.current"] + n(0.15),
        "MCU_Phase.ElectricalFrequency": rad_s / (2 * np.pi) * c.car.motor_pole_pairs,
        "MCU_Temperatures.StatorTemperature": s["drive_loop.stator_c"] + n(0.15),
        "MCU_Temperatures.RotorTemperature": s["drive_loop.rotor_c"],
        "MCU_Temperatures.InverterTemperature": s["drive_loop.inverter_c"] + n(0.2),
        "MCU_Temperatures.GearOilTemperature": s["drive_loop.oil_c"] + n(0.15),
        "MCU_Temperatures.CapacitorTemperature": s["drive_loop.capacitor_c"] + n(0.15),
        "MCU_Losses.MotorLoss": s["drive.motor_loss_w"],
        "MCU_Losses.InverterLoss": s["drive.inverter_loss_w"],
        "MCU_Losses.DriveEfficiency": np.where(np.abs(mechanical) < 500, 0.0, 100 * np.clip(gain, 0, 1)),
        "MCU_Losses.MechanicalPower": mechanical / 1000,
        "EPS_Steering.SteeringAngle": s["steering.angle_deg"] + n(0.05),
        "EPS_Steering.SteeringRate": s["steering.rate_deg_s"],
        "EPS_Steering.DriverTorque": s["steering.hand_n_m"] + n(0.02),
        "EPS_Steering.AssistCurrent": s["steering.assist_a"],
        "EPS_Steering.SteeringTemperature": s["steering.motor_c"],
    }


def _battery(c: Context) -> dict[str, Array]:
    s, n, who = c.state, c.noise, c.who
    current, voltage, charge, health = s["battery.current"], s["battery.voltage"], s["battery.charge"], who.state_of_health
    battery_c = s["loop.battery_c"]
    throughput_a_h = who.odometer_km * 0.19 / 355 * 1000  # at 19 kWh/100 km and 355 V, of which a tenth was recuperated
    energy_kwh = who.odometer_km * 0.19
    discharged, charged = 1.1 * throughput_a_h + s["battery.discharged_a_h"], 1.16 * throughput_a_h + s["battery.charged_a_h"]
    warmth = s["battery.heat_w"] / 400
    return {
        "BMS_Pack.PackVoltage": voltage + n(0.08),
        "BMS_Pack.PackCurrent": current + n(0.1),
        "BMS_Pack.PackPower": current * voltage / 1000,
        "BMS_Pack.ContactorState": np.where(s["time_s"] < 1.0, 1.0, 2.0),
        "BMS_State.StateOfCharge": 100 * charge,
        "BMS_State.StateOfHealth": c.constant(100 * health) - 0.0002 * s["battery.discharged_a_h"],
        "BMS_State.BatteryState": np.where(s["time_s"] < 1.0, 1.0, 2.0),
        "BMS_State.ThermalState": np.digitize(battery_c, [10.0, 38.0, 50.0]).astype(float),
        "BMS_State.RemainingEnergy": charge * PACK_NEW_KWH * health,
        "BMS_State.BalancingActive": (np.abs(current) < 3).astype(float),
        "BMS_Thermal.CellTemperatureMean": battery_c + n(0.06),
        "BMS_Thermal.BatteryHeat": s["battery.heat_w"],
        "BMS_Thermal.CoolingRequest": 100 * np.clip((battery_c - 26) / 14, 0, 1),
        "BMS_Thermal.HeatingRequest": 100 * np.clip((8 - battery_c) / 6, 0, 1),
        "BMS_Insulation.InsulationResistance": who.insulation_kohm * (1 - 0.15 * s["world.rain"]) + n(6.0),
        "BMS_Insulation.InterlockState": np.where(s["time_s"] < 0.2, 0.0, 1.0),
        "BMS_Insulation.PrechargeState": np.where(s["time_s"] < 1.0, 1.0, 2.0),
        "BMS_Insulation.ContactorTemperature": battery_c + 3 + 1.5 * warmth + n(0.1),
        "BMS_Insulation.BusbarTemperature": battery_c + 1 + 2.0 * warmth + n(0.1),
        "BMS_Insulation.ContactorCycles": c.constant(round(who.odometer_km / 14)) + s["ready"],
        "BMS_Throughput.ChargeThroughput": charged,
        "BMS_Throughput.DischargeThroughput": discharged,
        "BMS_Throughput.EquivalentCycles": 0.5 * (charged + discharged) / c.car.capacity_a_h,
        "BMS_EnergyMeter.EnergyCharged": 1.16 * energy_kwh + s["battery.charged_kwh"],
        "BMS_EnergyMeter.EnergyDischarged": 1.1 * energy_kwh + s["battery.discharged_kwh"],
        "BMS_EnergyMeter.FastChargeCount": c.constant(round(who.odometer_km / 900)),
        "BMS_Resistance.PackResistance": 1000 * s["battery.resistance"],
        "BMS_Resistance.OpenCircuitVoltage": s["battery.open_circuit_v"],
        "BMS_Resistance.CapacityRemaining": charge * c.car.capacity_a_h * health,
        "BMS_Resistance.DepthOfDischarge": 100 * (1 - charge),
        "BMS_Resistance.PolarisationVoltage": s["battery.polarisation_v"],
    }


def _cells(c: Context) -> dict[str, Array]:
    """Each cell: its own charge and resistance around the pack's mean; each sensor: its own place between cold plate and tab."""
    s, who = c.state, c.who
    charge = np.clip(s["battery.charge"][:, None] + who.cell_charge, 0.0, 1.0)  # (n, 96)
    open_circuit = np.interp(charge, np.linspace(0, 1, len(OPEN_CIRCUIT_V)), OPEN_CIRCUIT_V)
    drop = (s["battery.open_circuit_v"] - s["battery.voltage"]) / CELLS
    voltage = open_circuit - drop[:, None] * who.cell_resistance + 0.0003 * c.cell_noise
    spread_c = 1.2 + s["battery.heat_w"] / 1000
    temperature = s["loop.battery_c"][:, None] + spread_c[:, None] * who.sensor_place_c + 0.05 * c.cell_noise[:, :TEMPERATURE_SENSORS]
    highest, lowest = voltage.max(axis=1), voltage.min(axis=1)
    resting = np.abs(s["battery.current"]) < 3
    cells = {f"BMS_CellVoltages.CellVoltage{number + 1:02d}": voltage[:, number] for number in range(CELLS)}
    sensors = {f"BMS_CellTemperatures.CellTemperature{k + 1:02d}": temperature[:, k] for k in range(TEMPERATURE_SENSORS)}
    return (
        cells
        | sensors
        | {
            "BMS_CellStatistics.CellVoltageMaximum": highest,
            "BMS_CellStatistics.CellVoltageMinimum": lowest,
            "BMS_CellStatistics.CellVoltageMaximumNumber": voltage.argmax(axis=1) + 1.0,
            "BMS_CellStatistics.CellVoltageMinimumNumber": voltage.argmin(axis=1) + 1.0,
            "BMS_CellStatistics.CellVoltageSpread": 1000 * (highest - lowest),
            "BMS_CellStatistics.BalancingCells": ((voltage > lowest[:, None] + 0.006).sum(axis=1) * resting).astype(float),
            "BMS_Thermal.CellTemperatureMaximum": temperature.max(axis=1),
            "BMS_Thermal.CellTemperatureMinimum": temperature.min(axis=1),
        }
    )


def _chassis(c: Context) -> dict[str, Array]:
    s, n, who = c.state, c.noise, c.who
    speed, yaw, friction = s["drive.speed"], np.radians(s["steering.yaw_deg_s"]), s["drive.friction_torque"]
    acceleration = s["drive.acceleration"]
    rolling = (speed > 0.05).astype(float)
    push = s["drive.torque"] * c.car.gear_ratio / c.car.wheel_radius_m
    load_rear = c.mass_kg * (0.52 * 9.81 + 0.19 * acceleration)
    load_front = c.mass_kg * (0.48 * 9.81 - 0.19 * acceleration)
    slip_rear = 100 * (push - 0.32 * friction / c.car.wheel_radius_m) / (load_rear * 14)  # slip stiffness of 14 times the load
    slip_front = -100 * 0.68 * friction / c.car.wheel_radius_m / (load_front * 14) * rolling
    half = 0.79  # half the track, m
    wheels = {}
    for number, (name, side, slip) in enumerate(
        (("FrontLeft", -1, slip_front), ("FrontRight", 1, slip_front), ("RearLeft", -1, slip_rear), ("RearRight", 1, slip_rear))
    ):
        value = (speed + side * half * yaw) * who.wheel_gain[number] * (1 + slip / 100 * rolling) * 3.6 + n(0.02) * rolling
        wheels[f"ESP_WheelSpeed.WheelSpeed{name}"] = np.maximum(0.0, value)
    gradient = s["world.gradient"]
    front_c, rear_c = s["brakes.front_c"], s["brakes.rear_c"]
    return wheels | {
        "ESP_Motion.VehicleSpeed": 3.6 * speed,
        "ESP_Motion.LongitudinalAcceleration": acceleration + 9.81 * gradient + n(0.03),
        "ESP_Motion.LateralAcceleration": s["steering.lateral_m_s2"] + n(0.03),
        "ESP_Motion.YawRate": s["steering.yaw_deg_s"] + n(0.06),
        "ESP_Brake.BrakePressure": friction / 42 + np.abs(n(0.05)),  # 42 N*m for each bar, all four wheels
        "ESP_Brake.BrakePedalTravel": np.clip(100 * (friction / 42 / 120) ** 0.6, 0, 100),
        "ESP_Brake.FrictionBrakeTorque": friction,
        "ESP_Brake.AbsActive": (slip_front < -9).astype(float),
        "ESP_Brake.TractionControlActive": (slip_rear > 6).astype(float),
        "ESP_Brake.HoldState": np.where(s["ready"] < 1, 0.0, np.where(speed < 0.05, 2.0, 1.0)),
        "ESP_DiscTemperature.DiscTemperatureFrontLeft": front_c,
        "ESP_DiscTemperature.DiscTemperatureFrontRight": front_c * 1.01,
        "ESP_DiscTemperature.DiscTemperatureRearLeft": rear_c,
        "ESP_DiscTemperature.DiscTemperatureRearRight": rear_c * 0.99,
        "ESP_Slip.SlipFront": slip_front,
        "ESP_Slip.SlipRear": slip_rear * rolling,
        "ESP_Slip.RoadGradient": 100 * gradient + n(0.05),
        "ESP_Slip.VehicleMass": c.mass_kg + n(6.0),
        "ESP_Slip.AxleLoadFront": load_front / 9.81,
    }


def _thermal(c: Context) -> dict[str, Array]:
    s, n, who = c.state, c.noise, c.who
    flow = s["loop.flow_l_min"]
    slosh = 0.5 * s["drive.acceleration"] + 20 * s["world.gradient"]
    pump_a = s["loop.pump_w"] / s["low.voltage"]
    level = s["loop.level"] + slosh + n(0.8)
    return {
        "TMS_BatteryLoop.BatteryCoolantFlow": flow * (who.flow_gain + n(0.005)),
        "TMS_BatteryLoop.BatteryCoolantInletTemperature": s["loop.coolant_c"] + who.inlet_error_c + n(0.08),
        "TMS_BatteryLoop.BatteryCoolantOutletTemperature": s["loop.outlet_c"] + who.outlet_error_c + n(0.08),
        "TMS_BatteryLoop.BatteryCoolantPressure": s["loop.pressure_kpa"] * (1 + n(0.012)),
        "TMS_BatteryLoop.BatteryCoolantLevel": level,
        "TMS_BatteryPump.BatteryPumpSpeed": s["loop.pump_rpm"] + n(3.0),
        "TMS_BatteryPump.BatteryPumpDuty": s["loop.pump_rpm"] / 60,
        "TMS_BatteryPump.BatteryPumpCurrent": pump_a + n(0.01),
        "TMS_BatteryPump.BatteryPumpPower": s["loop.pump_w"],
        "TMS_BatteryPump.BatteryPumpTemperature": s["loop.pump_c"] + n(0.1),
        "TMS_BatteryPump.BatteryPumpState": (s["loop.pump_rpm"] > 300).astype(float),
        "TMS_DriveLoop.DriveCoolantFlow": s["drive_loop.flow_l_min"] * (1 + n(0.006)),
        "TMS_DriveLoop.DriveCoolantTemperature": s["drive_loop.coolant_c"] + n(0.08),
        "TMS_DriveLoop.DriveCoolantReturnTemperature": s["drive_loop.return_c"] + n(0.08),
        "TMS_DriveLoop.DrivePumpSpeed": s["drive_loop.pump_rpm"] + n(3.0),
        "TMS_DriveLoop.DriveCoolantLevel": who.drive_coolant_level + slosh + n(0.8),
        "TMS_Radiator.FanSpeed": s["front.fan_rpm"] + n(4.0),
        "TMS_Radiator.FanDuty": 100 * s["front.fan_duty"],
        "TMS_Radiator.FanCurrent": s["front.fan_current_a"] + np.abs(n(0.03)),
        "TMS_Radiator.GrilleShutter": 100 * s["front.shutter"],
        "TMS_Radiator.RadiatorAirSpeed": s["front.air_m_s"],
        "TMS_Radiator.BatteryRadiatorHeat": s["loop.radiator_nominal_w"],
        "TMS_Refrigerant.CompressorSpeed": s["climate.compressor_rpm"],
        "TMS_Refrigerant.CompressorPower": s["climate.compressor_w"],
        "TMS_Refrigerant.HighPressure": s["climate.high_bar"] + n(0.03),
        "TMS_Refrigerant.LowPressure": s["climate.low_bar"] + n(0.01),
        "TMS_Refrigerant.EvaporatorTemperature": s["climate.evaporator_c"] + n(0.1),
        "TMS_Refrigerant.ChillerValve": 100 * s["loop.chiller_valve"],
        "TMS_State.ThermalMode": np.where(s["loop.heater_w"] > 50, 3.0, np.where(s["loop.chiller_w"] > 50, 2.0, 1.0)),
        "TMS_State.RadiatorBypass": 100 * np.clip(s["loop.heater_w"] / 4000, 0, 1),
        "TMS_State.BatteryHeaterPower": s["loop.heater_w"],
        "TMS_State.ChillerHeat": s["loop.chiller_w"],
        "TMS_State.OutsideTemperature": s["world.ambient_c"] + who.outside_error_c + n(0.08),
        "TMS_State.CoolantWarning": np.where(s["loop.level"] < 35, 2.0, (s["loop.level"] < 55).astype(float)),
    }


def _power(c: Context) -> dict[str, Array]:
    s, n = c.state, c.noise
    out_w = s["low.voltage"] * s["low.converter_a"]
    return {
        "DCDC_Status.ConverterOutputVoltage": s["low.voltage"] + n(0.01),
        "DCDC_Status.ConverterOutputCurrent": s["low.converter_a"] + n(0.2),
        "DCDC_Status.ConverterInputCurrent": s["low.converter_input_w"] / s["battery.voltage"],
        "DCDC_Status.ConverterTemperature": s["drive_loop.converter_c"] + n(0.1),
        "DCDC_Status.ConverterEfficiency": 100 * out_w / s["low.converter_input_w"],
        "DCDC_Status.ConverterState": np.where(s["low.converter_a"] > 200, 2.0, 1.0),
        "OBC_Status.ChargerState": np.where(s["ready"] > 0, 0.0, 1.0),
        "OBC_Status.PilotState": (s["time_s"] < 0.5).astype(float),
        "OBC_Status.PortLid": (s["time_s"] < 2.5).astype(float),
        "OBC_Status.ChargerTemperature": s["drive_loop.charger_c"] + n(0.1),
        "OBC_Status.PortTemperature": s["world.ambient_c"] + 0.004 * s["world.solar"] + n(0.1),
    }
