"""The whole car: one step after the other, and a row of what it was like at each."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from simulator.old.battery import Battery
from simulator.old.body import READY_S, Body
from simulator.old.chassis import Brakes, Steering, Tyres
from simulator.old.climate import Climate
from simulator.old.electrics import LowVoltage
from simulator.faults import CoolantLeak
from simulator.old.parameters import CarParameters, Individual, Surroundings
from simulator.old.powertrain import Powertrain
from simulator.old.route import Driver, Road
from simulator.old.thermal import BatteryLoop, DriveLoop, FrontEnd
from simulator.old.world import World

__all__ = ["COLUMNS", "STEPS_PER_S", "State", "Vehicle"]

STEPS_PER_S = 10
STEP_S = 1 / STEPS_PER_S

State = Mapping[str, NDArray[np.float64]]  # by column: (n,) one value for each step

# What a step records: attributes of the vehicle's parts.
COLUMNS = """
time_s ready derating derating_cause auxiliary_w climate_w pack_w lighting_a blower_a infotainment_a seat_a pump_a drive.speed
drive.acceleration drive.distance_m drive.torque drive.torque_request drive.friction_torque drive.regeneration_limit
drive.motor_rad_s drive.current_q drive.current_d drive.motor_loss_w drive.inverter_loss_w drive.mechanical_w drive.electric_w
drive.pedal drive.limit_cause battery.charge battery.current battery.voltage battery.polarisation_v battery.heat_w
battery.resistance battery.open_circuit_v battery.charged_a_h battery.discharged_a_h battery.charged_kwh battery.discharged_kwh
battery.discharge_limit_w battery.charge_limit_w loop.battery_c loop.coolant_c loop.outlet_c loop.pump_rpm loop.flow_l_min
loop.pressure_kpa loop.pump_w loop.pump_c loop.level loop.chiller_valve loop.chiller_w loop.heater_w loop.radiator_w
loop.radiator_nominal_w loop.severity drive_loop.coolant_c drive_loop.return_c drive_loop.stator_c drive_loop.rotor_c
drive_loop.oil_c drive_loop.inverter_c drive_loop.capacitor_c drive_loop.converter_c drive_loop.charger_c drive_loop.pump_rpm
drive_loop.flow_l_min front.fan_duty front.fan_rpm front.fan_current_a front.shutter front.air_m_s climate.cabin_c
climate.humidity climate.co2_ppm climate.heater_w climate.compressor_w climate.compressor_rpm climate.blower climate.recirculation
climate.blend climate.vent_c climate.evaporator_c climate.high_bar climate.low_bar climate.air_m3_h climate.particles climate.mode
climate.filter_efficiency climate.filter_drop_pa steering.curvature steering.angle_deg steering.rate_deg_s steering.hand_n_m
steering.assist_a steering.lateral_m_s2 steering.yaw_deg_s steering.motor_c brakes.front_c brakes.rear_c brakes.work_front_j
brakes.work_rear_j tyres.front_c tyres.rear_c low.charge low.battery_c low.voltage low.current low.load_a low.converter_a
low.converter_input_w low.converter_loss_w low.seat_c low.resistance_m_ohm world.ambient_c world.filtered_ambient_c world.solar
world.rain world.particles world.lane_m world.gap_m world.gap_rate world.lead world.lane_quality world.satellites world.dilution
world.kind world.limit_m_s world.gradient world.curvature world.latitude world.longitude world.altitude_m world.heading_deg
world.grip body.door body.belt body.locked body.gear body.turn body.blink body.wiper body.wiper_a body.low_beam body.high_beam
body.daytime body.parking body.clamp_kn body.actuator_a body.window body.cruise body.cruise_km_h body.lux body.seat_level
body.hands body.washer_level
""".split()  # noqa: SIM905 -- a list of 170 quoted lines says less


class Vehicle:
    """One car on one drive. `step` moves it by a tenth of a second; `row` is its state, in the order of COLUMNS."""

    def __init__(self, rng: np.random.Generator, leak: CoolantLeak | None = None) -> None:
        car = CarParameters()
        self.who, around = Individual.draw(rng), Surroundings.draw(rng)
        self.mass_kg = car.mass_kg + 78 * self.who.occupants
        self.road, self.driver = Road(rng), Driver(rng)
        self.world = World(around, rng, self.driver.time_gap_s)
        ambient = around.ambient_c
        density = 101_325 / (287.05 * (ambient + 273.15))  # ideal gas
        self.drive = Powertrain(car, self.mass_kg, density, self.who.regeneration_level)
        self.battery = Battery(car, self.who.state_of_charge, self.who.state_of_health)
        self.loop = BatteryLoop(car, ambient + around.battery_above_ambient_c, ambient, self.who.coolant_level, leak)
        self.drive_loop, self.front = DriveLoop(ambient), FrontEnd()
        self.climate = Climate(ambient, around.humidity, self.who.setpoint_c, around.solar_w_m2, self.who.filter_load)
        self.steering, self.brakes, self.tyres = Steering(car), Brakes(ambient), Tyres(ambient)
        self.low = LowVoltage(ambient, 0.93, self.who.low_voltage_health)
        self.body = Body(self.who)
        self.car = car
        self.time_s = 0.0
        self.steps = 0
        self.ready = 0
        self.derating, self.derating_cause = 0.0, 0
        self.auxiliary_w = self.climate_w = self.pack_w = 0.0
        self.lighting_a = self.blower_a = self.infotainment_a = self.seat_a = self.pump_a = 0.0
        self.row = attrgetter(*COLUMNS)
        for part in (self._thermal, self._electrical):  # so that the first row is consistent
            part(0.0)

    def record(self, steps: int) -> NDArray[np.float64]:
        """Take `steps` steps. Returns (steps, len(COLUMNS)) float64."""
        rows = np.empty((steps, len(COLUMNS)))
        for number in range(steps):
            self.step()
            rows[number] = self.row(self)
        return rows

    def step(self) -> None:
        dt = STEP_S
        self.steps += 1
        self.time_s = self.steps / STEPS_PER_S
        self.ready = int(self.time_s >= READY_S)
        drive, world = self.drive, self.world
        demand = self.driver.step(self.road, drive.speed, dt) if self.ready else -1.0
        before = drive.distance_m
        drive.step(demand, world.gradient, dt, self.battery.discharge_limit_w, self.battery.charge_limit_w, self.derating)
        moved = drive.distance_m - before
        world.step(drive.speed, self.steering.yaw_deg_s, moved, self.road.ahead[0], dt)
        self.road.advance(moved)
        self.body.step(self.time_s, drive.speed, demand, self.road, world, self.climate.cabin_c, dt)
        ambient = world.ambient_c
        self.steering.step(world.curvature, world.weave, drive.speed, ambient, dt)
        wheel = drive.speed / self.car.wheel_radius_m
        self.brakes.step(drive.friction_torque, wheel, drive.speed, ambient, dt)
        rolling_w = self.mass_kg * 9.81 * self.car.rolling_resistance * drive.speed
        self.tyres.step(rolling_w, self.steering.lateral_m_s2, drive.speed, ambient, dt)
        self._electrical(dt)
        self._thermal(dt)

    def _electrical(self, dt: float) -> None:
        body, front, world = self.body, self.front, self.world
        self.lighting_a = (
            1.2
            + 5.5 * body.low_beam
            + 6.0 * body.high_beam
            + 1.4 * body.daytime
            + 2.8 * body.blink
            + 1.5 * (self.drive.friction_torque > 5)
        )
        self.blower_a = 0.8 + 19.0 * self.climate.blower**2.2
        self.infotainment_a = 6.5 + 1.5 * (body.lux / 60_000) + 0.8 * self.ready
        self.seat_a = 1.6 * body.seat_level
        self.pump_a = (self.loop.pump_w + 5.0 + 14.0 * (self.drive_loop.pump_rpm / 3500) ** 3) / self.low.voltage + front.fan_current_a
        units_a = 17.0 + 4.0 * self.ready
        load = units_a + self.lighting_a + self.blower_a + self.infotainment_a + self.seat_a + self.pump_a + body.wiper_a
        load += self.steering.assist_a + 2 * body.actuator_a
        self.low.step(load, world.ambient_c, 12 * self.seat_a, self.climate.cabin_c, dt)
        self.auxiliary_w = self.low.converter_input_w
        self.climate_w = self.climate.power_w
        self.pack_w = self.drive.electric_w * self.ready + self.auxiliary_w + self.climate_w + self.loop.heater_w
        self.battery.step(self.pack_w, self.loop.battery_c, dt)

    def _thermal(self, dt: float) -> None:
        world, drive, loop = self.world, self.drive, self.loop
        need = max((loop.battery_c - 30) / 14, (self.drive_loop.coolant_c - 45) / 20, self.climate.compressor_rpm / 9000, 0.0)
        self.front.step(drive.speed, min(1.0, need), dt)
        loop.step(self.time_s, self.battery.heat_w, self.pack_w, world.ambient_c, self.front.air_m_s, dt)
        gear_w = abs(drive.mechanical_w) * (1 - self.car.gear_efficiency) + 0.25 * drive.motor_rad_s
        converter_w = self.low.converter_loss_w
        self.drive_loop.step(drive.motor_loss_w, drive.inverter_loss_w, gear_w, converter_w, world.ambient_c, self.front.air_m_s, dt)
        people = self.who.occupants
        self.climate.step(world.ambient_c, world.solar, world.humidity, people, world.particles, drive.speed, loop.chiller_w, dt)
        hot_battery, hot_motor = (loop.battery_c - 52) / 8, (self.drive_loop.stator_c - 140) / 20
        hot_inverter, empty = (self.drive_loop.inverter_c - 90) / 20, (0.08 - self.battery.charge) / 0.08
        worst = max(hot_battery, hot_motor, hot_inverter, empty)
        self.derating = min(1.0, max(0.0, worst))
        self.derating_cause = 0 if worst <= 0 else 1 + (hot_battery, hot_motor, hot_inverter, empty).index(worst)
