"""What the benchmarks measure on: a simulated drive, or the user's recording, at 1 Hz; and how much, where the user says so."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cansight.errors import UsageError
from dbc.compiler import CompiledDbc, compile_dbc
from dbc.decoder import Decoder
from dbc.frames import FrameBlock
from dbc.logs import open_log
from dbc.sampler import Sampler, Snapshot
from dbc.vehicles import DBC_FILES

DRIVE_S = 120


def whole_number(variable: str, default: int) -> int:
    """What an environment variable says, at least 1. Raises UsageError."""
    said = os.environ.get(variable, str(default))
    if not said.isascii() or not said.isdigit() or int(said) == 0:
        raise UsageError(f"{variable}: expected a whole number from 1 on, found {said!r}")
    return int(said)


@dataclass(frozen=True)
class Material:
    """A recording with its DBC, or without them a simulated drive."""

    log: str | None = None
    files: tuple[str, ...] = ()

    @cached_property
    def name(self) -> str:
        return self.log or f"a simulated drive of {DRIVE_S} s"

    @cached_property
    def compiled(self) -> CompiledDbc:
        return compile_dbc(self.files or DBC_FILES)

    @cached_property
    def snapshots(self) -> list[Snapshot]:
        """Every tick; at least two."""
        schema = self.compiled.schema
        decoder, sampler = Decoder(self.compiled, schema.channels), Sampler(schema)
        found = [snapshot for block in self._frames() for snapshot in sampler.feed(block, decoder.decode(block))]
        found += sampler.finish()
        if len(found) < 2 or not (found[-1].reason == 0).any():
            raise UsageError(
                f"{self.name}: expected at least two ticks with a signal of the DBC, found {len(found)} ticks; is it this DBC's?"
            )
        return found

    @cached_property
    def seen(self) -> NDArray[np.intp]:
        """Columns of the signals that the drive shows."""
        return np.flatnonzero(self.snapshots[-1].reason == 0)

    def _frames(self) -> Iterator[FrameBlock]:
        if self.log is not None:
            return open_log(self.log)
        from simulator import drive

        return drive("healthy", 1, DRIVE_S)
