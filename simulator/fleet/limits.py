"""How many files this process may have open: each vehicle's connection is one."""

from __future__ import annotations

import resource

from simulator.fleet.errors import FleetFailed

__all__ = ["require_files"]

OTHERS = 64  # the ledger, the libraries, standard streams


def require_files(vehicles: int) -> None:
    """Raise the soft limit as far as is needed; FleetFailed when the hard limit is in the way."""
    needed = vehicles + OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise FleetFailed(
                f"{vehicles:,} vehicles need {needed:,} open files, and this process may have {hard:,} (ulimit -Hn);"
                " raise the limit (nofile in /etc/security/limits.conf, LimitNOFILE in a systemd unit) or run fewer vehicles"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
