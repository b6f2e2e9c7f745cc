"""Whether a connection is still one. TCP does not say: a radio that lost its cell, or a NAT that forgot us, leaves a socket that takes
bytes for minutes. MQTT's own ping finds out after a minute.
"""

import fcntl
import socket
import struct
import termios

# An answer is owed, no byte came and none was acknowledged for so long. A landed batch is answered within 0.1 s and a round trip.
DEAF_S = 7.0


class Liveness:
    """Pure. A slow link is not dead: bytes that the other end's kernel acknowledges are signs of life as well as those that come."""

    def __init__(self) -> None:
        self._queued = 0
        self._since_s: float | None = None

    def is_dead(self, now_s: float, *, owed: bool, heard: bool, queued: int) -> bool:
        """Called whenever something may have happened, and at least once a second.

        owed: something was sent that the broker must answer. heard: bytes came since the last call. queued: bytes sent that
        the other end's kernel has not acknowledged.
        """
        moved = heard or queued < self._queued
        self._queued = queued
        if not owed:
            self._since_s = None
            return False
        if moved or self._since_s is None:
            self._since_s = now_s
        return now_s - self._since_s >= DEAF_S


def unacknowledged(sock: socket.socket) -> int:
    """Bytes in the kernel that the other end has not acknowledged: SIOCOUTQ, tcp(7), whose number is TIOCOUTQ's."""
    answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    return int(struct.unpack("i", answer)[0])
