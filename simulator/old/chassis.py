"""Steering, brake discs, pads and tyres."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from simulator.old.parameters import KELVIN, CarParameters

__all__ = ["Brakes", "Steering", "Tyres"]

STEERING_RATIO = 14.8
ATMOSPHERE_KPA = 101.3


class Steering:
    """Single-track model in the steady state: angle = ratio · curvature · (wheelbase + K v²).

    Riekert and Schunck, "Zur Fahrmechanik des gummibereiften Kraftfahrzeugs", Ingenieur-Archiv 11 (1940).
    """

    def __init__(self, car: CarParameters) -> None:
        self.car = car
        self.curvature = self.angle_deg = self.rate_deg_s = self.hand_n_m = self.assist_a = 0.0
        self.lateral_m_s2 = self.yaw_deg_s = 0.0
        self.motor_c = 30.0

    def step(self, road_curvature: float, weave: float, speed: float, ambient_c: float, dt: float) -> None:
        """weave: the driver's own small corrections, 1/m."""
        self.curvature += (road_curvature + weave - self.curvature) * min(1.0, dt / 0.7)
        angle = math.degrees(STEERING_RATIO * self.curvature * (self.car.wheelbase_m + 0.0022 * speed**2))
        angle = min(560.0, max(-560.0, angle))
        self.rate_deg_s, self.angle_deg = (angle - self.angle_deg) / dt, angle
        self.lateral_m_s2 = speed**2 * self.curvature
        self.yaw_deg_s = math.degrees(speed * self.curvature)
        rack = (
            1.1 * self.lateral_m_s2
            + 0.004 * self.rate_deg_s
            + 2.2 * math.copysign(min(1.0, abs(angle) / 200), angle) * math.exp(-speed / 4)
        )
        self.hand_n_m = min(9.0, max(-9.0, rack))
        self.assist_a = min(95.0, 0.8 + 5.5 * abs(rack) * (0.35 + 0.65 * math.exp(-speed / 12)) + 0.02 * abs(self.rate_deg_s))
        self.motor_c += (0.02 * self.assist_a**2 - 1.2 * (self.motor_c - ambient_c)) / 400 * dt


class Brakes:
    """Two discs per axle as lumped masses, cooled by the driving wind; pads wear with the work they do.

    Disc temperature: Limpert, "Brake Design and Safety", chapter 3. Wear: Archard, J. Applied Physics 24 (1953), at 0.012 mm for 1 MJ.
    """

    def __init__(self, ambient_c: float) -> None:
        self.front_c = self.rear_c = ambient_c + 12
        self.work_front_j = self.work_rear_j = 0.0  # of one wheel, this drive

    def step(self, torque_n_m: float, wheel_rad_s: float, speed: float, ambient_c: float, dt: float) -> None:
        power = torque_n_m * wheel_rad_s
        front, rear = 0.34 * power, 0.16 * power  # of one wheel
        cooling = 6 + 1.3 * speed
        self.front_c += (0.9 * front - cooling * (self.front_c - ambient_c)) / 4300 * dt
        self.rear_c += (0.9 * rear - 0.8 * cooling * (self.rear_c - ambient_c)) / 3100 * dt
        self.work_front_j += front * dt
        self.work_rear_j += rear * dt


class Tyres:
    """Heated by rolling, cooled by wind; the pressure follows the absolute temperature at constant volume (Gay-Lussac).

    Heat: rolling resistance is almost all hysteresis (Gent and Walter, "The Pneumatic Tire", NHTSA 2006).
    """

    def __init__(self, ambient_c: float) -> None:
        self.front_c = self.rear_c = ambient_c + 4

    def step(self, rolling_w: float, lateral: float, speed: float, ambient_c: float, dt: float) -> None:
        cooling = 9 + 0.9 * speed
        slip = 25 * lateral * lateral
        self.front_c += (0.25 * rolling_w + slip - cooling * (self.front_c - ambient_c)) / 11e3 * dt
        self.rear_c += (0.27 * rolling_w + 0.7 * slip - cooling * (self.rear_c - ambient_c)) / 11e3 * dt

    @staticmethod
    def pressure_kpa(cold_kpa: float, temperature_c: NDArray[np.float64]) -> NDArray[np.float64]:
        """Above the atmosphere; cold_kpa at 20 °C."""
        return (cold_kpa + ATMOSPHERE_KPA) * (temperature_c + KELVIN) / (20 + KELVIN) - ATMOSPHERE_KPA
