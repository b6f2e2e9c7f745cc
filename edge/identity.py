"""Who this vehicle is and who may read it: certificate, key, fleet CA and recipients, read and checked once, before anything is started.

Dates are not judged here, except a recipient's: a telematics unit that wakes up without a clock must not refuse to record. The broker
and the aggregator judge the certificate's dates. What a renewal has left in the state folder comes before what the settings name, if it
lasts longer.
"""

import logging
import ssl
import time
from collections.abc import Callable, Sequence
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
from edge.key_store import Credentials, KeyStore
from wire.errors import AuthenticationError, WireError
from wire.recipients import Recipient, read_recipient

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(slots=True, repr=False)
class Identity:
    """Everything that streams and the connection are made with. cas: the fleet's, two while an old one is replaced.

    The agent's thread reads it, and `use` changes it there; the uplink's thread reads `vehicle` and `tls` alone, so that nobody ever sees
    one pair's certificate with another's key.
    """

    vehicle: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    recipients: tuple[Recipient, ...]
    tls: ssl.SSLContext
    cas: tuple[x509.Certificate, ...] = ()
    ca_file: str = ""

    def use(self, credentials: Credentials) -> None:
        """The renewed certificate and key, from the next stream and the next connection on. Raises ConfigError, and nothing is changed."""
        tls = _tls(self.ca_file, *credentials.tls_files)
        self.certificate, self.key, self.tls = credentials.certificate, credentials.key, tls


def load_identity(config: EdgeConfig, keys: KeyStore | None = None) -> Identity:
    """Raises ConfigError, one line: which setting, which file, what is wrong with it. keys: where renewals leave theirs."""
    broker = config.broker
    cas = tuple(_parsed("broker.ca", broker.ca, x509.load_pem_x509_certificates, "a PEM certificate"))
    certificate = _parsed("broker.certificate", broker.certificate, x509.load_pem_x509_certificate, "a PEM certificate")
    key = _parsed("broker.key", broker.key, lambda data: load_pem_private_key(data, None), "a PEM private key without a password")
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"broker.key: {broker.key}: expected an elliptic-curve key, found {type(key).__name__}")
    if key.public_key() != certificate.public_key():
        raise ConfigError(f"broker.key: {broker.key}: is not the key of the certificate {broker.certificate}")
    if problem := problem_of(certificate, config.vehicle, cas):
        raise ConfigError(f"broker.certificate: {broker.certificate}: {problem.replace('(broker.ca)', f'{broker.ca} (broker.ca)')}")
    recipients = tuple(_recipient(path, cas) for path in config.recipients.files)
    tls = _tls(broker.ca, broker.certificate, broker.key)
    identity = Identity(config.vehicle, certificate, key, recipients, tls, cas, broker.ca)
    _use_renewed(identity, keys)
    return identity


def problem_of(certificate: x509.Certificate, vehicle: str, cas: Sequence[x509.Certificate]) -> str:
    """Why it is not this vehicle's certificate of this fleet; nothing when it is. Dates are not judged."""
    if not any(_issued(certificate, ca) for ca in cas):
        return "was not issued by the fleet CA (broker.ca)"
    names = [name.value for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [vehicle]:
        return f"expected the common name {vehicle} (vehicle), found {', '.join(map(str, names)) or 'none'}"
    return ""


def _issued(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _use_renewed(identity: Identity, keys: KeyStore | None) -> None:
    try:
        renewed = keys.renewed() if keys is not None else None
    except OSError as error:
        log.error("the renewed certificate cannot be read (%s); going on with that of the settings", error.strerror)
        return
    if renewed is None or renewed.certificate.not_valid_after_utc <= identity.certificate.not_valid_after_utc:
        return
    if problem := problem_of(renewed.certificate, identity.vehicle, identity.cas):
        log.warning("the renewed certificate is left aside: it %s", problem)
        return
    try:
        identity.use(renewed)
    except ConfigError as error:
        log.warning("the renewed certificate is left aside: %s", error)


def _recipient(path: str, cas: Sequence[x509.Certificate]) -> Recipient:
    data = _read("recipients.files", path)
    for number, ca in enumerate(cas, 1):
        try:
            return read_recipient(data, ca, time.time(), path)
        except AuthenticationError as error:
            if number == len(cas):
                raise ConfigError(f"recipients.files: {error}") from error
        except WireError as error:
            raise ConfigError(f"recipients.files: {error}") from error
    raise AssertionError("a CA file has at least one certificate")


def _tls(ca: str, certificate: str, key: str) -> ssl.SSLContext:
    """TLS 1.3, both sides with certificates of the fleet's CA and of no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cafile=ca)
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"broker: {certificate} with {key} cannot be used for TLS: {error}") from error
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
