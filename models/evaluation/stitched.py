"""From the events of a vehicle's lanes to its findings, as `models.judge.PackJudge` would have had them on one vehicle's whole life.

A lane is a stretch of the vehicle's ticks, and knows nothing of the drives before it; here the drives of all its lanes are counted through,
so that a finding may be confirmed by drives of an earlier lane. A finding that is active where a lane ends, and rises again in the first
drive of the next, is the same one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.drives import Level
from models.evaluation.stream import CLEARED, EVIDENCE, RAISED, SURE, Event

__all__ = ["Found", "findings"]


@dataclass(frozen=True, slots=True)
class Found:
    """A finding of one pack in one vehicle. seen_s: the alarm rose; ticket_s: it reached ticket level, None: never."""

    vehicle: int
    fault_code: str
    seen_s: float
    ticket_s: float | None


def findings(
    vehicle: int,
    fault_code: str,
    need: int,
    of: int,
    lanes: Sequence[int],
    drives: Mapping[int, int],
    events: Mapping[int, Sequence[Event]],
) -> list[Found]:
    """Of one pack in one vehicle. lanes: its lanes in the order of their times. drives: how many drives that count each lane had. events:
    of each lane, in their order."""
    found: list[Found] = []
    evidence: set[int] = set()
    counted = 0
    open_since: float | None = None
    ticket_s: float | None = None

    def level(drive: int, sure: bool) -> Level:
        return Level.TICKET if sure or sum(one in evidence for one in range(drive - of + 1, drive + 1)) >= need else Level.SEEN

    for lane in lanes:
        active = False
        for event in events.get(lane, ()):
            drive = counted + event.drive
            if event.kind in (RAISED, EVIDENCE):
                evidence.add(drive)
            if event.kind == CLEARED:
                if open_since is not None:
                    found.append(Found(vehicle, fault_code, open_since, ticket_s))
                active, open_since, ticket_s = False, None, None
                continue
            if event.kind == RAISED:
                if open_since is not None and event.drive > 0:  # it had cleared in between, while nobody looked
                    found.append(Found(vehicle, fault_code, open_since, ticket_s))
                    open_since, ticket_s = None, None
                active = True
                if open_since is None:
                    open_since = event.time_s
            if active and ticket_s is None and (event.kind != SURE or event.sure) and level(drive, event.sure) is Level.TICKET:
                ticket_s = event.time_s
        counted += drives[lane]
    if open_since is not None:
        found.append(Found(vehicle, fault_code, open_since, ticket_s))
    return found
