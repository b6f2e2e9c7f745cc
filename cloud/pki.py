"""The fleet's keys: one P-256 CA, certificates for broker, aggregator, registrar and vehicles, the recipient keys and the pack key.

    FOLDER/fleet-ca.pem .key       the CA; its key signs certificates, revocation lists and recipient documents, and belongs offline
    FOLDER/fleet-ca.crl            what is revoked: the broker reads it (pki_revocation.py)
    FOLDER/revoked.json            names and serials behind it
    FOLDER/broker.pem .key         TLS server, names and addresses of the broker
    FOLDER/aggregator.pem .key     TLS client, CN "aggregator"
    FOLDER/aggregator-*.pem .key   TLS client, of each of several that share the messages
    FOLDER/registrar.pem .key      TLS client, CN "registrar": answers vehicles that renew (registrar.py)
    FOLDER/recipient*.json .key    MLKEM768-X25519: vehicles wrap content keys for it; the private half opens them (pki_recipients.py)
    FOLDER/pack.pub.pem pack.key   Ed25519: signs model packs
    FOLDER/vehicles/ID.pem .key    TLS client, CN = ID, also signs the vehicle's announcements

A renewed certificate or key leaves the one before it beside, as NAME.SERIAL.pem and .key; while a CA is replaced, fleet-ca.pem holds
the new one first and the old one behind it. Nothing else is ever overwritten. Keys are 0600 and folders 0700; a file appears whole or
not at all.
"""

import ipaddress
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from cloud.certificates import BACKDATE, ca_certificate, certify, common_name, usages
from cloud.errors import PkiError
from cloud.pki_files import (
    PRIVATE,
    PUBLIC,
    keep_beside,
    key_pem,
    load_certificate,
    load_certificates,
    load_key,
    locked,
    make_folder,
    refuse_existing,
    replace,
    write,
)
from cloud.pki_recipients import make_recipient, sign_again
from cloud.pki_revocation import revoked_names, write_revocation_list
from cloud.replica_names import AGGREGATOR, REPLICA_PATTERN, client_id, is_replica, replicas
from wire.errors import FormatError
from wire.topics import check_vehicle

__all__ = [
    "AGGREGATOR",
    "DAYS",
    "DEFAULT_HOSTS",
    "REGISTRAR",
    "drop_old_ca",
    "init",
    "load_ca",
    "load_certificate",
    "load_key",
    "renew",
    "renew_ca",
    "replica",
    "vehicle",
]

DEFAULT_HOSTS: Final = ("localhost", "127.0.0.1")
DAYS = 825
REGISTRAR = "registrar"
CA = "fleet-ca"
SERVICES: Final = ("broker", AGGREGATOR, REGISTRAR)


def init(folder: Path, *, hosts: Sequence[str] = DEFAULT_HOSTS, days: int = DAYS) -> None:
    """Makes the fleet's keys in `folder`; `days` is how long the certificates of broker, aggregator and registrar last.

    PkiError when any of the files is there already (nothing is made then), the folder cannot be written, or a host is not a name.
    """
    folder = Path(folder)
    alternative_names = [_general_name(host) for host in hosts]
    if not alternative_names:
        raise PkiError("pki init: expected at least one host name or address of the broker, found none")
    names = [f"{stem}{suffix}" for stem in (CA, *SERVICES) for suffix in (".pem", ".key")]
    names += ["fleet-ca.crl", "recipient.key", "recipient.json", "pack.key", "pack.pub.pem"]
    refuse_existing([folder / name for name in names])
    make_folder(folder)

    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = ca_certificate(ca_key)
    _write_pair(folder / CA, ca_key, ca)
    write_revocation_list(folder, [(ca, ca_key)])
    _issue(folder / "broker", hosts[0][:64], ca, ca_key, ExtendedKeyUsageOID.SERVER_AUTH, days, alternative_names)
    for client in (AGGREGATOR, REGISTRAR):
        _issue(folder / client, client, ca, ca_key, ExtendedKeyUsageOID.CLIENT_AUTH, days)
    make_recipient(folder / "recipient", ca_key)

    pack_key = ed25519.Ed25519PrivateKey.generate()
    write(folder / "pack.key", pack_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), PRIVATE)
    write(folder / "pack.pub.pem", pack_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), PUBLIC)


def vehicle(folder: Path, vehicle_id: str | None = None, *, days: int = DAYS) -> str:
    """Makes the certificate and key of one vehicle under `folder`/vehicles; returns its id, random when none is given.

    An id never comes from a VIN: it is in topics, tags and file names for the vehicle's life. PkiError when the CA is not there, the
    id is not 16 lower-case hexadecimal digits, or the vehicle has a certificate already.
    """
    folder = Path(folder)
    vehicle_id = secrets.token_hex(8) if vehicle_id is None else _vehicle(vehicle_id)
    ca, ca_key = load_ca(folder)
    path = folder / "vehicles" / vehicle_id
    refuse_existing([path.with_suffix(".pem"), path.with_suffix(".key")])
    make_folder(path.parent)
    _issue(path, vehicle_id, ca, ca_key, ExtendedKeyUsageOID.CLIENT_AUTH, days)
    return vehicle_id


def replica(folder: Path, name: str, *, days: int = DAYS) -> Path:
    """Makes the certificate and key of one of several aggregators; returns the certificate's path.

    PkiError when there is one of this name already, or the name is not what a replica's may be.
    """
    folder = Path(folder)
    if REPLICA_PATTERN.fullmatch(name) is None:
        raise PkiError(f"replica {name[:40]!r}: expected at most 32 of a-z, 0-9 and -, the first no -")
    ca, ca_key = load_ca(folder)
    path = folder / client_id(name)
    refuse_existing([path.with_suffix(".pem"), path.with_suffix(".key")])
    _issue(path, path.name, ca, ca_key, ExtendedKeyUsageOID.CLIENT_AUTH, days)
    return path.with_suffix(".pem")


def renew(folder: Path, name: str, *, hosts: Sequence[str] = (), days: int = DAYS) -> Path:
    """A new key and certificate for `name`: broker, aggregator, aggregator-REPLICA, registrar, or a vehicle's id; the certificate's path.

    The pair before it stays beside. hosts: the broker's names; none: those that it has. PkiError when there is no such certificate
    or the vehicle is revoked.
    """
    folder = Path(folder)
    alternative_names = [_general_name(host) for host in hosts]
    if hosts and name != "broker":
        raise PkiError(f"pki renew {name}: only the broker's certificate has hosts")
    service = name in SERVICES or is_replica(name)
    path = folder / name if service else folder / "vehicles" / _vehicle(name)
    with locked(folder):
        ca, ca_key = load_ca(folder)
        old = load_certificate(path.with_suffix(".pem"))
        if not service and name in revoked_names(folder):
            raise PkiError(f"{name}: is revoked; a vehicle that comes back gets a new id with `cansight pki vehicle`")
        if name == "broker" and not alternative_names:
            alternative_names = list(old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        host = hosts[0][:64] if hosts else common_name(old)
        _keep_pair(path, old)
        key = ec.generate_private_key(ec.SECP256R1())
        begin, end = _span(days)
        made = certify(key.public_key(), host, ca, ca_key, usages(old)[0], begin, end, alternative_names)
        replace(path.with_suffix(".key"), key_pem(key), PRIVATE)
        replace(path.with_suffix(".pem"), made.public_bytes(Encoding.PEM), PUBLIC)
    return path.with_suffix(".pem")


def renew_ca(folder: Path) -> list[x509.Certificate]:
    """A new CA, which signs from now on; the old one stays trusted behind it in fleet-ca.pem. Returns both.

    Vehicles, broker and cloud get both certificates before anything that the new CA signed; recipient documents stay the old one's until
    the overlap ends. PkiError when one is going on already.
    """
    folder = Path(folder)
    with locked(folder):
        old, old_key = load_ca(folder)
        if len(load_certificates(folder / "fleet-ca.pem")) > 1:
            raise PkiError(
                f"{folder / 'fleet-ca.pem'}: holds an old CA already; end that overlap with `cansight pki renew FOLDER ca --drop-old`"
            )
        _keep_pair(folder / CA, old)
        key = ec.generate_private_key(ec.SECP256R1())
        ca = ca_certificate(key)
        write_revocation_list(folder, [(ca, key), (old, old_key)])  # before anyone trusts it: without its list, nobody is let in
        replace(folder / "fleet-ca.key", key_pem(key), PRIVATE)
        replace(folder / "fleet-ca.pem", ca.public_bytes(Encoding.PEM) + old.public_bytes(Encoding.PEM), PUBLIC)
    return [ca, old]


def drop_old_ca(folder: Path) -> None:
    """Ends an overlap: the old CA is trusted no more, and recipient documents are signed again by the new one.

    PkiError when there is no old CA, or when broker, aggregator or registrar still has its certificate.
    """
    folder = Path(folder)
    with locked(folder):
        cas = load_certificates(folder / "fleet-ca.pem")
        if len(cas) < 2:
            raise PkiError(f"{folder / 'fleet-ca.pem'}: holds no old CA")
        for name in (*SERVICES, *replicas(folder)):
            if load_certificate(folder / f"{name}.pem").issuer != cas[0].subject:
                raise PkiError(f"{folder / f'{name}.pem'}: is still the old CA's; `cansight pki renew {folder} {name}` first")
        ca_key = load_ca(folder)[1]
        sign_again(folder, ca_key)
        replace(folder / "fleet-ca.pem", cas[0].public_bytes(Encoding.PEM), PUBLIC)
        write_revocation_list(folder, [(cas[0], ca_key)])


def load_ca(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """The certificate and key of the CA that signs; PkiError names the file that is missing or not what it should be."""
    path = Path(folder) / "fleet-ca.pem"
    certificate, key = load_certificate(path), load_key(path.with_suffix(".key"))
    if key.public_key() != certificate.public_key():
        raise PkiError(f"{path.with_suffix('.key')}: is not the key of {path}; both are of one `cansight pki init`")
    return certificate, key


def _vehicle(vehicle_id: str) -> str:
    try:
        return check_vehicle(vehicle_id)
    except FormatError as error:
        raise PkiError(str(error)) from None


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass  # not an address, so a name
    try:
        if not host or len(host) > 253 or any(character.isspace() for character in host):
            raise ValueError
        return x509.DNSName(host)
    except ValueError:
        raise PkiError(f"host {host!r}: expected a DNS name or an IP address") from None


def _span(days: int) -> tuple[datetime, datetime]:
    now = datetime.now(UTC)
    return now - BACKDATE, now + timedelta(days=days)


def _issue(
    path: Path,
    name: str,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    usage: ObjectIdentifier,
    days: int,
    alternative_names: Sequence[x509.GeneralName] = (),
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    begin, end = _span(days)
    _write_pair(path, key, certify(key.public_key(), name, ca, ca_key, usage, begin, end, alternative_names))


def _write_pair(path: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    write(path.with_suffix(".key"), key_pem(key), PRIVATE)
    write(path.with_suffix(".pem"), certificate.public_bytes(Encoding.PEM), PUBLIC)


def _keep_pair(path: Path, certificate: x509.Certificate) -> None:
    for suffix in (".key", ".pem"):
        keep_beside(path.with_suffix(suffix), path.parent / f"{path.name}.{certificate.serial_number:x}{suffix}")
