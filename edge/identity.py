"""Who this vehicle is and who may read it: certificate, key, fleet CA and recipients, read and checked once, before anything is started.

Dates are not judged here, except a recipient's: a telematics unit that wakes up without a clock must not refuse to record. The broker
and the aggregator judge the certificate's dates.
"""

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

from edge.config import EdgeConfig
from edge.errors import ConfigError
from wire.errors import WireError
from wire.recipients import Recipient, read_recipient

T = TypeVar("T")


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """Everything that streams and the connection are made with."""

    vehicle: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    recipients: tuple[Recipient, ...]
    tls: ssl.SSLContext


def load_identity(config: EdgeConfig) -> Identity:
    """Raises ConfigError, one line: which setting, which file, what is wrong with it."""
    broker = config.broker
    ca = _parsed("broker.ca", broker.ca, x509.load_pem_x509_certificate, "a PEM certificate")
    certificate = _parsed("broker.certificate", broker.certificate, x509.load_pem_x509_certificate, "a PEM certificate")
    key = _parsed("broker.key", broker.key, lambda data: load_pem_private_key(data, None), "a PEM private key without a password")
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"broker.key: {broker.key}: expected an elliptic-curve key, found {type(key).__name__}")
    if key.public_key() != certificate.public_key():
        raise ConfigError(f"broker.key: {broker.key}: is not the key of the certificate {broker.certificate}")
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise ConfigError(f"broker.certificate: {broker.certificate}: was not issued by the fleet CA {broker.ca} (broker.ca)") from error
    names = [name.value for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [config.vehicle]:
        found = ", ".join(map(str, names)) or "none"
        raise ConfigError(f"broker.certificate: {broker.certificate}: expected the common name {config.vehicle} (vehicle), found {found}")
    recipients = tuple(_recipient(path, ca) for path in config.recipients.files)
    return Identity(config.vehicle, certificate, key, recipients, _tls(config))


def _recipient(path: str, ca: x509.Certificate) -> Recipient:
    data = _read("recipients.files", path)
    try:
        return read_recipient(data, ca, time.time(), path)
    except WireError as error:
        raise ConfigError(f"recipients.files: {error}") from error


def _tls(config: EdgeConfig) -> ssl.SSLContext:
    """TLS 1.3, both sides with certificates of the fleet's CA and of no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cafile=config.broker.ca)
        context.load_cert_chain(config.broker.certificate, config.broker.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"broker: {config.broker.certificate} with {config.broker.key} cannot be used for TLS: {error}") from error
    return context


def _parsed(setting: str, path: str, parse: Callable[[bytes], T], expected: str) -> T:
    data = _read(setting, path)
    try:
        return parse(data)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{setting}: {path}: expected {expected}; the file is not one") from error


def _read(setting: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{setting}: {path}: cannot be read: {error.strerror}") from error
