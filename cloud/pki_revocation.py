"""Revocation: `revoked.json` says which names and serials, `fleet-ca.crl` says it to the broker, signed by each CA in fleet-ca.pem.

The list is there from the start, empty: a broker that is told to check a list and finds none lets nobody in.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from cloud.certificates import revocation_list
from cloud.errors import PkiError
from cloud.pki_files import PUBLIC, load_certificate, load_certificates, load_key, locked, read, replace
from cloud.replica_names import is_replica, replicas
from wire.topics import VEHICLE_PATTERN

LIST = "fleet-ca.crl"
CLIENTS = ("aggregator", "registrar")
_NAMES = "revoked.json"
_BEGIN = b"-----BEGIN X509 CRL-----"

Reason = Literal["lost", "sold", "scrapped", "key-compromised", "other"]


class Revoked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One name's certificates. serials: hexadecimal. at: seconds since 1970."""

    serials: list[str]
    at: int
    reason: Reason


def revoke(folder: Path, names: Sequence[str], reason: Reason = "other") -> None:
    """Revokes every certificate that the folder has of each vehicle id (or `aggregator`, `registrar`), and writes the list anew.

    A name that is revoked already stays so. Without names the list is only written anew. PkiError when a name has no
    certificate, before anything is revoked.
    """
    with locked(folder):
        revoked = revoked_names(folder)
        for name in names:
            serials = [f"{certificate.serial_number:x}" for certificate in certificates_of(folder, name)]
            before = revoked.get(name)
            revoked[name] = Revoked(
                serials=sorted({*serials, *(before.serials if before else ())}),
                at=before.at if before else int(time.time()),
                reason=before.reason if before else reason,
            )
        cas = _pairs(folder)
        replace(folder / _NAMES, msgspec.json.format(msgspec.json.encode(revoked, order="sorted"), indent=2) + b"\n", PUBLIC)
        write_revocation_list(folder, cas)


def revoked_names(folder: Path) -> dict[str, Revoked]:
    """Everyone who is revoked; PkiError when the file is not what it should be."""
    path = folder / _NAMES
    if not path.exists():
        return {}
    try:
        return msgspec.json.decode(read(path), type=dict[str, Revoked])
    except ValueError as error:  # msgspec's errors, UnicodeDecodeError
        raise PkiError(f"{path}: expected the names that `cansight pki revoke` has written: {str(error).splitlines()[0]}") from None


def certificates_of(folder: Path, name: str) -> list[x509.Certificate]:
    """Every certificate of `name` that the folder has, those before a renewal too; PkiError when there is none.

    name: a vehicle's id, or a client that the broker knows by name. The broker's own is not among them: no vehicle reads a list.
    """
    client = name in CLIENTS or is_replica(name)
    parent = folder if client else folder / "vehicles"
    if (client or VEHICLE_PATTERN.fullmatch(name)) and (parent / f"{name}.pem").exists():
        return [load_certificate(path) for path in (parent / f"{name}.pem", *sorted(parent.glob(f"{name}.*.pem")))]
    known = f"a vehicle's id that `cansight pki check {folder}` lists, {' or '.join((*replicas(folder), *CLIENTS))}"
    raise PkiError(f"{name[:40]!r}: no such certificate is in {folder}; expected {known}")


def write_revocation_list(folder: Path, cas: Sequence[tuple[x509.Certificate, ec.EllipticCurvePrivateKey]]) -> None:
    """The list of each CA, one behind the other in one file: mosquitto and OpenSSL read them all."""
    now = datetime.now(UTC)
    serials = [
        (int(serial, 16), datetime.fromtimestamp(revoked.at, UTC))
        for revoked in revoked_names(folder).values()
        for serial in revoked.serials
    ]
    last = {one.issuer: one.last_update_utc for one in load_revocation_lists(folder / LIST)} if (folder / LIST).exists() else {}
    lists = [revocation_list(serials, ca, key, now, last.get(ca.subject)) for ca, key in cas]
    replace(folder / LIST, b"".join(one.public_bytes(Encoding.PEM) for one in lists), PUBLIC)


def load_revocation_lists(path: Path) -> list[x509.CertificateRevocationList]:
    """All lists of a PEM file; PkiError when there is none."""
    parts = read(path).split(_BEGIN)[1:]
    try:
        lists = [x509.load_pem_x509_crl(_BEGIN + part) for part in parts]
    except ValueError:
        lists = []
    if not lists:
        raise PkiError(f"{path}: expected a revocation list in PEM; `cansight pki revoke FOLDER` writes it anew")
    return lists


def _pairs(folder: Path) -> list[tuple[x509.Certificate, ec.EllipticCurvePrivateKey]]:
    """Each CA that is trusted with its key; an old one's lies beside the new one's."""
    pairs = []
    for number, ca in enumerate(load_certificates(folder / "fleet-ca.pem")):
        path = folder / ("fleet-ca.key" if number == 0 else f"fleet-ca.{ca.serial_number:x}.key")
        key = load_key(path)
        if key.public_key() != ca.public_key():
            raise PkiError(f"{path}: is not the key of the certificate number {number + 1} in {folder / 'fleet-ca.pem'}")
        pairs.append((ca, key))
    return pairs
