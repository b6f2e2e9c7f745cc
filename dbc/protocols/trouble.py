"""Trouble codes on a bus: what every ECU says about itself, as it passes by. No DBC is needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dbc.frames import EFF_FLAG, EFF_MASK, ERR_FLAG, RTR_FLAG, FrameBlock
from dbc.protocols.dtc import DM1_PGN, DM2_PGN, DtcReport, from_answer, from_group
from dbc.protocols.isotp import IsoTp
from dbc.protocols.j1939 import TRANSPORT_FORMATS, Transport, pgn_of, pgns_of
from dbc.protocols.transfers import Counts

__all__ = ["TroubleCodes", "TroubleEvent"]

# Identifiers of diagnostic answers that are so by standard; those of a maker's own are given to TroubleCodes.
OBD_FIRST, OBD_LAST = 0x7E8, 0x7EF  # ISO 15765-4, 11 bit
FIXED_ANSWER = 0x18DA_F100  # ISO 15765-4, 29 bit; the tester is 0xF1


@dataclass(frozen=True, slots=True)
class TroubleEvent:
    """A report of one ECU."""

    timestamp_ns: int
    channel: str
    identifier: int  # of the answer (with EFF_FLAG where it has 29 bits); of J1939 the group number
    source: int | None  # J1939 source address
    service: int  # the answer's service byte: each service's report stands for itself; 0 of J1939
    report: DtcReport


class TroubleCodes:
    """`feed` blocks in order; a report that repeats its ECU's last one is not given again."""

    def __init__(self, answers: tuple[int, ...] = ()) -> None:
        """answers: further identifiers (with EFF_FLAG where they have 29 bits) of diagnostic answers."""
        self._answers = np.array(sorted(answers), np.uint32)
        self._transport, self._isotp = Transport(), IsoTp()
        self._last: dict[tuple[str, int, int | None, int], DtcReport] = {}

    @property
    def counts(self) -> Counts:
        total = Counts()
        total += self._transport.counts
        total += self._isotp.counts
        return total

    def feed(self, block: FrameBlock) -> Iterator[TroubleEvent]:
        """The new reports of the block, in order."""
        flags = block.frame_id & np.uint32(EFF_FLAG | RTR_FLAG | ERR_FLAG)
        standard, extended = flags == 0, flags == EFF_FLAG
        identifier = block.frame_id & np.uint32(EFF_MASK)
        answer = standard & (identifier >= OBD_FIRST) & (identifier <= OBD_LAST)
        answer |= extended & ((identifier & np.uint32(0x1FFF_FF00)) == FIXED_ANSWER)
        answer |= np.isin(block.frame_id, self._answers)
        transport = extended & ((identifier >> np.uint32(24) & np.uint32(3)) == 0)
        transport &= np.isin(identifier >> np.uint32(16) & np.uint32(0xFF), TRANSPORT_FORMATS)
        single = extended & np.isin(pgns_of(identifier), (DM1_PGN, DM2_PGN))
        for frame in np.flatnonzero(answer | transport | single).tolist():
            found = self._one(block, frame, bool(answer[frame]), bool(single[frame]))
            if found is not None:
                yield found

    def _one(self, block: FrameBlock, frame: int, answer: bool, single: bool) -> TroubleEvent | None:
        raw = int(block.frame_id[frame])
        stamp_ns, channel = int(block.timestamp_ns[frame]), int(block.channel[frame])
        payload = block.data[frame, : block.length[frame]].tobytes()
        if answer:
            whole = self._isotp.feed(channel, raw, stamp_ns, payload)
            report = None if whole is None else from_answer(whole)
            return self._event(stamp_ns, block.channels[channel], raw, None, whole[0] if whole else 0, report)
        if single:
            pgn, source = pgn_of(raw & EFF_MASK), raw & 0xFF
        else:
            group = self._transport.feed(channel, raw & EFF_MASK, stamp_ns, payload)
            if group is None:
                return None
            pgn, source, payload = group.pgn, group.source, group.payload
        return self._event(stamp_ns, block.channels[channel], pgn, source, 0, from_group(pgn, payload))

    def _event(
        self, stamp_ns: int, channel: str, identifier: int, source: int | None, service: int, report: DtcReport | None
    ) -> TroubleEvent | None:
        if report is None:
            return None
        key = (channel, identifier, source, service)  # bounded: two groups of 256 sources, and the few identifiers of answers
        if self._last.get(key) == report:
            return None
        self._last[key] = report
        return TroubleEvent(stamp_ns, channel, identifier, source, service, report)
