"""Where the vehicle's own key lives. `KeyStore` is all that renewal knows of it; files are what we ship.

A TPM, secure element or PKCS#11 token is another `KeyStore`: its keys are objects with `sign` and `public_key` (an
`ec.EllipticCurvePrivateKey` that never leaves the chip), and its `tls_files` name files through which OpenSSL finds them (docs/pki.md).
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from edge.files import replace_file

RENEWED, PENDING = "renewed.pem", "pending.key"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """A certificate and its key. tls_files: certificate and key as `SSLContext.load_cert_chain` takes them."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    tls_files: tuple[str, str]


class KeyStore(Protocol):
    """The key that a renewal has made, and the one that it asks a certificate for. Methods raise OSError."""

    def renewed(self) -> Credentials | None:
        """What the last renewal has left; None before the first, and when it cannot be read."""

    def pending(self) -> ec.EllipticCurvePrivateKey:
        """The key that a certificate is asked for: new at first, and the same, over restarts too, until `keep`."""

    def keep(self, certificate: x509.Certificate) -> Credentials:
        """The pending key and its certificate are what was renewed from now on: durably, both or neither."""


class KeyFiles:
    """`folder` holds `renewed.pem` (certificate and key in one file, so that they change together) and `pending.key`, all 0600."""

    def __init__(self, folder: Path) -> None:
        self._renewed = folder / RENEWED
        self._pending = folder / PENDING

    def renewed(self) -> Credentials | None:
        try:
            data = self._renewed.read_bytes()
        except (FileNotFoundError, NotADirectoryError):  # a state that is no folder is said where it is made
            return None
        try:
            certificate, key = x509.load_pem_x509_certificate(data), load_pem_private_key(data[data.index(b"-----BEGIN PRIVATE") :], None)
        except (ValueError, TypeError) as error:
            log.error("%s: left aside, it is damaged: %s", self._renewed, " ".join(str(error).split())[:100])
            return None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            log.error("%s: left aside, it is damaged: certificate and key do not go together", self._renewed)
            return None
        return Credentials(certificate, key, (str(self._renewed), str(self._renewed)))

    def pending(self) -> ec.EllipticCurvePrivateKey:
        found, renewed = self._read_pending(), self.renewed()
        # the power may have failed between the two steps of `keep`: then the pending key has its certificate already
        if found is not None and (renewed is None or found.public_key() != renewed.key.public_key()):
            return found
        key = ec.generate_private_key(ec.SECP256R1())
        self._pending.parent.mkdir(mode=0o700, exist_ok=True)
        replace_file(self._pending, _pem(key), durable=True)
        return key

    def keep(self, certificate: x509.Certificate) -> Credentials:
        key = self.pending()
        replace_file(self._renewed, certificate.public_bytes(Encoding.PEM) + _pem(key), durable=True)
        self._pending.unlink(missing_ok=True)
        return Credentials(certificate, key, (str(self._renewed), str(self._renewed)))

    def _read_pending(self) -> ec.EllipticCurvePrivateKey | None:
        try:
            key = load_pem_private_key(self._pending.read_bytes(), None)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            log.warning("%s: is damaged; another key is made", self._pending)
            return None
        return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
