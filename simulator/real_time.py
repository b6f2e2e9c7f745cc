"""Real-time scheduling of threads that must wake when they want to, where the system allows it.

On a busy machine an ordinary thread that sleeps until an instant is woken up to some milliseconds late, however its niceness is set; with
SCHED_FIFO it is woken within 0.1 ms (measured: five busy processes on two cores, 99th percentile 3.5-5 ms and 0.05-0.07 ms). It takes root,
CAP_SYS_NICE or a limit on real-time priority (`ulimit -r`); without them nothing changes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

__all__ = ["RealTime"]

PRIORITY = 1  # the lowest: above every ordinary thread, below whatever else is real time here


class RealTime:
    """`with RealTime(threads) as real_time`: while it lasts, or until `give_back`.

    threads: their native identifiers. `granted`: whether the system allowed it.
    """

    def __init__(self, threads: Iterable[int]) -> None:
        self.granted = False
        self._threads = tuple(threads)
        self._before: list[tuple[int, int, os.sched_param]] = []

    def __enter__(self) -> RealTime:
        try:
            for thread in self._threads:
                with contextlib.suppress(ProcessLookupError):  # it has ended, and wants no more
                    before = thread, os.sched_getscheduler(thread), os.sched_getparam(thread)
                    # A process that a thread of ours starts is an ordinary one.
                    os.sched_setscheduler(thread, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(PRIORITY))
                    self._before.append(before)
            self.granted = bool(self._before)
        except OSError:  # not allowed: frames are as late as the machine is busy, and the replay's report says how late
            self.give_back()
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def give_back(self) -> None:
        """Ordinary scheduling again. May be called more than once."""
        self.granted = False
        for thread, policy, parameter in self._threads_left():
            with contextlib.suppress(ProcessLookupError):  # the thread has ended
                os.sched_setscheduler(thread, policy, parameter)

    def _threads_left(self) -> Iterator[tuple[int, int, os.sched_param]]:
        while self._before:
            yield self._before.pop()
