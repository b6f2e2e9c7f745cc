"""The signals of the body bus, from the model's state."""

from __future__ import annotations

import datetime

import numpy as np

from simulator.old.chassis import Tyres
from simulator.old.signals import Array, Context

__all__ = ["body_signals"]

PAD_NEW_MM = np.array([12.0, 12.0, 11.0, 11.0])
PAD_WORN_MM = 2.0
WEAR_MM_PER_J = 1.2e-8
SERVICE_KM, SERVICE_DAYS = 20_000.0, 365.0
LOW_PRESSURE = 0.8  # of the placard
WHEELS = ("FrontLeft", "FrontRight", "RearLeft", "RearRight")


def body_signals(c: Context) -> dict[str, Array]:
    """ "Message.Signal" -> (n,) physical values."""
    return _gateway(c) | _assistance(c) | _tyres(c) | _climate(c) | _body(c) | _low_voltage(c) | _navigation(c) | _instruments(c)


def _gateway(c: Context) -> dict[str, Array]:
    s, who = c.state, c.who
    vin = {f"GW_Vin.VinCharacter{place + 1:02d}": c.constant(ord(letter)) for place, letter in enumerate(who.vin)}
    return vin | {
        "GW_Vehicle.Speed": 3.6 * s["drive.speed"],
        "GW_Vehicle.IgnitionState": 2.0 + s["ready"],
        "GW_Vehicle.GearDisplayed": s["body.gear"],
        "GW_Vehicle.Odometer": who.odometer_km + s["drive.distance_m"] / 1000,
    }


def _assistance(c: Context) -> dict[str, Array]:
    s, n = c.state, c.noise
    speed, gap, lead = s["drive.speed"], s["world.gap_m"], s["world.lead"]
    return {
        "ADAS_Front.LeadDistance": np.clip(gap + n(0.05) * lead, 0, 200),
        "ADAS_Front.LeadRelativeSpeed": s["world.gap_rate"] * lead,
        "ADAS_Front.TimeGap": np.clip(gap / np.maximum(speed, 0.5), 0, 12),
        "ADAS_Front.CruiseState": s["body.cruise"],
        "ADAS_Front.CruiseSetSpeed": s["body.cruise_km_h"],
        "ADAS_Front.LeadDetected": lead,
        "ADAS_Lane.LaneOffset": np.clip(s["world.lane_m"], -1.8, 1.8),
        "ADAS_Lane.RoadCurvature": s["steering.curvature"],
        "ADAS_Lane.LaneQuality": np.clip(s["world.lane_quality"] + n(1.0), 0, 100),
        "ADAS_Lane.SpeedLimit": np.rint(s["world.limit_m_s"] * 3.6),
        "ADAS_Lane.RoadClass": s["world.kind"],
        "ADAS_Lane.LaneWarning": ((np.abs(s["world.lane_m"]) > 0.6) & (speed > 17)).astype(float),
    }


def _tyres(c: Context) -> dict[str, Array]:
    s, n, who = c.state, c.noise, c.who
    front, rear = s["tyres.front_c"], s["tyres.rear_c"]
    temperature = (front, front * 1.005, rear, rear * 0.995)
    placard = 250.0 + 10.0 * (who.occupants > 3)
    pressure = [Tyres.pressure_kpa(who.cold_pressure_kpa[k], temperature[k]) for k in range(4)]
    values: dict[str, Array] = {}
    for k, wheel in enumerate(WHEELS):
        values[f"TPMS_Pressure.TyrePressure{wheel}"] = pressure[k] + n(0.4)
        values[f"TPMS_Temperature.TyreTemperature{wheel}"] = temperature[k] + n(0.2)
    return values | {
        "TPMS_Pressure.TyreWarning": (np.min(pressure, axis=0) < LOW_PRESSURE * placard).astype(float),
        "TPMS_Temperature.PlacardPressure": c.constant(placard),
    }


def _climate(c: Context) -> dict[str, Array]:
    s, n, who = c.state, c.noise, c.who
    return {
        "CLIM_Cabin.CabinTemperature": s["climate.cabin_c"] + n(0.08),
        "CLIM_Cabin.CabinSetpoint": c.constant(who.setpoint_c),
        "CLIM_Cabin.CabinHumidity": np.clip(100 * s["climate.humidity"] + n(0.3), 0, 100),
        "CLIM_Cabin.SolarLoad": s["world.solar"],
        "CLIM_Cabin.CabinCo2": s["climate.co2_ppm"] + n(6.0),
        "CLIM_Cabin.AmbientTemperature": s["world.filtered_ambient_c"] + who.outside_error_c,
        "CLIM_Air.BlowerDuty": 100 * s["climate.blower"],
        "CLIM_Air.VentTemperature": s["climate.vent_c"] + n(0.15),
        "CLIM_Air.RecirculationFlap": 100 * s["climate.recirculation"],
        "CLIM_Air.BlendDoor": 100 * s["climate.blend"],
        "CLIM_Air.HeaterPower": s["climate.heater_w"],
        "CLIM_Air.AirFlow": s["climate.air_m3_h"],
        "CLIM_Air.ClimateMode": s["climate.mode"],
        "CLIM_Filter.FilterPressureDrop": s["climate.filter_drop_pa"] + n(0.6),
        "CLIM_Filter.FilterEfficiency": 100 * s["climate.filter_efficiency"],
        "CLIM_Filter.FilterAge": c.constant(round(who.filter_load * 500)),
        "CLIM_Filter.ParticlesOutside": s["world.particles"] + np.abs(n(0.5)),
        "CLIM_Filter.ParticlesCabin": s["climate.particles"] + np.abs(n(0.3)),
    }


def _body(c: Context) -> dict[str, Array]:
    s, n, who = c.state, c.noise, c.who
    turn, blink, belt = s["body.turn"], s["body.blink"], s["body.belt"]
    door, window = s["body.door"], s["body.window"]
    people = who.occupants
    return {
        "BCM_Lights.LowBeam": s["body.low_beam"],
        "BCM_Lights.HighBeam": s["body.high_beam"],
        "BCM_Lights.DaytimeLight": s["body.daytime"],
        "BCM_Lights.TurnLightLeft": blink * (turn == 1),
        "BCM_Lights.TurnLightRight": blink * (turn == 2),
        "BCM_Lights.BrakeLight": ((s["drive.friction_torque"] > 5) | (s["drive.acceleration"] < -1.3)).astype(float),  # UN Regulation 13-H
        "BCM_Lights.ReverseLight": (s["body.gear"] == 1).astype(float),
        "BCM_Lights.RearFogLight": (s["world.rain"] > 0.85).astype(float),
        "BCM_Lights.AmbientLight": np.clip(s["body.lux"], 0, 40_000),
        "BCM_Lights.InstrumentBrightness": np.clip(20 + 80 * (s["body.lux"] / 40_000) ** 0.4, 0, 100),
        "BCM_Doors.DoorFrontLeft": door,
        "BCM_Doors.DoorFrontRight": door * (people > 1),
        "BCM_Doors.DoorRearLeft": door * (people > 2),
        "BCM_Doors.DoorRearRight": door * (people > 3),
        "BCM_Doors.Tailgate": door * (people % 2 == 0),
        "BCM_Doors.Bonnet": 0 * door,
        "BCM_Doors.CentralLock": s["body.locked"],
        "BCM_Doors.WindowFrontLeft": window,
        "BCM_Doors.WindowFrontRight": window * 0.4,
        "BCM_Doors.WindowRearLeft": window * (people > 2),
        "BCM_Doors.WindowRearRight": window * (people > 3),
        "BCM_Wipers.WiperMode": s["body.wiper"],
        "BCM_Wipers.WiperCurrent": s["body.wiper_a"] + np.abs(n(0.05)) * (s["body.wiper"] > 0),
        "BCM_Wipers.RainIntensity": 100 * s["world.rain"],
        "BCM_Wipers.WasherLevel": s["body.washer_level"],
        "SRS_Occupants.DriverBelt": belt,
        "SRS_Occupants.PassengerBelt": belt * (people > 1),
        "SRS_Occupants.PassengerSeat": c.constant(float(people > 1)),
        "SRS_Occupants.RearSeats": c.constant(max(0, people - 2)),
        "SRS_Occupants.SeatHeaterLeft": s["body.seat_level"],
        "SRS_Occupants.SeatHeaterRight": s["body.seat_level"] * (people > 1),
        "SRS_Occupants.SeatTemperatureLeft": s["low.seat_c"],
        "BCM_Controls.TurnStalk": turn,
        "BCM_Controls.HandsOnWheel": s["body.hands"],
        "BCM_Controls.LightStalk": 1.0 + (s["world.rain"] > 0.5),
        "BCM_Controls.WheelTouchForce": np.clip(s["world.grip"] + n(0.2), 0, 25),
    }


def _low_voltage(c: Context) -> dict[str, Array]:
    s, n, who = c.state, c.noise, c.who
    return {
        "BCM_LowVoltage.LowVoltage": s["low.voltage"] + n(0.01),
        "BCM_LowVoltage.LowVoltageCurrent": s["low.current"] + n(0.05),
        "BCM_LowVoltage.LowVoltageCharge": 100 * s["low.charge"],
        "BCM_LowVoltage.LowVoltageHealth": c.constant(100 * who.low_voltage_health),
        "BCM_LowVoltage.LowVoltageResistance": s["low.resistance_m_ohm"],
        "BCM_LowVoltage.LowVoltageTemperature": s["low.battery_c"] + n(0.1),
        "BCM_Loads.LightingCurrent": s["lighting_a"] + n(0.05),
        "BCM_Loads.BlowerCurrent": s["blower_a"] + n(0.05),
        "BCM_Loads.InfotainmentCurrent": s["infotainment_a"] + n(0.1),
        "BCM_Loads.SeatHeaterCurrent": s["seat_a"],
        "BCM_Loads.SteeringCurrent": s["steering.assist_a"],
        "BCM_Loads.PumpCurrent": s["pump_a"] + n(0.05),
    }


def _navigation(c: Context) -> dict[str, Array]:
    s, n = c.state, c.noise
    speed = s["drive.speed"]
    now = [datetime.datetime.fromtimestamp(c.start_ns // 10**9 + int(t), datetime.UTC) for t in s["time_s"] + c.start_ns % 10**9 / 1e9]
    parts = {"Year": "year", "Month": "month", "Day": "day", "Hour": "hour", "Minute": "minute", "Second": "second"}
    clock = {f"GNSS_Time.{name}": np.array([getattr(moment, part) for moment in now], np.float64) for name, part in parts.items()}
    return clock | {
        "GNSS_Position.Latitude": s["world.latitude"] + n(4e-6),
        "GNSS_Position.Longitude": s["world.longitude"] + n(4e-6),
        "GNSS_Motion.Altitude": s["world.altitude_m"] + n(0.4),
        "GNSS_Motion.Heading": (s["world.heading_deg"] + n(0.1)) % 360,
        "GNSS_Motion.GroundSpeed": np.maximum(0.0, 3.6 * speed + n(0.06)),
        "GNSS_Motion.Satellites": np.clip(np.rint(s["world.satellites"]), 0, 30),
        "GNSS_Motion.HorizontalDilution": s["world.dilution"],
    }


def _instruments(c: Context) -> dict[str, Array]:
    s, who = c.state, c.who
    distance_km = s["drive.distance_m"] / 1000
    odometer = who.odometer_km + distance_km
    front, rear = s["brakes.work_front_j"] * WEAR_MM_PER_J, s["brakes.work_rear_j"] * WEAR_MM_PER_J
    pads = [who.pad_mm[k] - (front if k < 2 else rear) for k in range(4)]
    left = np.min([(pads[k] - PAD_WORN_MM) / (PAD_NEW_MM[k] - PAD_WORN_MM) for k in range(4)], axis=0)
    used_kwh = s["battery.discharged_kwh"] - s["battery.charged_kwh"]
    values = {f"BRK_PadWear.PadThickness{wheel}": pads[k] for k, wheel in enumerate(WHEELS)}
    return values | {
        "BRK_PadWear.PadRemaining": 100 * np.clip(left, 0, 1),
        "BRK_PadWear.BrakeFluidLevel": 60 + 35 * np.clip(left, 0, 1),  # the level falls as the pistons follow the pads
        "IC_Display.DisplayedSpeed": np.ceil(3.6 * s["drive.speed"] * 1.02),
        "IC_Display.DisplayedCharge": np.floor(100 * s["battery.charge"]),
        "IC_Display.DisplayedRange": s["battery.charge"] * 75 * who.state_of_health / 0.17,
        "IC_Display.DisplayedPower": np.clip(s["pack_w"] / 1600, -100, 100),
        "IC_Display.DisplayedConsumption": np.clip(
            np.where(distance_km > 0.2, used_kwh / np.maximum(distance_km, 0.2) * 100, 18.0), 0, 100
        ),
        "IC_Service.DistanceToService": SERVICE_KM - odometer % SERVICE_KM,
        "IC_Service.DaysToService": c.constant(round(SERVICE_DAYS - who.age_days % SERVICE_DAYS)),
        "IC_Service.DriveCycles": c.constant(round(who.odometer_km / 14)) + s["ready"],
        "IC_Service.OperatingHours": odometer / 38 + s["time_s"] / 3600,
    }
