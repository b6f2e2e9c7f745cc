"""Brake discs and pads, wheel by wheel."""

from __future__ import annotations

import numpy as np

from simulator.individual import Individuals
from simulator.moment import Moment
from simulator.parameters import CarParameters
from simulator.state import WHEELS, Array, State

__all__ = ["Brakes", "drag_torque"]

SHARE = np.array([0.34, 0.34, 0.16, 0.16])[:, None]  # of the friction torque
CAPACITY_J_K = np.array([4300.0, 4300.0, 3100.0, 3100.0])[:, None]  # of one disc, 9 kg and 6.5 kg of cast iron
COOLING = np.array([1.0, 1.0, 0.8, 0.8])[:, None]
WEAR_MM_J = 1.2e-8  # 0.012 mm for 1 MJ of one wheel
NEW_MM = np.array([12.0, 12.0, 11.0, 11.0])[:, None]
WORN_MM = 2.0
PRESSURE_N_M_BAR = 42.0  # of all four wheels
DRAG_N_M = 25.0  # of one brake, at severity 1
RADIATION_W_K3 = 9e-8 * 0.12  # of a red-hot disc: the cube's part of Stefan and Boltzmann's law for 0.12 m²


def drag_torque(severity: Array) -> Array:
    """Of a brake that does not release, N m: 25 at severity 1; seized, 300, at 2."""
    beyond = np.maximum(0.0, severity - 1)
    return DRAG_N_M * severity + 250.0 * beyond * beyond


class Brakes:
    """Discs as lumped masses, cooled by the driving wind; pads wear with the work they do.

    Disc temperature: Limpert, "Brake Design and Safety", chapter 3, by its exact solution. Wear: Archard, J. Applied Physics 24 (1953); at
    temperatures above 300 °C it doubles each 150 °C (Limpert, chapter 1). Pads of cars that recuperate last 100,000 km and more.
    """

    def __init__(self, car: CarParameters, who: Individuals, state: State, worn: Array, dragging: Array) -> None:
        """worn, dragging (n,): the wheels, 0..3, that those faults strike; a worn axle is both wheels of it."""
        self.car, self.who, self.state = car, who, state
        rows = state.rows
        self.disc = state.block[rows["brakes.disc_c"]]
        self.torque = state.block[rows["brakes.torque_n_m"]]
        self.pad = state.block[rows["brakes.pad_mm"]]
        self.disc[:] = state["world.ambient_c"] + 8
        self.sound_mm = np.ascontiguousarray(who.pad_mm.T)  # without the fault
        self.pad[:] = self.sound_mm
        wheels = np.arange(WHEELS)[:, None]
        self.axle = (worn // 2 == wheels // 2).astype(np.float64)
        self.wheel = (dragging == wheels).astype(np.float64)

    def step(self, wear: Array, drag: Array, m: Moment) -> None:
        """wear, drag: severities of `brake_pad_worn` and `brake_drag`."""
        s = self.state
        speed = s["drive.speed"]
        np.multiply(SHARE, s["drive.friction_torque"], out=self.torque)
        dragging = drag_torque(drag)
        if dragging.any():
            self.torque += self.wheel * dragging
        turning = speed * (1 / self.car.wheel_radius_m)
        power = self.torque * turning
        cooling = COOLING * (6 + 1.3 * speed)
        hot = self.disc - s["world.ambient_c"]
        if (hot > 200).any():
            cooling = cooling + RADIATION_W_K3 * hot * hot * hot
        steady = s["world.ambient_c"] + 0.9 * power / cooling
        keep = np.exp(cooling * (-m.dt_s / CAPACITY_J_K))
        self.disc -= steady
        self.disc *= keep
        self.disc += steady
        wearing = power * (m.dt_s * WEAR_MM_J)
        if (hot > 280).any():
            wearing *= 2 ** np.maximum(0.0, (self.disc - 300) / 150)
        self.sound_mm -= wearing
        np.maximum(self.sound_mm, 0.3, out=self.sound_mm)
        np.copyto(self.pad, self.sound_mm)
        if wear.any():
            # 30 % of what can be worn is left at 1, nothing at 2.
            goal = WORN_MM + (NEW_MM - WORN_MM) * np.where(wear <= 1, 1 - 0.7 * wear, 0.3 * (2 - np.minimum(wear, 2.0)))
            np.copyto(self.pad, np.minimum(self.pad, goal), where=(self.axle > 0) & (wear > 0))
        np.divide(s["drive.friction_torque"], PRESSURE_N_M_BAR, out=s["brakes.pressure_bar"])
        left = ((self.pad - WORN_MM) / (NEW_MM - WORN_MM)).mean(axis=0)
        np.add(60 + 35 * np.minimum(np.maximum(left, 0.0), 1.0), 0.0, out=s["brakes.fluid_level"])  # falls as the pistons follow the pads
