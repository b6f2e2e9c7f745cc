"""A few minutes of every drive on some days of a car's years: many drives of each of many vehicles, in few rows.

What a detector needs that is to know each vehicle by itself: which differences are the vehicle's own, and what one vehicle's drives differ
by over seasons, roads and habits.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from dbc.compiler import compile_dbc
from dbc.vehicles import DBC_FILES
from simulator.dataset_file import WideFile
from simulator.dataset_plan import DatasetRequest, Member, chosen
from simulator.dice import Dice
from simulator.journeys import DAY_S
from simulator.months import Lane, Months

__all__ = ["make_drives"]

MOST_S = 5400.0  # of driving on a day; what comes later is left out, as a few long journeys would take most of the time
SETTLES_S = 10  # after the start, until pumps run
AT_ONCE = 0.4  # of the drives are taken from their beginning on, others from some later second on, where they last so long
MOST_DRIVES = 64


def make_drives(request: DatasetRequest, batch: Sequence[Member]) -> dict[int, dict[str, WideFile]]:
    """Files of these vehicles, which are of one seed; by their numbers. Rows a second apart within a drive, and none between drives."""
    compiled = compile_dbc(DBC_FILES)
    columns = chosen(compiled, request.signals)
    names = [compiled.schema.names[at] for at in columns]
    days = int(min(request.days, max(1, request.duration_s // DAY_S)))
    begins = np.floor(np.arange(days) * request.duration_s / days / DAY_S) * DAY_S
    lanes = [Lane(member.number, float(begin), float(begin) + DAY_S) for member in batch for begin in begins]
    months = Months(request.what, batch[0].seed, lanes, names, request.start_ns)
    dice = Dice(batch[0].seed, tuple(lane.vehicle for lane in lanes))
    shift = dice.uniforms("cut", MOST_DRIVES, np.array([lane.from_s for lane in lanes], np.int64))
    shift = np.floor(np.where(shift < AT_ONCE, 0.0, (shift - AT_ONCE) / (1 - AT_ONCE) * request.latest_s))
    drive, second = np.full(len(lanes), -1), np.zeros(len(lanes), np.int64)
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for rows in months.stretches():
        lane = rows.lane
        take = np.zeros(rows.tick.shape, np.bool_)
        for at, ready in enumerate(rows.ready):
            drive[lane] += ready & (second[lane] == 0)
            second[lane] = (second[lane] + 1) * ready
            since = second[lane] - shift[np.minimum(drive[lane], MOST_DRIVES - 1), lane]
            take[at] = ready & (since > SETTLES_S) & (since <= request.cut_s + SETTLES_S)
        months.drop(np.flatnonzero(months.driving_s > MOST_S))
        row, column = np.nonzero(take)
        parts.append((lane[column], rows.time_s[row, column], rows.values[row, :, column]))
    whose = np.concatenate([part[0] for part in parts]) // days
    time_s = np.concatenate([part[1] for part in parts])
    values = np.concatenate([part[2] for part in parts])
    titles = {name: compiled.schema.units[at] for name, at in zip(names, columns, strict=True)}
    files = {}
    for place, member in enumerate(batch):
        mine = np.flatnonzero(whose == place)
        mine = mine[np.argsort(time_s[mine], kind="stable")]
        file = WideFile(request.folder / f"{member.name}.parquet", titles, request.about(member, months.start_ns))
        with ExitStack() as stack:
            stack.enter_context(file)
            file.write(months.start_ns / 1e9 + time_s[mine], list(values[mine].T))
        files[member.number] = {"ticks": file}
    return files
