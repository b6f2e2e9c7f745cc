"""What an aggregator is called: alone, or among several that share the vehicles' messages."""

import re
from pathlib import Path

__all__ = ["AGGREGATOR", "REPLICA_PATTERN", "client_id", "is_replica", "replicas"]

AGGREGATOR = "aggregator"
REPLICA_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,31}", re.ASCII)
_CLIENT = re.compile(rf"{AGGREGATOR}-{REPLICA_PATTERN.pattern}", re.ASCII)


def client_id(replica: str) -> str:
    """The common name of its certificate, by which the broker knows it. "": it is alone."""
    return f"{AGGREGATOR}-{replica}" if replica else AGGREGATOR


def is_replica(name: str) -> bool:
    """Whether this is the client id of one among several."""
    return _CLIENT.fullmatch(name) is not None


def replicas(folder: Path) -> list[str]:
    """The client ids of the aggregators that the fleet's folder has certificates of, beside the one that is alone."""
    return sorted(path.stem for path in folder.glob(f"{AGGREGATOR}-*.pem") if is_replica(path.stem))
