"""The settings of a mosquitto 2.0 for production, written from the fleet's folder, and looked at again before they are relied on.

Whoever connects has a certificate of the fleet's CA that is not revoked; its common name is the client id and decides the topics.
`kill -HUP` makes mosquitto read the rules, the revocation list and its own certificate again (seen with 2.0.11); a new CA needs a restart.
"""

import getpass
import os
from collections.abc import Iterable
from pathlib import Path

from cloud.errors import CloudError
from cloud.pki_revocation import revoked_names
from cloud.replica_names import AGGREGATOR, replicas
from wire.envelope import MAX_BATCH_BYTES
from wire.topics import CERTIFICATE_FILTER, DOWN_FILTER, RENEW_FILTER, UP_FILTER, VEHICLE_PATTERN, WILL_FILTER

REGISTRAR = "registrar"
MAX_PACKET_BYTES = MAX_BATCH_BYTES + 1024  # the largest message there is, with its topic and what MQTT puts around it
NEEDED = ("fleet-ca.pem", "fleet-ca.crl", "broker.pem", "broker.key")
_TUNABLE = {"user", "listener", "log_dest", "max_inflight_messages", "autosave_interval"}  # an operator's own choice


def mosquitto_config(pki_folder: Path, folder: Path, host: str, port: int) -> Path:
    """Write `mosquitto.conf` and `acl.conf` into `folder` and return the former's path: `mosquitto -c PATH` runs it.

    The queue limits matter: with the default of 1000, a backlog's rest is dropped and still acknowledged.
    Raises CloudError when a certificate is missing or the folder cannot be written.
    """
    require(pki_folder)
    if "\n" in f"{pki_folder}{folder}{host}":
        raise CloudError("mosquitto: a path or host with a line break cannot be written into its settings")
    config = folder / "mosquitto.conf"
    text = "".join(f"{key} {value}\n" for key, value in _settings(pki_folder, folder, host, port).items())
    try:
        write_rules(pki_folder, folder)
        config.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CloudError(f"{folder}: mosquitto's settings cannot be written: {error.strerror}") from error
    return config


def write_rules(pki_folder: Path, folder: Path) -> Path:
    """Write `acl.conf` anew: who may what, with nothing for those who are revoked. Returns its path. Raises OSError."""
    acl = folder / "acl.conf"
    beside = folder / ".acl.conf.new"  # mosquitto must never read half of the rules
    beside.write_text(rules(revoked_names(pki_folder), replicas(pki_folder)), encoding="utf-8")
    beside.chmod(0o600)
    beside.replace(acl)
    return acl


def rules(revoked: Iterable[str], replicas: Iterable[str] = ()) -> str:
    """The access rules. `replicas`: client ids of aggregators beside the one.

    Who is revoked and still connected is denied its topics: mosquitto judges certificates at the handshake only.
    """
    text = "".join(f"pattern write {filter_.replace('+', '%u')}\n" for filter_ in (UP_FILTER, RENEW_FILTER, WILL_FILTER))
    text += "".join(f"pattern read {filter_.replace('+', '%u')}\n" for filter_ in (DOWN_FILTER, CERTIFICATE_FILTER))
    revoked = set(revoked)
    for aggregator in (AGGREGATOR, *sorted(set(replicas) - revoked)):
        text += f"user {aggregator}\ntopic read {UP_FILTER}\ntopic read {WILL_FILTER}\ntopic write {DOWN_FILTER}\n"
    text += f"user {REGISTRAR}\ntopic read {RENEW_FILTER}\ntopic write {CERTIFICATE_FILTER}\n"
    return text + "".join(f"user {name}\ntopic deny #\n" for name in sorted(revoked) if VEHICLE_PATTERN.fullmatch(name))


def check_mosquitto(pki_folder: Path, folder: Path) -> list[str]:
    """What in `folder`'s mosquitto.conf and acl.conf is not as it must be, one line each; none when all is well. Raises CloudError."""
    require(pki_folder)
    config, acl = folder / "mosquitto.conf", folder / "acl.conf"
    try:
        text, found_rules = config.read_text(encoding="utf-8"), acl.read_text(encoding="utf-8")
    except OSError as error:
        raise CloudError(f"{error.filename}: cannot be read: {error.strerror}; `cansight cloud mosquitto` writes it") from error
    wanted = _settings(pki_folder, folder, "", 0)
    problems: list[str] = []
    seen: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        key, _, value = line.strip().partition(" ")
        if not key or key.startswith("#"):
            continue
        if key in seen:
            problems.append(f"{config}:{number}: {key} is there twice; one listener, with certificates, is all that the fleet needs")
        elif key not in wanted:
            problems.append(f"{config}:{number}: {key} is not among the settings that were checked with the fleet's rules")
        elif key not in _TUNABLE and value.strip() != wanted[key]:
            problems.append(f"{config}:{number}: expected {key} {wanted[key]}, found {value.strip()}")
        seen[key] = value
    problems += [f"{config}: {key} {value} is missing" for key, value in wanted.items() if key not in seen and key not in _TUNABLE]
    expected = set(_blocks(rules(revoked_names(pki_folder), replicas(pki_folder))))
    problems += [f"{acl}: {' / '.join(block)} is missing; write the rules anew" for block in sorted(expected - set(_blocks(found_rules)))]
    problems += [f"{acl}: {' / '.join(block)} is no rule of the fleet's" for block in sorted(set(_blocks(found_rules)) - expected)]
    return problems


def require(pki_folder: Path) -> None:
    """CloudError when a file that a broker needs is not there."""
    for name in NEEDED:
        if not os.access(pki_folder / name, os.R_OK):
            makes = f"`cansight pki revoke {pki_folder}`" if name == "fleet-ca.crl" else f"`cansight pki init {pki_folder}`"
            raise CloudError(f"{pki_folder / name}: cannot be read; {makes} makes it")


def _settings(pki_folder: Path, folder: Path, host: str, port: int) -> dict[str, str]:
    return {
        "user": getpass.getuser(),  # started by root, mosquitto would give up the right to read the keys
        "listener": f"{port} {host}",
        "cafile": f"{pki_folder / 'fleet-ca.pem'}",
        "crlfile": f"{pki_folder / 'fleet-ca.crl'}",
        "certfile": f"{pki_folder / 'broker.pem'}",
        "keyfile": f"{pki_folder / 'broker.key'}",
        "tls_version": "tlsv1.3",
        "require_certificate": "true",
        "use_identity_as_username": "true",
        "use_username_as_clientid": "true",
        "allow_anonymous": "false",
        "acl_file": f"{folder / 'acl.conf'}",
        "set_tcp_nodelay": "true",
        "max_inflight_messages": "1000",
        "max_queued_messages": "1000000",
        "max_packet_size": f"{MAX_PACKET_BYTES}",
        "retain_available": "false",
        "persistence": "true",
        "persistence_location": f"{folder}/",
        "autosave_interval": "30",
        "log_dest": "stderr",
    }


def _blocks(text: str) -> Iterable[tuple[str, ...]]:
    """Each rule with whom it is for: ("user aggregator", "topic read ...") or ("pattern ...",)."""
    user = ""
    for line in text.splitlines():
        rule = " ".join(line.split())
        if not rule or rule.startswith("#"):
            continue
        if rule.startswith("user "):
            user = rule
        else:
            yield (rule,) if rule.startswith("pattern ") else (user, rule)
