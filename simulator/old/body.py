"""What the driver and the body's control units do around the drive: boarding, gear, lights, indicators, wipers."""

from __future__ import annotations

from simulator.old.parameters import Individual
from simulator.old.route import Road
from simulator.old.world import World

__all__ = ["READY_S", "Body"]

# Boarding, in seconds from the start of the drive.
DOOR_SHUT_S = 1.5
BELT_S = 3.0
READY_S = 5.0  # gear into D, parking brake released
INDICATE_M = 60.0  # before a corner
CORNER = 1 / 60  # curvature of what needs an indicator
LOCK_M_S = 15 / 3.6


class Body:
    """States, as integers of the DBC's choices."""

    def __init__(self, who: Individual) -> None:
        self.who = who
        self.door = self.belt = self.locked = self.gear = self.turn = self.blink = 0
        self.wiper = self.low_beam = self.high_beam = self.daytime = 0
        self.parking, self.clamp_kn, self.actuator_a = 2, 16.0, 0.0
        self.window = 0.0
        self.cruise, self.cruise_km_h = 0, 0.0
        self.lux = 0.0
        self.seat_level = 0
        self.hands = 0
        self.wiper_a = 0.0
        self.washer_level = who.washer_level
        self.cruise_timer_s = 0.0

    def step(self, time_s: float, speed: float, demand: float, road: Road, world: World, cabin_c: float, dt: float) -> None:
        ready = time_s >= READY_S
        self.door = int(time_s < DOOR_SHUT_S)
        self.belt = int(time_s >= BELT_S)
        self.gear = 3 if ready else 0
        self.locked = int(self.locked or speed > LOCK_M_S)
        goal = 0.0 if ready else 16.0
        moved = max(-9.0 * dt, min(9.0 * dt, goal - self.clamp_kn))
        self.clamp_kn += moved
        self.actuator_a = 2.0 + 0.6 * self.clamp_kn if moved else 0.0
        self.parking = 1 if moved else (0 if ready else 2)
        self._indicate(time_s, road)
        self.lux = 110 * world.solar + 40
        dark = self.lux < 4000
        self.low_beam, self.daytime = int(dark or world.rain > 0.15), int(not dark)
        self.high_beam = int(self.lux < 200 and world.kind == 1 and not world.lead)
        self.wiper = 0 if world.rain < 0.03 else 1 if world.rain < 0.2 else 2 if world.rain < 0.5 else 3
        sweep = (0.0, 0.35, 1.0, 1.0)[self.wiper]
        self.wiper_a = sweep * (3.5 + 1.5 * self.wiper) * (1.2 - 0.4 * world.rain)
        self.washer_level = max(0.0, self.washer_level - 0.002 * self.wiper * dt)
        mild = 17 < world.ambient_c < 27 and speed < 14 and world.rain < 0.03
        self.window += ((35.0 if mild and self.who.occupants == 1 else 0.0) - self.window) * min(1.0, dt / 2)
        self.seat_level = self.who.seat_heater if cabin_c < 15 else max(0, self.who.seat_heater - 1) if cabin_c < 20 else 0
        self.hands = int(world.grip > 2.0)
        self._cruise(speed, demand, world, dt)

    def _indicate(self, time_s: float, road: Road) -> None:
        here, after = road.ahead[0], road.ahead[1]
        near = here.length_m - road.position_m < INDICATE_M
        bend = here.curvature if abs(here.curvature) > CORNER else after.curvature if near else 0.0
        self.turn = 0 if abs(bend) <= CORNER else 1 if bend > 0 else 2
        self.blink = int(self.turn != 0 and time_s % 0.7 < 0.35)  # 85 flashes a minute; UN Regulation 48 allows 60 to 120

    def _cruise(self, speed: float, demand: float, world: World, dt: float) -> None:
        """Switched on after ten calm seconds outside towns, off by braking."""
        calm = world.kind > 0 and speed > 18 and abs(demand) < 0.5
        self.cruise_timer_s = self.cruise_timer_s + dt if calm else 0.0
        if demand < -0.8 or world.kind == 0:
            self.cruise = 1 if speed > 8 else 0
        elif self.cruise_timer_s > 10:
            self.cruise_km_h = round(speed * 3.6) if self.cruise != 2 else self.cruise_km_h
            self.cruise = 2
