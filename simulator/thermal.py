"""Thermal management: radiators and fan, the battery's coolant loop, the drive's coolant loop."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulator.individual import Individuals
from simulator.moment import Moment, relax
from simulator.parameters import CarParameters
from simulator.state import Array, State

__all__ = ["BatteryLoop", "DriveLoop", "FrontEnd", "coolant_capacity_flow"]

GLYCOL_J_L_K = 3620.0  # density x specific heat of 50 % ethylene glycol at 30 °C (ASHRAE Fundamentals 2017, chapter 31)
STILL_PLATE_W_K = 8.0  # battery to coolant that stands
STILL_RADIATOR_W_K = 3.0
STARVED_SHARE = 0.2  # of the reference flow, below which chiller and heater have too little coolant to give or take their heat
PACK_LOSS_W_K = 2.5  # battery to the air around the car, at rest
LEAK_FLOW, LEAK_RISE_C, LEAK_LEVEL = 0.03, 1.2, 9.0  # at severity 1
PUMP_WEAR, PUMP_DRAW = 0.15, 0.20  # less flow, more power, at severity 1
FAN_SLOW, FAN_DRAW = 0.15, 0.25


def coolant_capacity_flow(flow_l_min: Array) -> Array:
    """Heat that a coolant flow carries per degree, W/K."""
    return flow_l_min * (GLYCOL_J_L_K / 60)


class FrontEnd:
    """Fan, active grille shutter and the air that they let through the radiators.

    The shutter closes as speed rises, so that the radiators get what they need and the car has less drag. Fan law: power rises with the
    cube of the speed (Gülich, "Centrifugal Pumps", chapter 3).
    """

    def __init__(self, state: State) -> None:
        self.state = state
        state["front.shutter"][:] = 0.6
        state["front.air_m_s"][:] = 1.0

    def step(self, need: Array, awake: Array, wear: Array, m: Moment) -> None:
        """need: cooling wanted, 0..1. awake: (n,) 0 or 1. wear: severity of `radiator_fan_degraded`."""
        s = self.state
        speed = s["drive.speed"]
        duty = np.minimum(0.95, np.maximum(0.12, 0.12 + 0.75 * need - 0.006 * speed)) * awake
        relax(s["front.fan_duty"], duty, m.keep(3.0))
        slow = np.maximum(0.0, 1 - FAN_SLOW * wear - (1 - 2 * FAN_SLOW) * np.maximum(0.0, wear - 1))
        relax(s["front.fan_rpm"], 2800 * s["front.fan_duty"] * slow, m.keep(1.2))
        relax(s["front.shutter"], np.minimum(1.0, np.maximum(0.1, 0.75 + 0.4 * need - 0.016 * speed)), m.keep(4.0))
        rpm = s["front.fan_rpm"]
        np.add(0.0028 * rpm + 0.8, 0.20 * speed * s["front.shutter"], out=s["front.air_m_s"])
        share = s["front.fan_duty"] * (2800 / 2800)
        np.multiply((0.6 + 32.0 * share**3) * (1 + FAN_DRAW * wear), s["front.fan_duty"] > 0.02, out=s["front.fan_current_a"])


class BatteryLoop:
    """Battery, cold plate, pump, radiator with air, chiller and heater: two lumped temperatures.

    Pump: affinity laws, flow proportional to speed and power to its cube (Gülich, "Centrifugal Pumps", chapter 3); air in it lowers flow
    and head (the same, chapter 13). Heat transfer: as flow^0.8 in the coolant (Dittus and Boelter 1930) and as air speed^0.45 in the
    radiator (Kays and London, "Compact Heat Exchangers"). The coolant's temperature follows its exact solution over the step and the
    battery gets the mean of it, so that heat is kept.
    """

    def __init__(self, car: CarParameters, who: Individuals, state: State, above_c: Array) -> None:
        """above_c: of the battery over the air at the start."""
        self.car, self.who, self.state = car, who, state
        n = who.vehicles
        ambient = state["world.ambient_c"]
        np.add(ambient, above_c, out=state["loop.battery_c"])
        warm = car.cold_plate_w_k / (car.cold_plate_w_k + car.radiator_w_k)
        np.add(ambient, above_c * warm, out=state["loop.coolant_c"])
        state["loop.outlet_c"][:] = state["loop.coolant_c"]
        state["loop.pump_c"][:] = state["loop.coolant_c"] + 4
        state["loop.level"][:] = who["coolant_level"]
        self.load_kw = np.zeros(n)
        self.leak_warmth_c = np.zeros(n)  # of the battery, by the leak
        self.curve = np.where(who["software"] >= 3, 32.0, 30.0)  # of the pump over the battery's temperature, by software
        self.nominal_l_min = np.zeros(n)  # flow that a sound loop would have

    def step(self, heat_w: Array, power_w: Array, awake: Array, leak: Array, wear: Array, m: Moment) -> None:
        """heat_w: made in the battery. power_w: battery power, which leads the heat. awake: 0 or 1. leak, wear: severities."""
        s, car = self.state, self.car
        relax(self.load_kw, np.abs(power_w) * 1e-3, m.keep(20.0))
        battery, coolant = s["loop.battery_c"], s["loop.coolant_c"]
        goal = np.minimum(5200.0, np.maximum(2000.0, 3000 + self.curve * (battery - 28) + 14 * self.load_kw)) * awake
        rpm = s["loop.pump_rpm"]
        beyond_wear = np.maximum(0.0, wear - 1)
        relax(rpm, goal * np.maximum(0.0, 1 - beyond_wear), m.keep(2.5))
        np.divide(goal, 5200.0, out=s["loop.pump_duty"])
        beyond = np.maximum(0.0, leak - 1)
        loss = LEAK_FLOW * np.minimum(leak, 1.0) + 0.57 * beyond * beyond
        rise = LEAK_RISE_C * np.minimum(leak, 1.0) + 6.0 * beyond
        thin = 1 + 0.002 * (coolant - 30)  # the coolant gets thinner as it gets warmer
        reference = car.pump_reference_flow_l_min
        nominal = np.multiply(rpm * thin, self.who["pump_gain"] * (reference / car.pump_reference_rpm), out=self.nominal_l_min)
        flow = s["loop.flow_l_min"]
        # The loss is what remains after the warmer, thinner coolant has given a little back.
        pumped = nominal * ((1 - loss) / (1 + 0.002 * rise))
        np.multiply(pumped, np.maximum(0.0, 1 - PUMP_WEAR * wear - beyond_wear), out=flow)
        share = flow * (1 / reference)
        np.divide(38.0 * share * share, thin, out=s["loop.pressure_kpa"])
        # What a worn impeller does not turn into flow it still takes.
        hydraulic = pumped * pumped * pumped / thin * (38.0 / (reference * reference * 60 * 0.34))
        turning = rpm * (1 / car.pump_reference_rpm)
        power = (6.0 + hydraulic + 9.0 * turning * turning * turning) * (1 + PUMP_DRAW * wear) * (goal > 0)
        s["loop.pump_w"][:] = power
        np.maximum(0.0, self.who["coolant_level"] - LEAK_LEVEL * np.minimum(leak, 1.0) - 75 * beyond, out=s["loop.level"])
        relax(s["loop.pump_c"], coolant + 0.28 * power * (1 + 0.3 * wear), m.keep(200.0))
        self._heat(heat_w, share, rise, awake, m)

    def _heat(self, heat_w: Array, share: Array, rise: Array, awake: Array, m: Moment) -> None:
        s, car = self.state, self.car
        battery, coolant, ambient = s["loop.battery_c"], s["loop.coolant_c"], s["world.ambient_c"]
        plate = STILL_PLATE_W_K + (car.cold_plate_w_k - STILL_PLATE_W_K) * self.who["plate_gain"] * share**0.8
        radiator = STILL_RADIATOR_W_K + car.radiator_w_k * self.who["radiator_gain"] * share**0.3 * (s["front.air_m_s"] * 0.25) ** 0.45
        valve = np.minimum(1.0, np.maximum(0.0, (battery - 36) * 0.125)) * awake
        relax(s["loop.chiller_valve"], valve, m.keep(8.0))
        flowing = np.minimum(1.0, share * (1 / STARVED_SHARE))
        chiller = np.multiply(s["loop.chiller_valve"] * flowing, 2600.0, out=s["loop.chiller_w"])
        # A fast charge wants a warm battery; a drive only one that can recuperate a little.
        cold_limit, most = np.where(s["mode"] == 3, 22.0, 2.0), np.where(s["mode"] == 3, 4000.0, 1500.0)
        warming = most * np.minimum(1.0, np.maximum(0.0, (cold_limit - battery) * (1 / 6))) * awake * flowing
        heater = s["loop.heater_w"]
        relax(heater, warming, m.keep(5.0))
        nominal = np.multiply(radiator, coolant - ambient, out=s["loop.radiator_nominal_w"])
        # What the radiator no longer gives off so that the coolant settles at the rise; the battery, which warms with it, gives a part.
        withheld = (plate + radiator) * rise - plate * self.leak_warmth_c
        withheld = np.minimum(np.maximum(0.0, withheld), 0.9 * np.maximum(0.0, nominal)) * (rise > 0)
        capacity = car.battery_heat_capacity_j_k
        self.leak_warmth_c += (rise - self.leak_warmth_c) * -np.expm1(-plate * (m.dt_s / capacity))
        conductance = plate + radiator
        steady = (plate * battery + radiator * ambient + withheld + heater - chiller) / conductance
        speed = conductance * (m.dt_s / car.coolant_heat_capacity_j_k)
        gone = -np.expm1(-speed)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = steady + (coolant - steady) * np.where(speed > 0, gone / speed, 1.0)
        coolant += (steady - coolant) * gone
        from_battery = np.multiply(plate, battery - mean, out=s["loop.plate_w"])
        np.subtract(radiator * (mean - ambient), withheld, out=s["loop.radiator_w"])
        lost = PACK_LOSS_W_K * (battery - ambient) * (1 + 0.02 * s["drive.speed"])
        battery += (heat_w - from_battery - lost) * (m.dt_s / capacity)
        carried = np.maximum(coolant_capacity_flow(s["loop.flow_l_min"]), 30.0)
        relax(s["loop.outlet_c"], coolant + from_battery / carried, m.keep(1.5))


LONG_S = 60.0  # steps beyond it are those of a sleeping car
COOLANT_J_K = 17e3  # of the drive's loop
REST_W_K = 24.0  # of the whole drive to the air, at rest
STATOR, ROTOR, OIL, INVERTER, CAPACITOR, CONVERTER, CHARGER, BEARING = range(8)


class DriveLoop:
    """Stator, rotor, inverter, capacitor, gear oil, converter, charger and bearing as lumped masses on one coolant, each by its exact
    solution for what surrounds it at the step's beginning.

    As in Mellor, Roberts and Turner, "Lumped parameter thermal model for electrical machines", IEE Proceedings B 138 (1991).
    """

    NAMES = ("stator_c", "rotor_c", "oil_c", "inverter_c", "capacitor_c", "converter_c", "charger_c", "bearing_c")
    CAPACITY_J_K = np.array([13e3, 7e3, 9e3, 2.2e3, 900.0, 2.5e3, 4e3, 600.0])[:, None]
    # Conductances of the nodes in all, W/K: stator to coolant and rotor; rotor to stator and oil; oil to rotor, air and bearing; ...
    CONDUCTANCE_W_K = np.array([55.0 + 9, 9.0 + 7, 7.0 + 16 + 4, 140.0, 5.0, 30.0, 28.0, 4.0 + 2])[:, None]
    TO_COOLANT_W_K = np.array([55.0, 0, 0, 140.0, 5.0, 30.0, 28.0, 0])[:, None]

    def __init__(self, who: Individuals, state: State, warm_c: Array) -> None:
        """warm_c: of the drive over the air at the start."""
        self.who, self.state = who, state
        ambient = state["world.ambient_c"]
        start = state.rows["drive_loop.stator_c"].start
        self.nodes = state.block[start : start + len(self.NAMES)]  # (8, n): the table's rows in the order of NAMES
        self.nodes[:] = ambient + warm_c
        state["drive_loop.coolant_c"][:] = ambient + 0.6 * warm_c
        state["drive_loop.return_c"][:] = ambient + 0.7 * warm_c
        state["drive_loop.level"][:] = who["drive_coolant_level"]
        self._heat = np.zeros((len(self.NAMES), who.vehicles))

    def _rest(self, m: Moment, long: NDArray[np.bool_]) -> None:
        """A step of many minutes, asleep: all parts and the coolant share their heat and give it to the air together."""
        s = self.state
        cold, ambient = s["drive_loop.coolant_c"], s["world.ambient_c"]
        whole = float(self.CAPACITY_J_K.sum()) + COOLANT_J_K
        shared = ((self.CAPACITY_J_K * self.nodes).sum(axis=0) + COOLANT_J_K * cold) * (1 / whole)
        shared = ambient + (shared - ambient) * m.keep(whole / REST_W_K)
        np.copyto(self.nodes, shared, where=long)
        np.copyto(cold, shared, where=long)

    def step(self, gear_w: Array, converter_w: Array, charger_w: Array, bearing_w: Array, awake: Array, m: Moment) -> None:
        """Losses in W, beside those of motor and inverter."""
        s, heat, node = self.state, self._heat, self.nodes
        pump = np.minimum(5000.0, np.maximum(1800.0, 1800 + 60 * (node[STATOR] - 40))) * awake
        relax(s["drive_loop.pump_rpm"], pump, m.keep(3.0))
        cold, ambient = s["drive_loop.coolant_c"], s["world.ambient_c"]
        flow = s["drive_loop.flow_l_min"]
        np.multiply(s["drive_loop.pump_rpm"] * (10.0 / 3500), 1 + 0.004 * (cold - 30), out=flow)
        np.multiply(self.TO_COOLANT_W_K, cold, out=heat)
        motor, inverter = s["drive.motor_loss_w"], s["drive.inverter_loss_w"]
        heat[STATOR] += 0.78 * motor + 9.0 * node[ROTOR]
        heat[ROTOR] += 0.22 * motor + 9.0 * node[STATOR] + 7.0 * node[OIL]
        heat[OIL] += gear_w + 7.0 * node[ROTOR] + 16.0 * ambient + 4.0 * node[BEARING]
        heat[INVERTER] += inverter
        heat[CAPACITOR] += 0.06 * inverter
        heat[CONVERTER] += converter_w
        heat[CHARGER] += charger_w
        heat[BEARING] += 4.0 * node[OIL] + 2.0 * ambient + 0.012 * s["drive.motor_rad_s"] + bearing_w
        heat /= self.CONDUCTANCE_W_K
        long = np.asarray(m.dt_s) > LONG_S
        if long.any():
            self._rest(m, long)
            heat = np.where(long, node, heat)
        before = node.copy()
        keep = np.exp(np.asarray(m.dt_s) * (-self.CONDUCTANCE_W_K / self.CAPACITY_J_K))
        node -= heat
        node *= keep
        node += heat
        before += node
        taken = (self.TO_COOLANT_W_K * (0.5 * before - cold)).sum(axis=0)
        radiator = 8.0 + 165 * (flow * 0.1) ** 0.3 * (s["front.air_m_s"] * 0.25) ** 0.45
        steady = ambient + taken / radiator
        cold += (steady - cold) * -np.expm1(-radiator * (m.dt_s / COOLANT_J_K)) * ~long
        np.add(cold, taken / np.maximum(coolant_capacity_flow(flow), 60.0), out=s["drive_loop.return_c"])
