"""Which ECUs send which J1939 group: a first pass over a log, so that each of them gets signals of its own."""

from __future__ import annotations

import numpy as np

from dbc.frames import EFF_FLAG, ERR_FLAG, RTR_FLAG, FrameBlock
from dbc.plan import NOT_PGN, CompiledDbc
from dbc.protocols.j1939 import BAM, ETP_CONTROL, ETP_RTS, RTS, TP_CONTROL, pgns_of

__all__ = ["SourceSurvey"]

SOURCES = 256


class SourceSurvey:
    """`feed` every block; `sources` then is what `compile_dbc(files, sources=...)` takes."""

    def __init__(self, compiled: CompiledDbc) -> None:
        """Only the groups that the DBC files have messages for are looked at."""
        groups = compiled.plan.message_pgn
        self._groups = np.unique(groups[groups != NOT_PGN]).astype(np.int64)
        self._seen = np.zeros((len(self._groups), SOURCES), np.bool_)

    @property
    def needed(self) -> bool:
        """Whether there is any group to look for."""
        return len(self._groups) > 0

    def feed(self, block: FrameBlock) -> None:
        if not self.needed:
            return
        flags = block.frame_id & np.uint32(EFF_FLAG | RTR_FLAG | ERR_FLAG)
        at = np.flatnonzero(flags == EFF_FLAG)
        identifier = block.frame_id[at]
        self._mark(pgns_of(identifier), identifier)
        form = identifier >> np.uint32(16) & np.uint32(0xFF)
        first = block.data[at, 0]
        announced = (form == TP_CONTROL) & ((first == BAM) | (first == RTS)) | (form == ETP_CONTROL) & (first == ETP_RTS)
        if announced.any():
            group = block.data[at[announced], 5:8].astype(np.int64)
            self._mark((group[:, 0] | group[:, 1] << 8 | group[:, 2] << 16) & 0x3FFFF, identifier[announced])

    @property
    def sources(self) -> dict[int, tuple[int, ...]]:
        """Parameter group to the source addresses that sent it, ascending; groups that nobody sent are left out."""
        found = {group: tuple(np.flatnonzero(seen).tolist()) for group, seen in zip(self._groups.tolist(), self._seen, strict=True)}
        return {group: addresses for group, addresses in found.items() if addresses}

    def _mark(self, group: np.ndarray[tuple[int], np.dtype[np.int64]], identifier: np.ndarray[tuple[int], np.dtype[np.uint32]]) -> None:
        place = np.minimum(self._groups.searchsorted(group), len(self._groups) - 1)
        known = self._groups.take(place) == group
        self._seen[place[known], identifier[known] & np.uint32(0xFF)] = True
