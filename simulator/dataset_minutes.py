"""A fleet's year: every minute that a car is awake, and every second where it matters.

A vehicle's time is cut into fortnights that run beside each other, each begun with the age, the distance and the wear that its habits lead
to expect by then (`simulator.cast.Cast.later_s`); so counters of distance and energy may jump a little where one ends.

minutes  the mean of each signal over samples ten seconds apart, states and counts their last value; least and most of some. A charging car
         is sampled once a minute. A parked car whose buses sleep has no rows.
ticks    once a second from a fault's onset to its repair, and for one healthy drive a week; without what is as good once a minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from dbc.compiler import compile_dbc
from dbc.vehicles import DBC_FILES
from simulator.dataset_file import WideFile
from simulator.dataset_plan import DatasetRequest, Member, chosen, fitting
from simulator.journeys import DAY_S, Phase
from simulator.lanes import narrowed
from simulator.minutes import Minutes
from simulator.play import Play, TickDisturbances
from simulator.samples import Samples
from simulator.signals import Traits
from simulator.spool import Spool
from simulator.state import Array, Mask
from simulator.ticks import BUS_COLUMNS

__all__ = ["make_minutes"]

Numbers = NDArray[np.intp]

WEEK_S = 7 * DAY_S
SLICE_S = 2 * WEEK_S
SAMPLE_S = 10.0
CAPACITY = 8192  # samples that are made into signals together
GROUP_ROWS = 1 << 16
SHORT_KM = 12.0  # of the week's healthy drive; in the last two days of a week without such a drive any will do
LAST_DAYS_S = 2 * DAY_S
LEFT, FEW = 0.75, 64  # when so many of the lanes are left they go on alone, unless they are few

LEFT_OUT = ("BMS_ModuleVoltage.*",)  # sums of four cells; a ninth of the bytes
# Kept once a minute alone: cells and modules one by one (their least, greatest and spread stay: BMS_CellStatistics), what gateways repeat,
# and driver assistance.
COARSE = (
    "BMS_CellVoltages.*",
    "BMS_CellTemperatures.*",
    "BMS_ModuleResistance.*",
    "GW_Motion.*",
    "GW_Powertrain.*",
    "GW_Chassis.*",
    "NM_*",
    "ADAS_*",
    "RAD_*",
    "IC_*",
    "MCU_Phase.*",
    "MCU_Detail.PhaseCurrent?",
    "VCU_EnergyFlow.*",
    "GNSS_Time.*",
)
EXTREMES = (
    "BMS_Pack.PackVoltage",
    "BMS_Pack.PackCurrent",
    "BMS_CellStatistics.CellVoltage*imum",
    "BMS_CellStatistics.CellVoltageSpread",
    "BMS_Thermal.CellTemperatureMaximum",
    "BMS_Insulation.InsulationResistance",
    "MCU_Motor.MotorSpeed",
    "MCU_Motor.MotorTorque",
    "MCU_Temperatures.StatorTemperature",
    "MCU_Temperatures.InverterTemperature",
    "MCU_Bearing.Bearing*",
    "ESP_Motion.VehicleSpeed",
    "ESP_Motion.LongitudinalAcceleration",
    "ESP_Brake.BrakePressure",
    "TMS_BatteryLoop.BatteryCoolantFlow",
    "TMS_BatteryLoop.BatteryCoolantPressure",
    "TMS_BatteryPump.BatteryPumpCurrent",
    "TMS_Radiator.FanCurrent",
    "BCM_LowVoltage.LowVoltage",
    "CLIM_Filter.FilterPressureDrop",
)


def make_minutes(request: DatasetRequest, batch: Sequence[Member]) -> dict[int, dict[str, WideFile]]:
    """Files of these vehicles, which are of one seed; by their numbers."""
    year = _Year(request, batch)
    with year.minutes_spool, year.ticks_spool:
        year.run()
        return {member.number: year.write(number, member) for number, member in enumerate(batch)}


class _Week:
    """Which cars are on their healthy drive of the week now."""

    def __init__(self, play: Play) -> None:
        lanes = play.state.vehicles
        self._play = play
        self._seen = np.full(lanes, -1, np.int64)  # week of the last such drive
        self._before = play.cars.journeys.phase.copy()
        self.on: Mask = np.zeros(lanes, np.bool_)

    def go_on(self, play: Play, lanes: Numbers) -> None:
        self._play = play
        self._seen, self._before, self.on = self._seen[lanes], self._before[lanes], self.on[lanes]

    def look(self, healthy: Mask) -> None:
        journeys, time_s = self._play.cars.journeys, self._play.state["time_s"]
        phase = journeys.phase
        began = (phase == Phase.BOARDING) & (self._before != Phase.BOARDING)
        if began.any():
            at = np.flatnonzero(began & healthy)
            week, into_s = np.divmod(time_s[at], WEEK_S)
            short = (journeys.leg_km[at, journeys.leg[at] - 1] <= SHORT_KM) | (into_s > WEEK_S - LAST_DAYS_S)
            take = short & (week > self._seen[at])
            self.on[at[take]] = True
            self._seen[at[take]] = week[take].astype(np.int64)
        self.on &= (phase >= Phase.BOARDING) & (phase <= Phase.LEAVING)
        np.copyto(self._before, phase)


class _Year:
    """Of the vehicles of a batch; a lane is a fortnight of one of them."""

    def __init__(self, request: DatasetRequest, batch: Sequence[Member]) -> None:
        self.request, self.batch = request, batch
        compiled = compile_dbc(DBC_FILES)
        schema = self.schema = compiled.schema
        slices = int(np.ceil(request.duration_s / SLICE_S))
        self.whose = np.repeat(np.arange(len(batch)), slices)
        later_s = np.tile(SLICE_S * np.arange(slices), len(batch))
        self.lane = np.arange(len(self.whose))  # of what runs; in the end fewer than there were
        self.end_s: Array = np.minimum(later_s + SLICE_S, request.duration_s)
        seed, numbers = batch[0].seed, [batch[number].number for number in self.whose.tolist()]
        self.play = Play(request.what, seed, numbers, request.start_ns, later_s.tolist())
        self.start_ns = self.play.cars.cast.start_ns
        self.windows = _windows(self.play, numbers)
        self.week = _Week(self.play)
        lanes = len(numbers)
        # Room for the samples of a step in which every lane has one, twice.
        self.samples = Samples(self.play, schema, self.start_ns, (seed, numbers[0]), max(CAPACITY, 2 * lanes))
        self.disturbances = TickDisturbances(request.what, seed, numbers, compiled)
        self.disturbances.within(later_s, self.end_s)
        self._kinds = np.zeros((2, self.samples.capacity), np.bool_)  # of each sample: for the minutes, for the ticks
        columns = chosen(compiled, request.signals)
        self.columns = np.array([at for at in columns if request.signals or not fitting(schema.names[at], LEFT_OUT)], np.intp)
        names = [schema.names[at] for at in self.columns]
        self.fine = np.array([row for row, name in enumerate(names) if not fitting(name, COARSE)], np.intp)  # of the columns
        self._bus_rows = [int(np.argmax(schema.channel == channel)) for channel in range(len(schema.channels))]  # a signal of each bus
        extremes = [row for row, name in enumerate(names) if fitting(name, EXTREMES)]
        held = Traits(schema).held[self.columns]
        self.minutes = Minutes(lanes, schema.channel[self.columns], held, np.array(extremes, np.intp), schema.scale[self.columns])
        self.titles = {name: schema.units[at] for name, at in zip(names, self.columns, strict=True)}
        for ending in ("minimum", "maximum"):
            self.titles |= {f"{names[row]}.{ending}": schema.units[self.columns[row]] for row in extremes}
        self.fine_titles = {names[row]: self.titles[names[row]] for row in self.fine}
        self.minutes_spool, self.ticks_spool = Spool(request.folder, len(self.titles)), Spool(request.folder, len(self.fine))

    def run(self) -> None:
        """All lanes to the end of their time."""
        samples, phase_of_sampling = self.samples, self.lane % SAMPLE_S  # so that each step has as many
        while True:
            play, state = self.play, self.play.state
            steps = play.advance()
            now = state["time_s"]
            live = now <= self.end_s
            left = int(np.count_nonzero(live))
            if not left:
                break
            awake = live & np.logical_or.reduce([state[bus] > 0 for bus in BUS_COLUMNS])
            faulty = ((now > self.windows[0]) & (now <= self.windows[1])).any(axis=0)
            self.week.look(~faulty)
            tick = awake & (faulty | self.week.on)
            minute = awake & ((now % SAMPLE_S == phase_of_sampling) | (steps > 1.0))
            lanes = np.flatnonzero(tick | minute)
            if not samples.room(len(lanes)):
                self._flush()
            at = samples.add(lanes)
            self._kinds[0, at], self._kinds[1, at] = minute[lanes], tick[lanes]
            if left < LEFT * len(live) and left > FEW:
                self._narrow(np.flatnonzero(live))
                phase_of_sampling = self.lane % SAMPLE_S
        self._flush()
        rows = self.minutes.finish()
        self.minutes_spool.add(self.whose[rows.lane], rows.begin_s, rows.value)

    def _narrow(self, lanes: Numbers) -> None:
        """These go on alone; the others are done."""
        self._flush()
        self.play = narrowed(self.play, lanes)
        self.week.go_on(self.play, lanes)
        self.samples.go_on(self.play)
        self.lane, self.end_s, self.windows = self.lane[lanes], self.end_s[lanes], self.windows[:, :, lanes]

    def _flush(self) -> None:
        samples = self.samples
        filled = samples.filled
        if not filled:
            return
        lane, time_s, kinds = self.lane[samples.lane[:filled]], samples.time_s[:filled], self._kinds[:, :filled]
        values = samples.read()
        asleep = np.isnan(values[self._bus_rows]).T
        self.disturbances.apply_to(values, lane, time_s)
        row_wise = values[self.columns].T.copy()
        of = np.flatnonzero(kinds[1])
        self.ticks_spool.add(self.whose[lane[of]], time_s[of], row_wise[of][:, self.fine])
        of = np.flatnonzero(kinds[0])
        for whole in self.minutes.feed(lane[of], time_s[of], row_wise[of], asleep[of]):
            self.minutes_spool.add(self.whose[whole.lane], whole.begin_s, whole.value)

    def write(self, number: int, member: Member) -> dict[str, WideFile]:
        files = {}
        for kind, spool, titles in (("minutes", self.minutes_spool, self.titles), ("ticks", self.ticks_spool, self.fine_titles)):
            time_s, value = spool.rows(number)
            file = WideFile(self.request.folder / f"{member.name}.{kind}.parquet", titles, self.request.about(member, self.start_ns))
            with ExitStack() as stack:
                stack.enter_context(file)
                for first in range(0, len(time_s), GROUP_ROWS):
                    part = slice(first, first + GROUP_ROWS)
                    file.write(self.start_ns / 1e9 + time_s[part], list(value[part].T))
            files[kind] = file
        return files


def _windows(play: Play, numbers: Sequence[int]) -> NDArray[np.float64]:
    """(2, k, lanes): from when to when each lane has a fault, s; inf where it has none."""
    begins, ends = [], []
    for course in play.courses:
        begins.append(course.onset_s)
        ends.append(course.repaired_s)
    of = {number: play.what.windows(play.seed, number) for number in set(numbers)}
    for rank in range(max(map(len, of.values()), default=0)):
        mine = [of[number][rank] if rank < len(of[number]) else None for number in numbers]
        begins.append(np.array([np.inf if one is None else one.from_s for one in mine]))
        ends.append(np.array([np.inf if one is None else one.from_s + one.for_s for one in mine]))
    if not begins:
        begins, ends = [np.full(len(numbers), np.inf)], [np.full(len(numbers), np.inf)]
    return np.array([begins, ends])
