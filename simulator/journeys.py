"""What each car does when: the calendar of its days, and the phases from key-on to the sleep of its buses."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from simulator.cast import Cast
from simulator.dice import Dice, Numbers
from simulator.driver import Driver
from simulator.individual import Individuals
from simulator.route import Road
from simulator.state import Array, Mask, State

__all__ = ["BOARDING_S", "Journeys", "Phase"]

DAY_S = 86_400.0
BOARDING_S = 5.0  # from key-on to ready
AWAKE_S = 90.0  # the buses stay awake after key-off (network management's bus-off delay and after-run of the pumps)
LEGS = 8  # most drives of a day
BREAK_S = 180.0  # shortest stay between two drives
LOW_CHARGE = 0.14  # state of charge at which the driver turns off to a charging station
FAST_TARGET = 0.8
DIVERT_M = 1500.0
NIGHT_H = 23.0
LONGEST_STEP_S = 3600.0
CHARGING_STEP_S = 60.0
TOWED_S = 2 * 3600.0  # to a charging point at home
NEVER = np.inf


class Phase(IntEnum):
    """What a car is doing."""

    ASLEEP = 0
    BOARDING = 1
    DRIVING = 2
    LEAVING = 3
    CHARGING_AC = 4
    CHARGING_DC = 5


HOME, WORK, AWAY = 0.0, 1.0, 2.0


class Journeys:
    """phase (n,): of Phase. For the calendar: legs (n, 8) departures in scenario seconds, kilometres, where they lead.

    A week of a driver: commutes of working days, errands, now and then a long journey; so that the mean car makes some 14,000 km and 450 h
    of driving a year (Germany's KBA 2023: 12,320 km; "Mobilität in Deutschland 2017": 3.1 trips of 12 km a car and day).
    """

    def __init__(self, cast: Cast, dice: Dice, who: Individuals, road: Road, driver: Driver, state: State, zone_s: Array) -> None:
        self.cast, self.dice, self.who, self.road, self.driver, self.state = cast, dice, who, road, driver, state
        n = who.vehicles
        self.phase = np.full(n, Phase.ASLEEP, np.int64)
        self.phase_s = np.zeros(n)
        self.new_day: Numbers = np.arange(0)  # whose day began in this step
        self.start_s = cast.start_ns / 1e9 + zone_s  # local time of the scenario's start
        self.day = np.full(n, -1, np.int64)  # since 1970, of the plan
        self.leg = np.zeros(n, np.int64)
        self.departs_s, self.leg_km = np.full((n, LEGS + 1), NEVER), np.zeros((n, LEGS + 1))
        self.leads = np.zeros((n, LEGS + 1))
        self.place = np.full(n, HOME)
        self.home = {name: state[f"world.{name}"].copy() for name in ("latitude", "longitude", "altitude_m")}
        self.rest_m = np.zeros(n)  # of a journey that charging interrupts
        self.charge_from_s = np.full(n, NEVER)  # when a plugged car begins to charge at home
        self.target = who["charge_target"].copy()
        self.refused: Mask = np.zeros(n, np.bool_)  # does not get ready: it is not driven off
        self.stands_empty: Mask = np.zeros(n, np.bool_)  # for want of charge in a weak cell group
        self.trip = (who["odometer_km"] / 12).astype(np.int64)  # number of this trip in the car's life
        everyone = np.arange(n)
        self.urban, self.motorway = who["urban"].copy(), who["motorway"].copy()
        state["body.trips"][:] = self.trip
        if cast.plan == "drive":
            road.journey_m[:] = np.inf
            road.begin(everyone, np.full(n, np.inf), self.urban, self.motorway)
            self._board(everyone)
        elif cast.plan == "calendar":
            self._plan_due()
        elif cast.plan in ("charge_ac", "charge_dc"):
            self.phase[:] = Phase.CHARGING_AC if cast.plan == "charge_ac" else Phase.CHARGING_DC
            self.target[:] = self.who["charge_target"] if cast.plan == "charge_ac" else FAST_TARGET
        state["charging.target"][:] = self.target

    def own_steps(self) -> Array:
        """(n,) s: how far each car may step by itself. 1 s while it is used; to the next event, an hour at most, while it sleeps."""
        now = self.state["time_s"]
        wait = np.minimum(self._departure_s(), self.charge_from_s) - now
        day_left = (self.day + 1) * DAY_S - (self.start_s + now) if self.cast.plan == "calendar" else np.full(len(now), np.inf)
        wait = np.ceil(np.maximum(1.0, np.minimum(wait, np.maximum(day_left, 1.0))))
        charging = self.phase >= Phase.CHARGING_AC
        asleep = self.phase == Phase.ASLEEP
        result: Array = np.where(asleep, np.minimum(wait, LONGEST_STEP_S), np.where(charging, np.minimum(wait, CHARGING_STEP_S), 1.0))
        return result

    def used(self) -> Mask:
        """(n,) the key is on."""
        result: Mask = (self.phase == Phase.BOARDING) | (self.phase == Phase.DRIVING)
        return result

    def decide(self) -> None:
        """Changes of phase that time, arrival and charge bring; before a step, so that the step's time is spent in the new phase."""
        s, phase = self.state, self.phase
        self.new_day = self.new_day[:0]
        now = s["time_s"]
        if self.cast.plan == "calendar":
            self._plan_due()
            self._change((phase == Phase.ASLEEP) | (phase == Phase.CHARGING_AC), now + 0.5 >= self._departure_s(), self._depart)
            self._change(phase == Phase.ASLEEP, now + 0.5 >= self.charge_from_s, self._plug)
        self._change(phase == Phase.BOARDING, self.phase_s >= BOARDING_S, self._drive_off)
        driving = phase == Phase.DRIVING
        self._change(driving, self.driver.arrived, self._arrive)
        self._change(driving & (self.rest_m == 0), s["battery.charge"] < LOW_CHARGE, self._divert)
        self._change(phase == Phase.LEAVING, self.phase_s >= AWAKE_S, self._sleep)
        charging = phase >= Phase.CHARGING_AC
        if charging.any():
            full = s["battery.charge"] >= self.target - 1e-4
            self._change(charging, full, self._unplug)

    def _change(self, candidates: Mask, condition: Mask, to: Callable[[Numbers], None]) -> None:
        of = np.flatnonzero(candidates & condition)
        if len(of):
            to(of)

    def _enter(self, of: Numbers, phase: Phase) -> None:
        self.phase[of], self.phase_s[of] = phase, 0.0

    def _departure_s(self) -> Array:
        return np.take_along_axis(self.departs_s, self.leg[:, None], axis=1)[:, 0]

    def _depart(self, of: Numbers) -> None:
        """Key on for the next leg of the day."""
        leg = self.leg[of]
        km, leads = self.leg_km[of, leg], self.leads[of, leg]
        long, work = km > 60, (leads == WORK) | (self.place[of] == WORK)
        urban = np.where(long, 0.2, np.where(work, 0.7 + 0.25 * self.who["urban"][of], 0.85 + 0.15 * self.who["urban"][of]))
        motorway = np.where(long, 0.75, np.where(work, np.minimum(0.9, km / 60), self.who["motorway"][of] * 0.6))
        hour = ((self.start_s[of] + self.state["time_s"][of]) % DAY_S) / 3600
        rush = np.exp(-(((hour - 8) / 1.2) ** 2)) + np.exp(-(((hour - 17.8) / 1.5) ** 2))
        self.road.crowd[of] = np.where((hour < 6) | (hour > 21), 0.08, 0.2 + 0.4 * rush)
        self.road.begin(of, km * 1000, urban, motorway)
        self.place[of] = leads
        self.leg[of] += 1
        self.charge_from_s[of] = NEVER
        self._board(of)

    def _board(self, of: Numbers) -> None:
        s, who = self.state, self.who
        self._enter(of, Phase.BOARDING)
        self.trip[of] += 1
        u = self.dice.uniforms("trip", 4, self.trip[of], of)
        usual = who["occupants"][of]
        s["body.occupants"][of] = np.where(u[0] < 0.7, usual, np.minimum(5.0, np.floor(1 + 3 * u[1])))
        trailer = (who["trailer_kg"][of] > 0) & (u[2] < who["trailer_share"][of])
        s["body.trailer"][of] = trailer
        self.road.segments[7, :, of] *= np.where(trailer, 0.85, 1.0)[:, None]
        s["body.trips"][of] += 1
        for name in ("trip_s", "drive.distance_m", "drive.regenerated_kwh", "drive.used_kwh"):
            s[name][of] = 0.0
        s["battery.trip_charged_kwh"][of] = s["battery.trip_discharged_kwh"][of] = 0.0
        self.driver.begin(of)

    def strand(self, of: Numbers) -> None:
        """These cars do not wake up: they stay where they are, this drive is not made."""
        self._enter(of, Phase.ASLEEP)

    def tow(self, of: Numbers, charge: Mask) -> None:
        """These cars stand and do not drive on: they are brought home, today's drives are not made. charge: those to be charged there."""
        self._enter(of, Phase.LEAVING)
        self.place[of] = HOME
        self.rest_m[of] = 0.0
        self.departs_s[of] = NEVER
        self.charge_from_s[of] = np.where(charge, self.state["time_s"][of] + TOWED_S, NEVER)

    def _drive_off(self, of: Numbers) -> None:
        refused = self.refused[of]
        self._enter(of[~refused], Phase.DRIVING)
        if refused.any():
            self.tow(of[refused], self.stands_empty[of[refused]])

    def _arrive(self, of: Numbers) -> None:
        self.driver.arrived[of] = False
        to_charge = self.rest_m[of] > 0
        fast = of[to_charge]
        if len(fast):
            self._enter(fast, Phase.CHARGING_DC)
            self._begin_charge(fast)
            self.target[fast] = FAST_TARGET
            self.state["battery.fast_charges"][fast] += 1
        done = of[~to_charge]
        if not len(done):
            return
        self._enter(done, Phase.LEAVING)
        now = self.state["time_s"]
        late = done[self._departure_s()[done] < now[done] + BREAK_S]
        self.departs_s[late, self.leg[late]] = np.ceil(now[late] + BREAK_S)
        home = done[(self.place[done] == HOME) & (self.state["battery.charge"][done] < self.who["plugs_below"][done])]
        local = self.start_s[home] + now[home]
        tonight = np.ceil(local / DAY_S) * DAY_S - (24 - NIGHT_H) * 3600 - self.start_s[home]
        waits = self.who["night_charging"][home] > 0
        self.charge_from_s[home] = np.where(waits, np.maximum(tonight, now[home] + AWAKE_S), now[home] + AWAKE_S)

    def _divert(self, of: Numbers) -> None:
        far = of[~np.isfinite(self.road.journey_m[of]) | (self.road.journey_m[of] - self.road.planned_m[of] > 2 * DIVERT_M)]
        if len(far):
            left = self.road.divert(far, DIVERT_M)
            self.rest_m[far] = left

    def _sleep(self, of: Numbers) -> None:
        self._enter(of, Phase.ASLEEP)
        home = of[self.place[of] == HOME]
        if self.cast.plan == "calendar" and len(home):
            # The roads are drawn, not a map's: whoever comes home is brought there while nobody looks.
            for name, there in self.home.items():
                self.state[f"world.{name}"][home] = there[home]

    def _plug(self, of: Numbers) -> None:
        self._enter(of, Phase.CHARGING_AC)
        self._begin_charge(of)
        self.target[of] = self.who["charge_target"][of]

    def _begin_charge(self, of: Numbers) -> None:
        self.charge_from_s[of] = NEVER
        self.state["battery.charges"][of] += 1
        self.state["charging.session_kwh"][of] = self.state["charging.session_s"][of] = 0.0

    def _unplug(self, of: Numbers) -> None:
        """Charged: a car on a journey goes on, another sleeps."""
        on = of[self.rest_m[of] > 0]
        if len(on):
            self.road.begin(on, self.rest_m[on], np.full(len(on), 0.15), np.full(len(on), 0.7))
            self.rest_m[on] = 0.0
            self._board(on)
        home = of[self.phase[of] >= Phase.CHARGING_AC]
        self._enter(home, Phase.LEAVING)

    def _plan_due(self) -> None:
        today = np.floor((self.start_s + self.state["time_s"]) / DAY_S).astype(np.int64)
        due = np.flatnonzero((today > self.day) & (self.phase != Phase.BOARDING) & (self.phase != Phase.DRIVING))
        if len(due):
            self._plan(due, today[due])

    def _plan(self, of: Numbers, day: NDArray[np.int64]) -> None:
        """The drives of this day, in order. What was not driven yesterday is dropped, but who is out comes home."""
        who = self.who
        u = self.dice.uniforms("day", 16, day, of)
        weekday = (day + 3) % 7  # 1970-01-01 was a Thursday; 0 Monday
        works = (who["works"][of] > 0) & (weekday < 5) & (u[0] < 0.93)
        journey = u[1] < who["journeys"][of] / 30 * np.where(weekday < 5, 0.5, 2.2)
        works &= ~journey
        k = len(of)
        departs, km, leads = np.full((k, LEGS), NEVER), np.zeros((k, LEGS)), np.zeros((k, LEGS))
        leave = who["leaves_h"][of] + 0.7 * (u[2] - 0.5)
        back = leave + who["works_h"][of] + 1.6 * (u[3] - 0.5)
        commute = who["commute_km"][of]
        self._leg(departs, km, leads, 0, works, leave, commute * (0.97 + 0.06 * u[4]), WORK)
        self._leg(departs, km, leads, 1, works, back, commute * (0.97 + 0.1 * u[5]), HOME)
        far = np.exp(np.log(45.0) + 1.9 * u[6])  # 45 to 300 km
        out = 7.5 + 3 * u[7]
        self._leg(departs, km, leads, 2, journey, out, far, AWAY)
        self._leg(departs, km, leads, 3, journey, out + far / 65 + 1.5 + 4 * u[8], far, HOME)
        free_from = np.where(works, back + commute / 35 + 0.4, 9.0)
        errands = who["errands"][of] * np.where(works, 0.5, 1.0) * np.where(journey, 0.0, 1.0)
        near = np.exp(np.log(2.0) + 2.2 * u[9] ** 1.3)  # 2 to 18 km
        stay = 0.35 + 1.4 * u[10]
        first = np.minimum(free_from + np.where(works, 1.0, 4.0) * u[11], 20.5)
        self._leg(departs, km, leads, 4, u[12] < errands, first, near, AWAY)
        self._leg(departs, km, leads, 5, u[12] < errands, first + near / 25 + stay, near * (0.9 + 0.3 * u[13]), HOME)
        second = np.maximum(first + 2 * near / 25 + stay + 0.5, 15.0) + 3 * u[14]
        also = (u[12] < errands) & (u[15] < errands - 0.6) & ~works
        self._leg(departs, km, leads, 6, also, second, 0.7 * near + 1, AWAY)
        self._leg(departs, km, leads, 7, also, second + near / 30 + 0.5, 0.7 * near + 1, HOME)
        departs = np.ceil(day[:, None] * DAY_S + departs * 3600 - self.start_s[of][:, None])
        now = self.state["time_s"][of]
        departs[departs < now[:, None]] = NEVER  # the scenario began later that day
        stranded = (self.place[of] != HOME) & ~(np.isfinite(departs).any(axis=1))
        departs[stranded, 1], km[stranded, 1], leads[stranded, 1] = np.ceil(now[stranded] + BREAK_S), commute[stranded], HOME
        order = np.argsort(departs, axis=1, kind="stable")
        for mine, new in ((self.departs_s, departs), (self.leg_km, km), (self.leads, leads)):
            mine[of, :LEGS] = np.take_along_axis(new, order, axis=1)
        self.departs_s[of, LEGS] = NEVER
        self.leg[of], self.day[of] = 0, day
        self.new_day = of

    @staticmethod
    def _leg(
        departs: Array,
        km: Array,
        leads: Array,
        column: int,
        drawn: Mask,
        hour: Array,
        far: Array,
        to: float,
    ) -> None:
        departs[:, column] = np.where(drawn, hour, NEVER)
        km[:, column], leads[:, column] = far, to
