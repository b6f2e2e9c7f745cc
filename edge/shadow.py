"""When a new pack may speak: it runs in shadow beside the one before it, and is promoted after so many healthy minutes, or reverted.

A vehicle has a real fault once in years, so a finding that the pack before it does not share is most likely a false one. What both see
is a fault: it neither speeds the trial up nor ends it.
"""

from dataclasses import dataclass, replace
from enum import Enum, auto

__all__ = ["ALONE_TICKS", "Outcome", "Trial", "judge"]

ALONE_TICKS = 600
"""A new pack may be so much quicker than the old one in finding a fault that lasts."""


class Outcome(Enum):
    """How a trial stands."""

    GOES_ON = auto()
    PROMOTED = auto()
    REVERTED = auto()


@dataclass(frozen=True, slots=True)
class Trial:
    """What is remembered of a pack in shadow.

    healthy_ticks: judged ones without an alarm of either pack. alone_ticks: of its alarm that is active now, without the other's.
    shared: the other pack's alarm has been active during this one.
    """

    healthy_ticks: int = 0
    alone_ticks: int = 0
    shared: bool = False


def judge(trial: Trial, needed_ticks: int, *, known: bool, active: bool, others: bool) -> tuple[Trial, Outcome]:
    """One tick of the pack in shadow.

    known: it could judge the tick. active: its alarm is. others: the alarm of the pack that rules is (False where there is none).
    """
    if active and others:
        return replace(trial, alone_ticks=0, shared=True), Outcome.GOES_ON
    if active and not trial.shared:
        alone = trial.alone_ticks + 1
        return replace(trial, alone_ticks=alone), Outcome.GOES_ON if alone < ALONE_TICKS else Outcome.REVERTED
    if active:  # the other's has ended first
        return trial, Outcome.GOES_ON
    if trial.alone_ticks:  # a finding that nobody shared is over
        return trial, Outcome.REVERTED
    trial = Trial(trial.healthy_ticks + (known and not others))
    return trial, Outcome.PROMOTED if trial.healthy_ticks >= needed_ticks and not others else Outcome.GOES_ON
