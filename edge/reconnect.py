"""How long to wait before the next connection, by why there is none. Pure.

Two wishes pull: live data must flow within 10 s of the network's return, and a fleet whose broker died must not come back all at once. What
happened tells them apart. An address that cannot be reached costs the broker nothing, so it is tried again soon; the
more clearly it was the broker itself that said no, the longer the pause. Every pause is drawn from the whole range from 0 up (full
jitter: Brooker, "Exponential Backoff And Jitter", 2015).
"""

import errno
import ssl
from collections.abc import Callable
from enum import Enum

STEADY_S = 10.0  # a connection that held this long begins the pauses anew
NO_ROUTE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL}

# MQTT 5.0, 2.4 and 3.14.2.1: what a broker says when it has too much to do, and when another client came with our name
BUSY_CODES = {0x88, 0x89, 0x97, 0x9F}  # server unavailable, server busy, quota exceeded, connection rate exceeded
TAKEN_OVER = 0x8E


class Ending(Enum):
    """Why there is no connection; the value is (first, longest) pause in seconds, doubling in between."""

    UNREACHED = (1.0, 2.0)  # no name server, no route: the network is away, and nobody was troubled
    LOST = (1.0, 5.0)  # no answer, or nothing came any more: the network, most likely
    CLOSED = (1.0, 8.0)  # a connection that stood was ended without a word: a network device, or a broker that was killed or wants us gone
    REFUSED = (1.0, 15.0)  # the machine is there, and nobody listens on the port
    REJECTED = (1.0, 60.0)  # TLS, CONNECT or SUBSCRIBE was answered with no, or the broker ended the connection with a reason
    BUSY = (15.0, 60.0)  # it says that it has too much to do
    TAKEN = (60.0, 60.0)  # somebody else has our certificate: taking the session back at once would go to and fro for ever


class Pauses:
    """uniform: returns a random number in [0, its argument]."""

    def __init__(self, uniform: Callable[[float], float]) -> None:
        self._uniform = uniform
        self._attempts = 0

    def next_s(self, ending: Ending, held_s: float) -> float:
        """The pause after a connection that ended so. held_s: how long batches could go over it."""
        if held_s >= STEADY_S:
            self._attempts = 0
        first_s, longest_s = ending.value
        pause_s = self._uniform(min(longest_s, first_s * 2.0 ** min(self._attempts, 16)))
        if ending is not Ending.UNREACHED:  # hours without coverage say nothing about the broker
            self._attempts += 1
        return pause_s


def ending_of(error: BaseException) -> Ending:
    """What an exception of connecting, of the TLS handshake or of reading means."""
    if isinstance(error, ssl.SSLError):  # an OSError, too
        return Ending.REJECTED
    if isinstance(error, ConnectionRefusedError):
        return Ending.REFUSED
    if isinstance(error, TimeoutError | ConnectionError):
        return Ending.LOST
    if isinstance(error, OSError):
        # socket.gaierror's errno is of its own kind; a name that cannot be looked up is a network that is away, or a setting
        return Ending.UNREACHED if isinstance(error.errno, int) and (error.errno < 0 or error.errno in NO_ROUTE) else Ending.LOST
    return Ending.REJECTED


def ending_by(code: int) -> Ending:
    """What a reason code of CONNACK or DISCONNECT means (MQTT 5.0, 2.4)."""
    if code == TAKEN_OVER:
        return Ending.TAKEN
    return Ending.BUSY if code in BUSY_CODES else Ending.REJECTED
