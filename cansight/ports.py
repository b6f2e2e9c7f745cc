"""Ports of this machine, for servers that the demonstration, the benchmarks and the tests start."""

import itertools
import os
import socket
from functools import cache
from pathlib import Path

__all__ = ["free_port"]

FIRST = 10_000
FEWEST = 1000
GIVEN_TO_CLIENTS = Path("/proc/sys/net/ipv4/ip_local_port_range")  # Linux; what a client's end of a connection is given
BY_DEFAULT = 32_768
STRIDE = 7919  # a prime: processes with neighbouring ids begin far from each other

_count = itertools.count()


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses now, another one at each call.

    It is below the range of which the kernel gives clients their own ports, so it stays free while its server is away: a client that keeps
    trying a port of that range where nobody listens is given that very port sooner or later, is then connected to itself (simultaneous
    open, RFC 9293, 3.5), and the server that comes back finds its port in use.
    """
    first, size = FIRST, _below_clients() - FIRST
    for _ in range(size):
        port = first + (os.getpid() * STRIDE + next(_count)) % size
        if _is_free(port):
            return port
    with socket.socket() as probe:  # a machine whose clients are given every port
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@cache
def _below_clients() -> int:
    """The first port of the clients' range, FIRST where there is no room below it."""
    first = int(GIVEN_TO_CLIENTS.read_text().split()[0]) if GIVEN_TO_CLIENTS.exists() else BY_DEFAULT
    return first if first >= FIRST + FEWEST else FIRST
