"""What the driver and the body's control units do around the drive: key, gear, lights, indicators, wipers, cruise control."""

from __future__ import annotations

import numpy as np

from simulator.individual import Individuals
from simulator.journeys import AWAKE_S, Journeys, Phase
from simulator.moment import Moment, relax
from simulator.route import CURVATURE, LENGTH, Road
from simulator.state import Array, State

__all__ = ["Body"]

# In seconds from key-on, and from key-off.
DOOR_SHUT_S = 1.5
BELT_S = 3.0
ON_S = 0.5
DOOR_OPENS_S, DOOR_CLOSES_S = 4.0, 8.0
LOCKS_S = 12.0
ACCESSORY_S = 6.0  # key in accessory after the stop
INDICATE_M = 60.0  # before a corner
CORNER = 1 / 60  # curvature of what needs an indicator
LOCK_M_S = 15 / 3.6
BUS_SLEEP_S = 10.0  # network management: from the last need to the bus's sleep (AUTOSAR CanNm: 1.5 to 10 s)


class Body:
    """States, as integers of the DBC's choices."""

    def __init__(self, who: Individuals, state: State) -> None:
        self.who, self.state = who, state
        n = who.vehicles
        state["body.washer_level"][:] = who["washer_level"]
        state["body.parking"][:], state["body.clamp_kn"][:] = 2.0, 16.0
        state["body.locked"][:] = 1.0
        state["body.occupants"][:] = np.where(state["body.occupants"] > 0, state["body.occupants"], who["occupants"])
        state["body.hours"][:] = who["odometer_km"] / 38
        self.calm_s = np.zeros(n)

    def phases(self, journeys: Journeys) -> None:
        """Key, readiness, buses and locks, from the phase that the car is in."""
        s, phase, t = self.state, journeys.phase, journeys.phase_s
        boarding, driving, leaving = phase == Phase.BOARDING, phase == Phase.DRIVING, phase == Phase.LEAVING
        charging = phase >= Phase.CHARGING_AC
        s["ready"][:] = driving
        s["key"][:] = np.where(
            driving, 3.0, np.where(boarding, np.where(t < ON_S, 1.0, 2.0), np.where(leaving & (t < ACCESSORY_S), 1.0, 0.0))
        )
        s["mode"][:] = np.where(
            boarding | driving, 1.0, np.where(phase == Phase.CHARGING_AC, 2.0, np.where(phase == Phase.CHARGING_DC, 3.0, 0.0))
        )
        s["bus.drive"][:] = boarding | driving | charging | (leaving & (t < AWAKE_S - 2 * BUS_SLEEP_S))
        s["bus.body"][:] = boarding | driving | charging | (leaving & (t < AWAKE_S))
        s["bus.energy"][:] = boarding | driving | charging | (leaving & (t < AWAKE_S - BUS_SLEEP_S))
        s["body.door"][:] = (boarding & (t < DOOR_SHUT_S)) | (leaving & (t >= DOOR_OPENS_S) & (t < DOOR_CLOSES_S))
        s["body.belt"][:] = driving | (boarding & (t >= BELT_S)) | (leaving & (t < 2))
        s["body.gear"][:] = 3.0 * driving
        locked = s["body.locked"]
        moving_lock = driving & ((locked > 0) | (s["drive.speed"] > LOCK_M_S))
        locked[:] = moving_lock | (leaving & (t >= LOCKS_S)) | (phase == Phase.ASLEEP) | charging

    def step(self, m: Moment, road: Road, demand: Array) -> None:
        s, who = self.state, self.who
        used = s["key"] > 0
        ready = s["ready"]
        clamp = s["body.clamp_kn"]
        goal = np.where(ready > 0, 0.0, 16.0)
        most = 9.0 * m.dt_s
        moved = np.minimum(most, np.maximum(-most, goal - clamp))
        clamp += moved
        busy = moved != 0
        np.multiply(2.0 + 0.6 * clamp, busy, out=s["body.actuator_a"])
        s["body.parking"][:] = np.where(busy, 1.0, np.where(ready > 0, 0.0, 2.0))
        self._indicate(road, ready)
        lux, rain = s["world.lux"], s["world.rain"]
        dark = lux < 4000
        s["body.low_beam"][:] = (dark | (rain > 0.15)) & used
        s["body.daytime"][:] = ~dark & used
        s["body.high_beam"][:] = (lux < 200) & (s["world.kind"] == 1) & (s["world.lead"] == 0) & (ready > 0)
        wiper = ((rain >= 0.03).astype(np.float64) + (rain >= 0.2) + (rain >= 0.5)) * used
        s["body.wiper"][:] = wiper
        np.multiply(np.minimum(1.0, 0.35 * wiper + 0.65 * (wiper > 1)) * (3.5 + 1.5 * wiper), 1.2 - 0.4 * rain, out=s["body.wiper_a"])
        washer = s["body.washer_level"]
        washer -= 0.0004 * wiper * m.dt_s
        np.copyto(washer, 98.0, where=washer < 3)  # the driver fills up
        ambient, speed, cabin = s["world.ambient_c"], s["drive.speed"], s["climate.cabin_c"]
        mild = (ambient > 17) & (ambient < 27) & (speed < 14) & (rain < 0.03) & (s["body.occupants"] == 1) & (ready > 0)
        relax(s["body.window"], np.where(mild, 35.0, 0.0), m.keep(2.0))
        heater = who["seat_heater"]
        level = np.where(cabin < 15, heater, np.where(cabin < 20, np.maximum(0.0, heater - 1), 0.0))
        np.multiply(level, s["key"] > 1, out=s["body.seat_level"])
        s["body.hands"][:] = (s["world.grip"] > 2.0) & (ready > 0)
        s["body.hours"][:] += ready * (m.dt_s / 3600)
        s["trip_s"][:] += used * m.dt_s
        self._cruise(demand, m)

    def _indicate(self, road: Road, ready: Array) -> None:
        s, segments = self.state, road.segments
        near = segments[LENGTH, 0] - road.position_m < INDICATE_M
        here, after = segments[CURVATURE, 0], segments[CURVATURE, 1]
        bend = np.where(np.abs(here) > CORNER, here, after * near) * ready
        turns = np.abs(bend) > CORNER
        s["body.turn"][:] = np.where(turns, np.where(bend > 0, 1.0, 2.0), 0.0)
        s["body.blink"][:] = turns

    def _cruise(self, demand: Array, m: Moment) -> None:
        """Switched on after ten calm seconds outside towns, off by braking."""
        s = self.state
        speed, kind, cruise = s["drive.speed"], s["world.kind"], s["body.cruise"]
        calm = (kind > 0) & (speed > 18) & (np.abs(demand) < 0.5) & (s["ready"] > 0)
        self.calm_s = (self.calm_s + m.dt_s) * calm
        off = (demand < -0.8) | (kind == 0)
        on = ~off & (self.calm_s > 10)
        fresh = on & (cruise != 2)
        np.copyto(s["body.cruise_km_h"], np.rint(speed * 3.6), where=fresh)
        cruise[:] = np.where(off, (speed > 8) * 1.0, np.where(on, 2.0, cruise))
