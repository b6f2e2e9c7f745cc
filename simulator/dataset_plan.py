"""What a data set is asked to hold: which vehicles, which split each is in and what seed it has, which signals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dbc.plan import CompiledDbc
from simulator.errors import DatasetError
from simulator.scenario import Scenario

__all__ = ["DRIVES", "MINUTES", "SPLITS", "TICKS", "DatasetRequest", "Member", "chosen", "fitting", "members"]

TICKS, MINUTES, DRIVES = "ticks", "minutes", "drives"
SPLITS = ("training", "calibration", "test")
PATTERN = (0, 0, 0, 1, 2)  # of five vehicles one after the other: which split
WITHOUT_TICKS = ("*.Checksum", "*.AliveCounter")  # of a single frame; a tick has none
IDENTITY = ("GW_Vin.*",)


@dataclass(frozen=True, slots=True)
class Member:
    """A vehicle of the data set. `sim drive --seed SEED --vehicle NUMBER` drives the same one."""

    number: int
    split: str
    seed: int

    @property
    def name(self) -> str:
        return f"vehicle-{self.number:04d}"


@dataclass(frozen=True, slots=True)
class DatasetRequest:
    """What is asked for. resolution: TICKS, MINUTES or DRIVES. signals: globs over Message.Signal; none: all. start_ns: instead of the
    scenario's. days, cut_s, latest_s: of DRIVES: of each vehicle, so many days, and of each drive so long a part, which begins within the
    first latest_s of the drive."""

    what: Scenario
    seed: int
    vehicles: int
    duration_s: int
    folder: Path
    resolution: str = TICKS
    signals: tuple[str, ...] = ()
    version: str = ""
    start_ns: int | None = None
    days: int = 30
    cut_s: int = 240
    latest_s: int = 900

    def about(self, member: Member, start_ns: int) -> dict[str, str]:
        """Of a vehicle's file, in its metadata."""
        whose = {"vehicle": str(member.number), "split": member.split, "seed": str(member.seed)}
        return whose | {"scenario": self.what.name, "start_ns": str(start_ns), "version": self.version}


def members(seed: int, vehicles: int) -> tuple[Member, ...]:
    """Three of five vehicles train, one calibrates, one tests. Each split is a fleet of its own seed (3 x seed, and the two after it), so
    that it shares neither cars nor drivers nor the weather with another, nor with a data set of another seed."""
    return tuple(
        Member(number, SPLITS[PATTERN[number % len(PATTERN)]], 3 * seed + PATTERN[number % len(PATTERN)]) for number in range(vehicles)
    )


def chosen(compiled: CompiledDbc, globs: Sequence[str] = ()) -> NDArray[np.intp]:
    """The signals that are wanted, by their numbers: without checksums, counters, multiplexers and the VIN. Raises DatasetError for a glob
    that fits none."""
    names = compiled.schema.names
    selectors = set(compiled.plan.row_signal[compiled.plan.slot_row].tolist())
    usable = [number for number, name in enumerate(names) if not fitting(name, (*WITHOUT_TICKS, *IDENTITY)) and number not in selectors]
    for glob in globs:
        if not any(fnmatchcase(names[number], glob) for number in usable):
            raise DatasetError(f"--signals: no signal fits {glob!r}; signals are named Message.Signal, and * and ? may be used")
    return np.array([number for number in usable if not globs or fitting(names[number], globs)], np.intp)


def fitting(name: str, globs: Sequence[str]) -> bool:
    """Whether one of the globs fits."""
    return any(fnmatchcase(name, glob) for glob in globs)
