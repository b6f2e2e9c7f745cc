"""Thermal management: the battery's coolant loop, the drive's coolant loop, radiators and fan."""

from __future__ import annotations

from simulator.faults import CoolantLeak
from simulator.old.parameters import CarParameters

__all__ = ["BatteryLoop", "DriveLoop", "FrontEnd", "coolant_capacity_flow"]

GLYCOL_J_L_K = 3620.0  # density x specific heat of 50 % ethylene glycol at 30 °C (ASHRAE Fundamentals 2017, chapter 31)


def coolant_capacity_flow(flow_l_min: float) -> float:
    """Heat that a coolant flow carries per degree, W/K."""
    return flow_l_min / 60 * GLYCOL_J_L_K


def approach(value: float, goal: float, dt: float, time_s: float) -> float:
    """First-order lag."""
    return value + (goal - value) * min(1.0, dt / time_s)


class FrontEnd:
    """Fan, active grille shutter and the air that they let through the radiators.

    The shutter closes as speed rises, so that the radiators get what they need and the car has less drag.
    """

    def __init__(self) -> None:
        self.fan_duty = 0.15  # 0..1
        self.fan_rpm = 400.0
        self.shutter = 0.6  # 0 closed .. 1 open
        self.air_m_s = 2.5

    def step(self, speed: float, need: float, dt: float) -> None:
        """need: cooling wanted, 0..1."""
        self.fan_duty = approach(self.fan_duty, min(0.95, max(0.12, 0.12 + 0.75 * need - 0.006 * speed)), dt, 3.0)
        self.fan_rpm = approach(self.fan_rpm, 2800 * self.fan_duty, dt, 1.2)
        self.shutter = approach(self.shutter, min(1.0, max(0.1, 0.75 + 0.4 * need - 0.016 * speed)), dt, 4.0)
        self.air_m_s = 0.0028 * self.fan_rpm + 0.20 * speed * self.shutter + 0.8

    @property
    def fan_current_a(self) -> float:
        """Fan law: power rises with the cube of the speed (Gülich, "Centrifugal Pumps", chapter 3)."""
        return 0.6 + 32.0 * (self.fan_rpm / 2800) ** 3


class BatteryLoop:
    """Battery, cold plate, pump, radiator with air, chiller and heater: two lumped temperatures.

    Pump: affinity laws, flow proportional to speed and power to its cube (Gülich, "Centrifugal Pumps", chapter 3). Heat transfer: as
    flow^0.8 in the coolant (Dittus and Boelter 1930) and as air speed^0.45 in the radiator (Kays and London, "Compact Heat Exchangers").
    """

    def __init__(self, car: CarParameters, battery_c: float, ambient_c: float, level: float, leak: CoolantLeak | None) -> None:
        self.car, self.leak, self.level_start = car, leak, level
        self.battery_c = battery_c
        self.coolant_c = ambient_c + (battery_c - ambient_c) * car.cold_plate_w_k / (car.cold_plate_w_k + car.radiator_w_k)
        self.outlet_c = self.coolant_c + 1.0
        self.pump_rpm = self._pump_goal(0.0)
        self.pump_load_kw = 0.0
        self.flow_l_min = self.flow_nominal = self.pressure_kpa = self.pump_w = 0.0
        self.pump_c = self.coolant_c + 8
        self.level = level
        self.chiller_valve = self.chiller_w = self.heater_w = self.radiator_w = self.radiator_nominal_w = 0.0
        self.severity = 0.0
        self.leak_warmth_c = 0.0  # of the battery, by the leak
        self._flow(0.0)

    def _pump_goal(self, load_kw: float) -> float:
        return min(5200.0, max(2000.0, 3000 + 30 * (self.battery_c - 28) + 14 * load_kw))

    def _flow(self, time_s: float) -> None:
        car = self.car
        self.severity = self.leak.severity(time_s) if self.leak else 0.0
        thin = 1 + 0.002 * (self.coolant_c - 30)  # the coolant gets thinner as it gets warmer
        self.flow_nominal = car.pump_reference_flow_l_min * self.pump_rpm / car.pump_reference_rpm * thin
        self.flow_l_min = self.flow_nominal
        if self.leak:  # the loss is what remains after the warmer, thinner coolant has given a little back
            self.flow_l_min *= (1 - self.leak.flow_loss * self.severity) / (1 + 0.002 * self.leak.temperature_rise_c * self.severity)
        self.pressure_kpa = 38.0 * (self.flow_l_min / car.pump_reference_flow_l_min) ** 2 / thin
        hydraulic = self.pressure_kpa * self.flow_l_min / 60
        self.pump_w = 6.0 + hydraulic / 0.34 + 9.0 * (self.pump_rpm / car.pump_reference_rpm) ** 3
        self.level = self.level_start - (self.leak.level_loss * self.severity if self.leak else 0.0)

    def step(self, time_s: float, heat_w: float, power_w: float, ambient_c: float, air_m_s: float, dt: float) -> None:
        """heat_w: made in the battery. power_w: battery power, which leads the heat. air_m_s: through the radiator."""
        car = self.car
        self.pump_load_kw = approach(self.pump_load_kw, abs(power_w) / 1000, dt, 20.0)
        self.pump_rpm = approach(self.pump_rpm, self._pump_goal(self.pump_load_kw), dt, 2.5)
        self._flow(time_s)
        share = self.flow_l_min / car.pump_reference_flow_l_min
        plate = car.cold_plate_w_k * share**0.8
        radiator = car.radiator_w_k * share**0.3 * (air_m_s / 4) ** 0.45
        self.chiller_valve = approach(self.chiller_valve, min(1.0, max(0.0, (self.battery_c - 36) / 8)), dt, 8.0)
        self.chiller_w = 2600 * self.chiller_valve
        self.heater_w = approach(self.heater_w, 4000 * min(1.0, max(0.0, (8 - self.battery_c) / 6)), dt, 5.0)
        from_battery = plate * (self.battery_c - self.coolant_c)
        self.radiator_nominal_w = radiator * (self.coolant_c - ambient_c)
        withheld = 0.0
        if self.leak:
            # What the radiator no longer gives off so that the coolant settles at the rise; the battery, which warms with it, gives a part.
            rise = self.leak.temperature_rise_c * self.severity
            withheld = (plate + radiator) * rise - plate * self.leak_warmth_c
            withheld = min(max(0.0, withheld), 0.9 * max(0.0, self.radiator_nominal_w))
            self.leak_warmth_c += plate * (rise - self.leak_warmth_c) / car.battery_heat_capacity_j_k * dt
        self.radiator_w = self.radiator_nominal_w - withheld
        self.coolant_c += (from_battery - self.radiator_w - self.chiller_w + self.heater_w) / car.coolant_heat_capacity_j_k * dt
        self.battery_c += (heat_w - from_battery - 2.5 * (self.battery_c - ambient_c)) / car.battery_heat_capacity_j_k * dt
        self.outlet_c = self.coolant_c + from_battery / coolant_capacity_flow(self.flow_l_min)
        self.pump_c += (0.25 * self.pump_w - 0.9 * (self.pump_c - self.coolant_c)) / 180 * dt


class DriveLoop:
    """Stator, rotor, inverter, capacitor, gear oil, converter and charger as lumped masses on one coolant.

    As in Mellor, Roberts and Turner, "Lumped parameter thermal model for electrical machines", IEE Proceedings B 138 (1991).
    """

    def __init__(self, ambient_c: float) -> None:
        warm = ambient_c + 14
        self.coolant_c = ambient_c + 9
        self.return_c = ambient_c + 10
        self.stator_c = self.rotor_c = self.oil_c = warm + 6
        self.inverter_c = self.capacitor_c = warm
        self.converter_c = self.charger_c = warm
        self.pump_rpm, self.flow_l_min = 2500.0, 7.0

    def step(
        self, motor_w: float, inverter_w: float, gear_w: float, converter_w: float, ambient_c: float, air_m_s: float, dt: float
    ) -> None:
        """Losses in W."""
        self.pump_rpm = approach(self.pump_rpm, min(5000.0, max(1800.0, 1800 + 60 * (self.stator_c - 40))), dt, 3.0)
        self.flow_l_min = 10.0 * self.pump_rpm / 3500 * (1 + 0.004 * (self.coolant_c - 30))
        cold = self.coolant_c
        stator = 55 * (self.stator_c - cold)
        inverter = 140 * (self.inverter_c - cold)
        converter, charger = 30 * (self.converter_c - cold), 12 * (self.charger_c - cold)
        air_gap = 9 * (self.rotor_c - self.stator_c)
        self.stator_c += (0.78 * motor_w - stator + air_gap) / 13e3 * dt
        self.rotor_c += (0.22 * motor_w - air_gap - 7 * (self.rotor_c - self.oil_c)) / 7e3 * dt
        self.oil_c += (gear_w + 7 * (self.rotor_c - self.oil_c) - 16 * (self.oil_c - ambient_c)) / 9e3 * dt
        self.inverter_c += (inverter_w - inverter) / 2.2e3 * dt
        self.capacitor_c += (0.06 * inverter_w - 5 * (self.capacitor_c - cold)) / 900 * dt
        self.converter_c += (converter_w - converter) / 2.5e3 * dt
        self.charger_c += (0.0 - charger) / 4e3 * dt
        taken = stator + inverter + converter + charger
        self.coolant_c += (taken - 165 * (air_m_s / 4) ** 0.45 * (self.coolant_c - ambient_c)) / 17e3 * dt
        self.return_c = self.coolant_c + taken / coolant_capacity_flow(self.flow_l_min)
