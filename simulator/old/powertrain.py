"""Motion along the road: motor, gear, inverter, friction brake."""

from __future__ import annotations

import math

from simulator.old.parameters import CarParameters

__all__ = ["Powertrain"]

GRAVITY = 9.81
TORQUE_PER_AMPERE = 0.78  # N*m per A rms of torque-forming current
FIELD_WEAKENING_RAD_S = 480.0  # motor speed from which the field must be weakened
STANDSTILL_M_S = 0.05


class Powertrain:
    """Longitudinal dynamics with one motor.

    Resistance of rolling, gradient and air: Guzzella and Sciarretta, "Vehicle Propulsion Systems", chapter 2. Motor losses k_c T² + k_i w
    + k_w w³ + C: Larminie and Lowry, "Electric Vehicle Technology Explained", chapter 7. Inverter losses a + b I + c I², of conduction and
    switching: Graovac and Pürschel, "IGBT Power Losses Calculation Using the Data-Sheet Parameters", Infineon 2009.
    """

    def __init__(self, car: CarParameters, mass_kg: float, air_density: float, regeneration_level: int) -> None:
        self.car, self.mass_kg, self.air_density = car, mass_kg, air_density
        self.regeneration_share = (0.45, 0.7, 1.0)[regeneration_level]
        self.speed = self.acceleration = self.distance_m = 0.0
        self.torque = self.torque_request = self.friction_torque = 0.0
        self.regeneration_limit = 0.0  # N*m
        self.motor_rad_s = self.current_q = self.current_d = 0.0
        self.motor_loss_w = self.inverter_loss_w = self.mechanical_w = self.electric_w = 0.0
        self.pedal = 0.0  # 0..1
        self.limit_cause = 0
        self.traction_power_n_m = car.motor_torque_n_m

    def step(self, demand: float, gradient: float, dt: float, discharge_limit_w: float, charge_limit_w: float, derating: float) -> None:
        """demand: acceleration asked for, m/s². Limits: of the battery, W. derating: share of motor power withheld, 0..1."""
        car = self.car
        motor_rad_s = self.speed / car.wheel_radius_m * car.gear_ratio
        roll = self.mass_kg * GRAVITY * (car.rolling_resistance + gradient) if self.speed > STANDSTILL_M_S or demand > 0 else 0.0
        resistance = roll + 0.5 * self.air_density * car.drag_area_m2 * self.speed**2
        inertia = self.mass_kg * car.rotating_mass
        wanted = (inertia * demand + resistance) * car.wheel_radius_m / car.gear_ratio
        wanted = wanted / car.gear_efficiency if wanted > 0 else wanted * car.gear_efficiency

        turning = max(motor_rad_s, 1.0)
        curve = min(car.motor_torque_n_m, car.motor_power_w * (1 - derating) / turning)
        battery = max(0.0, discharge_limit_w - 3000.0) * 0.92 / turning
        most = min(curve, battery)
        fade = min(1.0, max(0.0, (self.speed - 1.0) / 2.5))  # the motor cannot brake to a standstill
        self.regeneration_limit = fade * min(car.regeneration_torque_n_m * self.regeneration_share, charge_limit_w / turning)
        self.torque_request = min(most, max(-self.regeneration_limit, wanted))
        self.limit_cause = self._cause(wanted, curve, battery, derating)
        self.traction_power_n_m = curve
        self.torque += (self.torque_request - self.torque) * min(1.0, dt / 0.12)
        self.friction_torque = max(0.0, -(wanted - self.torque_request)) * car.gear_ratio if wanted < 0 else 0.0
        if self.speed <= STANDSTILL_M_S and demand <= 0:
            self.friction_torque = 900.0  # held by the brake

        efficiency = car.gear_efficiency if self.torque > 0 else 1 / car.gear_efficiency
        push = self.torque * efficiency * car.gear_ratio / car.wheel_radius_m
        holding = self.friction_torque / car.wheel_radius_m
        net = push - resistance - (holding if self.speed > STANDSTILL_M_S else 0.0)
        before = self.speed
        self.speed = 0.0 if demand <= 0 and before <= STANDSTILL_M_S else max(0.0, before + net / inertia * dt)
        self.acceleration = (self.speed - before) / dt
        self.distance_m += 0.5 * (self.speed + before) * dt
        self._electrics(self.speed / car.wheel_radius_m * car.gear_ratio)

    def _cause(self, wanted: float, curve: float, battery: float, derating: float) -> int:
        if wanted > min(curve, battery):
            return (3 if derating > 0 else 1) if curve <= battery else 2
        return 4 if wanted < -self.regeneration_limit else 0

    def _electrics(self, motor_rad_s: float) -> None:
        self.motor_rad_s = motor_rad_s
        self.current_q = self.torque / TORQUE_PER_AMPERE
        weakening = max(0.0, 1.0 - FIELD_WEAKENING_RAD_S / max(motor_rad_s, 1.0))
        self.current_d = -12.0 * abs(self.torque) / self.car.motor_torque_n_m * 4 - 150.0 * weakening
        current = math.hypot(self.current_q, self.current_d)
        self.motor_loss_w = 0.055 * self.torque**2 + 0.30 * motor_rad_s + 6e-7 * motor_rad_s**3 + 25.0
        self.inverter_loss_w = 45.0 + 1.1 * current + 0.0032 * current**2
        self.mechanical_w = self.torque * motor_rad_s
        self.electric_w = self.mechanical_w + self.motor_loss_w + self.inverter_loss_w
        self.pedal = min(1.0, max(0.0, self.torque_request) / max(self.traction_power_n_m, 1.0)) ** 0.8
