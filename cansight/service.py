"""What a service tells systemd: that it is ready, alive and stopping. sd_notify(3)'s protocol, without a library: five lines of datagrams.

Outside systemd nothing is told and nothing fails.
"""

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)


class Service:
    """Speaks to the socket that NOTIFY_SOCKET names. `alive` may be called as often as one likes: it speaks at half the watchdog's time."""

    def __init__(self, environment: Mapping[str, str] = os.environ, clock: Callable[[], float] = time.monotonic) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._clock = clock
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watchdog = environment.get("WATCHDOG_USEC", "")
        self.every_s = int(watchdog) / 2e6 if mine and watchdog.isdigit() else 0.0
        self._next_s = clock()

    def ready(self) -> None:
        self._tell(f"READY=1\nMAINPID={os.getpid()}")

    def alive(self) -> None:
        """The loop came round: systemd restarts a service that does not say so for its WatchdogSec."""
        if self.every_s and (now_s := self._clock()) >= self._next_s:
            self._next_s = now_s + self.every_s
            self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        self._tell("STOPPING=1")

    def _tell(self, what: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as to:
            try:
                to.sendto(what.encode(), address)
            except OSError as error:
                log.warning("NOTIFY_SOCKET %s: cannot be told %s: %s", self._address, what.partition("=")[0], error.strerror)
                self._address = ""  # once is enough
