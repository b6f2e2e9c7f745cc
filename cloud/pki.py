"""The fleet's keys: one P-256 CA, certificates for broker, aggregator and vehicles, the recipient key and the pack key.

    FOLDER/fleet-ca.pem .key       the CA; its key signs certificates and recipient documents, and belongs offline
    FOLDER/broker.pem .key         TLS server, names and addresses of the broker
    FOLDER/aggregator.pem .key     TLS client, CN "aggregator"
    FOLDER/recipient.json .key     MLKEM768-X25519: vehicles wrap content keys for it; the private half opens them
    FOLDER/pack.pub.pem pack.key   Ed25519: signs model packs
    FOLDER/vehicles/ID.pem .key    TLS client, CN = ID, also signs the vehicle's announcements

Nothing is ever overwritten. Keys are 0600 and folders 0700; a file appears whole or not at all (temporary file, fsync, link).
"""

import ipaddress
import os
import secrets
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from cloud.errors import PkiError
from wire.errors import FormatError
from wire.recipients import RecipientKey, write_recipient
from wire.topics import check_vehicle

DEFAULT_HOSTS: Final = ("localhost", "127.0.0.1")
CA_DAYS = 20 * 365  # a vehicle lives 15 years and its certificate must chain to the end
DAYS = 825
RECIPIENT_DAYS = 400  # then the private half is destroyed, and what was recorded stays closed
AGGREGATOR = "aggregator"
_BACKDATE = timedelta(hours=1)  # a vehicle's clock may be behind
_DAY_S = 86_400
_THERE = "{}: is there already, and keys are never overwritten; choose another folder or move it away"


def init(folder: Path, *, hosts: Sequence[str] = DEFAULT_HOSTS, days: int = DAYS) -> None:
    """Makes the fleet's keys in `folder`; `days` is how long broker's and aggregator's certificates last.

    PkiError when any of the files is there already (nothing is made then), the folder cannot be written, or a host is not a name.
    """
    folder = Path(folder)
    alternative_names = [_general_name(host) for host in hosts]
    if not alternative_names:
        raise PkiError("pki init: expected at least one host name or address of the broker, found none")
    names = [f"{stem}{suffix}" for stem in ("fleet-ca", "broker", "aggregator") for suffix in (".pem", ".key")]
    names += ["recipient.key", "recipient.json", "pack.key", "pack.pub.pem"]
    _refuse_existing([folder / name for name in names])
    _make_folder(folder)

    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _ca_certificate(ca_key)
    _write_pair(folder / "fleet-ca", ca_key, ca)
    _issue(folder / "broker", hosts[0][:64], ca, ca_key, ExtendedKeyUsageOID.SERVER_AUTH, days, alternative_names)
    _issue(folder / "aggregator", AGGREGATOR, ca, ca_key, ExtendedKeyUsageOID.CLIENT_AUTH, days)

    recipient = RecipientKey.generate()
    _write(folder / "recipient.key", recipient.to_pem().encode(), 0o600)
    _write(folder / "recipient.json", write_recipient(recipient.public(), int(time.time()) + RECIPIENT_DAYS * _DAY_S, ca_key), 0o644)

    pack_key = ed25519.Ed25519PrivateKey.generate()
    _write(folder / "pack.key", pack_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    _write(folder / "pack.pub.pem", pack_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)


def vehicle(folder: Path, vehicle_id: str | None = None, *, days: int = DAYS) -> str:
    """Makes the certificate and key of one vehicle under `folder`/vehicles; returns its id, random when none is given.

    An id never comes from a VIN: it is in topics, tags and file names for the vehicle's life. PkiError when the CA is not there, the
    id is not 16 lower-case hexadecimal digits, or the vehicle has a certificate already.
    """
    folder = Path(folder)
    vehicle_id = secrets.token_hex(8) if vehicle_id is None else vehicle_id
    try:
        check_vehicle(vehicle_id)
    except FormatError as error:
        raise PkiError(str(error)) from None
    ca, ca_key = load_ca(folder)
    path = folder / "vehicles" / vehicle_id
    _refuse_existing([path.with_suffix(".pem"), path.with_suffix(".key")])
    _make_folder(path.parent)
    _issue(path, vehicle_id, ca, ca_key, ExtendedKeyUsageOID.CLIENT_AUTH, days)
    return vehicle_id


def load_ca(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """The fleet CA's certificate and key; PkiError names the file that is missing or not what it should be."""
    path = Path(folder) / "fleet-ca.pem"
    certificate, key = load_certificate(path), load_key(path.with_suffix(".key"))
    if key.public_key() != certificate.public_key():
        raise PkiError(f"{path.with_suffix('.key')}: is not the key of {path}; both are of one `cansight pki init`")
    return certificate, key


def load_certificate(path: Path) -> x509.Certificate:
    """A PEM certificate file; PkiError when it is none."""
    data = _read(path)
    try:
        return x509.load_pem_x509_certificate(data)
    except ValueError:
        raise PkiError(f"{path}: expected a PEM certificate; make one with `cansight pki`") from None


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A PEM file of an unencrypted elliptic-curve private key; PkiError when it is none."""
    data = _read(path)
    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError):
        raise PkiError(f"{path}: expected an unencrypted PEM private key; make one with `cansight pki`") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PkiError(f"{path}: expected an elliptic-curve private key, found {type(key).__name__}")
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise PkiError(f"{path}: {error.strerror}; make the fleet's keys with `cansight pki init`") from None
    except OSError as error:
        raise PkiError(f"{path}: cannot be read: {error.strerror}") from None


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


def _ca_certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Cansight fleet CA")])
    builder = _builder(name, name, key.public_key(), CA_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(ca=True), critical=True)
    return builder.sign(key, hashes.SHA256())


def _issue(
    path: Path,
    common_name: str,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    usage: ObjectIdentifier,
    days: int,
    alternative_names: Sequence[x509.GeneralName] = (),
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = _builder(name, ca.subject, key.public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(ca=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    if alternative_names:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternative_names), critical=False)
    _write_pair(path, key, builder.sign(ca_key, hashes.SHA256()))


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = (
        builder.serial_number(x509.random_serial_number()).not_valid_before(now - _BACKDATE).not_valid_after(now + timedelta(days=days))
    )
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    # The CA's key also signs recipient documents, a vehicle's also its announcements: digital_signature for both.
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _refuse_existing(paths: Sequence[Path]) -> None:
    for path in paths:
        try:
            there = path.exists()
        except OSError as error:
            raise PkiError(f"{path}: {error.strerror}") from None
        if there:
            raise PkiError(_THERE.format(path))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise PkiError(f"{folder}: cannot make the folder: {error.strerror}") from None


def _write_pair(path: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    _write(path.with_suffix(".key"), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    _write(path.with_suffix(".pem"), certificate.public_bytes(Encoding.PEM), 0o644)


def _write(path: Path, data: bytes, mode: int) -> None:
    """Writes a file that is not there yet, whole and durable. The last step is a link, which unlike a rename never replaces."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # 0600 from the start
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                os.fchmod(file.fileno(), mode)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError:
        raise PkiError(_THERE.format(path)) from None
    except OSError as error:
        raise PkiError(f"{path}: cannot write it: {error.strerror}") from None
