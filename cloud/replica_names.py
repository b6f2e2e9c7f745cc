"""What an aggregator is called: alone, or among several that share the vehicles' messages."""

import re
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from wire.recipients import RecipientKey

__all__ = ["AGGREGATOR", "REPLICA_PATTERN", "client_id", "is_replica", "replicas", "share_group"]

AGGREGATOR = "aggregator"
REPLICA_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,31}", re.ASCII)
_CLIENT = re.compile(rf"{AGGREGATOR}-{REPLICA_PATTERN.pattern}", re.ASCII)


def client_id(replica: str) -> str:
    """The common name of its certificate, by which the broker knows it. "": it is alone."""
    return f"{AGGREGATOR}-{replica}" if replica else AGGREGATOR


def share_group(recipient_keys: Mapping[bytes, RecipientKey]) -> str:
    """The name under which replicas share the messages: the same to all who have these recipient keys, by key id, and nobody's guess.

    mosquitto 2.0 lets everybody subscribe to everything and looks at its rules when it delivers: a vehicle that knew the name could join.
    It would be read nothing, and the share of messages that it was given would be lost until they are sent again.
    """
    oldest = recipient_keys[min(recipient_keys)]
    return HKDF(algorithm=hashes.SHA256(), length=16, salt=None, info=b"cansight share group").derive(oldest.secret).hex()


def is_replica(name: str) -> bool:
    """Whether this is the client id of one among several."""
    return _CLIENT.fullmatch(name) is not None


def replicas(folder: Path) -> list[str]:
    """The client ids of the aggregators that the fleet's folder has certificates of, beside the one that is alone."""
    return sorted(path.stem for path in folder.glob(f"{AGGREGATOR}-*.pem") if is_replica(path.stem))
