"""The signals of the body bus, from the model's state."""

from __future__ import annotations

import datetime

import numpy as np

from simulator.sheet import Context, Sheet
from simulator.signals_drive import PACK_NEW_KWH, measured_charge, network

__all__ = ["BODY_PARTS", "body_constants"]

PAD_NEW_MM = np.array([12.0, 12.0, 11.0, 11.0])
PAD_WORN_MM = 2.0
SERVICE_KM, SERVICE_DAYS = 20_000.0, 365.0
LOW_PRESSURE = 0.8  # of the placard
NOTHING_M = 400.0  # distance of an object that is not there
FREE_S = 50.0  # time to a collision that is not coming
FULL_POWER_W = 160e3


def body_constants(c: Context, v: Sheet) -> None:
    """What stays the same for the whole run."""
    who = c.who
    letters = np.array([[ord(letter) for letter in vin] for vin in who.vin], np.float64)  # (n, 17)
    v.values[v.rows("GW_Vin.VinCharacter", 17)] = letters.T
    v["NM_Body.SourceNode"] = 20.0


def _network(c: Context, v: Sheet) -> None:
    network(c, v, "NM_Body", "bus.body")


def _gateway(c: Context, v: Sheet) -> None:
    s = c.state
    v["GW_Vehicle.Speed"] = 3.6 * s["drive.speed"]
    v["GW_Vehicle.IgnitionState"] = s["key"]
    v["GW_Vehicle.GearDisplayed"] = s["body.gear"]
    v["GW_Vehicle.Odometer"] = s["drive.odometer_km"]
    v["GW_Motion.GatewayYawRate"] = s["steering.yaw_deg_s"]
    v["GW_Motion.GatewayLateralAcceleration"] = s["steering.lateral_m_s2"]
    v["GW_Motion.GatewayLongitudinalAcceleration"] = v["ESP_Motion.LongitudinalAcceleration"]
    v["GW_Motion.GatewaySteeringAngle"] = s["steering.angle_deg"]
    v["GW_Powertrain.GatewayPedal"] = 100 * s["drive.pedal"]
    v["GW_Powertrain.GatewayTorque"] = v["MCU_Motor.MotorTorque"]
    v["GW_Powertrain.GatewayPower"] = s["drive.electric_w"] / 1000
    v["GW_Powertrain.GatewayReady"] = s["ready"]
    v["GW_Powertrain.GatewayCharge"] = 100 * measured_charge(c)
    front, rear = ("FrontLeft", "FrontRight"), ("RearLeft", "RearRight")
    for axle, wheels in (("Front", front), ("Rear", rear)):
        left, right = (v[f"ESP_WheelSpeed.WheelSpeed{wheel}"] for wheel in wheels)
        v[f"GW_Chassis.GatewayWheelSpeed{axle}"] = (left + right) / 2
    v["GW_Chassis.GatewayBrakePressure"] = s["brakes.pressure_bar"]
    v["GW_Chassis.GatewayBrakePedal"] = s["drive.friction_torque"] > 5


def _assistance(c: Context, v: Sheet) -> None:
    s = c.state
    speed, gap, rate, lead = s["drive.speed"], s["world.gap_m"], s["world.gap_rate"], s["world.lead"]
    time_s, lane = s["time_s"], s["world.lane_m"]
    curvature = s["steering.curvature"]
    v["ADAS_Front.LeadDistance"] = gap
    v["ADAS_Front.LeadRelativeSpeed"] = rate * lead
    v["ADAS_Front.TimeGap"] = gap / np.maximum(speed, 0.5)
    v["ADAS_Front.CruiseState"] = s["body.cruise"]
    v["ADAS_Front.CruiseSetSpeed"] = s["body.cruise_km_h"]
    v["ADAS_Front.LeadDetected"] = lead
    v["ADAS_Lane.LaneOffset"] = np.clip(lane, -1.8, 1.8)
    v["ADAS_Lane.RoadCurvature"] = curvature
    v["ADAS_Lane.LaneQuality"] = s["world.lane_quality"]
    v["ADAS_Lane.SpeedLimit"] = np.rint(s["world.limit_m_s"] * 3.6)
    v["ADAS_Lane.RoadClass"] = s["world.kind"]
    v["ADAS_Lane.LaneWarning"] = (np.abs(lane) > 0.6) & (speed > 17)
    # The vehicle ahead; the one ahead of it; one in the next lane, which comes and goes.
    ahead = lead > 0
    beside = np.sin(time_s / 23 + s["world.longitude"] * 1e3)
    there = (beside > 0.2) & (s["world.kind"] > 0) & (s["ready"] > 0)
    v["ADAS_Objects.ObjectDistance1"] = np.where(ahead, gap, NOTHING_M)
    v["ADAS_Objects.ObjectDistance2"] = np.where(ahead, gap * 2 + 6, NOTHING_M)
    v["ADAS_Objects.ObjectDistance3"] = np.where(there, 20 + 60 * (1 - beside), NOTHING_M)
    v["ADAS_Objects.ObjectRelativeSpeed1"] = rate * lead
    v["ADAS_Objects.ObjectRelativeSpeed2"] = 0.8 * rate * lead
    v["ADAS_Objects.ObjectRelativeSpeed3"] = np.where(there, -60 / 23 * np.cos(time_s / 23 + s["world.longitude"] * 1e3), 0.0)
    v["ADAS_Objects.ObjectLateralOffset1"] = -lane + gap**2 * curvature / 2 * lead
    v["ADAS_Objects.ObjectLateralOffset2"] = -lane + (gap * 2 + 6) ** 2 * curvature / 2 * lead
    v["ADAS_Objects.ObjectLateralOffset3"] = np.where(there, 3.5 - lane, 0.0)
    v["ADAS_Path.PathCurvature"] = s["world.curvature"]
    v["ADAS_Path.PathOffset"] = lane
    v["ADAS_Path.PathSpeed"] = 3.6 * np.minimum(s["world.limit_m_s"], np.sqrt(3.0 / np.maximum(np.abs(s["world.curvature"]), 1e-4)))
    v["ADAS_Path.PathSteeringTorque"] = -1.2 * lane * (s["body.cruise"] == 2)
    closing = np.maximum(-rate, 0.0) * lead
    time_to = np.where(closing > 0.5, gap / np.maximum(closing, 0.5), FREE_S)
    urgent = (time_to < 1.5) & (speed > 2)
    v["ADAS_Brake.CollisionTime"] = time_to
    v["ADAS_Brake.BrakeRequest"] = np.where(urgent, 5.0 * (1.5 - time_to), 0.0)
    v["ADAS_Brake.BrakeAssistState"] = np.where(
        s["ready"] > 0, np.where(urgent, 3.0, np.where((time_to < 2.5) & (speed > 2), 2.0, 1.0)), 0.0
    )
    v["RAD_Corner.CornerDistanceLeft"] = 52 + 48 * np.sin(time_s / 31 + 1 + s["world.latitude"] * 1e3)
    v["RAD_Corner.CornerDistanceRight"] = 70 + 30 * np.sin(time_s / 47 + 2 + s["world.latitude"] * 1e3)
    v["RAD_Corner.BlindSpotLeft"] = v["RAD_Corner.CornerDistanceLeft"] < 12
    v["RAD_Corner.BlindSpotRight"] = v["RAD_Corner.CornerDistanceRight"] < 42
    v["SRS_Crash.ShockLongitudinal"] = s["drive.acceleration"]
    v["SRS_Crash.ShockLateral"] = s["steering.lateral_m_s2"]
    v["SRS_Crash.CrashSupplyVoltage"] = s["low.voltage"] - 0.1


def _tyres(c: Context, v: Sheet) -> None:
    s = c.state
    pressure, placard = s["tyres.pressure_kpa"].T, s["tyres.placard_kpa"]
    v.wheels("TPMS_Pressure.TyrePressure", pressure + c.who.pressure_error_kpa.T)
    v.wheels("TPMS_Temperature.TyreTemperature", s["tyres.temperature_c"].T)
    lowest = pressure.min(axis=0)
    v["TPMS_Pressure.TyreWarning"] = np.where(lowest < 0.5 * placard, 2.0, lowest < LOW_PRESSURE * placard)
    v["TPMS_Temperature.PlacardPressure"] = placard


def _climate(c: Context, v: Sheet) -> None:
    s, who = c.state, c.who
    v["CLIM_Cabin.CabinTemperature"] = s["climate.cabin_c"]
    v["CLIM_Cabin.CabinSetpoint"] = s["climate.setpoint_c"]
    v["CLIM_Cabin.CabinHumidity"] = 100 * s["climate.humidity"]
    v["CLIM_Cabin.SolarLoad"] = s["world.solar"]
    v["CLIM_Cabin.CabinCo2"] = s["climate.co2_ppm"]
    v["CLIM_Cabin.AmbientTemperature"] = s["world.filtered_ambient_c"] + who["outside_error_c"]
    v["CLIM_Air.BlowerDuty"] = 100 * s["climate.blower"]
    v["CLIM_Air.VentTemperature"] = s["climate.vent_c"]
    v["CLIM_Air.RecirculationFlap"] = 100 * s["climate.recirculation"]
    v["CLIM_Air.BlendDoor"] = 100 * s["climate.blend"]
    v["CLIM_Air.HeaterPower"] = s["climate.heater_w"]
    v["CLIM_Air.AirFlow"] = s["climate.air_m3_h"]
    v["CLIM_Air.ClimateMode"] = s["climate.mode"]
    v["CLIM_Filter.FilterPressureDrop"] = s["climate.filter_drop_pa"]
    v["CLIM_Filter.FilterEfficiency"] = 100 * s["climate.filter_efficiency"]
    v["CLIM_Filter.FilterAge"] = s["climate.filter_days"]
    v["CLIM_Filter.ParticlesOutside"] = s["world.particles"]
    v["CLIM_Filter.ParticlesCabin"] = s["climate.particles"]


def _lights_and_doors(c: Context, v: Sheet) -> None:
    s = c.state
    turn, lux = s["body.turn"], s["world.lux"]
    door, window, people = s["body.door"], s["body.window"], s["body.occupants"]
    v["BCM_Lights.LowBeam"] = s["body.low_beam"]
    v["BCM_Lights.HighBeam"] = s["body.high_beam"]
    v["BCM_Lights.DaytimeLight"] = s["body.daytime"]
    v["BCM_Lights.TurnLightLeft"] = s["body.blink"] * (turn == 1)
    v["BCM_Lights.TurnLightRight"] = s["body.blink"] * (turn == 2)
    v["BCM_Lights.BrakeLight"] = (s["drive.friction_torque"] > 5) | (s["drive.acceleration"] < -1.3)  # UN Regulation 13-H
    v["BCM_Lights.ReverseLight"] = s["body.gear"] == 1
    v["BCM_Lights.RearFogLight"] = (s["world.rain"] > 0.85) & (s["ready"] > 0)
    v["BCM_Lights.AmbientLight"] = np.minimum(lux, 40_000)
    v["BCM_Lights.InstrumentBrightness"] = 20 + 80 * (np.maximum(lux, 0) / 40_000) ** 0.4
    v["BCM_Doors.DoorFrontLeft"] = door
    v["BCM_Doors.DoorFrontRight"] = door * (people > 1)
    v["BCM_Doors.DoorRearLeft"] = door * (people > 2)
    v["BCM_Doors.DoorRearRight"] = door * (people > 3)
    v["BCM_Doors.Tailgate"] = door * (people % 2 == 0)
    v["BCM_Doors.CentralLock"] = s["body.locked"]
    v["BCM_Doors.WindowFrontLeft"] = window
    v["BCM_Doors.WindowFrontRight"] = window * 0.4
    v["BCM_Doors.WindowRearLeft"] = window * (people > 2)
    v["BCM_Doors.WindowRearRight"] = window * (people > 3)
    v["BCM_Wipers.WiperMode"] = s["body.wiper"]
    v["BCM_Wipers.WiperCurrent"] = s["body.wiper_a"]
    v["BCM_Wipers.RainIntensity"] = 100 * s["world.rain"]
    v["BCM_Wipers.WasherLevel"] = s["body.washer_level"]
    v["BCM_AccessEvent.KeyState"] = s["key"]
    v["BCM_AccessEvent.LockState"] = s["body.locked"]
    v["BCM_AccessEvent.DoorsOpen"] = door * (np.minimum(people, 4) + (people % 2 == 0))
    v["BCM_AccessEvent.ChargeFlap"] = s["charging.lid"]


def _occupants(c: Context, v: Sheet) -> None:
    s = c.state
    people, belt, seat = s["body.occupants"], s["body.belt"], s["body.seat_level"]
    inside = s["key"] > 0
    v["SRS_Occupants.DriverBelt"] = belt
    v["SRS_Occupants.PassengerBelt"] = belt * (people > 1)
    v["SRS_Occupants.PassengerSeat"] = inside & (people > 1)
    v["SRS_Occupants.RearSeats"] = np.maximum(0, people - 2) * inside
    v["SRS_Occupants.SeatHeaterLeft"] = seat
    v["SRS_Occupants.SeatHeaterRight"] = seat * (people > 1)
    v["SRS_Occupants.SeatTemperatureLeft"] = s["low.seat_c"]
    v["BCM_Controls.TurnStalk"] = s["body.turn"]
    v["BCM_Controls.HandsOnWheel"] = s["body.hands"]
    v["BCM_Controls.LightStalk"] = 1.0 + (s["world.rain"] > 0.5)
    v["BCM_Controls.WheelTouchForce"] = s["world.grip"]


def _low_voltage(c: Context, v: Sheet) -> None:
    s = c.state
    v["BCM_LowVoltage.LowVoltage"] = s["low.voltage"] + c.who["low_voltage_error_v"]
    v["BCM_LowVoltage.LowVoltageCurrent"] = s["low.current"]
    v["BCM_LowVoltage.LowVoltageCharge"] = 100 * s["low.charge"]
    v["BCM_LowVoltage.LowVoltageHealth"] = 100 * s["low.health"]
    v["BCM_LowVoltage.LowVoltageResistance"] = s["low.resistance_m_ohm"]
    v["BCM_LowVoltage.LowVoltageTemperature"] = s["low.battery_c"]
    v["BCM_Loads.LightingCurrent"] = s["lighting_a"]
    v["BCM_Loads.BlowerCurrent"] = s["blower_a"]
    v["BCM_Loads.InfotainmentCurrent"] = s["infotainment_a"]
    v["BCM_Loads.SeatHeaterCurrent"] = s["seat_a"]
    v["BCM_Loads.SteeringCurrent"] = s["steering.assist_a"]
    v["BCM_Loads.PumpCurrent"] = s["pump_a"]


def _navigation(c: Context, v: Sheet) -> None:
    """The satellites' clock is that of the frames' stamps; all vehicles of a run share it. It is sent as each second begins, so that at
    the second's end the last time heard is the one of its beginning."""
    s = c.state
    heard_ns = c.start_ns + round(float(s["time_s"][0]) * 1e9) - 10**9
    moment = datetime.datetime.fromtimestamp(heard_ns // 10**9, datetime.UTC)
    for name in ("Year", "Month", "Day", "Hour", "Minute", "Second"):
        v[f"GNSS_Time.{name}"] = float(getattr(moment, name.lower()))
    v["GNSS_Position.Latitude"] = s["world.latitude"]
    v["GNSS_Position.Longitude"] = s["world.longitude"]
    v["GNSS_Motion.Altitude"] = s["world.altitude_m"]
    v["GNSS_Motion.Heading"] = s["world.heading_deg"]
    v["GNSS_Motion.GroundSpeed"] = 3.6 * s["drive.speed"]
    v["GNSS_Motion.Satellites"] = np.rint(s["world.satellites"])
    v["GNSS_Motion.HorizontalDilution"] = s["world.dilution"]


def _instruments(c: Context, v: Sheet) -> None:
    s, who = c.state, c.who
    pads = s["brakes.pad_mm"].T
    left = ((pads - PAD_WORN_MM) / (PAD_NEW_MM - PAD_WORN_MM)[:, None]).min(axis=0)
    odometer, age_days = s["drive.odometer_km"], who.age_days + s["time_s"] / 86_400
    charge = measured_charge(c)
    v.wheels("BRK_PadWear.PadThickness", pads)
    v["BRK_PadWear.PadRemaining"] = 100 * np.maximum(left, 0.0)
    v["BRK_PadWear.BrakeFluidLevel"] = s["brakes.fluid_level"]
    v["IC_Display.DisplayedSpeed"] = np.ceil(3.6 * s["drive.speed"] * 1.02)
    v["IC_Display.DisplayedCharge"] = np.floor(100 * charge)
    v["IC_Display.DisplayedRange"] = charge * PACK_NEW_KWH * s["battery.health"] / 0.17
    v["IC_Display.DisplayedPower"] = 100 * s["pack_w"] / FULL_POWER_W
    v["IC_Display.DisplayedConsumption"] = np.maximum(v["VCU_Energy.AverageConsumption"], 0.0)
    v["IC_Service.DistanceToService"] = SERVICE_KM - odometer % SERVICE_KM
    v["IC_Service.DaysToService"] = np.rint(SERVICE_DAYS - age_days % SERVICE_DAYS)
    v["IC_Service.DriveCycles"] = s["body.trips"]
    v["IC_Service.OperatingHours"] = s["body.hours"]


BODY_PARTS = (
    _gateway,
    _assistance,
    _tyres,
    _climate,
    _lights_and_doors,
    _occupants,
    _low_voltage,
    _navigation,
    _instruments,
    _network,
)
"""Together they write every other signal, at the state's instant. The drive bus's signals must have been written."""
