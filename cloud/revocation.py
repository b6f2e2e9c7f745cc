"""The fleet's revocation list as the aggregator reads it: whose batches are refused although their certificates are in date.

The broker reads the same file and shuts such a vehicle out; the aggregator's own look covers a broker that was not told yet, or that
somebody has broken into. The file is read again when it changes. One that cannot be used changes nothing: the last good one stays.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from cloud.errors import CloudError, PkiError
from cloud.pki_revocation import load_revocation_lists

log = logging.getLogger(__name__)


class Revocations:
    """`load` first, then `refresh` now and then. `path` None: no list is read and nobody is revoked."""

    def __init__(self, path: Path | None, cas: Sequence[x509.Certificate]) -> None:
        self.path = path
        self._cas = tuple(cas)
        self._serials: frozenset[int] = frozenset()
        self._seen: tuple[int, int, int] | None = None
        self._said = ""

    def __contains__(self, serial: int) -> bool:
        return serial in self._serials

    def __len__(self) -> int:
        return len(self._serials)

    def load(self) -> None:
        """Read the list. Raises CloudError naming the file that cannot be used."""
        if self.path is None:
            return
        try:
            status = self.path.stat()
        except OSError as error:
            raise CloudError(f"{self.path}: revocation_list cannot be read: {error.strerror}") from error
        self._serials = self._read(self.path)
        self._seen = (status.st_mtime_ns, status.st_size, status.st_ino)

    def refresh(self) -> bool:
        """Read the list again if the file has changed; whether it did. What is wrong with it is said once."""
        if self.path is None:
            return False
        try:
            status = self.path.stat()
            if (status.st_mtime_ns, status.st_size, status.st_ino) == self._seen:
                return False
            before = len(self)
            self.load()
        except (CloudError, OSError) as error:
            if str(error) != self._said:
                self._said = str(error)
                log.warning("%s; the list that was read before still counts", error)
            return False
        self._said = ""
        log.info("revocation list read again: %d certificates, %d before", len(self), before)
        return True

    def _read(self, path: Path) -> frozenset[int]:
        lists = load_revocation_lists(path)
        genuine = [one for one in lists if any(_signed(one, ca) for ca in self._cas)]
        if not genuine:
            raise PkiError(f"{path}: no list in it is signed by a fleet CA that is trusted (fleet_ca)")
        return frozenset(entry.serial_number for one in genuine for entry in one)


def _signed(one: x509.CertificateRevocationList, ca: x509.Certificate) -> bool:
    try:
        return one.issuer == ca.subject and one.is_signature_valid(ca.public_key())  # type: ignore[arg-type]
    except (InvalidSignature, TypeError, ValueError):
        return False
