"""The cars: every part of n vehicles, one step after another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulator.battery import CUT_OFF_V, Battery
from simulator.body import Body
from simulator.brakes import Brakes, drag_torque
from simulator.cast import Cast
from simulator.charging import Charging
from simulator.climate import Climate
from simulator.dice import Dice, Gusts
from simulator.driver import Driver
from simulator.electrics import LowVoltage
from simulator.errors import ScenarioError
from simulator.individual import Individuals
from simulator.journeys import Journeys, Phase
from simulator.moment import Moment
from simulator.parameters import CarParameters
from simulator.powertrain import Powertrain
from simulator.route import Road
from simulator.state import CELLS, WHEELS, Array, Mask, State
from simulator.steering import Steering
from simulator.surroundings import Surroundings
from simulator.thermal import BatteryLoop, DriveLoop, FrontEnd
from simulator.traffic import Traffic
from simulator.tyres import Tyres
from simulator.weather import Weather

__all__ = ["PHYSICAL_FAULTS", "PLACES_OF_FAULTS", "Cars"]

PHYSICAL_FAULTS = (
    "coolant_leak",
    "coolant_pump_degraded",
    "radiator_fan_degraded",
    "cell_imbalance",
    "battery_resistance_high",
    "insulation_low",
    "battery_ageing",
    "brake_drag",
    "brake_pad_worn",
    "tyre_pressure_low",
    "cabin_filter_clogged",
    "low_voltage_battery_weak",
    "motor_bearing_worn",
)
PLACES_OF_FAULTS = {"cell_imbalance": CELLS, "brake_drag": WHEELS, "brake_pad_worn": WHEELS, "tyre_pressure_low": WHEELS}

LIMP = 0.8  # share of power that protection withholds
OHM_PER_V = 100.0  # ISO 6469-3: least insulation of a DC system
EMPTY = 0.08  # state of charge from which power is withheld
RED = 0.5  # derating that lights the red lamp
FAILED = 1.95  # severity from which the part is taken for failed
HEAT_OF_PUMP_STOP = 0.35  # share of the nominal flow under which the loop is taken for failed
LOW_LEVEL = 20.0
STANDS_M_S = 0.1
SEIZED_N_M = 1500.0  # at the wheels, of a seized bearing's rotor: some 2 m/s²


class Cars:
    """n vehicles of a cast. `step` moves all by the same time, `advance` each by its own.

    state     what they are like now (`simulator.state`); updated in place
    who       what is particular to each (`simulator.individual`)
    severity  code -> (n,) float64, one for each of PHYSICAL_FAULTS: set it before a step; 0 healthy, 1 developed, 2 failed
    place     code -> (n,) float64: which wheel (0..3) or cell group (0..95) has the fault; drawn by vehicle unless given

    A vehicle's course depends on the cast's seed, its number, what is fixed and its severities; not on the others.
    """

    def __init__(self, cast: Cast, place: dict[str, Array] | None = None) -> None:
        self.cast = cast
        n = len(cast.vehicles)
        self.car = CarParameters()
        dice = Dice(cast.seed, cast.vehicles)
        self.who = who = Individuals(cast, dice)
        self.state = state = State(n)
        if cast.later_s:
            state["time_s"][:] = cast.later_s
        self.severity: dict[str, Array] = {code: np.zeros(n) for code in PHYSICAL_FAULTS}
        self.place = {code: np.floor(dice.uniform(f"place {code}", 0, most)) for code, most in PLACES_OF_FAULTS.items()}
        self.place["brake_drag"] = np.floor(self.place["brake_drag"] / 2)  # a front brake, where nobody says otherwise
        for code, given in (place or {}).items():
            if code not in PLACES_OF_FAULTS or (given < 0).any() or (given >= PLACES_OF_FAULTS[code]).any():
                raise ScenarioError(f"place of {code}: expected 0 to {PLACES_OF_FAULTS.get(code, 1) - 1}, found {given}")
            self.place[code] = np.broadcast_to(np.asarray(given, np.float64), (n,)).copy()
        self.gusts = Gusts(dice, "gusts", 8)
        self.weather = Weather(cast, dice, who, state)
        self.road = Road(dice, who)
        self.driver = Driver(who, self.road)
        self.traffic = Traffic(who, self.road, state)
        warm = who["battery_above_ambient_c"] * (1.0 if cast.plan == "drive" else 0.3)
        self.loop = BatteryLoop(self.car, who, state, warm)
        lived_c = 0.7 * self.weather.place["mean_c"] + 6.0  # a battery lives above the air, the more in winter
        self.battery = Battery(self.car, who, state, self.place["cell_imbalance"], lived_c)
        self.drive_loop = DriveLoop(who, state, np.full(n, 14.0 if cast.plan == "drive" else 1.0))
        self.front = FrontEnd(state)
        self.journeys = Journeys(cast, dice, who, self.road, self.driver, state, self.weather.zone_s)
        self.climate = Climate(who, state)
        self.tyres = Tyres(who, state, self.place["tyre_pressure_low"])
        self.brakes = Brakes(self.car, who, state, self.place["brake_pad_worn"], self.place["brake_drag"])
        self.powertrain = Powertrain(self.car, who, state)
        self.surroundings = Surroundings(self.road, state)
        self.steering = Steering(self.car, state)
        self.body = Body(who, state)
        self.low = LowVoltage(who, state)
        self.charging = Charging(self.car, dice, who, state)
        self.powertrain.fit(self.weather.winter(), np.arange(n))
        self._settle()

    def _settle(self) -> None:
        """So that the first state is consistent."""
        still = Moment(0.0)
        self.body.phases(self.journeys)
        self.powertrain.load()
        self._electrical(still)
        self._thermal(still)
        self._protect()
        self.low.forget()

    def step(self, dt_s: float = 1.0) -> None:
        """Move every vehicle by dt_s. More than 1 s only while none drives. Raises ScenarioError."""
        self.journeys.decide()
        if dt_s != 1.0 and self.journeys.used().any():
            raise ScenarioError(f"step: expected 1 s while a vehicle is used, found {dt_s} s")
        self._step(float(dt_s))

    def advance(self) -> NDArray[np.float64]:
        """Move each vehicle by its own step: 1 s while it is used, 60 s while it charges, to its next event (an hour at most) while it
        sleeps. Returns the steps (n,) s. Their times then differ: `state["time_s"]`."""
        self.journeys.decide()
        steps = self.journeys.own_steps()
        self._step(1.0 if (steps == 1.0).all() else steps)
        return steps

    def _step(self, dt_s: float | Array) -> None:
        m = Moment(dt_s)
        s = self.state
        gusts = self.gusts.at(s["time_s"])
        s["time_s"][:] += dt_s
        self.journeys.phase_s += dt_s
        self.body.phases(self.journeys)
        if len(self.journeys.new_day):
            self.powertrain.fit(self.weather.winter(), self.journeys.new_day)
        self.weather.step(m, gusts)
        moving = s["ready"] > 0
        speed = s["drive.speed"]
        follow = self.traffic.step(m, speed, moving, gusts[6])
        demand = self.driver.step(speed, follow, self.traffic.wave, moving)
        bearing = self.severity["motor_bearing_worn"]
        seized = bearing >= FAILED
        drag = drag_torque(self.severity["brake_drag"]) + SEIZED_N_M * seized
        self.powertrain.step(demand, m, moving, drag, bearing, seized)
        moved = self.powertrain.moved_m
        self.road.advance(moved)
        self.traffic.move(m, moved)
        self.surroundings.step(m, moved, gusts)
        self.steering.step(self.surroundings.weave, m, moving)
        self.brakes.step(self.severity["brake_pad_worn"], self.severity["brake_drag"], m)
        self.tyres.step(self.severity["tyre_pressure_low"], moved, m)
        self.body.step(m, self.road, demand)
        self._electrical(m)
        self._thermal(m)
        self._protect()

    def _electrical(self, m: Moment) -> None:
        s = self.state
        self.low.step(self.severity["low_voltage_battery_weak"], m)
        if self.low.dead.any():
            self.journeys.strand(np.flatnonzero(self.low.dead))
        load = s["auxiliary_w"] + s["climate_w"] + s["loop.heater_w"]
        np.multiply(s["drive.electric_w"], s["ready"], out=s["drive.electric_w"])
        into = self.charging.step(load, m)
        np.subtract(s["drive.electric_w"] + load, into, out=s["pack_w"])
        self.battery.ageing.step(self.severity["battery_ageing"], self.severity["battery_resistance_high"])
        self.battery.cells.weaken(self.severity["cell_imbalance"])
        self.battery.step(s["pack_w"], m, self.severity["insulation_low"])

    def _thermal(self, m: Moment) -> None:
        s = self.state
        used = s["mode"] > 0
        awake = used.astype(np.float64)
        hot = np.maximum((s["loop.battery_c"] - 30) * (1 / 14), (s["drive_loop.coolant_c"] - 45) * 0.05)
        need = np.minimum(1.0, np.maximum(np.maximum(hot, s["climate.compressor_rpm"] * (1 / 9000)), 0.0))
        self.front.step(need, awake, self.severity["radiator_fan_degraded"], m)
        leak, wear = self.severity["coolant_leak"], self.severity["coolant_pump_degraded"]
        self.loop.step(s["battery.heat_w"], s["pack_w"], awake, leak, wear, m)
        bearing = self.severity["motor_bearing_worn"]
        rubbing = 400 / 1047 * bearing * s["drive.motor_rad_s"] * 0.3
        gear = np.abs(s["drive.mechanical_w"]) * (1 - self.car.gear_efficiency) + 0.25 * s["drive.motor_rad_s"]
        self.drive_loop.step(gear, s["low.converter_loss_w"], self.charging.loss_w, rubbing, awake, m)
        wanted = ((s["key"] >= 2) * self.who["climate_on"]).astype(np.float64)
        self.climate.step(wanted, m, self.severity["cabin_filter_clogged"])

    def _strand(self, stuck: Mask, leaking: Mask) -> None:
        """Who is stuck comes to rest and is towed; nor does he drive off again. With too little insulation the contactors stay open at
        the next start, but nobody is stopped on a motorway for it."""
        journeys = self.journeys
        journeys.stands_empty = self.battery.empty
        journeys.refused = stuck | leaking
        if stuck.any():
            stands = np.flatnonzero(stuck & (journeys.phase == Phase.DRIVING) & (self.state["drive.speed"] < STANDS_M_S))
            if len(stands):
                journeys.tow(stands, self.battery.empty[stands])

    def _protect(self) -> None:
        """Power is withheld where something is too hot, empty or failed."""
        s = self.state
        used = s["mode"] > 0
        battery, motor = (s["loop.battery_c"] - 50) * 0.125, (s["drive_loop.stator_c"] - 140) * 0.05
        inverter, empty = (s["drive_loop.inverter_c"] - 90) * 0.05, (EMPTY - s["battery.charge"]) * (1 / EMPTY)
        starved = (self.loop.nominal_l_min > 3) & (s["loop.flow_l_min"] < HEAT_OF_PUMP_STOP * self.loop.nominal_l_min)
        failed = starved | (s["loop.level"] < LOW_LEVEL) | (self.severity["coolant_pump_degraded"] >= FAILED)
        leaking = s["battery.insulation_kohm"] * 1000 < OHM_PER_V * s["battery.voltage"]
        failed |= leaking
        self.charging.refused = failed & used
        weak = self.severity["cell_imbalance"]
        if weak.any():
            failed |= (weak >= FAILED) | self.battery.empty | ((weak > 0.5) & (self.battery.weakest_v() < CUT_OFF_V))
        seized = self.severity["motor_bearing_worn"] >= FAILED
        failed |= seized
        np.logical_and(failed, used, out=failed)
        self._strand(self.battery.empty | seized, leaking)
        np.copyto(s["protection"], failed)
        worst = np.maximum(np.maximum(battery, motor), np.maximum(inverter, empty))
        withheld = np.minimum(1.0, np.maximum(0.0, worst))
        cause = np.where(worst == battery, 1.0, np.where(worst == motor, 2.0, np.where(worst == inverter, 3.0, 4.0)))
        np.copyto(s["derating"], np.maximum(withheld, LIMP * s["protection"]))
        s["derating_cause"][:] = np.where(s["protection"] > 0, 5.0, np.where(withheld > 0, cause, 0.0))
        derating = s["derating"]
        amber = (derating > 0) | (s["low.health"] < 0.3)
        s["warning"][:] = np.where((derating > RED) | (s["protection"] > 0), 2.0, 1.0 * amber) * used
