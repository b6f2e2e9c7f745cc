"""A new key and certificate at two thirds of the old one's life, over the connection that is there.

The agent's thread asks and takes; the uplink only carries. The connection goes on with the old certificate until it ends, announcements
carry the new one at once, and batches are of neither: nothing is lost by the change.
"""

import logging
from collections.abc import Callable
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge.errors import EdgeError
from edge.identity import Identity, problem_of
from edge.key_store import KeyStore
from wire.errors import WireError
from wire.renewal import decode_certificate, encode_renewal

FIRST_PAUSE_S, MAX_PAUSE_S = 60.0, 6 * 3600.0  # doubling; an answer takes a second, a registrar may be away for a day

log = logging.getLogger(__name__)


def is_due(certificate: x509.Certificate, utc: datetime) -> bool:
    """Whether two thirds of its life are over. A clock that is far behind asks later, one that is ahead earlier: neither does harm."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return utc >= begin + (end - begin) * 2 / 3


class Renewal:
    """When to ask, and what to make of the answer. jitter: gives a number between 0 and its argument."""

    def __init__(self, identity: Identity, keys: KeyStore, jitter: Callable[[float], float]) -> None:
        self._identity = identity
        self._keys = keys
        self._jitter = jitter
        self._pause_s = FIRST_PAUSE_S
        self._next_s = float("-inf")
        self._asking = False
        self._said = ""

    def days_left(self, utc: datetime) -> int:
        """Whole days that the certificate in use is still good for by the vehicle's clock; below 0: it is over."""
        return (self._identity.certificate.not_valid_after_utc - utc).days

    def request(self, now_s: float, utc: datetime) -> bytes | None:
        """What to ask, when it is time; None otherwise. now_s: monotonic. Called only while the broker is connected."""
        if now_s < self._next_s or not is_due(self._identity.certificate, utc):
            return None
        self._next_s = now_s + self._pause_s / 2 + self._jitter(self._pause_s / 2)
        self._pause_s = min(MAX_PAUSE_S, 2 * self._pause_s)
        try:
            pending = self._keys.pending()
            asked = encode_renewal(self._identity.vehicle, self._identity.certificate, self._identity.key, pending)
        except OSError as error:
            self._say(f"a new key cannot be kept: {error.strerror}")
            return None
        if not self._asking:
            log.info("asking for a new certificate: this one ends on %s", f"{self._identity.certificate.not_valid_after_utc:%Y-%m-%d}")
        self._asking = True
        return asked

    def take(self, answer: bytes) -> bool:
        """Keep the certificate and use it from now on; whether it was one for us. Whatever is wrong with it, the old one stays."""
        if not self._asking:
            return False  # a repeated answer
        try:
            certificate = decode_certificate(answer)
            problem = self._problem(certificate)
            if problem:
                self._say(f"left aside a certificate: {problem}")
                return False
            self._identity.use(self._keys.keep(certificate))
        except (WireError, EdgeError, OSError) as error:
            self._say(f"left aside a certificate: {error}")
            return False
        self._asking, self._said = False, ""
        self._pause_s, self._next_s = FIRST_PAUSE_S, float("-inf")
        log.info("the new certificate is good until %s", f"{certificate.not_valid_after_utc:%Y-%m-%d}")
        return True

    def _problem(self, certificate: x509.Certificate) -> str:
        if certificate.public_key() != self._keys.pending().public_key():
            return "it is of another key than the one that was asked for"
        if problem := problem_of(certificate, self._identity.vehicle, self._identity.cas):
            return problem
        if not _is_clients(certificate):
            return "it is not for TLS clients"
        if certificate.not_valid_after_utc <= self._identity.certificate.not_valid_after_utc:
            return f"it ends on {certificate.not_valid_after_utc:%Y-%m-%d}, no later than the one in use"
        return ""

    def _say(self, words: str) -> None:
        if words != self._said:  # who can write to our topic must not fill the log
            self._said = words
            log.warning("renewal: %s", words)


def _is_clients(certificate: x509.Certificate) -> bool:
    try:
        return ExtendedKeyUsageOID.CLIENT_AUTH in certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False
