"""One bus as the agent sees it: its state and its counters. Sleeping and being down are states, not findings."""

import logging
from enum import StrEnum

import msgspec
import numpy as np
from numpy.typing import NDArray

ASLEEP_S = 5.0  # without a frame for this long a bus is asleep

# Classes of an error frame, in its identifier: <linux/can/error.h>
CAN_ERR_BUSOFF, CAN_ERR_RESTARTED = 0x40, 0x100

log = logging.getLogger(__name__)


class State(StrEnum):
    """Of a bus, as `status.json` says it."""

    AWAKE = "awake"
    ASLEEP = "asleep"
    BUS_OFF = "bus-off"  # the controller has left the bus after too many errors
    DOWN = "down"  # the interface is down or gone


class ChannelStatus(msgspec.Struct):
    """What status.json says of a channel. Counters run since this start of the agent."""

    state: State = State.ASLEEP
    frames: int = 0
    frames_dropped: int = 0  # lost because the agent was late: the kernel's own count
    frames_damaged: int = 0  # what came is no CAN frame
    error_frames: int = 0
    bus_offs: int = 0
    downs: int = 0  # how often the interface went


class Channel:
    """Follows one bus. Times are monotonic seconds. Says in the log, once, what an operator must know: bus-off, down, back, frames lost."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.status = ChannelStatus()
        self._heard_s = float("-inf")
        self._drops = 0  # of this socket, as the kernel counts: modulo 2**32

    def opened(self, now_s: float) -> None:
        """A socket is open, at the start or again."""
        if self.status.state is State.DOWN:
            log.info("%s: the interface is back", self.name)
        self.status.state = State.ASLEEP
        self._drops = 0

    def lost(self, reason: str) -> None:
        """The interface went."""
        if self.status.state is not State.DOWN:
            log.warning("%s: the interface is down (%s); waiting for it", self.name, reason)
            self.status.state = State.DOWN
            self.status.downs += 1

    def heard(self, frames: int, now_s: float) -> None:
        """Frames came, errors not counted; 0 = none since the last call."""
        status = self.status
        if frames:
            status.frames += frames
            self._heard_s = now_s
            if status.state in (State.ASLEEP, State.BUS_OFF):  # DOWN: these are the frames from before
                log.info("%s: the bus is awake", self.name)
                status.state = State.AWAKE
        elif status.state is State.AWAKE and now_s - self._heard_s >= ASLEEP_S:
            log.info("%s: the bus is asleep", self.name)
            status.state = State.ASLEEP

    def dropped(self, count: int) -> None:
        """The kernel's counter of this socket."""
        more = (count - self._drops) % (1 << 32)
        self._drops = count
        if more and not self.status.frames_dropped:
            log.warning("%s: %d frames lost, the agent is late; status.json goes on counting", self.name, more)
        self.status.frames_dropped += more

    def erred(self, classes: NDArray[np.uint32]) -> None:
        """Error frames: (n,) identifiers."""
        self.status.error_frames += len(classes)
        for one in classes.tolist():
            if one & CAN_ERR_BUSOFF and self.status.state is not State.BUS_OFF:
                log.warning("%s: bus-off, the controller has left the bus", self.name)
                self.status.state = State.BUS_OFF
                self.status.bus_offs += 1
            elif one & CAN_ERR_RESTARTED and self.status.state is State.BUS_OFF:
                log.info("%s: the controller is restarted", self.name)
                self.status.state = State.ASLEEP
