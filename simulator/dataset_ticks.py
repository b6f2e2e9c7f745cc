"""Vehicles once a second, whole: the plain form of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from dbc.compiler import compile_dbc
from dbc.vehicles import DBC_FILES
from simulator.dataset_file import WideFile
from simulator.dataset_plan import DatasetRequest, Member, chosen
from simulator.play import Play, TickDisturbances
from simulator.ticks import BUS_COLUMNS, Ticks

__all__ = ["make_ticks"]

BUFFER_BYTES = 192 * 2**20
LONGEST_GROUP = 3600  # rows


def make_ticks(request: DatasetRequest, batch: Sequence[Member]) -> dict[int, dict[str, WideFile]]:
    """Files of these vehicles, which are of one seed; by their numbers. A row for every second; none while a car sleeps, one a minute while
    it charges."""
    compiled = compile_dbc(DBC_FILES)
    schema = compiled.schema
    columns = chosen(compiled, request.signals)
    seed, numbers = batch[0].seed, [member.number for member in batch]
    play = Play(request.what, seed, numbers, request.start_ns)
    start_ns, state = play.cars.cast.start_ns, play.state
    ticks = Ticks(play, schema, start_ns, (seed, numbers[0]), np.float32)
    disturbances = TickDisturbances(request.what, seed, numbers, compiled)
    rows = max(1, min(LONGEST_GROUP, request.duration_s, BUFFER_BYTES // (4 * len(schema) * len(batch))))
    values = np.empty((rows, len(schema), len(batch)), np.float32)
    time_s, awake = np.empty((rows, len(batch))), np.empty((rows, len(batch)), np.bool_)
    names = {schema.names[at]: schema.units[at] for at in columns}
    with ExitStack() as stack:
        files = [
            stack.enter_context(WideFile(request.folder / f"{member.name}.parquet", names, request.about(member, start_ns)))
            for member in batch
        ]
        while (state["time_s"] < request.duration_s).any():
            filled = 0
            while filled < rows and (state["time_s"] < request.duration_s).any():
                play.advance()
                ticks.seconds += 1  # numbers the noise
                ticks.now(values[filled])
                time_s[filled] = state["time_s"]
                awake[filled] = np.any([state[bus] > 0 for bus in BUS_COLUMNS], axis=0)
                filled += 1
            disturbances.apply(values[:filled], time_s[:filled])
            for column, file in enumerate(files):
                keep = np.flatnonzero(awake[:filled, column] & (time_s[:filled, column] <= request.duration_s))
                file.write(start_ns / 1e9 + time_s[keep, column], [values[keep, at, column] for at in columns])
    return {member.number: {"ticks": file} for member, file in zip(batch, files, strict=True)}
